"""What every event is, and the words that events share with the rest of the hub."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import field, fields
from operator import attrgetter
from typing import Any, ClassVar, Final

from spnhub.events.frozen import dataclass

__all__ = [
    "DisconnectReason",
    "EndPointEvent",
    "EndPointType",
    "Event",
    "InstancePhase",
    "ServiceEvent",
    "SessionEvent",
    "TerminateReason",
    "Unknown",
    "shared",
]


class EndPointType(enum.StrEnum):
    """R-2.4."""

    PROVIDER = "serviceProvider"
    CONSUMER = "serviceConsumer"


class TerminateReason(enum.StrEnum):
    """Who ended a session (R-2.5, R-4.4): the hub, the endpoint, or neither in order."""

    SHUTDOWN = "shutdown"
    TERMINATED_BY_PEER = "terminatedByPeer"
    ERROR = "error"


class DisconnectReason(enum.StrEnum):
    """Who ended a connection (R-4.4): an endpoint in order, the hub, or neither."""

    CLOSED_BY_PEER = "closedByPeer"
    CLOSED = "closed"
    ERROR = "error"


class InstancePhase(enum.StrEnum):
    """Of a service that this hub has had started; stopped ones are not held."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact. Subclasses are the records of ``schemas/events``."""

    event_type: ClassVar[str] = ""

    realm: str | None
    network_urn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceEvent(Event):
    """A fact about a service, or something of one."""

    service_urn: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEvent(ServiceEvent):
    """A fact about a session, or something of one (R-2.4)."""

    spn_session_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EndPointEvent(SessionEvent):
    """A fact about a session that says whose it is."""

    spn_end_point: str
    end_point_type: EndPointType


def shared(group: type[Event], source: object) -> dict[str, Any]:
    """What ``source`` has of the fields of ``group``, as keyword arguments for another event about the same.

    :param source: an event, a state or an input that has all of them, named as they are.
    """
    known = _GROUPS.get(group)
    if known is None:
        names = tuple(one.name for one in fields(group))
        known = _GROUPS[group] = names, attrgetter(*names)
    names, values_of = known
    return dict(zip(names, values_of(source), strict=True))


_GROUPS: Final[dict[type[Event], tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]]] = {}
"""Fields of the groups that have been asked for, and what gets their values; every group has several, so a tuple."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(Event):
    """What a newer version of the hub tells and this one doesn't know: it has its place in the log, and no effect."""

    kind: str
    """Its eventType."""
    record: Mapping[str, Any] = field(hash=False)
    """All of it, named as in its schema."""

    @property
    def event_type(self) -> str:  # type: ignore[override] # known kinds are classes, this is any of the others
        """Its eventType."""
        return self.kind
