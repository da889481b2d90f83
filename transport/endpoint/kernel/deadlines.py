"""One queue of deadlines for everything in an endpoint."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from typing import Protocol

__all__ = ["DeadlineOwner", "Deadlines"]


class DeadlineOwner(Protocol):
    """What may have a deadline, one at a time. Compared by identity."""

    def on_deadline(self) -> None:
        """The deadline has come; there is none now."""


class Deadlines:
    """When whom to call. Setting and taking are O(log n)."""

    def __init__(self) -> None:
        self._when: dict[DeadlineOwner, float] = {}
        self._heap: list[tuple[float, int, DeadlineOwner]] = []
        self._order = itertools.count()

    def set(self, owner: DeadlineOwner, when: float | None) -> None:
        """Call ``owner`` at ``when`` instead of any other time; None: not at all."""
        if when is None:
            self._when.pop(owner, None)
        elif self._when.get(owner) != when:
            self._when[owner] = when
            heapq.heappush(self._heap, (when, next(self._order), owner))
        # Entries that no longer count stay until their time; not too many of them.
        if len(self._heap) > 64 + 2 * len(self._when):
            self._heap = [(at, next(self._order), one) for one, at in self._when.items()]
            heapq.heapify(self._heap)

    def next(self) -> float | None:
        """The earliest deadline; None: there is none."""
        heap = self._heap
        while heap and self._when.get(heap[0][2]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now: float) -> Iterator[DeadlineOwner]:
        """Whose deadline has come, in order; they have none any more.

        One after the other: whose deadline is taken away by what an earlier one does isn't due any more. What is set
        meanwhile is for the next call, whatever its time.
        """
        began = next(self._order)
        while (when := self.next()) is not None and when <= now and self._heap[0][1] < began:
            owner = heapq.heappop(self._heap)[2]
            del self._when[owner]
            yield owner
