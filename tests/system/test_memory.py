"""Sessions that fill what they may and read nothing: the hub's process stays below ``--memory``, others go on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import pytest

from spnhub.actors.contract.packets import Accept, Opening, OpeningKind
from spnhub.events.model import EndPointType
from spnhub.transport import protocol
from tests.support.engines import on_auto_first
from tests.support.raw_peer import RawPeer, raw_peer
from tests.support.world import World, service_document
from tests.system.sizes import MIB, report

MEMORY: Final = 192
"""MiB that the hub may have."""
SESSIONS: Final = 13
STREAMS: Final = 150
"""Connections of each, so that none's window is what stops it."""
READERS: Final = 4
"""Sessions that read nothing."""
FED: Final = 100
"""Connections of each: 12.5 MiB could wait for all of them in the hub, 32 KiB for each connection."""
IDENTITY: Final = 512
"""KiB that may."""


async def fill(world: World, group: contextlib.AsyncExitStack, number: int) -> RawPeer:
    """A consumer's session whose connections are sent all that anybody takes."""
    peer = await enter(world, group, EndPointType.CONSUMER, world.urn(), f"filling {number}")
    for one in range(STREAMS):
        # Of what follows the header nobody reads anything: the connection is never accepted.
        header = protocol.encode(Opening(OpeningKind.OPEN, f"{number:016x}{one:016x}", bytes(16)))
        stream_id = peer.open(header)
        peer.engine.write(peer.connection_id, stream_id, bytes(16 * 1024 - len(header)))
        peer.udp.flush()
        if one % 20 == 0:
            await asyncio.sleep(0)
    return peer


async def slow_reader(world: World, group: contextlib.AsyncExitStack, number: int) -> RawPeer:
    """A consumer's session that reads nothing of what comes on its connections."""
    peer = await enter(world, group, EndPointType.CONSUMER, world.urn("feed"), f"slow {number}")
    peer.reads = False
    return peer


async def enter(
    world: World, group: contextlib.AsyncExitStack, role: EndPointType, service_urn: str, name: str
) -> RawPeer:
    """A session at a service."""
    address = (world.host, world.port)
    credentials = world.authority.client(role.name.lower())
    request = role, service_urn, name
    server_name, trust = str(world.network()["fqdn"]), world.authority.certificate
    return await group.enter_async_context(raw_peer(address, server_name, trust, credentials, request))


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def bystanders(world: World) -> tuple[Streams, Streams]:
    """A connection of others: its consumer's side and its provider's."""
    provider = await world.provider_endpoint()
    consumer = await world.consumer_endpoint()
    connecting = asyncio.ensure_future(consumer.connect())
    theirs = await (await provider.listen()).accept()
    return await connecting, theirs


@on_auto_first
@pytest.mark.timeout(120)
async def test_thirteen_sessions_of_one_certificate(world: World, engine: str) -> None:
    """They are sent 30 MiB, and hold an eighth of the hub's; a connection beside them echoes all the while."""
    world.write_inventory()
    hub = await world.start_hub("--memory", f"{MEMORY}M")
    mine, theirs = await bystanders(world)
    before = hub.rss
    async with contextlib.AsyncExitStack() as group:
        await asyncio.gather(*(fill(world, group, number) for number in range(SESSIONS)))
        limits = {event["limit"] for event in hub.said("limitReached")}
        highest = 0
        for _ in range(30):
            mine[1].write(b"x" * 1000)
            # The first waits until both processes have worked off what was sent to fill: seconds on a busy machine.
            async with asyncio.timeout(30):
                assert await theirs[0].readexactly(1000) == b"x" * 1000
            highest = max(highest, hub.rss)
            limits |= {event["limit"] for event in hub.said("limitReached")}
            await asyncio.sleep(0.05)
    for writer in (mine[1], theirs[1]):
        writer.close()
    report(before=f"{before / MIB:.0f}", highest=f"{highest / MIB:.0f}", limits=sorted(limits))
    assert highest < MEMORY * MIB
    assert "identityMemory" in limits


@on_auto_first
@pytest.mark.timeout(120)
async def test_slow_readers_of_one_certificate(world: World, engine: str) -> None:
    """What a provider that never stops sends to them waits with it, not in the hub; the others go on all the while."""
    world.network()["services"].append(service_document("feed"))
    world.write_inventory()
    hub = await world.start_hub("--memory", f"{MEMORY}M", "--identity-memory", f"{IDENTITY}K")
    mine, theirs = await bystanders(world)
    async with contextlib.AsyncExitStack() as group:
        provider = await enter(world, group, EndPointType.PROVIDER, world.urn("feed"), "feeding")
        readers = [await slow_reader(world, group, number) for number in range(READERS)]
        for number, reader in enumerate(readers):
            for one in range(FED):
                reader.open(protocol.encode(Opening(OpeningKind.OPEN, f"{number:016x}{one:016x}", bytes(16))))
                await asyncio.sleep(0)
        async with asyncio.timeout(60):
            while len(provider.received) < READERS * FED:
                await asyncio.sleep(0.02)
        before = highest = hub.rss
        for stream_id in provider.received:
            provider.write(stream_id, protocol.encode(Accept(OpeningKind.OPEN)))
        limits: set[str] = set()
        rounds = 0
        async with asyncio.timeout(60):
            while rounds < 20:
                # Once it is full there is time for more to come in, if any did.
                rounds += "identityMemory" in limits
                for stream_id in provider.received:
                    provider.engine.write(provider.connection_id, stream_id, bytes(65_536))
                provider.udp.flush()
                mine[1].write(b"x" * 1000)
                assert await theirs[0].readexactly(1000) == b"x" * 1000
                highest = max(highest, hub.rss)
                limits |= {event["limit"] for event in hub.said("limitReached")}
                await asyncio.sleep(0.05)
    for writer in (mine[1], theirs[1]):
        writer.close()
    report(before=f"{before / MIB:.0f}", highest=f"{highest / MIB:.0f}", limits=sorted(limits))
    # The provider's may as much, and each reader has a first window.
    assert highest - before < 6 * MIB
