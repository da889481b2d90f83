"""A hub with two realms: one is attacked, in the other somebody echoes and somebody comes anew."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spnhub import ConsumerEndpoint, ProviderEndpoint
from spnhub.pki import Authority
from tests.attacks.attackers import Target
from tests.support.odd_certificates import BIT_STRING, NEVER, T61_STRING, odd_subject
from tests.support.world import World, service_document

__all__ = ["MEMORY", "NEWCOMER", "P99", "Figures", "Stage", "staged"]

P99: Final = 0.1
"""Seconds that a bystander's echo may take (the 99th of a hundred), or twice what it took before."""
NEWCOMER: Final = 1.0
"""Seconds for an endpoint's session, its first connection and an echo on it."""
MEMORY: Final = 48.0
"""MiB by which the hub's resident memory may be above what it was, seconds after the attack: pools of allocators."""
_BETA, _FQDN = "beta", "beta.test"


@dataclass(frozen=True, slots=True)
class Figures:
    """What was seen in one row."""

    before: float
    """99th percentile of the bystander's echo, seconds."""
    during: float
    newcomer: float
    """The slowest one's seconds."""
    memory_before: float
    """MiB."""
    memory_after: float
    faults: int
    """Tracebacks of the hub."""
    rate: float
    """How often a second the row's input was sent."""

    def misses(self) -> list[str]:
        """What is not as promised."""
        found = []
        if not self.rate:
            # Else a row that doesn't get as far as its attack would hold.
            found.append("nothing was done")
        if self.during > max(P99, 2 * self.before):
            found.append("bystander")
        if self.newcomer > NEWCOMER:
            found.append("newcomer")
        if self.memory_after > self.memory_before + MEMORY:
            found.append("memory")
        if self.faults:
            found.append("traceback")
        return found


class Stage:
    """See the module."""

    def __init__(self, world: World, beta: Authority) -> None:
        self.world = world
        self._beta = beta
        self._certificates = _certificates(world.authority)
        self._provider: ProviderEndpoint
        self._consumer: ConsumerEndpoint

    async def begin(self) -> None:
        """Those who must not notice."""
        theirs = {"fqdn": _FQDN, "trust": self._beta.certificate, "realm": _BETA}
        self._provider = await self.world.provider_endpoint(credentials=self._beta.client("provider"), **theirs)  # type: ignore[arg-type]
        self._answering = asyncio.ensure_future(self._answer())
        self._first = self._provider.session_id
        self._consumer = await self._come()

    async def end(self) -> None:
        """No more of them."""
        self._answering.cancel()
        await asyncio.gather(self._answering, return_exceptions=True)

    async def _come(self) -> ConsumerEndpoint:
        credentials = self._beta.client("consumer")
        return await self.world.consumer_endpoint(
            credentials=credentials, fqdn=_FQDN, trust=self._beta.certificate, realm=_BETA
        )

    async def _answer(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                request = await self._provider.listen()
                reader, writer = await request.accept()
                group.create_task(_echo(reader, writer))

    async def _newcomer(self) -> float:
        """How long it takes."""
        began = time.monotonic()
        endpoint = await self._come()
        reader, writer = await endpoint.connect()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        took = time.monotonic() - began
        writer.close()
        await endpoint.aclose()
        return took

    async def _echoes(self, seconds: float) -> list[float]:
        reader, writer = await self._consumer.connect()
        times = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.monotonic()
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            times.append(time.monotonic() - began)
            await asyncio.sleep(0.01)
        writer.close()
        return sorted(times)

    def target(self, attack: str, seconds: float) -> Target:
        """The realm that is attacked."""
        world = self.world
        return Target(
            attack,
            seconds,
            world.host,
            world.port,
            str(world.network()["fqdn"]),
            world.urn(),
            world.authority.certificate.decode(),
            self._certificates,
        )

    async def measure(self, attack: Callable[[float], Awaitable[float]], seconds: float) -> Figures:
        """Before, during and after."""
        hub = self.world.hub
        faults = _faults(self.world)
        before = await self._echoes(seconds / 2)
        memory = hub.rss / 2**20
        attacking = asyncio.ensure_future(attack(seconds))
        # What it needs to begin is no part of it.
        await asyncio.sleep(0.5)
        newcomers = [0.0]

        async def come_anew() -> None:
            while not attacking.done():
                newcomers.append(await self._newcomer())
                await asyncio.sleep(0.3)

        coming = asyncio.ensure_future(come_anew())
        during = await self._echoes(seconds)
        rate = await attacking
        await coming
        await asyncio.sleep(2.0)
        return Figures(
            _p99(before), _p99(during), max(newcomers), memory, hub.rss / 2**20, _faults(self.world) - faults, rate
        )

    async def kept(self) -> bool:
        """Whether the journal has the other realm's history from the first session on."""
        events = [one for one in await self.world.events(str(self.world.journal)) if one["realm"] == _BETA]
        return any(one.get("spnSessionId") == self._first for one in events)


def _p99(times: list[float]) -> float:
    return times[min(len(times) - 1, int(len(times) * 0.99))]


def _faults(world: World) -> int:
    hub = world.hub
    return len(hub.said("fault")) + sum("Traceback" in line for line in hub.errors)


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        while data := await reader.read(4096):
            writer.write(data)
        writer.close()


def _certificates(mine: Authority) -> dict[str, tuple[str, str]]:
    made = {
        "provider": mine.client("provider"),
        "consumer": mine.client("consumer"),
        "long": mine.client("consumer", organization="x" * 17_000),
        "long enough": mine.client("provider", organization="x" * 16_000),
        "very long": mine.client("consumer", organization="x" * 60_000),
        "T61String": odd_subject(mine, T61_STRING, b"cli\xe9nt"),
        "BIT STRING": odd_subject(mine, BIT_STRING, b"\0clien"),
        "never": mine.client("consumer", end=NEVER),
        "escape": mine.client("consumer", organization="\x1b[31mred\n\r\x07"),
    }
    return {name: (one.certificate.decode(), one.key.decode()) for name, one in made.items()}


@asynccontextmanager
async def staged(folder: Path, engine: str) -> AsyncIterator[Stage]:
    """A hub on this engine, with its HTTP."""
    async with World(folder, engine=engine, fork=False) as world:
        beta = Authority.create("beta's")
        world.add_realm(_BETA, _FQDN, beta)["hubs"][0]["services"].append(service_document("web"))
        world.write_inventory()
        await world.start_hub("--ops", "127.0.0.1:0", "--journal-size", "8M")
        stage = Stage(world, beta)
        await stage.begin()
        try:
            yield stage
        finally:
            await stage.end()
