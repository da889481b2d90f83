"""What a hub's limits cost who never meets them: the same rows with and without, in turns."""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Sequence
from typing import Final

from spnhub.transport.native_engine import why_not
from tests.bench.harness import Result
from tests.bench.report import Record
from tests.bench.rows import ROWS, Sizes
from tests.bench.run import measure
from tests.bench.tunnel import Subject
from tests.bench.unlimited_hub import LIMITED

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
    for row, figure in _FIGURES:
        each = _ratios(records, row, figure)
        title = f"{ROWS[row].aims[figure].title}, with limits over without"
        spread = f"rounds {min(each):.2f} to {max(each):.2f}"
        yield Result(title, statistics.median(each), "ratio", _MOST, spread, at_most=True)


def _ratios(records: Sequence[Record], row: str, figure: str) -> list[float]:
    found = {(one.round, one.subject): one.figures[figure] for one in records if one.row == row and not one.error}
    rounds = {number for number, _ in found}
    return [found[number, _WITH] / found[number, _WITHOUT] for number in sorted(rounds)]
