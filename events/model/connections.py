"""Events about connections: one leg each, or the conversation that goes from leg to leg (R-4.3, R-4.4, D-1)."""

from __future__ import annotations

from typing import ClassVar

from spnhub.events.frozen import dataclass
from spnhub.events.model.event import DisconnectReason, EndPointEvent, ServiceEvent, SessionEvent

__all__ = [
    "ConnectionEnded",
    "ConnectionFinished",
    "ConnectionLost",
    "ConnectionPaused",
    "ConnectionProgress",
    "ConnectionRefused",
    "ConnectionResumed",
    "ConnectionSnapshot",
    "ConnectionStarted",
    "ConversationEvent",
    "LegEvent",
    "LegStartEvent",
    "OpeningEvent",
    "ResumeRefused",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpeningEvent(ServiceEvent):
    """A fact about a connection that its consumer has, or wants."""

    consumer_side_spn_session_id: str
    connection_uid: str
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationEvent(OpeningEvent):
    """A fact about a connection between two sessions."""

    provider_side_spn_session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LegEvent(ConversationEvent):
    """A fact about one leg of a connection (R-4.3, D-1). Counterpart: :class:`LegFields`, the same as arguments."""

    spn_connection_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LegStartEvent(LegEvent):
    """A fact about a leg that says where in its connection it begins (D-10)."""

    start_sent_offset: int = 0
    start_receive_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStarted(LegStartEvent):
    """A leg of an SPN connection opened towards a provider (R-4.4, D-1)."""

    event_type: ClassVar[str] = "startSpnConnection"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionProgress(LegStartEvent):
    """What an open leg has carried so far (D-10).

    Written at intervals, if it has changed; the deltas are what no earlier event has reported.
    """

    event_type: ClassVar[str] = "connectionProgress"

    total_sent_bytes: int
    total_receive_bytes: int
    delta_sent_bytes: int
    delta_receive_bytes: int
    elapsed_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPaused(LegEvent):
    """A leg was suspended, and the connection may go on in another leg; the leg's end event follows at once (D-1)."""

    event_type: ClassVar[str] = "connectionPaused"

    sent_offset: int = 0
    receive_offset: int = 0
    planned: bool = False
    code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionResumed(LegEvent):
    """A suspended connection goes on in this leg, whose start event came just before (D-1)."""

    event_type: ClassVar[str] = "connectionResumed"

    sent_offset: int = 0
    receive_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEnded(LegStartEvent):
    """A leg of an SPN connection ended (R-4.4, D-1, D-10)."""

    event_type: ClassVar[str] = "endSpnConnection"

    total_sent_bytes: int
    total_receive_bytes: int
    delta_sent_bytes: int = 0
    delta_receive_bytes: int = 0
    elapsed_time: float
    disconnect_reason: DisconnectReason
    code: int | None = None
    reason: str = ""
    suspended: bool = False
    recovered: bool = False
    rejected: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRefused(OpeningEvent):
    """A connection was refused before a provider accepted it.

    Providers that were asked have a leg each, whose end holds their answer.
    """

    event_type: ClassVar[str] = "connectionRefused"

    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRefused(EndPointEvent):
    """An endpoint asked to resume a connection and may not, or not at this hub (R-4.7)."""

    event_type: ClassVar[str] = "resumeRefused"

    connection_uid: str
    epoch: int = 0
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost(SessionEvent):
    """A suspended connection was given up (D-1).

    An endpoint reports that it could not be resumed in time, or can't go on. The end event of its last leg stays as it
    is.
    """

    event_type: ClassVar[str] = "connectionLost"

    connection_uid: str
    epoch: int = 0
    sent_offset: int = 0
    receive_offset: int = 0
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionFinished(ConversationEvent):
    """A connection ended in order while no hub could record it (D-1).

    Its endpoints reported later what has arrived. The end event of its last leg stays as it is; these offsets replace
    that leg's in every sum (D-10).
    """

    event_type: ClassVar[str] = "connectionFinished"

    sent_offset: int = 0
    receive_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSnapshot(LegStartEvent):
    """A leg that is open."""

    event_type: ClassVar[str] = "connectionSnapshot"

    start_at: int
    total_sent_bytes: int = 0
    total_receive_bytes: int = 0
