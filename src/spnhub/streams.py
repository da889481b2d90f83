"""Standard streams as the commands have them: whatever they are connected to, writing to them has few and known ends.

Closed ones are opened on the null device before anything else gets their number. Standard output waits for its reader,
also where somebody has made it non-blocking, escapes what its encoding hasn't, and fails with :class:`OutputFailed`, or
with :class:`ReaderLeft`. Standard error fails never: there is no place left to say so.

Counterpart: :mod:`spnhub.cli.command_line`, which runs every command on them.
"""

from __future__ import annotations

import asyncio
import io
import os
import re
import select
import stat
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TextIO, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["OutputFailed", "ReaderLeft", "abandon", "descriptor", "hurry", "prepare", "printable"]

_SLICE: Final = 0.2
"""Seconds after which whoever waits for a reader looks whether it has been interrupted."""
_PATIENCE: Final = 1.0
"""Seconds that a service waits for whoever reads its standard error."""
_CONTROLS: Final = re.compile(r"[^\x20-\x7e\xa0-\U0010ffff]")


class OutputFailed(Exception):
    """Standard output can't be written. The text is the system's reason."""


class ReaderLeft(Exception):
    """Nobody reads standard output any more. Not the system's own error, which sockets have, too."""


def prepare() -> None:
    """Make the standard streams of this process such ones. Those of somebody else (a test's) stay."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is what it gets.
            os.open(os.devnull, os.O_RDWR)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - a descriptor, for as long as the process
    if sys.stdout is sys.__stdout__:
        sys.stdout = _text(_Output(1, "w", closefd=False), sys.stdout)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Errors(2, "w", closefd=False), sys.stderr)


def descriptor() -> int | None:
    """Standard output's, if it is that of :func:`prepare`; None: it is somebody else's, and anything."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.fileno() if isinstance(raw, _Output) else None


def hurry() -> None:
    """From now on nobody waits longer than a second for whoever reads standard error: this process is a service."""
    _Errors.patience = _PATIENCE


def abandon() -> None:
    """Forget what standard output has not taken: Python would try once more at its exit, and complain or wait.

    A file doesn't make wait: it gets its last lines whole.
    """
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(raw, _Output):
        return
    null = os.open(os.devnull, os.O_WRONLY)
    with suppress(OutputFailed, ReaderLeft):
        if raw.is_file:
            sys.stdout.flush()
    os.dup2(null, raw.fileno())
    os.close(null)
    sys.stdout.flush()


def printable(text: str) -> str:
    """``text`` with control characters escaped, so that it is one line and drives no terminal."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _text(raw: io.FileIO, before: TextIO | None) -> io.TextIOWrapper:
    encoding, at_once = "utf-8", raw.isatty()
    if isinstance(before, io.TextIOWrapper):
        encoding = before.encoding
        # Python was told to (-u).
        at_once = at_once or before.write_through or before.line_buffering
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=encoding, errors="backslashreplace", line_buffering=at_once
    )


class _Output(io.FileIO):
    """Standard output."""

    @property
    def is_file(self) -> bool:
        """Whether it has room or fails, instead of making wait."""
        return stat.S_ISREG(os.fstat(self.fileno()).st_mode)

    def write(self, data: ReadableBuffer, /) -> int:
        piece = memoryview(data)
        try:
            if not self.is_file:
                piece = piece[: select.PIPE_BUF]
                self._await_reader()
            # None: non-blocking, and there is no room.
            while (written := cast("int | None", super().write(piece))) is None:
                self._await_reader()
        except BrokenPipeError as exc:
            raise ReaderLeft from exc
        except OSError as exc:
            raise OutputFailed(exc.strerror or str(exc)) from exc
        return written

    def _await_reader(self) -> None:
        """Until there is room.

        :raises KeyboardInterrupt: the running task was told to end. A second Ctrl-C would raise it anywhere.
        """
        poll = select.poll()
        poll.register(self.fileno(), select.POLLOUT)
        while not poll.poll(1000 * _SLICE):
            with suppress(RuntimeError):  # no loop
                task = asyncio.current_task()
                if task is not None and task.cancelling():
                    raise KeyboardInterrupt


class _Errors(io.FileIO):
    """Standard error."""

    patience: float | None = None
    """Seconds; None: as long as it takes."""

    def write(self, data: ReadableBuffer, /) -> int:
        size = memoryview(data).nbytes
        with suppress(OSError):
            poll = select.poll()
            poll.register(self.fileno(), select.POLLOUT)
            if poll.poll(None if self.patience is None else 1000 * self.patience):
                return super().write(memoryview(data)[: select.PIPE_BUF]) or size
        return size
