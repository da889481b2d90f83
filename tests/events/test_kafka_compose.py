"""The compose file's broker settings, run for real with the jars, since an engine and its images are rarely at hand."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import yaml

from spnhub.demo.site import free_port
from tests.support.kafka import JarBroker
from tests.support.kafka_jars import JarRuntime, JarsMissing

_FILE = Path(__file__).parents[2] / "compose" / "kafka.yml"


@pytest.mark.kafka
@pytest.mark.system
async def test_compose_settings() -> None:
    """A node with the settings of the compose file starts and answers on the address that it tells the host."""
    try:
        runtime = await asyncio.to_thread(JarRuntime.prepare)
    except JarsMissing as exc:
        pytest.skip(f"no Kafka jars: {exc}")
    service = yaml.safe_load(_FILE.read_text(encoding="utf-8"))["services"]["kafka"]
    assert service["image"] == f"apache/kafka:{runtime.version}"
    settings = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): value for name, value in service["environment"].items()
    }
    settings["advertised.listeners"] = settings["advertised.listeners"].replace("${SPNHUB_KAFKA_PORT:-9092}", "9092")
    broker = JarBroker(runtime)
    try:
        host, inside, controller = (
            broker.bootstrap.rpartition(":")[2],
            str(free_port(socket.SOCK_STREAM)),
            str(free_port(socket.SOCK_STREAM)),
        )
        ports = {":9092": f":{host}", ":19092": f":{inside}", ":9093": f":{controller}", "//kafka:": "//localhost:"}
        for name, value in settings.items():
            for old, new in ports.items():
                value = value.replace(old, new)  # noqa: PLW2901 - one replacement after the other
            settings[name] = value
        del settings["log.dirs"]
        broker.configure(settings)
        await asyncio.to_thread(broker.start)
    finally:
        await asyncio.to_thread(broker.close)
