"""Events about sessions (R-2.4, R-2.5)."""

from __future__ import annotations

from typing import ClassVar

from spnhub.events.frozen import dataclass
from spnhub.events.model.event import EndPointEvent, EndPointType, Event, SessionEvent, TerminateReason

__all__ = [
    "ProviderAnswered",
    "ProviderFailed",
    "ProviderRecovered",
    "ProviderSilent",
    "SessionEnded",
    "SessionRefused",
    "SessionSnapshot",
    "SessionStarted",
    "WeightChanged",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(EndPointEvent):
    """An SPN session was established (R-2.5)."""

    event_type: ClassVar[str] = "startSpnSession"

    instance_id: str = ""
    weight: int = 100
    protocol: str = ""
    remote_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(EndPointEvent):
    """An SPN session ended (R-2.5)."""

    event_type: ClassVar[str] = "endSpnSession"

    total_connection_count: int
    elapsed_time: float
    terminate_reason: TerminateReason
    code: int | None = None
    reason: str = ""
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRefused(Event):
    """A TLS handshake or a session request was refused (R-2.2).

    Identical ones within a second share one event (D-13).
    """

    event_type: ClassVar[str] = "sessionRefused"

    spn_end_point: str | None = None
    end_point_type: EndPointType | None = None
    service_urn: str | None = None
    server_name: str | None = None
    remote_address: str = ""
    code: int | None = None
    alert: int | None = None
    reason: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightChanged(SessionEvent):
    """A provider changed its weight (R-5.3), or the reason for it."""

    event_type: ClassVar[str] = "weightChanged"

    old_weight: int
    new_weight: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderSilent(SessionEvent):
    """A provider became unresponsive: it has not acknowledged in time what the hub sent (D-20).

    It gets no new connections, and those that it has may go on elsewhere.
    """

    event_type: ClassVar[str] = "providerSilent"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderAnswered(SessionEvent):
    """A provider that was unresponsive has answered."""

    event_type: ClassVar[str] = "providerAnswered"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFailed(SessionEvent):
    """A provider did not accept a connection (D-35).

    It is passed over for a while, then tried with one connection at a time.
    """

    event_type: ClassVar[str] = "providerFailed"

    failures: int
    passed_over_until: int
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRecovered(SessionEvent):
    """A provider that was passed over has accepted a connection (D-35)."""

    event_type: ClassVar[str] = "providerRecovered"


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSnapshot(EndPointEvent):
    """A session that is open."""

    event_type: ClassVar[str] = "sessionSnapshot"

    instance_id: str = ""
    weight: int = 100
    start_at: int
    total_connection_count: int = 0
    suspect: bool = False
    failures: int = 0
    passed_over_until: int | None = None
    weight_reason: str = ""
