"""How long to wait before another attempt."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["backoff"]


def backoff(base: float, cap: float, failed: int, random: Callable[[], float]) -> float:
    """Seconds: ``base``, doubled for each attempt that has failed, at most ``cap``; less up to half of it at random.

    So that those who lost the same hub at the same moment don't come back to it at the same moment (D-33).

    :param random: in [0, 1).
    """
    return min(cap, base * 2.0 ** min(failed, 16)) * (1 - random() / 2)
