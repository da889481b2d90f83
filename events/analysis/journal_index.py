"""An index of a journal, so that its past can be asked without reading it all.

A segment's index has parts, one for some thousand events each: the state at its end, what incidents are made of, what
flowed, and which ids are named in it. Parts are made from the segment alone, as it grows, and kept in a folder of the
reader's own: the journal's stays as it is. What is missing, damaged, or of a log that a crash has made another, is
noticed and made anew; nothing depends on it but time.

Counterparts: :mod:`spnhub.events.analysis.point_in_time`, :mod:`spnhub.events.analysis.concerning_source` and ``spnlog
explain``, which ask it; :mod:`spnhub.console`.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import platformdirs

from spnhub import bounded_json
from spnhub.events import model
from spnhub.events.analysis.explain import Search, Story, names_of
from spnhub.events.analysis.flow import Flow
from spnhub.events.analysis.incident_history import Concerning
from spnhub.events.analysis.log_lines import failed
from spnhub.events.journal import schemas as journal_schemas
from spnhub.events.journal.checkpoint import Checkpoint, bytes_before, pack, unpack
from spnhub.events.journal.files import load_identity, segments
from spnhub.events.journal.reader import JournalPart, JournalReader
from spnhub.events.model import ConnectionEnded, ConnectionProgress, ConnectionStarted, Recorded
from spnhub.events.state.hub_state import HubState
from spnhub.schemas.codec import SchemaError

__all__ = [
    "APART",
    "BATCH",
    "MINUTE",
    "IndexDamaged",
    "IndexPart",
    "JournalIndex",
    "MinuteFlow",
    "SegmentIndex",
    "add_flow",
    "default_index_folder",
]

APART: Final = 2 << 20
"""Bytes of a segment between two states that are kept: some 9,000 events, half a second's worth of reading."""
BATCH: Final = 64 << 10
"""Bytes that are read at once: a state can be kept after each."""
MINUTE: Final = 60_000_000
_FORMAT: Final = 3
_SUFFIX: Final = ".index"
_MAGIC: Final = b"SPNINDEX"
_TRAILER: Final = struct.Struct(">II8s")
"""The end of an index file: size and CRC-32 of the table of contents before it, and the magic."""
_BITS: Final = 16
"""Of the filter for each id: one part in two thousand is read for nothing."""
_HASHES: Final = 8
_LENGTH: Final = struct.Struct(">I")
_CONTENTS_LIMIT: Final = 64 << 20

