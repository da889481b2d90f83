"""What a reload changes: the inventory as tables, their differences, and which live sessions these cut (R-6.2, D-31).

Pure. The actors apply what stands here, and ``spnhub check --diff`` shows it without doing it.
Counterpart: :mod:`spnhub.actors.contract.definitions`.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import field, fields
from typing import Any, Final, NamedTuple, TypeVar

from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.dataclass import dataclass
from spnhub.events.model import (
    EndPointType,
    Event,
    InventoryLoaded,
    NetworkAdded,
    NetworkChanged,
    NetworkDefined,
    NetworkRemoved,
    RealmAdded,
    RealmChanged,
    RealmDefined,
    RealmRemoved,
    ServiceAdded,
    ServiceChanged,
    ServiceDefined,
    ServiceEvent,
    ServiceRemoved,
)
from spnhub.schemas.codec import camel

__all__ = [
    "NO_NAME",
    "DefinitionChange",
    "DefinitionDifference",
    "LiveSession",
    "Plan",
    "ServiceKey",
    "Table",
    "is_expired",
    "not_allowed",
    "plan",
    "service_event",
    "surplus",
]


_Name = TypeVar("_Name", bound=Hashable)


class ServiceKey(NamedTuple):
    """A service of a network."""

    network_urn: str
    service_urn: str


def is_expired(realm: RealmDefinition, wall_us: int) -> bool:
    """Whether the realm's time is over at ``wall_us`` (microseconds since 1970)."""
    return realm.expired_at is not None and realm.expired_at <= wall_us


@dataclass(frozen=True, slots=True)
class Table:
    """The inventory, indexed; replaced as a whole and never changed. Equal parts of two tables are the same objects."""

    realms: Mapping[str, RealmDefinition] = field(default_factory=dict)
    networks: Mapping[str, tuple[str, NetworkDefinition]] = field(default_factory=dict)
    """Realm and definition by network URN."""
    services: Mapping[ServiceKey, ServiceDefinition] = field(default_factory=dict)
    expired: Mapping[str, RealmDefinition] = field(default_factory=dict)
    """Realms that were left out because their time is over; a clock that is set back brings them again."""

    @classmethod
    def of(cls, realms: Iterable[RealmDefinition], wall_us: int, before: Table | None = None) -> Table:
        """The table of these realms at ``wall_us`` (microseconds since 1970), sharing what is equal with ``before``."""
        before = before or cls()
        kept: dict[str, RealmDefinition] = {}
        networks: dict[str, tuple[str, NetworkDefinition]] = {}
        services: dict[ServiceKey, ServiceDefinition] = {}
        expired: dict[str, RealmDefinition] = {}
        for realm in realms:
            if is_expired(realm, wall_us):
                expired[realm.name] = realm
                continue
            kept[realm.name] = realm
            for network in realm.networks:
                networks[network.urn] = (realm.name, network)
                for service in network.services:
                    key = ServiceKey(network.urn, service.urn)
                    known = before.services.get(key)
                    services[key] = known if known == service else service
        return cls(kept, networks, services, expired)

    def realm_of(self, key: ServiceKey) -> str | None:
        """The realm that a service's network belongs to; None: there is no such network."""
        network = self.networks.get(key.network_urn)
        return None if network is None else network[0]

    def services_of(self, network_urn: str, role: EndPointType, common_name: str) -> tuple[str, ...]:
        """URNs of the network's services in which this common name may have this role."""
        network = self.networks.get(network_urn)
        services = () if network is None or not common_name else network[1].services
        return tuple(one.urn for one in services if not_allowed(one, role, common_name) is None)

    def absence(self, realm: str) -> str:
        """Why something of this realm isn't here: ``expired`` or ``removed``."""
        return "expired" if realm in self.expired else "removed"

    def expiry(self, realm: str) -> str | None:
        """What endpoints of a realm that has expired are told (EXPIRED); None: it hasn't.

        By this clock, which may be wrong: whoever is told that nobody knows the realm doesn't come again.
        """
        return f"realm {realm} has expired" if realm in self.expired else None

    def is_current(self, wall_us: int) -> bool:
        """Whether :meth:`of` would leave out the same realms at ``wall_us`` (microseconds since 1970)."""
        return all(is_expired(one, wall_us) for one in self.expired.values()) and not any(
            is_expired(one, wall_us) for one in self.realms.values()
        )

    @property
    def next_expiry(self) -> int | None:
        """When a realm's time is over next, microseconds since 1970; None: never."""
        return min((r.expired_at for r in self.realms.values() if r.expired_at is not None), default=None)


