"""The measurements measure: small sizes of those that have parts of their own."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.bench.counts import count, grown
from tests.bench.event_cost import BOTH, JOURNAL, OFF, event_cost
from tests.bench.floors import floors
from tests.bench.harness import Result, bench, echo, open_and_close
from tests.bench.limit_cost import limit_cost
from tests.bench.plot import draw
from tests.bench.processes import cpu, process_cpu, waits
from tests.bench.report import Record, lines, table
from tests.bench.rows import ROWS, Sizes
from tests.bench.run import measure
from tests.bench.shipping import ship, write
from tests.bench.tunnel import DIRECT, Subject
from tests.bench.unlimited_hub import lift_limits
from tests.bench.unlogged_hub import SILENT
from tests.bench.wakes import wakes
from tests.bench.worker_share import workers
from tests.support.engines import on_both_engines
from tests.support.kafka import KafkaBroker
from tests.support.world import lifecycle

pytestmark = pytest.mark.outside

_UNLOGGED = ("python", "-m", "tests.bench.unlogged_hub")


def test_cpu_time_of_a_process() -> None:
    """It is what the process itself says."""
    began, before = time.process_time(), cpu(os.getpid())
    while time.process_time() - began < 0.1:
        sum(range(1000))
    assert cpu(os.getpid()) - before == pytest.approx(0.1, abs=0.03)
    assert process_cpu(os.getpid()) == pytest.approx(time.process_time(), abs=0.03)


def test_waiting_for_a_core() -> None:
    """It is counted as long as others have them all."""
    before = waits(os.getpid())
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        began = time.process_time()
        while time.process_time() - began < 0.2:
            sum(range(1000))
    finally:
        for one in busy:
            one.kill()
            one.wait()
    assert waits(os.getpid()).mean_since(before) > 0.0001


@on_both_engines
def test_limits_cost_at_most_three_percent(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the calls and lines of a connection and of bytes, for who never meets them."""
    # What is remembered of the same names and ids the next time must not count for the second alone.
    count(engine)
    limited = count(engine)
    lift_limits(monkeypatch.setattr)
    unlimited = count(engine)
    for name, value in limited.items():
        print(f"measured: {name}: {value:.1f}, without limits {unlimited[name]:.1f}")
        assert value <= unlimited[name] * 1.03
    assert unlimited["connection, lines"] < limited["connection, lines"]


@pytest.mark.prove
async def test_what_limits_cost() -> None:
    """A ratio of each figure, from hubs with and without."""
    results = [result async for result in limit_cost(quick=True)]
    assert [result.unit for result in results] == ["ratio"] * len(results)
    assert len(results) >= 4
    # So short a look beside other tests tells nothing of how much: seconds of an echo may be a neighbour's.
    assert all(result.value > 0 for result in results)


async def test_what_a_wake_costs() -> None:
    """A figure for each pause."""
    results = [result async for result in wakes(quick=True)]
    assert [result.name.split(",")[1] for result in results] == [f" {pause} ms after the last" for pause in (0, 1, 5)]
    assert all(result.value > 0.005 for result in results)


@pytest.mark.prove
async def test_what_a_second_worker_brings() -> None:
    """Figures of one and of two, where the kernel gives shares of a core."""
    results = [result async for result in workers(quick=True)]
    assert [result.unit for result in results] in ([], ["MB/s", "MB/s", "1/s", "1/s"])
    assert all(result.value > 0 for result in results)


def test_aims() -> None:
    """A figure may have to be high, or low, or be just told."""
    assert Result("a", 0.4, "ratio", 0.5).missed
    assert not Result("a", 0.4, "ratio", 0.5, at_most=True).missed
    assert not Result("a", 0.4, "ratio").missed


def test_a_cost_that_grew_by_more_than_a_third() -> None:
    """A quarter less of a rate; what only one revision counts says nothing."""
    assert grown({"calls": 300.0, "gone": 1.0}, {"calls": 400.0, "new": 9.0}) == []
    assert grown({"calls": 300.0, "lines": 100.0}, {"calls": 401.0, "lines": 90.0}) == ["calls"]


def _record(number: int, subject: str, value: float) -> Record:
    return Record(number, subject, "opens.50", 0.0, {"per_s": value, "hub_s_1000": 1 / value})


