"""Reads a journal folder, also that of a running hub: synchronously batch by batch, or as an async source.

An unfinished tail is no fault: it may be in the making, or the writer died there. Damage before whole frames, or in a
segment that has a successor, is. Counterpart: :mod:`spnhub.events.journal.journal` writes what is read here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import field
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple, Self, TypeVar

from spnhub.dataclass import dataclass
from spnhub.events import model
from spnhub.events.journal import schemas as journal_schemas
from spnhub.events.journal.envelope import Envelope, read_envelope
from spnhub.events.journal.files import (
    HEADER_READ,
    JournalCorrupt,
    JournalError,
    SegmentHeader,
    find_frame,
    frame_size,
    load_identity,
    next_frame,
    segments,
)
from spnhub.events.model import Recorded
from spnhub.events.spare import OUT_OF_RESOURCES
from spnhub.schemas.codec import SchemaError, event_schema_id, is_event_schema

__all__ = ["JournalPart", "JournalReader", "JournalSource", "Stretches"]

_log = logging.getLogger("spnhub.events")

_READ_SIZE: Final = 256 * 1024
"""Bytes read at a time: what a reader holds, whatever the size of the log."""
_POLL: Final = 0.05
"""Seconds between looks at a journal that is followed: one stat or short read each."""
_PAUSE: Final = 1.0
"""Seconds until the next look when the process has no descriptor or memory for one."""


_Placed = TypeVar("_Placed", Recorded, Envelope)


class Stretches(NamedTuple):
    """What is read of a segment; all of it, if it has another size: then it isn't the one that was looked at."""

    size: int
    """Of the segment, bytes."""
    places: tuple[tuple[int, int], ...]
    """Bytes from the beginning of a frame, or of the segment, to the end of another, in order; none: it is left out."""
    grows: bool = False
    """It is being written: it may be longer by now, and what has come is read, too."""


@dataclass(frozen=True, slots=True)
class JournalPart:
    """What is read of a journal, where less than all will do."""

    stretches: Mapping[int, Stretches] = field(default_factory=dict)
    """By the first sequence of a segment; all others are read whole."""
    mentions: tuple[bytes, ...] = ()
    """Only events that have one of these in them, as Avro has texts; empty: all."""

    def leaves_out(self, first: int) -> bool:
        """Whether nothing of the segment with this first sequence is read."""
        stretches = self.stretches.get(first)
        return stretches is not None and not stretches.places and not stretches.grows


