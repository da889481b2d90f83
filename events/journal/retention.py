"""Which segments of a journal may go, by size and age (D-8).

Without a topic both bounds delete. With one, events that aren't shipped yet stay until the size bound; what then must
go is declared first. Segments go in order, and what is left always begins with a whole snapshot. Counterpart:
:mod:`spnhub.events.journal.writer` asks, :mod:`spnhub.events.journal.journal` declares.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from spnhub.events import model
from spnhub.events.journal.files import HEADER_READ, JournalError, SegmentHeader, next_frame, segments
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.shipped_position import shipped_sequence
from spnhub.events.model import EventsLost
from spnhub.schemas.codec import SchemaError

__all__ = ["Expired", "expired", "journal_size"]

_FIRST_FRAME: Final = 64 * 1024
"""Bytes in which a segment's first event is looked for."""


@dataclass(frozen=True, slots=True)
class Expired:
    """What is to go."""

    paths: tuple[Path, ...]
    lost: EventsLost | None
    """Events that weren't shipped: they must be declared in the log before they are deleted. None: nothing."""

    def delete(self) -> None:
        """Remove the segments; what can't be removed is tried again later."""
        for path in self.paths:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                return


def expired(folder: Path, options: JournalOptions, keep_from: int, now: float) -> Expired | None:
    """What has to go now; None: nothing.

    :param keep_from: first sequence of the last segment with a whole snapshot: it and what follows stay.
    :param now: seconds since 1970.
    :raises OSError: the folder can't be read.
    """
    known = segments(folder)
    stats = [path.stat() for _, path in known]
    total = sum(stat.st_size for stat in stats)
    shipped = None if options.topic is None else shipped_sequence(folder, options.topic) or 0
    gone: list[Path] = []
    unshipped: list[Path] = []
    first_lost = last_lost = 0
    for (first, path), stat, (following, _) in zip(known, stats, known[1:], strict=False):
        if first >= keep_from:
            break
        seen = shipped is None or shipped >= following - 1
        too_large = options.size is not None and total > options.size
        too_old = options.age is not None and stat.st_mtime < now - options.age
        if not too_large and not (too_old and seen):
            break
        gone.append(path)
        total -= stat.st_size
        if not seen:
            unshipped.append(path)
            first_lost = first_lost or max(first, (shipped or 0) + 1)
            last_lost = following - 1
    if not gone:
        return None
    if not unshipped:
        return Expired(tuple(gone), None)
    begun, ended = _first_timestamp(unshipped[0]), _first_timestamp(known[len(gone)][1])
    lost = EventsLost(
        realm=None,
        network_urn=None,
        first_sequence=first_lost,
        last_sequence=last_lost,
        count=last_lost - first_lost + 1,
        first_timestamp=begun,
        last_timestamp=max(begun, ended),
        reason=f"the journal is full and they are not shipped to {options.topic}",
    )
    return Expired(tuple(gone), lost)


def journal_size(folder: Path) -> int:
    """Bytes of all segments.

    :raises OSError: the folder can't be read.
    """
    return sum(path.stat().st_size for _, path in segments(folder))


def _first_timestamp(path: Path) -> int:
    """Of a segment's first event; the file's own time where it can't be read."""
    try:
        with path.open("rb") as file:
            data = file.read(_FIRST_FRAME)
            frame = next_frame(data, SegmentHeader.read(path, data[:HEADER_READ]).size)
            if frame is not None:
                return model.decode(frame[0]).timestamp
            return os.fstat(file.fileno()).st_mtime_ns // 1000
    except (OSError, JournalError, SchemaError):
        return 0
