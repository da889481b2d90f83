"""Dataclasses of :mod:`spnhub.events.frozen` compare, hash and look as Python's own do."""

from __future__ import annotations

import dataclasses
from dataclasses import field
from typing import Any

import pytest

from spnhub.events.frozen import dataclass


class Alike:
    """The same fields, made by Python and by us."""

    def __init__(self, **options: Any) -> None:
        def made(decorate: Any) -> Any:
            class Point:
                x: int
                y: float = 0.0
                name: str = field(default="", compare=False)
                key: bytes = field(default=b"", repr=False)

            Point.__qualname__ = "Point"
            return decorate(slots=True, **options)(Point)

        self.python = made(dataclasses.dataclass)
        self.ours = made(dataclass)


@pytest.mark.parametrize("frozen", [True, False])
def test_looks_and_compares_as_pythons(frozen: bool) -> None:
    alike = Alike(frozen=frozen)
    values: list[dict[str, Any]] = [
        {"x": 1},
        {"x": 1, "name": "other"},
        {"x": 1, "key": b"secret"},
        {"x": 1, "y": float("nan")},
        {"x": 2, "y": 1.5},
    ]
    python, ours = ([made(**value) for value in values] for made in (alike.python, alike.ours))
    assert [repr(one) for one in ours] == [repr(one) for one in python]
    assert "secret" not in repr(ours[2])
    assert [[a == b for b in ours] for a in ours] == [[a == b for b in python] for a in python]
    assert ours[0] != python[0]
    if frozen:
        assert [hash(one) for one in ours[:3]] == [hash(one) for one in python[:3]]
    else:
        with pytest.raises(TypeError):
            hash(ours[0])


def test_one_field_and_none() -> None:
    @dataclass(frozen=True, slots=True)
    class One:
        x: float

    @dataclass(frozen=True, slots=True)
    class Nothing:
        pass

    nan = float("nan")
    assert One(nan) == One(nan)  # as values of a tuple compare: the same object is equal to itself
    assert Nothing() == Nothing()
    assert {One(1.0), One(1.0), Nothing(), Nothing()} == {Nothing(), One(1.0)}
    assert repr(Nothing()).endswith("Nothing()")


def test_what_a_class_defines_itself_stays() -> None:
    @dataclass(frozen=True, slots=True)
    class Own:
        x: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return other == self.x

        def __hash__(self) -> int:
            return 7

    assert (repr(Own(3)), Own(3) == 3, hash(Own(3))) == ("own", True, 7)


def test_a_subclass_compares_its_own_fields_too() -> None:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Base:
        x: int

    @dataclass(frozen=True, slots=True, kw_only=True)
    class More(Base):
        y: int

    assert More(x=1, y=2) != More(x=1, y=3)
    assert Base(x=1) != More(x=1, y=2)
