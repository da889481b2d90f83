"""Random schedules of sc01's agents and our endpoints with each other: no byte wrong, no end forged, nobody waits."""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.simulation.mixed import MixedSimulation
from tests.system.sizes import report

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


def _simulate(seeds: range, engine: str) -> None:
    pairs: Counter[str] = Counter()
    for seed in seeds:
        simulation = MixedSimulation(seed, engine)
        simulation.run()
        pairs.update(simulation.pairs)
    report(engine=engine, schedules=len(seeds), ended_in_order=dict(pairs))
    assert len(pairs) == 4, pairs


@pytest.mark.parametrize(
    ("seeds", "engine"),
    [
        pytest.param(range(50), "fake", id="fake"),
        pytest.param(range(10_000), "fake", id="fake-full", marks=pytest.mark.prove),
        pytest.param(range(3), "aioquic", id="aioquic"),
        pytest.param(range(100), "aioquic", id="aioquic-full", marks=pytest.mark.prove),
    ],
)
def test_schedules(seeds: range, engine: str) -> None:
    """In a thread that gives way: time is virtual here, and real in the tests that other workers run meanwhile."""
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(10,)) as pool:
        pool.submit(_simulate, seeds, engine).result()
