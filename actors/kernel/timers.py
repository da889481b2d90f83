"""Timers of the actors: a message to an actor at a time. Sans-I/O; the system asks when and lets them fire."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

__all__ = ["Timer", "Timers"]


class Timer:
    """A thing to do at a time, unless it is cancelled before."""

    __slots__ = ("_timers", "action")

    def __init__(self, timers: Timers, action: Callable[[], None]) -> None:
        self._timers = timers
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        """Forget it; again, or after it has fired, nothing happens."""
        if self.action is not None:
            self.action = None
            self._timers._cancelled()


class Timers:
    """All timers of one hub, by monotonic seconds; those of one moment fire in the order they were set."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._dead = 0
        self._numbers = itertools.count()

    def __len__(self) -> int:
        """Timers that will fire."""
        return len(self._heap) - self._dead

    def set(self, when: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` at ``when`` or soon after."""
        timer = Timer(self, action)
        heapq.heappush(self._heap, (when, next(self._numbers), timer))
        return timer

    def next(self) -> float | None:
        """When the next one is due; None without any."""
        while self._heap and self._heap[0][2].action is None:
            heapq.heappop(self._heap)
            self._dead -= 1
        return self._heap[0][0] if self._heap else None

    def fire(self, now: float) -> bool:
        """Do the first thing that is due at ``now``; False when there is none."""
        when = self.next()
        if when is None or when > now:
            return False
        timer = heapq.heappop(self._heap)[2]
        action, timer.action = timer.action, None
        assert action is not None
        action()
        return True

    def _cancelled(self) -> None:
        self._dead += 1
        if self._dead > 64 and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapq.heapify(self._heap)
            self._dead = 0
