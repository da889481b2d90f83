"""``spnlog state --at``: what a hub held at any moment, from any segment, in time."""

from __future__ import annotations

import json
import multiprocessing
import random
import resource
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.point_in_time import Moment, MomentError, States
from spnhub.events.journal.journal import SEGMENT_SIZE, Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.model import Recorded
from spnhub.events.state.hub_state import HubState
from tests.events.histories import History
from tests.events.samples import NOON, day, write_journal
from tests.support.command import run


def journal(folder: Path, count: int, *, segment_size: int, seed: int = 1) -> list[Recorded]:
    """A journal of a random history with so many events, in segments; what is in it, snapshots included."""
    made = History(random.Random(seed), hubs=1, services=5).run(int(2.6 * count) + 100).events[:count]
    written: list[Recorded] = []
    with Journal.open(
        folder,
        "hub-0",
        options=JournalOptions(sync_interval=None),
        segment_size=segment_size,
        on_written=written.extend,
    ) as opened:
        assert len(made) == count
        for place, recorded in enumerate(made):
            opened.append(recorded.event, recorded.timestamp)
            if place % 100 == 0:
                assert opened.flush(10)
        assert opened.flush(10)
    return written


def held(state: HubState) -> tuple[object, ...]:
    """What is compared."""
    return state.sessions, state.connections, state.definitions, state.last_sequence, state.run


@pytest.fixture(scope="module")
def segmented(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Recorded]]:
    """A journal of many small segments."""
    folder = tmp_path_factory.mktemp("segmented")
    written = journal(folder, 2000, segment_size=16384)
    assert len(list(folder.glob("*.segment"))) > 10
    return folder, written


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_moment_is_the_fold_up_to_it(segmented: tuple[Path, list[Recorded]], data: st.DataObject) -> None:
    """By sequence and by time; reading begins at a late segment, and what is held is what the whole log tells."""
    folder, written = segmented
    place = data.draw(st.integers(0, len(written) - 1))
    by_sequence, by_time = (
        States(moment) for moment in (Moment(place + 1, None), Moment(None, written[place].timestamp))
    )
    for states, upto in (
        (by_sequence, place + 1),
        (by_time, next((n for n, one in enumerate(written) if one.timestamp > written[place].timestamp), len(written))),
    ):
        states.read_journal(folder)
        (hub,) = states.finish()
        expected = HubState()
        expected.apply_all(written[:upto])
        assert held(hub.state) == held(expected)


def test_what_is_no_longer_kept(segmented: tuple[Path, list[Recorded]], tmp_path: Path) -> None:
    """Without the first segments the later ones tell the same; what only the first knew is said to be gone."""
    folder, written = segmented
    names = sorted(folder.glob("*.segment"))
    for path in [*names[3:], folder / "journal.json"]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = int(names[3].stem)
    states = States(Moment(first + 150, None))
    states.read_journal(tmp_path)
    expected = HubState()
    expected.apply_all(written[: first + 150])
    assert held(states.finish()[0].state) == held(expected)
    gone = States(Moment(first - 1, None))
    gone.read_journal(tmp_path)
    with pytest.raises(MomentError, match=rf"begins at sequence {first}; {first - 1} is no longer kept"):
        gone.finish()


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.prove)])
def test_a_time_that_is_no_longer_kept(
    segmented: tuple[Path, list[Recorded]], tmp_path: Path, capsys: pytest.CaptureFixture[str], step: int
) -> None:
    """Before the first event that is kept, and within the snapshot that the log begins with: said with the place and
    time that the log begins at; never a state that lacks what was open. From the snapshot's end on, all is known."""
    folder, written = segmented
    names = sorted(folder.glob("*.segment"))
    for path in [*names[3:], folder / "journal.json"]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    first = int(names[3].stem)
    kept = written[first - 1]
    begins = f"begins at sequence {first}, {format_time(kept.timestamp)}"
    refused = 0
    for sequence in (1, first - 1, *range(first, first + 100, step)):
        for text in (str(sequence), format_time(written[sequence - 1].timestamp)):
            status, out, err = spnlog(capsys, "state", "--json", "--at", text, str(tmp_path))
            if status:
                assert (status, out) == (2, "") and "no longer kept" in err
                assert begins in err or (sequence < first and f"begins at sequence {first};" in err)
                refused += 1
                continue
            (hub,) = json.loads(out)["hubs"]
            expected = HubState()
            expected.apply_all(written[: hub["sequence"]])
            assert hub["sequence"] > first
            assert {one["spnSessionId"] for one in hub["sessions"]} == set(expected.sessions)
    assert 4 <= refused < 150 / step
    status, _, err = spnlog(capsys, "state", "--at", "2026-01-01", str(tmp_path))
    assert (status, err.count(begins)) == (2, 1) and "at 2026-01-01T00:00:00.000000Z is no longer kept" in err
    # A log that is kept from its first event on: the hub held nothing then.
    status, out, err = spnlog(capsys, "state", "--json", "--at", "2020-01-01", str(folder))
    assert (status, err) == (0, "") and json.loads(out)["hubs"][0]["sessions"] == []


