"""What was open and defined at some place of a journal, so that the next start needn't read the log from its beginning.

A checkpoint only saves time: it is written without waiting for the disk, and one that is missing, damaged or doesn't
fit the log is passed over. It is a header and a line for each thing, so that no step of writing it takes long.
Counterparts: :mod:`spnhub.events.journal.writer` saves, :mod:`spnhub.events.journal.journal` loads.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, get_args
from uuid import UUID

from spnhub import bounded_json
from spnhub.dataclass import dataclass
from spnhub.events.journal.files import JournalIdentity, check_frames, open_private
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import EndPointType, InstancePhase
from spnhub.events.state.definitions import Definition
from spnhub.events.state.entities import OpenConnection, OpenSession
from spnhub.events.state.hub_state import HubState, RunState

__all__ = ["Checkpoint", "bytes_before", "fold", "pack", "save", "unpack"]

_NAME: Final = "checkpoint.json"
_FORMAT: Final = 3
_COMPARED: Final = 256
"""Bytes of the log that must be the same, in front of a checkpoint's position."""

_Thing = OpenSession | OpenConnection | Definition

_KINDS: Final[dict[str, type[_Thing]]] = {kind.__name__: kind for kind in get_args(_Thing)}
_CONVERT: Final[dict[str, Callable[[Any], Any]]] = {
    "end_point_type": EndPointType,
    "phase": InstancePhase,
    "consumers": tuple,
}
_COLUMNS: Final = {name: tuple(field.name for field in fields(kind)) for name, kind in _KINDS.items()}
_MOST: Final = 1 << 30
"""Parts of a packed checkpoint: as many as its writer had."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after an event. Taking it copies references only: the values are immutable."""

    sequence: int
    timestamp: int
    lost: int
    run: RunState | None
    things: tuple[_Thing, ...]

    @classmethod
    def take(cls, state: HubState) -> Checkpoint:
        """The state as it is now."""
        known = state.definitions
        things = (state.sessions, state.connections, known.realms, known.networks, known.services, known.instances)
        return cls(
            state.last_sequence,
            state.last_timestamp,
            state.lost,
            state.run,
            tuple(thing for table in things for thing in table.values()),
        )

    def to_state(self) -> HubState:
        """The state as it was."""
        state = HubState(last_sequence=self.sequence, last_timestamp=self.timestamp, lost=self.lost, run=self.run)
        for thing in self.things:
            match thing:
                case OpenSession():
                    state.sessions[thing.spn_session_id] = thing
                case OpenConnection():
                    state.connections[thing.key] = thing
                case _:
                    state.definitions.put(thing)
        return state


def save(folder: Path, journal_id: UUID, checkpoint: Checkpoint, position: tuple[Path, int]) -> None:
    """Replace the folder's checkpoint. ``position``: segment, and the end of the event's frame in it.

    :raises OSError: it can't be written.
    """
    path, offset = position
    where = {
        "format": _FORMAT,
        "journalId": str(journal_id),
        "segment": path.name,
        "offset": offset,
        "before": bytes_before(path, offset),
    }
    temporary = folder / f"{_NAME}.new"
    with open_private(temporary) as file:
        for line in _to_lines(checkpoint, where):
            file.write(line + b"\n")
    temporary.replace(folder / _NAME)


def _to_lines(checkpoint: Checkpoint, where: Mapping[str, Any]) -> Iterator[bytes]:
    yield json.dumps({**where, **_head(checkpoint), "things": len(checkpoint.things)}).encode()
    for thing in checkpoint.things:
        yield json.dumps({"is": type(thing).__name__} | _plain(thing)).encode()


def _head(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "sequence": checkpoint.sequence,
        "timestamp": checkpoint.timestamp,
        "lost": checkpoint.lost,
        "run": None if checkpoint.run is None else _plain(checkpoint.run),
    }


def pack(checkpoint: Checkpoint) -> bytes:
    """All of it in one piece, by columns: read and written in a third of the time that lines take."""
    kinds: dict[str, list[tuple[Any, ...]]] = {}
    for thing in checkpoint.things:
        name = type(thing).__name__
        kinds.setdefault(name, []).append(_values_of(name)(thing))
    things = [(name, _COLUMNS[name], rows) for name, rows in kinds.items()]
    return json.dumps(_head(checkpoint) | {"things": things}, separators=(",", ":")).encode()


