"""``spnagent`` with several hubs, and with hubs and addresses that come and go (R-3.1 to R-3.3, D-32)."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.command import Command, Line
from tests.support.dns_server import DnsServer
from tests.support.tcp import Ending, TcpPeer, TcpServer, digest, pattern
from tests.support.world import Consumer, World

pytestmark = pytest.mark.system

ONE, TWO = "127.0.0.1", "127.0.0.2"
NAME = "localhost"
MIB = 1024 * 1024
STATIC = {"SPN_HUB_ADDRESSES": f"{ONE},{TWO}", "SPN_LOG_LEVEL": "debug"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path) as world:
        yield world


async def start_hub(world: World, host: str) -> Command:
    """The hub of an address, with a journal of its own."""
    return await world.start_hub(host=host, hub_id=f"hub-{host[-1]}")


async def start_agents(
    world: World, server: TcpServer, env: dict[str, str], *, wait: bool = True
) -> tuple[Command, Consumer]:
    """A provider agent and a consumer agent."""
    return await asyncio.gather(
        world.start_provider(server.address, env=env, wait=wait), world.start_consumer(env=env, wait=wait)
    )


def where(world: World, host: str) -> str:
    """How log lines name the hub's address."""
    return f"{host}:{world.port}"


async def established(agents: list[Command], address: str) -> list[Line]:
    """Wait until each of them has a session there."""
    return list(await asyncio.gather(*(agent.line("session.established", address=address) for agent in agents)))


async def talk(client: TcpPeer, served: TcpPeer, seed: int) -> None:
    """Bytes in both directions at once, exact."""
    sent = b"".join(pattern(seed, 100_000))
    _, _, up, down = await asyncio.gather(
        client.send(sent), served.send(sent[::-1]), served.receive(len(sent)), client.receive(len(sent))
    )
    assert (up, down) == (sent, sent[::-1])


async def end(client: TcpPeer, served: TcpPeer) -> None:
    """Both programs end in order, and see the other do so."""
    client.finish()
    assert await served.receive_all() == (b"", Ending.FIN)
    served.finish()
    assert await client.receive_all() == (b"", Ending.FIN)


async def test_one_of_two_addresses_has_no_hub(world: World) -> None:
    """The agents work with the other; when the hub comes they have a session there, too."""
    await start_hub(world, ONE)
    server = world.serve()
    provider, consumer = await start_agents(world, server, STATIC)
    agents = [provider, consumer.command]
    for agent in agents:
        assert (await agent.line("session.established"))["address"] == where(world, ONE)
        await agent.line("session.failed", address=where(world, TWO))
    client, served = await world.join(consumer, server)
    await talk(client, served, 1)
    await start_hub(world, TWO)
    lines = await established(agents, where(world, TWO))
    assert {line["hubId"] for line in lines} == {"hub-2"}
    assert not any(agent.said("session.lost") for agent in agents)
    await end(client, served)
    await world.end()


async def test_answers_that_change(world: World) -> None:
    """DNS names another hub: a session to it. Then it names only that: the connection goes on there, byte by byte."""
    one, two = await start_hub(world, ONE), await start_hub(world, TWO)
    server = world.serve()
    async with DnsServer() as dns:
        dns.set(NAME, [ONE])
        env = {"SPN_RESOLVER": dns.address, "SPN_RESOLVE_INTERVAL": "0.5", "SPN_LOG_LEVEL": "debug"}
        provider, consumer = await start_agents(world, server, env)
        agents = [provider, consumer.command]
        client, served = await world.join(consumer, server)
        await talk(client, served, 1)
        dns.set(NAME, [ONE, TWO])
        await established(agents, where(world, TWO))

        # Neither an empty answer nor a name that is gone says anything about hubs.
        dns.set(NAME, [])
        await dns.wait_asked(3)
        dns.set(NAME, None)
        await dns.wait_asked(3)
        await talk(client, served, 2)
        assert not any(agent.said(name) for agent in agents for name in ("session.lost", "session.closing"))

        dns.set(NAME, [TWO])
        for agent in agents:
            await agent.line("session.closed", address=where(world, ONE))
        await talk(client, served, 3)
        await consumer.command.line("connection.resumed", epoch=1)
        await end(client, served)
        assert (await one.line("endSpnConnection"))["disconnectReason"] == "closedByPeer"
        assert (await two.line("endSpnConnection"))["disconnectReason"] == "closedByPeer"
        # What comes back is found again.
        before = len(provider.said("session.established"))
        dns.set(NAME, [ONE, TWO])
        await provider.wait_lines("session.established", before + 1)
        await world.end()


