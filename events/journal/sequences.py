"""Which sequences of a journal may have been used: on the disk before the first of them is, in blocks (D-4).

The page cache outlives the process, not the machine: after a power failure the log may end before events that Kafka and
readers have seen, and a number given twice would be two events with one id. So the next start goes on behind the block
where that may have happened, and declares the numbers in between as lost. Counterpart:
:mod:`spnhub.events.journal.writer` reserves, :mod:`spnhub.events.journal.journal` declares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from spnhub import bounded_json
from spnhub.events.journal.files import write_whole

__all__ = ["BLOCK", "Sequences"]

BLOCK: Final = 8192
"""Sequences reserved at once: what a power failure declares as lost at most, beyond what it took."""
_NAME: Final = "sequences.json"
BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class Sequences:
    """The reservation of one journal folder. Not for several threads at once.

    :param last: the last sequence in the log.
    """

    def __init__(self, folder: Path, journal_id: UUID, last: int) -> None:
        self._path = folder / _NAME
        self._journal_id = str(journal_id)
        self._boot_id = _boot_id()
        self.used = max(last, self._load(last))
        """The last sequence that may have been used so far."""
        self.until = self.used
        """The last one reserved."""

    def _load(self, last: int) -> int:
        try:
            raw: dict[str, Any] = bounded_json.loads(self._path.read_text(encoding="utf-8"))
            if raw["journalId"] != self._journal_id:
                return last
            until, closed, boot_id = int(raw["until"]), bool(raw["closed"]), str(raw["bootId"])
        except (OSError, ValueError, KeyError, TypeError):
            return last
        # The process was killed, not the machine: what isn't in the log was never written, so nothing has seen it.
        return until if closed or boot_id != self._boot_id else last

    def reserve(self, sequence: int) -> None:
        """A block behind ``sequence``.

        :raises OSError: it can't be written; nothing has changed.
        """
        self._save(sequence + BLOCK, closed=False)
        self.until = sequence + BLOCK

    def close(self, last: int) -> None:
        """Nothing beyond ``last`` was used, or will be.

        :raises OSError: it can't be written.
        """
        self._save(last, closed=True)

    def _save(self, until: int, *, closed: bool) -> None:
        raw = {"journalId": self._journal_id, "until": until, "closed": closed, "bootId": self._boot_id}
        write_whole(self._path, json.dumps(raw).encode())


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""  # no such thing here: each start counts as one on the same boot
