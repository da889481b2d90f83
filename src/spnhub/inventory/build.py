"""Makes the hub's own definitions of an inventory, and names everything that had to be left out.

A fault costs the smallest part that holds it: a service, a hub or a realm; everything else works on. Of two that claim
the same (a name, or an fqdn on one address) the first keeps it. Counterparts: :mod:`spnhub.inventory.source` gets the
objects, :mod:`spnhub.actors.contract.definitions` and the engine's identities are what comes out.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import urlsplit

import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.clusters import ServiceTask
from spnhub.dataclass import dataclass
from spnhub.inventory import pem
from spnhub.inventory.crl import CrlCopy, CrlStore, crl_urls
from spnhub.inventory.judge import document_faults, judged, null_fields, unknown_fields
from spnhub.inventory.model import AvailabilityManagement, Hub, Moment, Realm, Service, is_crl_url
from spnhub.inventory.source import (
    InventoryFault,
    RawFile,
    RawHub,
    RawRealm,
    check_url,
    file_of,
    name_of,
    read_file,
)
from spnhub.transport.engine import Revocation, ServerIdentity
from spnhub.transport.protocol import ALPN
from spnhub.transport.sc01.words import ALPN as SC01_ALPN
from spnhub.transport.system.ip import host_port

__all__ = [
    "Inventory",
    "ListenAddress",
    "Listening",
    "build",
    "faults_of",
    "load_inventory",
    "log_warnings",
    "shown_faults",
]

_log = structlog.get_logger(__name__)

_UNKNOWN_LIMIT: Final = 100
"""The most paths of unknown fields that are kept for the log."""
_NAME_SHOWN: Final = 255
"""Characters of a name by which a fault is told."""
STILL_NAMED: Final = timedelta(days=30)
"""How long a realm that has expired is read as before: its endpoints are told so under its names, and come again in
case that the clock is wrong; a name that nobody knows would end them."""
_FAULTS_SHOWN: Final = 100
_UNKNOWN_LENGTH: Final = 200
_told: Final[set[str]] = set()
_Fault = TypeVar("_Fault", bound=InventoryFault | str)
_Model = TypeVar("_Model", bound=BaseModel)
_EXPIRY: Final = TypeAdapter[datetime | None](Moment | None)


class ListenAddress(NamedTuple):
    """Where UDP packets are taken."""

    host: str | None
    """An IP address; None: all."""
    port: int

    def __str__(self) -> str:
        return host_port(self.host or "::", self.port)


@dataclass(frozen=True, slots=True)
class Listening:
    """The address at which one network is served, and the identity there."""

    realm: str
    network_urn: str
    fqdn: str
    address: ListenAddress
    identity: ServerIdentity


@dataclass(frozen=True, slots=True)
class Inventory:
    """What the hub serves, and what it had to leave out."""

    realms: tuple[RealmDefinition, ...]
    listening: tuple[Listening, ...]
    faults: tuple[InventoryFault, ...] = ()
    warnings: tuple[InventoryFault, ...] = ()
    """What is served, and yet won't be of use as it is."""
    unknown: tuple[str, ...] = ()
    """Fields from HTTP that this version doesn't know, as ``service.availabilityManagement.x``; a hundred at most."""
    tasks: Mapping[str, ServiceTask] = field(default_factory=dict, repr=False)
    """What cluster managers are to know of services, by the fingerprint of their ``Availability``."""


async def load_inventory(
    url: str,
    token: str | None = None,
    *,
    bind: str | None = None,
    attempts: int | None = 1,
    allow_process: bool = True,
    crls: CrlStore | None = None,
) -> Inventory:
    """Read the inventory at an http, https or file URL (R-6.2).

    ``bind`` overrides every hub's serverAddress. ``attempts`` is how often an inventory server that doesn't
    answer is asked: None, as at a hub's start, is until it answers; each failure is logged as
    ``inventory.unavailable``. Without ``allow_process`` a service that needs a local command (``process:``) is a fault:
    otherwise the author of the inventory could run programs on the hub's host. ``crls`` has the copies of revocation
    lists that were read before.

    :raises InventoryError: it can't be read at all. Parts that can't be used are in :attr:`Inventory.faults`.
    """
    now = datetime.now(UTC)
    check_url(url)
    if urlsplit(url).scheme == "file":
        raw: list[RawRealm] = await asyncio.to_thread(read_file, file_of(url))
    else:
        # Imported late: it brings an HTTP client. When it is read again, it is there.
        from spnhub.inventory.api import fetch  # noqa: PLC0415

        raw = await fetch(url, token, attempts=attempts, wanted=lambda realm: not is_ignored(realm, now))
    store = CrlStore(url) if crls is None else crls
    copies = await store.fetch(crl_urls(realm.data for realm in raw if not is_ignored(realm.data, now)))
    # Keys and certificates take their time: beside the event loop, which has packets to answer during a reload.
    return await asyncio.to_thread(build, raw, bind=bind, now=now, allow_process=allow_process, crls=copies)


def shown_faults(faults: Sequence[_Fault]) -> tuple[list[_Fault], int]:
    """The first hundred, which is what a log is told, and how many more there are."""
    return list(faults[:_FAULTS_SHOWN]), max(0, len(faults) - _FAULTS_SHOWN)


