"""What another event loop would bring: the hub on uvloop beside the product's, in turn."""

from __future__ import annotations

import importlib.util
import statistics
import sys
from collections.abc import AsyncIterator
from typing import Final

from spnhub.transport.native_engine import why_not
from tests.bench.harness import Result
from tests.bench.report import ratios
from tests.bench.rows import ROWS, Sizes
from tests.bench.run import measure
from tests.bench.tunnel import Subject

__all__ = ["loops"]

_FIGURES: Final = (
    ("bulk.down", "hub_s_GiB"),
    ("echo.idle", "p50_ms"),
    ("opens.50", "hub_s_1000"),
    ("opens.1", "hub_s_1000"),
    ("rss", "hub_MiB"),
)


async def loops(quick: bool) -> AsyncIterator[Result]:
    """Each figure on uvloop over that on asyncio's own loop; nothing where uvloop isn't installed."""
    if importlib.util.find_spec("uvloop") is None:
        print("without uvloop only asyncio's own loop could be measured", file=sys.stderr)
        return
    engine = "native" if why_not() is None else "aioquic"
    subjects = (
        Subject("asyncio", engine),
        Subject("uvloop", engine, hub=("python", "-m", "tests.bench.uvloop_hub")),
    )
    rows = [ROWS[row] for row, _ in _FIGURES]
    records = await measure(subjects, rows, 1 if quick else 4, Sizes(seconds=0.3) if quick else Sizes())
    for row, figure in _FIGURES:
        each = ratios(records, row, figure, "uvloop", "asyncio")
        spread = f"rounds {min(each):.2f} to {max(each):.2f}"
        yield Result(
            f"{ROWS[row].aims[figure].title}, uvloop over asyncio", statistics.median(each), "ratio", None, spread
        )
