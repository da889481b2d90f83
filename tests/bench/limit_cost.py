"""What a hub's limits cost who never meets them: the same rows with and without, in turns.

Of hubs as processes, and of a hub in virtual time, whose turns are all that is timed: there is no kernel, no other
process and no waiting in it, so that it tells one from two parts of a hundred, which the former doesn't.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Final

import pytest

from spnhub.transport.native_engine import why_not
from tests.bench.harness import Result
from tests.bench.report import ratios
from tests.bench.rows import ROWS, Sizes
from tests.bench.run import measure
from tests.bench.tunnel import Subject
from tests.bench.unlimited_hub import LIMITED, lift_limits
from tests.transport.hub import test_cost

__all__ = ["limit_cost"]

_WITH, _WITHOUT = "with limits", "without"
_FIGURES: Final = (("bulk.down", "hub_s_GiB"), ("echo.idle", "p50_ms"), ("opens.50", "hub_s_1000"))
_MOST: Final = 1.03
"""What the limits may cost."""


async def limit_cost(quick: bool) -> AsyncIterator[Result]:
    """Each figure with limits over the same without: the median over rounds."""
    engine = "native" if why_not() is None else "aioquic"
    hub = ("python", "-m", "tests.bench.unlimited_hub")
    subjects = (Subject(_WITH, engine, hub=(*hub, LIMITED)), Subject(_WITHOUT, engine, hub=hub))
    rows = [ROWS[row] for row, _ in _FIGURES]
    records = await measure(subjects, rows, 1 if quick else 12, Sizes(seconds=0.3 if quick else 3.0))
    for name in sorted({"aioquic", engine}):
        each = list(_turns(name, 2 if quick else 300))
        spread = f"middle half {' to '.join(f'{edge:.2f}' for edge in statistics.quantiles(each, n=4)[::2])}"
        title = f"{test_cost.TOGETHER} connections at once, turns of a hub on {name}, likewise"
        yield Result(title, statistics.median(each), "ratio", _MOST, spread, at_most=True)
    for row, figure in _FIGURES:
        each = ratios(records, row, figure, _WITH, _WITHOUT)
        title = f"{ROWS[row].aims[figure].title}, with limits over without"
        spread = f"rounds {min(each):.2f} to {max(each):.2f}"
        yield Result(title, statistics.median(each), "ratio", _MOST, spread, at_most=True)


class _Stopwatch(test_cost.Meter):
    """Takes the CPU time of a hub's turns, where a meter counts."""

    seconds = 0.0
    _inside = False

    def _count(self, function: Callable[..., None], *args: Any) -> None:
        if self._inside:
            return function(*args)
        self._inside = True
        began = time.thread_time()
        try:
            return function(*args)
        finally:
            self.seconds += time.thread_time() - began
            self._inside = False


def _turns(engine: str, rounds: int) -> Iterator[float]:
    """Of one hub, by turns with limits and without, which of them first being by turns as well."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_cost, "Meter", _Stopwatch)
        site = test_cost.Site(engine, patch)
        watch = site.meter
        assert isinstance(watch, _Stopwatch)
        for number in range(rounds):
            took = {}
            for limited in (number % 2 == 0, number % 2 == 1):
                with pytest.MonkeyPatch.context() as instead:
                    if not limited:
                        lift_limits(instead.setattr)
                    before = watch.seconds
                    site.open_and_close()
                    took[limited] = watch.seconds - before
            yield took[True] / took[False]
