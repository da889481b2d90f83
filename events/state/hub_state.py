"""What a hub holds, folded from its events: sessions, connections, definitions, all of them together.

:class:`HubState` folds a whole log, one constant step per event; it never raises on a damaged log but reports
:class:`LogFault`. Counterparts: :mod:`spnhub.events.model`, :mod:`spnhub.events.state.entities`.
"""

from __future__ import annotations

import enum
import logging
from collections.abc import Iterable
from dataclasses import field, replace

from spnhub.dataclass import dataclass
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionFinished,
    ConnectionLost,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionSnapshot,
    ConnectionStarted,
    EventsLost,
    HubAlive,
    HubStarted,
    HubStopped,
    InstanceSnapshot,
    LegEvent,
    NetworkSnapshot,
    ProviderAnswered,
    ProviderFailed,
    ProviderRecovered,
    ProviderSilent,
    RealmSnapshot,
    Recorded,
    ResumeRefused,
    ServiceSnapshot,
    SessionEnded,
    SessionSnapshot,
    SessionStarted,
    SnapshotEnded,
    SnapshotStarted,
    WeightChanged,
)
from spnhub.events.state.definitions import Definition, DefinitionName, Definitions, name_in_snapshot
from spnhub.events.state.entities import (
    ConnectionKey,
    OpenConnection,
    OpenSession,
    apply_connection,
    apply_session,
    connection_key,
    connection_started,
    session_started,
)

