"""What a leg that is over had brought and nobody had read: bytes, and the FIN behind them.

It may never come again, so whoever loses a leg takes it into its own hands, where it counts as taken. As much as the
stream's window at most.
"""

from __future__ import annotations

__all__ = ["Rest"]


class Rest:
    """False: there is nothing."""

    __slots__ = ("_data", "_fin")

    def __init__(self) -> None:
        self._data = bytearray()
        self._fin = False

    def __bool__(self) -> bool:
        return bool(self._data) or self._fin

    def add(self, data: bytes, fin: bool) -> None:
        """Behind what there is."""
        self._data += data
        self._fin = self._fin or fin

    def take(self, limit: int) -> tuple[bytes, bool]:
        """Up to ``limit`` bytes, and whether the FIN is behind them."""
        data = bytes(self._data[:limit])
        del self._data[:limit]
        fin = self._fin and not self._data
        if fin:
            self._fin = False
        return data, fin

    def clear(self) -> None:
        """Nobody will read it."""
        self._data.clear()
        self._fin = False