class DefinitionChange(enum.Enum):
    """What happened to a definition."""

    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


class DefinitionDifference(NamedTuple):
    """One thing that another inventory makes different."""

    change: DefinitionChange
    kind: str
    """``realm``, ``network`` or ``service``."""
    realm: str
    network_urn: str | None = None
    service_urn: str | None = None
    changed: tuple[str, ...] = ()
    """Fields that are different, as the log names them."""


class LiveSession(NamedTuple):
    """A session, as far as a definition can cut it."""

    network_urn: str
    service_urn: str
    end_point_type: EndPointType
    common_name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """From one table to another."""

    before: Table
    after: Table
    differences: tuple[DefinitionDifference, ...]
    """Realms, networks, then services."""

    def loaded(self, *, initial: bool) -> InventoryLoaded:
        """The event that says so, with counts."""
        counts = Counter((difference.kind, difference.change) for difference in self.differences)
        named = {f"{kind}s_{change.value}": count for (kind, change), count in counts.items()}
        return InventoryLoaded(realm=None, network_urn=None, initial=initial, **named)

    def event(self, difference: DefinitionDifference) -> Event:
        """The event of a realm's or a network's difference."""
        realm, network_urn = difference.realm, difference.network_urn
        where: dict[str, Any] = {"realm": realm, "network_urn": network_urn}
        if difference.change is DefinitionChange.REMOVED:
            removed = RealmRemoved if network_urn is None else NetworkRemoved
            return removed(**where, reason=self.after.absence(realm))
        if network_urn is None:
            values = _values(self.after.realms[realm], _OF_REALM)
            if difference.change is DefinitionChange.ADDED:
                return RealmAdded(**where, **values)
            return RealmChanged(**where, **values, changed=difference.changed)
        values = _values(self.after.networks[network_urn][1], _OF_NETWORK)
        if difference.change is DefinitionChange.ADDED:
            return NetworkAdded(**where, **values)
        return NetworkChanged(**where, **values, changed=difference.changed)

    def cuts(self, sessions: Iterable[tuple[_Name, LiveSession]]) -> dict[_Name, str]:
        """Which of these sessions (oldest first) the plan cuts, and why, by the names they are given with.

        Changed CAs are not judged here: whoever has the certificates verifies them again.
        """
        reasons: dict[_Name, str] = {}
        providers: dict[ServiceKey, list[_Name]] = {}
        for name, session in sessions:
            key = ServiceKey(session.network_urn, session.service_urn)
            definition = self.after.services.get(key)
            if definition is self.before.services.get(key):
                continue
            reason = not_allowed(definition, session.end_point_type, session.common_name)
            if reason is not None:
                reasons[name] = reason
            elif session.end_point_type is EndPointType.PROVIDER:
                providers.setdefault(key, []).append(name)
        for key, names in providers.items():
            reasons |= surplus(self.after.services[key], names)
        return reasons


def plan(before: Table, after: Table) -> Plan:
    """What is different; ``after`` was made with ``before`` known to it (:meth:`Table.of`)."""
    notes: list[DefinitionDifference] = []
    for name in sorted(before.realms.keys() | after.realms.keys()):
        old_realm, new_realm = before.realms.get(name), after.realms.get(name)
        old = None if old_realm is None else _values(old_realm, _OF_REALM)
        new = None if new_realm is None else _values(new_realm, _OF_REALM)
        _note(notes, DefinitionDifference(DefinitionChange.CHANGED, "realm", name), old, new)
    for urn in sorted(before.networks.keys() | after.networks.keys()):
        was, now = before.networks.get(urn), after.networks.get(urn)
        realm = (now or was or ("",))[0]
        old = None if was is None else _values(was[1], _OF_NETWORK)
        new = None if now is None else _values(now[1], _OF_NETWORK)
        _note(notes, DefinitionDifference(DefinitionChange.CHANGED, "network", realm, urn), old, new)
    for key, definition in after.services.items():
        known = before.services.get(key)
        if known is not definition:
            difference = DefinitionDifference(DefinitionChange.CHANGED, "service", after.realm_of(key) or "", *key)
            old = None if known is None else _service_values(known)
            _note(notes, difference, old, _service_values(definition))
    gone = [key for key in before.services if key not in after.services]
    notes += [
        DefinitionDifference(DefinitionChange.REMOVED, "service", before.realm_of(key) or "", *key) for key in gone
    ]
    return Plan(before, after, tuple(notes))


