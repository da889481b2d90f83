"""Random schedules of crashes, partitions, updates, other addresses: every byte once, and every story has its end."""

from __future__ import annotations

import pytest

from tests.simulation.schedule import Simulation
from tests.system.sizes import report

_BLOCKS = 10


@pytest.mark.parametrize("block", range(_BLOCKS))
@pytest.mark.timeout(600)
def test_over_the_fake_engine(block: int) -> None:
    """A thousand seeds a block."""
    _run(range(block * 1000, (block + 1) * 1000), "fake")


@pytest.mark.timeout(600)
def test_over_aioquic() -> None:
    """A hundred, over real QUIC in memory."""
    _run(range(100), "aioquic")


def _run(seeds: range, engine: str) -> None:
    states: set[tuple[object, ...]] = set()
    told_later = untold = failed = failed_alone = fins_lost = 0
    for seed in seeds:
        simulation = Simulation(seed, engine)
        simulation.run()
        states |= simulation.states
        told_later += simulation.told_later
        untold += simulation.untold
        failed += simulation.failed
        failed_alone += simulation.failed_alone
        fins_lost += simulation.fins_lost
    report(
        engine=engine,
        schedules=len(seeds),
        distinct_states=len(states),
        ended_unseen={"told later": told_later, "never": untold},
        failures={"after every byte": failed, "alone": failed_alone, "without their FIN": fins_lost},
    )
    assert len(states) > len(seeds)
    assert failed > failed_alone
