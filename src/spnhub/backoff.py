"""How long to wait before another attempt: one formula for everything that is tried again.

The function is pure, since actors and endpoints are given the time and chance. :class:`Backoff` counts the failures for
loops that do I/O. These loops are our own, and not a retry library's: tenacity repeats one call, with pauses that only
grow, and importing it takes 12 ms. Here each error has its own cure (a topic that shrank, a refused record), progress
makes the pauses short again, and a program that leaves cuts a pause short. Only the inventory's requests would have
fitted.

Imports nothing of ours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

__all__ = ["Backoff", "backoff", "doubled"]

_MOST_DOUBLINGS: Final = 30
"""More is beyond every cap, and in the end beyond what a float holds."""


def doubled(base: float, cap: float, failed: int) -> float:
    """Seconds: ``base``, doubled for each attempt that has failed, at most ``cap``."""
    return min(cap, base * 2.0 ** min(failed, _MOST_DOUBLINGS))


def backoff(base: float, cap: float, failed: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds: as :func:`doubled`, less up to half of it at random.

    The random part is for endpoints that lost the same peer at the same moment: they don't all come back to it at
    once (D-33).

    :param chance: in [0, 1).
    """
    return doubled(base, cap, failed) * (1 - chance() / 2)


class Backoff:
    """The pauses between attempts at one thing, in seconds."""

    def __init__(self, base: float, cap: float) -> None:
        self._base = base
        self._cap = cap
        self.failed = 0
        """Attempts since the last reset."""

    def reset(self) -> None:
        """It has succeeded, or got further: the next pause is short again."""
        self.failed = 0

    def next(self) -> float:
        """The pause after another attempt that failed."""
        pause = backoff(self._base, self._cap, self.failed)
        self.failed += 1
        return pause
