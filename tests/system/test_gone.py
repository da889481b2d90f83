"""Agents that are killed, and others that are only stopped: when the programs at the other end are told (D-20)."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.support.namespaces import Host, NamespacesMissing
from tests.support.tcp import Ending
from tests.support.world import World
from tests.system.sizes import report, sizes
from tests.system.test_hub_update import BOTH, sessions, start_hub

pytestmark = pytest.mark.measured

_BOUND = 3.0
"""Seconds from the kill to the other program's reset."""
_BUSY = 4.0
"""More, for a machine that has much else to do."""
_CONVERSATIONS = 4


@pytest.mark.parametrize("hubs", [1, 2])
@pytest.mark.parametrize("killed", ["provider", "consumer"])
@pytest.mark.parametrize("sends", [True, False], ids=["sends", "idle"])
async def test_a_killed_agent(world: World, hubs: int, killed: str, sends: bool) -> None:
    """What it had can't come back: its programs' partners get a reset within the bound, and the log says why."""
    server = world.serve()
    running = [await start_hub(world, which) for which in range(hubs)]
    env = BOTH if hubs == 2 else {"SPN_HUB_ADDRESSES": "127.0.0.1"}
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=env), world.start_consumer(env=env)
    )
    await sessions([provider, consumer.command], hubs)
    victim, witness = (provider, consumer.command) if killed == "provider" else (consumer.command, provider)
    left = []
    for _ in range(_CONVERSATIONS):
        client, served = await world.join(consumer, server)
        await client.send(b"request")
        assert await served.receive(7) == b"request"
        await served.send(b"answer")
        assert await client.receive(6) == b"answer"
        left.append(client if killed == "provider" else served)
    if not sends:
        # Until nothing is under way any more, not even an acknowledgement, and some more.
        await asyncio.sleep(1.5)
    victim.send_signal(signal.SIGKILL)
    began = time.monotonic()

    async def ending(number: int) -> float:
        if sends:
            await left[number].send(b"more")
        data, how = await left[number].receive_all()
        assert (data, how) == (b"", Ending.RST)
        return time.monotonic() - began

    told = await asyncio.gather(*map(ending, range(_CONVERSATIONS)))
    report(told=", ".join(f"{seconds:.2f} s" for seconds in sorted(told)))
    assert max(told) < _BOUND + _BUSY
    await witness.wait_lines("connection.lost", _CONVERSATIONS)
    for hub in running:
        (end,) = [line for line in hub.said("endSpnSession") if line["terminateReason"] == "error"]
        assert "port closed" in end.get("reason", "port closed")
    await world.end()
    events = await world.events(*(str(world.journal_of(f"hub-{which + 1}")) for which in range(hubs)))
    lost = [event for event in events if event["eventType"] == "connectionLost"]
    assert [event["code"] for event in lost] == [45] * _CONVERSATIONS
    assert len({event["connectionUid"] for event in lost}) == _CONVERSATIONS


@sizes("seconds", 4.5, 10.0)
@pytest.mark.parametrize("stopped", ["provider", "consumer"])
async def test_a_stopped_agent(world: World, stopped: str, seconds: float) -> None:
    """SIGSTOP: its port is open, so it may come back, and it does."""
    server = world.serve()
    await start_hub(world, 0)
    env = {"SPN_HUB_ADDRESSES": "127.0.0.1"}
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=env), world.start_consumer(env=env)
    )
    agent = provider if stopped == "provider" else consumer.command
    client, served = await world.join(consumer, server)
    agent.send_signal(signal.SIGSTOP)
    await client.send(b"request")
    await served.send(b"answer")
    await asyncio.sleep(seconds)
    agent.send_signal(signal.SIGCONT)
    assert (await served.receive(7), await client.receive(6)) == (b"request", b"answer")
    client.close()
    served.close()
    await world.end()


@pytest.mark.parametrize("wire", ["killed", "cut"])
async def test_an_agent_on_another_host(world: World, wire: str) -> None:
    """Its kernel says over the wire that the port is closed; a wire that is cut says nothing."""
    try:
        host = world.enter_host(Host(63, firewall=False))
    except NamespacesMissing as exc:
        pytest.skip(str(exc))
    resume = 6.0
    env = {"SPN_HUB_ADDRESSES": host.gateways[0], "SPN_RESUME_TIMEOUT": str(resume)}
    server = world.serve(host.gateways[0])
    await world.start_hub("--idle-timeout", "6", host=host.gateways[0])
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=env, host=host), world.start_consumer(env=env)
    )
    client, served = await world.join(consumer, server)
    await served.send(b"hello")
    assert await client.receive(5) == b"hello"
    began = time.monotonic()
    if wire == "killed":
        provider.send_signal(signal.SIGKILL)
    else:
        host.cut_wire()
        await client.send(b"more")
    data, how = await client.receive_all()
    took = time.monotonic() - began
    report(told=f"{took:.2f} s")
    assert (data, how) == (b"", Ending.RST)
    assert took < _BOUND + _BUSY if wire == "killed" else took >= resume
    if wire == "cut":
        await provider.kill()
    await world.end()
