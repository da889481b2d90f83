"""Random schedules of crashes, partitions, updates, other addresses: every byte once, and every story has its end."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from spnhub.transport.native_engine import why_not
from tests.simulation.schedule import Simulation
from tests.system.sizes import report

pytestmark = pytest.mark.long


def _blocks(seeds: int, blocks: int, few: int) -> pytest.MarkDecorator:
    """Parametrize with the first few seeds, and, marked ``prove``, with all blocks of so many seeds each."""
    full = [pytest.mark.prove, pytest.mark.timeout(600)]
    ranges = [range(block * seeds, (block + 1) * seeds) for block in range(blocks)]
    # They give way to whatever else the machine does.
    small = pytest.param(range(few), id="few", marks=pytest.mark.timeout(600))
    return pytest.mark.parametrize("seeds", [small, *(pytest.param(r, id=f"{r.start}", marks=full) for r in ranges)])


@_blocks(125, blocks=80, few=50)
def test_over_the_fake_engine(seeds: range) -> None:
    """Ten thousand seeds, of which each run of the tests has fifty."""
    _run(seeds, "fake")


@_blocks(10, blocks=10, few=5)
def test_over_aioquic(seeds: range) -> None:
    """A hundred, over real QUIC in memory."""
    _run(seeds, "aioquic")


@pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
@_blocks(25, blocks=40, few=12)
def test_over_the_native_engine(seeds: range) -> None:
    """A thousand, likewise."""
    _run(seeds, "native")


def _run(seeds: range, engine: str) -> None:
    """In a thread that gives way: time is virtual here, and real in the tests that other workers run meanwhile."""
    with ThreadPoolExecutor(1, initializer=os.nice, initargs=(10,)) as pool:
        pool.submit(_simulate, seeds, engine).result()


def _simulate(seeds: range, engine: str) -> None:
    states: set[tuple[object, ...]] = set()
    reported_later = unreported = failed = failed_alone = fins_lost = 0
    for seed in seeds:
        simulation = Simulation(seed, engine)
        simulation.run()
        states |= simulation.states
        reported_later += simulation.reported_later
        unreported += simulation.unreported
        failed += simulation.failed
        failed_alone += simulation.failed_alone
        fins_lost += simulation.fins_lost
    report(
        engine=engine,
        schedules=len(seeds),
        distinct_states=len(states),
        ended_unseen={"reported later": reported_later, "never": unreported},
        failures={"after every byte": failed, "alone": failed_alone, "without their FIN": fins_lost},
    )
    assert len(states) > len(seeds)
    assert failed > failed_alone