def _note(
    notes: list[DefinitionDifference],
    difference: DefinitionDifference,
    old: Mapping[str, Any] | None,
    new: Mapping[str, Any] | None,
) -> None:
    if old is None:
        notes.append(difference._replace(change=DefinitionChange.ADDED))
    elif new is None:
        notes.append(difference._replace(change=DefinitionChange.REMOVED))
    elif changed := _changed(old, new):
        notes.append(difference._replace(changed=changed))


def service_event(
    realm: str, key: ServiceKey, old: ServiceDefinition | None, new: ServiceDefinition | None, reason: str = "removed"
) -> Event | None:
    """The event of a service's difference; None: there is none to tell."""
    network_urn, service_urn = key
    if new is None:
        if old is None:
            return None
        return ServiceRemoved(realm=realm, network_urn=network_urn, service_urn=service_urn, reason=reason)
    values = _service_values(new)
    named = {"realm": realm, "network_urn": network_urn, "service_urn": service_urn} | values
    named.pop("availability")
    if old is None:
        return ServiceAdded(**named)
    changed = _changed(_service_values(old), values)
    return ServiceChanged(**named, changed=changed) if changed else None


NO_NAME: Final = "the certificate's subject has not exactly one common name"
"""Then an inventory can't name who has it (D-2)."""


def not_allowed(definition: ServiceDefinition | None, role: EndPointType, common_name: str) -> str | None:
    """Why a definition allows no session of this role to this common name; None when it does."""
    if definition is None:
        return "the service is no longer defined"
    if not common_name:
        return NO_NAME
    allowed = (
        common_name == definition.provider if role is EndPointType.PROVIDER else common_name in definition.consumers
    )
    return None if allowed else f"{common_name!r} may not be a {role} of {definition.urn}"


def surplus(definition: ServiceDefinition, providers: Iterable[_Name]) -> dict[_Name, str]:
    """Which provider sessions (oldest first) are too many for a singleton, and why: all but the oldest."""
    if not definition.singleton:
        return {}
    reason = f"{definition.urn} is a singleton, and an older session provides it"
    return dict.fromkeys(list(providers)[1:], reason)


def _own(group: type[Event], identity: type[Event]) -> tuple[str, ...]:
    """What the events of a definition say of it, beside what it is called."""
    return tuple(one.name for one in fields(group) if one.name not in {known.name for known in fields(identity)})


_OF_REALM: Final = _own(RealmDefined, Event)
_OF_NETWORK: Final = _own(NetworkDefined, Event)
_OF_SERVICE: Final = tuple(
    name for name in _own(ServiceDefined, ServiceEvent) if name in ServiceDefinition.__dataclass_fields__
)
_OF_AVAILABILITY: Final = tuple(name for name in _own(ServiceDefined, ServiceEvent) if name not in _OF_SERVICE)


def _values(definition: object, names: tuple[str, ...]) -> dict[str, Any]:
    """Fields of a definition as its events have them, under the same names."""
    values = {name: getattr(definition, name) for name in names}
    return {name: tuple(sorted(one)) if isinstance(one, frozenset) else one for name, one in values.items()}


def _service_values(service: ServiceDefinition) -> dict[str, Any]:
    """Those of the events, and ``availability`` for what only the cluster manager reads."""
    availability = service.availability
    values = _values(service, _OF_SERVICE) | {"availability": None}
    if availability is not None:
        values |= _values(availability, _OF_AVAILABILITY) | {"availability": availability.fingerprint}
    return values


def _changed(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    names = [*new, *(name for name in old if name not in new)]
    return tuple(camel(name) for name in names if old.get(name) != new.get(name))
