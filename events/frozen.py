"""Dataclasses that nothing changes, for values that are made with every connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spnhub.dataclass import make_dataclass

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(*, frozen: bool, **options: Any) -> Callable[[type], type]:
        """As :func:`spnhub.dataclass.dataclass`, but that nothing sets a field later is for the type checker to see.

        With that one's ``frozen=True`` Python sees to it, too, and so sets each field through ``object.__setattr__``:
        that takes three times as long, and was a ninth of the hub's time where many connections come and go.
        """
        return lambda cls: make_dataclass(cls, frozen=frozen, sealed=False, **options)