__all__ = [
    "FaultKind",
    "HubState",
    "LogFault",
    "RunState",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """The last run of the hub's process that the log knows of. Times are microseconds since 1970, UTC."""

    version: str
    addresses: tuple[str, ...]
    started_at: int
    alive_at: int | None = None
    """Its last heartbeat; None before the first."""
    stopped_at: int | None = None
    """When it ended in order; None while it hasn't."""


class FaultKind(enum.StrEnum):
    """What can be wrong between the events of one log."""

    DOUBLE_START = "doubleStart"
    END_WITHOUT_START = "endWithoutStart"
    UNKNOWN_SESSION = "unknownSession"
    UNKNOWN_LEG = "unknownLeg"
    WRONG_COUNT = "wrongCount"
    WRONG_START = "wrongStart"
    WRONG_BYTES = "wrongBytes"
    WRONG_SNAPSHOT = "wrongSnapshot"


@dataclass(frozen=True, slots=True)
class LogFault:
    """An event that doesn't fit the ones before it."""

    kind: FaultKind
    sequence: int
    message: str


@dataclass(slots=True)
class _Unseen:
    sessions: set[str]
    connections: set[ConnectionKey]
    definitions: set[DefinitionName]

    def copy(self) -> _Unseen:
        return _Unseen(set(self.sessions), set(self.connections), set(self.definitions))


@dataclass(slots=True)
class HubState:
    """What is open and defined in one hub's log: an accumulator, memory in proportion to that, O(1) per event."""

    sessions: dict[str, OpenSession] = field(default_factory=dict)
    """Open sessions by spnSessionId, oldest first."""
    connections: dict[ConnectionKey, OpenConnection] = field(default_factory=dict)
    """Open legs, oldest first."""
    last_sequence: int = 0
    """Sequence of the last event folded; 0 before the first."""
    last_timestamp: int = 0
    """Latest time of any event folded, microseconds since 1970; 0 before the first."""
    lost: int = 0
    """Events that the log declares lost (D-8)."""
    definitions: Definitions = field(default_factory=Definitions)
    """The inventory as applied."""
    run: RunState | None = None
    """The hub's process; None before any HubStarted."""
    exact: bool = field(default=True, compare=False)
    """Whether no event so far was missing, or a whole snapshot has made good for it since."""
    _unseen: _Unseen | None = field(default=None, compare=False, repr=False)
    """What was here when a snapshot began and hasn't come in it yet; None outside of snapshots."""

    @property
    def in_snapshot(self) -> bool:
        """Whether a snapshot has begun and not ended, without a gap."""
        return self._unseen is not None

    def apply(self, recorded: Recorded) -> tuple[LogFault, ...]:
        """Take in the next event; what doesn't fit is returned, and taken in as far as it makes sense."""
        # After a gap nothing is certain, not even a snapshot that is under way: the next whole one makes it exact
        # again.
        if recorded.sequence > self.last_sequence + 1:
            self.exact, self._unseen = False, None
        self.last_sequence = recorded.sequence
        self.last_timestamp = max(self.last_timestamp, recorded.timestamp)
        event = recorded.event
        match event:
            case SessionStarted():
                return self._session_started(event, recorded)
            case SessionEnded():
                return self._session_ended(event, recorded)
            case ConnectionStarted():
                return self._connection_started(event, recorded)
            case ConnectionProgress():
                return self._connection_progress(event, recorded)
            case ConnectionEnded():
                return self._connection_ended(event, recorded)
            case ConnectionRefused():
                return self._known_sessions(recorded, event.consumer_side_spn_session_id)
            case ResumeRefused() | ConnectionLost():
                return self._known_sessions(recorded, event.spn_session_id)
            case ConnectionFinished():
                sides = event.consumer_side_spn_session_id, event.provider_side_spn_session_id
                return self._known_sessions(recorded, *sides)
            case ConnectionPaused() | ConnectionResumed():
                return self._open_leg(event, recorded)
            case EventsLost():
                self.lost += event.count
            case WeightChanged() | ProviderSilent() | ProviderAnswered() | ProviderFailed() | ProviderRecovered():
                return self._session_changed(event, recorded)
            case HubStarted():
                self.run = RunState(version=event.version, addresses=event.addresses, started_at=recorded.timestamp)
            case HubAlive() if self.run is not None:
                self.run = replace(self.run, alive_at=recorded.timestamp)
            case HubStopped() if self.run is not None:
                self.run = replace(self.run, stopped_at=recorded.timestamp)
            case SnapshotStarted():
                return self._snapshot_started(event, recorded)
            case SessionSnapshot() | ConnectionSnapshot():
                return self._open_in_snapshot(event, recorded)
            case RealmSnapshot() | NetworkSnapshot() | ServiceSnapshot() | InstanceSnapshot():
                return self._defined_in_snapshot(event, recorded)
            case SnapshotEnded():
                return self._snapshot_ended(recorded)
            case _:
                name = self.definitions.apply(event, recorded.timestamp)
                if self._unseen is not None:
                    self._unseen.definitions.discard(name or ("", ""))
        return ()

    def take(self, recorded: Recorded) -> None:
        """Take in an event of this process, which was decided by what is here: one that doesn't fit is a fault."""
        for fault in self.apply(recorded):
            logger.error("an event was recorded that doesn't fit the log: %s", fault.message)

    def snapshot_head(self) -> SnapshotStarted:
        """What a snapshot that begins now begins with."""
        definitions, run = self.definitions, self.run
        return SnapshotStarted(
            realm=None,
            network_urn=None,
            sessions=len(self.sessions),
            connections=len(self.connections),
            realms=len(definitions.realms),
            networks=len(definitions.networks),
            services=len(definitions.services),
            instances=len(definitions.instances),
            lost=self.lost,
            version="" if run is None else run.version,
            addresses=() if run is None else run.addresses,
            started_at=None if run is None else run.started_at,
            alive_at=None if run is None else run.alive_at,
            stopped_at=None if run is None else run.stopped_at,
        )

    def copy(self) -> HubState:
        """Another one with the same content, that goes its own way."""
        return replace(
            self,
            sessions=dict(self.sessions),
            connections=dict(self.connections),
            definitions=self.definitions.copy(),
            _unseen=None if self._unseen is None else self._unseen.copy(),
        )

    def apply_all(self, events: Iterable[Recorded]) -> list[LogFault]:
        """Take in events in order."""
        return [fault for recorded in events for fault in self.apply(recorded)]

    def _snapshot_started(self, event: SnapshotStarted, recorded: Recorded) -> tuple[LogFault, ...]:
        known = self.snapshot_head()
        # Each record of the snapshot crosses a name off. What is left at its end, and still open here, has ended in a
        # gap of the log: it is gone. What begins meanwhile isn't among these names.
        self._unseen = _Unseen(set(self.sessions), set(self.connections), self.definitions.names())
        self.lost = event.lost
        if event.started_at is not None:
            self.run = RunState(
                version=event.version,
                addresses=event.addresses,
                started_at=event.started_at,
                alive_at=event.alive_at,
                stopped_at=event.stopped_at,
            )
        return self._differs(recorded, "head", known, event)

    def _open_in_snapshot(
        self, event: SessionSnapshot | ConnectionSnapshot, recorded: Recorded
    ) -> tuple[LogFault, ...]:
        if isinstance(event, SessionSnapshot):
            session = session_started(event, recorded.timestamp)
            before = self.sessions.get(session.spn_session_id)
            self.sessions[session.spn_session_id] = session
            if self._unseen is not None:
                self._unseen.sessions.discard(session.spn_session_id)
            return self._differs(recorded, f"session {session.spn_session_id}", before, session)
        leg = connection_started(event, recorded.timestamp)
        known = self.connections.get(leg.key)
        self.connections[leg.key] = leg
        if self._unseen is not None:
            self._unseen.connections.discard(leg.key)
        return self._differs(recorded, f"connection {' '.join(leg.key)}", known, leg)

    def _defined_in_snapshot(self, event: Definition, recorded: Recorded) -> tuple[LogFault, ...]:
        name = name_in_snapshot(event)
        before = self.definitions.get(name)
        self.definitions.apply(event, recorded.timestamp)
        if self._unseen is not None:
            self._unseen.definitions.discard(name)
        return self._differs(recorded, " ".join(name), before, self.definitions.get(name))

    def _snapshot_ended(self, recorded: Recorded) -> tuple[LogFault, ...]:
        """What was here and hasn't come was gone before: its end is one of the events that are missing here."""
        unseen, self._unseen = self._unseen, None
        if unseen is None:
            return ()
        gone = [str(session) for name in unseen.sessions if (session := self.sessions.pop(name, None))]
        gone += [str(leg) for key in unseen.connections if (leg := self.connections.pop(key, None))]
        gone += [str(found) for name in unseen.definitions if (found := self.definitions.remove(name))]
        faults = tuple(fault for one in gone for fault in self._differs(recorded, "nothing", one, "nothing"))
        self.exact = True
        return faults

    def _differs(self, recorded: Recorded, name: str, before: object, after: object) -> tuple[LogFault, ...]:
        """Check a record of a snapshot: a reader of the whole log has the state without it, and knows what is right."""
        if not self.exact or before == after:
            return ()
        message = f"the snapshot has {name}, {after}; the log before it has {before}"
        return (_fault(FaultKind.WRONG_SNAPSHOT, recorded, message),)

    def _session_started(self, event: SessionStarted, recorded: Recorded) -> tuple[LogFault, ...]:
        known = event.spn_session_id in self.sessions
        self.sessions[event.spn_session_id] = session_started(event, recorded.timestamp)
        if known:
            return (
                _fault(FaultKind.DOUBLE_START, recorded, f"session {event.spn_session_id} starts while it is open"),
            )
        return ()

    def _session_ended(self, event: SessionEnded, recorded: Recorded) -> tuple[LogFault, ...]:
        name = f"session {event.spn_session_id}"
        state = self.sessions.pop(event.spn_session_id, None)
        if state is None:
            return (_fault(FaultKind.END_WITHOUT_START, recorded, f"{name} ends without a start"),)
        if state.total_connection_count != event.total_connection_count:
            stated, counted = event.total_connection_count, state.total_connection_count
            message = f"{name} ends with totalConnectionCount {stated}; the log has {counted} connections that name it"
            return (_fault(FaultKind.WRONG_COUNT, recorded, message),)
        return ()

    def _session_changed(
        self,
        event: WeightChanged | ProviderSilent | ProviderAnswered | ProviderFailed | ProviderRecovered,
        recorded: Recorded,
    ) -> tuple[LogFault, ...]:
        if session := self.sessions.get(event.spn_session_id):
            self.sessions[event.spn_session_id] = apply_session(session, event)
        return self._known_sessions(recorded, event.spn_session_id)

    def _connection_started(self, event: ConnectionStarted, recorded: Recorded) -> tuple[LogFault, ...]:
        sides = (event.consumer_side_spn_session_id, event.provider_side_spn_session_id)
        faults = self._known_sessions(recorded, *sides)
        for side in set(sides):
            if session := self.sessions.get(side):
                self.sessions[side] = apply_session(session, event)
        key = connection_key(event)
        if key in self.connections:
            faults += (_fault(FaultKind.DOUBLE_START, recorded, f"{_leg(event)} starts while it is open"),)
        self.connections[key] = connection_started(event, recorded.timestamp)
        return faults

    def _connection_progress(self, event: ConnectionProgress, recorded: Recorded) -> tuple[LogFault, ...]:
        state = self.connections.get(connection_key(event))
        if state is None:
            return self._open_leg(event, recorded)
        self.connections[state.key] = apply_connection(state, event)
        return _continues(state, event, recorded)

    def _connection_ended(self, event: ConnectionEnded, recorded: Recorded) -> tuple[LogFault, ...]:
        state = self.connections.pop(connection_key(event), None)
        if state is None:
            return (_fault(FaultKind.END_WITHOUT_START, recorded, f"{_leg(event)} ends without a start"),)
        return _continues(state, event, recorded)

    def _open_leg(
        self, event: ConnectionProgress | ConnectionPaused | ConnectionResumed, recorded: Recorded
    ) -> tuple[LogFault, ...]:
        if connection_key(event) in self.connections:
            return ()
        return (_fault(FaultKind.UNKNOWN_LEG, recorded, f"{event.event_type} names {_leg(event)}, which is not open"),)

    def _known_sessions(self, recorded: Recorded, *ids: str) -> tuple[LogFault, ...]:
        what = recorded.event.event_type
        return tuple(
            _fault(FaultKind.UNKNOWN_SESSION, recorded, f"{what} names session {name}, which is not open")
            for name in ids
            if name not in self.sessions
        )


def _continues(
    state: OpenConnection, event: ConnectionProgress | ConnectionEnded, recorded: Recorded
) -> tuple[LogFault, ...]:
    """Whether an event with a leg's byte counts is about this one, and continues from the event before it."""
    faults: tuple[LogFault, ...] = ()
    begun = (state.connection_uid, state.epoch, state.start_sent_offset, state.start_receive_offset)
    stated = (event.connection_uid, event.epoch, event.start_sent_offset, event.start_receive_offset)
    if begun != stated:
        what = "ends" if isinstance(event, ConnectionEnded) else "goes on"
        message = f"{_leg(event)} {what} with uid, epoch and start offsets {stated}; it started with {begun}"
        faults += (_fault(FaultKind.WRONG_START, recorded, message),)
    totals = (event.total_sent_bytes, event.total_receive_bytes)
    before = (state.total_sent_bytes, state.total_receive_bytes)
    deltas = (event.delta_sent_bytes, event.delta_receive_bytes)
    if tuple(map(sum, zip(before, deltas, strict=True))) != totals:
        message = f"{_leg(event)} has carried {totals} bytes, {deltas} of them unreported; reported before: {before}"
        faults += (_fault(FaultKind.WRONG_BYTES, recorded, message),)
    return faults


def _leg(event: LegEvent) -> str:
    sessions = f"{event.consumer_side_spn_session_id} and {event.provider_side_spn_session_id}"
    return f"connection {event.spn_connection_id} of sessions {sessions}"


def _fault(kind: FaultKind, recorded: Recorded, message: str) -> LogFault:
    return LogFault(kind, recorded.sequence, message)
