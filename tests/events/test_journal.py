"""The journal as its writer and its readers see it: what is written is there, once, in order, whatever happens."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from spnhub.events.journal.files import segments
from spnhub.events.journal.journal import Journal, JournalCorrupt, JournalError, JournalLocked
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import Recorded
from tests.events.samples import (
    EACH,
    NOON,
    day,
    happened,
    killed,
    session_ended,
    session_refused,
    session_started,
    write_journal,
)
from tests.support.memory_journal import MemoryJournal


def read(folder: Path, after: int = 0, limit: int = 256 * 1024) -> list[Recorded]:
    """Everything in a journal."""
    with JournalReader(folder, after=after) as reader:
        found: list[Recorded] = []
        while batch := reader.read(limit):
            found += [recorded for _, recorded in batch]
        return found


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    """Every class of event survives, with contiguous sequences from 1 and the times given."""
    with Journal.open(tmp_path / "j", "hub-1") as journal:
        appended = [journal.append(event, NOON + place) for place, event in enumerate(EACH)]
        assert journal.commit() == len(EACH)
    assert [(r.sequence, r.timestamp, r.event) for r in appended] == [
        (place + 1, NOON + place, event) for place, event in enumerate(EACH)
    ]
    assert read(tmp_path / "j") == appended


def test_a_second_opening_goes_on(tmp_path: Path) -> None:
    """Sequence and journal id live with the folder."""
    first = write_journal(tmp_path, day())
    second = write_journal(tmp_path, day())
    assert [r.sequence for r in first + second] == list(range(1, 17))
    assert {(r.hub_id, r.journal_id) for r in first + second} == {("hub-1", first[0].journal_id)}
    assert read(tmp_path) == first + second


async def test_the_loop_learns_of_what_is_written(tmp_path: Path) -> None:
    """``written`` moves, and ``on_written`` is called with the batch, in the loop's thread."""
    loop = asyncio.get_running_loop()
    told: asyncio.Queue[tuple[int, list[Recorded]]] = asyncio.Queue()
    journal = Journal.open(
        tmp_path,
        "hub-1",
        notify=loop.call_soon_threadsafe,
        on_written=lambda batch: told.put_nowait((threading.get_ident(), list(batch))),
    )
    batch = [journal.append(session_started("c1"), NOON), journal.append(session_ended("c1"), NOON + 1)]
    assert (journal.appended, journal.written) == (2, 0)
    journal.commit()
    assert await told.get() == (threading.get_ident(), batch)
    assert (journal.appended, journal.written) == (2, 2)
    assert journal.close()


def test_a_commit_of_nothing_is_nothing(tmp_path: Path) -> None:
    """An idle turn costs no write."""
    with Journal.open(tmp_path, "hub-1") as journal:
        assert journal.commit() == 0
    assert segments(tmp_path) == []


def test_rotation(tmp_path: Path) -> None:
    """Segments end at their size, are named by their first sequence, and are read as one log, from anywhere."""
    written = write_journal(tmp_path, [session_refused()] * 50, segment_size=1000)
    names = [first for first, _ in segments(tmp_path)]
    assert names[0] == 1
    assert len(names) > 5
    assert all(path.stat().st_size < 1600 for _, path in segments(tmp_path))
    assert read(tmp_path) == written
    for after in range(51):
        assert read(tmp_path, after=after) == written[after:]
    assert read(tmp_path, limit=10) == written


def test_deleted_segments_are_a_missing_head(tmp_path: Path) -> None:
    """A reader that asks for what retention took begins with what is left."""
    written = write_journal(tmp_path, [session_refused()] * 50, segment_size=1000)
    (_, gone), (first, _), *_ = segments(tmp_path)
    gone.unlink()
    assert read(tmp_path) == written[first - 1 :]


@pytest.mark.long
@pytest.mark.parametrize("step", [7, pytest.param(1, marks=pytest.mark.prove)])
def test_torn_tail_at_every_byte(tmp_path: Path, step: int) -> None:
    """However much of the last write is missing, the whole frames stay and the log goes on behind them."""
    folder = tmp_path / "j"
    written = write_journal(folder, day())
    ((_, path),) = segments(folder)
    whole = path.read_bytes()
    ends: list[int] = []
    with JournalReader(folder) as reader:
        while reader.read(1):
            assert reader.position is not None
            ends.append(reader.position[1])
    about_ends = {end + near for end in ends[6:] for near in (-1, 0, 1) if end + near < len(whole)}
    for size in sorted({*range(ends[6], len(whole), step), *about_ends}):
        path.write_bytes(whole[:size])
        killed(folder)
        kept = sum(1 for end in ends if end <= size)
        assert read(folder) == written[:kept]
        with Journal.open(folder, "hub-1", options=JournalOptions(sync_interval=None)) as journal:
            assert journal.appended == kept
            again = journal.append(session_refused(), NOON)
        assert read(folder) == [*written[:kept], again]


@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_a_tail_of_filler_is_a_torn_tail(tmp_path: Path, filler: bytes) -> None:
    """What a file system leaves after a power failure is not taken for frames."""
    written = write_journal(tmp_path, day())
    ((_, path),) = segments(tmp_path)
    path.write_bytes(path.read_bytes() + filler * 5000)
    assert read(tmp_path) == written
    with Journal.open(tmp_path, "hub-1") as journal:
        assert journal.appended == len(written)
    assert read(tmp_path) == written


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    """A bad frame before good ones: neither writer nor reader goes on, both name file and offset."""
    write_journal(tmp_path, day())
    ((_, path),) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    with JournalReader(tmp_path) as reader:
        reader.read(1)
        assert reader.position is not None
        offset = reader.position[1]
    data[offset + 20] ^= 1
    path.write_bytes(data)
    for attempt in (lambda: Journal.open(tmp_path, "hub-1"), lambda: read(tmp_path)):
        with pytest.raises(JournalCorrupt, match=f"^{path} is damaged at byte {offset}: ") as caught:
            attempt()
        assert (caught.value.path, caught.value.offset) == (path, offset)