def log_warnings(inventory: Inventory) -> None:
    """Say what is served and won't be of use as it is."""
    warnings, more = shown_faults(inventory.warnings)
    for warning in warnings:
        _log.warning("inventory.warning", **warning.facts())
    if more:
        _log.warning("inventory.warning", where="inventory", field="", reason=f"and {more} more warnings")
    for path in inventory.unknown:
        # Once for each, whatever reloads bring: the API grows, and it is no trouble.
        if path not in _told and len(_told) < _UNKNOWN_LIMIT:
            _told.add(path)
            _log.info("inventory.unknown_field", field=path)


def build(
    raw: Iterable[RawRealm],
    *,
    bind: str | None = None,
    now: datetime | None = None,
    allow_process: bool = True,
    crls: Mapping[str, CrlCopy] | None = None,
) -> Inventory:
    """Judge the inventory's objects and make the hub's definitions of those that can be used."""
    return _Builder(bind, datetime.now(UTC) if now is None else now, allow_process, crls or {}).build(raw)


def is_ignored(realm: Any, now: datetime) -> bool:
    """Whether a realm object is disabled, or expired :data:`STILL_NAMED` ago: then nothing else about it matters."""
    if not isinstance(realm, dict):
        return False
    if realm.get("disabled") is True:
        return True
    try:
        expiry = _EXPIRY.validate_python(realm.get("expiredAt"))
    except ValidationError:
        return False
    return expiry is not None and expiry + STILL_NAMED <= now


def faults_of(kind: type[BaseModel], data: Any, where: str) -> list[InventoryFault]:
    """Everything that is wrong with one object, judged alone."""
    faults: list[InventoryFault] = []
    judged(kind, data, where, faults)
    return faults


