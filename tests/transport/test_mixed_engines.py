"""A hub on one engine, endpoints on the other: what they say to each other is QUIC, and they keep the same promises."""

from __future__ import annotations

import pytest

from spnhub.transport.engine import (
    Closed,
    CloseKind,
    Connected,
    DatagramReceived,
    HandshakeRefused,
    Limits,
    Reset,
    Stopped,
)
from tests.support.engine_pair import EnginePair, Kit, Side
from tests.support.engines import REAL, each

KEY = bytes(range(32))
KITS = [parameter for parameter in each(REAL) if parameter.id == "native"]


@pytest.fixture(params=KITS)
def native(request: pytest.FixtureRequest) -> Kit:
    """The native one; skipped where it isn't built."""
    made: Kit = request.param()
    return made


@pytest.fixture(params=["native hub", "native endpoint"])
def pair(request: pytest.FixtureRequest, native: Kit) -> EnginePair:
    """A hub that has a reset key, and an endpoint, not connected yet."""
    aioquic = REAL["aioquic"]()
    server, client = (native, aioquic) if request.param == "native hub" else (aioquic, native)
    pair = EnginePair(server, reset_key=KEY)
    pair.client = Side(pair.network, client.make(Limits()))
    return pair


def test_bytes_both_ways_and_how_they_end(pair: EnginePair) -> None:
    """A megabyte each way, FIN after it; a reset and a stop with their codes; a datagram."""
    pair.connect()
    stream_id = pair.open()
    for source, sink in ((pair.client, pair.server), (pair.server, pair.client)):
        pair.carry(source, sink, stream_id, bytes(range(256)) * 4096)
        source.engine.finish(source.connection_id, stream_id)
        assert pair.read_all(sink, stream_id, 1) == (b"", True)
    stream_id = pair.open()
    pair.client.engine.reset(pair.client.connection_id, stream_id, 34)
    pair.client.engine.stop(pair.client.connection_id, stream_id, 35)
    pair.run_until(lambda: bool(pair.server.of(Reset)) and bool(pair.server.of(Stopped)))
    assert pair.server.of(Reset) == [Reset(pair.server.connection_id, stream_id, 34)]
    assert pair.server.of(Stopped) == [Stopped(pair.server.connection_id, stream_id, 35)]
    pair.server.engine.send_datagram(pair.server.connection_id, b"one")
    pair.run_until(lambda: bool(pair.client.of(DatagramReceived)))
    pair.server.engine.close(pair.server.connection_id, 18, "because")
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert pair.client.of(Closed) == [Closed(pair.client.connection_id, CloseKind.PEER, 18, "because")]


def test_loss_disorder_and_another_address(pair: EnginePair) -> None:
    """Time only; both know in the end where the other is."""
    pair.network.jitter, pair.network.reorder = 0.05, True
    pair.connect()
    pair.network.loss = 0.1
    stream_id = pair.open()
    data = bytes(100_000)
    more = pair.write_all(pair.client, stream_id, data)
    got = b""
    while len(got) < len(data):
        if len(got) > 40_000 and not pair.network.gone():
            pair.client.node.rebind()
        got += pair.read_all(pair.server, stream_id, min(5000, len(data) - len(got)))[0]
        more()
    pair.network.loss = 0.0
    pair.run_for(60.0)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])


def test_refusals_are_understood(pair: EnginePair) -> None:
    """With alert, name and subject, on both sides."""
    pair.begin(credentials=pair.kit.stranger)
    pair.run_until(lambda: bool(pair.client.of(Closed)) and bool(pair.server.of(HandshakeRefused)))
    (closed,), (refused,) = pair.client.of(Closed), pair.server.of(HandshakeRefused)
    assert (closed.kind, closed.code, closed.reason) == (CloseKind.PEER_TRANSPORT, 0x100 + 48, refused.reason)
    assert (refused.alert, refused.server_name, refused.subject) == (48, "hub.test", "CN=mallory")
    other = pair.begin(server_name="other.test")
    pair.run_until(lambda: len(pair.client.of(Closed)) == 2)
    assert pair.client.of(Closed)[1].connection_id == other
    assert pair.client.of(Closed)[1].code == 0x100 + 112


def test_a_hub_may_come_back_with_the_other_engine(pair: EnginePair, native: Kit) -> None:
    """Its resets are made from the same key in the same way, so they end what the other engine left behind."""
    pair.connect()
    assert pair.client.of(Connected) != []
    stream_id = pair.open()
    pair.server.node.crash()
    other = REAL["aioquic"]() if pair.kit.name == "native" else native
    pair.server.restart(other.make(Limits(), reset_key=KEY))
    pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert pair.client.of(Closed)[0].kind is CloseKind.RESET
