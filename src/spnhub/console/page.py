"""One page: everything that it shows, at one moment, to one reader. Pure.

Counterparts: :mod:`spnhub.console.live` and :mod:`spnhub.console.past` say what there is, :mod:`spnhub.console.html`
and :mod:`spnhub.cli.log_top` show the page.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field, fields
from typing import Any, Final, Generic, TypeVar

from spnhub.dataclass import dataclass
from spnhub.events.analysis.flow import FlowRates
from spnhub.events.analysis.incidents import Incident
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.point_in_time import HubAt
from spnhub.events.model import EndPointType
from spnhub.events.state.entities import OpenConnection, OpenSession
from spnhub.schemas.codec import camel

__all__ = [
    "Certificate",
    "ConnectionRow",
    "EndpointRow",
    "HubRow",
    "NetworkRow",
    "Page",
    "Rows",
    "Seen",
    "ServiceRow",
    "page_of",
]

R = TypeVar("R")

ROWS: Final = 100
"""Of a table; how many more there are is said, and a search finds them."""

_URGENT: Final = ("no provider", "unresponsive", "failing")
"""Conditions of a service that come first."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """When it expires, as a running hub says."""

    kind: str
    """``hub``, ``ca``, or ``session``: presented by an endpoint."""
    realm: str
    name: str
    subject: str
    not_after: str
    days: float
    """Left at the page's moment; below zero: it has expired."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known at a moment, for :func:`page_of`."""

    time: int
    """The moment, microseconds since 1970."""
    hubs: Sequence[HubAt]
    rates: Mapping[str, FlowRates] = field(default_factory=dict)
    """By service URN, in the minute before."""
    incidents: Sequence[Incident] = ()
    certificates: Sequence[Certificate] = ()
    addresses: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Where sessions come from, by hub and session id, as far as it is known."""
    ended: Sequence[EndpointRow] = ()
    """Sessions that are over at the moment, for a search."""


@dataclass(frozen=True, slots=True)
class HubRow:
    """A hub, as its log has it."""

    hub_id: str
    journal_id: str
    condition: str
    """``running``, ``stopped``, or ``unknown``: the log has no start."""
    since: int | None
    version: str
    addresses: tuple[str, ...]
    heard: int
    """Its last event, microseconds since 1970."""
    sequence: int
    sessions: int
    connections: int


@dataclass(frozen=True, slots=True)
class NetworkRow:
    """A network and its realm."""

    realm: str
    urn: str
    services: int
    sessions: int
    connections: int
    rates: FlowRates


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """A service, over all hubs."""

    realm: str
    urn: str
    condition: str
    """``no provider``: consumers have none; ``unresponsive``: no provider answers; ``failing``: a provider is passed
    over; ``serving``; ``idle``: no consumers; ``removed``: sessions of it are open, and it is defined no longer."""
    instance: str
    """Of one that the hub starts: its phase."""
    providers: int
    consumers: int
    connections: int
    rates: FlowRates


@dataclass(frozen=True, slots=True)
class EndpointRow:
    """A session of an endpoint at a hub."""

    session: str
    realm: str
    subject: str
    role: str
    service_urn: str
    hub_id: str
    address: str
    since: int
    condition: str
    """``open``, ``unresponsive``, ``passed over``, or ``ended``."""
    weight: int
    connections: int
    """Open ones."""
    ended: int | None = None


@dataclass(frozen=True, slots=True)
class ConnectionRow:
    """A leg of a connection that is open."""

    uid: str
    epoch: int
    realm: str
    service_urn: str
    hub_id: str
    since: int
    sent: int
    received: int
    consumer: str
    """Its subject, or its session's id."""
    provider: str


@dataclass(frozen=True, slots=True)
class Rows(Generic[R]):
    """The first rows of several."""

    rows: tuple[R, ...] = ()
    more: int = 0
    """Further ones that are there."""

    @property
    def total(self) -> int:
        """How many there are."""
        return len(self.rows) + self.more


@dataclass(frozen=True, slots=True)
class Page:
    """Everything that is shown."""

    time: int
    scope: str | None
    """The realm that the reader may see; None: all."""
    query: str
    totals: FlowRates
    sessions: int
    connections: int
    realms: int
    hubs: Rows[HubRow]
    networks: Rows[NetworkRow]
    services: Rows[ServiceRow]
    endpoints: Rows[EndpointRow]
    open_connections: Rows[ConnectionRow]
    incidents: Rows[Incident]
    certificates: Rows[Certificate]

    def to_json(self) -> dict[str, Any]:
        """For programs: names as everywhere outside, times as ISO 8601 in UTC."""
        found: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Rows):
                rows = [row.to_json() if isinstance(row, Incident) else _plain(row) for row in value.rows]
                value = {"rows": rows, "more": value.more}
            elif isinstance(value, FlowRates):
                value = _plain(value)
            elif one.name == "time":
                value = format_time(value)
            found[camel(one.name)] = value
        return found


