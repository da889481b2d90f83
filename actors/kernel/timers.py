"""Timers of the actors. Sans-I/O: :class:`spnhub.actors.system.ActorSystem` asks when the next is due, and what is.

Counterpart at an endpoint: :mod:`spnhub.transport.endpoint.kernel.deadlines`.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator

__all__ = ["Timer", "Timers"]


class Timer:
    """An action that is due at a time, unless it is cancelled before."""

    __slots__ = ("_timers", "action")

    def __init__(self, timers: Timers, action: Callable[[], object]) -> None:
        self._timers = timers
        self.action: Callable[[], object] | None = action

    def cancel(self) -> None:
        """Cancel the timer; no effect if it was cancelled or has fired."""
        if self.action is not None:
            self.action = None
            self._timers._cancelled()


class Timers:
    """All timers of one hub, by monotonic seconds; timers of the same time fire in the order they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._cancelled_count = 0
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """Timers that are set."""
        return len(self._heap) - self._cancelled_count

    @property
    def entry_count(self) -> int:
        """The same with those cancelled that still take room."""
        return len(self._heap)

    def set(self, when: float, action: Callable[[], object]) -> Timer:
        """Call ``action`` at ``when`` (monotonic seconds) or soon after."""
        timer = Timer(self, action)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        return timer

    def next(self) -> float | None:
        """When the next timer is due, monotonic seconds; None: no timer is set."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
            self._cancelled_count -= 1
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Callable[[], object]]:
        """The actions that are due at ``now`` (monotonic seconds), in order; they are no timers any more.

        One after the other: what an earlier one cancels isn't due. What is set meanwhile is for the next call, whatever
        its time: who calls this decides how long an action may set another one that is due at once.
        """
        began = next(self._numbers)
        while (when := self.next()) is not None and when <= now and self._heap[0][1] < began:
            timer = heapq.heappop(self._heap)[2]
            action, timer.action = timer.action, None
            assert action is not None
            yield action

    def _cancelled(self) -> None:
        self._cancelled_count += 1
        # Cancelled entries stay in the heap until they come to the top; rebuild it when they are the larger part.
        if self._cancelled_count > 64 and self._cancelled_count * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled_count = 0
