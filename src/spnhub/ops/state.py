"""``/state``: what a hub holds at one moment, as JSON, a piece at a time so that a big one doesn't hold up traffic.

One object: facts of the process, then the lists ``realms``, ``networks`` and ``services`` (the inventory as applied),
``sessions``, ``connections``, ``instances`` and ``certificates`` (when they expire). Times are ISO 8601 in UTC.
Counterpart: :func:`read`, with which :mod:`spnhub.cli.check` takes the inventory out of it again.
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from spnhub.actors.contract.definitions import Availability, NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.dataclass import dataclass
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.serialize import serialize
from spnhub.events.kafka.settings import ShipperStatus
from spnhub.events.model import from_datetime, to_datetime
from spnhub.events.state.hub_state import HubState
from spnhub.ops.expiry import CertificateEnd, RevocationAge
from spnhub.schemas.codec import camel
from spnhub.transport.certificates import expiry_of
from spnhub.transport.hub import HubSession
from spnhub.transport.pem import date_text

__all__ = ["Progress", "Snapshot", "read", "stream"]

_Object = dict[str, Any]

_PIECE: Final = 100
"""Objects made between two looks at the loop: about a millisecond."""


class Progress(NamedTuple):
    """How far a hub's events have come."""

    appended: int
    """Sequence of the last event."""
    written: int
    """Sequence of the last event that is in the journal."""
    shipper: ShipperStatus | None
    """None: nothing is shipped."""
    error: str | None = None
    """Why the journal can't be written now; None: it can."""
    size: int = 0
    """Bytes of the journal."""
    limit: int | None = None
    """The bytes beyond which its oldest events go; None: no bound."""
    clock_steps: int = 0
    """How often the wall clock was stepped."""
    ahead: float = 0.0
    """Seconds by which the last event's time is ahead of the clock."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A hub at one moment. What it refers to doesn't change any more, but the sessions' certificates may go."""

    hub_id: str
    bind: str | None
    wall_us: int
    progress: Progress
    realms: tuple[RealmDefinition, ...]
    state: HubState | None
    """None: before the inventory is there."""
    sessions: tuple[HubSession, ...]
    chain: Callable[[int], tuple[bytes, ...]]
    """What a session (by number) presented, DER."""
    datagram_size: Callable[[int], int | None] = lambda _: None
    """Bytes of the largest UDP payload that is sent to a session (by number) at the moment."""
    ends: tuple[CertificateEnd, ...] = ()
    """When the certificates of the inventory expire."""
    lists: tuple[RevocationAge, ...] = ()
    """Its revocation lists."""


async def stream(snapshot: Snapshot, *, certificates: bool = False) -> AsyncIterator[bytes]:
    """The JSON text. ``certificates``: with what each session presented, base64 of DER, leaf first."""
    appended, written, shipper, error, *_ = snapshot.progress
    run = None if snapshot.state is None else snapshot.state.run
    head = {
        "hubId": snapshot.hub_id,
        "bind": snapshot.bind,
        "time": format_time(snapshot.wall_us),
        "sequence": appended,
        "writtenSequence": written,
        "journalError": error,
        "run": None if run is None else serialize(run),
        "shipper": None
        if shipper is None
        else {
            "state": shipper.state,
            "position": shipper.position,
            "behind": shipper.behind,
            "topicFaults": list(shipper.topic_faults),
        },
    }
    yield json.dumps(head)[:-1].encode()
    for name, objects in _lists(snapshot, certificates):
        yield f', "{name}": ['.encode()
        first = True
        for piece in _pieces(objects):
            yield ("" if first else ", ").encode() + piece
            first = False
            await asyncio.sleep(0)
        yield b"]"
    yield b"}\n"


def _pieces(objects: Iterable[_Object]) -> Iterator[bytes]:
    piece: list[str] = []
    for one in objects:
        piece.append(json.dumps(one))
        if len(piece) >= _PIECE:
            yield ", ".join(piece).encode()
            piece.clear()
    if piece:
        yield ", ".join(piece).encode()


def _lists(snapshot: Snapshot, certificates: bool) -> Iterator[tuple[str, Iterable[_Object]]]:
    realms = snapshot.realms
    yield "realms", (serialize(realm, without=("networks",)) for realm in realms)
    yield (
        "networks",
        ({"realm": r.name} | serialize(network, without=("services",)) for r in realms for network in r.networks),
    )
    yield (
        "services",
        (
            {"realm": r.name, "networkUrn": n.urn} | serialize(service)
            for r in realms
            for n in r.networks
            for service in n.services
        ),
    )
    state = HubState() if snapshot.state is None else snapshot.state
    live = {session.cid: session for session in snapshot.sessions}
    yield (
        "sessions",
        (
            serialize(session) | _transport(live.get(session.spn_session_id), snapshot, certificates)
            for session in state.sessions.values()
        ),
    )
    yield "connections", (serialize(connection) for connection in state.connections.values())
    yield "instances", (serialize(instance) for instance in state.definitions.instances.values())
    now = to_datetime(snapshot.wall_us)
    yield "certificates", (one.to_json(now) for one in snapshot.ends)
    yield "revocationLists", (one.to_json(now) for one in snapshot.lists)


def _transport(session: HubSession | None, snapshot: Snapshot, certificates: bool) -> _Object:
    if session is None:
        return {}
    found: _Object = {
        "commonName": session.common_name,
        "remoteAddress": session.address,
        "datagramSize": snapshot.datagram_size(session.connection_id),
    }
    chain = snapshot.chain(session.connection_id)
    found["certificateExpiry"] = None if not chain or (end := expiry_of(chain[0])) is None else date_text(end)
    if certificates:
        found["certificates"] = [base64.b64encode(der).decode() for der in chain]
    return found


def read(state: Mapping[str, Any]) -> tuple[RealmDefinition, ...]:
    """The inventory that a ``/state`` object shows.

    :raises KeyError: it isn't one, or one of another version.
    """
    services: dict[str, list[ServiceDefinition]] = {}
    for one in state["services"]:
        availability = one["availability"]
        made = None if availability is None else _made(Availability, availability)
        service = _made(ServiceDefinition, one, consumers=frozenset(one["consumers"]), availability=made)
        services.setdefault(one["networkUrn"], []).append(service)
    networks: dict[str, list[NetworkDefinition]] = {}
    for one in state["networks"]:
        network = _made(NetworkDefinition, one, services=tuple(services.get(one["urn"], ())))
        networks.setdefault(one["realm"], []).append(network)
    return tuple(
        _made(
            RealmDefinition,
            one,
            networks=tuple(networks.get(one["name"], ())),
            expired_at=None if one["expiredAt"] is None else from_datetime(datetime.fromisoformat(one["expiredAt"])),
        )
        for one in state["realms"]
    )


def _made(kind: type[Any], one: Mapping[str, Any], **values: Any) -> Any:
    values_of = {f.name: one[camel(f.name)] for f in dataclasses.fields(kind) if f.name not in values}
    return kind(**values_of, **values)
