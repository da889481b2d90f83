"""When to try again: pure rules without clock or chance, for actors whose decisions must replay.

Counterpart: the service actor, which asks them with its own clock and a random fraction from its inputs.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff", "RateLimit"]


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with jitter over a bounded number of attempts."""

    initial: float = 1.0
    """Seconds after the first failed attempt."""
    factor: float = 2.0
    maximum: float = 30.0
    """Seconds; jitter included."""
    jitter: float = 0.5
    """The share of a delay that chance decides: 0 none, 1 all."""
    attempts: int = 5
    """How many there are in all; no delay follows the last."""

    def __post_init__(self) -> None:
        if not (
            0 <= self.initial <= self.maximum and self.factor >= 1 and 0 <= self.jitter <= 1 and self.attempts >= 1
        ):
            raise ValueError(f"not a backoff: {self}")

    def delay(self, attempt: int, fraction: float) -> float | None:
        """Seconds to wait after ``attempt`` (counted from 1) failed; None: it was the last.

        :param fraction: a random number from 0 to below 1, chosen by the caller.
        """
        if attempt >= self.attempts:
            return None
        # Beyond 64 doublings only the maximum counts, and a float would overflow.
        whole = min(self.maximum, self.initial * self.factor ** min(attempt - 1, 64))
        return whole * (1 - self.jitter + self.jitter * fraction)


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most one in ``interval`` seconds."""

    interval: float = 10.0

    def wait(self, last: float | None, now: float) -> float:
        """Seconds from ``now`` until the next is allowed; ``last`` None: there was none yet."""
        return 0.0 if last is None else max(0.0, last + self.interval - now)
