"""The numbers of a log are those that one gets by counting, however the log is cut into partitions and delivered."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import groupby
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.contract.codes import Code
from spnhub.analytics.totals import Total
from spnhub.events.analysis.metrics import (
    BOUNDS,
    CORRECTIONS,
    COUNTERS,
    GAUGES,
    HISTOGRAMS,
    HOUR,
    Histogram,
    LogMetrics,
    refused_service,
)
from spnhub.events.analysis.report import hours_of, quantile, report
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    HubStarted,
    ProviderFailed,
    Recorded,
    SessionEnded,
    SessionRefused,
    SessionStarted,
)
from tests.events import samples
from tests.events.histories import History, in_partitions
from tests.events.samples import NOON, SERVICE

seeds = st.integers(0, 2**32)


def history(seed: int, steps: int = 120) -> History:
    """Random, and the same for the same seed."""
    return History(random.Random(seed)).run(steps)


def folded(events: list[Recorded], *, hours: bool = False, since_start: bool = False) -> LogMetrics:
    metrics = LogMetrics(hours=hours, since_start=since_start)
    metrics.apply_all(events)
    return metrics


def told(*metrics: LogMetrics) -> object:
    """Everything that several folds tell together."""
    total = Total(metrics, ())
    return (
        {name: +counter for name, counter in total.gauges.items()},
        {name: +counter for name, counter in total.counters.items()},
        {
            name: {labels: (one.buckets, round(one.total, 6), one.highest) for labels, one in found.items()}
            for name, found in total.histograms.items()
        },
    )


# ---- by hand -----------------------------------------------------------------------------------------------------


def test_a_day() -> None:
    """Two sessions, a connection and two refusals, as a program gets them."""
    shown = report(folded(samples.record(samples.day())))
    (service,) = shown["services"]
    one_second = {"count": 1, "mean": 1.0, "median": 1.0, "p95": 1.0, "max": 1.0}
    assert service == {
        "realm": "acme",
        "serviceUrn": SERVICE,
        "sessions": {
            "serviceProvider": {"live": 0, "total": 1, "elapsedTime": one_second},
            "serviceConsumer": {"live": 0, "total": 1, "elapsedTime": one_second},
        },
        "connections": {
            "live": 0,
            "total": 1,
            "resumed": 0,
            "finished": 0,
            "lost": {},
            "elapsedTime": {"count": 1, "mean": 0.5, "median": 0.5, "p95": 0.5, "max": 0.5},
        },
        "totalSentBytes": 100,
        "replayedSentBytes": 0,
        "totalReceiveBytes": 2000,
        "replayedReceiveBytes": 0,
        "terminateReasons": {"terminatedByPeer": 2},
        "disconnectReasons": {"closedByPeer": 1},
        "refused": {"sessions": {}, "connections": {"18": 1}, "resumes": {}},
        "pauses": {"planned": 0, "unplanned": 0, "seconds": None},
        "starts": {"latency": None},
    }
    assert shown["handshakesRefused"] == [{"hubId": "hub-1", "realm": None, "alert": 48, "count": 3}]
    assert shown["hubs"] == [
        {
            "hubId": "hub-1",
            "events": 8,
            "lost": 0,
            "lastSequence": 8,
            "lastTimestamp": "2026-01-02T12:00:00.007000Z",
        }
    ]


def test_providers_that_fail() -> None:
    """How often one became passed over, and how many attempts it cost, by code; an attempt is a leg, and no pause."""
    failed = ProviderFailed(
        realm="acme",
        network_urn=None,
        spn_session_id="p1",
        service_urn=SERVICE,
        failures=1,
        passed_over_until=NOON,
        code=Code.CONNECT_FAILED,
    )
    events = [
        samples.connection_started(ident="4-1"),
        failed,
        replace(samples.connection_ended(ident="4-1", total=(0, 0), rejected=True), code=Code.CONNECT_FAILED),
        samples.connection_started(ident="4-5", provider="p2"),
        samples.connection_ended(ident="4-5", provider="p2", total=(3, 4)),
    ]
    metrics = folded(samples.record(events))
    where = ("hub-1", "acme", SERVICE)
    assert metrics.counters["provider_failures"] == {(*where, "32"): 1}
    assert metrics.counters["connections_rejected"] == {(*where, "32"): 1}
    assert metrics.counters["connections_started"] == {where: 2}
    assert {labels[-1]: number for labels, number in metrics.counters["bytes"].items()} == {"sent": 3, "received": 4}
    assert not metrics.counters["bytes_unreported"]
    assert metrics.live("connections") == {}


def test_what_is_live() -> None:
    """What has started and not ended; an end of something unknown takes nothing away."""
    day = samples.day()
    metrics = folded(samples.record(day[:3]))
    assert metrics.live("sessions") == {
        ("hub-1", "acme", SERVICE, "serviceProvider"): 1,
        ("hub-1", "acme", SERVICE, "serviceConsumer"): 1,
    }
    assert metrics.live("connections") == {("hub-1", "acme", SERVICE): 1}
    headless = folded(samples.record(day[4:], first=5))
    assert headless.live("sessions") == headless.live("connections") == Counter()
    assert headless.counters["connections_ended"] == {("hub-1", "acme", SERVICE, "closedByPeer"): 1}


def test_another_journal_of_the_same_hub() -> None:
    """What the hub's journal before left open is open no longer."""
    metrics = folded(samples.record(samples.day()[:3]))
    metrics.apply_all(samples.record([samples.session_refused()], journal_id=UUID(int=7)))
    assert metrics.live("sessions") == metrics.live("connections") == Counter()
    assert (metrics.hubs()["hub-1"].events, metrics.hubs()["hub-1"].last_sequence) == (4, 1)


