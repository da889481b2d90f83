"""Work that must not be done all at once: it is done in slices, in order, with pauses between them (D-31).

Traffic is forwarded in the pauses.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from spnhub.actors.kernel.timers import Timer, Timers
from spnhub.events.faults import OnFault

__all__ = ["WorkQueue"]


class WorkQueue:
    """A queue of small pieces of work. Pieces that fit in the present slice are done at once: short work isn't delayed.

    :param size: pieces in a slice.
    :param pause: seconds from one slice to the next.
    :param clock: monotonic seconds; it stands still while actors run.
    :param on_fault: called when a piece raises; the other pieces are done all the same.
    """

    def __init__(self, size: int, pause: float, timers: Timers, clock: Callable[[], float], on_fault: OnFault) -> None:
        self._size = size
        self._pause = pause
        self._timers = timers
        self._clock = clock
        self._on_fault = on_fault
        self._queue: deque[Callable[[], object]] = deque()
        self._at_once = False
        self._slice_began = float("-inf")
        self._slice_left = 0
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """Pieces that are queued."""
        return len(self._queue)

    def add(self, work: Callable[[], object]) -> None:
        """Do a piece of work now, or after all queued pieces."""
        if not self._queue and self._fits_slice():
            self._do(work)
            return
        self._queue.append(work)
        if self._timer is None:
            self._arm()

    def finish(self, *, for_good: bool) -> None:
        """Do all queued pieces now; ``for_good``: and every later one as soon as it is added."""
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
        except Exception as fault:  # any fault of a piece concerns that piece only
            self._on_fault("work_queue", fault)

    def _arm(self) -> None:
        self._timer = self._timers.set(self._clock() + self._pause, self._next_slice)

    def _next_slice(self) -> None:
        self._timer = None
        while self._queue and self._fits_slice():
            self._do(self._queue.popleft())
        if self._queue:
            self._arm()

    def _fits_slice(self) -> bool:
        if self._at_once:
            return True
        now = self._clock()
        if now > self._slice_began:
            self._slice_began, self._slice_left = now, self._size
        self._slice_left -= 1
        return self._slice_left >= 0
