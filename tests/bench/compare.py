"""Two git revisions side by side: each has a worktree and an install of its own, and programs that are measured."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.bench.tunnel import Subject

__all__ = ["subject_of"]


def subject_of(revision: str, folder: Path, engine: str) -> Subject:
    """The programs of a revision, installed below ``folder`` unless they are already there.

    :param engine: aioquic, or native, which is built where Cargo is.
    :raises subprocess.CalledProcessError: no such revision, or it can't be installed.
    """
    commit = _run("git", "rev-parse", "--verify", "--short=12", f"{revision}^{{commit}}")
    tree = (folder / commit).absolute()
    if not (tree / ".git").exists():
        folder.mkdir(parents=True, exist_ok=True)
        _run("git", "worktree", "prune")
        _run("git", "worktree", "add", "--detach", str(tree), commit)
    goals = ["install"]
    if engine != "aioquic" and shutil.which("cargo"):
        goals.append("native")
    # Its own build folder: the other revision's objects aren't its own.
    environment = {**os.environ, "CARGO_TARGET_DIR": str(tree / "build" / "native")}
    subprocess.run(["make", "--directory", str(tree), *goals], check=True, env=environment)
    return Subject(commit, engine, tree / ".venv" / "bin")


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
