"""Recorded histories of real hubs come again with every later version, by another process without a network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recording.scenarios import HISTORIES, SCENARIOS, accept

pytestmark = pytest.mark.outside

_WITHOUT_NETWORK = """
import sys

def forbid(event, _):
    if event.startswith("socket."):
        raise RuntimeError(f"it wants a network: {event}")

sys.addaudithook(forbid)
from spnhub.cli.log import main
sys.exit(main())
"""

KINDS = {
    "everyday": {"SessionRefused", "ConnectionStarted", "ConnectionEnded", "SessionEnded"},
    "reload": {"ServiceRemoved", "InventoryRejected", "ServiceChanged", "ConnectionEnded"},
    "started_on_demand": {"ServiceStartRequested", "ServiceStarted", "ServiceStopRequested", "ServiceStopped"},
    "moved": {"ConnectionPaused", "ConnectionResumed"},
}
"""What a history is there for."""


def test_they_are_all_there() -> None:
    """Each scenario, small enough to be kept, with the events that it is there for."""
    assert {path.name for path in HISTORIES.iterdir()} == set(SCENARIOS) == set(KINDS)
    assert sum(path.stat().st_size for path in HISTORIES.rglob("*.jsonl")) < 300_000
    for name, kinds in KINDS.items():
        text = "".join(path.read_text() for path in (HISTORIES / name).iterdir())
        assert {kind for kind in kinds if f'"{kind}",{{' not in text} == set()


@pytest.mark.parametrize("name", SCENARIOS)
def test_history(name: str) -> None:
    """Equal, to the last event and command, whatever order sets have in this process."""
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_NETWORK, "replay-actors", "--json", str(HISTORIES / name)],
        env=os.environ | {"PYTHONHASHSEED": str(len(name))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(list((HISTORIES / name).iterdir()))
    for result in results:
        assert result["equal"]
        assert result["end"] == "the hub has stopped"
        assert (result["sessions"], result["connections"]) == (0, 0)
        assert result["events"] > 10


def test_accepting_changes_nothing_as_long_as_nothing_changed(tmp_path: Path) -> None:
    """Histories that are up to date stay as they are, but for the numbers of events that the journal itself wrote."""
    path = tmp_path / "1.jsonl"
    shutil.copyfile(HISTORIES / "everyday" / "1.jsonl", path)
    before = path.read_bytes()
    accept(path)
    assert path.read_bytes() == before
