"""``spnlog --config FILE``: one file for all commands, and what is wrong in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from tests.events.samples import day, write_journal

NAMES = [
    "replay",
    "tail",
    "verify",
    "state",
    "explain",
    "incidents",
    "top",
    "console",
    "metrics",
    "serve",
    "replay-actors",
    "drive",
]


@pytest.fixture(autouse=True)
def the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A journal to read, and a file with options of several commands beside it."""
    write_journal(tmp_path / "journal", day())
    (tmp_path / "spnlog.toml").write_text('json = true\nall = true\nat = "3"\nby = "hour"\nlisten = "127.0.0.1:9800"\n')
    monkeypatch.chdir(tmp_path)


def spnlog(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process."""
    status = run_command_line(app, "spnlog", arguments)
    return status, *capsys.readouterr()


def test_every_command_takes_a_file() -> None:
    """Or the variable that names one."""
    group: Any = typer.main.get_command(app)
    assert sorted(group.commands) == sorted(NAMES)
    for command in group.commands.values():
        (config,) = (one for one in command.params if "--config" in one.opts)
        assert config.envvar == "SPNLOG_CONFIG"


@pytest.mark.parametrize("command", [("verify",), ("state",), ("metrics",)])
def test_one_file_for_all(command: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Each takes what it knows of it, as if it were given as flags."""
    flags = {"verify": [], "state": ["--at", "3"], "metrics": ["--by", "hour"]}[command[0]]
    of_flags = spnlog(capsys, *command, "--json", *flags, "journal")
    assert of_flags[0] == 0
    json.loads(of_flags[1])
    assert spnlog(capsys, *command, "--config", "spnlog.toml", "journal") == of_flags


def test_flags_and_variables_win(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag over a variable, that over the file, which a variable may name."""
    monkeypatch.setenv("SPNLOG_CONFIG", "spnlog.toml")
    every = spnlog(capsys, "replay", "journal")
    assert every == spnlog(capsys, "replay", "--all", "journal")
    lines = spnlog(capsys, "replay", "--no-all", "journal")
    assert len(lines[1]) < len(every[1])
    monkeypatch.setenv("SPNLOG_ALL", "false")
    assert spnlog(capsys, "replay", "journal") == lines
    assert spnlog(capsys, "replay", "--all", "journal") == every


@pytest.mark.parametrize(
    ("text", "command", "fault"),
    [
        ("al = true", "replay", "bad.toml:1: al is unknown; did you mean all?"),
        ("all = 1", "replay", "bad.toml:1: all: '1' is not true or false"),
        ("\nlast = -1", "tail", "bad.toml:2: last: -1 is below 0"),
        ("until = 0", "replay-actors", "bad.toml:1: until: a log's sequences count from 1"),
        ('by = "day"', "metrics", "bad.toml:1: by: 'day' is none of hour"),
        ('at = "yesterday"', "state", "--at: 'yesterday' is neither a sequence nor a time"),
        ('group = " "', "serve", "bad.toml:1: group is empty"),
    ],
)
def test_what_is_wrong(text: str, command: str, fault: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line with file and line, and status 2."""
    (tmp_path / "bad.toml").write_text(text)
    status, out, err = spnlog(capsys, command, "--config", "bad.toml", "journal")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert fault in err
