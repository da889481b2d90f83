"""Events about services: how they are defined, and how this hub has them started and stopped."""

from __future__ import annotations

from typing import ClassVar

from spnhub.events.frozen import dataclass
from spnhub.events.model.event import InstancePhase, ServiceEvent

__all__ = [
    "InstanceSnapshot",
    "ServiceAdded",
    "ServiceChanged",
    "ServiceDefined",
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
class ServiceDefined(ServiceEvent):
    """How a service is defined: what a plan compares, the state holds and a snapshot says."""

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
    max_connections: int | None = None
    max_bandwidth: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAdded(ServiceDefined):
    """A service is defined from now on."""

    event_type: ClassVar[str] = "serviceAdded"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChanged(ServiceDefined):
    """A service's definition has changed; the fields hold the new one."""

    event_type: ClassVar[str] = "serviceChanged"

    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRemoved(ServiceEvent):
    """A service is no longer defined."""

    event_type: ClassVar[str] = "serviceRemoved"

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot(ServiceDefined):
    """A service that is defined."""

    event_type: ClassVar[str] = "serviceSnapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStartRequested(ServiceEvent):
    """The cluster manager was asked to start a service."""

    event_type: ClassVar[str] = "serviceStartRequested"

    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStarted(ServiceEvent):
    """The cluster manager reported that a service was started.

    Its provider's session follows as an event of its own.
    """

    event_type: ClassVar[str] = "serviceStarted"

    latency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStartFailed(ServiceEvent):
    """A service could not be started."""

    event_type: ClassVar[str] = "serviceStartFailed"

    reason: str
    attempt: int = 1
    will_retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopRequested(ServiceEvent):
    """The cluster manager was asked to stop a service."""

    event_type: ClassVar[str] = "serviceStopRequested"

    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopped(ServiceEvent):
    """The cluster manager reported that a service was stopped."""

    event_type: ClassVar[str] = "serviceStopped"

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopFailed(ServiceEvent):
    """A service could not be stopped."""

    event_type: ClassVar[str] = "serviceStopFailed"

    reason: str
    attempt: int = 1
    will_retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSnapshot(ServiceEvent):
    """A service that the hub has had started."""

    event_type: ClassVar[str] = "instanceSnapshot"

    phase: InstancePhase
    since: int