async def test_no_answer_at_first(world: World) -> None:
    """Agents that start before their hub has a name wait for it, and say why."""
    await start_hub(world, ONE)
    server = world.serve()
    async with DnsServer() as dns:
        env = {"SPN_RESOLVER": dns.address, "SPN_RESOLVE_INTERVAL": "0.5"}
        provider, consumer = await start_agents(world, server, env, wait=False)
        for agent in (provider, consumer.command):
            assert "does not exist" in (await agent.line("addresses.failed"))["reason"]
        dns.set(NAME, [ONE])
        await established([provider, consumer.command], where(world, ONE))
        await end(*await world.join(consumer, server))
        await world.end()


async def test_upload_while_its_hub_dies(world: World) -> None:
    """The TCP programs notice nothing but a pause; with SIGTERM in the middle of it the agent waits, then ends."""
    one = await start_hub(world, ONE)
    server = world.serve()
    provider, consumer = await start_agents(world, server, STATIC)
    client, served = await world.join(consumer, server)
    size = 8 * MIB

    async def upload() -> None:
        await client.send_pattern(1, size)
        client.finish()

    uploading = asyncio.ensure_future(upload())
    first = await served.receive(MIB)
    await one.kill()
    paused = await consumer.command.line("connection.paused")
    assert (paused["epoch"], len(paused["connectionUid"])) == (0, 32)
    consumer.command.send_signal(signal.SIGTERM)
    assert (await consumer.command.line("agent.stopping"))["connections"] == 1
    await start_hub(world, TWO)
    resumed = await consumer.command.line("connection.resumed", connectionUid=paused["connectionUid"])
    assert resumed["seconds"] > 0
    rest = bytearray()
    while len(rest) < size - MIB:
        rest += await served.receive(min(MIB, size - MIB - len(rest)))
    assert digest(iter([first, bytes(rest)])) == digest(pattern(1, size))
    await uploading
    assert await served.receive_all() == (b"", Ending.FIN)
    served.finish()
    assert await client.receive_all() == (b"", Ending.FIN)
    assert await consumer.command.wait() == 0
    assert not consumer.command.said("agent.connections_cut")
    assert await provider.stop() == 0


async def test_provider_drains_while_paused(world: World) -> None:
    """SIGTERM to the provider's agent while the hub is away: it resumes, serves to the end, then leaves."""
    one = await start_hub(world, ONE)
    server = world.serve()
    provider, consumer = await start_agents(world, server, STATIC)
    client, served = await world.join(consumer, server)
    await talk(client, served, 1)
    await one.kill()
    await provider.line("connection.paused")
    provider.send_signal(signal.SIGTERM)
    await provider.line("agent.stopping")
    await start_hub(world, TWO)
    await provider.line("connection.resumed")
    await talk(client, served, 2)
    await end(client, served)
    assert await provider.wait() == 0
    assert not provider.said("agent.connections_cut")


@pytest.mark.parametrize("who", ["client", "server"])
async def test_reset_while_paused(world: World, who: str) -> None:
    """A RST of one program while there is no hub reaches the other as soon as there is one, as RST.

    Its agent keeps what the other side may not have taken until it is there (D-34).
    """
    one = await start_hub(world, ONE)
    server = world.serve()
    provider, consumer = await start_agents(world, server, STATIC)
    client, served = await world.join(consumer, server)
    await talk(client, served, 1)
    await one.kill()
    await asyncio.gather(provider.line("connection.paused"), consumer.command.line("connection.paused"))
    mine, other = (client, served) if who == "client" else (served, client)
    mine.reset()
    agent = consumer.command if who == "client" else provider
    await start_hub(world, TWO)
    async with asyncio.timeout(20):
        assert await other.receive_all() == (b"", Ending.RST)
    await agent.line("connection.closed")


async def test_interrupted_while_paused(world: World) -> None:
    """SIGINT waits for no hub: both programs get a RST, the other one at the latest after the resume timeout."""
    one = await start_hub(world, ONE)
    server = world.serve()
    provider, consumer = await start_agents(world, server, STATIC | {"SPN_RESUME_TIMEOUT": "2"})
    client, served = await world.join(consumer, server)
    await talk(client, served, 1)
    await one.kill()
    await consumer.command.line("connection.paused")
    consumer.command.send_signal(signal.SIGINT)
    async with asyncio.timeout(5):
        assert await client.receive_all() == (b"", Ending.RST)
        assert await consumer.command.wait() == 0
    assert await served.receive_all() == (b"", Ending.RST)
    await provider.line("connection.lost")