class JournalReader:
    """The events of a journal from any sequence on, as far as they are written now. Use as a context manager.

    :param after: the first event read is the one after this sequence.
    :param position: segment and end of a frame in it, where to begin to look for it.
    :param part: what is read of it.
    :raises JournalError: there is no journal in the folder.
    """

    def __init__(
        self, folder: Path, *, after: int = 0, position: tuple[Path, int] | None = None, part: JournalPart | None = None
    ) -> None:
        self.folder = folder
        self.identity = load_identity(folder)
        self.last_sequence = after
        """The last event read, or skipped by ``after``."""
        self._part = part or JournalPart()
        # One search for all of them: every frame of a segment is looked at.
        mentions = b"|".join(map(re.escape, self._part.mentions))
        self._mentions = re.compile(mentions) if mentions else None
        self._fd = -1
        self._path: Path | None = None
        self._first = 0
        self._offset = 0
        self._places: deque[tuple[int, int]] | None = None
        """What isn't read yet of the segment at hand; None: it is read whole."""
        self._judged = (0, 0)
        self._foreign: set[int] = set()
        """Schema ids that had to be looked up in the folder."""
        if position is not None:
            self._open(int(position[0].stem), position[0])
            self._offset = position[1]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def position(self) -> tuple[Path, int] | None:
        """The segment at hand and the end of the last whole frame read in it; None before the first segment."""
        return None if self._path is None else (self._path, self._offset)

    @property
    def unread(self) -> int:
        """Bytes behind the position: 0, or the size of an unfinished tail when :meth:`read` has returned nothing."""
        return os.fstat(self._fd).st_size - self._offset if self._fd >= 0 else 0

    def read(self, limit: int = _READ_SIZE) -> list[tuple[bytes, Recorded]]:
        """The next events, each with its Confluent frame; none: nothing more has been written yet.

        :param limit: bytes to read at once; more only when a single frame is longer.
        :raises JournalCorrupt: damage that is not an unfinished tail.
        """
        return self._read(model.decode, limit)

    def read_envelopes(self) -> list[tuple[bytes, Envelope]]:
        """As :meth:`read`, for readers that pass frames on: the events aren't decoded."""
        return self._read(read_envelope, _READ_SIZE)

    def _read(self, decode: Callable[[bytes], _Placed], limit: int) -> list[tuple[bytes, _Placed]]:
        while True:
            if self._fd < 0 and not self._open_next():
                return []
            size = os.fstat(self._fd).st_size
            if self._places is not None:
                self._pass_over(self._places, size)
            if size > self._offset:
                found = self._frames(decode, limit)
                if found is None:
                    found = self._stuck(decode)
                if found:
                    return found
                if found is not None:
                    continue  # everything was skipped by ``after``
            if not self._open_next():
                return []

    def _pass_over(self, places: deque[tuple[int, int]], size: int) -> None:
        """Go to what is to be read next of the segment, or to its end."""
        while places and places[0][1] <= self._offset:
            places.popleft()
        self._offset = max(self._offset, places[0][0] if places else size)

    def _frames(self, decode: Callable[[bytes], _Placed], limit: int) -> list[tuple[bytes, _Placed]] | None:
        """Whole frames at the offset; None: there isn't even one."""
        if self._places:
            limit = min(limit, self._places[0][1] - self._offset)
        data = os.pread(self._fd, limit, self._offset)
        if len(data) == limit and next_frame(data, 0) is None:
            data = os.pread(self._fd, frame_size(os.pread(self._fd, 8, self._offset)), self._offset)
        found = []
        place = 0
        mentions = self._mentions
        while (frame := next_frame(data, place)) is not None:
            payload, end = frame
            if mentions is not None and mentions.search(payload) is None:
                place = end
                continue
            placed = self._decode(decode, payload, self._offset + place)
            place = end
            if placed.sequence > self.last_sequence:
                found.append((payload, placed))
        if place == 0:
            return None
        self._offset += place
        if found:
            self.last_sequence = found[-1][1].sequence
        return found

    def _decode(self, decode: Callable[[bytes], _Placed], payload: bytes, offset: int) -> _Placed:
        assert self._path is not None
        try:
            try:
                placed = decode(payload)
            except SchemaError:
                if not self._learns(payload):
                    raise
                placed = decode(payload)
        except SchemaError as exc:
            raise JournalCorrupt(self._path, offset, str(exc)) from exc
        if (placed.journal_id, placed.hub_id) != (self.identity.journal_id, self.identity.hub_id):
            reason = f"an event of journal {placed.journal_id}, hub {placed.hub_id}"
            raise JournalCorrupt(self._path, offset, reason)
        return placed

    def _learns(self, payload: bytes) -> bool:
        """Whether the folder says what this frame's schema id means. Asked once for each: a newer hub has left its
        schemas before it wrote."""
        schema_id = event_schema_id(payload)
        if is_event_schema(schema_id) or schema_id in self._foreign:
            return False
        journal_schemas.learn(self.folder)
        self._foreign.add(schema_id)
        return is_event_schema(schema_id)

    def _stuck(self, decode: Callable[[bytes], _Placed]) -> list[tuple[bytes, _Placed]] | None:
        """There are bytes and no frame: None when that is an unfinished tail, otherwise what a second look shows."""
        size = os.fstat(self._fd).st_size
        has_next = self._next_segment() is not None
        if not has_next and self._judged == (self._offset, size):
            return None
        rest = os.pread(self._fd, max(0, size - self._offset), self._offset)
        whole_later = find_frame(rest, 1) is not None
        # The writer may have gone on between the two looks, so what counts is the frame's state after the second.
        if (found := self._frames(decode, _READ_SIZE)) is not None:
            return found
        assert self._path is not None
        if has_next and os.fstat(self._fd).st_size > self._offset:
            raise JournalCorrupt(self._path, self._offset, "a bad frame in a segment that is not the last")
        if whole_later:
            raise JournalCorrupt(self._path, self._offset, "a bad frame before good ones")
        self._judged = (self._offset, size)
        return None

    def _next_segment(self) -> tuple[int, Path] | None:
        known = [entry for entry in segments(self.folder) if not self._part.leaves_out(entry[0])]
        if self._path is not None:
            return next((entry for entry in known if entry[0] > self._first), None)
        begun = [entry for entry in known if entry[0] <= self.last_sequence + 1]
        return begun[-1] if begun else next(iter(known), None)

    def _open_next(self) -> bool:
        """Go to the following segment, if there is one and everything of this one has been read."""
        following = self._next_segment()
        if following is None:
            return False
        # The writer makes a segment only when it has finished the one before, so what is there now is all of it.
        if self._fd >= 0 and os.fstat(self._fd).st_size > self._offset:
            return True
        # Retention may have put what is left of the next ones behind what is left of this one, in a new file.
        if self._path is not None and self._is_replaced(self._path):
            following = self._first, self._path
        # Where retention was faster, the next look finds another.
        with contextlib.suppress(FileNotFoundError):
            self._open(*following)
        return True

    def _is_replaced(self, path: Path) -> bool:
        try:
            return not os.path.samestat(path.stat(), os.fstat(self._fd))
        except FileNotFoundError:
            return False

    def _open(self, first: int, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.close()
        self._fd, self._path, self._first = fd, path, first
        header = SegmentHeader.read(path, os.pread(fd, HEADER_READ, 0))
        if header.identity != self.identity or header.first_sequence != first:
            raise JournalCorrupt(path, 0, "its header names another journal, hub or first sequence")
        self._offset = header.size
        stretches = self._part.stretches.get(first)
        self._places = None
        if stretches is not None:
            size = os.fstat(fd).st_size
            if size == stretches.size or (stretches.grows and size > stretches.size):
                self._places = deque(stretches.places)
                if stretches.grows:
                    self._places.append((stretches.size, sys.maxsize))


class JournalSource:
    """A journal folder as a source (:class:`spnhub.events.source.Source`). An async context manager.

    :param part: what is read of it.
    :raises JournalError: on entering, when there is no journal in the folder.
    """

    def __init__(self, folder: Path, *, after: int = 0, part: JournalPart | None = None) -> None:
        self.name = str(folder)
        self._folder = folder
        self._after = after
        self._part = part
        self._reader: JournalReader | None = None

    async def __aenter__(self) -> Self:
        self._reader = JournalReader(self._folder, after=self._after, part=self._part)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._reader is not None:
            self._reader.close()

    async def records(self, *, follow: bool = False) -> AsyncIterator[tuple[bytes, Recorded]]:
        """Each event with its Confluent frame, in order; with ``follow`` it waits for more and never ends.

        A process that is out of descriptors follows again when it has some.

        :raises JournalCorrupt: damage that is not an unfinished tail.
        """
        if self._reader is None:
            raise JournalError(f"journal {self._folder} is not open")
        while True:
            try:
                batch = self._reader.read()
            except OSError as exc:
                if not follow or exc.errno not in OUT_OF_RESOURCES:
                    raise
                # A temporary error: a reader that follows goes on where it was.
                _log.warning("journal %s can't be read for now: %s", self._folder, exc.strerror)
                await asyncio.sleep(_PAUSE)
                continue
            for entry in batch:
                yield entry
            if not batch and not follow:
                return
            await asyncio.sleep(0 if batch else _POLL)