def unpack(packed: bytes) -> Checkpoint:
    """What :func:`pack` has made.

    :raises ValueError: it isn't that; KeyError, TypeError and AttributeError, too.
    """
    raw = bounded_json.loads(packed, parts=_MOST)
    things: list[_Thing] = []
    for name, columns, rows in raw["things"]:
        kind = _KINDS[name]
        converts = [(at, _CONVERT[column]) for at, column in enumerate(columns) if column in _CONVERT]
        for row in rows:
            for at, convert in converts:
                row[at] = convert(row[at])
            things.append(kind(**dict(zip(columns, row, strict=True))))
    return _checkpoint_of(raw, tuple(things))


@lru_cache
def _values_of(name: str) -> Callable[[object], tuple[Any, ...]]:
    """What gets the values of all fields; each kind has several."""
    return attrgetter(*_COLUMNS[name])


def _checkpoint(raw: dict[str, Any], lines: Iterable[str | bytes]) -> Checkpoint:
    things = tuple(_thing(bounded_json.loads(line)) for line in lines)
    if len(things) != raw["things"]:
        raise ValueError("things are missing")
    return _checkpoint_of(raw, things)


def _checkpoint_of(raw: Mapping[str, Any], things: tuple[_Thing, ...]) -> Checkpoint:
    run = raw["run"]
    return Checkpoint(
        sequence=raw["sequence"],
        timestamp=raw["timestamp"],
        lost=raw["lost"],
        run=None if run is None else RunState(**run | {"addresses": tuple(run["addresses"])}),
        things=things,
    )


def _plain(value: _Thing | RunState) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def load(folder: Path, journal_id: UUID) -> tuple[Checkpoint, tuple[Path, int]] | None:
    """The folder's checkpoint and its position; None when there is none that can be used."""
    try:
        with (folder / _NAME).open(encoding="utf-8") as file:
            raw: dict[str, Any] = bounded_json.loads(file.readline())
            if (raw["format"], raw["journalId"]) != (_FORMAT, str(journal_id)):
                return None
            path, offset = folder / raw["segment"], int(raw["offset"])
            if bytes_before(path, offset) != raw["before"]:
                return None  # a power failure has taken more of the log than of this, or it is another's
            checkpoint = _checkpoint(raw, file)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return checkpoint, (path, offset)


def _thing(raw: dict[str, Any]) -> _Thing:
    kind = _KINDS[raw.pop("is")]
    return kind(**{name: _CONVERT[name](value) if name in _CONVERT else value for name, value in raw.items()})


def bytes_before(path: Path, offset: int) -> str:
    """The last bytes before an offset: their checksum and sequence show whether a log is still the same.

    :raises OSError: the file can't be read.
    """
    with path.open("rb") as file:
        file.seek(max(0, offset - _COMPARED))
        return file.read(min(offset, _COMPARED)).hex()


def fold(folder: Path, identity: JournalIdentity) -> tuple[HubState, tuple[Path, int] | None]:
    """What is open at the end of the log, and where that is: from the checkpoint on if there is a good one.

    Then segments before the checkpoint's are not looked at: readers, ``spnlog verify`` among them, report damage there.
    """
    saved = load(folder, identity.journal_id)
    if saved is not None:
        checkpoint, position = saved
        check_frames(*position)
        state = checkpoint.to_state()
        with JournalReader(folder, after=checkpoint.sequence, position=position) as reader:
            batch = reader.read()
            if not batch or batch[0][1].sequence > checkpoint.sequence:
                while batch:
                    state.apply_all(recorded for _, recorded in batch)
                    batch = reader.read()
                return state, reader.position
    discard(folder)
    state = HubState()
    with JournalReader(folder) as reader:
        while batch := reader.read():
            state.apply_all(recorded for _, recorded in batch)
        return state, reader.position


def discard(folder: Path) -> None:
    """Remove the folder's checkpoint, so that the log can't grow to fit a wrong one."""
    with contextlib.suppress(FileNotFoundError):
        (folder / _NAME).unlink()
