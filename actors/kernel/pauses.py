"""Which connections a resumable shutdown pauses now, and which ones later (R-4.8).

An endpoint works through pause requests one after the other, and a connection stands still until its own is done. If
all were paused at once, each would stand still for as long as all of them take. So only a few are being paused at a
time, and the next one follows when one has ended. A connection that takes longer (its endpoint is unresponsive) is no
longer counted, so that it doesn't delay the others.
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

    :param at_once: how many may be in the process of pausing; more if the queue would otherwise take over 64 rounds.
    :param patience: seconds after which a connection that hasn't ended is no longer counted. So even if no endpoint
        answers, every connection has been asked to pause after 64 times this time.
    :param clock: monotonic seconds; it stands still while actors run.
    :param pause: asks a connection to pause; False: it has ended meanwhile.
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
        """The longest that the queue has been since it was last empty."""
        self._under_way: OrderedDict[Key, float] = OrderedDict()
        """The connections that are being paused and until when each counts, oldest first."""
        self._timer: Timer | None = None

    def __len__(self) -> int:
        """Connections that haven't been asked to pause yet."""
        return len(self._queue)

    def add(self, key: Key) -> None:
        """Pause a connection when its turn comes; at once if few are being paused."""
        self._queue.append(key)
        self._peak = max(self._peak, len(self._queue))
        self._pause_next()

    def gone(self, key: Key) -> None:
        """A connection has ended; no effect on one that isn't being paused."""
        if self._under_way.pop(key, None) is not None:
            self._pause_next()

    def clear(self) -> None:
        """Pause nothing more: the connections that are left end in another way."""
        self._queue.clear()
        self._under_way.clear()
        self._pause_next()

    def _pause_next(self) -> None:
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
        """Set one timer, for the oldest connection being paused, as long as others are queued behind it."""
        if self._queue and self._timer is None:
            self._timer = self._timers.set(next(iter(self._under_way.values())), self._on_time)
        elif not self._queue and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_time(self) -> None:
        self._timer = None
        while self._under_way and next(iter(self._under_way.values())) <= self._clock():
            self._under_way.popitem(last=False)
        self._pause_next()