class _Builder:
    """One pass over the objects; collects faults and claims as it goes."""

    def __init__(self, bind: str | None, now: datetime, allow_process: bool, crls: Mapping[str, CrlCopy]) -> None:
        self._bind = bind
        self._crls = crls
        self._allow_process = allow_process
        self._now = now
        self._faults: list[InventoryFault] = []
        self._listening: list[Listening] = []
        self._warnings: list[InventoryFault] = []
        self._tasks: dict[str, ServiceTask] = {}
        self._unknown: dict[str, None] = {}
        self._claims: dict[tuple[str, int], list[tuple[str | None, str]]] = {}
        """The hub that serves an fqdn at a port, and its address."""

    def build(self, raw: Iterable[RawRealm]) -> Inventory:
        realms = []
        names: set[str] = set()
        if isinstance(raw, RawFile):
            self._faults += document_faults(raw.document, ("realms",))
        for position, realm in enumerate(raw, 1):
            if is_ignored(realm.data, self._now):
                continue
            label = _label(realm.data, position)
            if self._is_taken(names, realm.data, f"realm {label}"):
                continue
            definition = self._realm(realm, label)
            if definition is not None:
                realms.append(definition)
        return Inventory(
            realms=tuple(realms),
            listening=tuple(self._listening),
            faults=tuple(self._faults),
            warnings=tuple(self._warnings),
            tasks=self._tasks,
            unknown=tuple(self._unknown),
        )

    def _realm(self, raw: RawRealm, label: str) -> RealmDefinition | None:
        where = f"realm {label}"
        realm = self._judged(Realm, raw.data, where)
        if raw.failure is not None:
            self._faults.append(InventoryFault(where, "hubs", raw.failure))
        usable = realm if raw.failure is None else None
        if realm is not None:
            doubts = pem.authority_doubts(realm.cacert, self._now)
            self._warnings += [InventoryFault(where, "cacert", doubt) for doubt in doubts]
        revocation = Revocation() if realm is None else self._revocation(realm, where)
        if revocation is None:
            usable = None
        networks = []
        names: set[str] = set()
        for position, hub in enumerate(raw.hubs, 1):
            hub_label = f"{label}/{_label(hub.data, position)}"
            if self._is_taken(names, hub.data, f"hub {hub_label}"):
                continue
            # Also below a realm that can't be used: every fault is to be named.
            network = self._network(hub, hub_label, usable, revocation or Revocation())
            if network is not None:
                networks.append(network)
        if usable is None or revocation is None:
            return None
        return usable.definition(tuple(networks), revocation)

    def _revocation(self, realm: Realm, where: str) -> Revocation | None:
        """What the realm's CAs have taken back; None, and a fault, where that must be known and can't be."""
        parts = []
        known = True
        for one in realm.crl:
            copy = self._crls.get(one) if is_crl_url(one) else CrlCopy(one.encode())
            if copy is None or copy.failure is not None:
                told = f"{one} {'is not read here' if copy is None else copy.failure}"
                known = known and (realm.crl_stale == "accept" or (copy is not None and copy.pem is not None))
                (self._warnings if known else self._faults).append(InventoryFault(where, "crl", told))
            if copy is not None and copy.pem is not None:
                parts.append(copy.pem)
        crl = b"".join(parts)
        self._warnings += [
            InventoryFault(where, "crl", doubt) for doubt in pem.crl_doubts(realm.cacert, crl, self._now)
        ]
        revocation = Revocation(crl, frozenset(realm.revoked), realm.crl_stale == "refuse")
        return revocation if known else None

    def _judged(self, kind: type[_Model], data: Any, where: str) -> _Model | None:
        for path in unknown_fields(kind, data):
            if len(self._unknown) < _UNKNOWN_LIMIT:
                self._unknown[path[:_UNKNOWN_LENGTH]] = None
        self._warnings += null_fields(kind, data, where)
        return judged(kind, data, where, self._faults, _follows(where))

    def _allowed(self, service: Service | None, where: str) -> Service | None:
        management = None if service is None else service.availability_management
        if management is None or self._allow_process or not management.cluster_manager_urn.startswith("process:"):
            return service
        reason = "process: runs commands on the hub's host, which the hub's --allow-process must allow"
        self._faults.append(InventoryFault(where, "availabilityManagement.clusterManagerUrn", reason))
        return None

    def _network(
        self, raw: RawHub, label: str, realm: Realm | None, revocation: Revocation
    ) -> NetworkDefinition | None:
        where = f"hub {label}"
        hub = self._judged(Hub, raw.data, where)
        if raw.failure is not None:
            self._faults.append(InventoryFault(where, "services", raw.failure))
            hub = None
        services: list[tuple[ServiceDefinition, AvailabilityManagement | None]] = []
        names: set[str] = set()
        for position, data in enumerate(raw.services, 1):
            service_label = f"service {label}/{_label(data, position)}"
            if self._is_taken(names, data, service_label):
                continue
            service = self._allowed(self._judged(Service, data, service_label), service_label)
            if service is not None and hub is not None and realm is not None:
                urn = service.urn(realm.name, hub.name)
                services.append((service.definition(urn), service.availability_management))
        if hub is None or realm is None or not self._listen(hub, where, realm, revocation):
            return None
        for reason in pem.doubts(hub.server_cert, hub.fqdn, self._now):
            self._warnings.append(InventoryFault(where, "serverCert", reason))
        for definition, management in services:
            if management is not None and definition.availability is not None:
                self._tasks[definition.availability.fingerprint] = management.task(definition.urn)
        return NetworkDefinition(
            urn=hub.urn(realm.name),
            name=hub.name,
            fqdn=hub.fqdn,
            services=tuple(definition for definition, _ in services),
            address=str(ListenAddress(self._host(hub), hub.server_port)),
            certificate=pem.fingerprint(hub.server_cert),
        )

    def _host(self, hub: Hub) -> str | None:
        return self._bind if self._bind is not None else hub.server_address

    def _listen(self, hub: Hub, where: str, realm: Realm, revocation: Revocation) -> bool:
        """Claim the hub's fqdn at its address; False when another hub has it."""
        host = self._host(hub)
        claims = self._claims.setdefault((hub.fqdn, hub.server_port), [])
        for other_host, other in claims:
            if _overlap(host, other_host):
                self._faults.append(InventoryFault(where, "fqdn", f"is that of {other}, on the same address and port"))
                return False
        claims.append((host, where))
        self._listening.append(
            Listening(
                realm=realm.name,
                network_urn=hub.urn(realm.name),
                fqdn=hub.fqdn,
                address=ListenAddress(host, hub.server_port),
                identity=ServerIdentity(
                    certificate_chain=hub.server_cert.encode(),
                    private_key=hub.server_cert_key.encode(),
                    client_ca=realm.cacert.encode(),
                    alpn=(ALPN, *SC01_ALPN.values()),
                    revocation=revocation,
                    max_handshakes=realm.max_handshakes,
                ),
            )
        )
        return True

    def _is_taken(self, names: set[str], data: Any, where: str) -> bool:
        name = name_of(data)
        if name is not None and name in names:
            self._faults.append(InventoryFault(where, "name", "is used more than once; the first keeps it"))
            return True
        if name is not None:
            names.add(name)
        return False


def _follows(where: str) -> dict[str, str]:
    """The read-only fields of ``realm R``, ``hub R/H`` or ``service R/H/S``."""
    kind, _, path = where.partition(" ")
    names = path.split("/")
    if any(name.startswith("#") for name in names):
        return {}
    urn = {"realm": "realm", "hub": "network", "service": "service"}[kind]
    return {"urn": f"urn:chip-in:{urn}:{':'.join(names)}", **dict(zip(("realm", "hub"), names, strict=False))}


def _label(data: Any, position: int) -> str:
    name = name_of(data)
    usable = name is not None and len(name) <= _NAME_SHOWN and name.isprintable()
    return name if usable and name is not None else f"#{position}"


def _overlap(one: str | None, other: str | None) -> bool:
    """Whether a packet could arrive at both addresses."""
    if one is None or other is None or one == other:
        return True
    a, b = ipaddress.ip_address(one), ipaddress.ip_address(other)
    if a.version != b.version:
        # A socket bound to :: takes IPv4 as well.
        return "::" in {str(a), str(b)}
    return a.is_unspecified or b.is_unspecified
