"""Path MTU discovery of the native engine (RFC 8899): datagrams as large as the path and the peer take."""

from __future__ import annotations

from typing import Any

import aioquic.quic.connection
import pytest
from aioquic.buffer import Buffer
from aioquic.quic.packet import QuicTransportParameters, push_quic_transport_parameters

from spnhub.transport.engine import Closed, Limits, PathNarrowed
from tests.support.engine_pair import EnginePair, Kit, Side
from tests.support.engines import REAL, each

KITS = [parameter for parameter in each(REAL) if parameter.id == "native"]
LARGEST = Limits().datagram_size_max
STEP = 20
"""What the search leaves open."""
LITTLE = 100_000
"""Bytes that are too few for a search."""
MUCH = bytes(range(256)) * 8192
"""Enough of them for one."""


@pytest.fixture(params=KITS)
def native(request: pytest.FixtureRequest) -> Kit:
    """The native one; skipped where it isn't built."""
    made: Kit = request.param()
    return made


def size(side: Side) -> int:
    """Of the datagrams that one side sends at most."""
    info = side.engine.info(side.connection_id)
    assert info is not None
    return info.datagram_size


def both(pair: EnginePair, stream_id: int, data: bytes = MUCH) -> None:
    """Carry ``data`` each way, and let what is under way arrive."""
    for source, sink in ((pair.client, pair.server), (pair.server, pair.client)):
        pair.carry(source, sink, stream_id, data)
    pair.run_for(1.0)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])


@pytest.mark.parametrize("carried", [1200, 1211, 1252, 1452, 1472, 5000, 8952, 16_000])
def test_datagrams_become_as_large_as_the_path_carries(native: Kit, carried: int) -> None:
    """By themselves, each way; what is larger gets lost and nothing of it is missing."""
    pair = EnginePair(native)
    pair.network.largest = carried
    pair.connect()
    both(pair, pair.open())
    for side in (pair.client, pair.server):
        assert min(carried, LARGEST) - STEP < size(side) <= min(carried, LARGEST)
        assert side.of(PathNarrowed) == []


def test_who_says_little_pays_for_no_search(native: Kit) -> None:
    """Most sessions: what is sent is never above what every path carries."""
    pair = EnginePair(native).connect()
    both(pair, pair.open(), bytes(LITTLE))
    pair.run_for(120.0)
    assert (size(pair.client), size(pair.server), pair.network.seen) == (1200, 1200, 1200)


@pytest.mark.parametrize(
    ("limits", "least", "most"),
    [
        (Limits(datagram_size_max=1200), 1200, 1200),
        (Limits(datagram_size=1400, datagram_size_max=1200), 1400, 1400),
        (Limits(datagram_size_max=1452), 1432, 1452),
        (Limits(datagram_size=1400, datagram_size_max=9000), 8980, 9000),
    ],
)
def test_what_is_set_bounds_the_search(native: Kit, limits: Limits, least: int, most: int) -> None:
    """From the one size to the other; none where there is nothing between."""
    pair = EnginePair(native, limits, limits).connect()
    both(pair, pair.open())
    assert least <= size(pair.client) <= most
    assert least <= size(pair.server) <= most
    assert pair.network.seen <= most


def test_a_path_that_narrows_is_found_out(native: Kit) -> None:
    """A black hole: back at 1,200 bytes within a few round trips, told once, not a byte lost; a minute later it is
    searched again."""
    pair = EnginePair(native).connect()
    stream_id = pair.open()
    both(pair, stream_id)
    assert (size(pair.client), size(pair.server)) == (LARGEST, LARGEST)
    pair.network.largest = 1452
    began = pair.clock.now()
    for source, sink in ((pair.client, pair.server), (pair.server, pair.client)):
        pair.carry(source, sink, stream_id, MUCH)
    assert pair.clock.now() - began < 5.0
    for side in (pair.client, pair.server):
        assert (size(side), side.take(PathNarrowed)) == (1200, [PathNarrowed(side.connection_id)])
    pair.run_for(61.0)
    both(pair, stream_id)
    for side in (pair.client, pair.server):
        assert (1452 - STEP < size(side) <= 1452, side.of(PathNarrowed)) == (True, [])


