"""What the sources hold as it comes: the fold of each log, the rates, incidents, and who had sessions.

A journal is followed from the last state that its index has, else from the segment that is being written, whose
snapshot has what there was before; a Kafka topic from its beginning.

Counterparts: :mod:`spnhub.console.page`, which shows it; :mod:`spnhub.console.past`, for what was.
"""

from __future__ import annotations

import asyncio
import bisect
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final

from spnhub.console.page import EndpointRow, Seen
from spnhub.console.together import run_together
from spnhub.dataclass import dataclass
from spnhub.events.analysis.flow import SPAN, Flow, FlowRates
from spnhub.events.analysis.incident_history import Concerning, IncidentHistory
from spnhub.events.analysis.index_making import add_flow
from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.merge import LogKey, Missing, follow, log_key, merge
from spnhub.events.analysis.point_in_time import NOW, HubAt
from spnhub.events.analysis.segment_index import IndexDamaged
from spnhub.events.analysis.source import open_source
from spnhub.events.journal.files import load_identity, segments
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import EndPointType, Recorded, SessionEnded, SessionStarted

__all__ = ["KNOWN", "KnownSessions", "Live"]

KNOWN: Final = 100_000
"""The most sessions that are known beside those that are open."""
_MINUTES: Final = 200_000
"""Minutes, each by realm, whose flow is known."""
_MOMENTS: Final = 128
"""Of topics, whose state is kept."""
_POLL: Final = 0.2
"""Seconds between looks at journals."""
_YIELD: Final = 500
"""Events of a topic after which others have their turn."""


