"""What a hub does for a connection and for bytes, counted: calls and executed lines of all its rooms and aioquic.

``python -m tests.bench.counts`` compares them with those of the merge base, or of a revision that it is told, and has
status 1 when one has grown by more than a third: the hub's rate has fallen by a quarter. Counts say on a busy machine
what they say on a quiet one. Both revisions are counted by this file, each with its own sources and simulation, in one
environment, so on aioquic: the native engine there is only one revision's.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Final

import aioquic
import pytest

import spnhub
from tests.transport.hub import test_cost

__all__ = ["count", "grown"]

_MOST: Final = 4 / 3
"""A rate that falls by 25 % is a cost that grows by a third."""

Counts = dict[str, float]


def count(engine: str = "aioquic") -> Counts:
    """Calls and lines by what they are of: a connection from opening to end, and a turn with 18 datagrams passed on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(test_cost, "COUNTED", tuple(str(Path(inspect.getfile(one)).parent) for one in (spnhub, aioquic)))
        site = test_cost.Site(engine, patch)
        bulk = min(site.send_in_one_turn(test_cost.BATCH)[1] for _ in range(6))
        connection = min(site.meter.of(site.open_and_close, test_cost.TOGETHER) for _ in range(4))
    return {
        "bulk, calls": bulk.calls,
        "bulk, lines": bulk.lines,
        "connection, calls": connection.calls,
        "connection, lines": connection.lines,
    }


def grown(before: Counts, after: Counts) -> list[str]:
    """Those that both have and that have grown by more than a third."""
    return [name for name in before.keys() & after.keys() if after[name] > before[name] * _MOST]


def _git(*arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], check=True, capture_output=True).stdout


def _base() -> str:
    """The merge base with the main branch, or, on it, the commit before.

    :raises subprocess.CalledProcessError: the clone doesn't have it.
    """
    base = _git("merge-base", "HEAD", "origin/main").decode().strip()
    head = _git("rev-parse", "HEAD").decode().strip()
    return _git("rev-parse", "HEAD^").decode().strip() if base == head else base


def _count_of(revision: str) -> Counts:
    """:raises subprocess.CalledProcessError: its simulation isn't one that this file can count."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(_git("archive", revision))) as archive:
            # Debian 12's Python 3.11.2 has no such filter yet.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(folder)
        environment = os.environ | {"PYTHONPATH": f"{folder}/src:{folder}"}
        command = [sys.executable, "-P", __file__, "--print"]
        done = subprocess.run(command, check=True, capture_output=True, cwd=folder, env=environment)
        counts: Counts = json.loads(done.stdout)
        return counts


def main() -> int:
    """The command."""
    if sys.argv[1:] == ["--print"]:
        print(json.dumps(count()))
        return 0
    try:
        base = sys.argv[1] if sys.argv[1:] else _base()
        before = _count_of(base)
    except subprocess.CalledProcessError as exc:
        print(f"nothing to compare with: {exc}\n{exc.stderr.decode(errors='replace')[-500:]}", file=sys.stderr)
        return 0
    after = count()
    too_much = grown(before, after)
    for name in sorted(before.keys() & after.keys()):
        verdict = "  more than a third more" if name in too_much else ""
        print(f"{name:20} {base[:8]} {before[name]:9.1f}  now {after[name]:9.1f}{verdict}")
    return 1 if too_much else 0


if __name__ == "__main__":
    sys.exit(main())
