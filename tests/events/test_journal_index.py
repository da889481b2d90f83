"""The index of a journal changes how long an answer takes, and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import random
from pathlib import Path
from typing import Any

import pytest

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from spnhub.console.past import Past
from spnhub.events.analysis import index_making
from spnhub.events.analysis.concerning_source import ConcerningSource
from spnhub.events.analysis.explain import Search
from spnhub.events.analysis.incident_history import Concerning
from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.merge import Entry
from spnhub.events.analysis.point_in_time import Moment, States
from spnhub.events.analysis.segment_index import IndexDamaged
from spnhub.events.journal.files import segments
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import ConnectionEnded, ConnectionProgress, ConnectionStarted, Recorded, SessionStarted
from tests.events.histories import History


@pytest.fixture(autouse=True)
def dense(monkeypatch: pytest.MonkeyPatch) -> None:
    """States are kept often, so that small journals have some on the way."""
    monkeypatch.setattr(index_making, "APART", 16 << 10)
    monkeypatch.setattr(index_making, "BATCH", 4 << 10)


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
    whole = [one for one in index.segments if one.whole]
    assert len(whole) == len(segments(folder)) - 1 >= 4
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
    """Wherever the moment is, in the segment that is being written, too: those since the last state."""
    folder, written, index = made(tmp_path)
    bounds = [first for first, _ in segments(folder)]
    assert bounds[-1] < written[-1].sequence
    for sequence in range(index.segments[0].marks[0].sequence, written[-1].sequence, 37):
        found = index.mark(sequence=sequence)
        assert found is not None
        # A state is kept at the end of a batch.
        assert 0 <= sequence - found[1].sequence < 150
        assert found == index.mark(time=found[1].time) or index.mark(time=found[1].time) is not None


def test_incidents_and_flow_are_those_of_the_log(tmp_path: Path) -> None:
    """The events that concern incidents, and what flowed in each minute."""
    _, written, index = made(tmp_path)
    until = index.segments[-1].parts[-1].sequence
    kept = [recorded for one in index.segments for part in one.parts for _, recorded in one.concerning(part)]
    assert [one.sequence for one in kept] == sorted({one.sequence for one in kept})
    concerning = Concerning()
    wanted = {one.sequence for one in written if concerning.takes(one.event) and one.sequence <= until}
    assert wanted <= {one.sequence for one in kept}
    assert len(kept) < len(written)
    minutes = [flow for one in index.segments for part in one.parts for flow in part.minutes]
    opened = sum(isinstance(one.event, ConnectionStarted) and one.sequence <= until for one in written)
    assert sum(flow.opened for flow in minutes) == opened
    carried = sum(
        one.event.delta_sent_bytes + one.event.delta_receive_bytes
        for one in written
        if isinstance(one.event, ConnectionProgress | ConnectionEnded) and one.sequence <= until
    )
    assert sum(flow.bytes for flow in minutes) == carried


def test_explain_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of sessions, connections and stream ids, whether or not segments, and parts of others, are left out."""
    folder, written, index = made(tmp_path)
    chance = random.Random(3)
    uids = [one.event.connection_uid for one in written if isinstance(one.event, ConnectionStarted)]
    sessions = [one.event.spn_session_id for one in written if isinstance(one.event, SessionStarted)]
    streams = [one.event.spn_connection_id for one in written if isinstance(one.event, ConnectionStarted)]
    left_out = in_part = 0
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
        stretches = index.part(Search(name)).stretches
        left_out += sum(not one.places for one in stretches.values())
        in_part += sum(0 < len(stretches[one.first].places) < len(one.parts) for one in index.segments if one.whole)
        assert stretches[index.segments[-1].first].grows
    assert left_out and in_part
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


def test_where_no_index_is_a_snapshot_is_nearer(tmp_path: Path) -> None:
    """While the past is being indexed, the newest first: nobody reads from a state of long ago through all of it."""
    folder, written, index = made(tmp_path)
    of = [one.first for one in index.segments]
    for one in index.segments[1:-2]:
        one.path.unlink()
    partly = JournalIndex(folder, tmp_path / "cache")
    last = {one.first: one.parts[-1] for one in index.segments}
    assert partly.mark(sequence=of[1] + 3) == index.mark(sequence=of[1] + 3) is not None, "one is read through"
    assert partly.mark(sequence=of[2] + 3) is None
    assert partly.mark(time=last[of[-4]].time) is None
    assert partly.mark(sequence=of[-2] + 200) == index.mark(sequence=of[-2] + 200) is not None
    for recorded in random.Random(10).sample(written, 20):
        for moment in (Moment(recorded.sequence, None), Moment(None, recorded.timestamp)):
            assert states(folder, moment, partly) == states(folder, moment, None)
    then = Past([folder], tmp_path / "cache")
    for recorded in random.Random(11).sample(written[50:], 10):
        wanted = States(Moment(None, recorded.timestamp))
        wanted.read_journal(folder)
        ((found,), _, _) = then.at(recorded.timestamp)
        assert found.to_json() == wanted.finish()[0].to_json()


def grow(folder: Path, events: list[Recorded], *, hub: str = "hub-0", segment_size: int = 1 << 20) -> list[Recorded]:
    """The same journal goes on; what is in it, from the beginning."""
    with Journal.open(folder, hub, options=JournalOptions(sync_interval=None), segment_size=segment_size) as opened:
        for recorded in events:
            opened.append(recorded.event, recorded.timestamp)
            assert opened.flush(10)
    with JournalReader(folder) as reader:
        written = []
        while batch := reader.read():
            written += [recorded for _, recorded in batch]
    return written