def moved(*, told: tuple[int, int], arrived: tuple[int, int], suspended: bool = True) -> list[Recorded]:
    """A connection whose first leg told one number, and whose second began at another; both passed on 50 more."""
    one = samples.record(
        [
            samples.connection_started(),
            samples.connection_ended(total=told, suspended=suspended, reason=DisconnectReason.ERROR),
        ]
    )
    two = samples.record(
        [
            samples.connection_started(epoch=1, start=arrived),
            ConnectionResumed(
                realm="acme",
                network_urn=None,
                spn_connection_id="4-1",
                consumer_side_spn_session_id="c1",
                provider_side_spn_session_id="p1",
                service_urn=SERVICE,
                connection_uid="ab" * 16,
                epoch=1,
            ),
            samples.connection_ended(epoch=1, start=arrived, total=(50, 50)),
        ],
        hub_id="hub-2",
        start=NOON + HOUR,
    )
    return one + two


def test_replayed_bytes_count_once() -> None:
    """D-10: the next leg's start replaces an end that was too high, or too low; also in the hour of that end."""
    high, low = moved(told=(100, 2000), arrived=(80, 2000)), moved(told=(0, 0), arrived=(80, 2000))
    for events, replayed in ((high, 20), (low, 0)):
        (service,) = report(folded(events))["services"]
        assert (service["totalSentBytes"], service["totalReceiveBytes"]) == (130, 2050)
        assert (service["replayedSentBytes"], service["replayedReceiveBytes"]) == (replayed, 0)
        assert (service["pauses"]["seconds"]["count"], service["connections"]["resumed"]) == (1, 1)
        assert service["pauses"]["seconds"]["max"] == 3600.0
        for order in ((0, 1, 2, 3, 4), (2, 3, 4, 0, 1), (2, 0, 1, 3, 4)):
            hours = hours_of(folded([events[place] for place in order], hours=True))
            assert [(one["hour"], one["totalSentBytes"]) for one in hours] == [
                ("2026-01-02T12:00:00.000000Z", 80),
                ("2026-01-02T13:00:00.000000Z", 50),
            ]


def test_an_end_that_is_told_late() -> None:
    """The dead hub's next start tells of the first leg after the second has begun, or even ended."""
    events = moved(told=(100, 2000), arrived=(80, 2000))
    for order in ((2, 3, 0, 1, 4), (2, 3, 4, 0, 1)):
        (service,) = report(folded([events[place] for place in order]))["services"]
        assert (service["totalSentBytes"], service["replayedSentBytes"]) == (130, 20)
        assert service["pauses"]["seconds"]["count"] == 1


