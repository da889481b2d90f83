"""What a hub's log says of its inventory: realms, networks and services as applied, and instances it has started.

Folded by :class:`spnhub.events.state.HubState`. Total: an event about something that the log doesn't know (its head may
be gone) is taken in as far as it makes sense. Counterpart: the definition events of :mod:`spnhub.events.model`.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from spnhub.events.model import (
    Event,
    InventoryLoaded,
    NetworkAdded,
    NetworkChanged,
    NetworkRemoved,
    RealmAdded,
    RealmChanged,
    RealmRemoved,
    ServiceAdded,
    ServiceChanged,
    ServiceRemoved,
    ServiceStarted,
    ServiceStartFailed,
    ServiceStartRequested,
    ServiceStopFailed,
    ServiceStopped,
    ServiceStopRequested,
)

__all__ = ["Definitions", "InstancePhase", "InstanceState", "NetworkState", "RealmState", "ServiceState"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmState:
    """A realm that is served. ``expired_at`` is microseconds since 1970, UTC."""

    name: str
    expired_at: int | None
    client_ca: str
    max_sessions: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkState:
    """A hub of the inventory that is served (D-3)."""

    realm: str | None
    urn: str
    fqdn: str
    address: str
    certificate: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceState:
    """A service that is defined."""

    realm: str | None
    network_urn: str | None
    urn: str
    provider: str
    consumers: tuple[str, ...]
    singleton: bool
    cluster_manager_urn: str | None
    service_id: str | None
    start_on_load: bool
    start_on_consumer: bool
    start_on_payload: bool
    idle_timeout: float | None
    start_at: str | None
    stop_at: str | None


class InstancePhase(enum.StrEnum):
    """Of a service that this hub has had started; stopped ones are not held."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceState:
    """What this hub has asked of a cluster manager. ``since`` is microseconds since 1970, UTC."""

    realm: str | None
    network_urn: str | None
    service_urn: str
    phase: InstancePhase
    since: int


_Instance = (
    ServiceStartRequested
    | ServiceStarted
    | ServiceStartFailed
    | ServiceStopRequested
    | ServiceStopped
    | ServiceStopFailed
)


@dataclass(slots=True)
class Definitions:
    """The inventory as applied: an accumulator, O(1) per event."""

    realms: dict[str, RealmState] = field(default_factory=dict)
    """By name."""
    networks: dict[str, NetworkState] = field(default_factory=dict)
    """By URN."""
    services: dict[str, ServiceState] = field(default_factory=dict)
    """By URN."""
    instances: dict[str, InstanceState] = field(default_factory=dict)
    """By service URN; they outlive the definition until they are stopped."""

    def apply(self, event: Event, timestamp: int) -> None:
        """Take in an event; those that aren't about definitions change nothing."""
        match event:
            case InventoryLoaded() if event.initial:  # a new process knows nothing of an earlier one's
                for known in (self.realms, self.networks, self.services, self.instances):
                    known.clear()
            case RealmAdded() | RealmChanged():
                self._realm(event)
            case RealmRemoved():
                self.realms.pop(event.realm or "", None)
            case NetworkAdded() | NetworkChanged():
                self._network(event)
            case NetworkRemoved():
                self.networks.pop(event.network_urn or "", None)
            case ServiceAdded() | ServiceChanged():
                self.services[event.service_urn] = _service(event)
            case ServiceRemoved():
                self.services.pop(event.service_urn, None)
            case (
                ServiceStartRequested()
                | ServiceStarted()
                | ServiceStartFailed()
                | ServiceStopRequested()
                | ServiceStopped()
                | ServiceStopFailed()
            ):
                self._instance(event, timestamp)

    def copy(self) -> Definitions:
        """Another one with the same content."""
        return Definitions(dict(self.realms), dict(self.networks), dict(self.services), dict(self.instances))

    def _realm(self, event: RealmAdded | RealmChanged) -> None:
        name = event.realm or ""
        self.realms[name] = RealmState(
            name=name, expired_at=event.expired_at, client_ca=event.client_ca, max_sessions=event.max_sessions
        )

    def _network(self, event: NetworkAdded | NetworkChanged) -> None:
        urn = event.network_urn or ""
        self.networks[urn] = NetworkState(
            realm=event.realm, urn=urn, fqdn=event.fqdn, address=event.address, certificate=event.certificate
        )

    def _instance(self, event: _Instance, timestamp: int) -> None:
        phase = _phase(event)
        before = self.instances.get(event.service_urn)
        if phase is None:
            self.instances.pop(event.service_urn, None)
        elif before is None or before.phase is not phase:
            self.instances[event.service_urn] = InstanceState(
                realm=event.realm,
                network_urn=event.network_urn,
                service_urn=event.service_urn,
                phase=phase,
                since=timestamp,
            )


def _service(event: ServiceAdded | ServiceChanged) -> ServiceState:
    return ServiceState(
        realm=event.realm,
        network_urn=event.network_urn,
        urn=event.service_urn,
        provider=event.provider,
        consumers=event.consumers,
        singleton=event.singleton,
        cluster_manager_urn=event.cluster_manager_urn,
        service_id=event.service_id,
        start_on_load=event.start_on_load,
        start_on_consumer=event.start_on_consumer,
        start_on_payload=event.start_on_payload,
        idle_timeout=event.idle_timeout,
        start_at=event.start_at,
        stop_at=event.stop_at,
    )


def _phase(event: _Instance) -> InstancePhase | None:
    """What the instance is after ``event``; None: stopped."""
    match event:
        case ServiceStartRequested():
            return InstancePhase.STARTING
        case ServiceStarted():
            return InstancePhase.RUNNING
        case ServiceStartFailed():
            return InstancePhase.STARTING if event.will_retry else None
        case ServiceStopRequested():
            return InstancePhase.STOPPING
        case ServiceStopFailed():
            return InstancePhase.STOPPING if event.will_retry else InstancePhase.RUNNING
        case ServiceStopped():
            return None
