"""After a crash: nothing that was said to be written is lost, and the next start ends what was left open."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from spnhub.events.analysis.source import open_source
from spnhub.events.analysis.verify import verify
from spnhub.events.journal import checkpoint as journal_checkpoint
from spnhub.events.journal import journal as journal_module
from spnhub.events.journal.files import segments
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.recovery import recover
from spnhub.events.model import ConnectionEnded, DisconnectReason, EndPointType, Recorded, TerminateReason
from spnhub.events.state.hub_state import HubState
from tests.events import samples
from tests.events.samples import NOON, day
from tests.events.test_journal import read
from tests.support.memory_journal import MemoryJournal

ROOT = Path(__file__).parents[2]

WRITER = textwrap.dedent("""
    import asyncio, itertools, pathlib, sys
    from spnhub.events.journal.journal import Journal
    from spnhub.events.journal.recovery import recover
    from tests.events import samples

    async def main():
        loop = asyncio.get_running_loop()
        told = asyncio.Event()

        def on_written(batch):
            print(batch[-1].sequence, flush=True)
            told.set()

        journal = Journal.open(
            pathlib.Path(sys.argv[1]),
            "hub-1",
            notify=loop.call_soon_threadsafe,
            on_written=on_written,
            segment_size=20000,
        )
        recover(journal)
        for turn in itertools.count(journal.appended):
            name = f"c{turn}"
            journal.append(samples.session_started(name), samples.NOON + turn)
            journal.commit()
            journal.append(samples.session_ended(name, elapsed=0.0), samples.NOON + turn)
            journal.append(samples.session_started(name + "x"), samples.NOON + turn)
            journal.commit()
            told.clear()
            await told.wait()

    asyncio.run(main())
""")


@pytest.mark.system
async def test_kill_9_loses_nothing_that_was_said_to_be_written(tmp_path: Path) -> None:
    """Killed at any moment and started again, several times: contiguous, each start with its end, one clean log."""
    folder = tmp_path / "j"
    told = 0
    for lines in (1, 7, 40, 90):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(folder), stdout=asyncio.subprocess.PIPE, cwd=ROOT
        )
        assert process.stdout is not None
        for _ in range(lines):
            told = int(await process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        rest = (await process.stdout.read()).split(b"\n")[:-1]
        told = max([told, *map(int, rest)])
        await process.wait()
        found = read(folder)
        assert [recorded.sequence for recorded in found] == list(range(1, len(found) + 1))
        assert len(found) >= told
    with Journal.open(folder, "hub-1") as journal:
        ended = recover(journal)
        assert ended
    async with open_source(str(folder)) as source:
        result = await verify([source])
    assert result.clean, result.render()
    assert [(log.open_sessions, log.events) for log in result.logs] == [((), len(read(folder)))]


def test_recover_ends_connections_first(tmp_path: Path) -> None:
    """Time is the last event's, bytes what the log knows, reason error, and recovered; connections may go on."""
    with Journal.open(tmp_path, "hub-1") as journal:
        for place, event in enumerate(samples.day()[:4]):
            journal.append(event, NOON + place * 1_000_000)
    with Journal.open(tmp_path, "hub-1") as journal:
        ended = recover(journal)
        assert recover(journal) == []
        assert journal.state == HubState(last_sequence=7, last_timestamp=NOON + 3_000_000)
    common: dict[str, Any] = {"reason": "the hub died", "recovered": True, "elapsed_time": 3.0, "code": None}
    session: dict[str, Any] = {"terminate_reason": TerminateReason.ERROR, "total_connection_count": 1}
    leg = samples.connection_ended(total=(0, 0), elapsed=1.0, reason=DisconnectReason.ERROR)
    assert [(r.sequence, r.timestamp, r.event) for r in ended] == [
        (5, NOON + 3_000_000, replace(leg, reason="the hub died", suspended=True, recovered=True)),
        (6, NOON + 3_000_000, replace(samples.session_ended("p1", EndPointType.PROVIDER), **common | session)),
        (7, NOON + 3_000_000, replace(samples.session_ended("c1"), **common | session | {"elapsed_time": 2.0})),
    ]
    found = read(tmp_path)
    assert found[4:] == ended
    assert HubState().apply_all(found) == []


