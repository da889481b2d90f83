"""What a session may do how often, in virtual time; its floods cost the others neither their turn nor the log."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.actors.contract.packets import (
    AllConnectionsClosed,
    CloseRequest,
    DataAck,
    Opening,
    OpeningKind,
    ResumeAck,
    ResumeRequest,
    SetWeight,
)
from spnhub.events.model import (
    ConnectionStarted,
    EndPointType,
    LimitReached,
    ResumeRefused,
    SessionEnded,
    WeightChanged,
)
from spnhub.transport import protocol
from spnhub.transport.hub.rates import Rate, Rates, RealmRates, SessionRates, TokenBucket
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
    for n in range(40):
        if provider.closed is None:
            provider.send(SetWeight(n % 7 + 1))
            bench.settle(0.001)
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
    """370 requests came before the other's opening, which is handled before most of them."""
    bench = Bench()
    provider, consumer = bench.provider(), bench.consumer()
    hostile = bench.provider("hostile")
    provider.send(SetWeight(1_000_000))
    bench.settle()
    requests = [ResumeRequest(f"{n:032x}", SECRET, 1, 0, peer="CN=nobody", instance_id="x") for n in range(370)]
    hostile.write(0, b"".join(map(protocol.encode, requests)))
    consumer.open(Opening(OpeningKind.OPEN, UID, SECRET))
    bench.settle()
    kinds = [type(recorded.event) for recorded in bench.journal.records]
    before = kinds[: kinds.index(ConnectionStarted)].count(ResumeRefused)
    assert before < 185
    assert kinds.count(ResumeRefused) == 370
    assert hostile.closed is None


def test_weights_that_are_read_together_are_one() -> None:
    """The last; each counts in the rate."""
    bench = Bench(rates=RATES)
    provider = bench.provider()
    known = {event.new_weight for event in bench.events(WeightChanged)}
    provider.write(0, b"".join(protocol.encode(SetWeight(weight)) for weight in (5, 6, 0, 7, 8)))
    bench.settle()
    assert [event.new_weight for event in bench.events(WeightChanged) if event.new_weight not in known] == [8]
    assert AllConnectionsClosed() not in provider.control
    provider.write(0, b"".join(protocol.encode(SetWeight(weight)) for weight in range(15)))
    bench.settle()
    assert bench.events(WeightChanged)[-1].new_weight == 14
    provider.send(SetWeight(3))
    bench.settle()
    assert provider.closed is not None and provider.closed.code == Code.LIMIT


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
    assert bench.events(WeightChanged)[-1].new_weight == 999 % 7 + 1
    assert len(bench.events(SessionEnded)) == 1


def test_nothing_is_kept_of_who_is_quiet() -> None:
    """A session has a bucket of what it does only."""
    bench = Bench()
    bench.provider()
    bench.consumer()
    assert [set(session.buckets) for session in bench.server.sessions] == [{"control_packets"}] * 2


# Of a realm ----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 10), st.integers(0, 60)), max_size=50))
def test_what_has_happened_is_counted(spent: list[tuple[float, int]]) -> None:
    """Something is left as long as no more was spent than the rate gives; a debt is paid within a burst's time."""
    rate, now, total = Rate(5, 20), 0.0, 0
    bucket = TokenBucket(rate, now)
    for pause, count in spent:
        now += pause
        total += count
        left = bucket.spend(now, count)
        assert left or total >= rate.burst
    assert bucket.spend(now + 2 * rate.burst / rate.per_second + 0.1, 0)


def test_rates_of_the_inventory() -> None:
    """A realm's own stand in place of the defaults, each by itself."""
    assert RealmRates.of(RealmDefinition("acme", ())) == RealmRates()
    own = RealmRates.of(RealmDefinition("acme", (), max_handshake_rate=5, max_event_rate=7))
    assert own == RealmRates(handshakes=Rate(5, 50), events=Rate(7, 70))
    assert RealmRates.of(RealmDefinition("acme", (), max_journal_rate=9)) == RealmRates(journal_bytes=Rate(9, 90))


