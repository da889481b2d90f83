"""Where an aim is missed: what the same rows come to with a hub that only passes on, and what a start consists of.

The bare hub (:mod:`tests.bench.bare_hub`) decides and records nothing, and the agents are the product's. What a row
costs with it nobody saves by work on the hub's own code: it is the language, the engine, the machine and the agents.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from spnhub.transport.native_engine import why_not
from tests.bench.harness import Result
from tests.bench.report import Record
from tests.bench.rows import ROWS, Sizes
from tests.bench.run import measure
from tests.bench.tunnel import Subject
from tests.support.command import BIN, environment

__all__ = ["floors"]

_PRODUCT, _BARE = "product", "bare"
_FIGURES: Final = (
    ("opens.50", "per_s"),
    ("opens.50", "hub_s_1000"),
    ("opens.1", "hub_s_1000"),
    ("http.keep", "per_s"),
    ("http.close", "per_s"),
    ("echo.beside", "p50_ms"),
    ("rss", "hub_MiB"),
    ("sessions", "hub_ms"),
    ("start.together", "seconds"),
)
_PARTS: Final = {
    "the interpreter": "pass",
    "and asyncio": "import asyncio",
    "and certificates (cryptography, OpenSSL)": "import asyncio, OpenSSL.crypto, cryptography.x509",
    "and the engine on its socket": "import spnhub.transport.native_engine.engine, spnhub.transport.udp",
    "all of an agent": "from spnhub.cli import start\nwith start.importing():\n start.load()\n import spnhub.cli.agent",
}
"""What a start reads, each with what those before it do; of whom each is the whole of a process's life."""


async def floors(quick: bool) -> AsyncIterator[Result]:
    """Each figure with the bare hub, and the product's beside it: medians of rounds in turn."""
    engine = "native" if why_not() is None else "aioquic"
    bare = Subject(_BARE, engine, hub=("python", "-m", "tests.bench.bare_hub"))
    rows = [ROWS[name] for name in dict.fromkeys(name for name, _ in _FIGURES)]
    sizes = Sizes(0.3, 20, 20, 20) if quick else Sizes()
    records = await measure((Subject(_PRODUCT, engine), bare), rows, 1 if quick else 3, sizes)
    for row, figure in _FIGURES:
        aim = ROWS[row].aims[figure]
        least, ours = (_median(records, row, figure, subject) for subject in (_BARE, _PRODUCT))
        yield Result(f"{aim.title}, with a hub that only passes on", least, aim.unit, detail=f"the product {ours:.4g}")
    took: dict[str, list[float]] = {part: [] for part in _PARTS}
    for _ in range(2 if quick else 15):
        for part, program in _PARTS.items():
            took[part].append(await _life(program))
    for part, seconds in took.items():
        yield Result(f"a process's start: {part}", statistics.median(seconds), "s")


def _median(records: Sequence[Record], row: str, figure: str, subject: str) -> float:
    each = [one.figures[figure] for one in records if (one.row, one.subject) == (row, subject) and not one.error]
    return statistics.median(each)


async def _life(program: str) -> float:
    began = time.monotonic()
    process = await asyncio.create_subprocess_exec(str(BIN / "python"), "-c", program, env=environment({}))
    assert await process.wait() == 0, program
    return time.monotonic() - began
