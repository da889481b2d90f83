"""Which cells are run: there are a quarter of a billion, so not all.

- :func:`singles`: each value with all else as it should be.
- :func:`covering`: rows that together have each pair of values of any two axes, once at least.
- :func:`pairs`: each of these pairs in a cell of its own, with all else as it should be: nothing hides it.
- :func:`who`: the whole product of what decides about roles and services. They are looked up in each other: the common
  name in a service's definition, that in a realm, the role's place in it and how it is said by the protocol.
- :func:`each_verdict`: one with each verdict, for what takes time.
- :func:`precedence`: the whole product of what is judged of one chain, where one fault is told before another.

Of all other axes any two don't look at each other, so pairs show what there is to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache, partial
from itertools import combinations, product
from typing import Final

from tests.authorisation.axes import AXES, Cell, possible
from tests.authorisation.oracle import verdict

__all__ = ["covering", "each_verdict", "pairs", "precedence", "singles", "who"]

_WHO: Final = ("subject", "role", "service", "realm", "protocol")
_JUDGED: Final = (("chain", "validity", "revocation"), ("chain", "signature", "usage"), ("chain", "key", "validity"))
_Pair = tuple[tuple[str, str], tuple[str, str]]


def _made(cells: Iterator[Cell]) -> list[Cell]:
    """Those that there can be, each once."""
    return [cell for cell in dict.fromkeys(cells) if possible(cell)]


def _with(*names: str) -> Iterator[Cell]:
    """All values of these axes with each other."""
    for values in product(*(AXES[name] for name in names)):
        yield replace(Cell(), **dict(zip(names, values, strict=True)))


def singles() -> list[Cell]:
    """Each value alone."""
    return _made(cell for name in AXES for cell in _with(name))


def pairs() -> list[Cell]:
    """Each pair alone."""
    return _made(cell for names in combinations(AXES, 2) for cell in _with(*names))


def who() -> list[Cell]:
    """Everybody who asks for everything in every way."""
    return _made(_with(*_WHO))


def precedence() -> list[Cell]:
    """Everything that is wrong with a chain, in every combination of three."""
    return _made(cell for names in _JUDGED for cell in _with(*names))


def each_verdict() -> list[Cell]:
    """For each verdict the first of the cells that have it alone or by who asks; of admissions one for each role in
    each protocol. Without those that are judged by what doesn't come in time."""
    first: dict[tuple[object, ...], Cell] = {}
    for cell in (*singles(), *who()):
        due = verdict(cell)
        how = (cell.role, cell.protocol) if due.kind == "admitted" else ()
        if cell.role != "none":
            first.setdefault((due.kind, due.number, how), cell)
    return list(first.values())


def pairs_in(cell: Cell) -> Iterator[_Pair]:
    """The pairs of values that a cell has."""
    return combinations([(name, getattr(cell, name)) for name in AXES], 2)


@cache
def covering() -> list[Cell]:
    """Few rows with each pair; the same each time. Greedy: each begins with a pair that no row has yet."""
    left = dict.fromkeys(pair for cell in pairs() for pair in pairs_in(cell))
    rows = []
    while left:
        (one, first), (other, second) = next(iter(left))
        fixed = {one: first, other: second}
        for name in AXES:
            if name not in fixed:
                fixed[name] = max(AXES[name], key=partial(_worth, left, fixed, name))
        row = Cell(**fixed)
        rows.append(row)
        for pair in pairs_in(row):
            left.pop(pair, None)
    return rows


def _worth(left: dict[_Pair, None], fixed: dict[str, str], name: str, value: str) -> int:
    """How many more pairs a row has with this value; -1: there is no such cell."""
    if not possible(Cell(**fixed | {name: value})):
        return -1
    order = list(AXES)
    count = 0
    for known in fixed.items():
        two = (known, (name, value)) if order.index(known[0]) < order.index(name) else ((name, value), known)
        count += two in left
    return count
