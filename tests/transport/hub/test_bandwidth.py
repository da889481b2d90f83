"""Bytes a second of a realm and of a service: from the inventory to the engine, and what is told of it. No sockets."""

from __future__ import annotations

from typing import Any

import pytest

from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.actors.contract.packets import Accept, Opening, OpeningKind
from spnhub.events.model import EndPointType, LimitReached
from spnhub.transport import protocol
from spnhub.transport.engine import Engine, Throttled
from spnhub.transport.hub.bandwidth import Bandwidth
from tests.transport.hub.bench import NAME, NETWORK, REALM, SECRET, UID, Bench
from tests.transport.hub.old_peer import OldPeer

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


def bandwidth(engine: Any) -> Bandwidth[str]:
    """With such an engine."""
    one: Engine = engine
    return Bandwidth[str](one)


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


@pytest.mark.parametrize("old", [EndPointType.PROVIDER, EndPointType.CONSUMER])
def test_a_connection_of_two_protocols_beyond_its_bandwidth(old: EndPointType) -> None:
    """Bounded by the service of the one that speaks spn/1, and told; it may end while it waits, and nothing is left."""
    bench = Bench()
    bench.set_realms(realm(None, bench.service, RATE))
    peer = OldPeer(bench, old, "server" if old is EndPointType.PROVIDER else "client")
    if old is EndPointType.PROVIDER:
        mine = bench.consumer()
        stream = mine.open(Opening(OpeningKind.OPEN, UID, SECRET))
    else:
        mine = bench.provider("p1")
        peer.open(b"x")
        (stream,) = set(mine.streams) - {0}
        mine.write(stream, protocol.encode(Accept(OpeningKind.OPEN, instance_id="p1")))
    written = 0

    def carried(seconds: float) -> int:
        nonlocal written
        before = sum(len(one.data) for one in peer.streams.values())
        for _ in range(round(seconds / 0.02)):
            written += mine.engine.write(mine.connection_id, stream, bytes(16_384))
            mine.node.flush()
            bench.settle(0.02)
        return sum(len(one.data) for one in peer.streams.values()) - before

    carried(2.5)
    # Seven eighths while no other connection wants any.
    assert carried(2.0) == pytest.approx(2 * RATE * 7 // 8, rel=0.05)
    told = bench.events(LimitReached)
    assert {(event.limit, event.bound, event.service_urn) for event in told} == {
        ("serviceBandwidth", RATE, bench.service.urn)
    }
    assert 3 <= len(told) <= 6
    bench.set_realms(realm(None, bench.service))
    assert carried(1.0) > 3 * RATE
    bench.set_realms(realm(RATE, bench.service))
    assert carried(1.0) < 2 * RATE
    mine.engine.reset(mine.connection_id, stream, 40)
    mine.engine.stop(mine.connection_id, stream, 40)
    mine.node.flush()
    bench.settle(1.0)
    assert bench.server.counts()["relays"] == 0


def test_both_kinds_have_parts_of_a_bound() -> None:
    """Half each, more where only one wants it; together never more; all for the engine without the other kind."""
    engine, service = Meters(), Bench().service
    limits = bandwidth(engine)
    limits.set_realms([realm(RATE, service)])
    own = limits.meters(REALM, service.urn)
    number = own[0]
    limits.begin_relay(own, 0.0)
    assert engine.set[-1] == {number: RATE // 2}
    limits.begin_relay(own, 0.0)
    limits.exceeded(Throttled(number, 3))
    limits.pass_time(1.0)
    assert engine.set[-1] == {number: RATE * 7 // 8}
    assert limits.relayed.wait("a", own)
    limits.exceeded(Throttled(number, 3))
    assert [told.limit for told in limits.take_exceeded()] == ["realmBandwidth"]
    assert limits.pass_time(2.0) == ["a"]
    assert engine.set[-1] == {number: RATE // 2}
    limits.relayed.wait("b", own)
    limits.take_exceeded()
    assert limits.pass_time(3.0) == ["b"]
    assert engine.set[-1] == {number: RATE // 8}
    limits.pass_time(4.0)
    assert engine.set[-1] == {number: RATE // 8}
    limits.end_relay(own)
    assert engine.set[-1] == {number: RATE // 8}
    limits.end_relay(own)
    assert engine.set[-1] == {number: RATE}
    assert not limits.any
