"""Reads a recording, step by step, in memory for one step. Counterpart: :mod:`spnhub.recording.writer`."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from spnhub.dataclass import dataclass
from spnhub.recording.format import (
    SUFFIX,
    FormatError,
    Header,
    PlainPart,
    decode_command,
    decode_input,
    decode_step,
    load_line,
)
from spnhub.recording.system import Address, Input

__all__ = ["RecordedPart", "RecordedStep", "Recording", "RecordingError", "find_recordings"]


class RecordingError(Exception):
    """A recording that can't be read; the text names the file, the line and what is wrong with it."""


@dataclass(frozen=True, slots=True)
class RecordedPart:
    """A cause and what came of it, in the recording's words."""

    cause: str | tuple[Address, Input]
    events: tuple[tuple[int, str, dict[str, Any]], ...]
    """Sequence, class and fields."""
    commands: tuple[tuple[str, dict[str, Any]], ...]
    """Class and fields."""


@dataclass(frozen=True, slots=True)
class RecordedStep:
    """One run of the actors."""

    line: int
    """Where it stands in the file, from 1."""
    now: float
    wall_us: int
    parts: tuple[RecordedPart, ...]


class Recording:
    """One file.

    :raises RecordingError: it can't be opened, or isn't a recording that this version reads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.end: str | None = None
        """Why it ends, once that has been read; None: it was cut off (a hub that was killed), or isn't read yet."""
        lines = self._lines()
        try:
            self.header = Header.unpack(next(lines, (0, b""))[1])
        except FormatError as exc:
            raise RecordingError(f"{path}: {exc}") from None
        finally:
            lines.close()

    def steps(self) -> Iterator[RecordedStep]:
        """All steps, in order. A torn last line is none.

        :raises RecordingError: a line is damaged, or holds what this version doesn't know.
        """
        lines = self._lines()
        next(lines)
        for number, line in lines:
            try:
                record = load_line(line)
                match record.get("end"):
                    case str(reason):
                        self.end = reason
                        return
                    case None:
                        step = decode_step(record)
                    case _:
                        raise FormatError("end: its reason is no text")
                recorded = RecordedStep(number, step.now, step.wall, tuple(map(_part, step.parts)))
            except FormatError as exc:
                by = self.header.software
                raise RecordingError(f"{self.path}, line {number}, by spnhub {by}: {exc}") from None
            yield recorded

    def _lines(self) -> Generator[tuple[int, bytes], None, None]:
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(file, start=1):
                    if line.endswith(b"\n"):
                        yield number, line
        except OSError as exc:
            raise RecordingError(f"{self.path}: {exc.strerror or exc}") from None


def find_recordings(path: Path) -> list[Path]:
    """The recordings in a folder, oldest first; a file is itself one.

    :raises RecordingError: there is none.
    """
    if not path.exists():
        raise RecordingError(f"{path} does not exist")
    if not path.is_dir():
        return [path]
    found = sorted(path.glob(f"*{SUFFIX}"))
    if not found:
        raise RecordingError(f"no recording (*{SUFFIX}) in {path}")
    return found


def _part(part: PlainPart) -> RecordedPart:
    return RecordedPart(
        part.cause if isinstance(part.cause, str) else decode_input(part.cause),
        part.events,
        tuple(decode_command(name, fields) for name, fields in part.commands),
    )
