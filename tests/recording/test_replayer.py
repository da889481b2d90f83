"""What was recorded comes again; what was changed is found, at its place."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.events.state.hub_state import HubState
from spnhub.recording.replayer import changes
from tests.recording.making import FIRST_SEQUENCE, lines, numbers, record, replay, rewrite


@given(chosen=st.lists(st.integers(0, 2**32), max_size=60), batch=st.integers(1, 5))
@settings(max_examples=30, deadline=None)
def test_a_recording_comes_again(chosen: list[int], batch: int) -> None:
    """Any history, however its inputs were batched: the same events and commands."""
    with tempfile.TemporaryDirectory() as folder:
        path = record(Path(folder), chosen, batch=batch).path
        replayer, difference = replay(path)
        steps = [line for line in lines(path) if "parts" in line]
    assert difference is None
    assert replayer.recording.end == "the hub has stopped"
    assert replayer.steps == len(steps)
    parts = [part for step in steps for part in step["parts"]]
    assert replayer.events == sum(len(part["events"]) for part in parts) > 0
    assert replayer.inputs == sum(isinstance(part["cause"], list) for part in parts) >= len(chosen) // 2
    assert replayer.last_sequence == max(event[0] for part in parts for event in part["events"])
    assert (replayer.state.sessions, replayer.state.connections) == ({}, {})


def spoil(part: dict[str, Any], rng: random.Random) -> bool:
    """Change one thing that was recorded of a part; whether there was any."""
    kinds = [kind for kind in ("events", "commands") if part[kind]]
    if not kinds:
        return False
    outputs = part[rng.choice(kinds)]
    index = rng.randrange(len(outputs))
    match rng.randrange(4):
        case 0:
            del outputs[index]
        case 1:
            outputs.insert(index, outputs[index])
        case 2:
            outputs[index][-2] = "Invented"
        case _:
            fields = outputs[index][-1]
            if not fields:
                return False
            fields[rng.choice(sorted(fields))] = "another"
    return True


@pytest.mark.parametrize("seed", range(12))
def test_a_change_is_found_at_its_place(seed: int, tmp_path: Path) -> None:
    """One event or command doubled, missing, or another: the line and the cause are named, and what came is there."""
    rng = random.Random(seed)
    path = record(tmp_path, numbers(seed, 200), batch=1 + seed % 3).path
    records = lines(path)
    while True:
        line = rng.randrange(1, len(records) - 1)
        part = rng.choice(records[line]["parts"])
        if spoil(part, rng):
            break
    rewrite(path, records)
    replayer, difference = replay(path)
    assert difference is not None
    assert difference.line == line + 1
    assert replayer.steps == line
    cause = part["cause"]
    assert difference.cause == cause if isinstance(cause, str) else type(difference.cause[1]).__name__ == cause[1]
    assert difference.expected != difference.came


def test_a_changed_input_shows_in_what_comes_of_it(tmp_path: Path) -> None:
    """An input that isn't what the hub got: the first thing that it does otherwise is shown field by field."""
    path = record(tmp_path, numbers(1, 100)).path
    records = lines(path)
    line, part = next(
        (number, part)
        for number, step in enumerate(records, start=1)
        for part in step.get("parts", ())
        if part["events"] and part["events"][0][1] == "SessionStarted"
    )
    part["cause"][2]["remote_address"] = "198.51.100.1:1"
    rewrite(path, records)
    _, difference = replay(path)
    assert difference is not None
    assert (difference.line, difference.kind, difference.number) == (line, "event", 1)
    assert difference.sequence == part["events"][0][0]
    (change,) = difference.fields
    assert (change.path, change.before, change.after) == ("remote_address", "192.0.2.1:4433", "198.51.100.1:1")


def test_another_time_is_another_history(tmp_path: Path) -> None:
    """Times are inputs, too."""
    path = record(tmp_path, numbers(2, 100)).path
    records = lines(path)
    at = next(n for n, one in enumerate(records) if "SessionEnded" in str(one.get("parts")))
    records[at]["wall"] += 1_000_000
    rewrite(path, records)
    _, difference = replay(path)
    assert difference is not None
    assert difference.line == at + 1
    assert [change.path for change in difference.fields] == ["elapsed_time"]


def test_until_a_sequence(tmp_path: Path) -> None:
    """The step that holds the sequence is the last one."""
    path = record(tmp_path, numbers(3, 200)).path
    sequences = [event[0] for step in lines(path)[1:-1] for part in step["parts"] for event in part["events"]]
    assert sequences[0] >= FIRST_SEQUENCE
    middle = sequences[len(sequences) // 2]
    replayer, difference = replay(path, until=middle)
    assert difference is None
    assert middle <= replayer.last_sequence < sequences[-1]
    assert replayer.recording.end is None


def test_fields_that_came_later_are_not_compared(tmp_path: Path) -> None:
    """A recording of a version that didn't know a field of an event or command is none the worse."""
    path = record(tmp_path, numbers(4, 200)).path
    records = lines(path)
    removed = 0
    for step in records[1:-1]:
        for part in step["parts"]:
            for _, _, fields in part["events"]:
                removed += fields.pop("remote_address", None) is not None
            for _, fields in part["commands"]:
                removed += fields.pop("reason", None) is not None
    assert removed > 10
    rewrite(path, records)
    assert replay(path)[1] is None


def test_changes_of_the_state(tmp_path: Path) -> None:
    """Each step's changes, by path; nothing else is different."""
    path = record(tmp_path, numbers(1, 100)).path
    replayer, _ = replay(path, until=FIRST_SEQUENCE + 3)
    found = {change.path: change for change in changes(HubState(), replayer.state)}
    assert "definitions.realms.acme" in found
    assert found["definitions.realms.acme"].before == "(nothing)"
    assert changes(replayer.state, replayer.state.copy()) == []
