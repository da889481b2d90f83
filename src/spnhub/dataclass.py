"""Dataclasses that are made fast: :func:`dataclasses.dataclass`, but nothing is compiled for each class.

Python writes the source of ``__init__``, ``__repr__``, ``__eq__`` and others for each class and compiles it: that was a
quarter of a hub's start, which has 350 classes, and a fifth of an agent's. Here all classes share one ``__repr__``,
``__eq__`` and ``__hash__``, which look at the fields. Of ``__init__``, which has to be as fast as any, one is compiled
for all classes with as many fields of the same kinds, and each class gets a copy with the names of its own.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from reprlib import recursive_repr
from types import CellType, CodeType, FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

__all__ = ["dataclass", "make_dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool = False, **options: Any) -> Callable[[type], type]:
        """As :func:`dataclasses.dataclass`, of whose options all but ``init``, ``order`` and ``repr`` can be had."""
        return lambda cls: make_dataclass(cls, frozen=frozen, sealed=frozen, **options)


def make_dataclass(cls: type, *, frozen: bool, sealed: bool, eq: bool = True, **options: Any) -> type:
    """A dataclass of ``cls``.

    :param frozen: it has a hash.
    :param sealed: setting or deleting a field raises :class:`dataclasses.FrozenInstanceError`. Then each field has to
        be set by another way when one is made, which takes three times as long.
    """
    if not sealed and getattr(cls, "__setattr__", None) is _set:
        raise TypeError(f"{cls.__name__} has fields that nothing may set, of a class above it")
    own = {name for name in _COMPARING if name in vars(cls)}
    if vars(cls).get("__hash__", 0) is None:
        # Python's own, of a class that defines __eq__.
        own.discard("__hash__")
    documented, cls.__doc__ = cls.__doc__, cls.__doc__ or "without one, Python looks up a signature to make one of"
    made: Any = dataclasses.dataclass(init=False, repr=False, eq=False, **options)(cls)
    made.__doc__ = documented
    fields = dataclasses.fields(made)
    made.__init__ = _init(made, fields, sealed=sealed)
    made._compared = staticmethod(_values([one.name for one in fields if one.compare]))
    hashed = [one.name for one in fields if (one.compare if one.hash is None else one.hash)]
    made._hashed = staticmethod(_values(hashed))
    methods: dict[str, Any] = {"__repr__": _repr}
    if eq:
        methods |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
    if sealed:
        methods |= {"__setattr__": _set, "__delattr__": _delete, "__getstate__": _state, "__setstate__": _restore}
    for name, method in methods.items():
        if name not in own:
            setattr(made, name, method)
    finished: type = made
    return finished


_COMPARING: Final = ("__repr__", "__eq__", "__hash__")
"""What a class may define itself."""


# ---- __init__ ----------------------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """What a field is to the code of ``__init__``."""

    given: bool
    """It may be given as an argument."""
    keyword: bool
    """By its name only."""
    made: bool
    """Its default is made anew each time."""
    fixed: bool
    """It can't be given, and is its default."""


class _Made:
    """Stands for a default that is made anew each time, as in ``help()``."""

    def __repr__(self) -> str:
        return "<factory>"


_MADE: Final = _Made()
_Field = dataclasses.Field[Any]


