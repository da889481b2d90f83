"""What a console knows: now, at any moment, and of one id. It joins what follows, what was, and what hubs say.

Counterparts: :mod:`spnhub.console.live`, :mod:`spnhub.console.past`, :mod:`spnhub.console.hubs`.
"""

from __future__ import annotations

import asyncio
import time as clock
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from spnhub.console.html import Frame
from spnhub.console.hubs import RunningHubs
from spnhub.console.live import KnownSessions, Live
from spnhub.console.page import Page, Seen, page_of
from spnhub.console.past import Past
from spnhub.console.story import Picture, picture_of
from spnhub.console.text import day_and_clock
from spnhub.console.together import run_together
from spnhub.dataclass import dataclass
from spnhub.events.analysis.explain import Search, Story
from spnhub.events.analysis.flow import FlowRates
from spnhub.events.analysis.incident_history import IncidentHistory
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.merge import merge
from spnhub.events.analysis.point_in_time import HubAt
from spnhub.events.analysis.segment_index import MinuteFlow
from spnhub.events.analysis.source import open_source
from spnhub.events.journal.reader import JournalPart
from spnhub.transport.system.loop import run as run_loop

__all__ = ["Sight", "UnknownStory"]

_PAGES: Final = 32
"""Seen moments that are kept."""
_FRESH: Final = 0.5
"""Seconds for which a page of now is shown again."""


_GONE: Final = " What was then is no longer kept, or not all of it."


class UnknownStory(Exception):
    """There is no such id, or not for this reader; the message says so."""


@dataclass(frozen=True, slots=True)
class _Then:
    """What logs tell of a moment."""

    time: int
    """Of topics the nearest that is kept, microseconds since 1970."""
    hubs: Sequence[HubAt]
    rates: Mapping[str, FlowRates]
    missing: Sequence[str]
    """Which logs no longer tell it."""


