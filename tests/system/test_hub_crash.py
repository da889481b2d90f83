"""A hub that is killed with -9 in mid-run and started again on the same journal (D-6, D-7)."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.command import Command, Line
from tests.support.engines import on_both_engines
from tests.support.tcp import Ending, TcpPeer, TcpServer
from tests.support.world import Consumer, World
from tests.system.sizes import KIB, report, sizes

pytestmark = on_both_engines


def acknowledged(agents: list[Command]) -> tuple[set[str], set[str]]:
    """The sessions and connections that the agents were told of."""
    sessions = {line["spnSessionId"] for agent in agents for line in agent.said("session.established")}
    uids = {line["connectionUid"] for agent in agents for line in agent.said("connection.opened")}
    return sessions, uids


@sizes("kills, clients", (1, 10), (10, 50))
async def test_hub_killed_and_started_again(world: World, kills: int, clients: int) -> None:
    """Everything acknowledged is in the log once; every start has its end; the agents go on with the next hub."""
    server = world.serve()
    hub, provider, consumer = await world.start(
        server.address, env={"SPN_LOG_LEVEL": "debug", "SPN_RESUME_TIMEOUT": "1"}
    )
    agents = [provider, consumer.command]

    orderly = 0
    async with asyncio.TaskGroup() as group:
        accepting = group.create_task(_accept(world, server, group))
        for kill in range(kills):
            chatting = [asyncio.ensure_future(_chatter(world, consumer)) for _ in range(clients)]
            await hub.wait_lines("startSpnConnection", 2 * clients)
            await hub.kill()
            for agent in agents:
                await agent.wait_lines("session.lost", kill + 1)
            orderly += sum(await asyncio.gather(*chatting))
            hub = await world.start_hub()
            for agent in agents:
                await agent.wait_lines("session.established", kill + 2)
        client = await world.connect(consumer)
        await client.send(b"still here")
        assert await client.receive(10) == b"still here"
        client.finish()
        assert await client.receive_all() == (b"", Ending.FIN)
        accepting.cancel()

    sessions, uids = acknowledged(agents)
    lines = await world.end()
    started = starts(lines)
    assert len(started) == len(set(started))
    assert sessions | uids <= set(started)
    cut = [line for line in lines if line.get("disconnectReason") == "error"]
    assert cut
    recovered = [line for line in await world.events() if line.get("recovered")]
    report(sessions=len(sessions), connections=len(uids), started=len(started), cut=len(cut), recovered=len(recovered))
    assert orderly


async def _echo(peer: TcpPeer) -> None:
    with contextlib.suppress(OSError):
        while data := await asyncio.get_running_loop().sock_recv(peer.sock, 64 * KIB):
            await peer.send(data)
        peer.close()


async def _accept(world: World, server: TcpServer, group: asyncio.TaskGroup) -> None:
    while True:
        group.create_task(_echo(await world.accept(server)))


async def _chatter(world: World, consumer: Consumer) -> int:
    """Short connections and long ones, for as long as there is a hub; how many ended in order."""
    done = 0
    with contextlib.suppress(OSError, EOFError):
        while True:
            client = await world.connect(consumer)
            for _ in range(20):
                await client.send(b"ping" * KIB)
                await client.receive(4 * KIB)
            client.finish()
            _, ending = await client.receive_all()
            if ending is Ending.RST:
                return done
            done += 1
            client.close()
    return done


def starts(lines: list[Line]) -> list[str]:
    """What names the things that the log says have begun."""
    return [
        line["connectionUid"] if "Connection" in line["eventType"] else line["spnSessionId"]
        for line in lines
        if line["eventType"].startswith("start")
    ]
