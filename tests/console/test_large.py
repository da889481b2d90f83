"""A large past: how many events a jump of the slider folds, and how long what people ask for takes."""

from __future__ import annotations

import itertools
import os
import random
import statistics
from pathlib import Path
from time import time_ns

import pytest

from spnhub.console.past import Past
from spnhub.events.analysis import index_making
from spnhub.events.analysis.flow import Flow
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.point_in_time import HubAt, Moment
from spnhub.events.journal.files import segments
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import Recorded
from spnhub.events.state.hub_state import HubState
from tests.console.large_log import measure
from tests.console.test_server import console
from tests.events.samples import NOON
from tests.support.large_journal import Size, write_large_journal

_APART = 64 << 10
_BATCH = 16 << 10


@pytest.mark.parametrize("apart", [1_000_000, 1_000])
async def test_a_jump_folds_what_follows_a_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: int) -> None:
    """Wherever it leads, in the segment that is being written, too: not more events than lie between two states of the
    index, however many came in the minute before. State and rates are those of the log, in its first minute, too."""
    monkeypatch.setattr(index_making, "APART", _APART)
    monkeypatch.setattr(index_making, "BATCH", _BATCH)
    size = Size(4_000, services=10, sessions=100, open=40, apart=apart)
    folder = tmp_path / "journal"
    written = write_large_journal(folder, size, start=NOON, segment_size=192 << 10)
    assert written >= size.events and len(segments(folder)) > 3
    folded = 0
    take = HubAt.take

    def counted(self: HubAt, recorded: Recorded, moment: Moment) -> bool:
        nonlocal folded
        folded += 1
        return take(self, recorded, moment)

    logged: list[Recorded] = []
    with JournalReader(folder) as reader:
        while batch := reader.read():
            logged += [recorded for _, recorded in batch]
    # What the size is tried with is a log as hubs write it: each event fits those before it.
    assert len(logged) == written and not HubState().apply_all(logged)
    own = Past([folder], tmp_path / "cache")
    index = own.indexes[folder]
    # Here, not in the process beside the console: that has sizes for large journals.
    index.complete()
    async with console(folder, cache=tmp_path / "cache") as (client, sight):
        # It began with the last state that is kept, in the segment that is being written.
        assert not index.segments[-1].whole
        assert sight.live.begun[folder] == index.segments[-1].marks[-1].sequence + 1
        monkeypatch.setattr(HubAt, "take", counted)
        marks = [mark.sequence for one in index.segments for mark in one.marks]
        between = max(after - before for before, after in itertools.pairwise(marks))
        # A state after so many bytes, at the end of a read; and where a segment ends.
        assert between < 700 < written // 2
        last = logged[-1].timestamp
        chance = random.Random(1)
        flow, state, place = Flow(), HubState(), 0
        for time in sorted(chance.randrange(NOON + 100 * apart, last) for _ in range(12)):
            while logged[place].timestamp <= time:
                flow.take(logged[place])
                state.apply(logged[place])
                place += 1
            then = own.at(time)
            assert then[1][0].rates(time) == flow.rates(time) != {}
            assert then[0][0].state == state
            folded = 0
            page = (await client.get("/page.json", params={"at": format_time(time)})).json()
            assert (page["sessions"], page["connections"]) == (len(state.sessions), len(state.connections))
            if time >= NOON + 400 * apart:
                assert 0 < folded <= between


@pytest.mark.prove
@pytest.mark.system
@pytest.mark.measured
@pytest.mark.timeout(7200)
async def test_ten_million_events(tmp_path: Path) -> None:
    """1,000 services, 10,000 sessions: the page within a second; slider, ``state --at`` and ``explain`` within two.

    ``SPN_LARGE_JOURNAL`` names a folder where such a journal and its index are kept, to be used again.
    """
    kept = os.environ.get("SPN_LARGE_JOURNAL")
    folder = Path(kept or tmp_path) / "journal"
    if not folder.exists():
        size = Size(10_000_000)
        start = time_ns() // 1000 - size.events * size.apart
        write_large_journal(folder, size, start=start, workers=len(os.sched_getaffinity(0)))
    found = await measure(folder, folder.parent / "cache")
    for line in found.lines():
        print(line)
    assert found.events >= 10_000_000 and found.services == 1_000 and found.sessions == 10_000
    assert statistics.median(one.wall for one in found.page) <= 1.0
    for asked in (found.jumps, found.state, found.explain):
        assert statistics.median(one.wall for one in asked) <= 2.0
