"""One test, two sizes: small in CI, full with ``make prove``; and the figures that a test saw."""

from __future__ import annotations

from typing import Any

import pytest

__all__ = ["KIB", "MIB", "report", "sizes"]

KIB = 1024
MIB = 1024 * 1024


def sizes(
    names: str, small: Any, full: Any, *, minutes: float = 10, small_minutes: float | None = None
) -> pytest.MarkDecorator:
    """Parametrize with the small values, and, marked ``prove``, with the full ones.

    :param minutes: time that the full size may take.
    :param small_minutes: the same for the small size, if it isn't the usual.
    """
    marks = [pytest.mark.prove, pytest.mark.timeout(minutes * 60)]
    few = [] if small_minutes is None else [pytest.mark.timeout(small_minutes * 60)]
    both = [pytest.param(*_tuple(small), id="small", marks=few), pytest.param(*_tuple(full), id="full", marks=marks)]
    return pytest.mark.parametrize(names, both)


def _tuple(values: Any) -> tuple[Any, ...]:
    return values if isinstance(values, tuple) else (values,)


def report(**figures: object) -> None:
    """Print what was measured; ``pytest -rP`` or ``-s`` shows it."""
    print("measured:", ", ".join(f"{name} {value}" for name, value in figures.items()))
