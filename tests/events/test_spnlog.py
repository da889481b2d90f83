"""``spnlog`` as a user meets it: a process, its output and its status."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from spnhub.events.analysis.log_lines import event_line, lifecycle_line
from spnhub.events.journal.journal import Journal
from spnhub.events.model import Recorded
from tests.events import samples
from tests.events.samples import NOON, day, write_journal
from tests.support.forked import BIN, Running, begin

pytestmark = pytest.mark.system


async def start(*arguments: str) -> Running:
    return await begin("spnlog", *arguments, env=os.environ)


async def spnlog(*arguments: str) -> tuple[int | None, str, str]:
    process = await start(*arguments)
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def lifecycle(written: list[Recorded]) -> list[dict[str, Any]]:
    return [line for recorded in written if (line := lifecycle_line(recorded)) is not None]


async def test_replay(tmp_path: Path) -> None:
    """The lifecycle lines, one JSON object a line, in order; with --all every event, a refusal with its reason."""
    written = write_journal(tmp_path, day())
    plain, as_json, every = await asyncio.gather(
        spnlog("replay", str(tmp_path)),
        spnlog("replay", "--json", str(tmp_path)),
        spnlog("replay", "--all", str(tmp_path)),
    )
    assert (plain[0], lines(plain[1]), plain[2]) == (0, lifecycle(written), "")
    assert as_json == plain
    assert (every[0], lines(every[1]), every[2]) == (0, [event_line(recorded) for recorded in written], "")
    assert [line["reason"] for line in lines(every[1]) if line["eventType"].endswith("Refused")] == [
        "no provider",
        "unknown certificate authority",
    ]


async def test_replay_of_several_hubs(tmp_path: Path) -> None:
    """They are merged by time."""
    one = write_journal(tmp_path / "one", day())
    two = write_journal(tmp_path / "two", day(), hub_id="hub-2", start=NOON + 500)
    status, out, _ = await spnlog("replay", str(tmp_path / "two"), str(tmp_path / "one"))
    both = sorted(one + two, key=lambda recorded: recorded.timestamp)
    assert (status, lines(out)) == (0, lifecycle(both))


async def test_verify(tmp_path: Path) -> None:
    """Status 0 only when clean; in words and for programs."""
    write_journal(tmp_path / "clean", day())
    write_journal(tmp_path / "faulty", [samples.session_ended("c1")], hub_id="hub-2")
    clean, faulty = await asyncio.gather(
        spnlog("verify", str(tmp_path / "clean")),
        spnlog("verify", "--json", str(tmp_path / "clean"), str(tmp_path / "faulty")),
    )
    assert (clean[0], clean[1].splitlines()[-1], clean[2]) == (0, "clean", "")
    assert faulty[0] == 1
    (shown,) = lines(faulty[1])
    assert (shown["clean"], [fault["kind"] for fault in shown["faults"]]) == (False, ["endWithoutStart"])


async def test_damage(tmp_path: Path) -> None:
    """verify calls it a fault; replay shows what comes before, says where, and fails."""
    write_journal(tmp_path, day())
    (path,) = tmp_path.glob("*.segment")
    data = bytearray(path.read_bytes())
    data[600] ^= 1
    path.write_bytes(data)
    verified, replayed = await asyncio.gather(spnlog("verify", str(tmp_path)), spnlog("replay", str(tmp_path)))
    assert verified[0] == replayed[0] == 1
    assert f"fault: {path} is damaged at byte " in verified[1]
    assert replayed[2].startswith(f"spnlog: {path} is damaged at byte ")
    assert replayed[2].count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["replay"], "SOURCE"),
        (["replay", "/no/such/folder"], "/no/such/folder"),
        (["verify", "kafka://nowhere"], "kafka://nowhere"),
        (["tail", "/", "--last", "x"], "--last"),
        (["show", "x"], "show"),
        ([], "command"),
    ],
)
def test_bad_arguments(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the fault, and status 2."""
    status = run_command_line(app, "spnlog", arguments)
    out, err = capsys.readouterr()
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("spnlog: ")
    assert fault in err


async def test_a_folder_without_a_journal(tmp_path: Path) -> None:
    """It is there, and is no journal."""
    assert await spnlog("replay", str(tmp_path)) == (2, "", f"spnlog: no journal in {tmp_path}\n")


async def test_a_reader_that_goes_away(tmp_path: Path) -> None:
    """``spnlog replay | head -1`` is silent."""
    write_journal(tmp_path, day() * 40)
    process = await asyncio.create_subprocess_shell(
        f"{BIN / 'spnlog'} replay --all {tmp_path} | head -1",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (process.returncode, out.count(b"\n"), err) == (0, 1, b"")


async def test_tail(tmp_path: Path) -> None:
    """The last lines, then each event as it is written; an interrupt is an ordinary end."""
    written = write_journal(tmp_path, day())
    process = await start("tail", "--all", "--last", "2", str(tmp_path))
    assert process.stdout is not None
    shown = [json.loads(await process.stdout.readline()) for _ in range(2)]
    assert shown == [event_line(recorded) for recorded in written[-2:]]
    with Journal.open(tmp_path, "hub-1") as journal:
        for _ in range(3):
            recorded = journal.append(samples.session_refused(), NOON)
            assert journal.flush(10)
            assert json.loads(await process.stdout.readline()) == event_line(recorded)
    process.send_signal(signal.SIGINT)
    _, err = await process.communicate()
    assert (process.returncode, err) == (0, b"")
