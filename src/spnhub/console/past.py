"""What was, at any moment of the log: the fold of each journal up to it, from the nearest state that is kept.

States are kept in the index of finished segments, and in memory of the segment that is being written. All methods but
the coroutines may run in any thread, one at a time. Counterparts: :mod:`spnhub.events.analysis.journal_index`,
:mod:`spnhub.console.live`.
"""

from __future__ import annotations

import asyncio
import bisect
import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from spnhub.events.analysis.flow import SPAN, Flow
from spnhub.events.analysis.journal_index import JournalIndex, Mark, MinuteFlow, SegmentIndex
from spnhub.events.analysis.point_in_time import HubAt, Moment
from spnhub.events.journal.files import JournalError, segments
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["KeptStates", "Past"]

_log = structlog.get_logger("spnhub.console")

_KEPT: Final = 64
"""States of a journal in memory."""
_APART: Final = 10_000
"""Events between two of them."""
_DAMAGED: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, zlib.error)
_AGAIN: Final = 5.0
"""Seconds between looks for segments that are finished."""


@dataclass(frozen=True, slots=True)
class _State:
    time: int
    sequence: int
    position: tuple[Path, int]
    state: HubState


class KeptStates:
    """States of one journal in memory, the last :data:`_KEPT` that are :data:`_APART`."""

    def __init__(self) -> None:
        self._states: list[_State] = []
        self._lock = threading.Lock()

    def note(self, hub: HubAt, position: tuple[Path, int] | None) -> None:
        """Keep the state, if none is near."""
        state = hub.state
        if position is None or not hub.known:
            return
        with self._lock:
            self._note(state, position)

    def _note(self, state: HubState, position: tuple[Path, int]) -> None:
        place = bisect.bisect_left(self._states, state.last_sequence, key=lambda one: one.sequence)
        near = self._states[max(0, place - 1) : place + 1]
        if any(abs(one.sequence - state.last_sequence) < _APART for one in near):
            return
        self._states.insert(place, _State(state.last_timestamp, state.last_sequence, position, state.copy()))
        if len(self._states) > _KEPT:
            self._states.pop(0)

    def before(self, time: int) -> _State | None:
        """The last at or before a moment."""
        with self._lock:
            place = bisect.bisect_right(self._states, time, key=lambda one: one.time)
            return self._states[place - 1] if place else None


