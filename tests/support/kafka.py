"""A real Apache Kafka broker for tests, and for scripts that measure: named, from a container, or from jars.

Taken in this order, and :attr:`KafkaBroker.description` says which it was: a broker named in ``SPNHUB_TEST_KAFKA``
(``host:port``); the image ``apache/kafka`` when a Docker engine answers and has it or can have it soon; the jars with
a JDK (and Maven, once). Counterparts: :mod:`tests.support.kafka_jars`, :mod:`tests.support.kafka_docker`; pytest meets
all of this through :mod:`tests.support.kafka_fixtures`.
"""

from __future__ import annotations

import abc
import asyncio
import base64
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from spnhub.demo.site import free_port
from tests.support.kafka_jars import SETTINGS, JarRuntime, JarsMissing

__all__ = ["ENVIRONMENT", "JarBroker", "KafkaBroker", "NamedBroker", "NoBroker", "find_broker"]

ENVIRONMENT = "SPNHUB_TEST_KAFKA"
_START_TIMEOUT = 60.0


class NoBroker(Exception):
    """No way to a real broker on this machine; the message lists what was tried."""


class KafkaBroker(abc.ABC):
    """One broker that a test may start, kill, pause and restart on the same data and port."""

    description: str
    """What it is and where it comes from, for people."""

    controllable = True
    """Whether :meth:`kill` and the like work; a broker that was only named cannot be killed."""

    @property
    @abc.abstractmethod
    def bootstrap(self) -> str:
        """``host:port``, the same over restarts."""

    @abc.abstractmethod
    def start(self, *, wait: bool = True) -> None:
        """Start, also after :meth:`kill` or :meth:`stop`, on the same data and port.

        :param wait: return only when it answers.
        """

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop in order."""

    @abc.abstractmethod
    def kill(self) -> None:
        """SIGKILL."""

    @abc.abstractmethod
    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""

    @abc.abstractmethod
    def unpause(self) -> None:
        """SIGCONT."""

    @abc.abstractmethod
    def wipe(self) -> None:
        """Stop and forget all data; the port stays. The next :meth:`start` begins with an empty broker."""

    @abc.abstractmethod
    def close(self) -> None:
        """Stop, and remove everything it left."""

    def wait_ready(self, timeout: float = _START_TIMEOUT) -> None:
        """Return when the broker answers a metadata request and knows itself as a live node.

        :raises TimeoutError: not within ``timeout`` seconds.
        """
        asyncio.run(self._answers(time.monotonic() + timeout))

    async def _answers(self, deadline: float) -> None:
        last: Exception | None = None
        while time.monotonic() < deadline:
            self.check_alive()
            if not self._listens():
                await asyncio.sleep(0.05)
                continue
            try:
                async with asyncio.timeout(5):
                    admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=3000)
                    try:
                        await admin.start()
                        if (await admin.describe_cluster())["brokers"]:
                            return
                    finally:
                        await admin.close()
            except (KafkaError, OSError, TimeoutError) as exc:
                last = exc
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{self.description} does not answer: {last}")

    def _listens(self) -> bool:
        # The client logs a warning for each refused attempt.
        host, _, port = self.bootstrap.split(",")[0].rpartition(":")
        with suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False

    def check_alive(self) -> None:
        """Raise when the broker can no longer come up."""
        return  # only a process of our own can be looked at

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class NamedBroker(KafkaBroker):
    """A broker that runs already. It is neither started nor stopped."""

    controllable = False

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self.description = f"Kafka broker {bootstrap} named in {ENVIRONMENT}"

    @property
    def bootstrap(self) -> str:
        return self._bootstrap

    def start(self, *, wait: bool = True) -> None:
        if wait:
            self.wait_ready()

    def stop(self) -> None:
        self._refuse()

    def kill(self) -> None:
        self._refuse()

    def pause(self) -> None:
        self._refuse()

    def unpause(self) -> None:
        self._refuse()

    def wipe(self) -> None:
        self._refuse()

    def close(self) -> None:
        """Nothing was started."""

    def _refuse(self) -> None:
        raise RuntimeError(f"{self.description} is not ours to stop")


class JarBroker(KafkaBroker):
    """A broker process of our own, from jars."""

    def __init__(self, runtime: JarRuntime, *, settings: dict[str, str] | None = None) -> None:
        self.description = f"Apache Kafka {runtime.version} from jars in {runtime.folder}"
        self._runtime = runtime
        self._folder = Path(tempfile.mkdtemp(prefix="spnhub-kafka-"))
        self._data = self._folder / "data"
        self._properties = self._folder / "server.properties"
        self._log = self._folder / "broker.log"
        self._port = free_port(socket.SOCK_STREAM)
        controller = free_port(socket.SOCK_STREAM)
        values = SETTINGS | {
            "listeners": f"PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self._port}",
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "log.dirs": str(self._data),
        }
        self._values = values
        self.users: tuple[str, ...] = ()
        """Of SCRAM, for the first start."""
        self._process: subprocess.Popen[bytes] | None = None
        self.configure(settings or {})

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self._port}"

    def configure(self, settings: dict[str, str]) -> None:
        """Broker settings in addition to, or instead of, those for tests; they count from the next start."""
        self._values |= settings
        self._properties.write_text("".join(f"{k}={v}\n" for k, v in self._values.items()), encoding="utf-8")

    @property
    def pid(self) -> int | None:
        """Of the JVM, while it runs."""
        return self._process.pid if self._process else None

    def start(self, *, wait: bool = True) -> None:
        if self._process is None:
            self._format()
            if not self._runtime.has_archive():
                self._runtime.make_archive(self._properties, self._log)
            self._process = self._runtime.run(self._properties, self._log)
        self.unpause()
        if wait:
            self.wait_ready()

    def _format(self) -> None:
        if not self._data.exists():
            self._data.mkdir()
            cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode()[:22]
            self._runtime.format(self._properties, cluster_id, self.users)

    def check_alive(self) -> None:
        if self._process is not None and self._process.poll() is not None:
            tail = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise RuntimeError(f"the broker ended with {self._process.returncode}: {tail}")

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGCONT)
        self._process.send_signal(number)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        self.kill()
        shutil.rmtree(self._data, ignore_errors=True)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def find_broker() -> KafkaBroker:
    """The broker of this machine, not started yet.

    :raises NoBroker: none of the three ways works.
    """
    named = os.environ.get(ENVIRONMENT)
    if named:
        return NamedBroker(named)
    reasons = []
    from tests.support.kafka_docker import DockerBroker, DockerMissing

    try:
        return DockerBroker.find()
    except DockerMissing as exc:
        reasons.append(f"Docker: {exc}")
    try:
        return JarBroker(JarRuntime.prepare())
    except JarsMissing as exc:
        reasons.append(f"jars: {exc}")
    raise NoBroker(f"{ENVIRONMENT} is not set; {'; '.join(reasons)}")


def main() -> None:
    """Run a broker until standard input ends: ``python -m tests.support.kafka``."""
    with find_broker() as broker:
        print(f"{broker.bootstrap} {broker.description}", flush=True)
        with suppress(KeyboardInterrupt):
            input()


if __name__ == "__main__":
    main()
