"""An index of a journal's finished segments, so that its past can be asked without reading it all.

Of each segment it has the state at some places of it, what incidents are made of, what flowed in each minute, and which
ids are named in it. It is made once, from the segment alone, and kept in a folder of the reader's own: the journal's
stays as it is. What is missing or damaged is made anew; nothing depends on it but time.

Counterparts: :mod:`spnhub.events.analysis.point_in_time` and ``spnlog explain``, which ask it; :mod:`spnhub.console`.
"""

from __future__ import annotations

import bisect
import contextlib
import hashlib
import itertools
import json
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import platformdirs

from spnhub import bounded_json
from spnhub.events import model
from spnhub.events.analysis.explain import Search, Story, names_of
from spnhub.events.analysis.flow import Flow
from spnhub.events.analysis.incident_history import Concerning
from spnhub.events.analysis.log_lines import failed
from spnhub.events.journal.checkpoint import Checkpoint, from_lines, to_lines
from spnhub.events.journal.files import load_identity, segments
from spnhub.events.journal.reader import JournalPart, JournalReader
from spnhub.events.model import ConnectionEnded, ConnectionProgress, ConnectionStarted, Recorded
from spnhub.events.state.hub_state import HubState

__all__ = [
    "BATCH",
    "EVERY",
    "MINUTE",
    "FlowPart",
    "JournalIndex",
    "Mark",
    "MinuteFlow",
    "SegmentIndex",
    "add_flow",
    "default_index_folder",
]

EVERY: Final = 20_000
"""Events between two states that are kept: half a second's worth of reading."""
BATCH: Final = 64 << 10
"""Bytes that are read at once: a state can be kept after each."""
MINUTE: Final = 60_000_000
_FORMAT: Final = 2
_SUFFIX: Final = ".index"
_BITS: Final = 16
"""Of the filter for each id: one segment in two thousand is read for nothing."""
_HASHES: Final = 8
_LENGTH: Final = struct.Struct(">I")
_HEAD_LIMIT: Final = 16 << 20

_Place = tuple[int, int]
"""Where a part of an index file is: offset and size."""


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
class Mark:
    """The state after an event."""

    sequence: int
    time: int
    """The latest time of any event so far, microseconds since 1970."""
    offset: int
    """End of the event's frame in its segment."""
    place: _Place


@dataclass(frozen=True, slots=True)
class FlowPart:
    """What flowed by service since the part before (:class:`Flow`), as far as a window that ends behind it sees it."""

    sequence: int
    """The last event that is counted in it."""
    time: int
    """The latest time of any event so far, microseconds since 1970."""
    place: _Place


