"""What was, at any moment of the log: the fold of each journal up to it, from the nearest state that is kept.

States are kept in the index of the journal's segments, that of the segment that is being written included. All methods
but the coroutines may run in any thread, one at a time. Counterparts: :mod:`spnhub.events.analysis.journal_index`,
:mod:`spnhub.console.live`.
"""

from __future__ import annotations

import asyncio
import heapq
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Final

import structlog

from spnhub.console.live import KnownSessions
from spnhub.events.analysis.flow import SPAN, Flow
from spnhub.events.analysis.incident_history import IncidentHistory
from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.point_in_time import HubAt, Moment, segment_at
from spnhub.events.analysis.segment_index import IndexDamaged, IndexPart, MinuteFlow, SegmentIndex
from spnhub.events.journal.files import JournalError, segments
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["Past"]

_log = structlog.get_logger("spnhub.console")

_AGAIN: Final = 5.0
"""Seconds between looks for segments that are finished."""


class Past:
    """Of several journals.

    :param cache: folder of the indexes.
    :raises JournalError: one of them is none.
    """

    def __init__(self, folders: Sequence[Path], cache: Path) -> None:
        self.indexes = {folder: JournalIndex(folder, cache) for folder in folders}
        self.missing = 0
        """Segments that have no index yet, or not all of it."""
        self.whole = False
        """All that had been finished at the start are indexed, or can't be."""

    @property
    def first(self) -> int | None:
        """The earliest moment, as far as it is known."""
        return min((index.segments[0].begun for index in self.indexes.values() if index.segments), default=None)

    async def keep(self, on_whole: Callable[[], None]) -> None:
        """Make what is missing, in a process beside this one, and go on as segments grow and are finished.

        :param on_whole: called when all that there was at the start is indexed.
        """
        context = multiprocessing.get_context("spawn")
        failed: set[tuple[Path, int, int | None]] = set()
        while True:
            jobs = [(index, *job) for index in self.indexes.values() for job in await asyncio.to_thread(index.load)]
            jobs = [job for job in jobs if (job[0].folder, *job[1:]) not in failed]
            self.missing = len(jobs)
            if jobs:
                # The newest first: that is what is asked for most.
                with ProcessPoolExecutor(1, context, initializer=_aside) as pool:
                    for index, first, following in reversed(jobs):
                        try:
                            await asyncio.wrap_future(pool.submit(_make, index.folder, index.cache, first, following))
                        except (OSError, JournalError, BrokenProcessPool) as exc:
                            failed.add((index.folder, first, following))
                            _log.warning("console.not_indexed", journal=str(index.folder), first=first, reason=str(exc))
                            if isinstance(exc, BrokenProcessPool):
                                break
                        await asyncio.to_thread(index.load)
                        self.missing -= 1
            if not self.whole:
                self.whole = True
                on_whole()
            await asyncio.sleep(_AGAIN)

    def before(self, begun: dict[Path, int]) -> tuple[KnownSessions, IncidentHistory]:
        """The sessions and incidents of before these sequences, as far as parts of the index end there."""
        directory, incidents = KnownSessions(), IncidentHistory()
        for recorded in self.concerning(begun):
            directory.take(recorded)
            incidents.take(recorded)
        return directory, incidents

    def concerning(self, until: dict[Path, int]) -> Iterator[Recorded]:
        """The events that concern incidents, of parts that end before these sequences; in order of time."""
        lanes = [self._concerning(index, until.get(folder, 0)) for folder, index in self.indexes.items()]
        yield from heapq.merge(*lanes, key=lambda one: (one.timestamp, one.hub_id, one.sequence))

    def _concerning(self, index: JournalIndex, until: int) -> Iterator[Recorded]:
        for one, part in _parts(index, until):
            try:
                found = index.concerning(one, part)
            except IndexDamaged as exc:
                _tell(exc)
                continue
            for _, recorded in found:
                yield recorded

    def flow(self, until: dict[Path, int]) -> Iterator[MinuteFlow]:
        """What flowed in each minute, in parts that end before these sequences."""
        for folder, index in self.indexes.items():
            for _, part in _parts(index, until.get(folder, 0)):
                yield from part.minutes

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
        begin = self._begin(index, time, since)
        place = 0 if begin is not None else segment_at(folder, kept, Moment(None, since))
        back = 1
        while True:
            hub = HubAt(index.identity.hub_id, str(index.identity.journal_id), kept[0])
            if begin is None:
                flow, reader = Flow(), JournalReader(folder, after=kept[place] - 1)
            else:
                segment, mark, hub.state, flow = begin
                hub.known = True
                reader = JournalReader(folder, after=mark.sequence, position=(segment.segment, mark.offset))
            with reader:
                while not hub.passed and (batch := reader.read()):
                    for _, recorded in batch:
                        if not hub.take(recorded, moment):
                            break
                        flow.take(recorded)
            if begin is not None or hub.known or place == 0:
                return hub, flow
            place, back = max(0, place - back), back * 2

    def _begin(
        self, index: JournalIndex, time: int, since: int
    ) -> tuple[SegmentIndex, IndexPart, HubState, Flow] | None:
        """A state to begin at, and what flowed from ``since`` to there."""
        found = index.mark(time=time)
        if found is None:
            return None
        try:
            flow = index.flow_until(*found, since)
            if flow is None:
                # The rates aren't known there: begin where the window does, or where the log does.
                found, flow = index.mark(time=since), Flow()
            return None if found is None else (*found, index.state(*found), flow)
        except IndexDamaged as exc:
            _tell(exc)
            return None


def _parts(index: JournalIndex, until: int) -> Iterator[tuple[SegmentIndex, IndexPart]]:
    for one in index.segments:
        for part in one.parts:
            if part.sequence >= until:
                return
            yield one, part


def _tell(damage: IndexDamaged) -> None:
    """It is made anew; what is asked for is read without it."""
    _log.warning("console.index_damaged", reason=str(damage))


def _aside() -> None:
    """In the process that makes indexes: it gives way to others, and an interrupt is its parent's."""
    os.nice(10)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _make(folder: Path, cache: Path, first: int, following: int | None) -> None:
    JournalIndex(folder, cache).make(first, following)
