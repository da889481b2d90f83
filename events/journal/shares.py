"""How realms share the room of a journal: when it is full, the events of who has most go first (D-8).

A realm that needs less than an equal part keeps all that it has, whatever the others write; what it doesn't need is
theirs. So a segment may lose some of its realms and keep the others: it is *trimmed*. Events of no realm are of ``""``
here, which shares as one more realm, but keeps no segment for itself alone. Counterparts:
:mod:`spnhub.events.journal.retention` decides what is to go, :mod:`spnhub.events.journal.writer` counts.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from spnhub import bounded_json
from spnhub.dataclass import dataclass
from spnhub.events.journal.files import (
    HEADER_READ,
    JournalError,
    SegmentHeader,
    next_frame,
    open_private,
    write_whole,
)
from spnhub.events.model import (
    SNAPSHOT_CLASSES,
    EventsLost,
    EventsTrimmed,
    Recorded,
)
from spnhub.schemas import codec
from spnhub.schemas.codec import SchemaError

__all__ = ["RealmSize", "RealmSizes", "SegmentCut", "equal_part", "trim"]

_SNAPSHOT_CLASSES: Final = frozenset(SNAPSHOT_CLASSES)
_SNAPSHOT: Final = frozenset(kind.event_type for kind in SNAPSHOT_CLASSES)
"""They are about what is open, not what a realm has done: they are nobody's, and go with the first cut."""
_KEPT: Final = frozenset(kind.event_type for kind in (EventsLost, EventsTrimmed))
"""What says what the log lacks goes with its segment only."""
_HEAD: Final = frozenset({"eventType", "sequence", "realm"})
_JOINED: Final = 1 << 20
"""Bytes up to which what is left of a segment is put behind what is left of the one before."""


class RealmSize(NamedTuple):
    """What one realm has in a segment."""

    size: int
    """Bytes."""
    events: int


@dataclass(frozen=True, slots=True)
class SegmentCut:
    """A segment that is to lose the events of these realms."""

    path: Path
    realms: frozenset[str]
    before: Path | None
    """The segment before it."""


def equal_part(sizes: Iterable[int], room: int) -> int:
    """The most that each may have so that all together have ``room``; who has less keeps what it has (max-min fair)."""
    left = sorted(sizes)
    for place, size in enumerate(left):
        part = room // (len(left) - place)
        if size > part:
            return part
        room -= size
    return left[-1] if left else 0


class RealmSizes:
    """What each realm has in each segment: of the last one counted as it is written, of the others in a file beside it.

    The writer's thread counts and asks; the syncing thread says what it has changed, in between.
    """

    def __init__(self, folder: Path, first: int | None) -> None:
        """:param first: first sequence of a segment that was begun by an earlier process; None: there is none."""
        self._folder = folder
        self._first = first
        self._counted: dict[str, list[int]] | None = None
        """None: the segment has events that weren't counted here."""
        self._known: dict[int, dict[str, RealmSize]] = {}

    def begin(self, first: int) -> None:
        """A segment begins; the one before it is finished."""
        if self._first is not None and self._counted is not None:
            self._remember(self._first, {realm: RealmSize(*kept) for realm, kept in self._counted.items()})
        self._first, self._counted = first, {}

    def add(self, entries: Sequence[Recorded], data: bytes) -> None:
        """Events were written to the segment; ``data`` holds their frames."""
        counted = self._counted
        if counted is None:
            return
        place = 0
        for recorded in entries:
            size = 8 + int.from_bytes(data[place : place + 4], "big")
            place += size
            event = recorded.event
            if type(event) in _SNAPSHOT_CLASSES:
                continue
            realm = event.realm or ""
            kept = counted.get(realm)
            if kept is None:
                counted[realm] = [size, 1]
            else:
                kept[0] += size
                kept[1] += 1

    def of(self, first: int, path: Path) -> dict[str, RealmSize]:
        """What each realm has in a segment.

        :raises OSError: it can't be read.
        """
        if first == self._first and self._counted is not None:
            return {realm: RealmSize(*kept) for realm, kept in self._counted.items()}
        found = self._known.get(first)
        if found is None:
            found = _load(path)
            if found is None:
                found = _count(path)
                if first != self._first:
                    self._remember(first, found)
        return found

    def forget(self, gone: Iterable[Path]) -> None:
        """These segments are gone, or are not what they were."""
        for path in gone:
            self._known.pop(int(path.stem), None)
            with contextlib.suppress(OSError):
                _beside(path).unlink(missing_ok=True)

    def _remember(self, first: int, sizes: dict[str, RealmSize]) -> None:
        self._known[first] = sizes
        # Without the file a later process counts anew.
        with contextlib.suppress(OSError), open_private(_beside(self._folder / f"{first:020d}")) as file:
            file.write(json.dumps(sizes).encode())


def _beside(path: Path) -> Path:
    return path.with_suffix(".realms")


def _load(path: Path) -> dict[str, RealmSize] | None:
    try:
        raw: Any = bounded_json.loads(_beside(path).read_text(encoding="utf-8"))
        return {str(realm): RealmSize(int(size), int(count)) for realm, (size, count) in raw.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _frames(path: Path, data: bytes) -> Iterable[tuple[str, str, int, bytes]]:
    """Realm, event type, sequence and bytes of each frame of a segment.

    :raises JournalError: it is damaged, or holds what isn't known.
    """
    place = SegmentHeader.read(path, data[:HEADER_READ]).size
    while place < len(data):
        frame = next_frame(data, place)
        if frame is None:
            raise JournalError(f"{path} has a bad frame at byte {place}")
        try:
            head = codec.decode_event_head(frame[0], _HEAD)
        except SchemaError as exc:
            raise JournalError(f"{path} has a frame of an unknown kind: {exc}") from exc
        yield head["realm"] or "", head["eventType"], head["sequence"], data[place : frame[1]]
        place = frame[1]


def _count(path: Path) -> dict[str, RealmSize]:
    """Where the segment can't be read to its end, nobody has anything in it: it is left as it is.

    :raises OSError: it can't be read at all.
    """
    found: dict[str, RealmSize] = {}
    try:
        for realm, kind, _, frame in _frames(path, path.read_bytes()):
            if kind not in _SNAPSHOT:
                size, count = found.get(realm, (0, 0))
                found[realm] = RealmSize(size + len(frame), count + 1)
    except JournalError:
        return {}
    return found


def trim(path: Path, realms: frozenset[str], before: Path | None) -> Path:
    """Take the events of some realms out of a segment; what is left may be put behind the segment before it.

    A reader that has the file open reads on in the old one, then in the new one. Killed at any moment, the folder has
    each of the other events once or twice, and a reader takes it once.

    :returns: the segment that has what is left.
    :raises OSError: it can't be done.
    :raises JournalError: the segment is damaged.
    """
    data = path.read_bytes()
    rest = [
        (sequence, frame)
        for realm, kind, sequence, frame in _frames(path, data)
        if (realm not in realms and kind not in _SNAPSHOT) or kind in _KEPT
    ]
    if before is not None and not rest:
        path.unlink()
        return before
    if before is not None and before.stat().st_size + sum(len(frame) for _, frame in rest) <= _JOINED:
        joined = before.read_bytes()
        last = max((sequence for _, _, sequence, _ in _frames(before, joined)), default=0)
        write_whole(before, joined + b"".join(frame for sequence, frame in rest if sequence > last))
        path.unlink()
        return before
    header = data[: SegmentHeader.read(path, data[:HEADER_READ]).size]
    write_whole(path, header + b"".join(frame for _, frame in rest))
    return path
