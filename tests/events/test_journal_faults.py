"""A disk that is full, broken or slow: what the journal keeps, what it declares as lost, and that it always says so."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from spnhub.events.journal import journal
from spnhub.events.journal import sequences as journal_sequences
from spnhub.events.journal import writer as journal_writer
from spnhub.events.journal.files import open_to_others, segments
from spnhub.events.journal.journal import Journal, JournalError
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.writer import WriterThread
from spnhub.events.model import EventsLost, Recorded
from tests.events.samples import NOON, day, happened, session_refused
from tests.events.test_journal import read
from tests.support.tcp import no_descriptors


class Disk:
    """Stands in for the kernel's pwrite: writes up to ``room`` bytes, then fails."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
        self.room = room
        self.failed = threading.Event()
        """It has failed twice, so the first failure has been noted."""
        self._failures = 0
        self._pwrite: Callable[[int, bytes, int], int] = os.pwrite
        monkeypatch.setattr(os, "pwrite", self.pwrite)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        if self.room <= 0:
            self._failures += 1
            if self._failures == 2:
                self.failed.set()
            raise OSError(28, "No space left on device")
        done = self._pwrite(fd, data[: self.room], offset)
        self.room -= done
        return done


def test_a_full_disk_loses_nothing_within_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole frames of a failed write stay, the rest follows when there is room; a reader never sees half a frame."""
    with Journal.open(tmp_path, "hub-1") as journal:
        batch = [journal.append(event, NOON) for event in day()]
        assert journal.flush(10)
        disk = Disk(monkeypatch, room=500)
        batch += [journal.append(event, NOON) for event in day()]
        journal.commit()
        assert disk.failed.wait(10)
        assert not journal.flush(0)
        assert journal.error == "No space left on device"
        seen = read(tmp_path)
        assert seen == batch[: len(seen)]
        assert 8 < len(seen) < 16
        disk.room = 1 << 30
        assert journal.flush(10)
        assert (journal.lost, journal.written) == (0, 16)
        assert "No space left" not in str(journal.error)
    assert read(tmp_path) == batch


def test_beyond_the_limit_the_loss_is_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The newest batches go; one EventsLost with its own sequence stands for them; no sequence is used twice."""
    told: list[Recorded] = []
    with Journal.open(
        tmp_path, "hub-1", memory_limit=10_000, on_written=told.extend, clock=lambda: NOON + 99_999
    ) as journal:
        journal.append(session_refused(), NOON)
        assert journal.flush(10)
        disk = Disk(monkeypatch, room=0)
        for place in range(2, 22):
            assert journal.append(session_refused(), NOON + place).sequence == place
            journal.commit()
            assert journal.pending <= 10_000
        assert disk.failed.wait(10)
        disk.room = 1 << 30
        assert journal.flush(10)
        last = journal.append(session_refused(), NOON)
        assert journal.flush(10)
    kept = [r.sequence for r in happened(told) if not isinstance(r.event, EventsLost)]
    (declared,) = [r for r in told if isinstance(r.event, EventsLost)]
    first = kept[-2] + 1
    assert kept == [*range(1, first), last.sequence]
    assert declared == Recorded(
        "hub-1",
        declared.journal_id,
        22,
        NOON + 99_999,
        EventsLost(
            realm=None,
            network_urn=None,
            first_sequence=first,
            last_sequence=21,
            count=22 - first,
            first_timestamp=NOON + first,
            last_timestamp=NOON + 21,
            reason="No space left on device",
        ),
    )
    assert journal.lost == 22 - first
    assert [r.event.event_type for r in told[-4:]] == [
        "eventsLost",
        "snapshotStarted",
        "snapshotEnded",
        "sessionRefused",
    ]
    assert (last.sequence, [first for first, _ in segments(tmp_path)]) == (25, [1, 23])
    assert read(tmp_path) == told


def test_a_disk_that_stays_full_does_not_hold_the_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing takes its timeout and says that not all is written; the lock is free again."""
    journal = Journal.open(tmp_path, "hub-1")
    written = journal.append(session_refused(), NOON)
    assert journal.flush(10)
    with monkeypatch.context() as patch:
        Disk(patch, room=10)
        journal.append(session_refused(), NOON)
        assert journal.close(0.1) is False
    with Journal.open(tmp_path, "hub-1") as again:
        assert (again.appended, again.lost) == (3, 1)
    first, declared = read(tmp_path)
    assert first == written
    assert isinstance(declared.event, EventsLost)
    assert (declared.event.first_sequence, declared.event.last_sequence) == (2, 2)
    with pytest.raises(JournalError, match="is closed"):
        journal.append(session_refused(), NOON)


def test_a_disk_that_cannot_begin_a_segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rotation on a full disk waits like any write."""
    failed = threading.Event()
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        failed.set()
        raise OSError(28, "No space left on device")

    with Journal.open(tmp_path, "hub-1", segment_size=100) as journal:
        batch = [journal.append(session_refused(), NOON)]
        assert journal.flush(10)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "rename", refuse)
            batch.append(journal.append(session_refused(), NOON))
            journal.commit()
            assert failed.wait(10)
        assert rename is Path.rename
        assert journal.flush(10)
    assert happened(read(tmp_path)) == batch


