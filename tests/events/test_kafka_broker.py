"""How the tests find their broker: the order, and that nothing hangs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.kafka import ENVIRONMENT, JarBroker, NamedBroker, NoBroker, find_broker
from tests.support.kafka_docker import DockerBroker, DockerMissing
from tests.support.kafka_jars import JarRuntime

pytestmark = pytest.mark.outside


def fake_docker(folder: Path, script: str) -> None:
    """A docker command of our own."""
    command = folder / "docker"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)


def test_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker named in the environment comes first, and is never stopped."""
    monkeypatch.setenv(ENVIRONMENT, "broker.example:9092")
    broker = find_broker()
    assert isinstance(broker, NamedBroker)
    assert (broker.bootstrap, broker.controllable) == ("broker.example:9092", False)
    with pytest.raises(RuntimeError):
        broker.kill()


def test_engine_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An engine that doesn't answer counts as none, soon."""
    fake_docker(tmp_path, "/bin/sleep 60")
    monkeypatch.setenv("PATH", str(tmp_path))
    began = time.monotonic()
    with pytest.raises(DockerMissing, match="no engine answers"):
        DockerBroker.find()
    assert time.monotonic() - began < 10


def test_no_image(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An engine without the image, and no way to get it."""
    fake_docker(tmp_path, '[ "$1" = version ]')
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockerMissing, match=r"image apache/kafka:4\.1\.0 cannot be pulled"):
        DockerBroker.find()


def test_nothing_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With none of the three the reason lists what was tried."""
    monkeypatch.delenv(ENVIRONMENT, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoBroker) as caught:
        find_broker()
    assert str(caught.value) == f"{ENVIRONMENT} is not set; Docker: no docker command; jars: no java"


def test_complete_folder_needs_no_maven(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the jars in the cache Maven isn't even looked for."""
    monkeypatch.setenv("SPNHUB_TEST_KAFKA_CACHE", str(tmp_path))
    (tmp_path / "jars-4.1.0-2.25.1").mkdir()
    (tmp_path / "jars-4.1.0-2.25.1" / "complete").touch()
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "java").touch(0o755)
    monkeypatch.setenv("PATH", str(commands))
    assert JarRuntime.available() is None
    broker = JarBroker(JarRuntime.prepare())
    broker.close()
    assert broker.description == f"Apache Kafka 4.1.0 from jars in {tmp_path}"
