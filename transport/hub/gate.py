"""Nothing becomes visible before it is written (D-6): connections wait here for the journal, but not for ever.

A turn that recorded events hands them to the journal and holds the connections that it touched; they go on when the
journal says that the events are written. A journal that takes longer than ``bound`` is stalled: the connections go on
ungated, and an event tells of it as soon as one can be written. Sans-I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from spnhub.events.model import Event, JournalStalled, Recorded
from spnhub.transport.engine import Engine

__all__ = ["Gate", "GatedJournal"]


class GatedJournal(Protocol):
    """What the gate needs of :class:`spnhub.events.journal.journal.Journal`."""

    @property
    def appended(self) -> int:
        """Sequence of the last event appended."""

    @property
    def written(self) -> int:
        """Sequence of the last event known to be written."""

    def append(self, event: Event, timestamp: int) -> Recorded:
        """Take an event into the batch."""

    def commit(self) -> int:
        """Hand the batch over to be written."""


class Gate:
    """Holds and releases connections of one engine.

    :param bound: seconds that a connection waits for the journal at most.
    :param wall: wall clock, microseconds since 1970, for the event that tells of a stall.
    """

    def __init__(self, engine: Engine, journal: GatedJournal, wall: Callable[[], int], bound: float = 0.25) -> None:
        self._engine = engine
        self._journal = journal
        self._wall = wall
        self._bound = bound
        self._committed = journal.appended
        self._held: deque[tuple[int, float, list[int]]] = deque()
        self._ungated_since: float | None = None
        self._first_ungated = 0
        self._last_ungated = 0

    def close_turn(self, touched: Iterable[int], now: float) -> None:
        """Hand the turn's events to the journal and hold the connections that show them."""
        journal = self._journal
        self._check(now)
        if journal.appended > self._committed:
            self._committed = journal.commit()
        if journal.written >= self._committed:
            return
        if self._ungated_since is not None:
            self._last_ungated = self._committed
            return
        held = list(touched)
        if held:
            for c in held:
                self._engine.hold(c)
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
                    reason="the journal took longer than its bound; traffic went on ungated",
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
            self._last_ungated = max(self._last_ungated, sequence, self._committed)
            self._release(held)

    def _release(self, held: list[int]) -> None:
        for c in held:
            self._engine.release(c)
