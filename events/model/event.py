"""What every event is, and the words that events share with the rest of the hub."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

__all__ = [
    "DisconnectReason",
    "EndPointType",
    "Event",
    "InstancePhase",
    "TerminateReason",
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
