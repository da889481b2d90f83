"""What ``spnlog serve`` tells of a hub is what the hub tells of itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from spnhub.analytics.exposition import PREFIX, Place, Total, text
from spnhub.events.metrics import COUNTERS, GAUGES, HISTOGRAMS, Metrics
from spnhub.ops.metrics import _COUNTERS, _GAUGES
from tests.events import samples
from tests.hub.reloading import ReloadWorld
from tests.support.command import Command

Samples = dict[tuple[Any, ...], float]


def parsed(exposition: str, prefix: str, *, only: set[str]) -> Samples:
    """Samples without their prefix, the hub and what the hub has no label for, by name and labels."""
    found: Samples = {}
    for family in text_string_to_metric_families(exposition):
        name = family.name.removeprefix(prefix)
        if name in only:
            for sample in family.samples:
                labels = {k: v for k, v in sample.labels.items() if k != "hub" and (name, k) not in _MORE}
                key = (name, *sorted(labels.items()))
                found[key] = found.get(key, 0) + sample.value
    return {key: value for key, value in found.items() if value}


_MORE = {("sessions_refused", "service")}
"""Labels that the hub's own numbers don't have."""


def shared() -> set[str]:
    """Families that both have."""
    hub = {name.removeprefix("spnhub_") for name in (*_GAUGES, *_COUNTERS)}
    return hub & {*GAUGES, *COUNTERS}


def test_the_hubs_families_are_all_there() -> None:
    """Each that the hub counts, with its labels and the hub's name."""
    families = GAUGES | COUNTERS
    for name, (_, labels) in (_GAUGES | _COUNTERS).items():
        family = families[name.removeprefix("spnhub_")]
        assert family.labels[0] == "hub"
        assert set(labels) <= set(family.labels)


def test_the_text() -> None:
    """Every family, histograms with cumulative buckets, and how far each partition is."""
    metrics = Metrics()
    metrics.apply_all(samples.record(samples.day()))
    place = Place("3", ready=True, position=9, lag=2, delay=0.5, redelivered=1, unreadable=0)
    shown = text(Total([metrics], [place])).decode()
    families = {family.name: family for family in text_string_to_metric_families(shown)}
    assert {f"{PREFIX}{name}" for name in (*GAUGES, *COUNTERS, *HISTOGRAMS)} <= families.keys()
    buckets = [
        sample.value
        for sample in families["spnlog_connection_duration_seconds"].samples
        if sample.name.endswith("_bucket")
    ]
    assert buckets == sorted(buckets) and buckets[-1] == 1
    assert 'spnlog_lag_events{partition="3"} 2.0' in shown
    assert 'spnlog_hub_events_total{hub="hub-1"} 8.0' in shown
    assert 'spnlog_hub_last_event_timestamp_seconds{hub="hub-1"} 1.767355200007e+09' in shown


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ReloadWorld]:
    """A hub with its HTTP on."""
    async with ReloadWorld(tmp_path) as world:
        await world.start_hub("--ops", "127.0.0.1:0", "--allow-process")
        yield world


@pytest.mark.system
async def test_a_hub_and_its_journal_tell_the_same(world: ReloadWorld) -> None:
    """Sessions, connections, bytes, refusals and reloads, while things are open and after."""
    serve = await Command.start("serve", "spnlog", "serve", "--json", "--listen", "127.0.0.1:0", str(world.journal))
    try:
        url = (await serve.line("serve.ready"))["url"]
        server = world.serve()
        await world.start_provider(server.address)
        consumer = await world.start_consumer()
        stranger = await world.start_consumer(credentials=world.authority.client("nobody"), wait=False)
        assert await stranger.command.wait() == 1
        ours, theirs = await world.join(consumer, server)
        await ours.send(b"12345")
        assert await theirs.receive(5) == b"12345"
        await _equal(world, url, "connections")
        ours.finish()
        theirs.finish()
        await world.hub.line("endSpnConnection")
        await world.renew()
        told = await _equal(world, url, "connections_ended")
        assert told["bytes", ("direction", "sent"), *_SERVICE] == 5
    finally:
        assert await serve.stop() == 0
        await serve.close()


_SERVICE = ("realm", "acme"), ("service", "urn:chip-in:service:acme:main:web")


async def _equal(world: ReloadWorld, url: str, telling: str) -> Samples:
    """Wait until both tell the same, and of this; what they tell."""
    mine: Samples = {}
    theirs: Samples = {}
    try:
        async with asyncio.timeout(20), httpx.AsyncClient() as client:
            while True:
                theirs = parsed((await client.get(f"{await world.ops()}/metrics")).text, "spnhub_", only=shared())
                mine = parsed((await client.get(url)).text, PREFIX, only=shared())
                if mine == theirs and any(name == telling for name, *_ in mine):
                    return mine
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"serve: {mine}\nhub: {theirs}") from None
