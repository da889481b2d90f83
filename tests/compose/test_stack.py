"""The environment without containers: the services' own commands, settings and health checks, as local processes.

Only names and numbers are exchanged: service names and ports for addresses of the loopback, the folder of the volumes
for one of the test's, the topic for one of its own. What needs others' images (Prometheus, Grafana, ClickHouse) is left
out; the broker is the tests'.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from spnhub.demo.site import free_port
from tests.compose.files import COMPOSE, SERVICES, Service
from tests.support.command import BIN, Command
from tests.support.kafka import KafkaBroker

pytestmark = [pytest.mark.kafka, pytest.mark.system]

STARTED = ("inventory", "hub", "web", "provider", "consumer", "serve")
"""In the order in which they wait for each other."""


class Stack:
    """The services that run here."""

    def __init__(self, folder: Path, kafka: str, topic: str) -> None:
        self.folder = folder
        self.ports = {name: free_port(socket.SOCK_STREAM) for name in (*STARTED, "ops")}
        self.commands: dict[str, Command] = {}
        ports = {name: str(number) for name, number in self.ports.items()}
        # One after the other: what a name stands for, and then the ports that are left.
        self._exchanged = {
            "/var/lib/spnhub": str(folder),
            "/srv/web": str(COMPOSE / "web"),
            "/usr/local/share/spnhub/site.py": str(folder / "site.py"),
            "hub.spn.example": "localhost",
            "0.0.0.0": "127.0.0.1",
            "inventory:8080": f"127.0.0.1:{ports['inventory']}",
            "web:8000": f"127.0.0.1:{ports['web']}",
            "kafka:19092": kafka,
            "spn.events": topic,
            "4433": ports["hub"],
            "8080": ports["inventory"],
            "8000": ports["web"],
            "9000": ports["consumer"],
            "9600": ports["ops"],
            "9700": ports["serve"],
        }
        (folder / "site.py").write_text(self._here((COMPOSE / "site.py").read_text()))
        given = re.search(r"^ENV (SPNHUB_JOURNAL=.*)$", (COMPOSE / "Dockerfile").read_text(), re.MULTILINE)
        assert given is not None
        # What the hub's image sets, and the test's own topic.
        self._image = dict(one.split("=", 1) for one in self._here(given[1]).split()) | {"SPNHUB_TOPIC": topic}

    def _here(self, text: str) -> str:
        for name, value in self._exchanged.items():
            text = re.sub(rf"(?<!\d){re.escape(name)}(?!\d)", value, text)
        return text

    def _service(self, name: str) -> Service:
        found: Service = yaml.safe_load(self._here(yaml.safe_dump(SERVICES[name])))
        return found

    async def start(self, name: str) -> Command:
        """Start a service as the compose file has it."""
        service = self._service(name)
        environment = service.get("environment", {})
        if name == "hub":
            environment = self._image | environment
        arguments = service.get("command", ["spnhub"])
        command = self.commands[name] = await Command.start(name, *arguments, env=environment)
        return command

    async def healthy(self, name: str) -> None:
        """Ask with the service's own health check, until it has an answer."""
        test = self._service(name).get("healthcheck", {}).get("test")
        if name == "hub":
            found = re.search(r'CMD \["python", "-c", "(.*)"\]', self._here((COMPOSE / "Dockerfile").read_text()))
            assert found is not None
            test = ["CMD", "python", "-c", found[1]]
        _, program, *rest = test
        async with asyncio.timeout(60):
            while True:
                asked = await asyncio.create_subprocess_exec(
                    str(BIN / program), *rest, stderr=asyncio.subprocess.DEVNULL, env=dict(os.environ)
                )
                if await asked.wait() == 0:
                    return
                assert self.commands[name].running, self.commands[name].transcript()

    async def numbers(self, which: str) -> dict[str, float]:
        """Samples at the port ``which``, summed up by name."""
        async with httpx2.AsyncClient() as client:
            text = (await client.get(f"http://127.0.0.1:{self.ports[which]}/metrics")).text
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    async def get(self) -> str:
        """One request to the consumer's port."""
        async with httpx2.AsyncClient(timeout=20) as client:
            answer = await client.get(f"http://127.0.0.1:{self.ports['consumer']}/")
        answer.raise_for_status()
        return answer.text


@contextlib.asynccontextmanager
async def running(folder: Path, kafka: str, topic: str) -> AsyncIterator[Stack]:
    """Everything up, in the order that the compose file asks for."""
    stack = Stack(folder, kafka, topic)
    try:
        assert await (await stack.start("init")).wait() == 0
        for name in STARTED:
            for other, how in SERVICES[name].get("depends_on", {}).items():
                if how["condition"] == "service_healthy" and other in stack.commands:
                    await stack.healthy(other)
            await stack.start(name)
        yield stack
    finally:
        for command in stack.commands.values():
            await command.close()


async def test_from_the_browser_to_the_metrics(tmp_path: Path, kafka: KafkaBroker, topic: str) -> None:
    """Requests go through; hub and ``spnlog serve`` count the same; everything stops in order."""
    async with running(tmp_path, kafka.bootstrap, topic) as stack:
        for name in ("provider", "consumer"):
            await stack.commands[name].line("session.established")
        await stack.healthy("serve")
        pages = [await stack.get() for _ in range(5)]
        assert pages == [(COMPOSE / "web" / "index.html").read_text()] * 5
        await stack.commands["hub"].wait_lines("endSpnConnection", 5)
        same = ("sessions", "sessions_started_total", "connections_ended_total", "bytes_total")
        wanted = await stack.numbers("ops")
        async with asyncio.timeout(60):
            while (seen := await stack.numbers("serve")).get("spnlog_connections_ended_total") != 5:
                await asyncio.sleep(0.1)
        assert {name: seen[f"spnlog_{name}"] for name in same} == {name: wanted[f"spnhub_{name}"] for name in same}
        assert seen["spnlog_bytes_total"] > 5 * len(pages[0])
        statuses: dict[str, int] = {}
        for name in reversed(STARTED):
            number = signal.Signals[SERVICES[name].get("stop_signal", "SIGTERM")]
            statuses[name] = await stack.commands[name].stop(number)
        assert statuses == dict.fromkeys(STARTED, 0)
