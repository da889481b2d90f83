"""Logs for the console: two realms on two hubs, with what goes well and what doesn't."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from spnhub.console.page import Seen
from spnhub.events.analysis.flow import Flow
from spnhub.events.analysis.incidents import Incidents
from spnhub.events.analysis.point_in_time import NOW, HubAt
from spnhub.events.codes import Code
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionProgress,
    ConnectionRefused,
    DisconnectReason,
    EndPointType,
    Event,
    HubStarted,
    InventoryLoaded,
    LegStartEvent,
    NetworkAdded,
    ProviderFailed,
    ProviderSilent,
    RealmAdded,
    Recorded,
    ServiceAdded,
    SessionEnded,
    SessionStarted,
    TerminateReason,
)
from tests.events import samples

__all__ = [
    "SECOND",
    "a",
    "at",
    "defined",
    "ended",
    "failing",
    "leg",
    "refused",
    "seen_of",
    "service",
    "session",
    "silent",
    "start",
]

SECOND = 1_000_000
_SAMPLES = {type(event): event for event in (*samples.EACH, *samples.RUNS, *samples.LATER)}


def a(kind: type[Event], **fields: Any) -> Event:
    """The sample of that kind, with other fields."""
    return dataclasses.replace(_SAMPLES[kind], **fields)


def service(realm: str, name: str) -> str:
    """Its URN."""
    return f"urn:net:{realm}:main:{name}"


def defined(realm: str, *services: str) -> list[Event]:
    """A realm with one network, and its services."""
    network = f"urn:net:{realm}:main"
    return [
        a(RealmAdded, realm=realm, network_urn=None),
        a(NetworkAdded, realm=realm, network_urn=network),
        *(
            a(ServiceAdded, realm=realm, network_urn=network, service_urn=service(realm, one), cluster_manager_urn=None)
            for one in services
        ),
    ]


def _of(realm: str, name: str) -> dict[str, Any]:
    return {"realm": realm, "network_urn": f"urn:net:{realm}:main", "service_urn": service(realm, name)}


def session(
    name: str, realm: str, of: str, role: EndPointType = EndPointType.CONSUMER, who: str = "", address: str = ""
) -> Event:
    """A session begins."""
    return a(
        SessionStarted,
        **_of(realm, of),
        spn_session_id=name,
        spn_end_point=who or f"CN={name}",
        end_point_type=role,
        remote_address=address,
    )


def ended(name: str, realm: str, of: str, role: EndPointType = EndPointType.CONSUMER, count: int = 0) -> Event:
    """It ends by an error."""
    return a(
        SessionEnded,
        **_of(realm, of),
        spn_session_id=name,
        spn_end_point=f"CN={name}",
        end_point_type=role,
        total_connection_count=count,
        terminate_reason=TerminateReason.ERROR,
        reason="idle timeout",
        recovered=False,
    )


def leg(kind: type[Event], uid: str, realm: str, of: str, consumer: str, provider: str, **fields: Any) -> Event:
    """An event of a leg."""
    facts: dict[str, Any] = {
        "connection_uid": uid,
        "consumer_side_spn_session_id": consumer,
        "provider_side_spn_session_id": provider,
        "spn_connection_id": f"{uid[:4]}-1",
        "epoch": 0,
    }
    if issubclass(kind, LegStartEvent):
        facts |= {"start_sent_offset": 0, "start_receive_offset": 0}
    if kind is ConnectionEnded:
        facts |= {"disconnect_reason": DisconnectReason.CLOSED_BY_PEER, "suspended": False, "rejected": False}
        facts |= {"recovered": False, "code": None, "reason": ""}
    if kind in (ConnectionProgress, ConnectionEnded):
        facts |= {"total_sent_bytes": 0, "total_receive_bytes": 0, "delta_sent_bytes": 0, "delta_receive_bytes": 0}
    return a(kind, **_of(realm, of), **(facts | fields))


def silent(name: str, realm: str, of: str) -> Event:
    """A provider is unresponsive."""
    return a(ProviderSilent, **_of(realm, of), spn_session_id=name)


def failing(name: str, realm: str, of: str, until: int) -> Event:
    """A provider didn't accept, and is passed over."""
    facts: dict[str, Any] = {
        "failures": 1,
        "passed_over_until": until,
        "code": 32,
        "reason": "10.0.0.1 port 80: refused",
    }
    return a(ProviderFailed, **_of(realm, of), spn_session_id=name, **facts)


def refused(realm: str, of: str, consumer: str, uid: str = "cd" * 16) -> Event:
    """Nobody was there for a connection."""
    facts: dict[str, Any] = {"code": int(Code.NO_PROVIDER), "reason": "no provider", "connection_uid": uid}
    return a(ConnectionRefused, **_of(realm, of), consumer_side_spn_session_id=consumer, **facts)


def start(version: str = "0.2.0") -> list[Event]:
    """A hub starts."""
    return [a(HubStarted, version=version, addresses=("192.0.2.1:4433",)), a(InventoryLoaded, initial=True)]


def at(events: Iterable[Event], hub: str = "hub-1", *, step: int = SECOND) -> list[Recorded]:
    """The log of a hub, an event each second."""
    return samples.record(events, hub_id=hub, step=step)


def seen_of(*logs: list[Recorded], time: int | None = None, **more: Any) -> Seen:
    """What is known of these logs at a moment; None: at their end."""
    last = max(recorded.timestamp for log in logs for recorded in log)
    moment = last if time is None else time
    hubs, flow, incidents = [], Flow(), Incidents()
    for log in logs:
        hub = HubAt(log[0].hub_id, str(log[0].journal_id), 1)
        for recorded in log:
            if recorded.timestamp <= moment:
                hub.take(recorded, NOW)
                flow.take(recorded)
                incidents.take(recorded)
        hubs.append(hub)
    return Seen(moment, hubs, flow.rates(moment), incidents.finish(), **more)
