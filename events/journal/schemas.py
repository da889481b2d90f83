"""What the schema ids in a journal mean: a hub leaves its schemas beside what it writes, for older versions.

A hub may be set back to the version before, and ``spnlog`` may be older than the hub. Counterparts:
:mod:`spnhub.events.journal.journal` leaves them, :mod:`spnhub.events.journal.reader` looks here when it meets an id
that it doesn't know; on Kafka a schema registry does the same.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any, Final

from spnhub import bounded_json
from spnhub.events.journal.files import write_whole
from spnhub.schemas import codec

__all__ = ["learn", "leave"]

_NAME: Final = "schemas.json"
_SIZE_LIMIT: Final = 16 << 20
"""Bytes that are read of such a file; ours have about 100 KB."""


def leave(folder: Path) -> None:
    """Write all schemas known here to the folder; schemas of newer versions that are there stay.

    An error of the disk is no reason not to write events.
    """
    found = _read(folder)
    missing = {str(number) for number in codec.event_schemas()} - found.keys()
    if missing:
        texts = {number: json.loads(codec.event_schema_text(int(number))) for number in missing}
        known = dict(sorted((found | texts).items(), key=lambda item: int(item[0])))
        with contextlib.suppress(OSError):
            write_whole(folder / _NAME, json.dumps(known).encode())


def learn(folder: Path) -> None:
    """Take in the schemas of newer versions that are in the folder; what is none is passed over."""
    for number, schema in _read(folder).items():
        with contextlib.suppress(codec.SchemaError):
            codec.learn_event_schema(int(number), schema)


def _read(folder: Path) -> dict[str, Any]:
    try:
        with (folder / _NAME).open("rb") as file:
            found = bounded_json.loads(file.read(_SIZE_LIMIT))
    except (OSError, ValueError):
        return {}
    return {name: schema for name, schema in found.items() if name.isdecimal()} if isinstance(found, dict) else {}
