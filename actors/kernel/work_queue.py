"""Work that must not be done all at once: so much of it at one moment, the rest a little later, in order (D-31)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from spnhub.actors.kernel.timers import Timer, Timers
from spnhub.events.faults import OnFault

__all__ = ["WorkQueue"]


class WorkQueue:
    """A queue of small pieces of work. What fits in the moment's slice is done at once, so little work isn't delayed.

    :param size: pieces at one moment.
    :param pause: seconds from one slice to the next.
    :param clock: monotonic seconds; it stands still while actors run.
    :param on_fault: is told what a piece raises; the others are done all the same.
    """

    def __init__(self, size: int, pause: float, timers: Timers, clock: Callable[[], float], on_fault: OnFault) -> None:
        self._size = size
        self._pause = pause
        self._timers = timers
        self._clock = clock
        self._on_fault = on_fault
        self._queue: deque[Callable[[], object]] = deque()
        self._at_once = False
        self._moment = float("-inf")
        self._left = 0
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """Pieces that wait."""
        return len(self._queue)

    def add(self, work: Callable[[], object]) -> None:
        """Do it now, or when all that waits has been done."""
        if not self._queue and self._take():
            self._do(work)
            return
        self._queue.append(work)
        if self._timer is None:
            self._arm()

    def finish(self, *, for_good: bool) -> None:
        """Do all that waits now; ``for_good``: and whatever comes at once."""
        self._at_once = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._queue:
            self._do(self._queue.popleft())
        self._at_once = for_good

    def _do(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as fault:  # whatever it is, it is this piece's
            self._on_fault("work_queue", fault)

    def _arm(self) -> None:
        self._timer = self._timers.set(self._clock() + self._pause, self._go_on)

    def _go_on(self) -> None:
        self._timer = None
        while self._queue and self._take():
            self._do(self._queue.popleft())
        if self._queue:
            self._arm()

    def _take(self) -> bool:
        if self._at_once:
            return True
        now = self._clock()
        if now > self._moment:
            self._moment, self._left = now, self._size
        self._left -= 1
        return self._left >= 0
