"""Apache Kafka from its Maven Central jars: fetched once into a cache folder, run as one KRaft node with the JDK.

Counterpart: :mod:`tests.support.kafka`, which decides between this, a container and a broker that runs already.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["SETTINGS", "JarRuntime", "JarsMissing", "cache_folder"]

KAFKA = "4.1.0"
LOG4J = "2.25.1"
_FETCH_TIMEOUT = 240.0
_COMPLETE = "complete"

_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>spnhub.tests</groupId><artifactId>kafka-broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{KAFKA}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-core</artifactId><version>{LOG4J}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{LOG4J}</version>
    </dependency>
  </dependencies>
</project>
"""

SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "auto.create.topics.enable": "false",
    # The cleaner's default buffer alone is 128 MiB; the heap below is little more.
    "log.cleaner.dedupe.buffer.size": "4194304",
    # A broker killed and started again is fenced until its old session has timed out: 2 s with these, 12 s without.
    "broker.session.timeout.ms": "1000",
    "broker.heartbeat.interval.ms": "250",
}
"""Broker settings that make one node quick enough for tests."""

_JVM = ("-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xlog:disable", "-Xlog:all=off")


class JarsMissing(Exception):
    """Kafka cannot be run from jars here; the message says what is missing."""


def cache_folder() -> Path:
    """Where the jars live: ``SPNHUB_TEST_KAFKA_CACHE``, else ``.cache/kafka`` in the repository."""
    named = os.environ.get("SPNHUB_TEST_KAFKA_CACHE")
    return Path(named) if named else Path(__file__).parents[2] / ".cache" / "kafka"


class JarRuntime:
    """The jars of one Kafka release and what is run with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.version = KAFKA
        self.jars = folder / f"jars-{KAFKA}-{LOG4J}"
        self._archive = folder / f"kafka-{KAFKA}.jsa"

    @classmethod
    def prepare(cls, folder: Path | None = None) -> JarRuntime:
        """Fetch what isn't there yet. Maven is not even looked for when the folder is complete.

        :raises JarsMissing: no JDK, no Maven, or Maven could not fetch the jars.
        """
        if shutil.which("java") is None:
            raise JarsMissing("no java")
        runtime = cls(folder or cache_folder())
        runtime.folder.mkdir(parents=True, exist_ok=True)
        with _locked(runtime.folder / "lock"):
            if not (runtime.jars / _COMPLETE).exists():
                runtime.fetch()
        return runtime

    @classmethod
    def available(cls) -> str | None:
        """What stands in the way, or None; quick, fetches nothing."""
        if shutil.which("java") is None:
            return "no java"
        if not (cls(cache_folder()).jars / _COMPLETE).exists() and shutil.which("mvn") is None:
            return "no Kafka jars and no mvn to fetch them"
        return None

    def fetch(self) -> None:
        if shutil.which("mvn") is None:
            raise JarsMissing(f"no Kafka jars in {self.jars} and no mvn to fetch them")
        partial = self.jars.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        (partial / "pom.xml").write_text(_POM, encoding="utf-8")
        command = ["mvn", "-q", "-B", "-f", str(partial / "pom.xml"), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={partial}", "-DincludeScope=runtime"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise JarsMissing(f"mvn did not fetch the Kafka jars within {_FETCH_TIMEOUT:.0f} s") from None
        if done.returncode:
            last = (done.stdout + done.stderr).strip().splitlines() or ["no output"]
            raise JarsMissing(f"mvn could not fetch the Kafka jars: {last[0]}")
        (partial / _COMPLETE).touch()
        shutil.rmtree(self.jars, ignore_errors=True)
        partial.rename(self.jars)

    def _java(self, *options: str) -> list[str]:
        # The archive is bound to the exact class path: a wildcard's order is the file system's, so list the jars.
        jars = ":".join(sorted(str(jar) for jar in self.jars.glob("*.jar")))
        return ["java", *_JVM, *options, "-cp", jars]

    def format(self, properties: Path, cluster_id: str, users: Sequence[str] = ()) -> None:
        """Make the data folder that ``properties`` names ready for a first start.

        :param users: who may come in by SCRAM, as the tool writes it.
        """
        command = [*self._java(*self._shared()), "kafka.tools.StorageTool", "format", f"--cluster-id={cluster_id}"]
        done = subprocess.run(
            [*command, "-c", str(properties), *(f"--add-scram={user}" for user in users)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"the data folder could not be formatted: {done.stdout}{done.stderr}")

    def run(self, properties: Path, log: Path) -> subprocess.Popen[bytes]:
        """Start the broker; its output goes to ``log``.

        The first orderly stop of a first start leaves an archive of the loaded classes for all later starts.
        """
        with log.open("ab") as output:
            return subprocess.Popen(
                [*self._java(*self._shared()), "kafka.Kafka", str(properties)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _shared(self) -> list[str]:
        return [f"-XX:SharedArchiveFile={self._archive}"] if self._archive.exists() else []

    def has_archive(self) -> bool:
        """Whether starts are quick already."""
        return self._archive.exists()

    def make_archive(self, properties: Path, log: Path) -> None:
        """Run the broker once on a formatted folder and stop it in order, so that the JVM writes its class archive."""
        with _locked(self.folder / "lock"):
            if self._archive.exists():
                return
            partial = self._archive.with_suffix(".partial")
            with log.open("ab") as output:
                broker = subprocess.Popen(
                    [*self._java(f"-XX:ArchiveClassesAtExit={partial}"), "kafka.Kafka", str(properties)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            try:
                broker.wait(6)  # long enough to have loaded what a start loads
            except subprocess.TimeoutExpired:
                broker.send_signal(signal.SIGTERM)
            try:
                broker.wait(60)
            except subprocess.TimeoutExpired:
                broker.kill()
                broker.wait()
            if partial.exists():
                partial.rename(self._archive)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one test run at a time prepares the cache."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
