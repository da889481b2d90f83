"""What a hub's log says of its inventory: realms, networks and services as applied, and instances it has started.

Folded by :class:`spnhub.events.state.hub_state.HubState`. Total: an event about something that the log doesn't know
(its head may be gone) is taken in as far as it makes sense. Counterpart: the definition events of
:mod:`spnhub.events.model`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from spnhub.events.model import (
    Event,
    InstancePhase,
    InstanceSnapshot,
    InventoryLoaded,
    NetworkAdded,
    NetworkChanged,
    NetworkRemoved,
    NetworkSnapshot,
    RealmAdded,
    RealmChanged,
    RealmRemoved,
    RealmSnapshot,
    ServiceAdded,
    ServiceChanged,
    ServiceRemoved,
    ServiceSnapshot,
    ServiceStarted,
    ServiceStartFailed,
    ServiceStartRequested,
    ServiceStopFailed,
    ServiceStopped,
    ServiceStopRequested,
)

__all__ = [
    "DEFINITION_TABLES",
    "DefinitionName",
    "DefinitionSnapshot",
    "DefinitionState",
    "Definitions",
    "InstancePhase",
    "InstanceState",
    "NetworkState",
    "RealmState",
    "ServiceState",
    "name_in_snapshot",
]


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


DefinitionState = RealmState | NetworkState | ServiceState | InstanceState
DefinitionName = tuple[str, str]
"""One of :data:`DEFINITION_TABLES`, and the key in it."""
DefinitionSnapshot = RealmSnapshot | NetworkSnapshot | ServiceSnapshot | InstanceSnapshot
DEFINITION_TABLES: Final = ("realms", "networks", "services", "instances")


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

    def apply(self, event: Event, timestamp: int) -> DefinitionName | None:
        """Take in an event; those that aren't about definitions change nothing. What is there by it now, or anew."""
        match event:
            case InventoryLoaded() if event.initial:  # a new process knows nothing of an earlier one's
                for known in (self.realms, self.networks, self.services, self.instances):
                    known.clear()
            case RealmAdded() | RealmChanged() | RealmSnapshot():
                return self._realm(event)
            case RealmRemoved():
                self.realms.pop(event.realm or "", None)
            case NetworkAdded() | NetworkChanged() | NetworkSnapshot():
                return self._network(event)
            case NetworkRemoved():
                self.networks.pop(event.network_urn or "", None)
            case ServiceAdded() | ServiceChanged() | ServiceSnapshot():
                before = self.services.get(event.service_urn)
                self.services[event.service_urn] = after = _service(event)
                managed_before = before is None or before.cluster_manager_urn is not None
                if managed_before and after.cluster_manager_urn is None and not isinstance(event, ServiceSnapshot):
                    # A snapshot changes nothing, and has told of the instances before it tells of the services.
                    self._hand_over(event.service_urn)
                return "services", event.service_urn
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
                return self._instance(event, timestamp)
            case InstanceSnapshot():
                return self._instance_known(event, event.phase, event.since)
        return None

    def names(self) -> set[DefinitionName]:
        """Of all that is there."""
        return {(table, name) for table in DEFINITION_TABLES for name in getattr(self, table)}

    def get(self, name: DefinitionName) -> DefinitionState | None:
        """What is there by this name."""
        found: DefinitionState | None = getattr(self, name[0]).get(name[1])
        return found

    def remove(self, name: DefinitionName) -> DefinitionState | None:
        """Forget it, if it is there; what it was."""
        found: DefinitionState | None = getattr(self, name[0]).pop(name[1], None)
        return found

    def copy(self) -> Definitions:
        """Another one with the same content."""
        return Definitions(dict(self.realms), dict(self.networks), dict(self.services), dict(self.instances))

    def _realm(self, event: RealmAdded | RealmChanged | RealmSnapshot) -> DefinitionName:
        name = event.realm or ""
        self.realms[name] = RealmState(
            name=name, expired_at=event.expired_at, client_ca=event.client_ca, max_sessions=event.max_sessions
        )
        return "realms", name

    def _network(self, event: NetworkAdded | NetworkChanged | NetworkSnapshot) -> DefinitionName:
        urn = event.network_urn or ""
        self.networks[urn] = NetworkState(
            realm=event.realm, urn=urn, fqdn=event.fqdn, address=event.address, certificate=event.certificate
        )
        return "networks", urn

    def _hand_over(self, service_urn: str) -> None:
        """What runs when a service isn't the hub's to start and stop any more is no instance of the hub's."""
        known = self.instances.get(service_urn)
        if known is not None and known.phase is InstancePhase.RUNNING:
            del self.instances[service_urn]

    def _instance(self, event: _Instance, timestamp: int) -> DefinitionName | None:
        phase = _phase(event)
        before = self.instances.get(event.service_urn)
        if phase is None:
            self.instances.pop(event.service_urn, None)
            return None
        since = timestamp if before is None or before.phase is not phase else before.since
        return self._instance_known(event, phase, since)

    def _instance_known(self, event: _Instance | InstanceSnapshot, phase: InstancePhase, since: int) -> DefinitionName:
        self.instances[event.service_urn] = InstanceState(
            realm=event.realm,
            network_urn=event.network_urn,
            service_urn=event.service_urn,
            phase=phase,
            since=since,
        )
        return "instances", event.service_urn


def name_in_snapshot(event: DefinitionSnapshot) -> DefinitionName:
    """What the event is about."""
    match event:
        case RealmSnapshot():
            return "realms", event.realm or ""
        case NetworkSnapshot():
            return "networks", event.network_urn or ""
        case ServiceSnapshot():
            return "services", event.service_urn
        case InstanceSnapshot():
            return "instances", event.service_urn


def _service(event: ServiceAdded | ServiceChanged | ServiceSnapshot) -> ServiceState:
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
