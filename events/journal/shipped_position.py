"""How far a journal is shipped to a topic: a small file in the journal's folder, and the lock on it.

One file per topic, replaced as a whole. It may lag behind what Kafka has acknowledged, never run ahead of it: a stale
one costs redeliveries, which readers recognise by event id. Counterpart: :mod:`spnhub.events.shipper.loop` is the only
writer; the deletion of old segments asks :func:`shipped_sequence` (D-8).
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import field
from pathlib import Path
from typing import Any, Final

from spnhub import bounded_json
from spnhub.dataclass import dataclass
from spnhub.events.journal.files import open_private

__all__ = ["Position", "PositionFile", "shipped_sequence"]

_PREFIX: Final = "shipped-"
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True)
class Position:
    """Every event up to ``sequence`` is in the topic."""

    journal_id: str
    cluster_id: str = ""
    """Of the Kafka cluster that acknowledged it; an address may come to mean another one."""
    sequence: int = 0
    checksum: int = 0
    """CRC-32 of that event's frame, 0 if it isn't known: a journal that lost its tail in a power failure uses sequences
    again."""
    offsets: dict[int, int] = field(default_factory=dict)
    """Last acknowledged offset by partition: a topic that ends before it has lost records."""
    topic_id: str = ""
    """One that is made anew has another; ``""``: the broker gives none."""

    def to_json(self) -> str:
        """The file's text."""
        values = {
            "journalId": self.journal_id,
            "clusterId": self.cluster_id,
            "topicId": self.topic_id,
            "sequence": self.sequence,
            "checksum": self.checksum,
            "offsets": {str(partition): offset for partition, offset in self.offsets.items()},
        }
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> Position:
        """The inverse.

        :raises ValueError: not such a document.
        """
        try:
            raw: dict[str, Any] = bounded_json.loads(text)
            return cls(
                journal_id=str(raw["journalId"]),
                cluster_id=str(raw["clusterId"]),
                topic_id=str(raw.get("topicId", "")),
                sequence=int(raw["sequence"]),
                checksum=int(raw["checksum"]),
                offsets={int(partition): int(offset) for partition, offset in raw["offsets"].items()},
            )
        except (KeyError, TypeError, AttributeError) as exc:
            raise ValueError(f"not a position: {exc!r}") from exc


class PositionFile:
    """The position of one topic in a journal folder."""

    def __init__(self, folder: Path, topic: str) -> None:
        self.path = folder / f"{_PREFIX}{topic}{_SUFFIX}"
        self._lock = -1

    def try_lock(self) -> bool:
        """Become the only shipper of this journal to this topic, until :meth:`unlock` or the process ends.

        :raises OSError: the folder can't be written.
        """
        # The file itself is replaced each time, and a lock stays with the inode that was; so it has a file of its own.
        fd = os.open(self.path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock = fd
        return True

    def unlock(self) -> None:
        """Let another ship."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def load(self) -> Position | None:
        """What it says; None when there is none, or none that can be read: then everything is shipped again."""
        try:
            return Position.from_json(self.path.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def save(self, position: Position) -> None:
        """Replace it as a whole.

        :raises OSError: it can't be written.
        """
        temporary = self.path.with_suffix(".new")
        with open_private(temporary) as file:
            file.write(position.to_json().encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)


def shipped_sequence(folder: Path, topic: str | None = None) -> int | None:
    """The sequence up to which the journal in ``folder`` is acknowledged.

    :param topic: by this topic; None: by every topic it was ever shipped to.
    :returns: the sequence; None: nothing was acknowledged, as far as the folder shows.
    """
    name = "*" if topic is None else topic
    found = []
    for path in folder.glob(f"{_PREFIX}{name}{_SUFFIX}"):
        position = PositionFile(folder, path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)).load()
        if position is not None:
            found.append(position.sequence)
    return min(found, default=None)
