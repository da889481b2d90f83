"""Whether a large journal stays usable: how long page, slider and the commands about the past take.

``python -m tests.console.large_log FOLDER [INDEX]`` measures a journal that is there (``python -m
tests.support.large_journal`` makes one), and makes what is missing of its index first.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import httpx2

from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.journal.files import segments
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import ConnectionStarted
from tests.support.command import Command, run

__all__ = ["Figures", "measure"]

_JUMPS = 20
_PAGES = 5


class Took(NamedTuple):
    """Seconds."""

    wall: float
    cpu: float
    """Of the process that was asked: where others work, too, that is what can be compared."""


@dataclass(slots=True)
class Figures:
    """Seconds, but for what is counted."""

    events: int = 0
    services: int = 0
    sessions: int = 0
    index_made: float = 0.0
    """What was missing of the index."""
    index_bytes: int = 0
    ready: Took = Took(0, 0)
    """From the console's start until pages are shown."""
    whole: Took = Took(0, 0)
    """Until what was before is there, too: incidents, and what flowed."""
    page: list[Took] = field(default_factory=list)
    page_early: list[Took] = field(default_factory=list)
    """Pages before the past was whole."""
    jumps: list[Took] = field(default_factory=list)
    """Moments anywhere in the log, each asked for the first time."""
    state: list[Took] = field(default_factory=list)
    """``spnlog state --at``, the process's start included."""
    explain: list[Took] = field(default_factory=list)
    incidents: Took = Took(0, 0)
    memory: int = 0
    """Of the console at its end, bytes."""

    def lines(self) -> list[str]:
        """For people."""

        def of(values: Sequence[Took]) -> str:
            if not values:
                return "none"
            wall, cpu = zip(*values, strict=True)
            return f"median {_median(wall)} s, CPU {_median(cpu)} s; at most {max(wall):.2f} s, CPU {max(cpu):.2f} s"

        return [
            f"{self.events:,} events, {self.services:,} services, {self.sessions:,} sessions",
            f"index: {self.index_bytes / (1 << 20):,.0f} MiB; {self.index_made:.1f} s for what was missing",
            f"console ready: {of([self.ready])}",
            f"the past whole: {of([self.whole])}",
            f"its memory {self.memory / (1 << 20):,.0f} MiB",
            f"page: {of(self.page)}; before the past is whole: {of(self.page_early)}",
            f"slider: {of(self.jumps)}",
            f"state --at: {of(self.state)}",
            f"explain: {of(self.explain)}",
            f"incidents: {of([self.incidents])}",
        ]


async def measure(folder: Path, cache: Path) -> Figures:
    """Measure it.

    :raises JournalError: there is no journal in the folder.
    """
    found = Figures()
    begun = time.monotonic()
    await asyncio.to_thread(_complete, folder, cache)
    found.index_made = time.monotonic() - begun
    found.index_bytes = sum(path.stat().st_size for path in cache.rglob("*.index"))
    chance = random.Random(1)
    times, uids = _ends(folder), _uids(folder, chance, 3)
    moments = [format_time(chance.randrange(*times)) for _ in range(_JUMPS)]
    await _console(found, folder, cache, moments)
    for moment in moments[:3]:
        found.state.append(await _timed("state", "--json", "--at", moment, str(folder), "--index", str(cache)))
    for uid in uids:
        found.explain.append(await _timed("explain", "--json", uid, str(folder), "--index", str(cache)))
    found.incidents = await _timed("incidents", "--json", str(folder), "--index", str(cache))
    return found


def _complete(folder: Path, cache: Path) -> None:
    """Make what is missing of the index, on every core: each makes a stretch of it, since states go from one segment
    to the next."""
    missing = JournalIndex(folder, cache).load()
    workers = len(os.sched_getaffinity(0))
    length = -(-len(missing) // workers)
    stretches = [missing[place : place + length] for place in range(0, len(missing), length or 1)]
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(functools.partial(_make, folder, cache), stretches)


def _make(folder: Path, cache: Path, missing: Sequence[tuple[int, int | None]]) -> None:
    index = JournalIndex(folder, cache)
    for first, following in missing:
        index.make(first, following)
        index.load()


async def _console(found: Figures, folder: Path, cache: Path, moments: Sequence[str]) -> None:
    begun = time.monotonic()
    program = await Command.start(
        "console", "spnlog", "console", str(folder), "--listen", "127.0.0.1:0", "--index", str(cache)
    )
    try:
        url = str((await program.line("console.ready"))["url"])
        async with httpx2.AsyncClient(base_url=url, timeout=120, verify=False) as client:
            while (await client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
            found.ready = Took(time.monotonic() - begun, program.cpu)

            async def get(path: str, **params: str) -> tuple[str, Took]:
                asked, cpu = time.monotonic(), program.cpu
                answer = await client.get(path, params=params)
                answer.raise_for_status()
                return answer.text, Took(time.monotonic() - asked, program.cpu - cpu)

            while "being indexed" in (answer := await get("/"))[0]:
                found.page_early.append(answer[1])
                await asyncio.sleep(0.6)
            found.whole = Took(time.monotonic() - begun, program.cpu)
            for _ in range(_PAGES):
                # A page of now is shown again for half a second.
                await asyncio.sleep(0.6)
                found.page.append((await get("/"))[1])
            for moment in moments:
                found.jumps.append((await get("/part", at=moment))[1])
            page = (await client.get("/page.json", params={"at": moments[-1]})).json()
            found.services = len(page["services"]["rows"]) + page["services"]["more"]
            found.sessions = page["sessions"]
            found.events = max(row["sequence"] for row in (await client.get("/page.json")).json()["hubs"]["rows"])
            found.memory = program.rss
    finally:
        await program.close()


async def _timed(*arguments: str) -> Took:
    begun, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    status, _, errors = await run("spnlog", *arguments, fork=False)
    assert status == 0, errors
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(time.monotonic() - begun, cpu)


def _median(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.2f}"


def _ends(folder: Path) -> tuple[int, int]:
    """Times of the first event and of one near the end."""
    kept = segments(folder)
    found = []
    for first, _ in (kept[0], kept[-1]):
        with JournalReader(folder, after=first - 1) as reader:
            found.append(reader.read(4096)[0][1].timestamp)
    return found[0] + 20_000_000, max(found[1], found[0] + 20_000_001)


def _uids(folder: Path, chance: random.Random, count: int) -> list[str]:
    """Of connections anywhere in the log."""
    found = []
    for first, _ in chance.sample(segments(folder), count):
        with JournalReader(folder, after=first - 1) as reader:
            while batch := reader.read():
                started = [one.event for _, one in batch if isinstance(one.event, ConnectionStarted)]
                if started:
                    found.append(started[0].connection_uid)
                    break
    return found


async def _main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="large-log-") as folder:
        cache = Path(arguments[1]) if arguments[1:] else Path(folder)
        for line in (await measure(Path(arguments[0]), cache)).lines():
            print(line)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1:]))
