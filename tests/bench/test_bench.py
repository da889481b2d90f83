"""The measurements measure: small sizes of those that have parts of their own."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from tests.bench.event_cost import BOTH, JOURNAL, OFF, event_cost
from tests.bench.harness import Result, bench, echo, open_and_close
from tests.bench.processes import cpu
from tests.bench.shipping import ship, write
from tests.bench.unlogged_hub import SILENT
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


def test_aims() -> None:
    """A figure may have to be high, or low, or be just told."""
    assert Result("a", 0.4, "ratio", 0.5).missed
    assert not Result("a", 0.4, "ratio", 0.5, at_most=True).missed
    assert not Result("a", 0.4, "ratio").missed


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
