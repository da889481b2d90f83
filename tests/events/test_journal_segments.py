"""Segments: each begins with a snapshot, old ones go, and what nobody has seen is declared before it goes (D-8)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from spnhub.events.analysis.source import open_source
from spnhub.events.analysis.verify import VerifyResult, verify
from spnhub.events.journal import sequences as journal_sequences
from spnhub.events.journal.files import segments
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.retention import AgeClock
from spnhub.events.journal.segments import SLICE
from spnhub.events.journal.shipped_position import Position, PositionFile
from spnhub.events.model import EndPointType, EventsLost, Recorded, SnapshotStarted
from spnhub.events.state.hub_state import HubState
from tests.events.samples import (
    EACH,
    NOON,
    connection_started,
    happened,
    session_ended,
    session_refused,
    session_started,
)
from tests.events.test_journal import read

TOPIC = "spn.events"


async def verified(folder: Path) -> VerifyResult:
    """The verdict on a journal folder."""
    async with open_source(str(folder)) as source:
        return await verify([source])


def fill(journal: Journal, count: int) -> list[Recorded]:
    """Events that leave nothing open, each in a batch of its own, and written."""
    made = []
    for _ in range(count):
        made.append(journal.append(replace(session_refused(), realm="acme"), NOON + journal.appended))
        assert journal.flush(10)
    return made


def open_things(journal: Journal, count: int) -> None:
    """A hub's day in full swing."""
    for event in (EACH[10], EACH[13], EACH[16], EACH[20]):
        journal.append(event, NOON)
    journal.append(session_started("p1", EndPointType.PROVIDER), NOON)
    for number in range(count):
        journal.append(session_started(f"c{number}"), NOON + number)
        journal.append(connection_started(f"{number:032x}", ident=f"0-{number}", consumer=f"c{number}"), NOON + number)
    assert journal.flush(10)


def in_snapshot(journal: Journal) -> bool:
    """Whether one is under way."""
    return journal.state.in_snapshot


def folded(records: list[Recorded]) -> HubState:
    """And without a complaint."""
    state = HubState()
    assert state.apply_all(records) == []
    return state


async def test_every_segment_tells_what_is_open(tmp_path: Path) -> None:
    """From any segment on the fold ends in the same state; verify finds nothing to complain of."""
    with Journal.open(tmp_path, "hub-1", segment_size=4000) as journal:
        open_things(journal, 30)
        fill(journal, 120)
        whole = journal.state.copy()
    known = segments(tmp_path)
    assert len(known) > 4
    for first, _ in known[1:-1]:
        records = read(tmp_path, after=first - 1)
        assert isinstance(records[0].event, SnapshotStarted)
        state = folded(records)
        assert (state, state.exact) == (whole, True)
    assert len(whole.sessions) == 31
    assert len(whole.definitions.names()) == 4
    result = await verified(tmp_path)
    assert result.clean, result.render()


def test_a_large_snapshot_comes_in_slices(tmp_path: Path) -> None:
    """No batch holds more than a slice of it, other events come in between, and the sequence has no hole."""
    batches: list[list[Recorded]] = []
    with Journal.open(tmp_path, "hub-1", segment_size=900_000, on_written=lambda b: batches.append(list(b))) as journal:
        open_things(journal, 1500)
        assert segments(tmp_path)[-1][0] == 1
        batches.clear()
        journal.append(session_ended("c0", count=1), NOON)
        journal.commit()
        in_between = 0
        while len(segments(tmp_path)) < 2 or journal.state.in_snapshot:
            journal.append(session_refused(), NOON)
            in_between += 1
            assert journal.flush(10)
        whole = journal.state.copy()
    sizes = [len(batch) - len(happened(batch)) for batch in batches]
    assert max(sizes) == SLICE
    assert sum(sizes) > 3000
    sequences = [recorded.sequence for batch in batches for recorded in batch]
    assert sequences == list(range(sequences[0], sequences[0] + len(sequences)))
    assert folded(read(tmp_path)) == whole
    assert folded(read(tmp_path, after=segments(tmp_path)[1][0] - 1)) == whole


def test_a_snapshot_that_broke_off_begins_anew(tmp_path: Path) -> None:
    """Killed in the middle of it, the next start takes another, and until then nothing older goes."""
    with Journal.open(tmp_path, "hub-1", segment_size=100_000) as journal:
        open_things(journal, 500)
        journal.append(session_refused(), NOON)
        journal.commit()
        journal.close()  # whatever was under way, no slice comes any more
        assert journal.state.in_snapshot
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=1)) as journal:
        assert in_snapshot(journal)
        fill(journal, 2)
        assert not in_snapshot(journal)
        fill(journal, 1)
        whole = journal.state.copy()
    (first, _), *_ = segments(tmp_path)
    assert first > 1
    assert folded(read(tmp_path)) == whole


async def test_the_size_bound(tmp_path: Path) -> None:
    """Without a topic old segments just go, and what is left is a whole log with a missing head."""
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=40_000)) as journal:
        open_things(journal, 5)
        for _ in range(400):
            fill(journal, 1)
            with contextlib.suppress(FileNotFoundError):  # one was deleted between the two looks
                assert sum(path.stat().st_size for _, path in segments(tmp_path)) < 50_000
        assert journal.size < 50_000
        whole = journal.state.copy()
    assert segments(tmp_path)[0][0] > 1
    records = read(tmp_path)
    assert not any(isinstance(recorded.event, EventsLost) for recorded in records)
    assert folded(records) == whole
    result = await verified(tmp_path)
    assert result.clean, result.render()
    assert result.logs[0].missing_head


