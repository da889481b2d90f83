"""Agents of sc01, on bare aioquic, at a real hub: with each other, and with our agents both ways (SC01.md)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator

import pytest

from tests.support.old_agent import OldAgent, old_consumer, old_provider
from tests.support.tcp import Ending, TcpPeer, TcpServer, digest, pattern
from tests.support.world import World

_SIZE = 2 * 1024 * 1024


@contextlib.asynccontextmanager
async def provider(world: World, forward: tuple[str, int]) -> AsyncIterator[OldAgent]:
    """An old provider's agent in this process."""
    mine, trust = world.authority.client("provider"), world.authority.certificate
    async with old_provider((world.host, world.port), "localhost", mine, trust, forward) as agent:
        await agent.word("notify_active")
        yield agent


@contextlib.asynccontextmanager
async def consumer(world: World) -> AsyncIterator[tuple[OldAgent, tuple[str, int]]]:
    """An old consumer's agent in this process, and where it listens."""
    mine, trust = world.authority.client("consumer"), world.authority.certificate
    async with old_consumer((world.host, world.port), "localhost", mine, trust) as found:
        yield found


async def both_ways(client: TcpPeer, server: TcpPeer) -> None:
    """Bytes and FINs, each direction on its own."""
    await server.send_pattern(2, 10)
    await client.receive(10)
    got = asyncio.ensure_future(server.receive_digest())
    await client.send_pattern(1, _SIZE)
    client.finish()
    assert await got == (_SIZE, digest(pattern(1, _SIZE)), Ending.FIN)
    got = asyncio.ensure_future(client.receive_digest())
    await server.send_pattern(3, _SIZE)
    server.finish()
    assert await got == (_SIZE, digest(pattern(3, _SIZE)), Ending.FIN)


async def whole_conversation(world: World, client: TcpPeer, server: TcpServer) -> None:
    """A connection from its first byte to its end, as the log has it."""
    # Both kinds of providers' agents see the connection with its first byte at the latest.
    await client.send(b"!")
    taken = await world.accept(server)
    assert await taken.receive(1) == b"!"
    await both_ways(client, taken)
    ended = await world.hub.line("endSpnConnection")
    assert (ended["totalSentBytes"], ended["totalReceiveBytes"], ended["disconnectReason"]) == (
        _SIZE + 1,
        _SIZE + 10,
        "closedByPeer",
    )


async def protocols(world: World) -> list[str]:
    """Of all sessions, in order."""
    return sorted(line["protocol"] for line in await world.events() if line["eventType"] == "startSpnSession")


@pytest.mark.parametrize("pair", ["old and old", "old and new", "new and old"])
async def test_there_and_back(world: World, pair: str) -> None:
    """Every byte and both FINs pass between each two of them, and the log has them as of any other connection."""
    consumer_is_old, provider_is_old = pair.startswith("old"), pair.endswith("old")
    server = world.serve()
    await world.start_hub()
    async with contextlib.AsyncExitStack() as stack:
        if provider_is_old:
            await stack.enter_async_context(provider(world, server.address))
        else:
            await world.start_provider(server.address)
        if consumer_is_old:
            _, address = await stack.enter_async_context(consumer(world))
            client = world.keep(await TcpPeer.connect(address))
        else:
            client = await world.connect(await world.start_consumer())
        await whole_conversation(world, client, server)
    await world.end()
    assert await protocols(world) == sorted("sc01" if old else "spn/1" for old in (consumer_is_old, provider_is_old))


@pytest.mark.parametrize("pair", ["sc01 and spn/1", "spn/1 and sc01", "sc01 and sc01"])
async def test_our_agents_speak_it(world: World, pair: str) -> None:
    """Agents of ours with ``--protocol sc01``, with each other and with those that speak spn/1. Of which service they
    are, their certificates say."""
    consumers, providers = pair.split(" and ")
    protocols_of = {"sc01": {"SPN_PROTOCOL": "sc01", "SPN_SERVICE_URN": ""}, "spn/1": {"SPN_PROTOCOL": "spn/1"}}
    server = world.serve()
    await world.start_hub()
    await world.start_provider(server.address, env=protocols_of[providers])
    consumer = await world.start_consumer(env=protocols_of[consumers])
    client = await world.connect(consumer)
    await whole_conversation(world, client, server)
    await world.end()
    assert await protocols(world) == sorted((consumers, providers))


async def test_errors_and_the_end(world: World) -> None:
    """A server that can't be reached is a reset at the program, and SIGTERM lets what is open end by itself."""
    server = world.serve()
    await world.start_hub()
    async with provider(world, server.address) as old, consumer(world) as (another, address):
        ours = await world.start_consumer()
        client = world.keep(await TcpPeer.connect(address))
        await client.send(b"hello")
        taken = await world.accept(server)
        assert await taken.receive(5) == b"hello"
        server.close()
        unlucky = await world.connect(ours)
        await unlucky.send(b"hello")
        assert await unlucky.receive_all() == (b"", Ending.RST)
        ended = await world.hub.line("endSpnConnection")
        assert (ended["disconnectReason"], ended["totalReceiveBytes"]) == ("error", 0)
        world.hub.send_signal(signal.SIGTERM)
        await old.word("notify_shutdown")
        await another.word("notify_shutdown")
        await taken.send(b"bye")
        taken.finish()
        client.finish()
        assert await client.receive_all() == (b"bye", Ending.FIN)
        assert (await asyncio.wait_for(another.ended, 30))[0] == 0
        assert (await asyncio.wait_for(old.ended, 30))[0] == 0
        assert await world.hub.wait(30) == 0
    ends = [line for line in await world.replayed() if line["eventType"] == "endSpnConnection"]
    assert sorted(line["disconnectReason"] for line in ends) == ["closedByPeer", "error"]
