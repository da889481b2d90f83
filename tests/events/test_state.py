"""The fold: what sessions and connections are after their events, and what doesn't fit."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spnhub.events.model import (
    DisconnectReason,
    EndPointType,
    Event,
    SessionEnded,
    SessionStarted,
    TerminateReason,
)
from spnhub.events.state.entities import (
    ConnectionKey,
    OpenConnection,
    OpenSession,
    apply_connection,
    apply_session,
    connection_started,
    session_started,
)
from spnhub.events.state.hub_state import FaultKind, HubState
from tests.events import samples
from tests.events.samples import NOON


def test_a_session_holds_what_the_spec_says() -> None:
    """R-2.4, completed with the realm, the network, the instance and the weight."""
    state = session_started(samples.session_started("c1"), NOON)
    assert state == OpenSession(
        realm="acme",
        network_urn=samples.NETWORK,
        spn_session_id="c1",
        spn_end_point="CN=c1,O=Acme",
        end_point_type=EndPointType.CONSUMER,
        service_urn=samples.SERVICE,
        instance_id="c1-instance",
        weight=100,
        start_at=NOON,
    )
    assert state.elapsed(NOON + 1_500_000) == 1.5
    assert state.elapsed(NOON - 1) == 0


def test_a_session_counts_its_legs_and_ends() -> None:
    """totalConnectionCount counts the legs that name it, on either side; other events leave it as it is."""
    consumer = session_started(samples.session_started("c1"), NOON)
    provider = session_started(samples.session_started("p1", EndPointType.PROVIDER), NOON)
    for event in samples.day()[2:]:
        consumer, provider = apply_session(consumer, event), apply_session(provider, event)
    assert (consumer.total_connection_count, provider.total_connection_count) == (1, 1)
    assert consumer.terminate_reason is provider.terminate_reason is TerminateReason.TERMINATED_BY_PEER
    assert apply_session(consumer, samples.connection_started(consumer="c2", provider="p2")) is consumer


def test_a_connection_holds_what_the_spec_says() -> None:
    """R-4.3, completed with uid, epoch and offsets; its end brings the bytes."""
    state = connection_started(samples.connection_started(epoch=1, start=(7, 8)), NOON)
    assert state == OpenConnection(
        realm="acme",
        network_urn=samples.NETWORK,
        spn_connection_id="4-1",
        consumer_side_spn_session_id="c1",
        provider_side_spn_session_id="p1",
        service_urn=samples.SERVICE,
        connection_uid="ab" * 16,
        epoch=1,
        start_sent_offset=7,
        start_receive_offset=8,
        start_at=NOON,
    )
    assert state.key == ConnectionKey("c1", "p1", "4-1")
    ended = apply_connection(state, samples.connection_ended(epoch=1, start=(7, 8)))
    assert (ended.total_sent_bytes, ended.total_receive_bytes) == (100, 2000)
    assert ended.disconnect_reason is DisconnectReason.CLOSED_BY_PEER
    assert apply_connection(state, samples.connection_ended(ident="8-1")) is state


def test_a_whole_day_leaves_nothing_open() -> None:
    """Every start has its end, and nothing is found fault with."""
    state = HubState()
    assert state.apply_all(samples.record(samples.day())) == []
    assert state == HubState(last_sequence=8, last_timestamp=NOON + 7000)


def faults(*events: Event) -> list[tuple[FaultKind, int]]:
    return [(fault.kind, fault.sequence) for fault in HubState().apply_all(samples.record(events))]


def test_what_does_not_fit_is_reported() -> None:
    """Each kind of fault, at the event where it shows."""
    p1, c1 = samples.session_started("p1", EndPointType.PROVIDER), samples.session_started("c1")
    start, end = samples.connection_started(), samples.connection_ended()
    assert faults(p1, c1, start, end) == []
    assert faults(c1, c1) == [(FaultKind.DOUBLE_START, 2)]
    assert faults(p1, c1, start, start) == [(FaultKind.DOUBLE_START, 4)]
    assert faults(samples.session_ended("c1")) == [(FaultKind.END_WITHOUT_START, 1)]
    assert faults(p1, c1, end) == [(FaultKind.END_WITHOUT_START, 3)]
    assert faults(p1, start) == [(FaultKind.UNKNOWN_SESSION, 2)]
    assert faults(samples.connection_refused()) == [(FaultKind.UNKNOWN_SESSION, 1)]
    assert faults(c1, samples.session_ended("c1", count=1)) == [(FaultKind.WRONG_COUNT, 2)]
    assert faults(p1, c1, start, samples.connection_ended(epoch=1)) == [(FaultKind.WRONG_START, 4)]


def test_stream_ids_alone_do_not_name_a_connection() -> None:
    """Two pairs of sessions with the same stream ids are two connections (R-4.3)."""
    state = HubState()
    events: list[Event] = [
        samples.session_started(name, role)
        for name, role in (
            ("p1", EndPointType.PROVIDER),
            ("c1", EndPointType.CONSUMER),
            ("c2", EndPointType.CONSUMER),
        )
    ]
    events += [samples.connection_started("01" * 16), samples.connection_started("02" * 16, consumer="c2")]
    assert state.apply_all(samples.record(events)) == []
    assert list(state.connections) == [ConnectionKey("c1", "p1", "4-1"), ConnectionKey("c2", "p1", "4-1")]
    assert [session.total_connection_count for session in state.sessions.values()] == [2, 1, 1]


steps = st.lists(
    st.tuples(st.sampled_from(["session", "leg", "end leg", "end session"]), st.integers(0, 5), st.integers(0, 5)),
    max_size=60,
)


@given(steps)
def test_an_orderly_history_has_no_faults(history: list[tuple[str, int, int]]) -> None:
    """Whatever opens and closes in whatever order, the fold agrees with a model that keeps plain sets."""
    events: list[Event] = []
    counts: dict[str, int] = {}
    legs: dict[str, dict[str, Any]] = {}
    for number, (what, a, b) in enumerate(history):
        consumer, provider = f"c{a}", f"p{b}"
        if what == "session":
            for name in (consumer, provider):
                if name not in counts:
                    counts[name] = 0
                    events.append(samples.session_started(name))
        elif what == "leg" and consumer in counts and provider in counts:
            names: dict[str, Any] = {"ident": f"{4 * number}-1", "consumer": consumer, "provider": provider}
            legs[f"{number:032x}"] = names
            counts[consumer] += 1
            counts[provider] += 1
            events.append(samples.connection_started(f"{number:032x}", **names))
        elif what == "end leg" and legs:
            uid = sorted(legs)[a % len(legs)]
            events.append(samples.connection_ended(uid, **legs.pop(uid)))
        elif what == "end session" and consumer in counts:
            last = [uid for uid, names in legs.items() if names["consumer"] == consumer]
            events += [samples.connection_ended(uid, **legs.pop(uid)) for uid in last]
            events.append(samples.session_ended(consumer, count=counts.pop(consumer)))
    state = HubState()
    assert state.apply_all(samples.record(events)) == []
    assert {name: session.total_connection_count for name, session in state.sessions.items()} == counts
    assert {leg.connection_uid for leg in state.connections.values()} == set(legs)


@given(st.lists(st.sampled_from([*samples.day(), *samples.EACH]), max_size=40))
def test_the_fold_of_a_damaged_log_never_raises(events: list[Event]) -> None:
    """Any events in any order: faults, not exceptions; what is open is what started last and didn't end."""
    state = HubState()
    state.apply_all(samples.record(events))
    is_open = {"p1": False, "c1": False}
    for event in events:
        if isinstance(event, SessionStarted | SessionEnded):
            is_open[event.spn_session_id] = isinstance(event, SessionStarted)
    assert set(state.sessions) == {name for name, value in is_open.items() if value}
