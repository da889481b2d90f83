"""What the native engine makes of a path that delays and loses, in virtual time: no machine's speed is in it."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator
from typing import Final

from tests.bench.harness import Result
from tests.bench.load import share
from tests.support.engines import new_native
from tests.support.transfer import Transfer

__all__ = ["paths"]

_PATHS: Final = (
    (0.001, 100e6, 4e6),
    (0.001, 12.5e6, 250e3),
    (0.02, 12.5e6, 250e3),
    (0.05, 12.5e6, 600e3),
    (0.1, 12.5e6, 1.2e6),
)
"""Round trip (s), bytes a second, bytes of buffer."""
_LOSS: Final = (0.0, 0.0001, 0.01)


async def paths(quick: bool) -> AsyncIterator[Result]:
    """A transfer's rate, and an echo's 50th and 99th percentile beside it, on each path."""
    for round_trip, rate, buffer in _PATHS:
        for loss in _LOSS:
            rates, times = [], []
            for seed in (1,) if quick else (1, 2, 3):
                transfer = Transfer(new_native(), round_trip=round_trip, rate=rate, buffer=buffer, loss=loss, seed=seed)
                seconds = 4.0 if rate < 50e6 else 1.0
                transfer.run(seconds / 4)
                rates.append(transfer.run(seconds))
                times += transfer.times
            echo = f"echo {statistics.median(times) * 1e3:.1f} / {share(times, 0.99) * 1e3:.1f} ms"
            name = f"{round_trip * 1e3:g} ms, {rate / 1e6:g} MB/s, {buffer / 1e3:g} KB of buffer, {loss:.2%} lost"
            yield Result(name, statistics.mean(rates) / 1e6, "MB/s", detail=echo)
