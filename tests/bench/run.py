"""Rounds over rows and subjects, interleaved: what disturbs the machine disturbs all of them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Sequence
from contextlib import AsyncExitStack

from tests.bench.load import Figures
from tests.bench.report import Record
from tests.bench.rows import Row, Sizes
from tests.bench.tunnel import Subject, Tunnel

__all__ = ["measure"]


async def measure(subjects: Sequence[Subject], rows: Sequence[Row], rounds: int, sizes: Sizes) -> list[Record]:
    """Every row of every subject in every round, printed as they come. One that fails is a record with its error."""
    records: list[Record] = []
    for number in range(rounds):
        turn = number % len(subjects)
        order = [*subjects[turn:], *subjects[:turn]]
        running = [row for row in rows if row.running]
        if running:
            async with AsyncExitStack() as stack:
                tunnels = []
                for subject in order:
                    try:
                        tunnels.append(await stack.enter_async_context(subject.tunnel()))
                    except Exception as exc:
                        traceback.print_exc()
                        records.append(Record(number, subject.name, "start", os.getloadavg()[0], {}, _words(exc)))
                for row in running:
                    records += [await _one(number, row, tunnel.subject, sizes, tunnel) for tunnel in tunnels]
        for row in rows:
            if row.alone:
                records += [await _one(number, row, subject, sizes, None) for subject in order if not subject.direct]
    return records


async def _one(number: int, row: Row, subject: Subject, sizes: Sizes, tunnel: Tunnel | None) -> Record:
    load, figures, error = os.getloadavg()[0], Figures(), None
    try:
        if tunnel is not None:
            assert row.running
            await tunnel.settle()
            figures = await row.running(tunnel, sizes)
        else:
            assert row.alone
            figures = await row.alone(subject, sizes)
    except Exception as exc:
        error = _words(exc)
        traceback.print_exc()
    print(f"{number} {row.name:15} {subject.name:13} {error or _told(row, figures)}", flush=True)
    return Record(number, subject.name, row.name, load, figures, error)


def _words(exc: Exception) -> str:
    return f"{type(exc).__name__}: {exc}".splitlines()[0]


def _told(row: Row, figures: Figures) -> str:
    known: Iterable[str] = row.aims.keys() & figures.keys()
    return "  ".join(f"{name} {figures[name]:.4g}" for name in row.aims if name in known)
