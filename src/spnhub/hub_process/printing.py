"""Log lines of events, written a few at a time: a reload brings thousands, and traffic doesn't wait for them.

Order is kept, but for warnings that repeat themselves: the latest of these comes when its pause is over. Counterparts:
:mod:`spnhub.events.analysis.log_lines` makes the lines, the journal says when an event is written.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Final

import structlog

from spnhub.events.analysis.log_lines import LIFECYCLE, event_line, failed, lifecycle_line
from spnhub.events.model import (
    SNAPSHOT_CLASSES,
    ConnectionEnded,
    ConnectionFinished,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionResumed,
    Event,
    EventsLost,
    HubAlive,
    HubStarted,
    HubStopped,
    InventoryLoaded,
    InventoryRejected,
    JournalStalled,
    LimitReached,
    NetworkAdded,
    NetworkChanged,
    NetworkRemoved,
    ProviderAnswered,
    ProviderRecovered,
    RealmAdded,
    RealmChanged,
    RealmRemoved,
    Recorded,
    ServiceAdded,
    ServiceChanged,
    ServiceRemoved,
    ServiceStarted,
    ServiceStartRequested,
    ServiceStopped,
    ServiceStopRequested,
    WeightChanged,
)
from spnhub.logging import LEVELS
from spnhub.transport.repeats import Repeats, repeated

__all__ = ["OUTPUT_LIMIT", "Printer", "level_of"]

_log = structlog.get_logger("spnhub.hub")

OUTPUT_LIMIT: Final = "outputLines"
"""What LimitReached calls the bound of the lines that wait to be printed."""

_ALIKE: Final = ("service_urn", "spn_session_id", "spn_end_point", "code", "alert", "limit")
"""Fields by which events say the same, beside their kind and realm."""

_BUDGET: Final = 0.01
"""Seconds of writing at one go."""

_ERRORS: Final = (JournalStalled, EventsLost)
_INFORMATION: Final = (
    HubStarted,
    HubStopped,
    InventoryLoaded,
    ServiceStartRequested,
    ServiceStarted,
    ServiceStopRequested,
    ServiceStopped,
    WeightChanged,
    ProviderAnswered,
    ProviderRecovered,
    ConnectionResumed,
    ConnectionFinished,
)
_DETAILS: Final = (
    HubAlive,
    ConnectionProgress,
    InventoryRejected,  # the reload has named the faults itself
    RealmAdded,
    RealmChanged,
    RealmRemoved,
    NetworkAdded,
    NetworkChanged,
    NetworkRemoved,
    ServiceAdded,
    ServiceChanged,
    ServiceRemoved,
    *SNAPSHOT_CLASSES,
)


def level_of(event: Event) -> str:
    """The level of an event's line: routine facts are details or information, what somebody may ask about a warning."""
    if type(event) in LIFECYCLE:
        # A leg that is suspended goes on in another: the event of the pause has its own level.
        goes_on = isinstance(event, ConnectionEnded) and event.suspended
        return "warning" if failed(event) and not goes_on else "info"
    if isinstance(event, _DETAILS):
        return "debug"
    if isinstance(event, _ERRORS):
        return "error"
    if isinstance(event, _INFORMATION):
        return "info"
    if isinstance(event, ConnectionPaused) and event.planned:
        return "info"
    return "warning"


class Printer:
    """Writes the lines of events to the log."""

    def __init__(self) -> None:
        self._waiting: deque[Recorded] = deque()
        self._scheduled: asyncio.Handle | None = None
        self._repeats = Repeats(asyncio.get_running_loop().call_later)

    def add(self, batch: Iterable[Recorded]) -> None:
        """Write these soon: what is sent to endpoints in this round of the loop goes first."""
        self._waiting.extend(batch)
        if self._scheduled is None:
            self._scheduled = asyncio.get_running_loop().call_soon(self._write)

    def close(self) -> None:
        """Write what is left, now."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        log = _log.bind()
        while self._waiting:
            self._print(log, self._waiting.popleft())
        self._repeats.close()

    def _write(self) -> None:
        self._scheduled = None
        end = time.monotonic() + _BUDGET
        log = _log.bind()  # once for all: it is looked up in structlog's configuration
        while self._waiting:
            self._print(log, self._waiting.popleft())
            if time.monotonic() > end:
                self._scheduled = asyncio.get_running_loop().call_soon(self._write)
                return

    def _print(self, log: structlog.typing.FilteringBoundLogger, recorded: Recorded) -> None:
        event = recorded.event
        if isinstance(event, LimitReached) and event.limit == OUTPUT_LIMIT:
            # The output reports it itself, in the place of the missing lines; a line here would only be dropped, too.
            return
        level = level_of(event)
        if not log.is_enabled_for(LEVELS[level]):
            return
        line = lifecycle_line(recorded)
        if line is not None:
            getattr(log, level)(line["eventType"], **line)
            return
        name = event.event_type
        if isinstance(event, InventoryLoaded):
            name = "inventory.applied" if event.initial else "reload.applied"
        if level == "warning":
            # A server that is down makes one of these with every client.
            self._repeats.say(_kind(event), partial(_log_event, name, level, recorded))
        else:
            _log_event(name, level, recorded)


def _log_event(name: str, level: str, recorded: Recorded, count: int = 1) -> None:
    getattr(_log, level)(name, **event_line(recorded), **repeated(count))


def _kind(event: Event) -> tuple[object, ...]:
    """What is alike of two events that say the same."""
    return type(event), event.realm, *(getattr(event, name, None) for name in _ALIKE)