def test_handshakes_beyond_the_realms_rate() -> None:
    """Each is closed with LIMIT and the reason; those that are there stay, and time brings others."""
    bench = Bench(realm_rates=RealmRates(handshakes=Rate(2, 3)))
    provider = bench.provider()
    peers = [Peer(bench, EndPointType.CONSUMER, "client", f"c{n}") for n in range(6)]
    bench.settle(0.3)
    refused = [peer.closed for peer in peers if peer.closed is not None]
    assert len(refused) == 4
    assert {(one.code, one.reason) for one in refused} == {
        (Code.LIMIT, "realm acme has more than 2 per second realmHandshakes")
    }
    assert provider.closed is None
    assert limits(bench) == [("realmHandshakes", REALM)]
    assert sum(event.count for event in bench.events(LimitReached)) == 4
    bench.consumer(instance_id="later")


@pytest.mark.parametrize(
    ("rates", "limit"),
    [
        (RealmRates(events=Rate(10, 60)), "realmEvents"),
        (RealmRates(journal_bytes=Rate(3_000, 20_000)), "realmJournalBytes"),
    ],
)
def test_events_beyond_the_realms_rate(rates: RealmRates, limit: str) -> None:
    """Nothing more begins in the realm, and nothing of it is logged one by one; what is open goes on."""
    bench = Bench(realm_rates=rates)
    provider, consumer = bench.provider(), bench.consumer()
    leg = bench.leg(consumer, provider)
    refused = []
    for n in range(200):
        stream = consumer.open(Opening(OpeningKind.OPEN, f"{n:032x}", SECRET))
        bench.settle(0.005)
        consumer.abort(stream, 40)
        if consumer.streams[stream].reset == Code.LIMIT:
            refused.append(stream)
    assert len(refused) > 100
    before = len(bench.journal.records)
    late = Peer(bench, EndPointType.CONSUMER, "client", "c2")
    consumer.send(ResumeRequest("77" * 16, SECRET, 1, 7, False, 0, "CN=server", "p1"))
    bench.settle()
    assert late.closed is not None
    assert late.closed.code == Code.LIMIT
    answer = consumer.take(ResumeAck)
    assert (answer.code, answer.retryable) == (Code.LIMIT, True)
    assert limit in answer.reason
    assert len(bench.journal.records) <= before + 2
    # The connection that was there: its bytes pass, and its end is in the log.
    leg.consumer.write(leg.cs, b"still here", fin=True)
    bench.settle()
    assert provider.streams[leg.ps].data.endswith(b"still here")
    assert limits(bench) == [(limit, REALM)]
    bench.settle(30.0)
    bench.leg(consumer, provider, "ff" * 16)


def test_weights_of_a_realm_beyond_its_rate() -> None:
    """They aren't logged, and are counted; of each session the last is applied when the realm is below it again."""
    bench = Bench(realm_rates=RealmRates(events=Rate(10, 60)))
    provider, other = bench.provider(), bench.provider("other")
    for n in range(90):
        provider.send(SetWeight(n + 1))
        bench.settle(0.02)
    assert 40 <= len(bench.events(WeightChanged)) < 90
    other.send(SetWeight(7))
    other.send(SetWeight(0))
    bench.settle(0.1)
    applied = bench.events(WeightChanged)
    assert provider.closed is None
    assert other.closed is None
    bench.settle(10.0)
    assert sorted(event.new_weight for event in bench.events(WeightChanged)[len(applied) :]) == [0, 90]
    assert limits(bench) == [("realmEvents", REALM)]


def test_rates_that_a_reload_changes() -> None:
    """They hold from then on, and who has the same ones goes on with what it has left."""
    rates = Rates()
    rates.set_realms({"a": RealmRates(handshakes=Rate(1, 1)), "b": RealmRates(handshakes=Rate(1, 1))})
    assert [rates.refuse_session(one, 0.0) is None for one in ("a", "a", "b", "b")] == [True, False, True, False]
    rates.set_realms({"a": RealmRates(handshakes=Rate(1, 2)), "b": RealmRates(handshakes=Rate(1, 1))})
    assert [rates.refuse_session(one, 0.0) is None for one in ("a", "a", "b", "c")] == [True, True, False, True]
    assert rates.take_exceeded() == {("a", "realmHandshakes", 1): 1, ("b", "realmHandshakes", 1): 2}