def test_the_disk_is_synced_on_an_interval(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fdatasync follows a write by itself; its failure is known and stops nothing."""
    synced = threading.Event()

    def fail(fd: int) -> None:
        synced.set()
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", fail)
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(sync_interval=0.01)) as journal:
        journal.append(session_refused(), NOON)
        journal.commit()
        assert synced.wait(10)
        journal.append(session_refused(), NOON)
        assert journal.flush(10)
        assert journal.sync_error == "Input/output error"
    assert [r.sequence for r in read(tmp_path)] == [1, 2]


def test_a_slow_sync_holds_up_no_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is visible waits for writes, never for the disk's platter (D-6)."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(_descriptor: int) -> None:
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr(os, "fdatasync", slow)
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(sync_interval=0.01)) as journal:
        journal.append(session_refused(), NOON)
        journal.commit()
        assert begun.wait(10)
        journal.append(session_refused(), NOON)
        journal.commit()
        assert journal.flush(10)
        assert journal.written == 2
        go_on.set()


def test_a_process_without_descriptors_goes_on_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D-25: events, syncs, new segments and the reservation of numbers need none that aren't there already."""
    monkeypatch.setattr(journal_sequences, "BLOCK", 8)
    monkeypatch.setattr(journal_writer, "BLOCK", 8)
    raised: list[BaseException] = []
    with Journal.open(
        tmp_path,
        "hub-1",
        segment_size=4000,
        options=JournalOptions(sync_interval=0),
        on_fault=lambda _, fault: raised.append(fault),
    ) as journal:
        batch = [journal.append(session_refused(), NOON)]
        assert journal.flush(10)
        before = len(segments(tmp_path))
        with no_descriptors():
            for _ in range(100):
                batch.append(journal.append(session_refused(), NOON))
                assert journal.flush(10), journal.error
        assert (journal.error, journal.sync_error, raised) == (None, None, [])
    assert len(segments(tmp_path)) > before + 1
    assert happened(read(tmp_path)) == batch


def test_a_syncing_interval_without_descriptors(tmp_path: Path) -> None:
    """The writer's thread used to end at this, silently and for good."""
    with Journal.open(tmp_path, "hub-1", options=JournalOptions(sync_interval=0.01)) as journal, no_descriptors():
        for _ in range(20):
            journal.append(session_refused(), NOON)
            assert journal.flush(10)
            time.sleep(0.015)
        assert (journal.error, journal.sync_error) == (None, None)
    assert len(read(tmp_path)) == 20


@pytest.mark.parametrize("step", ["take", "prepare", "call_drain", "save", "retain", "sync"])
def test_a_fault_in_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Whatever is raised in it is told, with its traceback; the thread lives on, and each event is written once."""
    failure = RuntimeError("injected")
    raised: list[tuple[str, BaseException]] = []
    original = getattr(WriterThread, step)
    left = 2

    def fail(*args: object, **kwargs: object) -> object:
        nonlocal left
        if left:
            left -= 1
            raise failure
        return original(*args, **kwargs)

    monkeypatch.setattr(journal, "CHECKPOINT_EVERY", 1)
    told: list[Recorded] = []
    with Journal.open(
        tmp_path,
        "hub-1",
        options=JournalOptions(sync_interval=0),
        on_written=told.extend,
        on_fault=lambda where, fault: raised.append((where, fault)),
    ) as opened:
        monkeypatch.setattr(WriterThread, step, fail)
        batch = []
        for _ in range(5):
            batch.append(opened.append(session_refused(), NOON))
            assert opened.flush(10)
    assert raised == [("journal", failure)] * 2
    assert failure.__traceback__ is not None
    assert read(tmp_path) == told == batch


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_folder_that_goes_and_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The open segment would take everything; nothing counts as written that nobody finds. Then all of it is there."""
    monkeypatch.setattr(journal_writer, "CHECK", 0.05)
    folder, elsewhere = tmp_path / "journal", tmp_path / "elsewhere"
    with Journal.open(folder, "hub-1") as opened:
        opened.append(session_refused(), NOON)
        assert opened.flush(10)
        folder.rename(elsewhere)
        # Also where nothing happens it is noticed.
        until(lambda: opened.error is not None)
        assert "No such file or directory" in str(opened.error)
        opened.append(session_refused(), NOON)
        assert not opened.flush(0.3)
        elsewhere.rename(folder)
        assert opened.flush(30)
        assert opened.error is None
    assert len(read(folder)) == 2


def test_a_segment_that_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy in its place isn't what is written."""
    monkeypatch.setattr(journal_writer, "CHECK", 0.05)
    with Journal.open(tmp_path, "hub-1") as opened:
        opened.append(session_refused(), NOON)
        assert opened.flush(10)
        (_, path), *_ = segments(tmp_path)
        copy = path.read_bytes()
        path.unlink()
        path.write_bytes(copy)
        until(lambda: opened.error is not None)
        assert opened.error == f"{path} is another file now"
        assert not opened.is_dead


def test_a_writer_that_is_dead_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even reporting a fault may fail; then the thread is over, and that isn't silent."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def fail(*_: object) -> None:
        raise RuntimeError("injected")

    opened = Journal.open(tmp_path, "hub-1", on_fault=fail)
    assert (opened.is_dead, opened.error) == (False, None)
    monkeypatch.setattr(WriterThread, "take", fail)
    opened.append(session_refused(), NOON)
    opened.commit()
    until(lambda: opened.is_dead)
    assert opened.error == "the thread that writes it has ended"
    opened.close(1)


def test_what_is_written_is_for_its_user_only(tmp_path: Path) -> None:
    """Whatever the umask is: segments, checkpoint, identity, lock, schemas, numbers."""
    folder = tmp_path / "journal"
    before = os.umask(0)
    try:
        with Journal.open(folder, "hub-1") as opened:
            for event in day():
                opened.append(event, NOON)
            assert opened.flush(10)
        with Journal.open(folder, "hub-1"):
            pass
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert len(modes) > 4
    assert set(modes.values()) == {0o600}
    assert open_to_others(folder) is None
    folder.chmod(0o750)
    assert open_to_others(folder) == "its mode is 0750; 0700 keeps others out"
