"""What a hub's log says of its inventory: realms, networks and services as applied, and instances it has started.

Folded by :class:`spnhub.events.state.hub_state.HubState`. Total: an event about something that the log doesn't know
(its head may be gone) is taken in as far as it makes sense. Counterpart: the definition events of
:mod:`spnhub.events.model`.
"""

from __future__ import annotations

from dataclasses import field
from typing import Final

from spnhub.dataclass import dataclass
from spnhub.events.model import (
    Event,
    InstancePhase,
    InstanceSnapshot,
    InventoryLoaded,
    NetworkDefined,
    NetworkRemoved,
    NetworkSnapshot,
    RealmDefined,
    RealmRemoved,
    RealmSnapshot,
    ServiceDefined,
    ServiceEvent,
    ServiceRemoved,
    ServiceSnapshot,
    ServiceStarted,
    ServiceStartFailed,
    ServiceStartRequested,
    ServiceStopFailed,
    ServiceStopped,
    ServiceStopRequested,
    shared,
)

__all__ = [
    "DEFINITION_TABLES",
    "Definition",
    "DefinitionName",
    "Definitions",
    "InstancePhase",
    "name_in_snapshot",
]


_Instance = (
    ServiceStartRequested
    | ServiceStarted
    | ServiceStartFailed
    | ServiceStopRequested
    | ServiceStopped
    | ServiceStopFailed
)


Definition = RealmSnapshot | NetworkSnapshot | ServiceSnapshot | InstanceSnapshot
"""What there is, as a snapshot says it."""
DefinitionName = tuple[str, str]
"""One of :data:`DEFINITION_TABLES`, and the key in it."""
DEFINITION_TABLES: Final = ("realms", "networks", "services", "instances")


@dataclass(slots=True)
class Definitions:
    """The inventory as applied: an accumulator, O(1) per event."""

    realms: dict[str, RealmSnapshot] = field(default_factory=dict)
    """By name."""
    networks: dict[str, NetworkSnapshot] = field(default_factory=dict)
    """By URN."""
    services: dict[str, ServiceSnapshot] = field(default_factory=dict)
    """By URN."""
    instances: dict[str, InstanceSnapshot] = field(default_factory=dict)
    """By service URN; they outlive the definition until they are stopped."""

    def apply(self, event: Event, timestamp: int) -> DefinitionName | None:
        """Take in an event; those that aren't about definitions change nothing. What is there by it now, or anew."""
        match event:
            case InventoryLoaded() if event.initial:  # a new process knows nothing of an earlier one's
                for known in (self.realms, self.networks, self.services, self.instances):
                    known.clear()
            case RealmDefined():
                return self.put(RealmSnapshot(**shared(RealmDefined, event)))
            case RealmRemoved():
                self.realms.pop(event.realm or "", None)
            case NetworkDefined():
                return self.put(NetworkSnapshot(**shared(NetworkDefined, event)))
            case NetworkRemoved():
                self.networks.pop(event.network_urn or "", None)
            case ServiceDefined():
                before = self.services.get(event.service_urn)
                name = self.put(ServiceSnapshot(**shared(ServiceDefined, event)))
                managed_before = before is None or before.cluster_manager_urn is not None
                if managed_before and event.cluster_manager_urn is None and not isinstance(event, ServiceSnapshot):
                    # A snapshot changes nothing, and it contains the instances before the services.
                    self._hand_over(event.service_urn)
                return name
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
                return self.put(event)
        return None

    def names(self) -> set[DefinitionName]:
        """Of all that is there."""
        return {(table, name) for table in DEFINITION_TABLES for name in getattr(self, table)}

    def get(self, name: DefinitionName) -> Definition | None:
        """What is there by this name."""
        found: Definition | None = getattr(self, name[0]).get(name[1])
        return found

    def put(self, definition: Definition) -> DefinitionName:
        """Take it in, in place of what was there by its name."""
        table, key = name = name_in_snapshot(definition)
        getattr(self, table)[key] = definition
        return name

    def remove(self, name: DefinitionName) -> Definition | None:
        """Forget it, if it is there; what it was."""
        found: Definition | None = getattr(self, name[0]).pop(name[1], None)
        return found

    def copy(self) -> Definitions:
        """Another one with the same content."""
        return Definitions(dict(self.realms), dict(self.networks), dict(self.services), dict(self.instances))

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
        return self.put(InstanceSnapshot(**shared(ServiceEvent, event), phase=phase, since=since))


def name_in_snapshot(event: Definition) -> DefinitionName:
    """What it is about."""
    match event:
        case RealmSnapshot():
            return "realms", event.realm or ""
        case NetworkSnapshot():
            return "networks", event.network_urn or ""
        case ServiceSnapshot():
            return "services", event.service_urn
        case InstanceSnapshot():
            return "instances", event.service_urn


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
