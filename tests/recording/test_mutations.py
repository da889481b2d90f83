"""Recordings that something has changed: each is refused by name, or drives the actors and ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from spnhub.recording.reader import RecordingError
from tests.recording.making import lines, numbers, record, replay, rewrite


def changed(path: Path, line: int, keys: tuple[str | int, ...], value: Any) -> None:
    """Put a value somewhere into a line (from 0)."""
    records = lines(path)
    inside = records[line]
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = value
    rewrite(path, records)


REFUSED: list[tuple[int, tuple[str | int, ...], Any, str]] = [
    (1, ("now",), 1e18, "step: field now: input should be less than or equal to 1099511627776"),
    (1, ("now",), "1", "step: field now: input should be a valid number"),
    (1, ("now",), -1, "step: field now: input should be greater than or equal to 0"),
    (1, ("wall",), 1 << 63, "step: field wall: input should be less than 9223372036854775808"),
    (1, ("wall",), None, "step: field wall: input should be a valid integer"),
    (1, ("parts",), {}, "step: field parts: input should be a valid array"),
    (1, ("parts", 0), 3, "step: field parts.0: input should be an object"),
    (1, ("parts", 0, "cause"), "later", "step: field parts.0.cause"),
    (1, ("parts", 0, "cause"), [], "[] is no input"),
    (1, ("parts", 0, "cause", 0), True, "is no input"),
    (1, ("parts", 0, "events"), [["1", "HubStarted", {}]], "step: field parts.0.events.0.0"),
    (1, ("parts", 0, "events"), [[1, "HubStarted"]], "step: field parts.0.events.0.2 is missing"),
    (1, ("parts", 0, "commands"), [[1, {}]], "step: field parts.0.commands.0.0"),
    (
        1,
        ("parts", 0, "commands"),
        [["SendShutdownRequest", {}]],
        "SendShutdownRequest: field spread: null is no number",
    ),
    (1, ("end",), 3, "end: its reason is no text"),
    (0, ("journal_id",), "j", "header: field journal_id: it is no UUID"),
    (0, ("options", "alive_interval"), -1, "header: field options.alive_interval: it is negative"),
]


@pytest.mark.parametrize(("line", "keys", "value", "message"), REFUSED)
def test_refused(line: int, keys: tuple[str | int, ...], value: Any, message: str, tmp_path: Path) -> None:
    """Whatever no hub has written has its line and its field; nothing is done with it."""
    path = record(tmp_path, numbers(1, 30)).path
    changed(path, line, keys, value)
    with pytest.raises(RecordingError) as caught:
        replay(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("literal", ["1e999", "NaN", "-Infinity"])
def test_no_number(literal: str, tmp_path: Path) -> None:
    """Neither of JSON's kinds nor of Python's."""
    path = record(tmp_path, numbers(1, 30)).path
    text = path.read_text().replace('"alive_interval":60.0', f'"alive_interval":{literal}', 1)
    assert literal in text
    path.write_text(text)
    with pytest.raises(RecordingError, match=r"not JSON|finite number"):
        replay(path)


@pytest.mark.parametrize("option", ["alive_interval", "progress_interval", "slice_pause", "slice_size", "expiry_check"])
@pytest.mark.parametrize("earliest", [0.0, float(1 << 40)])
def test_an_interval_of_nothing(option: str, earliest: float, tmp_path: Path) -> None:
    """A timer that is due again at once, also because the clock is beyond its interval, fires in the next step."""
    path = record(tmp_path, numbers(1, 200)).path
    records = lines(path)
    records[0]["options"][option] = type(records[0]["options"][option])(0)
    for one in records[1:-1]:
        one["now"] = max(one["now"], earliest)
    rewrite(path, records)
    replayer, _ = replay(path)
    assert replayer.steps > 0


def test_the_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, status 2, in every form."""
    path = record(tmp_path, numbers(1, 30)).path
    changed(path, 2, ("now",), 1e18)
    for options in ([], ["--step"], ["--json"], ["--step", "--json"], ["--until", "50"]):
        status = run_command_line(app, "spnlog", ["replay-actors", str(path), *options])
        said = capsys.readouterr()
        assert status == 2
        assert said.err.count("\n") == 1
        assert f"spnlog: {path}, line 3, by spnhub 0.1.0: step: field now: " in said.err
        if "--json" in options:
            assert all(json.loads(line) for line in said.out.splitlines())
