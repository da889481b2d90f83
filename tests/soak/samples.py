"""What a soak measures of each process, and whether it stays flat."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

__all__ = ["BOUNDS", "Bound", "Series", "Verdict", "judge"]


@dataclass(frozen=True, slots=True)
class Bound:
    """How much a quantity may grow from the second quarter of a run to its last: whichever is more."""

    ratio: float
    absolute: float
    unit: str = ""

    def most(self, before: float) -> float:
        """The most that it may be at the end."""
        return max(before * self.ratio, before + self.absolute)


BOUNDS: Final = {
    "rss": Bound(1.15, 16.0, "MiB"),
    "descriptors": Bound(1.2, 12),
    "threads": Bound(1.0, 2),
    "actors": Bound(1.5, 100),
    "tasks": Bound(1.5, 10),
    "journal": Bound(1.2, 4.0, "MiB"),
}
"""By quantity. Medians are compared, so that a wave of sessions that has just come doesn't count."""


@dataclass(slots=True)
class Series:
    """One quantity of one process, by seconds since the run began."""

    process: str
    quantity: str
    points: list[tuple[float, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one series."""

    process: str
    quantity: str
    before: float
    """Median of the second quarter: the first one fills caches."""
    after: float
    """Median of the last quarter."""
    most: float
    """Bound of ``after``."""

    @property
    def flat(self) -> bool:
        """Whether it has kept within its bound."""
        return self.after <= self.most


def judge(series: Sequence[Series], seconds: float) -> list[Verdict]:
    """Those with enough points in both quarters."""
    found = []
    for one in series:
        second = [value for at, value in one.points if seconds / 4 <= at < seconds / 2]
        last = [value for at, value in one.points if at >= seconds * 3 / 4]
        if len(second) >= 3 and len(last) >= 3:
            before, after = statistics.median(second), statistics.median(last)
            found.append(Verdict(one.process, one.quantity, before, after, BOUNDS[one.quantity].most(before)))
    return found
