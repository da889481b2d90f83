"""Runs a program and writes down, with the time, what it opens and imports: ``audited.py FILE PROGRAM ARGUMENT …``.

What the interpreter opens is seen (:func:`sys.addaudithook`), what C libraries open by themselves is not.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from collections.abc import Sequence
from pathlib import Path

__all__ = ["audited", "opened"]

_WATCHED = frozenset({"open", "import", "os.listdir", "os.scandir", "ctypes.dlopen"})


def audited(notes: Path) -> Sequence[str]:
    """What a command is run by."""
    return (sys.executable, __file__, str(notes))


def opened(notes: Path, since: float) -> list[str]:
    """What was opened and imported since a moment (monotonic seconds, which all processes share)."""
    lines = [line.split(" ", 1) for line in notes.read_text(encoding="utf-8").splitlines()]
    return [what for moment, what in lines if float(moment) >= since]


def _watch(file: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def note(event: str, args: tuple[object, ...]) -> None:
        if event in _WATCHED:
            os.write(descriptor, f"{time.monotonic()} {event} {args[0]!r}\n".encode())

    sys.addaudithook(note)


if __name__ == "__main__":
    _watch(sys.argv[1])
    sys.argv = sys.argv[2:]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    runpy.run_path(sys.argv[0], run_name="__main__")