def test_histograms() -> None:
    """A value is in the first bucket whose bound it isn't above; quantiles lie between the bounds."""
    histogram = Histogram()
    for value in (0.005, 0.006, 2.0, 200_000.0):
        histogram.add(value)
    assert [number for number in histogram.buckets if number] == [1, 1, 1, 1]
    assert (histogram.buckets[0], histogram.buckets[-1], histogram.count, histogram.highest) == (1, 1, 4, 200_000.0)
    assert 0.005 <= quantile(histogram, 0.5) <= 0.01
    assert quantile(histogram, 1) == 200_000.0
    assert quantile(Histogram(), 0.5) == 0.0
    assert list(BOUNDS) == sorted(BOUNDS)


# ---- at random ---------------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(seeds)
def test_every_number_is_a_recount(seed: int) -> None:
    """Counting the events of a random history one kind at a time gives the same."""
    events = history(seed).events
    metrics = folded(events)

    def count(kind: type, *labels: str) -> Counter[tuple[str, ...]]:
        return Counter(
            (one.hub_id, one.event.realm or "", *(str(getattr(one.event, label)) for label in labels))
            for one in events
            if type(one.event) is kind
        )

    service = "service_urn"
    started, ended = (count(kind, service, "end_point_type") for kind in (SessionStarted, SessionEnded))
    assert metrics.counters["sessions_started"] == started
    assert metrics.live("sessions") == started - ended
    opened, closed = count(ConnectionStarted, service), count(ConnectionEnded, service)
    assert metrics.counters["connections_started"] == opened
    assert metrics.live("connections") == opened - closed
    assert metrics.counters["connections_ended"] == count(ConnectionEnded, service, "disconnect_reason")
    assert metrics.counters["sessions_ended"] == count(SessionEnded, service, "end_point_type", "terminate_reason")
    assert metrics.counters["connections_refused"] == count(ConnectionRefused, service, "code")
    assert metrics.counters["connections_resumed"] == count(ConnectionResumed, service)
    assert metrics.counters["connections_paused"].total() == count(ConnectionPaused).total()
    handshakes = [one.event.count for one in events if isinstance(one.event, SessionRefused) and one.event.alert]
    assert metrics.counters["handshakes_refused"].total() == sum(handshakes)
    assert sum(one.count for one in metrics.histograms["connection_duration_seconds"].values()) == closed.total()


@settings(deadline=None, max_examples=100)
@given(seeds, seeds)
def test_bytes_are_what_arrived(seed: int, other: int) -> None:
    """D-10: whatever hubs told twice or not at all, the sum is what arrived, in whatever order their logs come."""
    made = history(seed, 200)
    chance = random.Random(other)
    queues = [list(group) for _, group in groupby(sorted(made.events, key=lambda e: e.hub_id), lambda e: e.hub_id)]
    shuffled = []
    while queues := [queue for queue in queues if queue]:
        shuffled.append(chance.choice(queues).pop(0))
    arrived = Counter[tuple[str, str]]()
    for one in made.conversations:
        leg = one.leg
        # Of a leg that is open its progress has been told, of a suspended one too much or too little.
        if leg is not None:
            arrived[one.service, "sent"] += leg.start_sent_offset + one.told[0]
            arrived[one.service, "received"] += leg.start_receive_offset + one.told[1]
            continue
        if one.finished:
            arrived[one.service, "sent"] += one.sent
            arrived[one.service, "received"] += one.receive
            continue
        end = next(
            e.event
            for e in reversed(made.events)
            if isinstance(e.event, ConnectionEnded) and e.event.connection_uid == one.uid
        )
        arrived[one.service, "sent"] += end.start_sent_offset + end.total_sent_bytes
        arrived[one.service, "received"] += end.start_receive_offset + end.total_receive_bytes
    in_order = folded(made.events, hours=True)
    assert hours_of(folded(shuffled, hours=True)) == hours_of(in_order)
    for metrics in (in_order, folded(shuffled, hours=True)):
        counted = Counter[tuple[str, str]]()
        for name, sign in (("bytes", 1), ("bytes_unreported", 1), ("bytes_replayed", -1)):
            for (_, _, service, direction), number in metrics.counters[name].items():
                counted[service, direction] += sign * number
        assert +counted == +arrived
        by_hour = Counter[tuple[str, str]]()
        assert metrics.hours is not None
        for (_, _, service, direction), number in metrics.hours.items():
            by_hour[service, direction] += number
        assert +by_hour == +arrived


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 5), seeds, st.booleans())
def test_partitions_add_up(seed: int, partitions: int, other: int, since_start: bool) -> None:
    """Each partition folded by itself, with redeliveries, and anew from its beginning: together they tell the same."""
    chance = random.Random(other)
    events = history(seed).events
    whole = folded(events, since_start=since_start)
    parts = in_partitions(events, partitions)
    folds = []
    for part in parts:
        metrics, place = LogMetrics(since_start=since_start), 0
        while place < len(part):
            # After a failure the shipper sends again what it isn't sure of.
            place = max(0, place - chance.randrange(4))
            upto = place + chance.randrange(1, 9)
            metrics.apply_all(part[place:upto])
            place = upto
        folds.append(metrics)
    assert told(*folds) == told(whole)
    assert told(*(folded(part, since_start=since_start) for part in parts)) == told(whole)
    if since_start:
        assert sum(facts.events for fold in folds for facts in fold.hubs().values()) == sum(
            facts.events for facts in whole.hubs().values()
        )
    assert set(whole.counters) == COUNTERS.keys() | CORRECTIONS.keys() and set(whole.histograms) == set(HISTOGRAMS)


