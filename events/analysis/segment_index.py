"""What an index has of one segment of a journal: a file of parts, one for some thousand events each.

A part has the state at its end, what incidents are made of, what flowed, and which ids are named in it. Counterparts:
:mod:`spnhub.events.analysis.index_making` makes these files, :mod:`spnhub.events.analysis.journal_index` has those of a
whole journal.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any, Final, TypeVar

from spnhub import bounded_json
from spnhub.dataclass import dataclass
from spnhub.events import model
from spnhub.events.analysis.flow import Flow
from spnhub.events.journal import schemas as journal_schemas
from spnhub.events.journal.checkpoint import bytes_before, unpack
from spnhub.events.model import Recorded
from spnhub.events.state.hub_state import HubState
from spnhub.schemas.codec import SchemaError

__all__ = [
    "IndexDamaged",
    "IndexPart",
    "MinuteFlow",
    "Place",
    "SegmentIndex",
    "load_index",
    "pack_events",
    "pack_index",
    "pack_names",
]

_FORMAT: Final = 3
_MAGIC: Final = b"SPNINDEX"
_TRAILER: Final = struct.Struct(">II8s")
"""The end of an index file: size and CRC-32 of the table of contents before it, and the magic."""
_BITS: Final = 16
"""Of the filter for each id: one part in two thousand is read for nothing."""
_HASHES: Final = 8
_LENGTH: Final = struct.Struct(">I")
_CONTENTS_LIMIT: Final = 64 << 20

Place = tuple[int, int, int]
"""A blob of an index file: offset, size, CRC-32."""
_T = TypeVar("_T")


class IndexDamaged(Exception):
    """What an index file has isn't what was written; the message names it. It can be made anew."""


@dataclass(frozen=True, slots=True)
class MinuteFlow:
    """What flowed of one realm in one minute."""

    minute: int
    """Its beginning, microseconds since 1970."""
    realm: str
    opened: int
    failed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class IndexPart:
    """Of some events of a segment, from the end of the part before."""

    sequence: int
    """Its last event."""
    time: int
    """The latest time of any event so far, microseconds since 1970."""
    offset: int
    """End of the last event's frame in the segment."""
    state: Place | None
    """The state after it; None: it isn't known exactly there, or it is the end of a segment that has none."""
    flow: Place
    """What flowed by service (:class:`Flow`), as far as a window that ends behind it sees it."""
    names: Place
    incidents: Place
    minutes: tuple[MinuteFlow, ...]


