"""What a connection reports to its endpoint, beside what its program's listener is notified of."""

from __future__ import annotations

from spnhub.events.frozen import dataclass

__all__ = ["ConnectionReport", "Disconnected", "Paused", "Requested", "Resumed"]


@dataclass(frozen=True, slots=True)
class Requested:
    """A provider's: its Opening is there, and the program is to be asked."""


@dataclass(frozen=True, slots=True)
class Paused:
    """For the first time, or again after an attempt to resume it."""

    reason: str


@dataclass(frozen=True, slots=True)
class Resumed:
    """It is Connected again."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """It is over."""

    closed_notice: int | None
    """How, where the other end doesn't know it but from us."""
    seen_in: int | None
    """The QUIC connection on whose stream the other end sees it; None: on none."""


ConnectionReport = Requested | Paused | Resumed | Disconnected
