"""How often a limit was exceeded, reported without flooding the log: the first time at once, then one sum per window.

Pure but for the counts it keeps. :mod:`spnhub.actors.hub.refusals` does the same for refused handshakes.
"""

from __future__ import annotations

__all__ = ["RateLimitedCounter"]


class RateLimitedCounter:
    """Counts how often one limit is exceeded.

    :param window: seconds.
    """

    def __init__(self, window: float) -> None:
        self._window = window
        self._unreported = 0
        self.due: float | None = None
        """When the window ends and :meth:`expire` is to be called, monotonic seconds; None: there is no window."""

    def add(self, count: int, now: float) -> int:
        """Count ``count`` more at ``now`` (monotonic seconds); returns how many are to be reported now, mostly 0."""
        reported = self.expire(now)
        if self.due is not None:
            self._unreported += count
            return reported
        self.due = now + self._window
        return reported + count

    def expire(self, now: float) -> int:
        """How many are to be reported because the window is over, else 0; if there are any, a new window begins."""
        if self.due is None or now < self.due:
            return 0
        reported, self._unreported = self._unreported, 0
        self.due = now + self._window if reported else None
        return reported

    def flush(self) -> int:
        """How many haven't been reported yet; the window ends."""
        reported, self._unreported, self.due = self._unreported, 0, None
        return reported