@settings(deadline=None, max_examples=100)
@given(seeds)
def test_since_the_start(seed: int) -> None:
    """A hub's numbers are those of what is behind its last start; only what legs tell of each other reaches further."""
    events = history(seed).events
    starts = {one.hub_id: one.sequence for one in events if isinstance(one.event, HubStarted)}
    behind = [one for one in events if one.sequence > starts.get(one.hub_id, 0)]
    found, expected = folded(events, since_start=True), folded(behind)
    for name in COUNTERS:
        assert found.counters[name] == expected.counters[name], name
    for name in HISTOGRAMS.keys() - {"pause_duration_seconds"}:
        assert found.histograms[name] == expected.histograms[name], name
    for name in GAUGES:
        assert found.live(name) == expected.live(name), name
    counted = Counter(one.hub_id for one in behind)
    assert {hub: facts.events for hub, facts in found.hubs().items() if facts.events} == counted


def test_a_start_ends_what_the_log_lacks_the_end_of() -> None:
    """And numbers of another hub stay."""
    start = HubStarted(realm=None, network_urn=None, version="1", addresses=())
    for since_start, total in ((True, 0), (False, 1)):
        metrics = folded(samples.record(samples.day()[:3], hub_id="hub-2"), since_start=since_start)
        metrics.apply_all(samples.record([*samples.day()[:3], start]))
        assert (
            {hub for hub, *_ in metrics.live("sessions")}
            == {hub for hub, *_ in metrics.live("connections")}
            == {"hub-2"}
        )
        assert metrics.counters["connections_started"]["hub-1", "acme", SERVICE] == total
        assert metrics.counters["connections_started"]["hub-2", "acme", SERVICE] == 1


def test_what_anybody_may_write_is_no_label() -> None:
    """The service of a refused session counts only when the service refused; the codes are the protocol's."""
    for code in Code:
        event = SessionRefused(realm="acme", network_urn=None, service_urn="urn:x", code=code)
        of_service = code >= Code.NOT_ALLOWED and code is not Code.UNKNOWN_SERVICE
        assert refused_service(event) == ("urn:x" if of_service else "")
    refused = [SessionRefused(realm="acme", network_urn=None, service_urn="urn:x", code=code) for code in (17, 4711)]
    metrics = folded(samples.record(refused))
    assert metrics.counters["sessions_refused"] == {
        ("hub-1", "acme", "", "17"): 1,
        ("hub-1", "acme", "urn:x", "other"): 1,
    }


def test_roles_are_those_of_the_spec() -> None:
    """Labels hold the spec's names."""
    assert {str(role) for role in EndPointType} == {"serviceProvider", "serviceConsumer"}
