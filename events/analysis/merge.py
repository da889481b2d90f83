"""Several sources as one log, ordered by D-11.

Within a hub by sequence, its times clamped so that they don't decrease; across hubs by time; within a conversation by
epoch, even where clocks differ. :func:`merge` orders what is there, :func:`follow` what comes. Both hold bounded
numbers of events, named below; beyond a bound the order gets worse and nothing is left out.
"""

from __future__ import annotations

import asyncio
import bisect
import heapq
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final
from uuid import UUID

from spnhub.events.journal.files import JournalCorrupt
from spnhub.events.journal.reader import JournalSource
from spnhub.events.model import ConnectionEnded, ConnectionStarted, Recorded
from spnhub.events.source import Source, SourceError
from spnhub.schemas.codec import SchemaError

__all__ = ["Entry", "LogKey", "Missing", "follow", "log_key", "merge"]

Entry = tuple[bytes, Recorded]
"""A Confluent frame and what it says."""
LogKey = tuple[str, UUID]
"""Hub id and journal id: what sequences are contiguous in (D-4)."""

_TIME_WINDOW: Final = 10_000
"""Events of a topic that are put in order of time together."""
_SKEW: Final = 10_000_000
"""Microseconds by which the clocks of two hubs are expected to differ at most."""
_HELD_LIMIT: Final = 50_000
"""Events of hubs that wait for the end of an earlier epoch in another hub's log."""
_ENDED_LIMIT: Final = 100_000
"""The most conversations whose last ended epoch is remembered."""
_FOLLOW_HOLD: Final = 0.1
"""Seconds that events are collected before they are shown in order, when several sources are followed."""
_FOLLOW_LIMIT: Final = 1000
"""Events that wait to be shown, when several sources are followed."""


def log_key(recorded: Recorded) -> LogKey:
    """The log that an event belongs to."""
    return recorded.hub_id, recorded.journal_id


class Missing:
    """Which sequences of a log have been seen, kept as the last one and the ranges missing before it."""

    def __init__(self) -> None:
        self.last = 0
        self.ranges: list[tuple[int, int]] = []
        """First and last sequence of each gap, in order; one that begins with 1 is a missing head."""

    def see(self, sequence: int) -> bool:
        """Note a sequence; False when it has been seen before."""
        if sequence > self.last:
            if sequence > self.last + 1:
                self.ranges.append((self.last + 1, sequence - 1))
            self.last = sequence
            return True
        # Below the last: a redelivery, or one of a gap that another partition or journal fills late. Say 1, 2, 5 were
        # seen: the range (3, 4) is missing; 4 fits it, and leaves (3, 3).
        place = bisect.bisect_right(self.ranges, (sequence, sequence)) - 1
        # The range that could hold it is the one at or just before; (s, s) sorts before (s, t) for t > s.
        for index in (place, place + 1):
            if 0 <= index < len(self.ranges) and self.ranges[index][0] <= sequence <= self.ranges[index][1]:
                first, last = self.ranges[index]
                self.ranges[index : index + 1] = [
                    part for part in ((first, sequence - 1), (sequence + 1, last)) if part[0] <= part[1]
                ]
                return True
        return False


async def merge(
    sources: Sequence[Source],
    *,
    repeated: bool = False,
    seen: dict[LogKey, Missing] | None = None,
    on_damage: Callable[[Exception], None] | None = None,
) -> AsyncIterator[Entry]:
    """All events that the sources hold now, in order.

    :param sources: entered already.
    :param repeated: whether an event that was delivered or stored more than once is given each time.
    :param seen: the events that were given already; each new one is added.
    :param on_damage: called with the error that ends a source early; None: the error is raised.
    :raises spnhub.events.journal.files.JournalCorrupt: a journal is damaged.
    :raises spnhub.schemas.codec.SchemaError: what is stored is not an event.
    """
    seen = {} if seen is None else seen
    lanes = [_lane(source, on_damage) for source in sources]
    async with aclosing(_by_epoch(_by_time(lanes))) as ordered:
        async for entry in ordered:
            recorded = entry[1]
            if repeated or seen.setdefault(log_key(recorded), Missing()).see(recorded.sequence):
                yield entry


