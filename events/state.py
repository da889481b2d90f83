"""What a hub holds, folded from its events: sessions (R-2.4), connections (R-4.3), definitions, all of them together.

The functions on single sessions and connections are pure and total; the live actors apply their own events with them,
so that what an actor knows and what a replay shows are the same. :class:`HubState` folds a whole log, one constant
step per event; it never raises on a damaged log but reports :class:`Fault`. Counterpart: :mod:`spnhub.events.model`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from spnhub.events.definitions import Definitions
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionRefused,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    Event,
    EventsLost,
    Recorded,
    SessionEnded,
    SessionStarted,
    TerminateReason,
    WeightChanged,
)

__all__ = [
    "ConnectionKey",
    "ConnectionState",
    "Fault",
    "FaultKind",
    "HubState",
    "SessionState",
    "apply_connection",
    "apply_session",
    "connection_key",
    "connection_started",
    "session_started",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionState:
    """A session (R-2.4). Times are microseconds since 1970, UTC."""

    realm: str | None
    network_urn: str | None
    spn_session_id: str
    spn_end_point: str
    end_point_type: EndPointType
    service_urn: str
    instance_id: str
    weight: int
    start_at: int
    total_connection_count: int = 0
    """Legs that named this session so far, on either side (D-2)."""
    terminate_reason: TerminateReason | None = None
    """None while it is open."""

    def elapsed(self, timestamp: int) -> float:
        """Seconds from the start to ``timestamp``; never negative, whatever the clock did."""
        return max(0, timestamp - self.start_at) / 1_000_000


class ConnectionKey(NamedTuple):
    """What names a leg uniquely in the log of a hub: stream ids alone do not (R-4.3)."""

    consumer_side_spn_session_id: str
    provider_side_spn_session_id: str
    spn_connection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionState:
    """A leg of a connection (R-4.3, D-1). Times are microseconds since 1970, UTC."""

    realm: str | None
    network_urn: str | None
    spn_connection_id: str
    consumer_side_spn_session_id: str
    provider_side_spn_session_id: str
    service_urn: str
    connection_uid: str
    epoch: int
    start_sent_offset: int
    start_receive_offset: int
    start_at: int
    total_sent_bytes: int = 0
    """Bytes consumer to provider in this leg, as far as events have told (D-10); live counters are the splice's."""
    total_receive_bytes: int = 0
    """Bytes provider to consumer in this leg, likewise."""
    disconnect_reason: DisconnectReason | None = None
    """None while it is open."""

    @property
    def key(self) -> ConnectionKey:
        """Its unique name in this hub's log."""
        return ConnectionKey(
            self.consumer_side_spn_session_id, self.provider_side_spn_session_id, self.spn_connection_id
        )

    def elapsed(self, timestamp: int) -> float:
        """Seconds from the start to ``timestamp``; never negative, whatever the clock did."""
        return max(0, timestamp - self.start_at) / 1_000_000


def session_started(event: SessionStarted, timestamp: int) -> SessionState:
    """The session that ``event`` begins."""
    return SessionState(
        realm=event.realm,
        network_urn=event.network_urn,
        spn_session_id=event.spn_session_id,
        spn_end_point=event.spn_end_point,
        end_point_type=event.end_point_type,
        service_urn=event.service_urn,
        instance_id=event.instance_id,
        weight=event.weight,
        start_at=timestamp,
    )


def apply_session(state: SessionState, event: Event) -> SessionState:
    """The session after ``event``; unchanged when the event doesn't concern it."""
    match event:
        case ConnectionStarted() if state.spn_session_id in {
            event.consumer_side_spn_session_id,
            event.provider_side_spn_session_id,
        }:
            return replace(state, total_connection_count=state.total_connection_count + 1)
        case SessionEnded() if event.spn_session_id == state.spn_session_id:
            return replace(state, terminate_reason=event.terminate_reason)
        case WeightChanged() if event.spn_session_id == state.spn_session_id:
            return replace(state, weight=event.new_weight)
        case _:
            return state


def connection_key(event: ConnectionStarted | ConnectionEnded) -> ConnectionKey:
    """The key of the leg that the event is about."""
    return ConnectionKey(
        event.consumer_side_spn_session_id, event.provider_side_spn_session_id, event.spn_connection_id
    )


def connection_started(event: ConnectionStarted, timestamp: int) -> ConnectionState:
    """The leg that ``event`` begins."""
    return ConnectionState(
        realm=event.realm,
        network_urn=event.network_urn,
        spn_connection_id=event.spn_connection_id,
        consumer_side_spn_session_id=event.consumer_side_spn_session_id,
        provider_side_spn_session_id=event.provider_side_spn_session_id,
        service_urn=event.service_urn,
        connection_uid=event.connection_uid,
        epoch=event.epoch,
        start_sent_offset=event.start_sent_offset,
        start_receive_offset=event.start_receive_offset,
        start_at=timestamp,
    )


def apply_connection(state: ConnectionState, event: Event) -> ConnectionState:
    """The leg after ``event``; unchanged when the event doesn't concern it."""
    if isinstance(event, ConnectionEnded) and connection_key(event) == state.key:
        return replace(
            state,
            total_sent_bytes=event.total_sent_bytes,
            total_receive_bytes=event.total_receive_bytes,
            disconnect_reason=event.disconnect_reason,
        )
    return state


