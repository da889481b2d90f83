"""Events about the hub's process and its log: runs, losses, and the frame of a snapshot (D-6, D-8)."""

from __future__ import annotations

from typing import ClassVar

from spnhub.events.frozen import dataclass
from spnhub.events.model.event import Event

__all__ = [
    "EventsLost",
    "EventsTrimmed",
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
    """A hub process takes packets from now on."""

    event_type: ClassVar[str] = "hubStarted"

    version: str = ""
    addresses: tuple[str, ...] = ()
    orderly: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStopped(Event):
    """A hub process ended in order: no session is open any more."""

    event_type: ClassVar[str] = "hubStopped"

    reason: str = ""
    elapsed_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAlive(Event):
    """A heartbeat of the hub process, at a settable interval.

    It distinguishes a hub without traffic from one that was killed.
    """

    event_type: ClassVar[str] = "hubAlive"

    sessions: int
    connections: int
    elapsed_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStalled(Event):
    """The journal did not write events in time, and traffic went on without waiting for it (D-6)."""

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
class EventsTrimmed(Event):
    """The journal is full, and realms that have more than their share of it no longer have these events there (D-8).

    Events of other realms between the two sequences are kept. A topic keeps all of them.
    """

    event_type: ClassVar[str] = "eventsTrimmed"

    first_sequence: int
    last_sequence: int
    trimmed_realms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReached(Event):
    """A limit of the hub was exceeded where nobody gets a refusal.

    The first time is recorded at once; what follows within a second shares one event.
    """

    event_type: ClassVar[str] = "limitReached"

    limit: str
    bound: int | None = None
    service_urn: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStarted(Event):
    """A segment of the journal begins, and with it a snapshot (D-8): a record for each thing that is open or defined,
    among other events, up to SnapshotEnded. Snapshot records report nothing that has happened; see "How events relate".
    """

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