async def follow(sources: Sequence[Source], seen: dict[LogKey, Missing] | None = None) -> AsyncIterator[Entry]:
    """All events of the sources, and then those that come, for ever. In order as far as they come within 0.1 s.

    :param sources: entered already; a journal that has been merged goes on where that ended.
    :param seen: what not to repeat, from :func:`merge`.

    :raises SourceError: a source has ended; its own failure is raised as it is.
    """
    if len(sources) == 1 and isinstance(sources[0], JournalSource):
        async for entry in sources[0].records(follow=True):
            yield entry
        return
    queue: asyncio.Queue[Entry] = asyncio.Queue(_FOLLOW_LIMIT)
    seen = {} if seen is None else seen
    clock = _Clock()
    pumps = [asyncio.create_task(_pump(source, queue)) for source in sources]
    try:
        while True:
            getting = asyncio.create_task(queue.get())
            await asyncio.wait([getting, *pumps], return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                for pump in pumps:
                    if pump.done():
                        pump.result()
                raise SourceError("a source that is followed has ended")
            # What comes from the other sources within this time is put in order with it; a later event comes later.
            await asyncio.sleep(_FOLLOW_HOLD)
            found = [getting.result()]
            while not queue.empty():
                found.append(queue.get_nowait())
            # First by sequence, so that the clock (which never runs backwards within a log) sees each log in its order.
            found.sort(key=lambda entry: entry[1].sequence)
            timed = [(clock.of(entry[1]), place, entry) for place, entry in enumerate(found)]
            for _, _, entry in sorted(timed, key=lambda item: item[:2]):
                if seen.setdefault(log_key(entry[1]), Missing()).see(entry[1].sequence):
                    yield entry
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(source: Source, queue: asyncio.Queue[Entry]) -> None:
    async for entry in source.records(follow=True):
        await queue.put(entry)


class _Clock:
    """The times of events, made non-decreasing within each log."""

    def __init__(self) -> None:
        self._last: dict[LogKey, int] = {}

    def of(self, recorded: Recorded) -> int:
        key = log_key(recorded)
        time = self._last[key] = max(self._last.get(key, 0), recorded.timestamp)
        return time


_Timed = tuple[int, str, int, Entry]
"""Clamped time, hub id, sequence: the order; and the event."""


async def _present(source: Source, on_damage: Callable[[Exception], None] | None) -> AsyncIterator[Entry]:
    """What a source holds now, up to where it is damaged."""
    try:
        async for entry in source.records(follow=False):
            yield entry
    except (JournalCorrupt, SchemaError) as exc:
        if on_damage is None:
            raise
        on_damage(exc)


async def _lane(source: Source, on_damage: Callable[[Exception], None] | None) -> AsyncIterator[_Timed]:
    """A source's events in order."""
    clock = _Clock()
    entries = _present(source, on_damage)
    if isinstance(source, JournalSource):
        async for entry in entries:
            yield clock.of(entry[1]), entry[1].hub_id, entry[1].sequence, entry
        return
    # A topic's partitions are in order each, and the topic nearly so: a window sorts what is a little out of place. The
    # count keeps equal keys in their order, so that two entries themselves are never compared.
    window: list[tuple[int, str, int, int, Entry]] = []
    count = 0
    async for entry in entries:
        count += 1
        heapq.heappush(window, (clock.of(entry[1]), entry[1].hub_id, entry[1].sequence, count, entry))
        if len(window) > _TIME_WINDOW:
            time, hub_id, sequence, _, first = heapq.heappop(window)
            yield time, hub_id, sequence, first
    while window:
        time, hub_id, sequence, _, first = heapq.heappop(window)
        yield time, hub_id, sequence, first


async def _by_time(lanes: Sequence[AsyncIterator[_Timed]]) -> AsyncIterator[_Timed]:
    """The next of the lanes' heads, again and again."""
    heads: list[tuple[int, str, int, int, Entry]] = []

    async def advance(index: int) -> None:
        timed = await anext(lanes[index], None)
        if timed is not None:
            heapq.heappush(heads, (*timed[:3], index, timed[3]))

    for index in range(len(lanes)):
        await advance(index)
    while heads:
        time, hub_id, sequence, index, entry = heapq.heappop(heads)
        yield time, hub_id, sequence, entry
        await advance(index)


class _Held:
    """A hub's events that wait until an earlier epoch of a conversation has ended elsewhere."""

    def __init__(self, time: int, uid: str, epoch: int) -> None:
        self.time = time
        self.uid = uid
        self.epoch = epoch
        self.entries: deque[_Timed] = deque()


async def _by_epoch(stream: AsyncIterator[_Timed]) -> AsyncGenerator[Entry, None]:
    """Put the start of a later epoch behind the end of the one before, if that comes within the clocks' skew."""
    order = _EpochOrder()
    async for timed in stream:
        for entry in order.take(timed):
            yield entry
    for entry in order.rest():
        yield entry


class _EpochOrder:
    def __init__(self) -> None:
        self._ended: OrderedDict[str, int] = OrderedDict()
        self._held: dict[LogKey, _Held] = {}
        self._holding = 0

    def take(self, timed: _Timed) -> Iterable[Entry]:
        """What can be passed on now that this has come."""
        time = timed[0]
        for key, held in list(self._held.items()):
            if held.time + _SKEW < time or self._holding >= _HELD_LIMIT:
                yield from self._release(key, force=True)
        key = log_key(timed[3][1])
        if key in self._held:
            self._held[key].entries.append(timed)
            self._holding += 1
            return
        yield from self._pass(timed)

    def rest(self) -> Iterable[Entry]:
        """Everything that still waits."""
        while self._held:
            yield from self._release(min(self._held, key=lambda key: self._held[key].time), force=True)

    def _pass(self, timed: _Timed, *, force: bool = False) -> Iterable[Entry]:
        time, _, _, entry = timed
        event = entry[1].event
        if isinstance(event, ConnectionStarted) and event.epoch > 0 and not force:
            uid = event.connection_uid
            # Two hubs' clocks differ, so hub B's start of epoch 1 may come before hub A's end of epoch 0. Then all of
            # B's events wait, not just this one: within a log, the order is never changed.
            if self._ended.get(uid, -1) < event.epoch - 1:
                held = self._held[log_key(entry[1])] = _Held(time, uid, event.epoch)
                held.entries.append(timed)
                self._holding += 1
                return
        yield entry
        if isinstance(event, ConnectionEnded):
            self._ended[event.connection_uid] = max(event.epoch, self._ended.get(event.connection_uid, -1))
            self._ended.move_to_end(event.connection_uid)
            if len(self._ended) > _ENDED_LIMIT:
                self._ended.popitem(last=False)
            # Only now, after the end itself was passed on.
            for key, held in list(self._held.items()):
                if held.uid == event.connection_uid and event.epoch >= held.epoch - 1:
                    yield from self._release(key)

    def _release(self, key: LogKey, *, force: bool = False) -> Iterable[Entry]:
        """Let a hub's events go on, until one of them has to wait anew."""
        held = self._held.pop(key, None)
        if held is None:
            return
        while held.entries:
            timed = held.entries.popleft()
            self._holding -= 1
            yield from self._pass(timed, force=force)
            force = False  # forced is only the start that waited: a later one in the same log may have to wait itself
            if (again := self._held.get(key)) is not None:
                again.entries.extend(held.entries)
                return
