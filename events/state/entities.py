"""What the log knows of one session (R-2.4) or of one leg of a connection (R-4.3), folded from their events.

The functions are pure and total. The live actors apply their own events with them, so that what an actor knows and what
a replay shows are the same. Counterpart: :class:`spnhub.events.state.hub_state.HubState`, all of them together.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from spnhub.events.frozen import dataclass
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionProgress,
    ConnectionSnapshot,
    ConnectionStarted,
    DisconnectReason,
    EndPointEvent,
    Event,
    LegEvent,
    LegStartEvent,
    ProviderAnswered,
    ProviderFailed,
    ProviderRecovered,
    ProviderSilent,
    SessionEnded,
    SessionSnapshot,
    SessionStarted,
    TerminateReason,
    WeightChanged,
    shared,
)

__all__ = [
    "ConnectionKey",
    "OpenConnection",
    "OpenSession",
    "apply_connection",
    "apply_session",
    "connection_key",
    "connection_started",
    "session_started",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession(SessionSnapshot):
    """A session (R-2.4), as its snapshot says it, and how it ended. Times are microseconds since 1970, UTC."""

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
class OpenConnection(ConnectionSnapshot):
    """A leg of a connection (R-4.3, D-1), as its snapshot has it, and how it ended. Its bytes are those that events
    have counted (D-10); live counters are the splice's. Times are microseconds since 1970, UTC."""

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


def session_started(event: SessionStarted | SessionSnapshot, timestamp: int) -> OpenSession:
    """The session that ``event`` begins at ``timestamp``, or that a snapshot says there is."""
    if isinstance(event, SessionSnapshot):
        return OpenSession(**shared(SessionSnapshot, event))
    return OpenSession(
        **shared(EndPointEvent, event), instance_id=event.instance_id, weight=event.weight, start_at=timestamp
    )


def apply_session(state: OpenSession, event: Event) -> OpenSession:
    """The session after ``event``; unchanged when the event doesn't concern it."""
    match event:
        case ConnectionStarted() if state.spn_session_id in {
            event.consumer_side_spn_session_id,
            event.provider_side_spn_session_id,
        }:
            counted = {"total_connection_count": state.total_connection_count + 1}
            return OpenSession(**shared(OpenSession, state) | counted)  # of each connection twice: replace takes longer
        case SessionEnded() if event.spn_session_id == state.spn_session_id:
            return replace(state, terminate_reason=event.terminate_reason)
        case WeightChanged() if event.spn_session_id == state.spn_session_id:
            return replace(state, weight=event.new_weight, weight_reason=event.reason)
        case ProviderSilent() | ProviderAnswered() if event.spn_session_id == state.spn_session_id:
            return replace(state, suspect=isinstance(event, ProviderSilent))
        case ProviderFailed() if event.spn_session_id == state.spn_session_id:
            return replace(state, failures=event.failures, passed_over_until=event.passed_over_until)
        case ProviderRecovered() if event.spn_session_id == state.spn_session_id:
            return replace(state, failures=0, passed_over_until=None)
        case _:
            return state


def connection_key(event: LegEvent) -> ConnectionKey:
    """The key of the leg that the event is about."""
    return ConnectionKey(
        event.consumer_side_spn_session_id, event.provider_side_spn_session_id, event.spn_connection_id
    )


def connection_started(event: ConnectionStarted | ConnectionSnapshot, timestamp: int) -> OpenConnection:
    """The leg that ``event`` begins at ``timestamp``, or that a snapshot says there is."""
    if isinstance(event, ConnectionSnapshot):
        return OpenConnection(**shared(ConnectionSnapshot, event))
    return OpenConnection(**shared(LegStartEvent, event), start_at=timestamp)


def apply_connection(state: OpenConnection, event: Event) -> OpenConnection:
    """The leg after ``event``; unchanged when the event doesn't concern it."""
    if not isinstance(event, ConnectionProgress | ConnectionEnded) or connection_key(event) != state.key:
        return state
    return replace(
        state,
        total_sent_bytes=event.total_sent_bytes,
        total_receive_bytes=event.total_receive_bytes,
        disconnect_reason=event.disconnect_reason if isinstance(event, ConnectionEnded) else None,
    )
