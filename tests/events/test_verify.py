"""D-9 case by case: what is a fault, and what is none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

import pytest

from spnhub.events import model
from spnhub.events.analysis.merge import merge
from spnhub.events.analysis.source import open_source
from spnhub.events.analysis.verify import Gap, VerifyResult, verify
from spnhub.events.journal.files import segments
from spnhub.events.model import DisconnectReason, EndPointType, Event, Recorded
from tests.events import samples
from tests.events.samples import NOON, day, record, write_journal


class ListSource:
    """A topic, as far as its readers can tell: events in the order given."""

    name = "a list"

    def __init__(self, events: Iterable[Recorded]) -> None:
        self.entries = [(model.encode(recorded), recorded) for recorded in events]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    async def records(self, *, follow: bool) -> AsyncIterator[tuple[bytes, Recorded]]:
        for entry in self.entries:
            yield entry


async def judge(*logs: Sequence[Recorded]) -> VerifyResult:
    return await verify([ListSource(log) for log in logs])


async def kinds(*logs: Sequence[Recorded]) -> list[str]:
    return [fault.kind for fault in (await judge(*logs)).faults]


async def test_a_whole_log_is_clean() -> None:
    """And its report says what is in it."""
    result = await judge(record(day()))
    (log,) = result.logs
    assert (result.clean, log.events, log.first_sequence, log.last_sequence) == (True, 8, 1, 8)
    assert (log.redelivered, log.gaps, log.missing_head, log.open_sessions) == (0, (), False, ())


async def test_an_empty_log_is_clean() -> None:
    """Nothing has happened yet."""
    assert (await judge([])).to_json() == {"clean": True, "faultCount": 0, "faults": [], "warnings": [], "logs": []}


async def test_redelivery_is_counted_and_clean() -> None:
    """The same event again, in one source or in two."""
    log = record(day())
    result = await judge(log[:5] + log[3:])
    assert (result.clean, result.logs[0].redelivered, result.logs[0].events) == (True, 2, 8)
    result = await judge(log, log)
    assert (result.clean, result.logs[0].redelivered, result.logs[0].events) == (True, 8, 8)


async def test_another_schema_id_is_still_a_redelivery() -> None:
    """A registry gives other ids to the same schemas; the datum counts."""
    source = ListSource(record(day()))
    other = ListSource(record(day()))
    other.entries = [(b"\0\0\0\1\xff" + frame[5:], recorded) for frame, recorded in other.entries]
    result = await verify([source, other])
    assert (result.clean, result.logs[0].redelivered) == (True, 8)


async def test_the_same_sequence_with_other_content_is_a_fault() -> None:
    """Two truths about one moment."""
    log = record(day())
    other = replace(log[6], timestamp=log[6].timestamp + 1)
    result = await judge([*log, other])
    assert [(fault.kind, fault.sequence) for fault in result.faults] == [("otherContent", 7)]


async def test_an_undeclared_gap_is_a_fault() -> None:
    """Once, with its span; what it explains is not a second fault."""
    log = record(day())
    result = await judge([*log[:2], *log[4:]])
    assert [fault.message for fault in result.faults] == [
        f"hub hub-1, journal {samples.JOURNAL_ID}: sequences 3 to 4 are missing, and nothing declares it"
    ]
    assert result.logs[0].excused == 3


async def test_a_declared_gap_is_shown_and_none() -> None:
    """Also when the declaration comes later than what follows the gap; a part that it doesn't cover is a fault."""
    events = [samples.session_refused()] * 10
    log = record([*events, samples.events_lost(4, 6)])
    result = await judge([*log[:3], *log[6:]])
    assert (result.clean, result.logs[0].gaps) == (True, (Gap(4, 6, declared=True),))
    result = await judge([*log[:2], *log[7:]])
    assert result.logs[0].gaps == (
        Gap(3, 3, declared=False),
        Gap(4, 6, declared=True),
        Gap(7, 7, declared=False),
    )
    assert [(fault.kind, fault.sequence) for fault in result.faults] == [("gap", 3), ("gap", 7)]


