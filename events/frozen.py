"""Dataclasses that nothing changes, for values that are made with every connection."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool, **options: Any) -> Callable[[type], type]:
        """``dataclasses.dataclass``, but that nothing sets a field later is for the type checker to see.

        With ``frozen=True`` Python sees to it, too, and so sets each field through ``object.__setattr__``: that takes
        three times as long, and was a ninth of the hub's time where many connections come and go.

        All such classes have the same ``__repr__``, ``__eq__`` and ``__hash__``, which look at the fields. Python's are
        compiled for each class, and a process with 300 of them spent a fifth of its start on that.
        """

        def decorate(cls: type) -> type:
            made = dataclasses.dataclass(repr=False, eq=False, **options)(cls)
            made._compared = staticmethod(_values([one.name for one in dataclasses.fields(made) if one.compare]))
            own = vars(made)
            for name, method in (("__repr__", _repr), ("__eq__", _eq), ("__hash__", _hash if frozen else None)):
                # Who defines __eq__ has a __hash__ of None in its class, from Python itself.
                if own.get(name) is None:
                    setattr(made, name, method)
            return made

        return decorate


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
    return hash(self._compared(self))
