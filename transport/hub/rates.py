"""How often a session may do what costs the hub something: token buckets that no honest endpoint empties. Sans-I/O.

What is beyond is refused or ends the session, with the code LIMIT and the limit's name in the reason; the log and the
metrics have the number of times (:class:`~spnhub.actors.contract.inputs.LimitExceeded`). Round robin between sessions
(:mod:`spnhub.transport.hub.backlog`) is what protects the others; this bounds what one makes of the log.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, NamedTuple

__all__ = ["Rate", "Rates", "SessionRates", "TokenBucket"]


class Rate(NamedTuple):
    """So many a second, and so many at once after a while without any."""

    per_second: int
    burst: int

    def __str__(self) -> str:
        return f"{self.per_second} per second"


@dataclass(frozen=True, slots=True)
class SessionRates:
    """Of one session."""

    control_packets: Rate = Rate(20_000, 100_000)
    """Of any kind, unknown ones included; beyond it the session ends."""
    openings: Rate = Rate(5_000, 16_384)
    """Data streams; a further one is refused."""
    resets: Rate = Rate(5_000, 16_384)
    """Data streams that are reset or stopped before bytes pass; beyond it the session ends."""
    weights: Rate = Rate(50, 1_000)
    """SetWeight; beyond it the session ends."""
    resumes: Rate = Rate(1_000, 16_384)
    """ResumeRequests; a further one is refused, and may be repeated."""


class TokenBucket:
    """Notices when something happens more often than a rate allows."""

    __slots__ = ("_at", "_burst", "_per_second", "_tokens")

    def __init__(self, rate: Rate, now: float) -> None:
        self._per_second, self._burst = rate
        self._tokens = float(rate.burst)
        self._at = now

    def take(self, now: float, count: int = 1) -> bool:
        """Whether ``count`` more may happen at ``now`` (monotonic seconds); if not, they don't count."""
        tokens = self._tokens + (now - self._at) * self._per_second
        tokens = min(tokens, self._burst)
        self._at = now
        admitted = count <= tokens
        self._tokens = tokens - count if admitted else tokens
        return admitted


_NAMES: Final = {
    "control_packets": "controlPackets",
    "openings": "openings",
    "resets": "resets",
    "weights": "weightChanges",
    "resumes": "resumeRequests",
}
"""What the log calls the limit, by the field of :class:`SessionRates`."""


class Rates:
    """Of all sessions of a hub process: what was beyond a rate, until the actors are told of it."""

    def __init__(self, rates: SessionRates | None = None) -> None:
        self._rates = rates or SessionRates()
        self._exceeded: Counter[tuple[str, str, int]] = Counter()

    def reason(self, name: str) -> str:
        """Why something is refused that goes beyond a rate."""
        return f"more than {getattr(self._rates, name)} {_NAMES[name]}"

    def bucket(self, name: str, now: float) -> TokenBucket:
        """A new session's, for a field of :class:`SessionRates`."""
        return TokenBucket(getattr(self._rates, name), now)

    def exceed(self, realm: str, name: str) -> None:
        """Count a rate that was exceeded."""
        self.exceed_limit(realm, _NAMES[name], getattr(self._rates, name).per_second)

    def exceed_limit(self, realm: str, limit: str, bound: int) -> None:
        """Count another limit that was exceeded."""
        self._exceeded[realm, limit, bound] += 1

    def take_exceeded(self) -> Counter[tuple[str, str, int]]:
        """How often limits were exceeded since the last call, by realm, limit and bound."""
        exceeded = self._exceeded
        if exceeded:
            self._exceeded = Counter()
        return exceeded
