"""Connections outlive their hub: rolling updates, kills, silence, one hub alone (R-4.6 to R-4.11, R-3.3)."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest

from tests.support.command import Command
from tests.support.talk import Talk, quantiles
from tests.support.tcp import Ending
from tests.support.world import World
from tests.system.sizes import report, sizes

pytestmark = pytest.mark.measured

_HOSTS = ("127.0.0.1", "127.0.0.2")
BOTH = {"SPN_HUB_ADDRESSES": ",".join(_HOSTS)}
"""Agents of two hubs."""


async def start_hub(world: World, which: int, *options: str) -> Command:
    """The first or the second hub, on its own address and journal."""
    return await world.start_hub(*options, host=_HOSTS[which], hub_id=f"hub-{which + 1}")


async def sessions(agents: list[Command], count: int) -> None:
    """Wait until each agent has had so many sessions."""
    await asyncio.gather(*(agent.wait_lines("session.established", count) for agent in agents))


@sizes("conversations, rounds", (20, 2), (200, 10), minutes=20)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL, signal.SIGSTOP])
async def test_the_hub_is_replaced(world: World, how: signal.Signals, conversations: int, rounds: int) -> None:
    """A new hub up, the old one stopped in order, killed, or gone silent: not a byte lost, doubled or reordered."""
    server = world.serve()
    old = await start_hub(world, 0)
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=BOTH), world.start_consumer(env=BOTH)
    )
    agents = [provider, consumer.command]
    talk = await Talk.begin(world, consumer, server, conversations, interval=0.1 if conversations < 100 else 0.2)
    await talk.goes_on()
    quiet = time.monotonic()
    await asyncio.sleep(1)
    before = talk.slowest(quiet)
    pauses: list[float] = []
    for number in range(rounds):
        new = await start_hub(world, (number + 1) % 2)
        await sessions(agents, number + 2)
        await talk.goes_on()
        began = time.monotonic()
        if how is signal.SIGTERM:
            assert await old.stop(signal.SIGTERM) == 0
        elif how is signal.SIGKILL:
            await old.kill()
        else:
            old.send_signal(how)
        await talk.goes_on()
        pauses += talk.slowest(began - 0.2)
        if how is signal.SIGSTOP:
            # It comes back, finds that all has moved on, and must not disturb it.
            old.send_signal(signal.SIGCONT)
            await talk.goes_on()
            assert await old.stop(signal.SIGINT) == 0
            await talk.goes_on()
        old = new
    if how is signal.SIGKILL:
        # Its next start ends in the log what it has left open.
        await start_hub(world, (rounds + 1) % 2)
    total = await talk.end()
    report(
        how=how.name,
        conversations=conversations,
        rounds=rounds,
        bytes=total,
        undisturbed=f"[{quantiles(before)}]",
        pause=f"[{quantiles(pauses)}]",
    )
    await world.end()
    paused = {
        line["connectionUid"] for hub in ("hub-1", "hub-2") for line in await events(world, hub, "connectionPaused")
    }
    if how is signal.SIGTERM:
        assert len(paused) == conversations


async def events(world: World, hub_id: str, event_type: str) -> list[dict[str, object]]:
    """A hub's events of one type."""
    found = await world.events(str(world.journal_of(hub_id)))
    return [line for line in found if line["eventType"] == event_type]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_one_hub_alone_comes_back(world: World, how: signal.Signals) -> None:
    """Its restart pauses the connections; they go on when it is back."""
    server = world.serve()
    hub, _, consumer = await world.start(server.address)
    talk = await Talk.begin(world, consumer, server, 10)
    await talk.goes_on()
    began = time.monotonic()
    if how is signal.SIGTERM:
        assert await hub.stop(how) == 0
    else:
        await hub.kill()
    await world.start_hub()
    await talk.goes_on()
    pauses = talk.slowest(began - 0.2)
    total = await talk.end()
    report(how=how.name, bytes=total, pause=f"[{quantiles(pauses)}]")
    await world.end()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_one_hub_alone_stays_away(world: World, how: signal.Signals) -> None:
    """Nothing is resumed in time: both TCP programs see an error, never a clean end."""
    server = world.serve()
    hub, provider, consumer = await world.start(server.address, env={"SPN_RESUME_TIMEOUT": "3"})
    client, served = await world.join(consumer, server)
    await client.send(b"hello")
    assert await served.receive(5) == b"hello"
    if how is signal.SIGTERM:
        assert await hub.stop(how) == 0
    else:
        await hub.kill()
    began = time.monotonic()
    ends = await asyncio.gather(client.receive_all(), served.receive_all())
    seconds = time.monotonic() - began
    assert tuple(ends) == ((b"", Ending.RST), (b"", Ending.RST))
    report(how=how.name, error_after=f"{seconds:.1f} s")
    assert 2.0 < seconds < 3 + 10
    await world.start_hub()
    await sessions([provider, consumer.command], 2)
    await world.end()