def test_the_age_bound(tmp_path: Path) -> None:
    """Segments whose last event is too old go, and a segment ends early enough for that."""
    now = NOON

    def clock() -> int:
        return now

    with Journal.open(tmp_path, "hub-1", options=JournalOptions(age=800.0), clock=clock) as journal:
        for _ in range(20):
            now += 101_000_000
            fill(journal, 2)
            _, newest = segments(tmp_path)[-1]
            os.utime(newest, (now / 1e6, now / 1e6))
    known = segments(tmp_path)
    assert 8 <= len(known) <= 10
    assert known[0][0] > 1


def test_a_clock_that_is_wrong_for_a_while_deletes_nothing(tmp_path: Path) -> None:
    """Set 20 days ahead, what is younger than that stays; set back, too. After a day the clock is believed."""
    now = NOON

    def clock() -> int:
        return now

    with Journal.open(tmp_path, "hub-1", options=JournalOptions(age=7 * 86_400.0), clock=clock) as journal:
        for step in (0, 20, 0, -20, 0):
            now = NOON + step * 86_400_000_000
            for _ in range(4):
                fill(journal, 10)
    assert read(tmp_path)[0].sequence == 1
    age = AgeClock(0.0, 100.0)
    assert [age(seconds, 100.0 + seconds) for seconds in (1.0, 50.0)] == [1.0, 50.0]
    days = 20 * 86_400.0
    assert [age(days + later, 100.0 + later) for later in (60.0, 86_000.0)] == [60.0, 86_000.0]
    assert age(days + 87_000.0, 100.0 + 87_000.0) == days + 87_000.0
    assert age(88_000.0, 100.0 + 88_000.0) == 88_000.0


def ship(folder: Path, journal: Journal, sequence: int) -> None:
    """As if so much had been shipped."""
    PositionFile(folder, TOPIC).save(Position(str(journal.journal_id), sequence=sequence))


async def test_what_is_not_shipped_stays_until_the_size_bound(tmp_path: Path) -> None:
    """Age doesn't delete it; size does, after an event that says what nobody will have seen."""

    def clock() -> int:
        return time.time_ns() // 1000 + 10_000_000_000

    bounds = JournalOptions(size=40_000, age=1000.0, topic=TOPIC)
    seen: list[Recorded] = []
    with Journal.open(tmp_path, "hub-1", options=bounds, clock=clock, on_written=seen.extend) as journal:
        ship(tmp_path, journal, 20)
        fill(journal, 100)
        assert segments(tmp_path)[0][0] == 1
        while segments(tmp_path)[0][0] == 1:
            fill(journal, 1)
        (declared,) = [r for r in seen if isinstance(r.event, EventsLost)]
        event = declared.event
        assert isinstance(event, EventsLost)
        assert (event.first_sequence, event.last_sequence) == (21, segments(tmp_path)[0][0] - 1)
        assert event.count == event.last_sequence - 20
        assert event.first_timestamp <= event.last_timestamp
        assert event.reason == "the journal is full and they are not shipped to spn.events"
        assert journal.state.lost == event.count
        # Shipped now: it may go by age, and there is nothing to declare.
        ship(tmp_path, journal, journal.appended)
        before = len(segments(tmp_path))
        fill(journal, 60)
        assert len(segments(tmp_path)) < before
        assert len([r for r in seen if isinstance(r.event, EventsLost)]) == 1


def test_a_power_failure_makes_no_number_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine went down with a part of the log: what its numbers were is left out, and declared."""
    boot = tmp_path / "boot_id"
    boot.write_text("one")
    monkeypatch.setattr(journal_sequences, "BOOT_ID", boot)
    folder = tmp_path / "j"
    with Journal.open(folder, "hub-1") as journal:
        fill(journal, 3)
        _, path = segments(folder)[0]
        reached = path.stat().st_size
        fill(journal, 9000)
        reservation = (folder / "sequences.json").read_text()
    (folder / "sequences.json").write_text(reservation)
    os.truncate(path, reached)
    boot.write_text("two")
    with Journal.open(folder, "hub-1") as journal:
        assert journal.lost == journal.appended - 4
        (again,) = fill(journal, 1)
        whole = journal.state.copy()
    *_, declared = happened(read(folder))[:4]
    event = declared.event
    assert isinstance(event, EventsLost)
    assert event.first_sequence == 4
    assert 9003 <= event.last_sequence == declared.sequence - 1 <= 9003 + 2 * journal_sequences.BLOCK
    assert again.sequence > declared.sequence
    assert folded(read(folder)) == whole


def test_a_process_that_was_killed_leaves_no_number_out(tmp_path: Path) -> None:
    """While the machine goes on, the page cache has everything that was ever seen."""
    with Journal.open(tmp_path, "hub-1") as journal:
        fill(journal, 3)
        reservation = (tmp_path / "sequences.json").read_text()
    (tmp_path / "sequences.json").write_text(reservation)
    with Journal.open(tmp_path, "hub-1") as journal:
        assert (journal.appended, journal.lost) == (3, 0)


def test_a_batch_may_have_to_be_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an interval of 0 nothing counts as written before it is synced (D-6)."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(_descriptor: int) -> None:
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(os, "fdatasync", slow)
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(sync_interval=0)) as journal:
        journal.append(session_refused(), NOON)
        journal.commit()
        assert begun.wait(10)
        assert not journal.flush(0)
        assert len(read(tmp_path)) == 1
        go_on.set()
        assert journal.flush(10)