class FaultKind(enum.StrEnum):
    """What can be wrong between the events of one log."""

    DOUBLE_START = "doubleStart"
    END_WITHOUT_START = "endWithoutStart"
    UNKNOWN_SESSION = "unknownSession"
    WRONG_COUNT = "wrongCount"
    WRONG_START = "wrongStart"


@dataclass(frozen=True, slots=True)
class Fault:
    """An event that doesn't fit the ones before it."""

    kind: FaultKind
    sequence: int
    message: str


@dataclass(slots=True)
class HubState:
    """What is open and defined in one hub's log: an accumulator, memory in proportion to that, O(1) per event."""

    sessions: dict[str, SessionState] = field(default_factory=dict)
    """Open sessions by spnSessionId, oldest first."""
    connections: dict[ConnectionKey, ConnectionState] = field(default_factory=dict)
    """Open legs, oldest first."""
    last_sequence: int = 0
    """Sequence of the last event folded; 0 before the first."""
    last_timestamp: int = 0
    """Latest time of any event folded, microseconds since 1970; 0 before the first."""
    lost: int = 0
    """Events that the log declares lost (D-8)."""
    definitions: Definitions = field(default_factory=Definitions)
    """The inventory as applied."""

    def apply(self, recorded: Recorded) -> tuple[Fault, ...]:
        """Take in the next event; what doesn't fit is returned, and taken in as far as it makes sense."""
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
            case ConnectionEnded():
                return self._connection_ended(event, recorded)
            case ConnectionRefused():
                return self._known_sessions(recorded, event.consumer_side_spn_session_id)
            case EventsLost():
                self.lost += event.count
            case WeightChanged():
                return self._weight_changed(event, recorded)
            case _:
                self.definitions.apply(event, recorded.timestamp)
        return ()

    def copy(self) -> HubState:
        """Another one with the same content, that goes its own way."""
        return replace(
            self,
            sessions=dict(self.sessions),
            connections=dict(self.connections),
            definitions=self.definitions.copy(),
        )

    def apply_all(self, events: Iterable[Recorded]) -> list[Fault]:
        """Take in events in order."""
        return [fault for recorded in events for fault in self.apply(recorded)]

    def _session_started(self, event: SessionStarted, recorded: Recorded) -> tuple[Fault, ...]:
        known = event.spn_session_id in self.sessions
        self.sessions[event.spn_session_id] = session_started(event, recorded.timestamp)
        if known:
            return (
                _fault(FaultKind.DOUBLE_START, recorded, f"session {event.spn_session_id} starts while it is open"),
            )
        return ()

    def _session_ended(self, event: SessionEnded, recorded: Recorded) -> tuple[Fault, ...]:
        name = f"session {event.spn_session_id}"
        state = self.sessions.pop(event.spn_session_id, None)
        if state is None:
            return (_fault(FaultKind.END_WITHOUT_START, recorded, f"{name} ends without a start"),)
        if state.total_connection_count != event.total_connection_count:
            told, counted = event.total_connection_count, state.total_connection_count
            message = f"{name} ends with totalConnectionCount {told}; the log has {counted} connections that name it"
            return (_fault(FaultKind.WRONG_COUNT, recorded, message),)
        return ()

    def _weight_changed(self, event: WeightChanged, recorded: Recorded) -> tuple[Fault, ...]:
        if session := self.sessions.get(event.spn_session_id):
            self.sessions[event.spn_session_id] = apply_session(session, event)
        return self._known_sessions(recorded, event.spn_session_id)

    def _connection_started(self, event: ConnectionStarted, recorded: Recorded) -> tuple[Fault, ...]:
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

    def _connection_ended(self, event: ConnectionEnded, recorded: Recorded) -> tuple[Fault, ...]:
        state = self.connections.pop(connection_key(event), None)
        if state is None:
            return (_fault(FaultKind.END_WITHOUT_START, recorded, f"{_leg(event)} ends without a start"),)
        begun = (state.connection_uid, state.epoch, state.start_sent_offset, state.start_receive_offset)
        told = (event.connection_uid, event.epoch, event.start_sent_offset, event.start_receive_offset)
        if begun != told:
            message = f"{_leg(event)} ends with uid, epoch and start offsets {told}; it started with {begun}"
            return (_fault(FaultKind.WRONG_START, recorded, message),)
        return ()

    def _known_sessions(self, recorded: Recorded, *ids: str) -> tuple[Fault, ...]:
        what = recorded.event.event_type
        return tuple(
            _fault(FaultKind.UNKNOWN_SESSION, recorded, f"{what} names session {name}, which is not open")
            for name in ids
            if name not in self.sessions
        )


def _leg(event: ConnectionStarted | ConnectionEnded) -> str:
    sessions = f"{event.consumer_side_spn_session_id} and {event.provider_side_spn_session_id}"
    return f"connection {event.spn_connection_id} of sessions {sessions}"


def _fault(kind: FaultKind, recorded: Recorded, message: str) -> Fault:
    return Fault(kind, recorded.sequence, message)
