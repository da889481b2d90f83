"""Dataclasses of :mod:`spnhub.dataclass` are what Python's own are, but for the time that it takes to make one."""

from __future__ import annotations

import builtins
import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

import spnhub.dataclass
from spnhub.events import frozen

Decorate = Callable[..., Callable[[type], type]]
OURS = [spnhub.dataclass.dataclass, frozen.dataclass]


def point(decorate: Decorate, **options: Any) -> Any:
    """A class with a field of each kind."""

    class Point:
        """Somewhere."""

        x: int
        y: float = 0.0
        name: str = field(default="", compare=False)
        key: bytes = field(default=b"", repr=False)
        tags: list[str] = field(default_factory=list, hash=False, compare=False)
        place: int = field(init=False, default=7)
        seen: list[int] = field(init=False, default_factory=list, compare=False)
        left: int = field(kw_only=True, default=3)

    Point.__qualname__ = "Point"
    return decorate(slots=True, **options)(Point)


VALUES: list[dict[str, Any]] = [
    {"x": 1},
    {"x": 1, "name": "other"},
    {"x": 1, "key": b"secret"},
    {"x": 1, "y": float("nan")},
    {"x": 2, "y": 1.5, "tags": ["a"], "left": 4},
]


@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("options", [{"frozen": True}, {"frozen": False}, {"frozen": True, "kw_only": True}])
def test_it_looks_and_compares_as_pythons(ours: Decorate, options: dict[str, bool]) -> None:
    """With the same values; only the names of the fields count."""
    kinds = point(dataclasses.dataclass, **options), point(ours, **options)
    python, mine = ([made(**value) for value in VALUES] for made in kinds)
    assert [repr(one) for one in mine] == [repr(one) for one in python]
    assert "secret" not in repr(mine[2])
    assert [[a == b for b in mine] for a in mine] == [[a == b for b in python] for a in python]
    assert mine[0] != python[0]
    if options["frozen"]:
        assert [hash(one) for one in mine[:3]] == [hash(one) for one in python[:3]]
    else:
        with pytest.raises(TypeError):
            hash(mine[0])
    assert dataclasses.asdict(mine[4]) == dataclasses.asdict(python[4])
    assert kinds[1].__match_args__ == kinds[0].__match_args__
    assert kinds[1].__doc__ == kinds[0].__doc__
    assert str(inspect.signature(kinds[1])) == str(inspect.signature(kinds[0]))
    assert mine[0].tags is not mine[1].tags and mine[0].seen == [] and mine[0].place == 7


@pytest.mark.parametrize("ours", OURS)
@pytest.mark.parametrize("kw_only", [False, True])
def test_what_cannot_be_made(ours: Decorate, kw_only: bool) -> None:
    """Wrong arguments are named, with the class."""
    kinds = [point(decorate, frozen=True, kw_only=kw_only) for decorate in (dataclasses.dataclass, ours)]
    for arguments, named in (((), {}), ((1,), {"z": 2}), ((1, 2, 3, 4, 5, 6), {}), ((), {"y": 1.0})):
        told = []
        for kind in kinds:
            with pytest.raises(TypeError) as refused:
                kind(*arguments, **named)
            told.append(str(refused.value).rpartition(".")[2])
        assert told[0] == told[1]
        assert "__init__()" in told[0]


@pytest.mark.parametrize("ours", OURS)
def test_one_field_and_none(ours: Decorate) -> None:
    class One:
        x: float

    class Nothing:
        pass

    one, nothing = (ours(frozen=True, slots=True)(kind) for kind in (One, Nothing))
    nan = float("nan")
    assert one(nan) == one(nan)  # as values of a tuple compare: the same object is equal to itself
    assert nothing() == nothing()
    assert {one(1.0), one(1.0), nothing(), nothing()} == {nothing(), one(1.0)}
    assert repr(nothing()).endswith("Nothing()")


@pytest.mark.parametrize("ours", OURS)
def test_what_a_class_defines_itself_stays(ours: Decorate) -> None:
    class Own:
        x: int
        y: int = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "y", 2 * self.x)

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return other == self.x

        def __hash__(self) -> int:
            return 7

    own: Any = ours(frozen=True, slots=True)(Own)
    assert (repr(own(3)), own(3) == 3, hash(own(3)), own(3).y) == ("own", True, 7, 6)


@pytest.mark.parametrize("ours", OURS)
def test_a_subclass_has_the_fields_of_both(ours: Decorate) -> None:
    class Base:
        x: int
        y: int = 1

    base: Any = ours(frozen=True, slots=True, kw_only=True)(Base)

    class More(base):  # type: ignore[misc]
        z: int

    more: Any = ours(frozen=True, slots=True)(More)
    assert more(3, x=1) != more(4, x=1)
    assert base(x=1) != more(2, x=1)
    assert (more(5, x=2).x, more(5, x=2).y, more(5, x=2).z) == (2, 1, 5)


@pytest.mark.parametrize("ours", OURS)
def test_what_is_compared_may_be_left_out_of_the_hash(ours: Decorate) -> None:
    """As a mapping, which has none."""

    def made(decorate: Decorate) -> Any:
        class Holding:
            x: int
            held: dict[str, int] = field(hash=False)

        return decorate(frozen=True, slots=True)(Holding)

    python, mine = made(dataclasses.dataclass), made(ours)
    assert hash(mine(1, {"a": 1})) == hash(python(1, {"a": 1}))
    assert mine(1, {"a": 1}) != mine(1, {"a": 2})


def test_identity_where_it_is_asked_for() -> None:
    kind: Any = point(spnhub.dataclass.dataclass, eq=False)
    assert kind(1) != kind(1)
    assert len({kind(1), kind(1)}) == 2


@dataclasses.dataclass(frozen=True)
class Holder:
    """As a stranger's class that has one of ours."""

    value: Any


@spnhub.dataclass.dataclass(frozen=True, slots=True)
class Sealed:
    """One that can be found by its name."""

    x: int
    y: str = "y"


def test_nothing_can_be_changed() -> None:
    """Nor by a name that there isn't; what makes a copy still can."""
    one = Sealed(1)
    for name in "xz":
        with pytest.raises(FrozenInstanceError, match=f"cannot assign to field '{name}'"):
            setattr(one, name, 2)
    with pytest.raises(FrozenInstanceError, match="cannot delete field 'x'"):
        del one.x
    assert one == Sealed(1)
    assert dataclasses.replace(one, y="z") == Sealed(1, "z")
    assert [copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))] == [one] * 3
    assert hash(Holder(one)) == hash(Holder(Sealed(1)))


def test_a_class_that_cannot_keep_what_one_above_it_promises() -> None:
    with pytest.raises(TypeError, match="fields that nothing may set"):

        @frozen.dataclass(frozen=True, slots=True)
        class Open(Sealed):
            z: int = 1


def test_defaults_come_last() -> None:
    with pytest.raises(TypeError, match="non-default argument 'y' follows default argument"):

        @spnhub.dataclass.dataclass(slots=True)
        class Wrong:
            x: int = 1
            y: str  # type: ignore[misc]


def test_nothing_is_compiled_for_a_class_like_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is what takes the time; only the first one with as many fields of the same kinds has it."""
    compiled = 0
    real = builtins.exec

    def counting(*arguments: Any) -> None:
        nonlocal compiled
        compiled += 1
        real(*arguments)

    point(spnhub.dataclass.dataclass, frozen=True)
    monkeypatch.setattr(builtins, "exec", counting)
    point(spnhub.dataclass.dataclass, frozen=True)
    assert compiled == 0
    point(dataclasses.dataclass, frozen=True)
    assert compiled > 3
