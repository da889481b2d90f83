"""Log lines of events, written a few at a time: a reload brings thousands, and traffic doesn't wait for them.

Order is kept. Counterparts: :mod:`spnhub.events.analysis.log_lines` makes the lines, the journal says when an event is
written.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Final

import structlog

from spnhub.events.analysis.log_lines import event_line, lifecycle_line
from spnhub.events.model import (
    EventsLost,
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

__all__ = ["OUTPUT_LIMIT", "Printer"]

_log = structlog.get_logger("spnhub.hub")

OUTPUT_LIMIT: Final = "outputLines"
"""What LimitReached calls the bound of the lines that wait to be printed."""

_BUDGET: Final = 0.01
"""Seconds of writing at one go."""

_ERRORS: Final = (JournalStalled, EventsLost)
_INFORMATION: Final = (
    ServiceStartRequested,
    ServiceStarted,
    ServiceStopRequested,
    ServiceStopped,
    WeightChanged,
    ProviderAnswered,
    ProviderRecovered,
)
_DETAILS: Final = (
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
)


class Printer:
    """Writes the lines of events to the log."""

    def __init__(self) -> None:
        self._waiting: deque[Recorded] = deque()
        self._scheduled: asyncio.Handle | None = None

    def add(self, batch: Iterable[Recorded]) -> None:
        """Write these soon; at once, if there aren't many."""
        self._waiting.extend(batch)
        if self._scheduled is None:
            self._write()

    def close(self) -> None:
        """Write what is left, now."""
        if self._scheduled is not None:
            self._scheduled.cancel()
            self._scheduled = None
        while self._waiting:
            _print(self._waiting.popleft())

    def _write(self) -> None:
        self._scheduled = None
        end = time.monotonic() + _BUDGET
        while self._waiting:
            _print(self._waiting.popleft())
            if time.monotonic() > end:
                self._scheduled = asyncio.get_running_loop().call_soon(self._write)
                return


def _print(recorded: Recorded) -> None:
    event = recorded.event
    line = lifecycle_line(recorded)
    if line is not None:
        _log.info(line["eventType"], **line)
    elif isinstance(event, InventoryLoaded):
        _log.info("inventory.applied" if event.initial else "reload.applied", **event_line(recorded))
    elif isinstance(event, _DETAILS):
        if _log.is_enabled_for(logging.DEBUG):
            _log.debug(event.event_type, **event_line(recorded))
    elif isinstance(event, _INFORMATION):
        _log.info(event.event_type, **event_line(recorded))
    elif isinstance(event, _ERRORS):
        _log.error(event.event_type, **event_line(recorded))
    elif isinstance(event, LimitReached) and event.limit == OUTPUT_LIMIT:
        # The output reports it itself, in the place of the missing lines; a line here would only be dropped, too.
        return
    else:
        _log.warning(event.event_type, **event_line(recorded))
