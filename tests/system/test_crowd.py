"""Many connections at once on one consumer session and one provider session: exact, fair, and none is lost for good."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.tcp import Ending, TcpPeer, TcpServer, digest, pattern
from tests.support.world import Consumer, World
from tests.system.sizes import KIB, MIB, report, sizes

pytestmark = pytest.mark.measured

_WISH = struct.Struct("!QQ")
"""What a client wants: seed and size of the data."""


async def fetch(client: TcpPeer, seed: int, size: int) -> None:
    """Say which data, read them all, and look whether they are these."""
    await client.send(_WISH.pack(seed, size))
    assert await client.receive_digest() == (size, digest(pattern(seed, size)), Ending.FIN)
    client.finish()


async def as_wished(peer: TcpPeer) -> None:
    """Send the data that it wants."""
    await peer.send_pattern(*_WISH.unpack(await peer.receive(_WISH.size)))
    peer.finish()
    await peer.receive_all()


async def as_much_as_it_takes(peer: TcpPeer) -> None:
    """Send and send; others have their turn between, and what is sent costs nothing to make, so that no connection is
    slower than others by its source."""
    block = bytes(64 * KIB)
    while True:
        await peer.send(block)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def answering(
    world: World, server: TcpServer, how: Callable[[TcpPeer], Awaitable[None]] = as_wished
) -> AsyncIterator[list[TcpPeer]]:
    """Take every connection and answer it; yields the connections taken."""
    taken: list[TcpPeer] = []

    async def answer(peer: TcpPeer) -> None:
        with contextlib.suppress(OSError, EOFError):
            await how(peer)

    async def accept(group: asyncio.TaskGroup) -> None:
        while True:
            taken.append(await world.accept(server))
            group.create_task(answer(taken[-1]))

    async with asyncio.TaskGroup() as group:
        accepting = group.create_task(accept(group))
        yield taken
        accepting.cancel()


async def connect_all(world: World, consumer: Consumer, count: int) -> list[TcpPeer]:
    """So many clients, at the same moment."""
    return await asyncio.gather(*(world.connect(consumer) for _ in range(count)))


@sizes("connections, size", (100, 32 * KIB), (1000, 64 * KIB), minutes=10)
async def test_each_with_its_own_data(world: World, connections: int, size: int) -> None:
    """All are open before the first one asks; every client gets exactly what it asked for."""
    server = world.serve()
    hub, _, consumer = await world.start(server.address)
    async with answering(world, server) as taken:
        began = time.monotonic()
        clients = await connect_all(world, consumer, connections)
        await hub.wait_lines("startSpnConnection", connections)
        opened = time.monotonic()
        await asyncio.gather(*(fetch(client, 1000 + n, size) for n, client in enumerate(clients)))
        done = time.monotonic()
        ends = await hub.wait_lines("endSpnConnection", connections)
    report(opened_in=f"{opened - began:.2f} s", moved_in=f"{done - opened:.2f} s", hub_cpu=f"{hub.cpu:.1f} s")
    assert len(taken) == connections
    assert {(end["disconnectReason"], end["totalSentBytes"], end["totalReceiveBytes"]) for end in ends} == {
        ("closedByPeer", _WISH.size, size)
    }
    await world.end()


@sizes("downloads, seconds, least", (20, 2.5, 0.6), (100, 30.0, 0.7), minutes=10)
async def test_nobody_starves(world: World, downloads: int, seconds: float, least: float) -> None:
    """Of bulk downloads at once the slowest gets at least that share of the fastest's bytes."""
    server = world.serve()
    hub, _, consumer = await world.start(server.address)

    async def read_on(client: TcpPeer) -> None:
        while True:
            await client.receive(64 * KIB)
            await asyncio.sleep(0)  # one that always has something takes no others' turn

    async with answering(world, server, as_much_as_it_takes):
        clients = await connect_all(world, consumer, downloads)
        await hub.wait_lines("startSpnConnection", downloads)
        reading = [asyncio.ensure_future(read_on(client)) for client in clients]
        await asyncio.sleep(seconds / 4)
        before = [client.received for client in clients]
        await asyncio.sleep(seconds)
        shares = sorted(client.received - had for client, had in zip(clients, before, strict=True))
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
        for client in clients:
            client.reset()
        await hub.wait_lines("endSpnConnection", downloads)
    report(
        slowest=f"{shares[0] / KIB:.0f} KiB",
        fastest=f"{shares[-1] / KIB:.0f} KiB",
        ratio=f"{shares[0] / shares[-1]:.2f}",
        total=f"{sum(shares) / MIB / seconds:.1f} MiB/s",
    )
    assert shares[0] >= least * shares[-1]
    await world.end()


@sizes("bursts, downloads, size", (2, 20, 4 * MIB), (5, 100, 32 * MIB), minutes=10)
async def test_aborted_downloads_leave_every_slot(world: World, bursts: int, downloads: int, size: int) -> None:
    """Bursts of downloads that are aborted in mid-transfer cost neither slots nor the session's throughput."""
    server = world.serve()
    hub, _, consumer = await world.start(server.address)

    async def cost() -> tuple[float, float]:
        """Wall time, and CPU time of the hub, of one download."""
        began, cpu = time.monotonic(), hub.cpu
        await fetch(await world.connect(consumer), 7, size)
        return time.monotonic() - began, hub.cpu - cpu

    async with answering(world, server) as taken:
        before = await cost()
        for burst in range(bursts):
            clients = await connect_all(world, consumer, downloads)
            for client in clients:
                await client.send(_WISH.pack(0, size))
            await asyncio.gather(*(client.receive(16 * KIB) for client in clients))
            for client in clients:
                client.reset()
            await hub.wait_lines("endSpnConnection", (burst + 1) * downloads, disconnectReason="error")
        kept = 0.0
        for _ in range(5):
            after = await cost()
            kept = max(kept, before[0] / after[0], before[1] / after[1])
            if kept >= 0.8:
                break
            before = min(before, await cost())
        # All slots: as many as ever at the same time, each with what it wants.
        clients = await connect_all(world, consumer, downloads)
        await asyncio.gather(*(fetch(client, n, 64 * KIB) for n, client in enumerate(clients)))
    report(kept=f"{kept:.2f}", before=f"{before[0]:.2f} s", after=f"{after[0]:.2f} s", connections=len(taken))
    assert kept >= 0.8
    lines = await world.end()
    ends = [line for line in lines if line["eventType"] == "endSpnConnection"]
    assert [end["disconnectReason"] for end in ends].count("error") == bursts * downloads