def test_a_damaged_length_is_found_too(tmp_path: Path) -> None:
    """A length that reaches over the end is no excuse when whole frames follow."""
    write_journal(tmp_path, day())
    ((_, path),) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    with JournalReader(tmp_path) as reader:
        reader.read(1)
        assert reader.position is not None
        offset = reader.position[1]
    data[offset + 1] = 0x0F
    path.write_bytes(data)
    with pytest.raises(JournalCorrupt):
        read(tmp_path)


def test_a_torn_frame_in_a_finished_segment_is_damage(tmp_path: Path) -> None:
    """Only the last segment may be unfinished."""
    write_journal(tmp_path, [session_refused()] * 50, segment_size=1000)
    _, path = segments(tmp_path)[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JournalCorrupt, match="not the last"):
        read(tmp_path)
    (tmp_path / "checkpoint.json").unlink()  # with it a start looks at the last segment only
    with pytest.raises(JournalCorrupt, match="not the last"):
        Journal.open(tmp_path, "hub-1")


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    """The header has its own checksum."""
    write_journal(tmp_path, day())
    ((_, path),) = segments(tmp_path)
    data = bytearray(path.read_bytes())
    data[15] ^= 1
    path.write_bytes(data)
    with pytest.raises(JournalCorrupt, match="header"):
        read(tmp_path)


def test_locked(tmp_path: Path) -> None:
    """A second writer is told by whom, and that it needs a folder of its own."""
    with Journal.open(tmp_path, "hub-1"), pytest.raises(JournalLocked) as caught:
        Journal.open(tmp_path, "hub-1")
    assert str(caught.value).startswith(f"journal {tmp_path} is in use by hub hub-1 (process {os.getpid()});")
    Journal.open(tmp_path, "hub-1").close()


def test_another_hubs_folder(tmp_path: Path) -> None:
    """A journal belongs to one hub id for ever, and a refusal leaves it unlocked."""
    write_journal(tmp_path, day())
    with pytest.raises(JournalError, match="belongs to hub hub-1, not to hub hub-2"):
        Journal.open(tmp_path, "hub-2")
    Journal.open(tmp_path, "hub-1").close()


def test_unusable_folders(tmp_path: Path) -> None:
    """Each is a JournalError that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalError, match=f"cannot use journal folder {tmp_path}/file"):
        Journal.open(tmp_path / "file", "hub-1")
    with pytest.raises(JournalError, match=f"no journal in {tmp_path}"):
        JournalReader(tmp_path)
    (tmp_path / "00000000000000000001.segment").write_bytes(b"")
    with pytest.raises(JournalError, match="has segments and no"):
        Journal.open(tmp_path, "hub-1")


def test_a_reader_follows_a_live_journal(tmp_path: Path) -> None:
    """A reader sees what is written as it is written, over segment borders."""
    with Journal.open(tmp_path, "hub-1", segment_size=1000) as journal, JournalReader(tmp_path) as reader:
        assert reader.read() == []
        for _ in range(30):
            recorded = journal.append(session_refused(), NOON)
            assert journal.flush(10)
            found = [entry for _, entry in reader.read()]
            while found[-1] != recorded:  # the head of a segment came first
                found += [entry for _, entry in reader.read()]
            assert happened(found) == [recorded]
            assert reader.read() == []


def test_memory_journal_stalls_and_resumes() -> None:
    """It writes at commit; while stalled nothing is written, afterwards everything, in order."""
    told: list[Recorded] = []
    journal = MemoryJournal(on_written=told.extend)
    first = journal.append(session_started("c1"), NOON)
    assert (journal.commit(), journal.written, told) == (1, 1, [first])
    journal.stall()
    second = journal.append(session_ended("c1"), NOON)
    assert (journal.commit(), journal.written, told) == (2, 1, [first])
    assert not journal.close()
    journal.resume()
    assert (journal.written, told, journal.records) == (2, [first, second], [first, second])
    assert journal.close()


def test_readers_beside_a_busy_writer(tmp_path: Path) -> None:
    """Readers that never wait see every event once, in order, and no fault, however their looks meet the writes."""
    count = 2000
    results: list[list[int]] = []

    def follow(size: int) -> None:
        seen: list[int] = []
        with JournalReader(tmp_path) as reader:
            while len(seen) < count:
                seen += [recorded.sequence for _, recorded in reader.read(size)]
        results.append(seen)

    with Journal.open(tmp_path, "hub-1", segment_size=20_000, options=JournalOptions(sync_interval=0.01)) as journal:
        readers = [threading.Thread(target=follow, args=(size,), daemon=True) for size in (100, 100_000)]
        for reader in readers:
            reader.start()
        for place in range(count):
            journal.append(session_refused(), NOON)
            if place % 7 == 0:
                journal.commit()
        assert journal.flush(30)
        for reader in readers:
            reader.join(30)
    assert all(len(seen) >= count and seen == list(range(1, len(seen) + 1)) for seen in results)