def test_moments() -> None:
    """Sequences, and times with and without a zone."""
    noon = Moment(None, NOON)
    for text in ("2026-01-02T12:00:00Z", "2026-01-02 12:00", "2026-01-02T12:00", "2026-01-02T13:00+01:00"):
        assert Moment.parse(text) == noon
    assert Moment.parse("12") == Moment(12, None)
    for text in ("0", "-1", "noon", "", "2026-13-01", "12:00", "1e3"):
        with pytest.raises(MomentError):
            Moment.parse(text)


def spnlog(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process."""
    status = run_command_line(app, "spnlog", arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_for_programs_and_for_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same fields as in /state; a table with the same sessions."""
    written = write_journal(tmp_path, day())
    status, out, err = spnlog(capsys, "state", "--json", "--at", "3", str(tmp_path))
    (hub,) = json.loads(out)["hubs"]
    assert (status, err, hub["hubId"], hub["sequence"]) == (0, "", "hub-1", 3)
    assert hub["timestamp"] == format_time(written[2].timestamp)
    assert [(one["spnSessionId"], one["totalConnectionCount"]) for one in hub["sessions"]] == [("p1", 1), ("c1", 1)]
    (connection,) = hub["connections"]
    assert (connection["spnConnectionId"], connection["startAt"]) == ("4-1", hub["timestamp"])
    status, out, err = spnlog(capsys, "state", "--at", format_time(written[4].timestamp), str(tmp_path))
    assert (status, err) == (0, "")
    assert "after sequence 5," in out and "2 sessions and 0 connections open" in out and "CN=c1,O=Acme" in out


def test_several_hubs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At a time each of them; a sequence is one hub's."""
    for name in ("hub-1", "hub-2"):
        write_journal(tmp_path / name, day(), hub_id=name)
    folders = [str(tmp_path / name) for name in ("hub-1", "hub-2")]
    _, out, _ = spnlog(capsys, "state", "--json", "--at", format_time(NOON + 1500), *folders)
    assert [(hub["hubId"], len(hub["sessions"])) for hub in json.loads(out)["hubs"]] == [("hub-1", 2), ("hub-2", 2)]
    _, out, _ = spnlog(capsys, "state", "--json", "--at", "1", "--hub", "hub-2", *folders)
    assert [(hub["hubId"], len(hub["sessions"])) for hub in json.loads(out)["hubs"]] == [("hub-2", 1)]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["--at", "9"], "the log of hub hub-1 ends at sequence 8; there is no 9 yet"),
        (["--at", "0"], "sequences count from 1"),
        (["--at", "yesterday"], "'yesterday' is neither a sequence nor a time"),
        (["--at", "2", "--hub", "hub-7"], "no events of hub hub-7"),
    ],
)
def test_bad_arguments(arguments: list[str], fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the fault, and status 2."""
    write_journal(tmp_path, day())
    status, out, err = spnlog(capsys, "state", *arguments, str(tmp_path))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert fault in err


@pytest.mark.long
def test_memory_does_not_grow_with_the_log(tmp_path: Path) -> None:
    """The last moments of a journal of 7 MB, of which no more than two segments are looked at."""
    written = journal(tmp_path, 30_000, segment_size=1 << 20)
    # In a process of its own: what this one allocates meanwhile, for other tests, is no part of it.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as own:
        sequence, peak = own.submit(_peak_of_reading, tmp_path, len(written) - 1).result()
    assert sequence == len(written) - 1
    assert peak < 4 << 20


def _peak_of_reading(folder: Path, sequence: int) -> tuple[int, int]:
    """What was reached, and the most bytes that were allocated on the way."""
    tracemalloc.start()
    states = States(Moment(sequence, None))
    states.read_journal(folder)
    return states.finish()[0].state.last_sequence, tracemalloc.get_traced_memory()[1]


@pytest.mark.prove
@pytest.mark.system
async def test_any_sequence_of_100_000_in_two_seconds(tmp_path: Path) -> None:
    """The command as a whole, at the beginning, in the middle and at the end of segments: seconds of CPU."""
    written = journal(tmp_path, 100_000, segment_size=SEGMENT_SIZE)
    starts = [int(path.stem) for path in sorted(tmp_path.glob("*.segment"))]
    assert len(starts) > 3
    spent: dict[int, float] = {}
    for sequence in (1, starts[1] - 1, starts[1], starts[1] + 2, len(written) // 2, starts[2] - 1, len(written)):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        status, out, _ = await run("spnlog", "state", "--json", "--at", str(sequence), str(tmp_path), fork=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert (status, json.loads(out)["hubs"][0]["sequence"]) == (0, sequence)
        spent[sequence] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert max(spent.values()) < 2.0, spent
