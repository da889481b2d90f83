"""Ten faults, each made in a network that works: a hub, a provider agent before a TCP server, a consumer agent."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.nights.watch import Seen, Watch
from tests.support.command import Command
from tests.support.kafka import KafkaBroker
from tests.support.path import Path as NetworkPath
from tests.support.tcp import TcpServer
from tests.support.world import Consumer, World

__all__ = ["FAULTS", "Fault", "Night"]


class Night:
    """A network that works, until somebody breaks it."""

    def __init__(self, world: World, broker: KafkaBroker | None) -> None:
        self.world = world
        self.broker = broker
        self.server: TcpServer
        self.provider: Command
        self.consumer: Consumer
        self.path: NetworkPath
        self.watch: Watch
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    @asynccontextmanager
    async def begun(cls, folder: Path, broker: KafkaBroker | None = None) -> AsyncIterator[Night]:
        """With clients that come all the time."""
        async with World(folder, fork=False) as world:
            night = cls(world, broker)
            world.service()["singleton"] = True
            world.write_inventory()
            night.server = world.serve()
            kafka: tuple[str, ...] = ()
            if broker:
                kafka = ("--kafka", broker.bootstrap, "--topic", f"nights-{time.time_ns()}", "--ops", "127.0.0.1:0")
            await world.start_hub(*kafka)
            if broker:
                await world.hub.line("shipper.connected")
            async with NetworkPath((world.host, world.port)) as night.path:
                env = {"SPN_HUB_ADDRESSES": night.path.address}
                night.provider = await world.start_provider(night.server.address, env=env)
                night.consumer = await world.start_consumer()
                # Of Kafka no event tells: the hub itself does.
                hub = [str((await world.hub.line("ops.ready"))["url"])] if broker else []
                console = await world.start_command(
                    "console",
                    "spnlog",
                    "console",
                    str(world.journal),
                    "--listen",
                    "127.0.0.1:0",
                    "--index",
                    str(folder / "index"),
                    *(f"--hub={one}" for one in hub),
                )
                url = str((await console.line("console.ready"))["url"])
                night.watch = Watch(hub or [str(world.journal)], url.rstrip("/"))
                night.open()
                try:
                    await night.watch.before()
                    yield night
                finally:
                    await night.close()

    def open(self) -> None:
        """Clients come, and are served."""
        self._tasks = [asyncio.ensure_future(self._serve()), asyncio.ensure_future(self._come())]

    async def close(self) -> None:
        """No more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def end_server(self) -> None:
        """Nobody listens any more."""
        self._tasks[0].cancel()
        self.server.close()

    async def _serve(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                peer = await self.server.accept()
                with contextlib.suppress(OSError):
                    await peer.send(b"hello")
                peer.close()

    async def _come(self) -> None:
        """A client after the other: a fault that nobody meets is none yet."""
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1.0):
                    reader, writer = await asyncio.open_connection(*self.consumer.address)
                    try:
                        await reader.read()
                    finally:
                        writer.close()
            await asyncio.sleep(0.2)


@dataclass(frozen=True, slots=True)
class Fault:
    """One row."""

    name: str
    kinds: tuple[str, ...]
    """Of the incident, one of these; none: the journal has none."""
    make: Callable[[Night], Awaitable[None]]
    within: float
    """Seconds."""
    needs_broker: bool = False

    async def run(self, night: Night) -> Seen:
        """Make it, and look."""
        world = night.world
        wall, began = time.time_ns() // 1000, time.monotonic()
        await self.make(night)

        def programs() -> list[Command]:
            return [one for one in world.processes if one.name != "console"]

        return await night.watch.until_said(began, programs, self.kinds, self.within, wall)


async def _backend_dead(night: Night) -> None:
    night.end_server()


async def _provider_killed(night: Night) -> None:
    night.provider.send_signal(signal.SIGKILL)


async def _hub_killed(night: Night) -> None:
    # It comes back, as a service manager has it: its own log tells what happened, as no one else can.
    await night.world.hub.kill()
    await night.world.start_hub()


async def _udp_blocked(night: Night) -> None:
    night.path.cut()


async def _wrong_ca(night: Night) -> None:
    await night.world.start_provider(
        night.server.address, credentials=night.world.strangers.client("provider"), wait=False
    )


async def _expired(night: Night) -> None:
    mine = night.world.authority.client("consumer", expired=True)
    await night.world.start_consumer(credentials=mine, wait=False)


async def _not_allowed(night: Night) -> None:
    mine = night.world.authority.client("somebody")
    await night.world.start_consumer(credentials=mine, wait=False)


async def _singleton_taken(night: Night) -> None:
    await night.world.start_provider(night.server.address, wait=False)


async def _inventory_broken(night: Night) -> None:
    text = night.world.inventory_file.read_text()
    night.world.inventory_file.write_text(text.replace("singleton:", "singelton:") + "\n  - name: [")
    night.world.hub.send_signal(signal.SIGHUP)


async def _broker_down(night: Night) -> None:
    assert night.broker
    await asyncio.to_thread(night.broker.kill)


FAULTS: Final = (
    Fault("backend dead", ("provider failed",), _backend_dead, 20.0),
    Fault("provider killed", ("provider is unresponsive", "session lost"), _provider_killed, 60.0),
    Fault("hub killed", ("hub died",), _hub_killed, 60.0),
    Fault("UDP blocked", ("provider is unresponsive", "session lost"), _udp_blocked, 90.0),
    Fault("wrong CA", ("handshake refused",), _wrong_ca, 20.0),
    Fault("certificate expired", ("handshake refused",), _expired, 20.0),
    Fault("not allowed", ("session refused",), _not_allowed, 20.0),
    Fault("singleton taken", ("session refused",), _singleton_taken, 20.0),
    Fault("inventory broken", ("inventory rejected",), _inventory_broken, 20.0),
    Fault("broker down", ("events not shipped",), _broker_down, 20.0, needs_broker=True),
)
