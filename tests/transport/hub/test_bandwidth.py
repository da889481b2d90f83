"""Bytes a second of a realm and of a service: from the inventory to the engine, and what is told of it. No sockets."""

from __future__ import annotations

from typing import Any

import pytest

from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.events.model import LimitReached
from spnhub.transport.engine import Engine, Throttled
from spnhub.transport.hub.bandwidth import Bandwidth
from tests.transport.hub.bench import NAME, NETWORK, REALM, Bench

RATE = 100_000


def realm(bandwidth: int | None, service: ServiceDefinition, own: int | None = None) -> RealmDefinition:
    """One with a service."""
    limited = ServiceDefinition(service.urn, service.name, service.provider, service.consumers, max_bandwidth=own)
    return RealmDefinition(REALM, (NetworkDefinition(NETWORK, "main", NAME, (limited,)),), max_bandwidth=bandwidth)


class Meters:
    """All that is used of an engine."""

    def __init__(self) -> None:
        self.set: list[dict[int, int]] = []

    def set_meters(self, rates: dict[int, int]) -> None:
        """See :class:`spnhub.transport.engine.Engine`."""
        self.set.append(rates)


def bandwidth(engine: Any) -> Bandwidth:
    """With such an engine."""
    one: Engine = engine
    return Bandwidth(one)


def test_meters_follow_the_inventory() -> None:
    """By name, so that what is joined keeps its meters whatever becomes of the bounds; without any none is set."""
    engine, service = Meters(), Bench().service
    limits = bandwidth(engine)
    limits.set_realms([realm(None, service)])
    assert engine.set == []
    own, its = limits.meters(REALM, service.urn)
    limits.set_realms([realm(RATE, service, RATE // 2)])
    assert engine.set[-1] == {own: RATE, its: RATE // 2}
    assert limits.meters(REALM, None) == (own,)
    told = limits.exceeded(Throttled(its, 3))
    assert told is not None
    assert (told.limit, told.bound, told.count) == ("serviceBandwidth", RATE // 2, 3)
    assert (told.realm, told.service_urn) == (REALM, service.urn)
    limits.set_realms([realm(None, service)])
    assert engine.set[-1] == {}
    assert limits.exceeded(Throttled(own, 1)) is None


@pytest.mark.parametrize(("bound", "own", "limit"), [(RATE, None, "realmBandwidth"), (None, RATE, "serviceBandwidth")])
def test_a_connection_beyond_its_bandwidth(bound: int | None, own: int | None, limit: str) -> None:
    """QUIC itself: it carries as much as it may, and the log says once a second that there was more; until a reload."""
    bench = Bench(real=True)
    bench.set_realms(realm(bound, bench.service, own))
    provider, consumer = bench.provider(), bench.consumer()
    leg = bench.leg(consumer, provider)
    header = len(provider.streams[leg.ps].data)

    written = 0

    def carried(seconds: float) -> int:
        nonlocal written
        before = len(provider.streams[leg.ps].data)
        for _ in range(round(seconds / 0.02)):
            written += consumer.engine.write(consumer.connection_id, leg.cs, bytes(16_384))
            consumer.node.flush()
            bench.settle(0.02)
        return len(provider.streams[leg.ps].data) - before

    carried(0.5)
    assert carried(1.0) == pytest.approx(RATE, rel=0.05)
    assert carried(1.0) == pytest.approx(RATE, rel=0.05)
    told = bench.events(LimitReached)
    assert {(event.limit, event.bound, event.realm) for event in told} == {(limit, RATE, REALM)}
    assert {event.service_urn for event in told} == {None if own is None else bench.service.urn}
    assert 2 <= len(told) <= 4
    bench.set_realms(realm(None, bench.service))
    assert carried(1.0) > 3 * RATE
    bench.settle(1.0)
    assert len(provider.streams[leg.ps].data) == header + written
