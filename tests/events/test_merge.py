"""Order over several logs (D-11), and following them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spnhub.events.analysis.merge import Entry, LogKey, Missing, follow, merge
from spnhub.events.analysis.source import open_source
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.reader import JournalSource
from spnhub.events.model import Event, Recorded
from spnhub.events.source import SourceError
from tests.events import samples
from tests.events.samples import NOON, day, record, write_journal
from tests.events.test_verify import ListSource


async def merged(*logs: list[Recorded]) -> list[Recorded]:
    return [recorded async for _, recorded in merge([ListSource(log) for log in logs])]


async def test_across_hubs_by_time() -> None:
    """Two hubs' events interleave by their times."""
    one = record([samples.session_refused()] * 5, step=1000)
    two = record([samples.session_refused()] * 5, step=1000, start=NOON + 500, hub_id="hub-2")
    both = [recorded for pair in zip(one, two, strict=True) for recorded in pair]
    assert await merged(one, two) == both
    assert await merged(two, one) == both


async def test_within_a_hub_by_sequence() -> None:
    """A clock that was set back changes no order within a hub."""
    times = [0, 5000, 1000, 2000, 6000]
    one = [
        Recorded("hub-1", samples.JOURNAL_ID, n + 1, NOON + t, samples.session_refused()) for n, t in enumerate(times)
    ]
    two = record([samples.session_refused()] * 3, start=NOON + 2500, step=3000, hub_id="hub-2")
    found = await merged(one, two)
    assert [(r.hub_id, r.sequence) for r in found] == [
        ("hub-1", 1),
        ("hub-2", 1),
        ("hub-1", 2),
        ("hub-1", 3),
        ("hub-1", 4),
        ("hub-2", 2),
        ("hub-1", 5),
        ("hub-2", 3),
    ]


async def test_what_is_there_twice_is_shown_once() -> None:
    """The same journal from two places, and a redelivery within one."""
    log = record(day())
    assert await merged(log, log) == log
    assert await merged(log[:5] + log[2:], log[4:]) == log


def paused_and_resumed(skew: int) -> tuple[list[Recorded], list[Recorded]]:
    """A conversation that goes from one hub to another whose clock differs by ``skew`` µs."""
    one: list[Event] = [
        samples.session_refused(),
        samples.connection_started(),
        samples.connection_ended(suspended=True),
    ]
    two: list[Event] = [samples.session_refused(), samples.connection_started(epoch=1), samples.session_refused()]
    return record(one, step=100_000), record(two, start=NOON + 300_000 - skew, hub_id="hub-2", journal_id=UUID(int=2))


@pytest.mark.parametrize("skew", [0, 250_000, 5_000_000])
async def test_within_a_conversation_by_epoch(skew: int) -> None:
    """The later epoch's start comes after the earlier one's end, and its hub's later events after that."""
    one, two = paused_and_resumed(skew)
    found = await merged(one, two)
    assert sorted(found, key=lambda r: (r.hub_id, r.sequence)) == one + two
    assert found.index(one[2]) < found.index(two[1]) < found.index(two[2])


async def test_an_earlier_epoch_that_is_not_in_the_log_is_not_waited_for_long() -> None:
    """The other hub's log isn't at hand: after the clocks' skew the events are shown in order of time."""
    lonely = record([samples.connection_started(epoch=1), samples.session_refused()])
    other = record([samples.session_refused()] * 3, step=11_000_000, hub_id="hub-2", start=NOON + 1)
    assert await merged(lonely, other) == [other[0], lonely[0], lonely[1], other[1], other[2]]
    assert await merged(lonely) == lonely


@given(st.lists(st.integers(1, 30), max_size=60))
def test_missing_knows_what_was_seen(sequences: list[int]) -> None:
    """It agrees with a plain set, whatever the order."""
    missing = Missing()
    seen: set[int] = set()
    for sequence in sequences:
        assert missing.see(sequence) == (sequence not in seen)
        seen.add(sequence)
    gaps = {number for first, last in missing.ranges for number in range(first, last + 1)}
    assert gaps == set(range(1, max(seen, default=0) + 1)) - seen


class Following:
    """Collects what is followed, in a task."""

    def __init__(self, *sources: JournalSource, seen: dict[LogKey, Missing] | None = None) -> None:
        self.found: asyncio.Queue[Entry] = asyncio.Queue()
        self._seen = seen
        self._task = asyncio.create_task(self._run(sources))

    async def _run(self, sources: tuple[JournalSource, ...]) -> None:
        async for entry in follow(sources, self._seen):
            self.found.put_nowait(entry)

    async def next(self) -> Recorded:
        return (await asyncio.wait_for(self.found.get(), 10))[1]

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_following_a_live_journal(tmp_path: Path) -> None:
    """What is written is seen soon, also over segment borders, while the loop runs on."""
    with Journal.open(tmp_path, "hub-1", segment_size=500) as journal:
        async with JournalSource(tmp_path) as source:
            following = Following(source)
            for _ in range(10):
                recorded = journal.append(samples.session_refused(), NOON)
                assert journal.flush(10)
                while (found := await following.next()) != recorded:
                    assert not samples.happened([found])
            await following.stop()


async def test_following_several_journals_after_merging(tmp_path: Path) -> None:
    """First what is there, then what comes; nothing twice."""
    async with AsyncExitStack() as stack:
        journals = [stack.enter_context(Journal.open(tmp_path / name, name)) for name in ("hub-1", "hub-2")]
        first = [journal.append(samples.session_refused(), NOON + n) for n, journal in enumerate(journals)]
        assert all(journal.flush(10) for journal in journals)
        sources = [await stack.enter_async_context(JournalSource(tmp_path / name)) for name in ("hub-1", "hub-2")]
        seen: dict[LogKey, Missing] = {}
        assert [recorded async for _, recorded in merge(sources, seen=seen)] == first
        following = Following(*sources, seen=seen)
        second = [journal.append(samples.session_refused(), NOON + 9 - n) for n, journal in enumerate(journals)]
        assert all(journal.flush(10) for journal in journals)
        assert {(await following.next()).hub_id for _ in second} == {"hub-1", "hub-2"}
        assert following.found.empty()
        await following.stop()


async def test_a_damaged_journal_ends_the_following(tmp_path: Path) -> None:
    """The failure is raised, not waited over."""
    write_journal(tmp_path / "one", day())
    write_journal(tmp_path / "two", day(), hub_id="hub-2")
    (path,) = (tmp_path / "two").glob("*.segment")
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(data)
    async with JournalSource(tmp_path / "one") as one, JournalSource(tmp_path / "two") as two:
        with pytest.raises(Exception, match=f"{path} is damaged"):
            async for _ in follow([one, two]):
                pass


@pytest.mark.parametrize(
    "text", ["/no/such/folder", "http://localhost/x", "kafka://", "kafka://host", "kafka://host:1/", "kafka://h:1/a/b"]
)
def test_what_is_no_source(text: str) -> None:
    """Each is refused by name."""
    with pytest.raises(SourceError, match=text):
        open_source(text)