@dataclass(frozen=True, slots=True)
class SegmentIndex:
    """Of one segment, as far as it goes. Its methods raise :class:`IndexDamaged`."""

    path: Path
    """The index file."""
    segment: Path
    first: int
    """Sequence of the segment's first event."""
    begun: int
    """Time of its first event, microseconds since 1970."""
    until: int
    """Bytes of the segment that are indexed: whole frames."""
    whole: bool
    """The segment is finished, and all of it is indexed."""
    has_gaps: bool
    """Events of it say that the log stalled, or lost events."""
    parts: tuple[IndexPart, ...]

    @property
    def marks(self) -> tuple[IndexPart, ...]:
        """The parts whose end's state is kept."""
        return tuple(one for one in self.parts if one.state is not None)

    def state(self, mark: IndexPart) -> HubState:
        """The state at the end of one of the marks."""
        place = mark.state
        if place is None:
            raise IndexDamaged(f"{self.path} has no state there")
        return self._sound(lambda: unpack(zlib.decompress(self.read(place))).to_state())

    def add_to(self, flow: Flow, part: IndexPart, since: int) -> None:
        """Count a part in a window that begins then (microseconds since 1970)."""
        self._sound(lambda: flow.add(self.read(part.flow), since))

    def concerning(self, part: IndexPart) -> list[tuple[bytes, Recorded]]:
        """The events of a part that concern incidents, in order, each with its Confluent frame."""
        return self._sound(lambda: [(frame, self._decode(frame)) for frame in self._frames(part)])

    def _frames(self, part: IndexPart) -> Iterator[bytes]:
        text = zlib.decompress(self.read(part.incidents))
        place = 0
        while place < len(text):
            (size,) = _LENGTH.unpack_from(text, place)
            place += _LENGTH.size
            yield text[place : place + size]
            place += size

    def _decode(self, frame: bytes) -> Recorded:
        try:
            return model.decode(frame)
        except SchemaError:
            # Of a newer hub, which has left its schemas in the folder.
            journal_schemas.learn(self.segment.parent)
            return model.decode(frame)

    def naming(self, keys: Iterable[str]) -> list[IndexPart]:
        """The parts in which one of these is named; seldom one in which none is."""
        wanted = [_hashes(key) for key in keys]
        found = []
        for part in self.parts:
            names = self.read(part.names)
            if (size := 8 * len(names)) and any(
                all(names[bit // 8] >> bit % 8 & 1 for bit in _bits_of(hashes, size)) for hashes in wanted
            ):
                found.append(part)
        return found

    def bytes_of(self, part: IndexPart) -> tuple[int, int]:
        """Where its events are in the segment: from one frame's beginning, or the segment's, to another's end."""
        place = self.parts.index(part)
        return (self.parts[place - 1].offset if place else 0), part.offset

    def read(self, place: Place) -> bytes:
        """A blob, as it was written."""
        offset, size, checksum = place
        try:
            with self.path.open("rb", buffering=0) as file:
                found = os.pread(file.fileno(), size, offset)
        except OSError as exc:
            raise IndexDamaged(f"{self.path} can't be read: {exc.strerror}") from exc
        if len(found) != size or zlib.crc32(found) != checksum:
            raise IndexDamaged(f"{self.path} is damaged at byte {offset}")
        return found

    def _sound(self, make: Callable[[], _T]) -> _T:
        try:
            return make()
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, struct.error, zlib.error) as exc:
            raise IndexDamaged(f"{self.path} has something else than its format says: {exc!r}") from exc
        except SchemaError as exc:
            raise IndexDamaged(f"{self.path} has an event that can't be read: {exc}") from exc


def load_index(path: Path, segment: Path, journal_id: str, *, finished: bool) -> SegmentIndex | None:
    """An index file; None: there is none, it is damaged, or of something else than the segment is.

    :param finished: the segment has a successor.
    """
    try:
        head: Any = bounded_json.loads(_contents(path))
        until, size = int(head["until"]), segment.stat().st_size
        if (head["format"], head["journalId"]) != (_FORMAT, journal_id) or until > size:
            return None
        if bytes_before(segment, until) != head["before"]:
            return None  # a crash has taken more of the log than of this
        whole = finished and until == size
        if finished and not whole and head["finished"]:
            return None  # retention has put segments together
        parts = tuple(_part(one) for one in head["parts"])
        first, begun, gaps = int(segment.stem), int(head["begun"]), bool(head["hasGaps"])
        return SegmentIndex(path, segment, first, begun, until, whole, gaps, parts)
    except (OSError, ValueError, KeyError, TypeError, IndexError, struct.error):
        return None


def _contents(path: Path) -> bytes:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END) - _TRAILER.size
        file.seek(max(0, end))
        size, checksum, magic = _TRAILER.unpack(file.read(_TRAILER.size))
        if magic != _MAGIC or size > min(end, _CONTENTS_LIMIT):
            raise ValueError("it has no table of contents")
        file.seek(end - size)
        found = file.read(size)
    if zlib.crc32(found) != checksum:
        raise ValueError("its table of contents is damaged")
    return found


def _part(found: Any) -> IndexPart:
    sequence, time, offset, state, flow, names, incidents, minutes = found
    return IndexPart(
        sequence,
        time,
        offset,
        None if state is None else _as_place(state),
        _as_place(flow),
        _as_place(names),
        _as_place(incidents),
        tuple(MinuteFlow(*one) for one in minutes),
    )


def _as_place(found: Any) -> Place:
    offset, size, checksum = found
    return offset, size, checksum


def pack_index(
    blobs: Iterable[bytes],
    parts: Iterable[IndexPart],
    segment: Path,
    journal_id: str,
    *,
    begun: int,
    has_gaps: bool,
    finished: bool,
) -> bytes:
    """An index file.

    :param blobs: what the parts have their places in.
    :param finished: nothing more comes.
    :raises OSError: the segment has gone.
    """
    told = [astuple(one) for one in parts]
    until = told[-1][2] if told else 0
    contents = {
        "format": _FORMAT,
        "journalId": journal_id,
        "until": until,
        "before": bytes_before(segment, until),
        "finished": finished,
        "begun": begun,
        "hasGaps": has_gaps,
        "parts": told,
    }
    # Last, so that what is before it stays where it is when more comes: who has read an earlier one finds it.
    text = json.dumps(contents, separators=(",", ":")).encode()
    return b"".join((*blobs, text, _TRAILER.pack(len(text), zlib.crc32(text), _MAGIC)))


def pack_events(frames: Iterable[bytes]) -> bytes:
    """A blob of events."""
    return zlib.compress(b"".join(_LENGTH.pack(len(frame)) + frame for frame in frames), 1)


def pack_names(names: set[str]) -> bytes:
    """A blob in which names are found again: a Bloom filter."""
    bits = bytearray(max(8, len(names) * _BITS // 8))
    for name in names:
        for bit in _bits_of(_hashes(name), 8 * len(bits)):
            bits[bit // 8] |= 1 << bit % 8
    return bytes(bits)


def _hashes(name: str) -> tuple[int, int]:
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).digest()
    return int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1


def _bits_of(hashes: tuple[int, int], size: int) -> Iterator[int]:
    start, step = hashes
    for number in range(_HASHES):
        yield (start + number * step) % size
