"""The receive window of a whole connection: what its peer may have us hold.

It begins small where memory is short, and who runs the engine is told when more would be of use
(:class:`spnhub.transport.engine.WindowLow`). Counterpart: :mod:`spnhub.transport.aioquic_engine.streams`, which gives
the credit.
"""

from __future__ import annotations

from typing import Final

__all__ = ["ConnectionWindow"]

_QUICK: Final = 0.05
"""Seconds in which half a window is consumed by a reader that is quick, at least."""


class ConnectionWindow:
    """One connection's.

    :param size: bytes, at first.
    :param most: the largest that is of use.
    """

    __slots__ = ("_most", "_recently", "_since", "_told", "consumed", "size")

    def __init__(self, size: int, most: int) -> None:
        self.size = size
        self._most = most
        self.consumed = 0
        """Bytes, since the connection began."""
        self._recently = 0
        self._since = 0.0
        self._told = False

    def set(self, size: int) -> None:
        """It is this large from now on."""
        self.size = size
        self._told = False

    def consume(self, size: int) -> None:
        """Bytes were consumed."""
        self.consumed += size
        self._recently += size

    def is_low(self, buffered: int, rtt: float, now: float) -> bool:
        """Whether half of it waits to be read, or was consumed within a few round trips; each time is told once."""
        if self._told or self.size >= self._most:
            return False
        low = buffered * 2 > self.size
        if self._recently * 2 >= self.size:
            quick = now - self._since < max(_QUICK, 4 * rtt)
            low = low or (quick and self.consumed >= 2 * self.size)
            self._recently = 0
            self._since = now
        self._told = low
        return low