@dataclass(frozen=True, slots=True)
class SegmentIndex:
    """Of one finished segment."""

    path: Path
    """The index file."""
    segment: Path
    first: int
    """Sequence of its first event."""
    begun: int
    """Time of its first event, microseconds since 1970."""
    size: int
    """Bytes of the segment."""
    has_gaps: bool
    """Events of it say that the log stalled, or lost events."""
    marks: tuple[Mark, ...]
    flow: tuple[MinuteFlow, ...]
    parts: tuple[FlowPart, ...]
    """One for each mark, and one for what follows the last."""
    names: _Place
    incidents: _Place

    def state(self, mark: Mark) -> HubState:
        """The state at a mark.

        :raises ValueError: the index is damaged.
        """
        return from_lines(zlib.decompress(self._read(mark.place)).splitlines()).to_state()

    def add_to(self, flow: Flow, part: FlowPart, since: int) -> None:
        """Count a part in a window that begins then (microseconds since 1970).

        :raises ValueError: the index is damaged; TypeError and :class:`zlib.error`, too.
        """
        flow.add(self._read(part.place), since)

    def concerning(self) -> Iterator[Recorded]:
        """The events that concern incidents, in order."""
        text = zlib.decompress(self._read(self.incidents))
        place = 0
        while place < len(text):
            (size,) = _LENGTH.unpack_from(text, place)
            place += _LENGTH.size
            yield model.decode(text[place : place + size])
            place += size

    def may_name(self, keys: Iterable[str]) -> bool:
        """Whether one of these is named in it; seldom True although none is."""
        offset, size = self.names
        if not size:
            return False
        with self.path.open("rb", buffering=0) as file:
            return any(
                all(os.pread(file.fileno(), 1, offset + bit // 8)[0] >> bit % 8 & 1 for bit in _bits_of(key, 8 * size))
                for key in keys
            )

    def _read(self, place: _Place) -> bytes:
        with self.path.open("rb") as file:
            file.seek(place[0])
            found = file.read(place[1])
        if len(found) != place[1]:
            raise ValueError(f"{self.path} is cut off")
        return found


def default_index_folder() -> Path:
    """In the user's cache."""
    return platformdirs.user_cache_path("spnhub", appauthor=False) / "journal-index"


class JournalIndex:
    """The indexes of a journal's finished segments.

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
        self.load()

    @property
    def segments(self) -> list[SegmentIndex]:
        """Those that are known, in order."""
        return [self._known[first] for first in sorted(self._known)]

    def load(self) -> list[tuple[int, int]]:
        """Take note of what is there now; the finished segments that have no index: first sequences, and the next's."""
        kept = segments(self.folder)
        missing = []
        for (first, path), (following, _) in itertools.pairwise(kept):
            if first not in self._known:
                found = self._load(first, path)
                if found is None:
                    missing.append((first, following))
                else:
                    self._known[first] = found
        there = {first for first, _ in kept}
        for first in [first for first in self._known if first not in there]:
            with contextlib.suppress(OSError):
                self._known.pop(first).path.unlink()
        return missing

    def make(self, first: int, following: int) -> None:
        """Make a finished segment's index.

        :raises OSError: it can't be written.
        :raises JournalCorrupt: the segment is damaged.
        """
        made = _make(self.folder, first, following, str(self.identity.journal_id))
        self._place.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._path(first)
        temporary = path.with_suffix(f".{os.getpid()}.new")
        with open(temporary, "wb", opener=_private) as file:
            file.write(made)
        temporary.replace(path)

    def complete(self) -> None:
        """Make all that is missing; where that isn't possible, it stays missing."""
        with contextlib.suppress(OSError):
            for first, following in self.load():
                self.make(first, following)
            self.load()

    def mark(self, *, time: int | None = None, sequence: int | None = None) -> tuple[SegmentIndex, Mark] | None:
        """The last mark at or before a moment: one of the two."""
        known = self.segments
        if sequence is not None:
            place = bisect.bisect_right(known, sequence, key=lambda one: one.first)
        else:
            assert time is not None
            place = bisect.bisect_right(known, time, key=lambda one: one.begun)
        for one in reversed(known[:place]):
            for mark in reversed(one.marks):
                if (mark.sequence <= sequence) if sequence is not None else (time is not None and mark.time <= time):
                    return one, mark
        return None

    def flow_until(self, segment: SegmentIndex, mark: Mark, since: int) -> Flow | None:
        """What flowed by service between a time and a mark; None: a segment of between has no index.

        :param since: microseconds since 1970.
        :raises OSError: the index has gone.
        :raises ValueError: it is damaged; TypeError and :class:`zlib.error`, too.
        """
        flow, kept = Flow(), [first for first, _ in segments(self.folder)]
        for first in reversed(kept[: bisect.bisect_right(kept, segment.first)]):
            one = self._known.get(first)
            if one is None:
                return None
            for part in reversed(one.parts):
                if part.sequence > mark.sequence:
                    continue
                if part.time < since:
                    return flow
                one.add_to(flow, part, since)
        return flow

    def without(self, keys: set[str]) -> set[int]:
        """First sequences of the segments that can be left out: none of these is named there, and no gap is."""
        found = [one for one in self.segments if one.may_name(keys)]
        if not found:
            return {one.first for one in self.segments}
        taken = {one.first for one in found}
        # What happened to the log itself meanwhile.
        taken |= {one.first for one in self.segments if one.has_gaps and one.first >= found[0].first}
        return {one.first for one in self.segments} - taken

    def part(self, *wanted: Search | Story) -> JournalPart:
        """What has to be read of the journal, so that these learn all that they need to."""
        keys = {key for one in wanted for key in one.keys()}  # noqa: SIM118 - not a mapping's
        mentions = {text.encode(errors="surrogateescape") for one in wanted for text in one.mentions()}
        return JournalPart(self.without(keys), tuple(mentions))

    def _path(self, first: int) -> Path:
        return self._place / f"{first:020}{_SUFFIX}"

    def _load(self, first: int, segment: Path) -> SegmentIndex | None:
        path = self._path(first)
        try:
            with path.open("rb") as file:
                head: Any = bounded_json.loads(file.readline(_HEAD_LIMIT))
                body = file.tell()
                whole = body + int(head["bytes"]) == path.stat().st_size
            wanted = (_FORMAT, str(self.identity.journal_id), segment.stat().st_size)
            if not whole or (head["format"], head["journalId"], head["size"]) != wanted:
                return None
            return SegmentIndex(
                path,
                segment,
                first,
                int(head["begun"]),
                int(head["size"]),
                bool(head["hasGaps"]),
                tuple(Mark(one[0], one[1], one[2], (body + one[3], one[4])) for one in head["marks"]),
                tuple(MinuteFlow(*one) for one in head["flow"]),
                tuple(FlowPart(one[0], one[1], (body + one[2], one[3])) for one in head["parts"]),
                (body + head["names"][0], head["names"][1]),
                (body + head["incidents"][0], head["incidents"][1]),
            )
        except (OSError, ValueError, KeyError, TypeError, IndexError):
            return None


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


class _Body:
    """The parts of an index file behind its head."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, part: bytes) -> _Place:
        place = self.size, len(part)
        self.parts.append(part)
        self.size += len(part)
        return place


def _make(folder: Path, first: int, following: int, journal_id: str) -> bytes:
    """The index file of the segment that has these sequences: up to ``following``, excluded."""
    body, state, concerning = _Body(), HubState(), Concerning()
    marks: list[tuple[int, int, int, int, int]] = []
    flow: dict[tuple[int, str], list[int]] = {}
    parts: list[tuple[int, int, int, int]] = []
    part = Flow()
    names: set[str] = set()
    told: list[bytes] = []
    begun, gaps, since = 0, False, 0
    with JournalReader(folder, after=first - 1) as reader:
        while (batch := reader.read(BATCH)) and batch[0][1].sequence < following:
            for frame, recorded in batch:
                state.apply(recorded)
                begun = begun or recorded.timestamp
                names.update(keys := names_of(recorded.event))
                gaps = gaps or (not keys and isinstance(recorded.event, model.JournalStalled | model.EventsLost))
                if concerning.takes(recorded.event):
                    told += (_LENGTH.pack(len(frame)), frame)
                add_flow(flow, recorded)
                part.take(recorded)
            since += len(batch)
            position = reader.position
            # Anything else isn't exact: the snapshot at the segment's beginning hasn't come to its end.
            if state.exact and position is not None and (not marks or since >= EVERY):
                place = body.add(zlib.compress(b"\n".join(to_lines(Checkpoint.take(state))), 1))
                marks.append((state.last_sequence, state.last_timestamp, position[1], *place))
                parts.append((state.last_sequence, state.last_timestamp, *body.add(part.pack())))
                since, part = 0, Flow()
        parts.append((state.last_sequence, state.last_timestamp, *body.add(part.pack())))
        path = next(path for number, path in segments(folder) if number == first)
    head = {
        "format": _FORMAT,
        "journalId": journal_id,
        "size": path.stat().st_size,
        "begun": begun,
        "hasGaps": gaps,
        "marks": marks,
        "flow": [(minute, realm, *numbers) for (minute, realm), numbers in sorted(flow.items())],
        "parts": parts,
        "names": body.add(_filter(names)),
        "incidents": body.add(zlib.compress(b"".join(told), 1)),
        "bytes": body.size,
    }
    return json.dumps(head).encode() + b"\n" + b"".join(body.parts)


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
