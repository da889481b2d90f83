"""Events about the inventory as it is applied: realms and the hubs in them (R-6.2, D-3)."""

from __future__ import annotations

from typing import ClassVar

from spnhub.events.frozen import dataclass
from spnhub.events.model.event import Event

__all__ = [
    "InventoryLoaded",
    "InventoryRejected",
    "NetworkAdded",
    "NetworkChanged",
    "NetworkDefined",
    "NetworkRemoved",
    "NetworkSnapshot",
    "RealmAdded",
    "RealmChanged",
    "RealmDefined",
    "RealmRemoved",
    "RealmSnapshot",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryLoaded(Event):
    """The inventory was read and applies from now on (R-6.2); an event for each difference follows."""

    event_type: ClassVar[str] = "inventoryLoaded"

    initial: bool
    realms_added: int = 0
    realms_changed: int = 0
    realms_removed: int = 0
    networks_added: int = 0
    networks_changed: int = 0
    networks_removed: int = 0
    services_added: int = 0
    services_changed: int = 0
    services_removed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRejected(Event):
    """A reload found faults in the inventory and changed nothing."""

    event_type: ClassVar[str] = "inventoryRejected"

    fault_count: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmDefined(Event):
    """How a realm is defined: what a plan compares, the state holds and a snapshot says."""

    expired_at: int | None = None
    client_ca: str = ""
    max_sessions: int | None = None
    max_connections: int | None = None
    max_handshake_rate: int | None = None
    max_event_rate: int | None = None
    max_journal_rate: int | None = None
    max_memory: int | None = None
    max_bandwidth: int | None = None
    max_handshakes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmAdded(RealmDefined):
    """A realm is served from now on."""

    event_type: ClassVar[str] = "realmAdded"


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmChanged(RealmDefined):
    """A realm's definition has changed; the fields hold the new one."""

    event_type: ClassVar[str] = "realmChanged"

    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmRemoved(Event):
    """A realm is no longer served: it was removed, disabled or has expired."""

    event_type: ClassVar[str] = "realmRemoved"

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmSnapshot(RealmDefined):
    """A realm that is served."""

    event_type: ClassVar[str] = "realmSnapshot"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDefined(Event):
    """How a hub of the inventory is defined, likewise."""

    fqdn: str
    address: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkAdded(NetworkDefined):
    """A network (a hub of the inventory) is served from now on (D-3)."""

    event_type: ClassVar[str] = "networkAdded"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChanged(NetworkDefined):
    """The definition of a network (a hub of the inventory) has changed; the fields hold the new one."""

    event_type: ClassVar[str] = "networkChanged"

    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRemoved(Event):
    """A network (a hub of the inventory) is no longer served."""

    event_type: ClassVar[str] = "networkRemoved"

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSnapshot(NetworkDefined):
    """A network (a hub of the inventory) that is served."""

    event_type: ClassVar[str] = "networkSnapshot"