_Place = tuple[int, int, int]
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
    state: _Place | None
    """The state after it; None: it isn't known exactly there, or it is the end of a segment that has none."""
    flow: _Place
    """What flowed by service (:class:`Flow`), as far as a window that ends behind it sees it."""
    names: _Place
    incidents: _Place
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

    def may_name(self, keys: Iterable[str]) -> bool:
        """Whether one of these is named in it; seldom True although none is."""
        wanted = list(keys)
        for part in self.parts:
            bits = self.read(part.names)
            size = 8 * len(bits)
            if size and any(all(bits[bit // 8] >> bit % 8 & 1 for bit in _bits_of(key, size)) for key in wanted):
                return True
        return False

    def read(self, place: _Place) -> bytes:
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


def default_index_folder() -> Path:
    """In the user's cache."""
    return platformdirs.user_cache_path("spnhub", appauthor=False) / "journal-index"


class JournalIndex:
    """The indexes of a journal's segments. Its methods may be called in several threads.

    :param folder: the journal's.
    :param cache: where indexes of all journals are kept.
    :raises JournalError: there is no journal in the folder.
    """

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self.cache = cache
        self.identity = load_identity(folder)
        self._place = cache / str(self.identity.journal_id)
        self._known: dict[int, SegmentIndex] = {}
        """Replaced, never changed."""
        self._kept: list[int] = []
        """First sequences of the segments that there are."""
        self._asked: dict[int, int] = {}
        """Of segments that grow: the size for which an index was last asked for."""
        self.missing = len(self.load())
        """Segments whose index wasn't there, or not all of it, when this was made."""
        self._asked = {}
        self._clean()

    @property
    def segments(self) -> list[SegmentIndex]:
        """Those that are known, in order; the last may be of the segment that is being written."""
        known = self._known
        return [known[first] for first in sorted(known)]

    def load(self) -> list[tuple[int, int | None]]:
        """Take note of what is there now; the segments whose index is to be made, or to go on.

        :return: first sequence, and the next segment's; None: it is the one that is being written.
        """
        kept = segments(self.folder)
        self._kept = [first for first, _ in kept]
        known: dict[int, SegmentIndex] = {}
        missing: list[tuple[int, int | None]] = []
        for place, (first, path) in enumerate(kept):
            following = kept[place + 1][0] if place + 1 < len(kept) else None
            found = self._known.get(first)
            if found is None or not found.whole:
                found = self._load(first, path, finished=following is not None)
            if found is not None:
                known[first] = found
            if following is not None:
                if found is None or not found.whole:
                    missing.append((first, following))
            elif self._has_grown(first, path, 0 if found is None else found.until):
                missing.append((first, None))
        there = {first for first, _ in kept}
        gone = [one for first, one in self._known.items() if first not in there]
        self._known = known
        for one in gone:
            with contextlib.suppress(OSError):
                one.path.unlink()
        return missing

    def _has_grown(self, first: int, path: Path, until: int) -> bool:
        """By so much that another part can be made. Asked once: where a state isn't exact there is none."""
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        if size - max(until, self._asked.get(first, 0)) < APART:
            return False
        self._asked = {first: size}
        return True

    def make(self, first: int, following: int | None) -> None:
        """Make a segment's index, or go on with it.

        :param following: first sequence of the next; None: it is being written.
        :raises OSError: it can't be written, or the segment has gone.
        :raises JournalCorrupt: the segment is damaged.
        """
        maker = _Maker(self.folder, first, following, str(self.identity.journal_id))
        try:
            maker.go_on(self._known.get(first))
        except IndexDamaged:
            maker = _Maker(self.folder, first, following, str(self.identity.journal_id))
        if not maker.parts:
            maker.begin_after(next((one for one in reversed(self.segments) if one.first < first), None))
        made = maker.make()
        if not maker.parts:
            return
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(first)
        temporary = path.with_suffix(f".{os.getpid()}.new")
        with open(temporary, "wb", opener=_private) as file:
            file.write(made)
        temporary.replace(path)

    def complete(self) -> None:
        """Make all that is missing; where that isn't possible, it stays missing."""
        self._asked = {}
        with contextlib.suppress(OSError):
            for first, following in self.load():
                self.make(first, following)
                self.load()

    def mark(self, *, time: int | None = None, sequence: int | None = None) -> tuple[SegmentIndex, IndexPart] | None:
        """The last mark at or before a moment: one of the two.

        None, too, where segments that have no index lie between: a snapshot at the beginning of one of them is nearer.
        """
        known, kept = self.segments, self._kept
        if sequence is not None:
            place = bisect.bisect_right(known, sequence, key=lambda one: one.first)
        else:
            assert time is not None
            place = bisect.bisect_right(known, time, key=lambda one: one.begun)
        for one in reversed(known[:place]):
            for mark in reversed(one.marks):
                if (mark.sequence <= sequence) if sequence is not None else (time is not None and mark.time <= time):
                    before = kept[: bisect.bisect_right(kept, sys.maxsize if sequence is None else sequence)]
                    if place < len(known):
                        before = before[: bisect.bisect_left(before, known[place].first)]
                    unknown = set(before[bisect.bisect_right(before, one.first) :]) - self._known.keys()
                    # One at most is read through.
                    return None if len(unknown) > 1 else (one, mark)
        return None

    def flow_until(self, segment: SegmentIndex, mark: IndexPart, since: int) -> Flow | None:
        """What flowed by service between a time and a mark; None: a segment of between has no index.

        :param since: microseconds since 1970.
        :raises IndexDamaged: it has been discarded.
        """
        known = self._known
        flow, kept = Flow(), [first for first, _ in segments(self.folder)]
        for first in reversed(kept[: bisect.bisect_right(kept, segment.first)]):
            one = known.get(first)
            if one is None or not (one.whole or first == segment.first):
                return None
            for part in reversed(one.parts):
                if part.sequence > mark.sequence:
                    continue
                if part.time < since:
                    return flow
                with self._discarding(one):
                    one.add_to(flow, part, since)
        return flow

    def state(self, segment: SegmentIndex, mark: IndexPart) -> HubState:
        """The state at a mark.

        :raises IndexDamaged: it has been discarded.
        """
        with self._discarding(segment):
            return segment.state(mark)

    def concerning(self, segment: SegmentIndex, part: IndexPart) -> list[tuple[bytes, Recorded]]:
        """The events of a part that concern incidents, in order, each with its Confluent frame.

        :raises IndexDamaged: it has been discarded.
        """
        with self._discarding(segment):
            return segment.concerning(part)

    def without(self, keys: set[str]) -> set[int]:
        """First sequences of the segments that can be left out: none of these is named there, and no gap is."""
        whole, found = [one for one in self.segments if one.whole], []
        for one in list(whole):
            try:
                with self._discarding(one):
                    if one.may_name(keys):
                        found.append(one)
            except IndexDamaged:
                whole.remove(one)
        if not found:
            return {one.first for one in whole}
        taken = {one.first for one in found}
        # What happened to the log itself meanwhile.
        taken |= {one.first for one in whole if one.has_gaps and one.first >= found[0].first}
        return {one.first for one in whole} - taken

    def part(self, *wanted: Search | Story) -> JournalPart:
        """What has to be read of the journal, so that these learn all that they need to."""
        keys = {key for one in wanted for key in one.keys()}  # noqa: SIM118 - not a mapping's
        mentions = {text.encode(errors="surrogateescape") for one in wanted for text in one.mentions()}
        return JournalPart(self.without(keys), tuple(mentions))

    @contextlib.contextmanager
    def _discarding(self, segment: SegmentIndex) -> Iterator[None]:
        """An index that turns out to be damaged is discarded, so that it is made anew; the error goes on."""
        try:
            yield
        except IndexDamaged:
            self._discard(segment)
            raise

    def _discard(self, damaged: SegmentIndex) -> None:
        self._known = {first: one for first, one in self._known.items() if one is not damaged}
        self._asked = {}
        with contextlib.suppress(OSError):
            damaged.path.unlink()

    def _clean(self) -> None:
        """Of segments that have gone while nobody looked."""
        there = {self._path(first) for first, _ in segments(self.folder)}
        with contextlib.suppress(OSError):
            for path in self._place.glob(f"*{_SUFFIX}"):
                if path not in there:
                    path.unlink()

    def _path(self, first: int) -> Path:
        return self._place / f"{first:020}{_SUFFIX}"

    def _load(self, first: int, segment: Path, *, finished: bool) -> SegmentIndex | None:
        """The index that there is; None: there is none, it is damaged, or of something else than the segment is."""
        path = self._path(first)
        try:
            head: Any = bounded_json.loads(_contents(path))
            until, size = int(head["until"]), segment.stat().st_size
            if (head["format"], head["journalId"]) != (_FORMAT, str(self.identity.journal_id)) or until > size:
                return None
            if bytes_before(segment, until) != head["before"]:
                return None  # a crash has taken more of the log than of this
            whole = finished and until == size
            if finished and not whole and head["finished"]:
                return None  # retention has put segments together
            parts = tuple(_part(one) for one in head["parts"])
            return SegmentIndex(path, segment, first, int(head["begun"]), until, whole, bool(head["hasGaps"]), parts)
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


def _as_place(found: Any) -> _Place:
    offset, size, checksum = found
    return offset, size, checksum


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Gathered:
    """What the part at hand has so far."""

    def __init__(self) -> None:
        self.bytes = 0
        self.flow = Flow()
        self.minutes: dict[tuple[int, str], list[int]] = {}
        self.names: set[str] = set()
        self.told: list[bytes] = []


class _Maker:
    """Makes the index file of one segment.

    :param following: the next segment's first sequence; None: it is being written.
    """

    def __init__(self, folder: Path, first: int, following: int | None, journal_id: str) -> None:
        self._folder = folder
        self._first = first
        self._following = following
        self._journal_id = journal_id
        self._path = folder / f"{first:020d}.segment"
        self._blobs: list[bytes] = []
        self._size = 0
        self.parts: list[IndexPart] = []
        self._state = HubState()
        self._concerning = Concerning()
        self._begun = 0
        self._gaps = False
        self._at = _Gathered()

    def go_on(self, known: SegmentIndex | None) -> None:
        """From an index that has the beginning.

        :raises IndexDamaged: it can't be gone on from.
        """
        if known is None or not known.marks or known.marks[-1] is not known.parts[-1]:
            return
        for part in known.parts:
            state = None if part.state is None else self._add(known.read(part.state))
            flow, names, incidents = (self._add(known.read(one)) for one in (part.flow, part.names, part.incidents))
            self.parts.append(replace(part, state=state, flow=flow, names=names, incidents=incidents))
            for _, recorded in known.concerning(part):
                self._concerning.takes(recorded.event)
        self._state = known.state(known.parts[-1])
        self._begun, self._gaps = known.begun, known.has_gaps

    def begin_after(self, before: SegmentIndex | None) -> None:
        """With the state at the end of the segment before, so that this one has states while its snapshot comes."""
        if before is None or not before.whole or before.parts[-1].state is None:
            return
        with contextlib.suppress(IndexDamaged):
            state = before.state(before.parts[-1])
            if state.last_sequence == self._first - 1:
                self._state = state

    def make(self) -> bytes:
        """The file.

        :raises OSError: the segment has gone.
        :raises JournalCorrupt: it is damaged.
        """
        until = self.parts[-1].offset if self.parts else 0
        place = (self._path, until) if until else None
        after = self.parts[-1].sequence if self.parts else self._first - 1
        with JournalReader(self._folder, after=after, position=place) as reader:
            while (batch := reader.read(BATCH)) and (position := reader.position) is not None:
                if position[0] != self._path or (self._following and batch[0][1].sequence >= self._following):
                    break
                for frame, recorded in batch:
                    self._take(frame, recorded)
                self._at.bytes += position[1] - until
                until = position[1]
                if self._state.exact and self._at.bytes >= APART:
                    self._end_part(until)
        if self._following is not None and (self._at.bytes or not self.parts):
            self._end_part(until)
        return self._file()

    def _take(self, frame: bytes, recorded: Recorded) -> None:
        event, at = recorded.event, self._at
        self._state.apply(recorded)
        self._begun = self._begun or recorded.timestamp
        at.names.update(keys := names_of(event))
        self._gaps = self._gaps or (not keys and isinstance(event, model.JournalStalled | model.EventsLost))
        if self._concerning.takes(event):
            at.told += (_LENGTH.pack(len(frame)), frame)
        add_flow(at.minutes, recorded)
        at.flow.take(recorded)

    def _end_part(self, offset: int) -> None:
        at, state = self._at, self._state
        known = state.exact and state.last_sequence >= self._first
        kept = self._add(zlib.compress(pack(Checkpoint.take(state)), 1)) if known else None
        self.parts.append(
            IndexPart(
                state.last_sequence,
                state.last_timestamp,
                offset,
                kept,
                self._add(at.flow.pack()),
                self._add(_filter(at.names)),
                self._add(zlib.compress(b"".join(at.told), 1)),
                tuple(MinuteFlow(minute, realm, *numbers) for (minute, realm), numbers in sorted(at.minutes.items())),
            )
        )
        self._at = _Gathered()

    def _add(self, blob: bytes) -> _Place:
        place = self._size, len(blob), zlib.crc32(blob)
        self._blobs.append(blob)
        self._size += len(blob)
        return place

    def _file(self) -> bytes:
        until = self.parts[-1].offset if self.parts else 0
        contents = {
            "format": _FORMAT,
            "journalId": self._journal_id,
            "until": until,
            "before": bytes_before(self._path, until),
            "finished": self._following is not None,
            "begun": self._begun,
            "hasGaps": self._gaps,
            "parts": [astuple(one) for one in self.parts],
        }
        # Last, so that what is before it stays where it is when more comes: who has read an earlier one finds it.
        text = json.dumps(contents, separators=(",", ":")).encode()
        return b"".join((*self._blobs, text, _TRAILER.pack(len(text), zlib.crc32(text), _MAGIC)))


def add_flow(flow: dict[tuple[int, str], list[int]], recorded: Recorded) -> None:
    """Count an event to its minute and realm: connections opened, ends by an error, bytes."""
    event = recorded.event
    if not isinstance(event, ConnectionStarted | ConnectionProgress | ConnectionEnded):
        return
    numbers = flow.setdefault((recorded.timestamp // MINUTE * MINUTE, event.realm or ""), [0, 0, 0])
    if isinstance(event, ConnectionStarted):
        numbers[0] += 1
        return
    if isinstance(event, ConnectionEnded):
        numbers[1] += failed(event) and not event.suspended
    numbers[2] += event.delta_sent_bytes + event.delta_receive_bytes


def _filter(names: set[str]) -> bytes:
    """A Bloom filter."""
    bits = bytearray(max(8, len(names) * _BITS // 8))
    for name in names:
        for bit in _bits_of(name, 8 * len(bits)):
            bits[bit // 8] |= 1 << bit % 8
    return bytes(bits)


def _bits_of(name: str, size: int) -> Iterator[int]:
    digest = hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=16).digest()
    start, step = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big") | 1
    for number in range(_HASHES):
        yield (start + number * step) % size