def test_what_progress_told_is_what_a_recovered_end_has() -> None:
    """The last totals as lower bounds, and nothing that wasn't told before."""
    journal = MemoryJournal()
    told = [*samples.day()[:3], samples.connection_progress(total=(60, 1500))]
    journal.state.apply_all(samples.record(told))
    ended = recover(journal)[0].event
    assert isinstance(ended, ConnectionEnded)
    assert (ended.total_sent_bytes, ended.total_receive_bytes, ended.recovered) == (60, 1500, True)
    assert (ended.delta_sent_bytes, ended.delta_receive_bytes) == (0, 0)


def test_recover_of_an_orderly_end_does_nothing() -> None:
    """A clean log stays as it is."""
    journal = MemoryJournal()
    journal.state.apply_all(samples.record(samples.day()))
    assert recover(journal) == []
    assert journal.records == []


@pytest.mark.system
async def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    """A real limit of the kernel: half a write goes in, and what is kept are whole events."""
    program = textwrap.dedent("""
        import pathlib, resource, signal, sys
        from spnhub.events.journal.journal import Journal
        from tests.events import samples
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        journal = Journal.open(pathlib.Path(sys.argv[1]), "hub-1")
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
        for place in range(30):
            journal.append(samples.session_refused(), samples.NOON + place)
        written = journal.flush(1)
        print(written, journal.error)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        print(journal.flush(10), journal.error, journal.close())
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(tmp_path), stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    out, _ = await process.communicate()
    assert out.decode().splitlines() == ["False File too large", "True None True"]
    assert [recorded.sequence for recorded in read(tmp_path)] == list(range(1, 31))


def opened(folder: Path) -> HubState:
    """What a start makes of the journal."""
    with Journal.open(folder, "hub-1", segment_size=1000) as journal:
        return journal.state


def test_a_start_reads_from_the_checkpoint_only(tmp_path: Path) -> None:
    """After an orderly end it reads nothing of what was before; the state is the same as from the whole log."""
    events = [*day() * 5, *day()[:4]]
    written = samples.write_journal(tmp_path, events, segment_size=1000)
    whole = HubState()
    whole.apply_all(written)
    _, first = segments(tmp_path)[0]
    saved = first.read_bytes()
    first.write_bytes(b"not looked at")
    assert opened(tmp_path) == whole
    first.write_bytes(saved)
    (tmp_path / "checkpoint.json").unlink()
    assert opened(tmp_path) == whole
    assert len(whole.sessions) == 2
    assert len(whole.connections) == 1


def test_a_checkpoint_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved after every so many events; a start after a crash goes on from the last."""
    monkeypatch.setattr(journal_module, "CHECKPOINT_EVERY", 10)
    told: list[Recorded] = []
    saved = threading.Semaphore(0)
    save = journal_checkpoint.save

    def save_and_tell(*arguments: Any) -> None:
        save(*arguments)
        saved.release()

    monkeypatch.setattr(journal_checkpoint, "save", save_and_tell)
    journal = Journal.open(tmp_path / "live", "hub-1", on_written=told.extend)
    for event in [*day() * 5, *day()[:4]]:
        journal.append(event, NOON)
        assert journal.flush(10)
    for _ in range(4):
        assert saved.acquire(timeout=10)
    shutil.copytree(tmp_path / "live", tmp_path / "crashed")
    journal.close()
    whole = HubState()
    whole.apply_all(told)
    with (tmp_path / "crashed" / "checkpoint.json").open() as file:
        assert json.loads(file.readline())["sequence"] == 40
    assert opened(tmp_path / "crashed") == whole


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1', "null"])
def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, text: str) -> None:
    """It saves time and is needed for nothing."""
    written = samples.write_journal(tmp_path, day()[:4])
    whole = HubState()
    whole.apply_all(written)
    (tmp_path / "checkpoint.json").write_text(text)
    assert opened(tmp_path) == whole


def test_a_checkpoint_of_another_log_is_passed_over(tmp_path: Path) -> None:
    """After a power failure the log may be shorter than the checkpoint knows, and grow again."""
    samples.write_journal(tmp_path, day())
    ((_, path),) = segments(tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    samples.killed(tmp_path)
    checkpoint = (tmp_path / "checkpoint.json").read_text()
    with Journal.open(tmp_path, "hub-1") as journal:
        assert journal.appended == 7
        journal.append(samples.session_refused(), NOON)
    (tmp_path / "checkpoint.json").write_text(checkpoint)
    assert opened(tmp_path).sessions.keys() == {"p1"}
