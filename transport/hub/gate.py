"""Nothing becomes visible before it is written (D-6): connections wait here for the journal, but not for ever.

A turn that recorded events hands them to the journal and holds the connections that it touched; they go on when the
journal says that the events are written. A journal that takes longer than ``bound`` is stalled: the connections go on
ungated, which is told at once, and by an event as soon as one can be written. Sans-I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from spnhub.events.model import Event, JournalStalled, Recorded
from spnhub.transport.engine import Engine

__all__ = ["Gate", "GatedJournal"]

_SILENT: Final = "the disk takes nothing"
"""Why a journal stalls that has no error to tell: a write that doesn't return."""


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
        """Why it can't be written at present; None when it can, or isn't known."""

    def append(self, event: Event, timestamp: int) -> Recorded:
        """Take an event into the batch."""

    def commit(self) -> int:
        """Hand the batch over to be written."""


class Gate:
    """Holds and releases connections of one engine.

    :param bound: seconds that a connection waits for the journal at most.
    :param wall_us: wall clock, microseconds since 1970, for the event that tells of a stall.
    :param on_stalled: is told why, when the journal has stalled.
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
        self._held: deque[tuple[int, float, list[int]]] = deque()
        self._ungated_since: float | None = None
        self._first_ungated = 0
        self._last_ungated = 0
        self._reason = ""

    @property
    def stalled(self) -> str | None:
        """Why connections go on ungated at present; None: they don't."""
        return None if self._ungated_since is None else self._reason

    def close_turn(self, gated: Iterable[int], now: float) -> None:
        """Hand the turn's events to the journal and hold the connections that show them."""
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
        held = list(gated)
        # With nobody to wait for it either: whether the journal stalls shows when this is due.
        if held or recorded:
            for connection_id in held:
                self._engine.cork(connection_id)
            self._held.append((self._committed, now + self._bound, held))

    def timer(self) -> float | None:
        """When a held connection has waited long enough."""
        return self._held[0][1] if self._held else None

    def written(self, now: float) -> None:
        """The journal has written more: let go of those who waited for it."""
        written = self._journal.written
        while self._held and self._held[0][0] <= written:
            self._release(self._held.popleft()[2])
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
        while self._held and self._held[0][1] <= now:
            sequence, deadline, held = self._held.popleft()
            if self._ungated_since is None:
                self._ungated_since = deadline - self._bound
                self._first_ungated = self._journal.written + 1
                self._reason = self._journal.error or _SILENT
                self._on_stalled(self._reason)
            self._last_ungated = max(self._last_ungated, sequence, self._committed)
            self._release(held)

    def _release(self, held: list[int]) -> None:
        for connection_id in held:
            self._engine.release(connection_id)
