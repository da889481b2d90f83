"""Events about services: how they are defined, and how this hub has them started and stopped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from spnhub.events.model.event import Event, InstancePhase

__all__ = [
    "InstanceSnapshot",
    "ServiceAdded",
    "ServiceChanged",
    "ServiceRemoved",
    "ServiceSnapshot",
    "ServiceStartFailed",
    "ServiceStartRequested",
    "ServiceStarted",
    "ServiceStopFailed",
    "ServiceStopRequested",
    "ServiceStopped",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAdded(Event):
    """A service is defined from now on."""

    event_type: ClassVar[str] = "serviceAdded"

    service_urn: str
    provider: str
    consumers: tuple[str, ...]
    singleton: bool = False
    cluster_manager_urn: str | None = None
    service_id: str | None = None
    start_on_load: bool = False
    start_on_consumer: bool = False
    start_on_payload: bool = False
    idle_timeout: float | None = None
    start_at: str | None = None
    stop_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChanged(Event):
    """A service's definition has changed; the fields hold the new one."""

    event_type: ClassVar[str] = "serviceChanged"

    service_urn: str
    provider: str
    consumers: tuple[str, ...]
    singleton: bool = False
    cluster_manager_urn: str | None = None
    service_id: str | None = None
    start_on_load: bool = False
    start_on_consumer: bool = False
    start_on_payload: bool = False
    idle_timeout: float | None = None
    start_at: str | None = None
    stop_at: str | None = None
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRemoved(Event):
    """A service is no longer defined."""

    event_type: ClassVar[str] = "serviceRemoved"

    service_urn: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot(Event):
    """A service that is defined."""

    event_type: ClassVar[str] = "serviceSnapshot"

    service_urn: str
    provider: str
    consumers: tuple[str, ...]
    singleton: bool = False
    cluster_manager_urn: str | None = None
    service_id: str | None = None
    start_on_load: bool = False
    start_on_consumer: bool = False
    start_on_payload: bool = False
    idle_timeout: float | None = None
    start_at: str | None = None
    stop_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStartRequested(Event):
    """The cluster manager was asked to start a service."""

    event_type: ClassVar[str] = "serviceStartRequested"

    service_urn: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStarted(Event):
    """The cluster manager reported that a service was started.

    Its provider's session follows as an event of its own.
    """

    event_type: ClassVar[str] = "serviceStarted"

    service_urn: str
    latency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStartFailed(Event):
    """A service could not be started."""

    event_type: ClassVar[str] = "serviceStartFailed"

    service_urn: str
    reason: str
    attempt: int = 1
    will_retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopRequested(Event):
    """The cluster manager was asked to stop a service."""

    event_type: ClassVar[str] = "serviceStopRequested"

    service_urn: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopped(Event):
    """The cluster manager reported that a service was stopped."""

    event_type: ClassVar[str] = "serviceStopped"

    service_urn: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopFailed(Event):
    """A service could not be stopped."""

    event_type: ClassVar[str] = "serviceStopFailed"

    service_urn: str
    reason: str
    attempt: int = 1
    will_retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSnapshot(Event):
    """A service that the hub has had started."""

    event_type: ClassVar[str] = "instanceSnapshot"

    service_urn: str
    phase: InstancePhase
    since: int
