"""Frozen dataclasses as plain objects: what JSON takes, named as everywhere outside. Counterpart: ``/state``."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from spnhub.events.analysis.log_lines import format_time
from spnhub.schemas.codec import camel

__all__ = ["serialize"]

_TIMES: Final = frozenset(
    {"start_at", "since", "expired_at", "started_at", "alive_at", "stopped_at", "passed_over_until"}
)


def serialize(value: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A frozen dataclass with its field names in camel case; times as ISO 8601 in UTC."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(value):
        if field.name in without:
            continue
        one = getattr(value, field.name)
        if dataclasses.is_dataclass(one):
            one = serialize(one)
        elif isinstance(one, frozenset):
            one = sorted(one)
        elif field.name in _TIMES and isinstance(one, int):
            one = format_time(one)
        elif isinstance(one, str):  # enumerations are
            one = str(one)
        found[camel(field.name)] = one
    return found
