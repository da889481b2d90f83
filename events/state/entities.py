"""What the log knows of one session (R-2.4) or of one leg of a connection (R-4.3), folded from their events.

The functions are pure and total. The live actors apply their own events with them, so that what an actor knows and what
a replay shows are the same. Counterpart: :class:`spnhub.events.state.hub_state.HubState`, all of them together.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from spnhub.events.model import (
    ConnectionEnded,
    ConnectionProgress,
    ConnectionSnapshot,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    Event,
    LegEvent,
    LegFields,
    ProviderAnswered,
    ProviderFailed,
    ProviderRecovered,
    ProviderSilent,
    SessionEnded,
    SessionSnapshot,
    SessionStarted,
    TerminateReason,
    WeightChanged,
)

__all__ = [
    "ConnectionKey",
    "OpenConnection",
    "OpenSession",
    "apply_connection",
    "apply_session",
    "connection_key",
    "connection_started",
    "leg_fields",
    "session_started",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
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
    suspect: bool = False
    """A provider that is silent now (D-20)."""
    failures: int = 0
    """Openings in a row that a provider didn't take; above 0: it is passed over, or to be tried again (D-35)."""
    passed_over_until: int | None = None
    """When a provider that has failed may be tried again; None: it hasn't."""
    weight_reason: str = ""
    """Why it has this weight, if its endpoint has said so."""
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
class OpenConnection:
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


def session_started(event: SessionStarted | SessionSnapshot, timestamp: int) -> OpenSession:
    """The session that ``event`` begins, or has begun at ``timestamp``, without the legs that it has had since."""
    return OpenSession(
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


def apply_session(state: OpenSession, event: Event) -> OpenSession:
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


def leg_fields(leg: LegEvent | OpenConnection) -> LegFields:
    """What another event about the same leg has in common with ``leg``."""
    return LegFields(
        realm=leg.realm,
        network_urn=leg.network_urn,
        spn_connection_id=leg.spn_connection_id,
        consumer_side_spn_session_id=leg.consumer_side_spn_session_id,
        provider_side_spn_session_id=leg.provider_side_spn_session_id,
        service_urn=leg.service_urn,
        connection_uid=leg.connection_uid,
        epoch=leg.epoch,
    )


def connection_started(event: ConnectionStarted | ConnectionSnapshot, timestamp: int) -> OpenConnection:
    """The leg that ``event`` begins, or has begun at ``timestamp``, without what it has carried since."""
    return OpenConnection(
        **leg_fields(event),
        start_sent_offset=event.start_sent_offset,
        start_receive_offset=event.start_receive_offset,
        start_at=timestamp,
    )


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
