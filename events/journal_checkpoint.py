"""What was open at some place of a journal, so that the next start needn't read the log from its beginning.

A checkpoint only saves time: it is written without waiting for the disk, and one that is missing, damaged or doesn't
fit the log is passed over. Counterparts: :mod:`spnhub.events.journal_writer` saves, :mod:`spnhub.events.journal` loads.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from spnhub.events.model import EndPointType
from spnhub.events.state import ConnectionState, HubState, SessionState

__all__ = ["Checkpoint", "discard", "load", "save"]

_NAME: Final = "checkpoint.json"
_FORMAT: Final = 1
_COMPARED: Final = 256
"""Bytes of the log that must be the same, in front of a checkpoint's position."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The state after an event. Taking it copies references only: the values are immutable."""

    sequence: int
    timestamp: int
    lost: int
    sessions: tuple[SessionState, ...]
    connections: tuple[ConnectionState, ...]

    @classmethod
    def take(cls, state: HubState) -> Checkpoint:
        """The state as it is now."""
        return cls(
            state.last_sequence,
            state.last_timestamp,
            state.lost,
            tuple(state.sessions.values()),
            tuple(state.connections.values()),
        )

    def to_state(self) -> HubState:
        """The state as it was."""
        return HubState(
            sessions={session.spn_session_id: session for session in self.sessions},
            connections={connection.key: connection for connection in self.connections},
            last_sequence=self.sequence,
            last_timestamp=self.timestamp,
            lost=self.lost,
        )


def save(folder: Path, journal_id: UUID, checkpoint: Checkpoint, position: tuple[Path, int]) -> None:
    """Replace the folder's checkpoint. ``position``: segment, and the end of the event's frame in it.

    :raises OSError: it can't be written.
    """
    path, offset = position
    raw = {
        "format": _FORMAT,
        "journalId": str(journal_id),
        "segment": path.name,
        "offset": offset,
        "before": _before(path, offset),
        "sequence": checkpoint.sequence,
        "timestamp": checkpoint.timestamp,
        "lost": checkpoint.lost,
        "sessions": [asdict(session) for session in checkpoint.sessions],
        "connections": [asdict(connection) for connection in checkpoint.connections],
    }
    temporary = folder / f"{_NAME}.new"
    temporary.write_text(json.dumps(raw), encoding="utf-8")
    temporary.replace(folder / _NAME)


def load(folder: Path, journal_id: UUID) -> tuple[Checkpoint, tuple[Path, int]] | None:
    """The folder's checkpoint and its position; None when there is none that can be used."""
    try:
        raw: dict[str, Any] = json.loads((folder / _NAME).read_text(encoding="utf-8"))
        if (raw["format"], raw["journalId"]) != (_FORMAT, str(journal_id)):
            return None
        path, offset = folder / raw["segment"], int(raw["offset"])
        if _before(path, offset) != raw["before"]:
            return None  # a power failure has taken more of the log than of this, or it is another's
        sessions = [
            SessionState(**one | {"end_point_type": EndPointType(one["end_point_type"])}) for one in raw["sessions"]
        ]
        connections = [ConnectionState(**one) for one in raw["connections"]]
        checkpoint = Checkpoint(raw["sequence"], raw["timestamp"], raw["lost"], tuple(sessions), tuple(connections))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return checkpoint, (path, offset)


def _before(path: Path, offset: int) -> str:
    """The last bytes before an offset: with their checksum and sequence they tell one log from another."""
    with path.open("rb") as file:
        file.seek(max(0, offset - _COMPARED))
        return file.read(min(offset, _COMPARED)).hex()


def discard(folder: Path) -> None:
    """Remove the folder's checkpoint, so that the log can't grow to fit a wrong one."""
    with contextlib.suppress(FileNotFoundError):
        (folder / _NAME).unlink()
