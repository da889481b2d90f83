"""What is measured: hub and agents as processes, of this install or another, and a TCP server behind them.

Direct TCP is the reference: a subject without hub and agents.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from tests.bench.load import Address, Figures
from tests.bench.processes import process_cpu
from tests.support.command import BIN, Command, environment
from tests.support.world import Consumer, World

__all__ = ["DIRECT", "Subject", "Tunnel", "load", "loaded", "rss"]

DIRECT: Final = "direct"
"""The name of the engine that is none: TCP straight to the server."""
_QUIET = 0.02
"""CPU seconds in a quarter of a second: less, and a process has nothing more to do."""


@dataclass(frozen=True)
class Subject:
    """One of those that are compared."""

    name: str
    engine: str
    programs: Path = BIN
    """The folder of its ``spnhub`` and ``spnagent``."""
    hub: tuple[str, ...] = ("spnhub",)
    """Its hub's command line, without options."""

    @property
    def direct(self) -> bool:
        """Whether there is nothing between client and server."""
        return self.engine == DIRECT

    @asynccontextmanager
    async def world(self) -> AsyncIterator[World]:
        """An empty world of its own; what was started in it ends with it."""
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            async with World(Path(folder), engine=self.engine, programs=self.programs, fork=False) as world:
                yield world

    @asynccontextmanager
    async def tunnel(self) -> AsyncIterator[Tunnel]:
        """Hub, agents and server, with their sessions."""
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(target())
            if self.direct:
                yield Tunnel(self, server, server, {})
                return
            world = await stack.enter_async_context(self.world())
            hub, provider, consumer = await world.start(server, program=self.hub)
            roles = {"hub": hub, "provider": provider, "consumer": consumer.command}
            tunnel = Tunnel(self, server, consumer.address, roles, world)
            await load(tunnel.address, "opens", seconds=0.2, at_once=1)
            try:
                yield tunnel
            finally:
                await stop(world, consumer, provider)


async def stop(world: World, consumer: Consumer, provider: Command) -> None:
    """Everything, in order."""
    for command in (consumer.command, provider, *world.hubs):
        if command.running:
            await command.stop()


class Tunnel:
    """A running subject. ``roles``: its processes; without hub and agents none."""

    def __init__(
        self,
        subject: Subject,
        server: Address,
        address: Address,
        roles: dict[str, Command],
        world: World | None = None,
    ) -> None:
        self.subject = subject
        self._server = server
        self.address = address
        self.roles = roles
        self._world = world

    @property
    def world(self) -> World:
        """Its certificates and processes."""
        assert self._world is not None
        return self._world

    async def more_agents(self) -> tuple[Address, tuple[Command, Command]]:
        """Another two for the same service: where the consumer's listens, and both."""
        provider, consumer = await asyncio.gather(self.world.start_provider(self._server), self.world.start_consumer())
        return consumer.address, (consumer.command, provider)

    def cpu(self) -> dict[str, float]:
        """CPU seconds by role, of all threads that there ever were."""
        return {role: process_cpu(command.pid) for role, command in self.roles.items()}

    async def settle(self, most: float = 20.0) -> None:
        """Until its processes have nothing more to do, as after a load that has just ended."""
        end = time.monotonic() + most
        while self.roles and time.monotonic() < end:
            before = sum(self.cpu().values())
            await asyncio.sleep(0.25)
            if sum(self.cpu().values()) - before < _QUIET:
                return

    async def measure(self, name: str, **options: Any) -> tuple[Figures, dict[str, float]]:
        """A load's figures, and the CPU seconds of each role, with what it had to do until it was at rest again."""
        before = self.cpu()
        figures = await load(self.address, name, **options)
        await self.settle(3.0)
        return figures, {role: after - before[role] for role, after in self.cpu().items()}


@asynccontextmanager
async def target() -> AsyncIterator[Address]:
    """A server of its own; its address."""
    process = await asyncio.create_subprocess_exec(
        str(BIN / "python"), "-m", "tests.bench.target", stdout=asyncio.subprocess.PIPE, env=environment({})
    )
    assert process.stdout is not None
    try:
        yield "127.0.0.1", int(await process.stdout.readline())
    finally:
        process.kill()
        await process.wait()


async def _client(address: Address, name: str, options: dict[str, Any]) -> asyncio.subprocess.Process:
    command = (str(BIN / "python"), "-m", "tests.bench.load", name, address[0], str(address[1]), json.dumps(options))
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment({}),
    )


def _failed(name: str, err: bytes) -> RuntimeError:
    return RuntimeError(f"{name}: {err.decode().strip().splitlines()[-1]}")


async def load(address: Address, name: str, **options: Any) -> Figures:
    """Run a client of :mod:`tests.bench.load`; its figures.

    :raises RuntimeError: it failed; with its last words.
    """
    process = await _client(address, name, options)
    out, err = await process.communicate()
    if process.returncode:
        raise _failed(name, err)
    figures: Figures = json.loads(out)
    return figures


@asynccontextmanager
async def loaded(address: Address, name: str, **options: Any) -> AsyncIterator[Figures]:
    """Run a client that says when it is ready (``hold``) until the block is left; what it said.

    :raises RuntimeError: it failed.
    """
    process = await _client(address, name, options)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    line = await process.stdout.readline()
    if not line:
        raise _failed(name, await process.stderr.read())
    try:
        yield json.loads(line)
    finally:
        process.stdin.close()
        await process.wait()


def rss(pid: int) -> float:
    """Resident memory, MiB, mapped files and all."""
    return float(psutil.Process(pid).memory_info().rss) / 2**20
