"""How often a limit has bitten, told without flooding the log: the first time at once, the rest of a window together.

Pure but for the counts it keeps, as :mod:`spnhub.actors.hub.refusals` is, which tells of refused handshakes like that.
"""

from __future__ import annotations

__all__ = ["RateLimitedCounter"]


class RateLimitedCounter:
    """Of one limit.

    :param window: seconds.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._more = 0
        self.due: float | None = None
        """When the window is over, and :meth:`expire` is wanted; None: there is none."""

    def add(self, count: int, now: float) -> int:
        """It has bitten so often, at ``now`` (monotonic seconds): how many are to be told now; mostly 0."""
        told = self.expire(now)
        if self.due is not None:
            self._more += count
            return told
        self.due = now + self._window
        return told + count

    def expire(self, now: float) -> int:
        """How many are to be told, if the window is over. Another begins, which tells that it goes on."""
        if self.due is None or now < self.due:
            return 0
        told, self._more = self._more, 0
        self.due = now + self._window if told else None
        return told

    def flush(self) -> int:
        """How many haven't been told yet."""
        told, self._more, self.due = self._more, 0, None
        return told
