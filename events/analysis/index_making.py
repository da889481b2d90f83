"""Makes what an index has of a segment, from the segment alone, as it grows.

Counterparts: :mod:`spnhub.events.analysis.segment_index` has the file, :mod:`spnhub.events.analysis.journal_index` says
what is to be made.
"""

from __future__ import annotations

import contextlib
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Final

from spnhub.events import model
from spnhub.events.analysis.explain import names_of
from spnhub.events.analysis.flow import Flow
from spnhub.events.analysis.incident_history import Concerning
from spnhub.events.analysis.log_lines import failed
from spnhub.events.analysis.segment_index import (
    IndexDamaged,
    IndexPart,
    MinuteFlow,
    Place,
    SegmentIndex,
    pack_events,
    pack_index,
    pack_names,
)
from spnhub.events.journal.checkpoint import Checkpoint, pack
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import ConnectionEnded, ConnectionProgress, ConnectionStarted, Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["APART", "BATCH", "MINUTE", "IndexMaker", "add_flow"]

APART: Final = 2 << 20
"""Bytes of a segment between two states that are kept: some 9,000 events, half a second's worth of reading."""
BATCH: Final = 64 << 10
"""Bytes that are read at once: a state can be kept after each."""
MINUTE: Final = 60_000_000


class _Gathered:
    """What the part at hand has so far."""

    def __init__(self) -> None:
        self.bytes = 0
        self.flow = Flow()
        self.minutes: dict[tuple[int, str], list[int]] = {}
        self.names: set[str] = set()
        self.told: list[bytes] = []


class IndexMaker:
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
            at.told.append(frame)
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
                self._add(pack_names(at.names)),
                self._add(pack_events(at.told)),
                tuple(MinuteFlow(minute, realm, *numbers) for (minute, realm), numbers in sorted(at.minutes.items())),
            )
        )
        self._at = _Gathered()

    def _add(self, blob: bytes) -> Place:
        place = self._size, len(blob), zlib.crc32(blob)
        self._blobs.append(blob)
        self._size += len(blob)
        return place

    def _file(self) -> bytes:
        return pack_index(
            self._blobs,
            self.parts,
            self._path,
            self._journal_id,
            begun=self._begun,
            has_gaps=self._gaps,
            finished=self._following is not None,
        )


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
