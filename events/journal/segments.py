"""When a segment of the journal begins, and how far its snapshot has come (D-8).

Counterparts: :mod:`spnhub.events.journal.journal` asks, :mod:`spnhub.events.state.snapshot` makes the events,
:mod:`spnhub.events.journal.writer` begins the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from spnhub.events.journal.options import JournalOptions
from spnhub.events.model import Event
from spnhub.events.state.hub_state import HubState
from spnhub.events.state.snapshot import snapshot

__all__ = ["SEGMENT_SIZE", "SLICE", "Segments"]

SEGMENT_SIZE: Final = 4 << 20
"""Bytes after which a segment is finished, its snapshot not counted; one batch may go beyond.

The state at any moment is known from reading one segment: about 20,000 events, half a second."""
SLICE: Final = 64
"""Events of a snapshot made at one moment: about a millisecond."""
_ENTRIES: Final = 4096
"""Things open or defined that a segment of that size is for; with more it is longer in proportion, at most 16 times,
so that snapshots stay about a quarter of the log."""
_LEAST: Final = 8
"""Segments at least that a bound by size or age is divided into."""


class Segments:
    """The segment that is being written. What it holds of a snapshot is made of ``state`` slice by slice.

    :param position: where the log ends; None: there is none yet.
    :param size: bytes, for few things open or defined.
    :param clock: microseconds since 1970.
    """

    def __init__(
        self,
        state: HubState,
        position: tuple[Path, int] | None,
        *,
        size: int,
        options: JournalOptions,
        clock: Callable[[], int],
    ) -> None:
        self.first = 1 if position is None else int(position[0].stem)
        """Sequence of its first event."""
        self.completes = 0
        """The same once its snapshot has come to its end, until the journal has passed that on; otherwise 0."""
        self._filled = 0 if position is None else position[1]
        self._state = state
        self._size = size
        self._limit = math.inf if options.size is None else options.size // _LEAST
        self._age = None if options.age is None else round(options.age * 1_000_000 / _LEAST)
        self._clock = clock
        self._begun = clock()
        self._snapshot: Iterator[Event] | None = None
        """What is still to come."""
        self._due = state.in_snapshot
        """The last snapshot broke off: another segment is to begin, whatever the size of this one."""

    @property
    def is_full(self) -> bool:
        """Whether another is to begin."""
        if self._snapshot is not None or not self._filled:
            return False
        too_old = self._age is not None and self._clock() - self._begun >= self._age
        state = self._state
        entries = len(state.sessions) + len(state.connections) + len(state.definitions.services)
        size = self._size * min(16.0, max(1.0, entries / _ENTRIES))
        return self._due or too_old or self._filled >= min(size, self._limit)

    def begin(self, first: int) -> None:
        """Begin another segment, which starts with a snapshot.

        :param first: the sequence that its first event will have.
        """
        self.first, self._filled, self._due = first, 0, False
        self._snapshot = snapshot(self._state)

    def fill(self, size: int) -> None:
        """An event that belongs to no snapshot takes so many bytes."""
        if not self._filled:
            self._begun = self._clock()
        self._filled += size

    def next_slice(self) -> Iterator[Event]:
        """Events of the snapshot, for now; each must be recorded and folded before the next is asked for."""
        if self._snapshot is None:
            return
        count = 0
        for event in islice(self._snapshot, SLICE):
            yield event
            count += 1
        if count < SLICE:
            self._snapshot = None
            self.completes = self.first

    def break_off(self) -> None:
        """Events are missing: the next segment is to begin, whatever the size of this one, with a whole snapshot."""
        self._snapshot, self._due = None, True