async def test_a_missing_head_is_no_fault() -> None:
    """Retention takes the oldest; what began there ends without a start."""
    log = record(day())
    for missing in range(1, 8):
        result = await judge(log[missing:])
        assert result.clean, result.render()
        assert (result.logs[0].missing_head, result.logs[0].first_sequence) == (True, missing + 1)


async def test_an_end_without_a_start_that_must_have_been_seen_is_a_fault() -> None:
    """A missing head excuses only what began there, by its elapsedTime."""
    late = record([samples.session_refused()], first=100)
    late += record([samples.session_ended("c1", elapsed=5.0)], first=101, start=NOON + 60_000_000)
    assert await kinds(late) == ["endWithoutStart"]


def offered(*, rejected: bool = True) -> list[Event]:
    """An opening that two providers were asked to take."""
    sessions = [samples.session_started(name, EndPointType.PROVIDER) for name in ("p1", "p2")]
    return [
        *sessions,
        samples.session_started("c1"),
        samples.connection_started(ident="4-1"),
        samples.connection_ended(ident="4-1", total=(0, 0), reason=DisconnectReason.ERROR, rejected=rejected),
        samples.connection_started(ident="4-5", provider="p2"),
        samples.connection_ended(ident="4-5", provider="p2"),
        samples.session_ended("c1", count=2),
        samples.session_ended("p1", EndPointType.PROVIDER, count=1),
        samples.session_ended("p2", EndPointType.PROVIDER, count=1),
    ]


async def test_an_opening_that_goes_from_provider_to_provider() -> None:
    """Its legs are of one epoch, as long as the earlier ones say that they were rejected (D-35)."""
    assert (await judge(record(offered()))).clean
    assert await kinds(record(offered(rejected=False))) == ["epochOrder"]


async def test_open_things_at_the_end_are_no_fault() -> None:
    """A live hub has some; they are listed."""
    result = await judge(record(day()[:3]))
    (log,) = result.logs
    assert (result.clean, log.open_sessions, log.open_connections) == (True, ("p1", "c1"), ("c1 p1 4-1",))


async def test_faults_of_the_fold() -> None:
    """Starts and ends that don't fit each other."""
    events = day()
    assert await kinds(record([*events[:2], events[1], *events[2:]])) == ["doubleStart"]
    twice = ["doubleStart", "epochOrder", "wrongCount", "wrongCount"]
    assert await kinds(record([*events[:3], *events[2:]])) == twice
    assert await kinds(record(events[:2] + events[3:])) == ["endWithoutStart", "wrongCount", "wrongCount"]
    assert await kinds(record(events[1:])) == ["unknownSession", "endWithoutStart"]


def long_day() -> list[Event]:
    """A day whose connection tells twice of its bytes before its end."""
    told = [samples.connection_progress(), samples.connection_progress(total=(60, 1600), delta=(0, 100))]
    events = day()
    events[4] = samples.connection_ended(told=(60, 1600))
    return [*events[:3], *told, *events[3:]]


async def test_deltas_that_add_up_are_clean() -> None:
    """Also without the progress that a missing head has taken."""
    assert await kinds(record(long_day())) == []
    assert await kinds(record(long_day())[4:]) == []


@pytest.mark.parametrize("place", [3, 4, 6])
async def test_deltas_that_do_not_add_up_are_a_fault(place: int) -> None:
    """Those of a progress and those of an end."""
    events = long_day()
    event = events[place]
    assert isinstance(event, model.ConnectionProgress | model.ConnectionEnded)
    events[place] = replace(event, delta_receive_bytes=event.delta_receive_bytes + 1)
    assert await kinds(record(events)) == ["wrongBytes"]


async def test_progress_of_nothing_is_a_fault() -> None:
    """It names a leg that isn't open."""
    events = day()
    assert await kinds(record([*events[:2], samples.connection_progress(), *events[2:]])) == ["unknownLeg"]


async def test_a_gap_explains_bytes_that_were_told_unseen() -> None:
    """What the lost progress told isn't told again by the end."""
    log = record(long_day())
    result = await judge([*log[:3], replace(log[4], event=samples.events_lost(4, 4)), *log[5:]])
    assert (result.faults, result.logs[0].excused) == ((), 1)


