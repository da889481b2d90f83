"""The table, run: each cell is a handshake, a request and a connection, or the refusal that the specification says."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.authorisation import cells
from tests.authorisation.axes import AXES, Cell
from tests.authorisation.oracle import verdict
from tests.authorisation.page import PAGE, render
from tests.authorisation.places import Place, Sockets
from tests.authorisation.world import World
from tests.support.engines import REAL, each_name

_LIVES = 500
"""Cells that one hub sees: its log is kept whole."""

both = pytest.mark.parametrize("engine", each_name(REAL))


def differing(engine: str, asked: Iterable[Cell], place: Place | None = None) -> tuple[int, list[str]]:
    """How many cells were run, and where the hub does something else than the specification says."""
    found, world = [], World(engine, place)
    number = -1
    for number, cell in enumerate(asked):
        if number % _LIVES == _LIVES - 1:
            world = World(engine, place)
        due = verdict(cell)
        seen = world.run(cell)
        said = " ".join(seen.about)
        if (seen.kind, seen.number) != (due.kind, due.number) or not all(one in said for one in due.about):
            found.append(f"{cell}: due is {due}, seen was {seen}")
    return number + 1, found


@pytest.mark.long
@both
def test_each_value(engine: str) -> None:
    """With all else as it should be."""
    count, found = differing(engine, cells.singles())
    assert found == []
    assert count > sum(map(len, AXES.values())) - 2 * len(AXES)


@pytest.mark.outside
@both
def test_each_verdict_over_sockets(engine: str) -> None:
    """The kernel's, with the hub's own turns; the clocks that judge certificates stand still."""
    with Sockets() as place:
        count, found = differing(engine, cells.each_verdict(), place)
    assert found == []
    assert count > 15


@pytest.mark.long
@pytest.mark.parametrize("part", [0, *(pytest.param(part, marks=pytest.mark.prove) for part in (1, 2))])
def test_each_pair_of_values(part: int) -> None:
    """A third of the pairs each time, on the native engine, where it is, which takes half the time."""
    engine = str([one.id for one in each_name(REAL) if not one.marks][-1])
    count, found = differing(engine, cells.covering()[part::3])
    assert found == []
    assert count > 100


def test_rows_have_each_pair() -> None:
    """Of values that can be together, and no row is there without need."""
    due = {pair for cell in cells.pairs() for pair in cells.pairs_in(cell)}
    rows = cells.covering()
    assert {pair for row in rows for pair in cells.pairs_in(row)} >= due
    assert len(rows) < 1000


def test_verdicts_of_each_kind() -> None:
    """The table isn't all refusals, and has each alert that there is a rule for."""
    due = [verdict(cell) for cell in cells.singles()]
    assert {one.number for one in due if one.kind == "alert"} == {42, 43, 44, 45, 48, 112, 116, 120}
    assert {one.number for one in map(verdict, cells.who()) if one.kind == "refusal"} == {16, 17}
    assert {one.number for one in map(verdict, cells.who()) if one.kind == "close"} == {1, 2, 4}
    assert sum(one.kind == "admitted" for one in due) > 40


def test_the_page_has_the_table() -> None:
    """``python -m tests.authorisation`` brings it up to date."""
    text = PAGE.read_text(encoding="utf-8")
    assert render(text) == text


@pytest.mark.prove
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", ["covering", "pairs", "who", "precedence"])
@both
def test_whole(engine: str, part: str) -> None:
    """Each pair with nothing that hides it, and the whole products, on each engine."""
    count, found = differing(engine, getattr(cells, part)())
    assert found == []
    assert count > 500
