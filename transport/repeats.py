"""Log lines that say the same again and again, joined with a count and spaced out.

The first is logged at once. What follows alike is counted, and the latest of it logged when a pause is over, with how
many it stands for; each pause is twice as long as the one before, up to a bound. After a pause in which nothing came,
the next is logged at once again, and after a long one it is news. Memory is bounded: beyond :data:`KINDS` kinds share
one pause. Counterparts: the agents (:mod:`spnhub.transport.agent`) and the hub's printer use it;
:class:`spnhub.transport.faults.Throttle` is for our own faults.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol

__all__ = ["KINDS", "Repeats", "repeated"]

KINDS: Final = 256
"""Kinds of lines that are told apart."""
FIRST: Final = 10.0
"""Seconds of the first pause."""
LONGEST: Final = 300.0
"""Seconds of the longest."""

_OTHERS: Final = object()


class _Timer(Protocol):
    def cancel(self) -> None: ...


Say = Callable[[int], object]
"""Logs a line. It stands for so many, itself included."""


class _Kind:
    __slots__ = ("held", "latest", "pause", "quiet", "timer")

    def __init__(self) -> None:
        self.held = 0
        self.latest: Say | None = None
        self.pause = FIRST
        self.quiet = False
        self.timer: _Timer | None = None


class Repeats:
    """Those of one program.

    :param call_later: runs a call after so many seconds (:meth:`asyncio.loop.call_later`).
    """

    def __init__(self, call_later: Callable[[float, Callable[[], None]], _Timer]) -> None:
        self._call_later = call_later
        self._kinds: dict[Hashable, _Kind] = {}

    def say(self, kind: Hashable, line: Say) -> None:
        """Log a line, at once or later; a later one of its kind may take its place.

        :param kind: lines of one kind say the same.
        """
        if kind not in self._kinds and len(self._kinds) >= KINDS:
            kind = _OTHERS
        known = self._kinds.get(kind)
        if known is None:
            known = self._kinds[kind] = _Kind()
            self._wait(kind, known)
        elif known.quiet:
            known.pause = min(known.pause * 2, LONGEST)
            self._wait(kind, known)
        else:
            known.held += 1
            known.latest = line
            return
        line(1)

    def forget(self, over: Callable[[Any], bool]) -> None:
        """Those kinds are over: log what was held back of them; their next is news."""
        for kind in [kind for kind in self._kinds if kind is not _OTHERS and over(kind)]:
            self._end(self._kinds.pop(kind))

    def close(self) -> None:
        """Log all that was held back, now."""
        kinds, self._kinds = self._kinds, {}
        for known in kinds.values():
            self._end(known)

    def _wait(self, kind: Hashable, known: _Kind) -> None:
        if known.timer is not None:
            known.timer.cancel()
        known.quiet = False
        known.timer = self._call_later(known.pause, lambda: self._over(kind, known))

    def _over(self, kind: Hashable, known: _Kind) -> None:
        if known.held:
            known.pause = min(known.pause * 2, LONGEST)
            self._wait(kind, known)
            self._flush(known)
        elif known.quiet:
            del self._kinds[kind]
        else:
            known.quiet = True
            known.timer = self._call_later(max(known.pause, LONGEST), lambda: self._over(kind, known))

    def _end(self, known: _Kind) -> None:
        if known.timer is not None:
            known.timer.cancel()
        self._flush(known)

    @staticmethod
    def _flush(known: _Kind) -> None:
        line, count, known.latest, known.held = known.latest, known.held, None, 0
        if line is not None:
            line(count)


def repeated(count: int) -> dict[str, int]:
    """The field of a line that stands for more than one."""
    return {"repeated": count} if count > 1 else {}
