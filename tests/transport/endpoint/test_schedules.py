"""Two programs that do as they like over two hubs that come, go and pause: whatever happens, nobody is told a lie.

What was read is a prefix of what was written; an EOF means all of it; nothing is left over, and nobody waits for ever.
Where the programs mean well and a hub is there in the end, everything arrives.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.transport.engine import LOST_CODE
from spnhub.transport.errors import ConnectionAborted
from tests.transport.endpoint.conftest import World

pytestmark = pytest.mark.long

PATIENCE = 3000.0
"""Virtual seconds; every bound of the library is far below."""


@dataclass
class Program:
    """One side: what it wrote, what it read, and how that ended."""

    random: random.Random
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    written: bytearray = field(default_factory=bytearray)
    read: bytearray = field(default_factory=bytearray)
    finished: bool = False
    """It has said that this was all."""
    eof: bool = False
    ending: str = ""
    error: ConnectionAborted | None = None

    async def run(self) -> None:
        """Write and read at once, and end in one of several ways."""
        ending = self.ending = self.random.choices(["orderly", "abort", "close"], [6, 1, 2])[0]
        try:
            try:
                async with asyncio.timeout(100):
                    await asyncio.gather(self._write(), self._read(ending == "orderly"))
            except TimeoutError:
                # Two programs that only write stall each other, as over TCP.
                pass
            if ending == "abort":
                self.writer.transport.abort()
                return
            self.writer.close()
            self.finished = True
            await self.writer.wait_closed()
        except ConnectionAborted as exc:
            self.error = exc
        except ConnectionResetError:
            # drain() of a connection that is over already says only this much.
            self.error = ConnectionAborted(0, "")

    async def _write(self) -> None:
        for _ in range(self.random.randrange(8)):
            data = self.random.randbytes(self.random.choice([1, 100, 30_000, 200_000]))
            self.writer.write(data)
            self.written += data
            await self.writer.drain()
            await self._pause()
        if self.random.random() < 0.5:
            self.writer.write_eof()
            self.finished = True

    async def _read(self, to_the_end: bool) -> None:
        while to_the_end or self.random.random() < 0.7:
            if not to_the_end and self.finished:
                return
            if self.finished or not to_the_end or self.random.random() < 0.8:
                try:
                    async with asyncio.timeout(self.random.choice([0.01, 5])):
                        data = await self.reader.read(self.random.choice([10, 5_000, 100_000]))
                except TimeoutError:
                    # Who waits for the other's end while the other waits for this one's has to begin.
                    if to_the_end and not self.finished and self.random.random() < 0.2:
                        return
                    continue
                if not data:
                    self.eof = True
                    return
                self.read += data
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self.random.choice([0, 0, 0.001, 0.02, 1.5]))


@pytest.mark.parametrize(
    "schedules",
    [
        # The last one: what was read of a side that had failed by itself, acknowledged after the other had asked.
        pytest.param((*range(15), 961), id="small"),
        pytest.param(range(10_000), id="full", marks=[pytest.mark.prove, pytest.mark.timeout(1800)]),
    ],
)
async def test_schedules(schedules: Sequence[int]) -> None:
    """See the module."""
    for seed in schedules:
        try:
            async with asyncio.timeout(PATIENCE):
                await _schedule(seed)
        except BaseException as exc:
            exc.add_note(f"seed {seed}")
            raise


async def _schedule(seed: int) -> None:
    rng = random.Random(seed)
    world = World()
    world.network.jitter = rng.choice([0.0, 0.02, 0.3])
    # Longer than everything together that happens to the hubs.
    world.resume_timeout = 400
    two = rng.random() < 0.7
    if two:
        world.add_hub()
    provider, consumer = await world.provider(), await world.consumer()
    await asyncio.sleep(2)
    connecting = asyncio.ensure_future(consumer.connect())
    theirs = await (await provider.listen()).accept()
    ours = await connecting
    sides = [Program(random.Random(f"{seed}-{n}"), *pair) for n, pair in enumerate((ours, theirs))]
    disturbance = asyncio.ensure_future(_disturb(world, rng))
    await asyncio.gather(*(side.run() for side in sides))
    disturbance.cancel()
    await asyncio.wait([disturbance])
    for side, other in (sides, reversed(sides)):
        assert other.written.startswith(bytes(side.read))
        if side.eof:
            assert other.finished
            assert side.read == other.written
        if side.error is not None and other.ending == "orderly" and side.error.code:
            # Whatever the hubs did, they alone have ended nothing.
            assert side.error.code in (Code.PEER_RESET, Code.CLOSE_REQUESTED), side.error
    await asyncio.sleep(900)
    assert (consumer.connections, provider.connections) == (0, 0)
    for side in sides:
        side.writer.transport.abort()
    for endpoint in (consumer, provider):
        await endpoint.close()
    for hub in world.hubs.values():
        hub.node.crash()


async def _disturb(world: World, rng: random.Random) -> None:
    """Again and again something happens to a hub, and it is well again before the endpoints lose their patience."""
    for _ in range(rng.choice([0, 1, 3, 10])):
        await asyncio.sleep(rng.choice([0.01, 0.3, 3, 20]) * rng.random())
        address = rng.choice(list(world.hubs))
        hub = world.hubs[address]
        match rng.choice(["crash", "pause", "shutdown", "drop", "refuse", "deaf", "cut", "close"]):
            case "crash":
                hub.node.crash()
                await asyncio.sleep(rng.choice([0, 1, 10]))
                world.add_hub(address)
            case "pause":
                hub.pause()
            case "shutdown":
                hub.shut_down(spread=rng.choice([0, 1]))
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.random())
                    hub.node.crash()
                    world.add_hub(address)
                else:
                    await asyncio.sleep(6)
                    for connection_id in list(hub.sessions):
                        hub.close(connection_id, Code.SHUTDOWN, "stopped")
            case "drop":
                hub.drop_legs(rng.choice([Code.PAUSED, Code.MOVED, Code.LEFT, Code.PEER_LOST, LOST_CODE]))
            case "refuse":
                hub.refuse_resumes += [rng.choice([Code.NOT_HERE, Code.STALE, Code.TIMEOUT])] * rng.randrange(3)
                hub.drop_legs(Code.LEFT)
            case "deaf":
                hub.deaf_to_resumes = 1
                hub.drop_legs(Code.PEER_LOST)
            case "cut":
                node = rng.choice(world.nodes)
                world.network.cut(hub.node, node)
                await asyncio.sleep(rng.choice([0.2, 3, 25]))
                world.network.heal(hub.node, node)
            case _:
                for connection_id in list(hub.sessions):
                    hub.close(connection_id, rng.choice([Code.SHUTDOWN, Code.OK]), "closed by the test")