def test_it_goes_on_with_a_segment_that_grows(tmp_path: Path) -> None:
    """What it has of it stays, where it was, for who has read it; more is made when a part's worth has come."""
    events = History(random.Random(5), hubs=1, services=5).run(3_000).events
    folder, third = tmp_path / "journal", len(events) // 3
    grow(folder, events[:third])
    index = JournalIndex(folder, tmp_path / "cache")
    index.complete()
    (first,) = index.segments
    assert not first.whole and len(first.marks) > 2 and first.marks == first.parts
    assert index.load() == []
    read = [first.concerning(part) for part in first.parts]
    written = grow(folder, events[third:])
    assert index.load() == [(1, None)]
    assert index.load() == [], "asked for once"
    index.complete()
    (second,) = index.segments
    assert second.parts[: len(first.parts)] == first.parts and len(second.parts) > len(first.parts)
    # Who knows the earlier one reads the same of the file that has taken its place.
    assert [first.concerning(part) for part in first.parts] == read
    assert first.state(first.marks[0]) == second.state(second.marks[0])
    anew = JournalIndex(folder, tmp_path / "other")
    anew.complete()
    assert concerning_of(index) == concerning_of(anew)
    for recorded in random.Random(6).sample(written, 20):
        moment = Moment(recorded.sequence, None)
        assert states(folder, moment, index) == states(folder, moment, None)


def concerning_of(index: JournalIndex) -> list[int]:
    return [found.sequence for one in index.segments for part in one.parts for _, found in one.concerning(part)]


def test_after_a_crash_another_log_is_another(tmp_path: Path) -> None:
    """A power failure takes the end of the segment, and other events come: what is indexed of it isn't believed."""
    events = History(random.Random(7), hubs=1, services=5).run(1_500).events
    folder, third = tmp_path / "journal", len(events) // 3
    grow(folder, events[: 2 * third])
    index = JournalIndex(folder, tmp_path / "cache")
    index.complete()
    ((_, path),), (one,) = segments(folder), index.segments
    (folder / "checkpoint.json").unlink()
    os.truncate(path, one.marks[-1].offset - 10)
    assert JournalIndex(folder, tmp_path / "cache").segments == [], "it goes further than the log"
    written = grow(folder, events[2 * third :])
    assert path.stat().st_size > one.until
    assert JournalIndex(folder, tmp_path / "cache").segments == [], "the log is another there"
    again = JournalIndex(folder, tmp_path / "cache")
    again.complete()
    assert again.segments[0].until > 0
    for recorded in random.Random(8).sample(written, 20):
        moment = Moment(recorded.sequence, None)
        assert states(folder, moment, again) == states(folder, moment, None)


async def test_each_byte_of_it_is_checked(tmp_path: Path) -> None:
    """Wherever one is wrong: nothing else is said, and what is damaged is made anew."""
    folder, written, index = made(tmp_path)
    one = index.segments[1]
    whole = one.path.read_bytes()
    wanted = {recorded.sequence for part in one.parts for _, recorded in one.concerning(part)}
    within = [recorded for recorded in written if one.first <= recorded.sequence <= one.parts[-1].sequence]
    names = [recorded.event.connection_uid for recorded in within if isinstance(recorded.event, ConnectionStarted)]
    chance = random.Random(9)
    for place in (*(chance.randrange(len(whole)) for _ in range(10)), len(whole) - 1):
        one.path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        other = JournalIndex(folder, tmp_path / "cache")
        for name in names:
            stretches = other.part(Search(name)).stretches
            assert one.first not in stretches or stretches[one.first].places
        for mark in one.marks:
            moment = Moment(mark.sequence, None)
            assert states(folder, moment, other) == states(folder, moment, None)
        with contextlib.suppress(IndexDamaged):
            for segment in other.segments:
                other.flow_until(segment, segment.parts[-1], 0)
        told = {recorded.sequence for _, recorded in await all_of(ConcerningSource(other))}
        assert wanted <= told
        assert one.first not in {known.first for known in other.segments}
        other.complete()
        assert one.path.read_bytes()[: one.parts[-1].incidents[0]] == whole[: one.parts[-1].incidents[0]]
        assert {known.first for known in other.segments} == {known.first for known in index.segments}


async def all_of(source: ConcerningSource) -> list[Entry]:
    async with source:
        return [entry async for entry in source.records()]


def test_incidents_are_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``spnlog incidents`` of several hubs says the same with indexes as without, and reads a part of the log."""
    events = History(random.Random(20), hubs=3, services=5).run(3_000).events
    folders = []
    for hub in sorted({one.hub_id for one in events}):
        folders.append(tmp_path / hub)
        grow(folders[-1], [one for one in events if one.hub_id == hub], hub=hub, segment_size=32 << 10)
    told = []
    (tmp_path / "none").write_text("")
    for cache in (tmp_path / "none", tmp_path / "cache", tmp_path / "cache"):
        arguments = ["incidents", "--json", *map(str, folders), "--index", str(cache)]
        assert run_command_line(app, "spnlog", arguments) == 0
        told.append(json.loads(capsys.readouterr().out))
    assert len(told[0]["incidents"]) > 10 and told[0] == told[1] == told[2]
    read = concerning_of(JournalIndex(folders[0], tmp_path / "cache"))
    assert 0 < len(read) < sum(one.hub_id == folders[0].name for one in events)


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
