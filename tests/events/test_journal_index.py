"""The index of a journal changes how long an answer takes, and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from spnhub.events.analysis import journal_index
from spnhub.events.analysis.incident_history import Concerning
from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.point_in_time import Moment, States
from spnhub.events.journal.files import segments
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.model import ConnectionEnded, ConnectionProgress, ConnectionStarted, Recorded, SessionStarted
from tests.events.histories import History


@pytest.fixture(autouse=True)
def dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are kept often, so that small journals have some on the way."""
    monkeypatch.setattr(journal_index, "EVERY", 100)
    monkeypatch.setattr(journal_index, "BATCH", 8 << 10)


def journal(folder: Path, count: int = 1_200, seed: int = 1) -> list[Recorded]:
    """A random history in segments of some hundred events; what is in it, snapshots included."""
    events = History(random.Random(seed), hubs=1, services=5).run(int(2.6 * count) + 100).events[:count]
    written: list[Recorded] = []
    with Journal.open(
        folder,
        "hub-0",
        options=JournalOptions(sync_interval=None),
        segment_size=32 << 10,
        on_written=written.extend,
    ) as opened:
        for recorded in events:
            opened.append(recorded.event, recorded.timestamp)
            assert opened.flush(10)
    return written


def states(folder: Path, moment: Moment, index: JournalIndex | None) -> list[dict[str, Any]]:
    found = States(moment)
    found.read_journal(folder, index)
    return [one.to_json() for one in found.finish()]


def made(tmp_path: Path) -> tuple[Path, list[Recorded], JournalIndex]:
    folder = tmp_path / "journal"
    written = journal(folder)
    index = JournalIndex(folder, tmp_path / "cache")
    index.complete()
    assert len(index.segments) == len(segments(folder)) - 1 >= 4
    return folder, written, index


def test_the_state_at_any_moment(tmp_path: Path) -> None:
    """By sequence and by time: the same with the index as without."""
    folder, written, index = made(tmp_path)
    chance = random.Random(2)
    assert any(len(one.marks) > 1 for one in index.segments)
    for recorded in (*chance.sample(written, 20), written[0], written[-1]):
        for moment in (Moment(recorded.sequence, None), Moment(None, recorded.timestamp)):
            assert states(folder, moment, index) == states(folder, moment, None)


def test_few_events_are_folded(tmp_path: Path) -> None:
    """Wherever the moment is in a finished segment: those since the last state, not those of the segment."""
    folder, _, index = made(tmp_path)
    bounds = [first for first, _ in segments(folder)]
    for sequence in range(index.segments[0].marks[0].sequence, bounds[-1], 37):
        found = index.mark(sequence=sequence)
        assert found is not None
        # A state is kept at the end of a batch; the snapshot at a segment's beginning has none before its own end.
        assert 0 <= sequence - found[1].sequence < 300
        assert found == index.mark(time=found[1].time) or index.mark(time=found[1].time) is not None


def test_incidents_and_flow_are_those_of_the_log(tmp_path: Path) -> None:
    """The events that concern incidents, and what flowed in each minute."""
    folder, written, index = made(tmp_path)
    until = index.segments[-1].marks[-1].sequence
    kept = [recorded for one in index.segments for recorded in one.concerning()]
    assert [one.sequence for one in kept] == sorted({one.sequence for one in kept})
    concerning = Concerning()
    wanted = {one.sequence for one in written if concerning.takes(one.event) and one.sequence <= until}
    assert wanted <= {one.sequence for one in kept}
    assert len(kept) < len(written)
    bounds = [first for first, _ in segments(folder)]
    opened = sum(isinstance(one.event, ConnectionStarted) and one.sequence < bounds[-1] for one in written)
    assert sum(flow.opened for one in index.segments for flow in one.flow) == opened
    carried = sum(
        one.event.delta_sent_bytes + one.event.delta_receive_bytes
        for one in written
        if isinstance(one.event, ConnectionProgress | ConnectionEnded) and one.sequence < bounds[-1]
    )
    assert sum(flow.bytes for one in index.segments for flow in one.flow) == carried


def test_explain_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of sessions, connections and stream ids, whether or not segments are left out; and segments are left out."""
    folder, written, index = made(tmp_path)
    chance = random.Random(3)
    uids = [one.event.connection_uid for one in written if isinstance(one.event, ConnectionStarted)]
    sessions = [one.event.spn_session_id for one in written if isinstance(one.event, SessionStarted)]
    streams = [one.event.spn_connection_id for one in written if isinstance(one.event, ConnectionStarted)]
    left_out = 0
    for name in (*chance.sample(uids, 6), *chance.sample(sessions, 6), chance.choice(streams)):
        told = []
        for cache in (tmp_path / "cache", tmp_path / "empty" / name):
            if cache.name != "cache":
                # A folder that can't be made: no index.
                cache.parent.mkdir(exist_ok=True)
                cache.write_text("")
            arguments = ["explain", "--json", name, str(folder), "--index", str(cache)]
            assert run_command_line(app, "spnlog", arguments) == 0
            told.append(json.loads(capsys.readouterr().out))
        assert told[0] == told[1]
        left_out += len(index.without({f"uid {name}", f"session {name}", f"leg of {name}", f"streams {name}"}))
    assert left_out
    assert run_command_line(app, "spnlog", ["explain", "nobody", str(folder), "--index", str(tmp_path / "cache")]) == 2


@pytest.mark.parametrize("damage", ["cut", "zeros", "other", "empty"])
def test_a_damaged_index_is_made_anew(tmp_path: Path, damage: str) -> None:
    """It is passed over or made anew; what is said is the same."""
    folder, written, index = made(tmp_path)
    path = index.segments[1].path
    whole = path.read_bytes()
    changed = {
        "cut": whole[:-10],
        "zeros": whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2),
        "other": index.segments[2].path.read_bytes(),
        "empty": b"",
    }[damage]
    path.write_bytes(changed)
    again = JournalIndex(folder, tmp_path / "cache")
    if damage in {"cut", "empty"}:
        assert len(again.segments) == len(index.segments) - 1
    for recorded in random.Random(4).sample(written, 10):
        moment = Moment(recorded.sequence, None)
        assert states(folder, moment, again) == states(folder, moment, None)
    again.complete()
    assert len(again.segments) == len(index.segments)


def test_what_has_gone_and_who_may_read(tmp_path: Path) -> None:
    """Of a segment that is kept no longer the index goes, too; only the user may read what there is."""
    folder, _, index = made(tmp_path)
    first = index.segments[0]
    assert first.path.stat().st_mode & 0o777 == 0o600
    first.segment.unlink()
    again = JournalIndex(folder, tmp_path / "cache")
    assert [one.first for one in again.segments] == [one.first for one in index.segments[1:]]
    index.load()
    assert not first.path.exists()