def test_figures_are_compared_within_their_round() -> None:
    """Medians over rounds, direct TCP beside them, how many times better, and which aims are kept."""
    records = [_record(0, "aioquic", 100), _record(0, "native", 400), _record(0, DIRECT, 9000)]
    records += [_record(1, "aioquic", 10), _record(1, "native", 50), _record(1, DIRECT, 9000)]
    records += [Record(1, "native", "opens.1", 0.0, {}, "OSError: it failed")]
    rate, cost = lines(records, "aioquic", "native")
    assert (rate.first, rate.second, rate.reference) == (55, 225, 9000)
    assert rate.each == (4.0, 5.0)
    assert cost.each == pytest.approx((4.0, 5.0))
    assert rate.verdicts() == [True]  # 3.2 times
    assert cost.verdicts() == [False, True]  # 4.7 times; aioquic at most 0.5
    told = table([rate], "aioquic", "native", aims=True)
    assert told.splitlines()[2] == (
        "| open, echo, close, 50 at once | 1/s | 9,000 | 55 | 225 | 4.5 (4 to 5) | 3.2 times | yes |"
    )
    picture = draw("A title", [rate, cost], aims=True)
    assert picture.count("<circle") == 2 * (2 + 1)


@pytest.mark.system
async def test_rows_of_a_tunnel() -> None:
    """Figures of hub and agents come, with what they cost; and of TCP without them."""
    rows = [ROWS[name] for name in ("bulk.up", "http.close")]
    subjects = [Subject("auto", "auto"), Subject(DIRECT, DIRECT)]
    records = await measure(subjects, rows, 1, Sizes(seconds=0.2))
    assert [(one.row, one.subject, one.error) for one in records] == [
        (row.name, subject.name, None) for row in rows for subject in subjects
    ]
    for one in records:
        wanted = [name for name in ROWS[one.row].aims if one.subject != DIRECT or "_s_" not in name]
        assert all(one.figures[name] > 0 for name in wanted)


async def test_a_subject_that_does_not_start(tmp_path: Path) -> None:
    """It is told, and the others are measured."""
    subjects = [Subject("gone", "auto", tmp_path), Subject(DIRECT, DIRECT)]
    gone, direct = await measure(subjects, [ROWS["echo.idle"]], 1, Sizes(seconds=0.1))
    assert (gone.subject, gone.row, str(gone.error).partition(":")[0]) == ("gone", "start", "FileNotFoundError")
    assert (direct.subject, direct.error) == (DIRECT, None)


@pytest.mark.prove
@pytest.mark.system
@pytest.mark.timeout(600)
@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row.alone])
async def test_rows_of_their_own_tunnel(row: str) -> None:
    """Each gives all of its figures."""
    (record,) = await measure([Subject("auto", "auto")], [ROWS[row]], 1, Sizes(1.0, 50, 10, 10))
    assert record.error is None
    assert record.figures.keys() >= ROWS[row].aims.keys()


@pytest.mark.system
@pytest.mark.parametrize("options", [(), (SILENT,)])
async def test_a_hub_without_a_log(options: tuple[str, ...]) -> None:
    """Connections live and end on it as on any hub; nothing of them is kept, and with ``--silent`` nothing printed."""
    async with bench(program=(*_UNLOGGED, *options)) as one:
        await one.provider(echo)
        consumer = await one.consumer()
        await asyncio.gather(*(open_and_close(consumer) for _ in range(20)))
        await one.hub.stop()
        types = [line["eventType"] for line in lifecycle(one.hub.lines)]
        assert types.count("startSpnConnection") == types.count("endSpnConnection") == (0 if options else 20)
        assert [path.suffix for path in one.world.journal.iterdir() if path.suffix == ".segment"] == []


@pytest.mark.system
async def test_a_hub_that_only_passes_on() -> None:
    """Endpoints of the product, which notice nothing."""
    async with bench(program=("python", "-m", "tests.bench.bare_hub")) as one:
        await one.provider(echo)
        consumer = await one.consumer()
        await asyncio.gather(*(open_and_close(consumer) for _ in range(20)))
        assert await one.hub.stop() == 0


@pytest.mark.prove
@pytest.mark.system
@pytest.mark.timeout(300)
async def test_what_a_hub_that_only_passes_on_costs() -> None:
    """A figure for each row, and for each part of a start."""
    results = [result async for result in floors(quick=True)]
    assert len(results) > 10
    assert all(result.value > 0 for result in results)


@pytest.mark.kafka
@pytest.mark.system
async def test_shipping_a_journal(kafka: KafkaBroker, tmp_path: Path) -> None:
    """All of it, by a shipper that leaves in order; what that took is more than nothing."""
    total = write(tmp_path, 3000)
    run = await asyncio.to_thread(ship, tmp_path, kafka)
    assert total >= 3000
    assert 0 < run.cpu < 60
    assert 0 < run.wall_us < 60


@pytest.mark.prove
@pytest.mark.kafka
@pytest.mark.system
async def test_event_cost(capsys: pytest.CaptureFixture[str]) -> None:
    """A row for each hub, and the log costs less than the hub itself."""
    results = await event_cost(100.0, 1.0, 3)
    printed = capsys.readouterr().out
    assert all(name in printed for name in (OFF, JOURNAL, BOTH))
    assert all(0.5 < result.value < 2.0 for result in results)
