"""Events about the hub's process and its log: runs, losses, and the frame of a snapshot (D-6, D-8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from spnhub.events.model.event import Event

__all__ = [
    "EventsLost",
    "HubAlive",
    "HubStarted",
    "HubStopped",
    "JournalStalled",
    "LimitReached",
    "SnapshotEnded",
    "SnapshotStarted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStarted(Event):
    """A hub process has begun to take packets."""

    event_type: ClassVar[str] = "hubStarted"

    version: str = ""
    addresses: tuple[str, ...] = ()
    orderly: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStopped(Event):
    """A hub process has ended in order."""

    event_type: ClassVar[str] = "hubStopped"

    reason: str = ""
    elapsed_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAlive(Event):
    """A sign of life."""

    event_type: ClassVar[str] = "hubAlive"

    sessions: int
    connections: int
    elapsed_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStalled(Event):
    """The journal didn't take events in time; traffic went on ungated (D-6)."""

    event_type: ClassVar[str] = "journalStalled"

    first_sequence: int
    last_sequence: int
    stalled_seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost(Event):
    """Events could not be kept: their sequence numbers are a gap in the log (D-8)."""

    event_type: ClassVar[str] = "eventsLost"

    first_sequence: int
    last_sequence: int
    count: int
    first_timestamp: int
    last_timestamp: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReached(Event):
    """A bound of the hub bites where nobody is told a refusal."""

    event_type: ClassVar[str] = "limitReached"

    limit: str
    bound: int | None = None
    service_urn: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStarted(Event):
    """A segment of the journal begins; what is open follows (D-8)."""

    event_type: ClassVar[str] = "snapshotStarted"

    sessions: int
    connections: int
    realms: int
    networks: int
    services: int
    instances: int
    lost: int = 0
    version: str = ""
    addresses: tuple[str, ...] = ()
    started_at: int | None = None
    alive_at: int | None = None
    stopped_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEnded(Event):
    """The last record of a snapshot."""

    event_type: ClassVar[str] = "snapshotEnded"

    entries: int
