"""The hub's wall clock: the time of every event."""

from __future__ import annotations

import time
from datetime import datetime

from spnhub.events.model import to_datetime

__all__ = ["WallClock"]


class WallClock:
    """Microseconds since 1970 that never run backwards, anchored to the monotonic clock.

    Follows the system's clock when that has been stepped by more than a second (the log then clamps, D-11).
    """

    def __init__(self) -> None:
        self._anchor = self._told = time.time_ns() - time.monotonic_ns()

    def __call__(self) -> int:
        moment = self._anchor + time.monotonic_ns()
        actual = time.time_ns()
        if abs(actual - moment) > 1_000_000_000:
            # Set, not added to: the journal's thread asks, too.
            self._anchor = actual - time.monotonic_ns()
            moment = actual
        return moment // 1000

    def take_step(self) -> float:
        """By how many seconds the clock was stepped since this was called last; negative: set back; 0.0: it wasn't.

        A host that was suspended is a step forward: the monotonic clock stood still meanwhile.
        """
        self()
        before, self._told = self._told, self._anchor
        return (self._told - before) / 1e9

    def moment(self) -> datetime:
        """The same as an aware datetime, UTC."""
        return to_datetime(self())
