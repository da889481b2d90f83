"""What a session may do how often, in virtual time; its floods cost the others neither their turn nor the log."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import (
    CloseRequest,
    DataAck,
    Opening,
    OpeningKind,
    ResumeAck,
    ResumeRequest,
    SetWeight,
)
from spnhub.events.model import ConnectionStarted, LimitReached, ResumeRefused, SessionEnded, WeightChanged
from spnhub.transport import protocol
from spnhub.transport.hub.rates import Rate, SessionRates, TokenBucket
from tests.transport.hub.bench import REALM, SECRET, UID, Bench, Peer

RATES: Final = SessionRates(
    control_packets=Rate(1_000, 2_000),
    openings=Rate(10, 50),
    resets=Rate(10, 50),
    weights=Rate(10, 20),
    resumes=Rate(10, 50),
)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(1, 30)), max_size=50))
def test_a_bucket_never_gives_more_than_its_rate(asked: list[tuple[float, int]]) -> None:
    """In any time: the burst, and so many a second; and who stays below gets everything."""
    rate, now, given = Rate(5, 20), 0.0, 0
    bucket = TokenBucket(rate, now)
    for pause, count in asked:
        now += pause
        if bucket.take(now, count):
            given += count
        assert given <= rate.burst + rate.per_second * now + 1e-6
    patient = TokenBucket(rate, 0.0)
    assert all(patient.take(second * 1.0, 5) for second in range(1, 100))


def weights(peer: Peer, count: int) -> None:
    """So many changes of weight at once, each another."""
    for first in range(0, count, 1000):
        peer.write(0, b"".join(protocol.encode(SetWeight(n % 7 + 1)) for n in range(first, min(count, first + 1000))))


def limits(bench: Bench) -> list[tuple[str, str | None]]:
    """Which limits the log says were reached, and whose."""
    bench.settle(2.0)
    return sorted({(event.limit, event.realm) for event in bench.events(LimitReached)})


def test_weights_beyond_the_rate() -> None:
    """The session ends with LIMIT and the limit's name; what came before is in the log, and its number."""
    bench = Bench(rates=RATES)
    provider = bench.provider()
    weights(provider, 500)
    bench.settle()
    assert provider.closed is not None
    assert (provider.closed.code, provider.closed.reason) == (Code.LIMIT, "more than 10 per second weightChanges")
    (ended,) = bench.events(SessionEnded)
    assert (ended.code, ended.reason) == (Code.LIMIT, "more than 10 per second weightChanges")
    assert 15 <= len(bench.events(WeightChanged)) <= 20
    assert limits(bench) == [("weightChanges", REALM)]


def test_honest_changes_of_weight() -> None:
    """As many as the rate allows, for as long as one likes."""
    bench = Bench(rates=RATES)
    provider = bench.provider()
    for n in range(100):
        provider.send(SetWeight(n % 7 + 1))
        bench.settle(0.1)
    assert provider.closed is None
    assert limits(bench) == []


@pytest.mark.parametrize("packet", ["unknown", "CloseRequest", "DataAck"])
def test_control_packets_beyond_the_rate(packet: str) -> None:
    """Of whatever kind."""
    bench = Bench(rates=RATES)
    bench.provider()
    consumer = bench.consumer()
    data = {
        "unknown": bytes((200, 1, 0, 0)),
        "CloseRequest": protocol.encode(CloseRequest(UID, 0, 0, 0, False)),
        "DataAck": protocol.encode(DataAck(())),
    }[packet]
    for _ in range(60):
        if consumer.closed is None:
            consumer.write(0, data * 50)
            bench.settle(0.005)
    assert consumer.closed is not None
    assert (consumer.closed.code, consumer.closed.reason) == (Code.LIMIT, "more than 1000 per second controlPackets")
    assert limits(bench) == [("controlPackets", REALM)]


def test_openings_beyond_the_rate() -> None:
    """Each is refused with LIMIT, the session stays, and opens again when time has passed."""
    bench = Bench(rates=RATES)
    provider, consumer = bench.provider(), bench.consumer()
    opened = [consumer.open(Opening(OpeningKind.OPEN, f"{n:032x}", SECRET)) for n in range(80)]
    bench.settle()
    refused = [one for one in opened if consumer.streams[one].reset == Code.LIMIT]
    assert refused == opened[50:]
    assert consumer.closed is None
    assert len(bench.events(ConnectionStarted)) == 50
    assert limits(bench) == [("openings", REALM)]
    (event,) = bench.events(LimitReached)[:1]
    assert event.bound == 10
    assert sum(event.count for event in bench.events(LimitReached)) == 30
    bench.leg(consumer, provider, "ff" * 16)


def test_resets_beyond_the_rate() -> None:
    """Streams that are opened and given up at once: the session ends."""
    bench = Bench(rates=SessionRates(resets=Rate(10, 50)))
    bench.provider()
    consumer = bench.consumer()
    for n in range(80):
        if consumer.closed is None:
            consumer.abort(consumer.open(Opening(OpeningKind.OPEN, f"{n:032x}", SECRET)), Code.PEER_RESET)
            bench.settle(0.01)
    assert consumer.closed is not None
    assert (consumer.closed.code, consumer.closed.reason) == (Code.LIMIT, "more than 10 per second resets")
    assert limits(bench) == [("resets", REALM)]


def test_resumes_beyond_the_rate() -> None:
    """Each is refused with LIMIT, which may be tried again; the log has the number of them, not each."""
    bench = Bench(rates=RATES)
    bench.provider()
    consumer = bench.consumer()
    for n in range(80):
        consumer.send(ResumeRequest(f"{n:032x}", SECRET, 1, 0, peer="CN=nobody", instance_id="x"))
    bench.settle()
    answers = [packet for packet in consumer.control if isinstance(packet, ResumeAck)]
    assert [(answer.code, answer.retryable) for answer in answers].count((Code.LIMIT, True)) == 30
    assert len(answers) == 80
    assert len(bench.events(ResumeRefused)) == 50
    assert consumer.closed is None
    assert limits(bench) == [("resumeRequests", REALM)]


def test_a_flood_waits_behind_its_own() -> None:
    """3,000 control packets came before the other's opening, which is handled before most of them."""
    bench = Bench(rates=SessionRates(weights=Rate(5_000, 5_000)))
    provider, consumer = bench.provider(), bench.consumer()
    hostile = bench.provider("hostile")
    provider.send(SetWeight(1_000_000))
    bench.settle()
    weights(hostile, 3000)
    consumer.open(Opening(OpeningKind.OPEN, UID, SECRET))
    bench.settle()
    kinds = [type(recorded.event) for recorded in bench.journal.records]
    before = kinds[: kinds.index(ConnectionStarted)].count(WeightChanged)
    assert before < 1000
    assert kinds.count(WeightChanged) == 3001
    assert hostile.closed is None


def test_what_came_before_the_end_of_a_session_is_read() -> None:
    """Also where it was more than one turn takes: the last word is behind it."""
    bench = Bench(rates=SessionRates(weights=Rate(5_000, 5_000)))
    provider = bench.provider()
    bench.node.freeze()
    weights(provider, 1000)
    bench.settle()
    provider.close()
    bench.settle()
    bench.node.thaw()
    bench.settle()
    assert len(bench.events(WeightChanged)) == 1000
    assert len(bench.events(SessionEnded)) == 1


def test_nothing_is_kept_of_who_is_quiet() -> None:
    """A session has a bucket of what it does only."""
    bench = Bench()
    bench.provider()
    bench.consumer()
    assert [set(session.buckets) for session in bench.server.sessions] == [{"control_packets"}] * 2
