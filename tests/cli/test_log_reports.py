"""``spnlog explain`` and ``metrics`` as a user meets them; ``serve``'s arguments; progress on a terminal only."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from pathlib import Path

import pytest

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from spnhub.events.model import EndPointType
from tests.events import samples
from tests.events.samples import NOON, SERVICE, day, write_journal

UID = "ab" * 16


def spnlog(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run a command in this process."""
    status = run_command_line(app, "spnlog", arguments)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.fixture
def two_hubs(tmp_path: Path) -> list[str]:
    """A connection that goes on on a second hub, an hour later."""
    write_journal(
        tmp_path / "one",
        [
            samples.session_started("p1", EndPointType.PROVIDER),
            samples.session_started("c1"),
            samples.connection_started(),
            samples.connection_ended(suspended=True),
        ],
    )
    write_journal(
        tmp_path / "two",
        [
            samples.session_started("p2", EndPointType.PROVIDER),
            samples.session_started("c2"),
            samples.connection_started(epoch=1, start=(80, 2000), consumer="c2", provider="p2"),
            samples.connection_ended(epoch=1, start=(80, 2000), consumer="c2", provider="p2", total=(20, 0)),
        ],
        hub_id="hub-2",
        start=NOON + 3_600_000_000,
    )
    return [str(tmp_path / "two"), str(tmp_path / "one")]


def test_explain(two_hubs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One story over both logs, in order of time; the same for programs."""
    status, out, err = spnlog(capsys, "explain", UID, *two_hubs)
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0].startswith(f"Connection {UID} of {SERVICE}: 2 legs on hub-1, hub-2; ended, closedByPeer; 100 bytes")
    times = [line.split()[0] for line in lines[1:]]
    assert times == sorted(times) and len(times) == 8
    assert "+1 h 0 min  hub-2  session p2" in lines[5]
    _, out, _ = spnlog(capsys, "explain", "--json", "4-1", *two_hubs)
    (story,) = json.loads(out)["stories"]
    assert (story["id"], [event["epoch"] for event in story["events"]]) == (UID, [0, 0, 1, 1])
    _, out, _ = spnlog(capsys, "explain", "c1", *two_hubs)
    assert out.startswith("Session c1 of CN=c1,O=Acme, serviceConsumer")


def test_explain_what_is_not_there(two_hubs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the id, and status 2."""
    status, out, err = spnlog(capsys, "explain", "c9", *two_hubs)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "is called c9: no spnSessionId, connectionUid or spnConnectionId" in err


def test_metrics(two_hubs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """By service over both logs, and bytes by hour, replayed ones once; tables hold the same numbers."""
    status, out, err = spnlog(capsys, "metrics", "--json", *two_hubs)
    (service,) = json.loads(out)["services"]
    assert (status, err) == (0, "")
    assert (service["totalSentBytes"], service["replayedSentBytes"], service["totalReceiveBytes"]) == (100, 20, 2000)
    assert service["sessions"]["serviceConsumer"]["live"] == service["connections"]["total"] == 2
    _, out, _ = spnlog(capsys, "metrics", "--by", "hour", "--json", *two_hubs)
    assert json.loads(out)["hours"] == [
        {
            "hour": "2026-01-02T12:00:00.000000Z",
            "realm": "acme",
            "serviceUrn": SERVICE,
            "totalSentBytes": 80,
            "totalReceiveBytes": 2000,
        },
        {
            "hour": "2026-01-02T13:00:00.000000Z",
            "realm": "acme",
            "serviceUrn": SERVICE,
            "totalSentBytes": 20,
            "totalReceiveBytes": 0,
        },
    ]
    for arguments in (["metrics"], ["metrics", "--by", "hour"]):
        status, out, err = spnlog(capsys, *arguments, *two_hubs)
        assert (status, err) == (0, "") and SERVICE in out and "2,000" in out


def test_the_same_from_the_same_log_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second copy of a log adds nothing."""
    write_journal(tmp_path, day())
    once = spnlog(capsys, "metrics", "--json", str(tmp_path))
    assert spnlog(capsys, "metrics", "--json", str(tmp_path), str(tmp_path)) == once


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (["metrics", "--by", "day", "."], "--by"),
        (["metrics", "/no/such/folder"], "/no/such/folder"),
        (["serve", "--listen", "nowhere", "."], "--listen: 'nowhere' is not HOST:PORT"),
        (["serve", "--group", " ", "."], "--group is empty"),
        (["serve", "kafka://localhost:9092/a", "."], "not both"),
        (["serve", "kafka://localhost:9092/a", "kafka://localhost:9092/b"], "one Kafka topic"),
        (["serve", "kafka://localhost:9092"], "names no topic"),
        (["serve", "--listen", "127.0.0.1:0", "/no/such/folder"], "/no/such/folder"),
        (["explain", "x"], "SOURCE"),
    ],
)
@pytest.mark.outside
def test_bad_arguments(arguments: list[str], fault: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line that names the fault, and status 2."""
    status, _, err = spnlog(capsys, *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert fault in err


@pytest.mark.system
@pytest.mark.parametrize(("command", "terminal"), [("metrics", True), ("metrics", False), ("verify", True)])
def test_progress(tmp_path: Path, command: str, *, terminal: bool) -> None:
    """Standard error of a long read shows it on a terminal, and nothing in a pipe."""
    write_journal(tmp_path, day() * 100)
    code = (
        "import sys, spnhub.cli.log_reading as reading; reading.PATIENCE = 0.0;"
        "from spnhub.cli.start import log as main; sys.exit(main())"
    )
    ours, theirs = pty.openpty() if terminal else os.pipe()
    try:
        process = subprocess.run(
            [sys.executable, "-c", code, command, "--json", str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
            check=False,
        )
        shown = os.read(ours, 65536) if select.select([ours], [], [], 0)[0] else b""
    finally:
        os.close(ours)
        os.close(theirs)
    found = json.loads(process.stdout)
    assert found[{"metrics": "hubs", "verify": "logs"}[command]][0]["events"] == 800
    assert (b"reading: " in shown) is terminal