def _init(cls: type, fields: tuple[_Field, ...], *, sealed: bool) -> FunctionType:
    code = _template(tuple(map(_kind, fields)), hasattr(cls, "__post_init__"), sealed)
    names = {f"_{number}": one.name for number, one in enumerate(fields)}
    code = code.replace(
        co_varnames=tuple(names.get(name, name) for name in code.co_varnames),
        co_names=tuple(names.get(name, name) for name in code.co_names),
        co_consts=tuple(names.get(one, one) if isinstance(one, str) else one for one in code.co_consts),
        co_qualname=f"{cls.__qualname__}.__init__",
    )
    cells = {"_made": _MADE, "_set": object.__setattr__}
    cells |= {f"_default_{n}": one.default_factory if _is_made(one) else one.default for n, one in enumerate(fields)}
    module = sys.modules.get(cls.__module__)
    closure = tuple(CellType(cells[name]) for name in code.co_freevars)
    function = FunctionType(code, vars(module) if module else {}, "__init__", None, closure)
    positional = [one for one in fields if one.init and not one.kw_only]
    first = next((number for number, one in enumerate(positional) if _has_default(one)), len(positional))
    for one in positional[first:]:
        if not _has_default(one):
            raise TypeError(f"non-default argument {one.name!r} follows default argument")
    function.__defaults__ = tuple(map(_shown_default, positional[first:]))
    function.__kwdefaults__ = {
        one.name: _shown_default(one) for one in fields if one.init and one.kw_only and _has_default(one)
    }
    function.__annotations__ = {one.name: one.type for one in fields if one.init} | {"return": None}
    function.__module__, function.__qualname__ = cls.__module__, f"{cls.__qualname__}.__init__"
    return function


def _is_made(field: _Field) -> bool:
    return field.default_factory is not dataclasses.MISSING


def _has_default(field: _Field) -> bool:
    return _is_made(field) or field.default is not dataclasses.MISSING


def _shown_default(field: _Field) -> Any:
    return _MADE if _is_made(field) else field.default


def _kind(field: _Field) -> _Kind:
    return _Kind(field.init, bool(field.kw_only), _is_made(field), not field.init and _has_default(field))


@cache
def _template(kinds: tuple[_Kind, ...], post_init: bool, sealed: bool) -> CodeType:
    """The code of an ``__init__`` for fields of these kinds, which are called ``_0``, ``_1`` and so on."""
    arguments = ["self", *(f"_{number}" for number, kind in enumerate(kinds) if kind.given and not kind.keyword)]
    keywords = [f"_{number}" for number, kind in enumerate(kinds) if kind.given and kind.keyword]
    if keywords:
        arguments += ["*", *keywords]
    body = list(_assignments(kinds, sealed))
    if post_init:
        body.append("self.__post_init__()")
    defaults = [f"_default_{number}" for number, kind in enumerate(kinds) if kind.made or kind.fixed]
    lines = [
        f"def outer({', '.join(['_made', '_set', *defaults])}):",
        f" def __init__({', '.join(arguments)}):",
        *(f"  {line}" for line in body or ["pass"]),
        " return __init__",
    ]
    found: dict[str, Any] = {}
    exec(compile("\n".join(lines), "<dataclass>", "exec"), found)  # noqa: S102 - nothing in it comes from outside
    code: CodeType = found["outer"](*[None] * (2 + len(defaults))).__code__
    return code


def _assignments(kinds: tuple[_Kind, ...], sealed: bool) -> Iterator[str]:
    for number, kind in enumerate(kinds):
        if kind.given:
            value = f"_default_{number}() if _{number} is _made else _{number}" if kind.made else f"_{number}"
        elif kind.fixed:
            value = f"_default_{number}" + "()" * kind.made
        else:
            continue
        yield f"_set(self, '_{number}', {value})" if sealed else f"self._{number} = {value}"


# ---- what all classes share --------------------------------------------------------------------------------------


def _values(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """What gives the fields of these names."""
    if len(names) > 1:
        return attrgetter(*names)
    if names:
        only = attrgetter(names[0])
        return lambda one: (only(one),)
    return lambda _: ()


@recursive_repr()
def _repr(self: Any) -> str:
    shown = [f"{one.name}={getattr(self, one.name)!r}" for one in dataclasses.fields(self) if one.repr]
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _eq(self: Any, other: Any) -> Any:
    if self.__class__ is not other.__class__:
        return NotImplemented
    compared = self._compared
    return compared(self) == compared(other)


def _hash(self: Any) -> int:
    return hash(self._hashed(self))


def _set(_self: Any, name: str, _value: Any) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _delete(_self: Any, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, one.name) for one in dataclasses.fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for one, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, one.name, value)
