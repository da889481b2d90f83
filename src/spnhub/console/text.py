"""Words and numbers on pages, for the browser and the terminal."""

from __future__ import annotations

from typing import Final

from spnhub.events.analysis.log_lines import format_time

__all__ = ["CONDITIONS", "clock", "day_and_clock", "size_text"]

CONDITIONS: Final = {
    "serving": "good",
    "running": "good",
    "open": "good",
    "over": "good",
    "failing": "warn",
    "removed": "warn",
    "passed over": "warn",
    "past": "warn",
    "stopped": "warn",
    "unresponsive": "bad",
    "no provider": "bad",
    "going on": "bad",
}
"""How good what is said of something is."""

_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def size_text(number: float) -> str:
    """Bytes in three digits: ``0 B``, ``1.5 kB``, ``123 MB`` (of 1,000)."""
    for unit in _UNITS:
        if number < 999.5 or unit == _UNITS[-1]:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 99.95 else f"{number:.1f} {unit}"
        number /= 1000
    raise AssertionError


def day_and_clock(time: int) -> str:
    """Microseconds since 1970 as ``2026-01-02 03:04:05``, UTC."""
    return format_time(time)[:19].replace("T", " ")


def clock(time: int) -> str:
    """Microseconds since 1970 as ``03:04:05.678``, UTC."""
    return format_time(time)[11:23]
