"""A hub and agents as real processes, whose log lines a test waits for."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from spnhub.demo.site import free_port
from spnhub.pki import Authority, IssuedCredentials
from tests.support.command import environment as environment_of
from tests.support.forked import Running, begin

__all__ = ["Program", "Site", "address_of"]

SERVICES = 16


class Program:
    """One of our commands, running. Its standard output is read as JSON lines."""

    def __init__(self, process: Running) -> None:
        self.process = process
        self.lines: list[dict[str, Any]] = []
        self.errors = ""
        """Standard error, once the program has ended."""
        self._news = asyncio.Condition()
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def start(cls, program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Program:
        """Start it with nothing of our settings in the environment but what is given."""
        return cls(await begin(program, *arguments, env=environment_of(environment or {})))

    async def line(self, event: str, *, after: int = 0, **fields: object) -> dict[str, Any]:
        """The first line of that name, with these fields, at or after the index ``after``; waits for it.

        :raises EOFError: the program ended without it.
        """
        async with self._news:
            while True:
                for found in self.lines[after:]:
                    if found.get("event") == event and fields.items() <= found.items():
                        return found
                if self._reading.done():
                    raise EOFError(f"no {event} in {self.lines}\n{self.errors}")
                await self._news.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def end(self) -> int:
        """Wait for its end; the exit status."""
        status = await self.process.wait()
        await self._reading
        return status

    async def kill(self) -> None:
        """End it if it runs still."""
        if self.process.returncode is None:
            self.process.kill()
        await self.end()

    async def _read(self) -> None:
        assert self.process.stdout is not None and self.process.stderr is not None
        errors = asyncio.ensure_future(self.process.stderr.read())
        async for text in self.process.stdout:
            async with self._news:
                self.lines.append(json.loads(text))
                self._news.notify_all()
        self.errors = (await errors).decode()
        # Whoever waits for a line sees that this task is done on their next look.
        asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(self._wake()))

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()


class Site:
    """A realm with one hub, services enough for a module's tests, certificates, and the processes that they start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port(socket.SOCK_DGRAM)
        self.authority = Authority.create()
        self.programs: list[Program] = []
        self.service = 0
        """The service that agents are started for."""
        self._credentials: dict[str, IssuedCredentials] = {}
        server = self.authority.server("localhost")
        services = [
            {"name": f"s{number}", "title": "S", "provider": "provider", "consumers": ["consumer"]}
            for number in range(SERVICES)
        ]
        hub = {
            "name": "h",
            "title": "H",
            "fqdn": "localhost",
            "serverPort": self.port,
            "serverAddress": "127.0.0.1",
            "serverCert": server.certificate.decode(),
            "serverCertKey": server.key.decode(),
            "services": services,
        }
        realm = {
            "name": "r",
            "title": "R",
            "cacert": self.authority.certificate.decode(),
            "disabled": False,
            "deviceIDSigningKey": "-",
            "deviceIDVerificationKey": "-",
            "hubs": [hub],
        }
        (folder / "inventory.yaml").write_text(yaml.safe_dump({"realms": [realm]}))

    def environment(self, name: str) -> dict[str, str]:
        """An agent's, with a certificate of that common name."""
        credentials = self._credentials.setdefault(name, self.authority.client(name))
        return {
            "SPN_HUB_URL": f"https://localhost:{self.port}",
            "SPN_SERVICE_URN": f"urn:chip-in:service:r:h:s{self.service}",
            "SPN_CERTIFICATE": credentials.certificate.decode(),
            "SPN_CERTIFICATE_KEY": credentials.key.decode(),
            "SPN_TRUST": self.authority.certificate.decode(),
            # For tests in which the other agent is killed: until then a connection waits for it.
            "SPN_RESUME_TIMEOUT": "3",
            "SPN_LOG_LEVEL": "debug",
        }

    async def hub(self) -> Program:
        """Start the hub; returns when it takes packets."""
        program = await Program.start(
            "spnhub",
            *("--inventory", f"file:{self.folder}/inventory.yaml"),
            *("--journal", f"{self.folder}/journal", "--hub-id", "h1", "--log-format", "json"),
        )
        self.programs.append(program)
        await program.line("hub.ready")
        return program

    async def provider(self, forward: tuple[str, int], name: str = "provider") -> Program:
        """Start a provider agent."""
        address = {"FORWARD_ADDRESS": f"{forward[0]}:{forward[1]}"}
        program = await Program.start("spnagent", "provider", environment=self.environment(name) | address)
        self.programs.append(program)
        return program

    async def consumer(self, name: str = "consumer", bind: str = "127.0.0.1:0") -> Program:
        """Start a consumer agent."""
        program = await Program.start(
            "spnagent", "consumer", environment=self.environment(name) | {"BIND_ADDRESS": bind}
        )
        self.programs.append(program)
        return program

    async def close(self) -> None:
        """End what still runs."""
        for program in self.programs:
            await program.kill()


async def address_of(consumer: Program) -> tuple[str, int]:
    """Where a consumer agent listens."""
    host, _, port = (await consumer.line("agent.listening"))["addresses"][0].rpartition(":")
    return host, int(port)
