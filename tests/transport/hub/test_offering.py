"""An opening that one provider doesn't take goes to the next one: the streams, and bytes behind the header (D-35)."""

from __future__ import annotations

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, Opening, OpeningKind
from spnhub.events.model import ConnectionEnded, ConnectionStarted, ProviderFailed
from spnhub.transport import protocol
from tests.transport.hub.bench import SECRET, UID, Bench, Peer

OPEN = Opening(OpeningKind.OPEN, UID, SECRET)
NO = protocol.encode(Accept(OpeningKind.OPEN, Code.CONNECT_FAILED, "refused"))
YES = protocol.encode(Accept(OpeningKind.OPEN))


@pytest.fixture
def bench() -> Bench:
    """A hub."""
    return Bench()


@pytest.fixture
def first(bench: Bench) -> Peer:
    """The provider that is asked first."""
    return bench.provider("p1")


@pytest.fixture
def second(bench: Bench, first: Peer) -> Peer:
    """The one that is asked then."""
    return bench.provider("p2")


@pytest.fixture
def consumer(bench: Bench, second: Peer) -> Peer:
    """With a session."""
    return bench.consumer()


def only(peer: Peer) -> int:
    """The one data stream that it has."""
    (stream_id,) = set(peer.streams) - {0}
    return stream_id


def passes(bench: Bench, consumer: Peer, cs: int, second: Peer) -> None:
    """The second takes it: the consumer hears of that only, and each byte passes once."""
    ps = only(second)
    opening, rest = second.header(ps, Opening)
    assert (opening.connection_uid, opening.resume_secret, opening.peer, rest) == (UID, SECRET, "CN=client", b"")
    second.write(ps, YES + b"hello", fin=True)
    bench.settle()
    accept, rest = consumer.header(cs, Accept)
    assert (accept.code, accept.instance_id, rest, consumer.streams[cs].fin) == (0, "p2", b"hello", True)
    consumer.write(cs, b", world", fin=True)
    bench.settle()
    assert second.header(ps, Opening)[1] == b"early, world"
    assert second.streams[ps].fin
    assert (consumer.streams[cs].reset, consumer.streams[cs].stopped) == (None, None)


@pytest.mark.parametrize("end", ["FIN", "reset", "reset alone"])
def test_bytes_behind_the_header(bench: Bench, first: Peer, second: Peer, consumer: Peer, end: str) -> None:
    """What the consumer has sent already waits for whoever takes it; what the first says more means nothing."""
    cs = consumer.open(OPEN, b"early")
    bench.settle()
    ps = only(first)
    assert first.header(ps, Opening)[1] == b""
    match end:
        case "FIN":
            first.write(ps, NO, fin=True)
        case "reset":
            first.engine.write(first.connection_id, ps, NO)
            first.abort(ps, Code.CONNECT_FAILED)
        case _:
            first.abort(ps, Code.CONNECT_FAILED)
    bench.settle()
    assert first.header(ps, Opening)[1] == b""
    passes(bench, consumer, cs, second)
    starts, ends = bench.events(ConnectionStarted), bench.events(ConnectionEnded)
    assert [event.provider_side_spn_session_id for event in starts] != [starts[0].provider_side_spn_session_id] * 2
    assert ends[0].spn_connection_id == starts[0].spn_connection_id
    assert (ends[0].rejected, ends[0].total_sent_bytes, ends[0].code) == (True, 0, Code.CONNECT_FAILED)
    assert len(bench.events(ProviderFailed)) == 1


def test_a_session_that_is_lost(bench: Bench, first: Peer, second: Peer, consumer: Peer) -> None:
    """With the openings that it has not answered."""
    cs = consumer.open(OPEN, b"early")
    bench.settle()
    first.close(Code.INTERNAL)
    bench.settle()
    passes(bench, consumer, cs, second)


def test_a_silent_provider(bench: Bench, first: Peer, second: Peer, consumer: Peer) -> None:
    """What it hasn't answered goes to the other one; the stream that it finds when it is back is reset."""
    bench.network.cut(bench.node, first.node, seconds=4.0)
    cs = consumer.open(OPEN, b"early")
    bench.settle(5.0)
    ps = only(first)
    assert (first.streams[ps].reset, first.streams[ps].stopped) == (Code.CONNECT_TIMEOUT, Code.CONNECT_TIMEOUT)
    passes(bench, consumer, cs, second)


def test_nobody_takes_it(bench: Bench, first: Peer, second: Peer, consumer: Peer) -> None:
    """The last reason is the consumer's."""
    cs = consumer.open(OPEN, b"early")
    bench.settle()
    first.write(only(first), NO, fin=True)
    bench.settle()
    second.write(only(second), protocol.encode(Accept(OpeningKind.OPEN, Code.LIMIT, "full")), fin=True)
    bench.settle()
    accept, rest = consumer.header(cs, Accept)
    assert (accept.code, accept.reason, rest, consumer.streams[cs].fin) == (Code.LIMIT, "full", b"", True)
    assert [event.code for event in bench.events(ConnectionEnded)] == [Code.CONNECT_FAILED, Code.LIMIT]
