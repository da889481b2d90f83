"""Which connections a resumable shutdown pauses now, and which in a moment (R-4.8).

A connection that is paused waits for everything that its endpoints have to do before they come to it: paused all at
once, each would wait for all. So few are on their way at a time, and the next one goes when one has left. One
that doesn't leave soon (its endpoint is silent) doesn't hold up the others.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from spnhub.actors.contract.inputs import Key
from spnhub.actors.kernel.timers import Timer, Timers

__all__ = ["Pauses"]

_ROUNDS: Final = 64


class Pauses:
    """The connections of one hub that are to be paused, in order.

    :param at_once: connections on their way, at least; more where others would wait for more than 64 rounds.
    :param patience: seconds after which one that is still here counts no more. If nobody answers, all have been told
        after 64 times that.
    :param clock: monotonic seconds; it stands still while actors run.
    :param pause: tells a connection to pause; False: it has ended meanwhile.
    """

    def __init__(
        self,
        at_once: int,
        patience: float,
        timers: Timers,
        clock: Callable[[], float],
        pause: Callable[[Key], bool],
    ) -> None:
        self._at_once = at_once
        self._patience = patience
        self._timers = timers
        self._clock = clock
        self._pause = pause
        self._queue: deque[Key] = deque()
        self._peak = 0
        """The most that have waited since nothing did."""
        self._under_way: OrderedDict[Key, float] = OrderedDict()
        """Until when it counts; that told first first."""
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """Connections that wait to be told."""
        return len(self._queue)

    def add(self, key: Key) -> None:
        """Pause it when its turn comes; now, if few are on their way."""
        self._queue.append(key)
        self._peak = max(self._peak, len(self._queue))
        self._go_on()

    def gone(self, key: Key) -> None:
        """It has ended; without effect on one that is not on its way."""
        if self._under_way.pop(key, None) is not None:
            self._go_on()

    def clear(self) -> None:
        """Pause nothing any more: what is left ends in another way."""
        self._queue.clear()
        self._under_way.clear()
        self._go_on()

    def _go_on(self) -> None:
        now = self._clock()
        limit = max(self._at_once, -(-self._peak // _ROUNDS))
        while self._queue and len(self._under_way) < limit:
            key = self._queue.popleft()
            if self._pause(key):
                self._under_way[key] = now + self._patience
        if not self._queue:
            self._peak = 0
        self._arm()

    def _arm(self) -> None:
        """One timer, for the oldest, as long as others wait for it."""
        if self._queue and self._timer is None:
            self._timer = self._timers.set(next(iter(self._under_way.values())), self._on_time)
        elif not self._queue and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        while self._under_way and next(iter(self._under_way.values())) <= self._clock():
            self._under_way.popitem(last=False)
        self._go_on()
