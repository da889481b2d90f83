"""Reloads of a real hub under traffic: what is different takes effect, and nobody else notices (R-6.2, D-31)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spnhub.pki import Authority
from tests.hub.reloading import Beat, Document, ReloadWorld, hub_of, service
from tests.support.world import free_udp_port

pytestmark = pytest.mark.system


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ReloadWorld]:
    """A hub, a provider and a consumer of ``web``, with a connection."""
    async with ReloadWorld(tmp_path) as world:
        yield world


async def test_services_come_and_go_beside_traffic(world: ReloadWorld) -> None:
    """1,000 added, then 1,000 removed: an established connection is never late by more than 100 ms."""
    server = world.serve()
    _, _, consumer = await world.start(server.address)
    world.write(world.document)
    beat = Beat(*await world.join(consumer, server))

    def add(document: Document) -> None:
        hub_of(document)["services"] += [service(f"s{number}", "consumer") for number in range(1000)]

    def remove(document: Document) -> None:
        del hub_of(document)["services"][1:]

    world.change(add)
    added = await world.reload()
    world.change(remove)
    removed = await world.reload()
    assert [added["servicesAdded"], removed["servicesRemoved"]] == [1000, 1000]
    rounds = await beat.end()
    print("longest rounds", [round(seconds, 4) for seconds in rounds[:5]], "of", len(rounds))
    assert rounds[0] < 0.1
    events = await world.events()
    kinds = [event["eventType"] for event in events]
    assert (kinds.count("serviceAdded"), kinds.count("serviceRemoved")) == (1001, 1000)
