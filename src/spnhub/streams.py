"""The standard streams of the commands: writing to them ends in few, known ways, whatever they are connected to.

Streams that are closed at the start are opened on the null device, before another file gets their descriptor. Standard
output waits for its reader, also where another process has made it non-blocking, escapes characters that its encoding
doesn't have, and fails with :class:`OutputFailed` or :class:`ReaderLeft`. Standard error never fails: there is no place
left to report that.

Counterpart: :mod:`spnhub.cli.command_line`, which runs every command on them.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import select
import stat
import sys
import traceback
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from spnhub.plain_text import printable, without_secrets

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

__all__ = ["OutputFailed", "ReaderLeft", "abandon", "descriptor", "hurry", "prepare", "say", "say_json"]

_SLICE: Final = 0.2
"""Seconds after which a command that waits for its reader checks whether it was interrupted."""
_PATIENCE: Final = 1.0
"""Seconds that a service waits for the reader of its standard error."""


class OutputFailed(Exception):
    """Standard output can't be written. The text is the system's reason."""


class ReaderLeft(Exception):
    """The reader of standard output has gone. Not BrokenPipeError itself, which sockets raise, too."""


def prepare() -> None:
    """Replace the standard streams of this process by such ones; streams that a test has put there stay."""
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
    sys.excepthook = _say_traceback
    if sys.stderr is sys.__stderr__:
        sys.stderr = _text(_Errors(2, "w", closefd=False), sys.stderr)


def descriptor() -> int | None:
    """The stream of standard output, if :func:`prepare` made it; None: a test has put another there."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.fileno() if isinstance(raw, _Output) else None


def hurry() -> None:
    """Wait no longer than a second for the reader of standard error from now on: this process is a service."""
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


def say(line: str = "", *, error: bool = False, flush: bool = False) -> None:
    """Print one line for people, whatever is in it (:func:`spnhub.plain_text.printable`).

    :param error: to standard error.
    """
    print(printable(without_secrets(line)), file=sys.stderr if error else sys.stdout, flush=flush)


def say_json(value: Any, *, flush: bool = False) -> None:
    """Print one JSON text in a line for programs: JSON escapes what drives a terminal by itself."""
    print(without_secrets(json.dumps(value)), flush=flush)  # noqa: T201


def _say_traceback(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """What ends a command that has a fault: others' texts are in it, too."""
    for text in traceback.format_exception(kind, error, trace):
        for line in text.splitlines():
            say(line, error=True)


def _text(raw: io.FileIO, before: TextIO | None) -> io.TextIOWrapper:
    encoding, at_once = "utf-8", raw.isatty()
    if isinstance(before, io.TextIOWrapper):
        encoding = before.encoding
        # as python -u asks
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
        """Wait until there is room.

        :raises KeyboardInterrupt: the running task was asked to end. A second Ctrl-C would raise it anywhere.
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