async def test_a_connection_that_outlives_its_session_is_a_fault() -> None:
    """A start without an end, though its session has one."""
    events = day()
    result = await judge(record(events[:4] + events[5:]))
    assert [fault.kind for fault in result.faults] == ["startWithoutEnd"]


def legs(
    *, second: int = 1, start: tuple[int, int] = (100, 2000), planned: bool = True
) -> tuple[list[Event], list[Event]]:
    """A conversation that is paused on one hub and goes on at another."""

    def hub(*events: Event) -> list[Event]:
        return [samples.session_started("p1", EndPointType.PROVIDER), samples.session_started("c1"), *events]

    paused = samples.connection_paused(planned=planned)
    end = samples.connection_ended(reason=DisconnectReason.CLOSED, suspended=True)
    one = hub(samples.connection_started(), paused, end)
    two = hub(
        samples.connection_started(epoch=second, start=start), samples.connection_ended(epoch=second, start=start)
    )
    return one, two


def two_hubs(one: list[Event], two: list[Event], offset: int = 10_000) -> tuple[list[Recorded], list[Recorded]]:
    return record(one), record(two, hub_id="hub-2", journal_id=UUID(int=2), start=NOON + offset)


async def test_conversations_across_hubs() -> None:
    """Epochs strictly increase; after a planned pause the offsets go on where they were, after an unplanned end not."""
    assert await kinds(*two_hubs(*legs())) == []
    assert await kinds(*two_hubs(*legs(second=3))) == []
    assert await kinds(*two_hubs(*legs(second=0))) == ["epochOrder"]
    assert await kinds(*two_hubs(*legs(start=(100, 1999)))) == ["offsets"]
    assert await kinds(*two_hubs(*legs(start=(90, 2100), planned=False))) == []


async def test_clocks_that_differ_are_no_fault() -> None:
    """The second hub's clock is behind: its leg seems to start before the first has ended."""
    one, two = two_hubs(*legs(), offset=-3_000_000)
    assert await kinds(one, two) == []
    merged = [recorded async for _, recorded in merge([ListSource(one), ListSource(two)])]
    epochs = [recorded.event.epoch for recorded in merged if isinstance(recorded.event, model.ConnectionStarted)]
    assert epochs == [0, 1]


async def test_damage_is_a_fault_and_the_other_sources_are_judged(tmp_path: Path) -> None:
    """File and offset are named; a torn tail is none."""
    write_journal(tmp_path / "good", day())
    write_journal(tmp_path / "bad", day(), hub_id="hub-2")
    write_journal(tmp_path / "torn", [samples.session_refused()] * 8, hub_id="hub-3")
    ((_, bad),) = segments(tmp_path / "bad")
    data = bytearray(bad.read_bytes())
    data[300] ^= 1
    bad.write_bytes(data)
    ((_, torn),) = segments(tmp_path / "torn")
    torn.write_bytes(torn.read_bytes()[:-3])
    sources = [open_source(str(tmp_path / name)) for name in ("good", "bad", "torn")]
    for source in sources:
        await source.__aenter__()
    result = await verify(sources)
    for source in sources:
        await source.__aexit__(None, None, None)
    (fault,) = result.faults
    assert fault.kind == "damaged"
    assert fault.message.startswith(f"{bad} is damaged at byte ")
    assert [(log.hub_id, log.events) for log in result.logs] == [("hub-1", 8), ("hub-2", 1), ("hub-3", 7)]


@pytest.mark.parametrize("broken", [False, True])
async def test_the_verdict_in_words_and_for_programs(broken: bool) -> None:
    """Both say the same."""
    log = record(day())
    result = await judge([log[0], *log[2:]] if broken else log)
    lines = result.render()
    shown = result.to_json()
    assert lines[-1] == ("1 faults" if broken else "clean")
    assert (shown["clean"], shown["faultCount"], len(shown["faults"])) == (not broken, int(broken), int(broken))
    assert shown["logs"][0]["gaps"] == ([{"first": 2, "last": 2, "declared": False}] if broken else [])
