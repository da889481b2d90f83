"""Snapshots as events: whoever begins at one knows what who read everything knows, whatever happened in between."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from spnhub.events.model import (
    ConnectionSnapshot,
    EndPointType,
    Event,
    HubAlive,
    HubStarted,
    HubStopped,
    InventoryLoaded,
    ProviderAnswered,
    ProviderFailed,
    ProviderRecovered,
    ProviderSilent,
    Recorded,
    SessionSnapshot,
    SnapshotEnded,
    SnapshotStarted,
    WeightChanged,
)
from spnhub.events.state.hub_state import FaultKind, HubState
from spnhub.events.state.snapshot import snapshot
from tests.events.samples import (
    EACH,
    JOURNAL_ID,
    NETWORK,
    NOON,
    SERVICE,
    connection_ended,
    connection_started,
    session_ended,
    session_started,
)

DEFINITIONS = [event for event in EACH if type(event).__name__.startswith(("Realm", "Network", "Service"))]
RUN: list[Event] = [
    HubStarted(realm=None, network_urn=None, version="1", addresses=("[::]:4433",)),
    HubAlive(realm=None, network_urn=None, sessions=1, connections=2, elapsed_time=3.0),
    HubStopped(realm=None, network_urn=None, elapsed_time=4.0),
    InventoryLoaded(realm=None, network_urn=None, initial=True),
]


def happens(state: HubState, choice: int, which: int) -> Event:
    """Something that fits the state."""
    sessions, legs = list(state.sessions.values()), list(state.connections.values())
    name = f"s{state.last_sequence}"
    match choice % 8:
        case 0 if sessions:
            one, other = sessions[which % len(sessions)], sessions[0]
            uid = f"{state.last_sequence:032x}"
            return connection_started(uid, ident=name, consumer=one.spn_session_id, provider=other.spn_session_id)
        case 1 if legs:
            leg = legs[which % len(legs)]
            return connection_ended(
                leg.connection_uid,
                ident=leg.spn_connection_id,
                consumer=leg.consumer_side_spn_session_id,
                provider=leg.provider_side_spn_session_id,
            )
        case 2 if sessions:
            ended = sessions[which % len(sessions)]
            return replace(
                session_ended(ended.spn_session_id, count=ended.total_connection_count),
                end_point_type=ended.end_point_type,
            )
        case 3:
            return DEFINITIONS[which % len(DEFINITIONS)]
        case 4:
            return RUN[which % len(RUN)]
        case 5 if sessions:
            changed = sessions[which % len(sessions)].spn_session_id
            return WeightChanged(
                realm="acme",
                network_urn=NETWORK,
                spn_session_id=changed,
                service_urn=SERVICE,
                old_weight=100,
                new_weight=which,
                reason="asked" if which % 2 else "",
            )
        case 7 if sessions:
            failing = sessions[which % len(sessions)].spn_session_id
            where = {"realm": "acme", "network_urn": NETWORK, "spn_session_id": failing, "service_urn": SERVICE}
            if which % 3 == 0:
                return ProviderRecovered(**where)
            return ProviderFailed(**where, failures=which, passed_over_until=state.last_timestamp + which, code=32)
        case 6 if sessions:
            kind = ProviderSilent if which % 2 else ProviderAnswered
            silent = sessions[which % len(sessions)].spn_session_id
            return kind(realm="acme", network_urn=NETWORK, spn_session_id=silent, service_urn=SERVICE)
        case _:
            return session_started(name, EndPointType.PROVIDER)


Steps = list[tuple[int, int, int]]
steps = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 30), st.integers(0, 3)), max_size=60)


def write(before: Steps, during: Steps) -> tuple[list[Recorded], HubState]:
    """A log: what happens before, and a snapshot with what happens meanwhile, so many of its records at a time."""
    state = HubState()
    log: list[Recorded] = []

    def add(event: Event) -> None:
        recorded = Recorded("hub-1", JOURNAL_ID, state.last_sequence + 1, NOON + 1000 * len(log), event)
        log.append(recorded)
        state.apply(recorded)

    for choice, which, _ in before:
        add(happens(state, choice, which))
    records: Iterator[Event] = snapshot(state)
    add(next(records))
    for choice, which, count in during:
        add(happens(state, choice, which))
        for _ in range(count):
            if (event := next(records, None)) is not None:
                add(event)
    for event in records:
        add(event)
    return log, state


def fold(log: list[Recorded]) -> tuple[HubState, list[FaultKind]]:
    """What a reader holds at the end, and what it complains of."""
    state = HubState()
    return state, [fault.kind for fault in state.apply_all(log)]


@given(steps, steps)
def test_who_read_everything_sees_no_difference(before: Steps, during: Steps) -> None:
    """The records of a snapshot are right for who needs none, and leave everything as it is."""
    log, state = write(before, during)
    found, faults = fold(log)
    assert FaultKind.WRONG_SNAPSHOT not in faults
    assert (found, found.exact, found.in_snapshot) == (state, True, False)
    without = HubState()
    for recorded in log:
        if "napshot" not in recorded.event.event_type:
            without.apply(recorded)
    assert (without.sessions, without.connections) == (found.sessions, found.connections)
    assert (without.definitions, without.run) == (found.definitions, found.run)


@given(steps, steps)
def test_who_begins_at_a_snapshot_knows_everything(before: Steps, during: Steps) -> None:
    """From its end on there is no difference, and no later complaint."""
    log, state = write(before, during)
    found, _ = fold(log[len(before) :])
    assert (found, found.exact) == (state, True)


@given(steps, steps, st.integers(0, 60), st.integers(1, 60))
@example([(3, 22, 0), (3, 25, 0)], [], 0, 1)
def test_a_snapshot_heals_a_gap(before: Steps, during: Steps, first: int, count: int) -> None:
    """Who has missed some events before it forgets what has ended meanwhile, and learns what it has missed."""
    log, state = write(before, during)
    kept = [*log[: len(before)][:first], *log[: len(before)][first + count :], *log[len(before) :]]
    found, faults = fold(kept)
    assert (found, found.exact) == (state, True)
    assert FaultKind.WRONG_SNAPSHOT not in faults


@given(steps, steps, st.integers(1, 200))
def test_a_gap_inside_a_snapshot_leaves_it_open(before: Steps, during: Steps, place: int) -> None:
    """A reader that has missed some of it does not take itself for whole."""
    log, _ = write(before, during)
    at = len(before) + place
    if at < len(log) - 1:
        found, _ = fold(log[:at] + log[at + 1 :])
        assert not found.exact


def test_a_wrong_snapshot_is_a_fault() -> None:
    """Who has read everything can tell: another value, something too many, something too few, another head."""
    log, _ = write([(9, 0, 0), (0, 0, 0)], [])
    for place, recorded in enumerate(log):
        event = recorded.event
        wrong: Event | None = None
        if isinstance(event, SnapshotStarted):
            wrong = replace(event, sessions=5)
        elif isinstance(event, SessionSnapshot):
            wrong = replace(event, weight=1)
        elif isinstance(event, ConnectionSnapshot):
            wrong = replace(event, spn_connection_id="another")
        if wrong is not None:
            _, faults = fold([*log[:place], replace(recorded, event=wrong), *log[place + 1 :]])
            assert set(faults) == {FaultKind.WRONG_SNAPSHOT}
    *head, ended = log
    assert isinstance(ended.event, SnapshotEnded)
    early = replace(ended, sequence=ended.sequence - 1)
    assert fold([*head[:-1], early])[1] == [FaultKind.WRONG_SNAPSHOT]