class KnownSessions:
    """Sessions that were, with the address that they came from, which no snapshot has. The last :data:`KNOWN`."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], EndpointRow] = OrderedDict()

    def take(self, recorded: Recorded) -> None:
        """Look at the next event."""
        event = recorded.event
        if not isinstance(event, SessionStarted | SessionEnded):
            return
        key = recorded.hub_id, event.spn_session_id
        if isinstance(event, SessionEnded):
            known = self._known.get(key)
            address, since = ("", recorded.timestamp) if known is None else (known.address, known.since)
            ended: int | None = recorded.timestamp
        else:
            address, since, ended = event.remote_address, recorded.timestamp, None
        self._known[key] = EndpointRow(
            event.spn_session_id,
            event.realm or "",
            event.spn_end_point,
            "provider" if event.end_point_type is EndPointType.PROVIDER else "consumer",
            event.service_urn,
            recorded.hub_id,
            address,
            since,
            "ended" if ended is not None else "open",
            0,
            0,
            ended,
        )
        self._known.move_to_end(key)
        if len(self._known) > KNOWN:
            self._known.popitem(last=False)

    def address(self, hub_id: str, session: str) -> str:
        """Where it came from; empty: not known."""
        known = self._known.get((hub_id, session))
        return "" if known is None else known.address

    def ended(self, time: int) -> list[EndpointRow]:
        """Those that were over at a moment (microseconds since 1970), the latest first."""
        return [one for one in reversed(self._known.values()) if one.ended is not None and one.ended <= time]


@dataclass(frozen=True, slots=True)
class _Moment:
    """What topics held."""

    time: int
    hubs: list[HubAt]
    rates: dict[str, FlowRates]


class _Log:
    """One log."""

    def __init__(self, hub: HubAt, *, of_journal: bool = False, flow: Flow | None = None) -> None:
        self.hub = hub
        self.of_journal = of_journal
        self.flow = flow or Flow()

    def take(self, recorded: Recorded) -> None:
        self.hub.take(recorded, NOW)
        self.flow.take(recorded)


class Live:
    """Follows sources.

    :param names: journal folders, and ``kafka://…`` topics.
    :param indexes: of journals.
    :param holding: what concerns incidents is held until :meth:`begin_with` says what was before.
    """

    def __init__(
        self, names: Sequence[str], indexes: Mapping[Path, JournalIndex] | None = None, *, holding: bool = False
    ) -> None:
        self.folders = [Path(name) for name in names if "://" not in name]
        self.topics = [name for name in names if "://" in name]
        self.directory = KnownSessions()
        self.incidents = IncidentHistory()
        self.events = 0
        """Events that were read."""
        self.first: int | None = None
        """Time of the first one, microseconds since 1970."""
        self.changed = asyncio.Event()
        """Set whenever something has come."""
        self.flow: dict[tuple[int, str], list[int]] = {}
        """By minute and realm: connections, ends by an error, bytes (:func:`add_flow`)."""
        self.begun: dict[Path, int] = {}
        """The first sequence that was read of each journal."""
        self._indexes = indexes or {}
        self._held: list[Recorded] | None = [] if holding else None
        self._moments: list[_Moment] = []
        self._apart = 1_000_000
        self._logs: dict[LogKey, _Log] = {}
        self._concerning: dict[LogKey, Concerning] = {}
        self._readers: list[JournalReader] = []
        self._begun = 0
        self._parts = len(self.folders) + bool(self.topics)

    @property
    def ready(self) -> bool:
        """Whether what was there at the start is taken in."""
        return self._begun >= self._parts

    async def until_ready(self) -> None:
        """Wait for that, while :meth:`run` does."""
        while not self.ready:
            self.changed.clear()
            await self.changed.wait()

    def seen(self, time: int, *, searching: bool = False) -> Seen:
        """What is known now.

        :param time: now, microseconds since 1970.
        :param searching: sessions that are over are asked for, too.
        """
        rates: dict[str, FlowRates] = {}
        for log in self._logs.values():
            for service, found in log.flow.rates(time).items():
                rates.setdefault(service, FlowRates()).add(found)
        hubs = [self._logs[key].hub for key in sorted(self._logs)]
        return Seen(
            time,
            hubs,
            rates,
            self.incidents.at(time),
            addresses={
                (hub.hub_id, name): address
                for hub in hubs
                for name in hub.state.sessions
                if (address := self.directory.address(hub.hub_id, name))
            },
            ended=self.directory.ended(time) if searching else (),
        )

    async def run(self) -> None:
        """Follow; ends with an error, or never.

        :raises JournalError: a journal can't be read.
        :raises SourceError: a topic can't be read.
        """
        jobs = [self._follow_journals()] if self.folders else []
        if self.topics:
            jobs.append(self._follow_topics())
        await run_together(jobs)

    async def _follow_journals(self) -> None:
        try:
            for folder in self.folders:
                await self._begin(folder)
                self._begun += 1
            while True:
                if not any([await self._read(reader) for reader in self._readers]):
                    await asyncio.sleep(_POLL)
        finally:
            for reader in self._readers:
                reader.close()

    async def _begin(self, folder: Path) -> None:
        """Read from the last state that is kept, else from the last segment whose snapshot, or beginning, says all."""
        load_identity(folder)
        kept = [first for first, _ in segments(folder)] or [1]
        begin = self._begin_at_mark(folder, kept[0])
        place, back = len(kept) - 1, 1
        while True:
            if begin is not None:
                log, reader = begin
            else:
                reader = JournalReader(folder, after=kept[place] - 1)
                hub = HubAt(reader.identity.hub_id, str(reader.identity.journal_id), kept[0])
                log = _Log(hub, of_journal=True)
            first = reader.last_sequence + 1
            held: list[Recorded] = []
            flow: dict[tuple[int, str], list[int]] = {}
            concerning = Concerning()
            while batch := reader.read():
                for _, recorded in batch:
                    log.take(recorded)
                    add_flow(flow, recorded)
                    if concerning.takes(recorded.event):
                        held.append(recorded)
                await asyncio.sleep(0)
            if log.hub.known or place == 0:
                break
            reader.close()
            place, back = max(0, place - back), back * 2
        key = reader.identity.hub_id, reader.identity.journal_id
        self._logs[key], self._concerning[key] = log, concerning
        self.begun[folder] = first
        for minute, numbers in flow.items():
            self.flow[minute] = [a + b for a, b in zip(self.flow.get(minute, (0, 0, 0)), numbers, strict=True)]
        self._readers.append(reader)
        for recorded in held:
            self._concern(recorded)
        self.events += log.hub.state.last_sequence - first + 1
        self.changed.set()

    def _begin_at_mark(self, folder: Path, first: int) -> tuple[_Log, JournalReader] | None:
        index = self._indexes.get(folder)
        found = None if index is None else index.mark(time=sys.maxsize)
        if index is None or found is None:
            return None
        segment, mark = found
        try:
            state = index.state(segment, mark)
            flow = index.flow_until(segment, mark, mark.time - SPAN * 1_000_000)
            reader = JournalReader(folder, after=mark.sequence, position=(segment.segment, mark.offset))
        except (IndexDamaged, FileNotFoundError):
            return None  # the snapshot says the same
        hub = HubAt(index.identity.hub_id, str(index.identity.journal_id), first, state, known=True)
        return _Log(hub, of_journal=True, flow=flow), reader

    async def _read(self, reader: JournalReader) -> bool:
        batch = reader.read()
        for _, recorded in batch:
            self._take(recorded)
        if batch:
            self.changed.set()
            await asyncio.sleep(0)
        return bool(batch)

    async def _follow_topics(self) -> None:
        async with AsyncExitStack() as stack:
            sources = [await stack.enter_async_context(open_source(name)) for name in self.topics]
            seen: dict[LogKey, Missing] = {}
            await self._take_all(merge(sources, seen=seen))
            self._begun += 1
            self.changed.set()
            await self._take_all(follow(sources, seen))

    async def _take_all(self, entries: AsyncIterator[tuple[bytes, Recorded]]) -> None:
        async for _, recorded in entries:
            self._take(recorded)
            self._keep_moment(recorded.timestamp)
            if self.events % _YIELD == 0:
                await asyncio.sleep(0)
            self.changed.set()

    def _take(self, recorded: Recorded) -> None:
        key = log_key(recorded)
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = _Log(HubAt(key[0], str(key[1]), recorded.sequence))
            self._concerning[key] = Concerning()
        log.take(recorded)
        add_flow(self.flow, recorded)
        if len(self.flow) > _MINUTES:
            del self.flow[min(self.flow)]
        self.events += 1
        self.first = recorded.timestamp if self.first is None else min(self.first, recorded.timestamp)
        if self._concerning[key].takes(recorded.event):
            self._concern(recorded)

    def begin_with(self, directory: KnownSessions, incidents: IncidentHistory) -> None:
        """What was before the first event that was read here; what was held follows it."""
        held, self._held = self._held or [], None
        self.directory, self.incidents = directory, incidents
        for recorded in held:
            self._concern(recorded)

    def topics_at(self, time: int) -> tuple[int, list[HubAt], dict[str, FlowRates]] | None:
        """What topics held at the last moment that is kept before ``time``: when that was, the hubs, the rates."""
        place = bisect.bisect_right(self._moments, time, key=lambda one: one.time)
        if not place:
            return None
        found = self._moments[place - 1]
        return found.time, found.hubs, found.rates

    def _keep_moment(self, time: int) -> None:
        if self._moments and time - self._moments[-1].time < self._apart:
            return
        journals = {key for key, log in self._logs.items() if log.of_journal}
        logs = [self._logs[key] for key in sorted(self._logs) if key not in journals]
        hubs = [replace(log.hub, state=log.hub.state.copy()) for log in logs]
        rates: dict[str, FlowRates] = {}
        for log in logs:
            for service, found in log.flow.rates(time).items():
                rates.setdefault(service, FlowRates()).add(found)
        self._moments.append(_Moment(time, hubs, rates))
        if len(self._moments) > _MOMENTS:
            # Half as many, twice as far apart: from the beginning on, evenly.
            del self._moments[1:-1:2]
            self._apart *= 2

    def _concern(self, recorded: Recorded) -> None:
        if self._held is not None:
            self._held.append(recorded)
        self.directory.take(recorded)
        self.incidents.take(recorded)
