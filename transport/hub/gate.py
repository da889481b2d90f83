"""Nothing becomes visible before it is written (D-6): QUIC connections are corked until the journal has the events.

A turn that has recorded events hands them to the journal and corks the connections on which it has sent something; they
are released when the events are written. A journal that takes longer than ``bound`` has stalled: the connections are
released ungated, which is reported at once, and by an event as soon as one can be written. Sans-I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from spnhub.events.model import Event, JournalStalled, Recorded
from spnhub.transport.engine import Engine

__all__ = ["Gate", "GatedJournal"]

_SILENT: Final = "the disk takes nothing"
"""Why a journal stalls that has reported no error: a write that doesn't return."""


class GatedJournal(Protocol):
    """What the gate needs of :class:`spnhub.events.journal.journal.Journal`."""

    @property
    def appended(self) -> int:
        """Sequence of the last event appended."""

    @property
    def written(self) -> int:
        """Sequence of the last event known to be written."""

    @property
    def error(self) -> str | None:
        """Why the journal can't be written at present; None: it can, or the reason isn't known."""

    def append(self, event: Event, timestamp: int) -> Recorded:
        """Add an event to the batch."""

    def commit(self) -> int:
        """Hand the batch over to be written; the sequence of its last event."""


class Gate:
    """Corks and releases connections of one engine.

    :param bound: the most seconds that a connection waits for the journal.
    :param wall_us: wall clock, microseconds since 1970, for the event that reports a stall.
    :param on_stalled: called with the reason when the journal has stalled.
    """

    def __init__(
        self,
        engine: Engine,
        journal: GatedJournal,
        wall_us: Callable[[], int],
        bound: float = 0.25,
        on_stalled: Callable[[str], None] = lambda _reason: None,
    ) -> None:
        self._engine = engine
        self._journal = journal
        self._wall = wall_us
        self._bound = bound
        self._on_stalled = on_stalled
        self._committed = journal.appended
        self._waiting: deque[tuple[int, float, list[int]]] = deque()
        self._ungated_since: float | None = None
        self._first_ungated = 0
        self._last_ungated = 0
        self._reason = ""

    @property
    def stalled(self) -> str | None:
        """Why connections are ungated at present; None: they are gated."""
        return None if self._ungated_since is None else self._reason

    def close_turn(self, gated: Iterable[int], now: float) -> None:
        """Hand the turn's events to the journal, and cork these connections until it has written them."""
        journal = self._journal
        self._check(now)
        recorded = journal.appended > self._committed
        if recorded:
            self._committed = journal.commit()
        if journal.written >= self._committed:
            return
        if self._ungated_since is not None:
            self._last_ungated = self._committed
            return
        connections = list(gated)
        # An entry even if no connection waits: that is how a stall of the journal is noticed.
        if connections or recorded:
            for connection_id in connections:
                self._engine.cork(connection_id)
            self._waiting.append((self._committed, now + self._bound, connections))

    def timer(self) -> float | None:
        """When the oldest turn has waited for ``bound``."""
        return self._waiting[0][1] if self._waiting else None

    def written(self, now: float) -> None:
        """The journal has written more: release the connections that waited for it."""
        written = self._journal.written
        while self._waiting and self._waiting[0][0] <= written:
            self._release(self._waiting.popleft()[2])
        # Not before everything is written that was shown ungated: the event names the last of it.
        if self._ungated_since is not None and written >= self._last_ungated:
            since, self._ungated_since = self._ungated_since, None
            self._journal.append(
                JournalStalled(
                    realm=None,
                    network_urn=None,
                    first_sequence=self._first_ungated,
                    last_sequence=self._last_ungated,
                    stalled_seconds=now - since,
                    reason=f"{self._reason}; traffic went on ungated",
                ),
                self._wall(),
            )
            self._committed = self._journal.commit()

    def _check(self, now: float) -> None:
        while self._waiting and self._waiting[0][1] <= now:
            sequence, deadline, connections = self._waiting.popleft()
            if self._ungated_since is None:
                # From when the turn began to wait, not from when that was too long.
                self._ungated_since = deadline - self._bound
                self._first_ungated = self._journal.written + 1
                self._reason = self._journal.error or _SILENT
                self._on_stalled(self._reason)
            self._last_ungated = max(self._last_ungated, sequence, self._committed)
            self._release(connections)

    def _release(self, connections: list[int]) -> None:
        for connection_id in connections:
            self._engine.release(connection_id)
