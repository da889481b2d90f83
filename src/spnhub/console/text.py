"""Words and numbers on pages, for the browser and the terminal."""

from __future__ import annotations

from typing import Final

from spnhub.console.page import HubRow, ServiceRow
from spnhub.events.analysis.flow import SPAN, FlowRates
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.narrative import seconds_text

__all__ = [
    "CONDITIONS",
    "bytes_per_second",
    "clock",
    "day_and_clock",
    "hub_numbers",
    "service_numbers",
    "size_text",
]

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


def bytes_per_second(rates: FlowRates) -> str:
    """Both ways."""
    return size_text((rates.sent + rates.received) / SPAN)


def service_numbers(row: ServiceRow) -> tuple[str, ...]:
    """Providers, consumers, connections, new ones a second, failed ones, bytes a second."""
    return (
        f"{row.providers:,}",
        f"{row.consumers:,}",
        f"{row.connections:,}",
        f"{row.rates.opened / SPAN:.1f}",
        f"{row.rates.failed:,}",
        bytes_per_second(row.rates),
    )


def hub_numbers(row: HubRow, now: int) -> tuple[str, ...]:
    """Sessions, connections, and how long ago its last event was.

    :param now: the page's moment, microseconds since 1970.
    """
    return f"{row.sessions:,}", f"{row.connections:,}", f"{seconds_text(max(0, now - row.heard) / 1_000_000)} ago"


def day_and_clock(time: int) -> str:
    """Microseconds since 1970 as ``2026-01-02 03:04:05``, UTC."""
    return format_time(time)[:19].replace("T", " ")


def clock(time: int) -> str:
    """Microseconds since 1970 as ``03:04:05.678``, UTC."""
    return format_time(time)[11:23]