class Past:
    """Of several journals.

    :param cache: folder of the indexes.
    :raises JournalError: one of them is none.
    """

    def __init__(self, folders: Sequence[Path], cache: Path) -> None:
        self.indexes = {folder: JournalIndex(folder, cache) for folder in folders}
        self.kept = {folder: KeptStates() for folder in folders}
        self.missing = 0
        """Finished segments that have no index yet."""
        self.whole = False
        """All that had been finished at the start are indexed, or can't be."""

    @property
    def first(self) -> int | None:
        """The earliest moment, as far as it is known."""
        return min((index.segments[0].begun for index in self.indexes.values() if index.segments), default=None)

    async def keep(self, on_whole: Callable[[], None]) -> None:
        """Make what is missing, in a process beside this one, and go on with segments as they are finished.

        :param on_whole: called when all that there was at the start is indexed.
        """
        context = multiprocessing.get_context("spawn")
        failed: set[tuple[Path, int]] = set()
        while True:
            jobs = [(index, *job) for index in self.indexes.values() for job in await asyncio.to_thread(index.load)]
            jobs = [job for job in jobs if (job[0].folder, job[1]) not in failed]
            self.missing = len(jobs)
            if jobs:
                # The newest first: that is what is asked for most.
                with ProcessPoolExecutor(1, context, initializer=_aside) as pool:
                    for index, first, following in reversed(jobs):
                        try:
                            await asyncio.wrap_future(pool.submit(_make, index.folder, index.cache, first, following))
                        except (OSError, JournalError, BrokenProcessPool) as exc:
                            failed.add((index.folder, first))
                            _log.warning("console.not_indexed", journal=str(index.folder), first=first, reason=str(exc))
                            if isinstance(exc, BrokenProcessPool):
                                break
                        await asyncio.to_thread(index.load)
                        self.missing -= 1
            if not self.whole:
                self.whole = True
                on_whole()
            await asyncio.sleep(_AGAIN)

    def concerning(self, until: dict[Path, int]) -> Iterator[Recorded]:
        """The events that concern incidents, of segments that begin before these sequences; in order of time."""
        found: list[Recorded] = []
        for folder, index in self.indexes.items():
            for one in index.segments:
                if one.first < until.get(folder, 0):
                    try:
                        found += one.concerning()
                    except (OSError, ValueError, zlib.error) as exc:
                        _log.warning("console.index_damaged", path=str(one.path), reason=str(exc))
        found.sort(key=lambda one: (one.timestamp, one.hub_id, one.sequence))
        yield from found

    def flow(self, until: dict[Path, int]) -> Iterator[MinuteFlow]:
        """What flowed in each minute, in segments that begin before these sequences."""
        for folder, index in self.indexes.items():
            for one in index.segments:
                if one.first < until.get(folder, 0):
                    yield from one.flow

    def at(self, time: int) -> tuple[list[HubAt], list[Flow], list[str]]:
        """All logs folded up to a moment (microseconds since 1970), what flowed in the minute before, and which logs no
        longer tell what was then.

        :raises JournalError: a journal can't be read.
        """
        hubs, flows, missing = [], [], []
        for folder in self.indexes:
            hub, flow = self._fold(folder, time)
            if (reason := hub.missing(Moment(None, time))) is not None:
                missing.append(reason)
            elif hub.state.last_sequence:
                hubs.append(hub)
                flows.append(flow)
        return hubs, flows, missing

    def _fold(self, folder: Path, time: int) -> tuple[HubAt, Flow]:
        moment, index = Moment(None, time), self.indexes[folder]
        kept = [first for first, _ in segments(folder)] or [1]
        since = time - SPAN * 1_000_000
        begin, begun = self._begin(folder, time, since)
        place = 0 if begin is not None else self._place(index, kept, since)
        back = 1
        while True:
            flow = begun
            hub = HubAt(index.identity.hub_id, str(index.identity.journal_id), kept[0])
            if begin is None:
                reader = JournalReader(folder, after=kept[place] - 1)
            else:
                hub.state, hub.known = begin.state.copy(), True
                reader = JournalReader(folder, after=begin.sequence, position=begin.position)
            with reader:
                while batch := reader.read():
                    for _, recorded in batch:
                        if not hub.take(recorded, moment):
                            break
                        flow.take(recorded)
                    if hub.passed:
                        break
                    self.kept[folder].note(hub, reader.position)
            if begin is not None or hub.known or place == 0:
                return hub, flow
            place, back, begun = max(0, place - back), back * 2, Flow()

    def _place(self, index: JournalIndex, kept: Sequence[int], time: int) -> int:
        begun = {one.first: one.begun for one in index.segments}
        return max((at for at, first in enumerate(kept) if begun.get(first, time + 1) <= time), default=len(kept) - 1)

    def _begin(self, folder: Path, time: int, since: int) -> tuple[_State | None, Flow]:
        """A state to begin at, and what flowed from ``since`` to there."""
        index = self.indexes[folder]
        near, found = self.kept[folder].before(time), index.mark(time=time)
        # A state in memory may be nearer, but doesn't come with what flowed before it.
        indexed = near is None or any(one.segment == near.position[0] for one in index.segments)
        if found is not None and (indexed or (near is not None and near.sequence < found[1].sequence)):
            with _told_if_damaged(found[0]):
                flow = index.flow_until(*found, since)
                if flow is not None:
                    return _state_of(*found), flow
        # The rates aren't known there: begin where the window does, or where the log does.
        near, found = self.kept[folder].before(since), index.mark(time=since)
        if found is not None and (near is None or near.sequence < found[1].sequence):
            with _told_if_damaged(found[0]):
                return _state_of(*found), Flow()
        return near, Flow()


@contextmanager
def _told_if_damaged(segment: SegmentIndex) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as exc:
        _log.warning("console.index_damaged", path=str(segment.path), reason=str(exc))


def _state_of(segment: SegmentIndex, mark: Mark) -> _State:
    return _State(mark.time, mark.sequence, (segment.segment, mark.offset), segment.state(mark))


def _aside() -> None:
    """In the process that makes indexes: it gives way to others, and an interrupt is its parent's."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make(folder: Path, cache: Path, first: int, following: int) -> None:
    JournalIndex(folder, cache).make(first, following)
