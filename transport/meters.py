"""How many bytes of joined streams pass in a second. Those that wait for it take turns. Sans-I/O.

Used by aioquic's engine for splices, and by the hub for what it passes on itself (:mod:`spnhub.transport.hub.relays`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Final, Generic, TypeVar

__all__ = ["Meters"]

_LEAST: Final = 1200
"""Less than so many bytes aren't worth a datagram."""
_BURSTS: Final = 32
"""Parts of a second's bytes that may pass at once."""
_ROUNDING: Final = 1e-6
"""Seconds by which times come back early."""


_Waiter = TypeVar("_Waiter")


class _Meter(Generic[_Waiter]):
    """Bytes of several splices, both ways together."""

    __slots__ = ("_at", "_left", "burst", "rate", "waiting", "waits")

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.burst = max(rate // _BURSTS, 2 * _LEAST)
        self.waiting: deque[_Waiter] = deque()
        self.waits = 0
        """How often something had to wait since that was last told."""
        self._left = float(self.burst)
        self._at = now

    def left(self, now: float) -> int:
        self._left = min(self._left + (now - self._at) * self.rate, self.burst)
        self._at = now
        left = int(self._left + 0.5)
        return left if left >= _LEAST else 0

    def spend(self, size: int) -> None:
        self._left -= size

    def due(self) -> float:
        """When there is enough for those that wait."""
        return self._at + max(max(self.burst // 2, _LEAST) - self._left, 0.0) / self.rate


class Meters(Generic[_Waiter]):
    """By number; one direction of joined streams waits."""

    def __init__(self) -> None:
        self._all: dict[int, _Meter[_Waiter]] = {}
        self._throttled: dict[int, _Meter[_Waiter]] = {}
        """Those that something waits for."""
        self.any = False
        """Whether there is one."""

    def set(self, rates: Mapping[int, int], now: float) -> list[_Waiter]:
        """These are in force, in bytes a second; what waited for another rate, or for none now, is returned."""
        freed: list[_Waiter] = []
        for number, meter in list(self._all.items()):
            if rates.get(number) != meter.rate:
                freed += meter.waiting
                del self._all[number]
                self._throttled.pop(number, None)
        for number, rate in rates.items():
            if number not in self._all:
                self._all[number] = _Meter(rate, now)
        self.any = bool(self._all)
        return freed

    def allowed(self, numbers: tuple[int, ...], now: float, *, in_turn: bool) -> int | None:
        """How many bytes may pass all of these now, in its turn also if others wait; None: any number."""
        most: int | None = None
        for number in numbers:
            meter = self._all.get(number)
            if meter is not None:
                left = meter.left(now) if in_turn or not meter.waiting else 0
                most = left if most is None or left < most else most
        return most

    def spend(self, numbers: tuple[int, ...], size: int) -> None:
        """So many bytes have passed."""
        for number in numbers:
            meter = self._all.get(number)
            if meter is not None:
                meter.spend(size)

    def wait(self, direction: _Waiter, numbers: tuple[int, ...]) -> bool:
        """It waits for its turn at the one of its meters that has least; whether there is one."""
        there = [(number, self._all[number]) for number in numbers if number in self._all]
        if not there:
            return False
        number, meter = max(there, key=lambda one: one[1].due())
        self._throttled[number] = meter
        meter.waiting.append(direction)
        meter.waits += 1
        return True

    def timer(self) -> float | None:
        """When something's turn comes."""
        return min([meter.due() for meter in self._throttled.values()], default=None)

    def turns(self, now: float) -> Iterator[tuple[_Waiter, int]]:
        """Whose turns come now, one after the other, and how many bytes each gets; who has more waits again."""
        for number, meter in list(self._throttled.items()):
            if meter.due() > now + _ROUNDING:
                continue
            share = max(meter.left(now) // max(len(meter.waiting), 1), _LEAST)
            while meter.waiting and meter.left(now):
                yield meter.waiting.popleft(), share
            if not meter.waiting and not meter.waits:
                del self._throttled[number]

    def take_waits(self) -> list[tuple[int, int]]:
        """At which something had to wait since the last call, and how often."""
        told = [(number, meter.waits) for number, meter in self._throttled.items() if meter.waits]
        for meter in self._throttled.values():
            meter.waits = 0
        return told
