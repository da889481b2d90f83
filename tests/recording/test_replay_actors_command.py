"""``spnlog replay-actors``: what it says, and its status; and a recording of a real hub from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from tests.recording.making import FIRST_SEQUENCE, lines, numbers, record, rewrite
from tests.recording.scenarios import everyday
from tests.support.world import World


def spnlog(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Status, standard output, standard error."""
    status = run_command_line(app, "spnlog", ["replay-actors", *arguments])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts, and how it ends; for programs, too."""
    record(tmp_path, numbers(1, 100))
    status, out, err = spnlog(capsys, str(tmp_path))
    assert (status, err) == (0, "")
    assert "equal: " in out
    assert "then 0 sessions and 0 connections open" in out
    assert out.endswith("end of the recording: the hub has stopped\n")
    status, out, _ = spnlog(capsys, str(tmp_path), "--json", "--until", str(FIRST_SEQUENCE + 5))
    result = json.loads(out)
    assert (status, result["equal"], result["difference"], result["end"]) == (0, True, None, None)
    assert result["firstSequence"] == FIRST_SEQUENCE <= result["lastSequence"]


def test_different(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The line, the input, the event, and the field."""
    path = record(tmp_path, numbers(1, 100)).path
    records = lines(path)
    number, event = next(
        (number, part["events"][0])
        for number, one in enumerate(records, start=1)
        for part in one.get("parts", ())
        if part["events"] and part["events"][0][1] == "SessionStarted"
    )
    session, weight = event[2]["spn_session_id"], event[2]["weight"]
    event[2]["weight"] = 7
    rewrite(path, records)
    status, out, err = spnlog(capsys, str(path))
    assert (status, err) == (1, "")
    said = out.splitlines()
    assert said[0].startswith(f"{path}, line {number}: first difference, at 2023-11-14T22:13:")
    assert said[1].startswith("  cause: to the hub: SessionRequested(session=")
    assert f"spn_session_id='{session}'" in said[1]
    assert said[2].startswith(f"  event 1 of it (sequence {event[0]} of journal ")
    assert said[3:] == [f"    SessionStarted.weight  expected 7  came {weight}"]
    status, out, _ = spnlog(capsys, str(path), "--json")
    result = json.loads(out)
    assert (status, result["equal"]) == (1, False)
    assert (result["difference"]["line"], result["difference"]["fields"]) == (number, {"weight": [7, weight]})

    event[1] = "Invented"
    rewrite(path, records)
    out = spnlog(capsys, str(path))[1]
    assert "    expected Invented {" in out
    assert "    came     SessionStarted {" in out


def test_step_by_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every input, what came of it, and what it changed; nobody waits where there is no terminal."""
    path = record(tmp_path, numbers(1, 60)).path
    status, out, _ = spnlog(capsys, str(path), "--step")
    assert status == 0
    assert "  to the hub: SessionRequested(" in out
    assert "  sessions.s" in out
    assert "(nothing) -> OpenSession(" in out
    status, out, _ = spnlog(capsys, str(path), "--step", "--json")
    steps: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
    assert status == 0
    assert [step["line"] for step in steps[:-1]] == list(range(2, len(steps) + 1))
    assert any("sessions.s" in name for step in steps[:-1] for name in step["changes"])


def test_what_cannot_be_driven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line on standard error, status 2."""
    assert spnlog(capsys, str(tmp_path)) == (2, "", f"spnlog: no recording (*.jsonl) in {tmp_path}\n")
    path = record(tmp_path, []).path
    assert spnlog(capsys, str(path), "--until", "3") == (
        2,
        "",
        f"spnlog: --until: no recording in {path} begins at or before sequence 3\n",
    )
    path.write_text("{}\n")
    assert spnlog(capsys, str(path)) == (2, "", f"spnlog: {path}: this is no recording of a hub\n")


@pytest.mark.system
async def test_a_real_hub(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its recording comes again, fits its journal, and holds no key, certificate, secret or payload."""
    (tmp_path / "world").mkdir()
    async with World(tmp_path / "world") as world:
        await everyday(world, tmp_path / "recording")
        events = await world.events()
        secrets = [path.read_text() for path in world.folder.glob("*.key")]
        secrets += [world.network()["serverCertKey"], world.network()["serverCert"], world.realms[0]["cacert"]]
        secrets += [world.realms[0]["deviceIDSigningKey"], "payload that no recording holds", "PRIVATE"]
    (path,) = (tmp_path / "recording").iterdir()
    text = path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    for secret in secrets:
        for line in secret.splitlines():
            assert line not in text
    assert "resume_secret" not in text
    assert '"secret"' not in text
    recorded = {
        sequence: name for step in lines(path)[1:-1] for part in step["parts"] for sequence, name, _ in part["events"]
    }
    assert list(recorded) == [event["sequence"] for event in events]
    assert lines(path)[0]["journal_id"] == events[0]["journalId"]
    assert spnlog(capsys, str(path))[0] == 0
