"""The attack table in ``make prove``: how long others wait is measured, and depends on what else the machine does."""

from __future__ import annotations

import pytest

from tests.attacks.__main__ import ROWS, run
from tests.support.engines import each_name
from tests.system.sizes import report

pytestmark = [pytest.mark.system, pytest.mark.measured]


@pytest.mark.prove
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("engine", each_name(["aioquic", "native"]))
async def test_the_table(engine: str) -> None:
    """Nobody notices."""
    figures = await run(engine, list(ROWS), 6.0)
    report(**{name: f"{one.before:.3f} -> {one.during:.3f}, {one.newcomer:.2f}" for name, one in figures.items()})
    assert {name: one.misses() for name, one in figures.items() if one.misses()} == {}
