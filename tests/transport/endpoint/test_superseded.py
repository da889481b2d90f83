"""A hub takes one session of an instance: two addresses of one hub, and two processes with one instance id."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from spnhub.actors.contract.packets import SessionRequest
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.states import SessionState
from tests.transport.endpoint.conftest import SECOND, World
from tests.transport.endpoint.hub_script import HUB
from tests.transport.endpoint.test_renewal import joined, talk

S = SessionState


def sessions(world: World) -> int:
    """Asked for, so far."""
    return sum(isinstance(packet, SessionRequest) for _, packet in world.hub.packets)


async def two_addresses(world: World) -> Counter[tuple[str, int]]:
    """The hub has a second address, as one with an A and an AAAA record has. What counts sessions by address."""
    world.hub.node.bind(SECOND)
    world.addresses.append(SECOND)
    up: Counter[tuple[str, int]] = Counter()

    def on_session(change: SessionChange) -> None:
        up[change.address] += (change.new is S.ESTABLISHED) - (change.old is S.ESTABLISHED)

    world.on_session = on_session
    return up


async def test_two_addresses_of_one_hub(world: World) -> None:
    """One session remains, and the connection with it: they don't take turns for ever."""
    up = await two_addresses(world)
    _, _, ours, theirs = await joined(world)
    await asyncio.sleep(5)
    settled = sessions(world)
    assert settled <= 6
    await talk(ours, theirs, b"one")
    await asyncio.sleep(300)
    await talk(ours, theirs, b"two")
    assert sessions(world) == settled
    assert sorted(up.values()) in ([0, 2], [1, 1])


@pytest.mark.parametrize("how", ["silent", "gone from DNS", "hub restarted"])
@pytest.mark.parametrize("which", [HUB, SECOND])
async def test_the_other_address_is_there_when_it_is_needed(world: World, which: tuple[str, int], how: str) -> None:
    """The path over one address is cut, DNS has it no more, or the hub comes back with the other one alone."""
    up = await two_addresses(world)
    _, _, ours, theirs = await joined(world)
    await asyncio.sleep(5)
    other = SECOND if which == HUB else HUB
    if how == "silent":
        world.network.unbind(world.hub.node, which, host_lives=False)
    elif how == "gone from DNS":
        world.addresses.remove(which)
    else:
        world.hub.node.crash()
        world.hub = world.new_hub(other)
    await asyncio.sleep(150)
    assert up[other] == 2
    if how != "hub restarted":
        await talk(ours, theirs, b"over the other")


async def test_two_processes_with_one_instance_id(world: World) -> None:
    """They end each other's sessions ever more slowly, and say why."""
    reasons: list[str] = []
    world.on_session = lambda change: reasons.append(str(change.error))
    await world.provider()
    for _ in range(2):
        await world.consumer(instance_id="copied")
    await asyncio.sleep(300)
    assert sessions(world) < 40
    before = sessions(world)
    await asyncio.sleep(300)
    assert sessions(world) - before <= 2 * 300 / 15
    assert (
        "another process has this instance id" in reasons[-1] or "another process has this instance id" in reasons[-3]
    )