def test_a_datagram_size_that_the_path_does_not_carry_costs_time_only(native: Kit) -> None:
    """Set too large, it is taken back: the first flights get through in small datagrams, and what follows."""
    limits = Limits(datagram_size=4000)
    pair = EnginePair(native, limits, limits)
    pair.network.largest = 1452
    pair.connect()
    both(pair, pair.open())
    assert (size(pair.client), size(pair.server)) == (1200, 1200)


def test_losses_alone_are_no_narrow_path(native: Kit) -> None:
    """Datagrams that get lost whatever their size leave it where it is, for the most part."""
    pair = EnginePair(native)
    pair.network.largest = 1452
    pair.connect()
    stream_id = pair.open()
    both(pair, stream_id)
    pair.network.loss = 0.02
    both(pair, stream_id)
    assert len(pair.client.of(PathNarrowed)) + len(pair.server.of(PathNarrowed)) <= 1


def test_another_network_is_searched_anew(native: Kit) -> None:
    """The client moves to a path that carries less: the hub begins there with what every path carries."""
    pair = EnginePair(native).connect()
    stream_id = pair.open()
    both(pair, stream_id)
    pair.client.node.rebind(host="client elsewhere")
    pair.network.largest = 1452
    pair.carry(pair.client, pair.server, stream_id, bytes(10))
    pair.run_for(1.0)
    assert size(pair.server) == 1200
    both(pair, stream_id)
    assert 1452 - STEP < size(pair.server) <= 1452
    assert pair.server.of(PathNarrowed) == []


def test_another_port_of_the_same_host_is_the_same_path(native: Kit) -> None:
    """A NAT that has forgotten: what was found out stays."""
    pair = EnginePair(native).connect()
    stream_id = pair.open()
    both(pair, stream_id)
    pair.client.node.rebind()
    pair.carry(pair.client, pair.server, stream_id, bytes(10))
    pair.run_for(1.0)
    assert (size(pair.client), size(pair.server)) == (LARGEST, LARGEST)
    both(pair, stream_id)


def test_an_address_that_is_not_proved_draws_no_large_datagrams(native: Kit) -> None:
    """Who forges another's address has the hub send that one small datagrams, and few."""
    pair = EnginePair(native).connect()
    stream_id = pair.open()
    both(pair, stream_id)
    pair.client.node.rebind(host="client elsewhere")
    # What the hub sends there doesn't arrive, so the address is never proved.
    pair.network.cut(pair.server.node, pair.client.node, one_way=True)
    pair.client.engine.write(pair.client.connection_id, stream_id, b"x")

    def has_moved() -> bool:
        info = pair.server.engine.info(pair.server.connection_id)
        return info is not None and info.address.remote[0] == "client elsewhere"

    pair.run_until(has_moved)
    pair.network.seen = 0
    pair.server.engine.write(pair.server.connection_id, stream_id, MUCH)
    pair.run_for(1.0)
    assert 0 < pair.network.seen <= 1200


@pytest.mark.parametrize("bound", [1200, 1300, 1472])
def test_a_peer_that_takes_no_larger_ones_gets_none(native: Kit, bound: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its max_udp_payload_size (RFC 9000 section 18.2), as other implementations have one."""

    def push(buffer: Buffer, parameters: QuicTransportParameters) -> Any:
        parameters.max_udp_payload_size = bound
        return push_quic_transport_parameters(buffer, parameters)

    monkeypatch.setattr(aioquic.quic.connection, "push_quic_transport_parameters", push)
    pair = EnginePair(native)
    pair.client = Side(pair.network, REAL["aioquic"]().make(Limits()))
    pair.connect()
    both(pair, pair.open())
    assert bound - STEP < size(pair.server) <= bound
    assert pair.network.seen <= bound


def test_a_peer_without_discovery_is_sent_large_ones_and_sends_small_ones(native: Kit) -> None:
    """aioquic sends what is set and takes what comes."""
    pair = EnginePair(native)
    pair.client = Side(pair.network, REAL["aioquic"]().make(Limits()))
    pair.connect()
    both(pair, pair.open())
    assert (size(pair.client), size(pair.server)) == (1200, LARGEST)
