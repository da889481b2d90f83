"""When a journal is full, who has most of it goes first: no realm takes another's history (D-8)."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from spnhub.events.journal import retention
from spnhub.events.journal.files import segments
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.reader import JournalReader
from spnhub.events.journal.shares import equal_part
from spnhub.events.journal.shipped_position import Position, PositionFile
from spnhub.events.model import Event, EventsLost, EventsTrimmed, Recorded, SessionRefused
from tests.events.samples import NOON, session_refused
from tests.events.test_journal import read
from tests.events.test_journal_segments import folded, open_things, verified

ROOM = 60_000
BOUND = ROOM + 2 * ROOM // 8
"""With the segment that is being written, and the one before it."""


def refused(realm: str, reason: str = "") -> SessionRefused:
    """Something that happened in a realm, and leaves nothing open."""
    return replace(session_refused(), realm=realm, reason=reason)


def write(journal: Journal, *events: Event) -> None:
    """Each in a batch of its own, and written."""
    for event in events:
        journal.append(event, NOON + journal.appended)
        assert journal.flush(10)


def settled(journal: Journal) -> None:
    """Write on until what has to go is gone: that is done beside the writing, and may be late."""
    end = time.monotonic() + 60
    while retention.journal_size(journal.folder) > BOUND:
        assert time.monotonic() < end
        write(journal, refused("loud"))


def of(records: list[Recorded], realm: str) -> list[str]:
    """The reasons of what was refused in a realm."""
    return [one.event.reason for one in records if isinstance(one.event, SessionRefused) and one.event.realm == realm]


@pytest.mark.parametrize(
    ("sizes", "room", "part"),
    [
        ([], 10, 0),
        ([3], 10, 3),
        ([30], 10, 10),
        ([5, 30], 20, 15),
        ([30, 30, 30], 30, 10),
        ([1, 2, 100, 200], 103, 50),
        ([4, 4], 0, 0),
    ],
)
def test_an_equal_part_of_what_the_others_leave(sizes: list[int], room: int, part: int) -> None:
    """All together have no more than the room, and who has less than the part is left alone."""
    assert equal_part(sizes, room) == part
    assert sum(min(size, part) for size in sizes) <= room


async def test_a_flood_of_one_realm_takes_no_others_history(tmp_path: Path) -> None:
    """Many times the journal's size, and the other realm has each of its events; the log says what is missing."""
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=ROOM)) as journal:
        open_things(journal, 3)
        for number in range(40):
            write(journal, refused("quiet", str(number)), *[refused("loud", "x" * 100)] * 20)
        settled(journal)
        assert retention.journal_size(tmp_path) <= BOUND
    records = read(tmp_path)
    assert of(records, "quiet") == [str(number) for number in range(40)]
    assert 40 < len(of(records, "loud")) < 400
    trimmed = [one.event for one in records if isinstance(one.event, EventsTrimmed)]
    assert trimmed
    assert {realm for event in trimmed for realm in event.trimmed_realms} == {"loud"}
    result = await verified(tmp_path)
    assert result.clean, result.render()
    assert result.logs[0].trimmed > 300
    assert any("more than their share" in line for line in result.render())
    # What is left of each is together in few files.
    assert len(segments(tmp_path)) < 20


def test_another_process_goes_on_with_it(tmp_path: Path) -> None:
    """Also where its predecessor counted, or had no time to."""
    for run in range(4):
        with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=ROOM)) as journal:
            for number in range(10):
                write(journal, refused("quiet", f"{run}-{number}"), *[refused("loud", "x" * 100)] * 20)
            whole = journal.state.copy()
        for path in list(tmp_path.glob("*.realms"))[:: run + 1]:
            path.unlink()
    assert of(read(tmp_path), "quiet") == [f"{run}-{number}" for run in range(4) for number in range(10)]
    assert folded(read(tmp_path)) == whole


def test_what_a_realm_does_not_need_is_the_others(tmp_path: Path) -> None:
    """One realm alone has all of the room. Its oldest events go first, in whole segments: nothing is declared."""
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=ROOM)) as journal:
        write(journal, *[refused("acme", "x" * 100)] * 1000)
        settled(journal)
        assert retention.journal_size(tmp_path) > ROOM // 2
    records = read(tmp_path)
    assert not [one for one in records if isinstance(one.event, EventsTrimmed | EventsLost)]
    sequences = [one.sequence for one in records]
    assert sequences == list(range(sequences[0], sequences[-1] + 1))


async def test_a_reader_misses_nothing_of_what_is_kept(tmp_path: Path) -> None:
    """One that stands in a segment which is trimmed and joined reads on in what has become of it."""
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=ROOM)) as journal:
        write(journal, refused("quiet", "first"))
        with JournalReader(tmp_path) as reader:
            seen = [recorded for _, recorded in reader.read()]
            for number in range(40):
                write(journal, refused("quiet", str(number)), *[refused("loud", "x" * 100)] * 20)
            settled(journal)
            while batch := reader.read():
                seen += [recorded for _, recorded in batch]
        assert of(seen, "quiet") == ["first", *map(str, range(40))]


async def test_what_is_not_shipped_is_declared(tmp_path: Path) -> None:
    """As lost, since nobody has it, with the number of events; the other realm's unshipped events stay."""
    options = JournalOptions(size=ROOM, topic="spn.events")
    with Journal.open(tmp_path, "hub-1", options=options) as journal:
        position = Position(str(journal.journal_id), sequence=1)
        PositionFile(tmp_path, "spn.events").save(position)
        for number in range(40):
            write(journal, refused("quiet", str(number)), *[refused("loud", "x" * 100)] * 20)
        settled(journal)
    records = read(tmp_path)
    assert of(records, "quiet") == [str(number) for number in range(40)]
    lost = sum(one.event.count for one in records if isinstance(one.event, EventsLost))
    # Records of snapshots are gone, too, and are no events that anybody has lost.
    missing = records[-1].sequence - len(records)
    assert missing * 7 // 8 < lost <= missing
    result = await verified(tmp_path)
    assert result.clean, result.render()


async def test_killed_between_two_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of a segment is in the file before it already, and in its own still: a reader takes it once."""
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=ROOM)) as journal:
        for number in range(20):
            write(journal, refused("quiet", str(number)), *[refused("loud", "x" * 100)] * 20)
    monkeypatch.undo()
    assert of(read(tmp_path), "quiet") == [str(number) for number in range(20)]
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=ROOM)) as journal:
        for number in range(20, 40):
            write(journal, refused("quiet", str(number)), *[refused("loud", "x" * 100)] * 20)
        settled(journal)
    assert of(read(tmp_path), "quiet") == [str(number) for number in range(40)]
    result = await verified(tmp_path)
    assert result.clean, result.render()


def test_a_damaged_segment_stays_as_it_is(tmp_path: Path) -> None:
    """It can't be read to its end, so nothing is taken out of it; it goes when it is the oldest."""
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=ROOM)) as journal:
        write(journal, *[refused("loud", "x" * 100)] * 100)
    damaged = segments(tmp_path)[1][1]
    with damaged.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff" * 50)
    for path in tmp_path.glob("*.realms"):
        path.unlink()
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(size=ROOM)) as journal:
        write(journal, *[refused("loud", "x" * 100)] * 400)
        settled(journal)
    assert not damaged.exists()