def _plain(row: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in fields(row):
        value = getattr(row, one.name)
        if isinstance(value, FlowRates):
            value = _plain(value)
        elif one.name in _TIMES and value is not None:
            value = format_time(value)
        found[camel(one.name)] = value
    return found


_TIMES: Final = frozenset({"since", "heard", "ended"})


def page_of(seen: Seen, scope: str | None = None, query: str = "", rows: int = ROWS) -> Page:
    """The page.

    :param scope: the realm that the reader may see, and nothing else; None: all.
    :param query: what the reader looks for in names: only rows that have it are shown, totals stay.
    :param rows: of each table at most.
    """
    return _Maker(seen, scope, query.strip().lower(), rows).page(query.strip())


class _Maker:
    def __init__(self, seen: Seen, scope: str | None, wanted: str, rows: int) -> None:
        self._seen = seen
        self._scope = scope
        self._wanted = wanted
        self._rows = rows
        self._sessions = [
            (hub, one) for hub in seen.hubs for one in hub.state.sessions.values() if self._may(one.realm)
        ]
        self._legs = [(hub, one) for hub in seen.hubs for one in hub.state.connections.values() if self._may(one.realm)]

    def _may(self, realm: str | None) -> bool:
        return self._scope is None or realm == self._scope

    def _is_found(self, *texts: str) -> bool:
        return not self._wanted or any(self._wanted in text.lower() for text in texts)

    def _table(self, found: Iterable[R]) -> Rows[R]:
        listed = list(found)
        return Rows(tuple(listed[: self._rows]), max(0, len(listed) - self._rows))

    def page(self, query: str) -> Page:
        services = self._services()
        totals = FlowRates()
        for row in services:
            totals.add(row.rates)
        networks = self._networks(services)
        incidents = [
            one
            for one in self._seen.incidents
            if self._may(one.realm)
            and self._is_found(one.who, one.kind, one.code, one.reason, one.service_urn or "", *one.uids, *one.hubs)
        ]
        # What goes on first, then the latest.
        incidents.sort(key=lambda one: (one.state != "open", -one.last))
        certificates = sorted(
            (
                one
                for one in self._seen.certificates
                if self._may(one.realm) and self._is_found(one.name, one.subject, one.realm)
            ),
            key=lambda one: one.days,
        )
        realms = {name for hub in self._seen.hubs for name in hub.state.definitions.realms if self._may(name)}
        return Page(
            time=self._seen.time,
            scope=self._scope,
            query=query,
            totals=totals,
            sessions=len(self._sessions),
            connections=len(self._legs),
            realms=len(realms),
            hubs=self._table(row for row in self._hubs() if self._is_found(row.hub_id, row.journal_id, *row.addresses)),
            networks=self._table(row for row in networks if self._is_found(row.urn, row.realm)),
            services=self._table(row for row in services if self._is_found(row.urn, row.realm)),
            endpoints=self._table(self._endpoints()),
            open_connections=self._table(self._connections()),
            incidents=self._table(incidents),
            certificates=self._table(certificates),
        )

    def _hubs(self) -> Iterable[HubRow]:
        sessions = Counter(id(hub) for hub, _ in self._sessions)
        legs = Counter(id(hub) for hub, _ in self._legs)
        for hub in self._seen.hubs:
            state, run = hub.state, hub.state.run
            if self._scope is not None and self._scope not in state.definitions.realms:
                continue
            condition = "unknown" if run is None else "running" if run.stopped_at is None else "stopped"
            # Where a hub listens, and how much it has recorded, is no tenant's business.
            whole = self._scope is None
            yield HubRow(
                hub.hub_id,
                hub.journal_id,
                condition,
                None if run is None else run.started_at if run.stopped_at is None else run.stopped_at,
                "" if run is None else run.version,
                run.addresses if run is not None and whole else (),
                state.last_timestamp,
                state.last_sequence if whole else 0,
                sessions[id(hub)],
                legs[id(hub)],
            )

    def _services(self) -> list[ServiceRow]:
        defined: dict[str, tuple[str, str]] = {}
        instances: dict[str, str] = {}
        for hub in self._seen.hubs:
            definitions = hub.state.definitions
            for urn, one in definitions.services.items():
                if self._may(one.realm):
                    defined[urn] = one.realm or "", one.network_urn or ""
            instances.update((urn, str(one.phase)) for urn, one in definitions.instances.items())
        by: dict[str, tuple[list[OpenSession], list[OpenSession]]] = {}
        removed: dict[str, str] = {}
        for _, session in self._sessions:
            sides = by.setdefault(session.service_urn, ([], []))
            sides[session.end_point_type is EndPointType.CONSUMER].append(session)
            if session.service_urn not in defined:
                removed[session.service_urn] = session.realm or ""
        legs = Counter(leg.service_urn for _, leg in self._legs)
        found = []
        for urn in (*defined, *removed):
            providers, consumers = by.get(urn, ([], []))
            found.append(
                ServiceRow(
                    defined[urn][0] if urn in defined else removed[urn],
                    urn,
                    self._condition(providers, consumers) if urn in defined else "removed",
                    instances.get(urn, ""),
                    len(providers),
                    len(consumers),
                    legs[urn],
                    self._seen.rates.get(urn) or FlowRates(),
                )
            )
        urgent = {name: place for place, name in enumerate(_URGENT)}
        found.sort(
            key=lambda row: (
                urgent.get(row.condition, len(urgent)),
                -(row.rates.sent + row.rates.received),
                -row.connections,
                row.urn,
            )
        )
        return found

    def _condition(self, providers: Sequence[OpenSession], consumers: Sequence[OpenSession]) -> str:
        if not providers:
            return "no provider" if consumers else "idle"
        if all(one.suspect for one in providers):
            return "unresponsive"
        if any(self._is_passed_over(one) for one in providers):
            return "failing"
        return "serving" if consumers else "idle"

    def _is_passed_over(self, session: OpenSession) -> bool:
        return session.passed_over_until is not None

    def _networks(self, services: Sequence[ServiceRow]) -> list[NetworkRow]:
        rates: dict[str, FlowRates] = {}
        counts: Counter[str] = Counter()
        of: dict[str, str] = {}
        networks: dict[str, str] = {}
        for hub in self._seen.hubs:
            definitions = hub.state.definitions
            networks.update((urn, one.realm or "") for urn, one in definitions.networks.items() if self._may(one.realm))
            of.update((urn, one.network_urn or "") for urn, one in definitions.services.items())
        for row in services:
            network = of.get(row.urn, "")
            counts[network] += 1
            rates.setdefault(network, FlowRates()).add(row.rates)
        sessions = Counter(one.network_urn or "" for _, one in self._sessions)
        legs = Counter(one.network_urn or "" for _, one in self._legs)
        return [
            NetworkRow(realm, urn, counts[urn], sessions[urn], legs[urn], rates.get(urn) or FlowRates())
            for urn, realm in sorted(networks.items(), key=lambda item: (item[1], item[0]))
        ]

    def _endpoints(self) -> Iterable[EndpointRow]:
        legs: Counter[tuple[int, str]] = Counter()
        for hub, leg in self._legs:
            for side in {leg.consumer_side_spn_session_id, leg.provider_side_spn_session_id}:
                legs[id(hub), side] += 1
        found = []
        for hub, one in self._sessions:
            address = self._seen.addresses.get((hub.hub_id, one.spn_session_id), "")
            if not self._is_found(one.spn_session_id, one.spn_end_point, one.service_urn, address, hub.hub_id):
                continue
            condition = "unresponsive" if one.suspect else "passed over" if self._is_passed_over(one) else "open"
            found.append(
                EndpointRow(
                    one.spn_session_id,
                    one.realm or "",
                    one.spn_end_point,
                    "provider" if one.end_point_type is EndPointType.PROVIDER else "consumer",
                    one.service_urn,
                    hub.hub_id,
                    address,
                    one.start_at,
                    condition,
                    one.weight,
                    legs[id(hub), one.spn_session_id],
                )
            )
        found.sort(key=lambda row: (row.condition == "open", -row.connections, row.subject, row.session))
        if self._wanted:
            found += [
                row
                for row in self._seen.ended
                if self._may(row.realm)
                and self._is_found(row.session, row.subject, row.service_urn, row.address, row.hub_id)
            ]
        return found

    def _connections(self) -> Iterable[ConnectionRow]:
        def who(hub: HubAt, session: str) -> str:
            known = hub.state.sessions.get(session)
            return session if known is None else known.spn_end_point

        def row(hub: HubAt, leg: OpenConnection) -> ConnectionRow:
            return ConnectionRow(
                leg.connection_uid,
                leg.epoch,
                leg.realm or "",
                leg.service_urn,
                hub.hub_id,
                leg.start_at,
                leg.start_sent_offset + leg.total_sent_bytes,
                leg.start_receive_offset + leg.total_receive_bytes,
                who(hub, leg.consumer_side_spn_session_id),
                who(hub, leg.provider_side_spn_session_id),
            )

        rows = (row(hub, leg) for hub, leg in sorted(self._legs, key=lambda item: -item[1].start_at))
        return [one for one in rows if self._is_found(one.uid, one.service_urn, one.consumer, one.provider, one.hub_id)]