class Sight:
    """All of it.

    :param names: the sources.
    :param cache: folder of the journals' indexes.
    :raises JournalError: a folder is none of a journal.
    """

    def __init__(self, names: Sequence[str], cache: Path, hubs: RunningHubs) -> None:
        folders = [Path(name) for name in names if "://" not in name]
        self._names = names
        self._past = Past(folders, cache)
        self.live = Live(names, self._past.indexes, holding=True)
        self._hubs = hubs
        self._moments: OrderedDict[int, _Then] = OrderedDict()
        self._now: OrderedDict[tuple[str | None, str], tuple[float, Page]] = OrderedDict()
        self._reading = asyncio.Lock()
        self._telling = asyncio.Lock()
        self._earlier: list[MinuteFlow] = []
        self._whole = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether pages can be shown."""
        return self.live.ready

    @property
    def note(self) -> str:
        """What isn't complete yet."""
        notes = []
        if not self._whole.is_set():
            left = f": {self._past.missing:,} segments are left" if self._past.missing else ""
            notes.append(f"The past is being indexed{left}; incidents and sessions of before are missing.")
        notes += [f"The hub at {url} doesn't answer." for url in self._hubs.silent]
        return " ".join(notes)

    async def run(self) -> None:
        """Follow; ends with an error, or never."""
        indexed = asyncio.Event()
        # What has nothing to do, has ended.
        await run_together((self.live.run(), self._past.keep(indexed.set), self._hubs.ask(), self._complete(indexed)))

    async def _complete(self, indexed: asyncio.Event) -> None:
        """What was before the first event that is followed."""
        await indexed.wait()
        await self.live.until_ready()
        begun = dict(self.live.begun)

        def fold() -> tuple[KnownSessions, IncidentHistory, list[MinuteFlow]]:
            return *self._past.before(begun), list(self._past.flow(begun))

        directory, incidents, self._earlier = await asyncio.to_thread(fold)
        self.live.begin_with(directory, incidents)
        self._moments.clear()
        self._whole.set()

    def flow(self, scope: str | None) -> list[MinuteFlow]:
        """What flowed, by minute and realm."""
        live = (MinuteFlow(minute, realm, *numbers) for (minute, realm), numbers in self.live.flow.items())
        return [one for one in (*self._earlier, *live) if scope is None or one.realm == scope]

    async def page(self, at: int | None, scope: str | None, query: str) -> tuple[Page, Frame]:
        """The page of a moment (microseconds since 1970; None: now), and what is around it."""
        now = clock.time_ns() // 1000
        times = [one for one in (self._past.first, *(minute for minute, _ in self.live.flow)) if one is not None]
        first = min(times, default=now)
        missing: Sequence[str] = ()
        if at is None:
            page = self._page_now(now, scope, query)
        else:
            then = await self._then(at)
            page = page_of(self._seen(then, searching=bool(query)), scope, query)
            missing = then.missing
        note = self.note if scope is None else ""
        if at is not None and page.time != at:
            note += f" Of topics the nearest state that is kept is shown: of {day_and_clock(page.time)}."
        # What a log's hub is called is nothing for a tenant.
        note += (
            "".join(f" {text[0].upper()}{text[1:]}." for text in missing) if scope is None else _GONE * bool(missing)
        )
        text = None if at is None else format_time(at)
        return page, Frame(text, first, now, note.strip())

    def _page_now(self, now: int, scope: str | None, query: str) -> Page:
        key = scope, query
        made = self._now.get(key)
        if made is None or clock.monotonic() - made[0] > _FRESH:
            seen = self._hubs.completed(self.live.seen(now, searching=bool(query)))
            made = self._now[key] = clock.monotonic(), page_of(seen, scope, query)
            self._now.move_to_end(key)
            if len(self._now) > _PAGES:
                self._now.popitem(last=False)
        return made[1]

    async def _then(self, time: int) -> _Then:
        async with self._reading:
            found = self._moments.get(time)
            if found is None:
                found = await asyncio.to_thread(self._read, time)
                # What is still to come may be of that moment, too.
                if time < clock.time_ns() // 1000 - 5_000_000:
                    self._moments[time] = found
                    if len(self._moments) > _PAGES:
                        self._moments.popitem(last=False)
        return found

    def _seen(self, then: _Then, *, searching: bool) -> Seen:
        shown, hubs, rates = then.time, then.hubs, then.rates
        directory = self.live.directory
        seen = Seen(
            shown,
            hubs,
            rates,
            self.live.incidents.at(shown),
            addresses={
                (hub.hub_id, name): address
                for hub in hubs
                for name in hub.state.sessions
                if (address := directory.address(hub.hub_id, name))
            },
            ended=directory.ended(shown) if searching else (),
        )
        return self._hubs.completed(seen)

    def _read(self, time: int) -> _Then:
        hubs, flows, missing = self._past.at(time)
        rates: dict[str, FlowRates] = {}
        for flow in flows:
            for service, one in flow.rates(time).items():
                rates.setdefault(service, FlowRates()).add(one)
        shown = time
        if (topics := self.live.topics_at(time)) is not None:
            of_topics, more, further = topics
            hubs += more
            for service, one in further.items():
                rates.setdefault(service, FlowRates()).add(one)
            shown = time if self._past.indexes else of_topics
        elif self.live.topics:
            missing.append("the topics hold nothing of that time")
        return _Then(shown, hubs, rates, missing)

    async def story(self, name: str, scope: str | None) -> tuple[Picture, int]:
        """What happened to a session or conversation, and how many more legs have this name.

        :raises UnknownStory: nothing is called so, as far as this reader may know.
        """
        unknown = UnknownStory(f"Nothing is called {name}: no spnSessionId, connectionUid or spnConnectionId.")
        async with self._telling:
            stories, more = await asyncio.to_thread(lambda: run_loop(self._tell(name)))
        pictures = [picture_of(story) for story in stories]
        seen = [one for one in pictures if scope is None or one.realms == {scope}]
        if not seen:
            raise unknown
        return seen[0], more + len(seen) - 1 if scope is None else 0

    async def _tell(self, name: str) -> tuple[list[Story], int]:
        search = Search(name)
        for _ in range(2):
            keys, parts = search.keys(), self._parts(search)
            search = Search(name)
            async with AsyncExitStack() as stack:
                sources = [
                    await stack.enter_async_context(open_source(one, part=parts.get(one))) for one in self._names
                ]
                async for _, recorded in merge(sources):
                    search.take(recorded)
            if search.keys() <= keys:
                break
        if not search.found:
            return [], 0
        stories = search.stories()
        parts = self._parts(*stories)
        async with AsyncExitStack() as stack:
            sources = [await stack.enter_async_context(open_source(one, part=parts.get(one))) for one in self._names]
            async for _, recorded in merge(sources):
                for story in stories:
                    story.take(recorded)
        return stories, search.more

    def _parts(self, *wanted: Search | Story) -> dict[str, JournalPart]:
        return {str(folder): index.part(*wanted) for folder, index in self._past.indexes.items()}
