"""Lines that a thread writes: in order, whole, within a bound, and whatever becomes of who reads them."""

from __future__ import annotations

import errno
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path

import pytest

from spnhub import output as module
from spnhub.output import Output

ROOM = 10_000


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Lets go of descriptors."""
    with ExitStack() as stack:
        yield stack


def declare(count: int, _since: float, reason: str) -> str:
    """A line about missing ones."""
    return f"missing {count} {reason}".rstrip()


def full_pipe(stack: ExitStack, *, blocking: bool = True) -> tuple[int, int]:
    """A pipe that holds a page, and has no room."""
    reader, writer = os.pipe()
    for one in (reader, writer):
        stack.callback(suppress_close, one)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4095 + b"\n")
    os.set_blocking(writer, blocking)
    return reader, writer


def suppress_close(descriptor: int) -> None:
    """Close it if it is open."""
    with suppress(OSError):
        os.close(descriptor)


def lines_of(reader: int) -> list[str]:
    """What comes until the writing end is closed, without what filled the pipe."""
    with os.fdopen(reader, "r", encoding="utf-8") as file:
        return [line.rstrip("\n") for line in file if not line.startswith("xxx")]


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another thread does."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        threading.Event().wait(0.005)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_reader_that_does_not_read(stack: ExitStack, blocking: bool) -> None:
    """Nobody waits; what doesn't fit is dropped and declared in its place, and what is there is whole and in order."""
    reader, writer = full_pipe(stack, blocking=blocking)
    output = Output(writer, declare, room=ROOM)
    began = time.monotonic()
    for number in range(3000):
        output.put(f"line {number}")
    assert time.monotonic() - began < 10
    assert 0 < output.dropped < 3000
    dropped = output.dropped
    read: list[str] = []
    reading = threading.Thread(target=lambda: read.extend(lines_of(reader)))
    reading.start()
    until(output.admits)
    missed = output.dropped  # each time that it was asked in vain
    output.put("later")
    assert output.close()
    os.close(writer)
    reading.join()
    kept = 3000 - dropped
    assert read[:kept] == [f"line {number}" for number in range(kept)]
    assert read[kept:] == [f"missing {missed}", "later"]


def test_nothing_comes_after_what_is_missing(stack: ExitStack) -> None:
    """It is declared as soon as there is room, and also at the end."""
    reader, writer = full_pipe(stack)
    output = Output(writer, declare, room=ROOM)
    for number in range(3000):
        output.put(f"line {number}")
    dropped = output.dropped
    read: list[str] = []
    reading = threading.Thread(target=lambda: read.extend(lines_of(reader)))
    reading.start()
    assert output.close()
    os.close(writer)
    reading.join()
    assert read[-1] == f"missing {dropped}"


def test_an_end_with_a_full_pipe_is_bounded_and_tears_no_line(stack: ExitStack) -> None:
    """What the pipe doesn't take is given up; what it took are whole lines."""
    reader, writer = full_pipe(stack)
    output = Output(writer, declare)
    text = "y" * 100
    for _ in range(1000):
        output.put(text)
    began = time.monotonic()
    assert not output.close(0.3)
    assert 0.2 < time.monotonic() - began < 5
    # The thread is still in its write, as it would be when the process ends: a few pages' room for it.
    os.set_blocking(reader, False)
    took = b""
    for _ in range(5):
        with suppress(BlockingIOError):
            took += os.read(reader, 4096)
    lines = [line for line in took.decode().split("\n") if "x" not in line]
    assert lines[-1] == "" and set(lines[:-1]) <= {text}


def test_an_end_writes_what_is_queued(stack: ExitStack, tmp_path: Path) -> None:
    """All of it, in order, at once."""
    path = tmp_path / "log"
    with path.open("wb") as file:
        output = Output(file.fileno(), declare)
        for number in range(20_000):
            output.put(f"line {number}")
        assert output.close()
    assert path.read_text().splitlines() == [f"line {number}" for number in range(20_000)]
    assert output.dropped == 0


def test_a_reader_that_leaves_and_another_that_comes(
    stack: ExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a named pipe whose log collector is started anew: the next gets what comes, from a line's beginning."""
    monkeypatch.setattr(module, "RETRY", 0.02)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(path, os.O_WRONLY)
    stack.callback(os.close, writer)
    output = Output(writer, declare, room=ROOM)
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    output.put("a" * 9000)  # longer than the pipe: it is torn by who leaves
    output.put("next")
    until(lambda: poll_size(reader) >= 4096)
    os.close(reader)
    # It fails now; a reader comes.
    until(lambda: output.dropped == 1)
    reader = os.open(path, os.O_RDONLY)
    stack.callback(os.close, reader)
    got = b""
    while got.count(b"\n") < 3:
        got += os.read(reader, 4096)
    torn, *lines = got.decode().splitlines()
    assert 0 < len(torn) < 9000 and set(torn) == {"a"}
    assert sorted(lines) == [f"missing 1 {os.strerror(errno.EPIPE)}", "next"]
    assert output.close()


def poll_size(descriptor: int) -> int:
    """Bytes that a pipe holds."""
    buffer = bytearray(4)
    import termios

    fcntl.ioctl(descriptor, termios.FIONREAD, buffer)
    return int.from_bytes(buffer, "little")


def test_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is tried again, bounded in memory, and an end doesn't wait for it."""
    monkeypatch.setattr(module, "RETRY", 0.01)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        output = Output(full, declare, room=ROOM)
        for number in range(3000):
            output.put(f"line {number}")
        assert output.dropped > 0
        began = time.monotonic()
        assert not output.close()
        assert time.monotonic() - began < 10
    finally:
        os.close(full)


def test_what_an_encoding_has_not_is_escaped(tmp_path: Path) -> None:
    """Also a lone surrogate in UTF-8; an encoding's mark comes once."""
    for encoding, expected in (
        ("ascii", b"\\u2026 \\xe9 \\ud800\n\\u2026 \\xe9 \\ud800\n"),
        ("latin-1", b"\\u2026 \xe9 \\ud800\n\\u2026 \xe9 \\ud800\n"),
        ("utf-8", "… é \\ud800\n… é \\ud800\n".encode()),
        ("utf-16", "… é \\ud800\n… é \\ud800\n".encode("utf-16")),
    ):
        path = tmp_path / encoding
        with path.open("wb") as file:
            output = Output(file.fileno(), declare, encoding=encoding)
            output.put("… é \ud800")
            until(partial(has_something, path))
            output.put("… é \ud800")
            assert output.close()
        assert path.read_bytes() == expected


def has_something(path: Path) -> bool:
    """Whether a file isn't empty."""
    return path.stat().st_size > 0


def test_a_line_of_the_collector_within_a_line(stack: ExitStack, tmp_path: Path) -> None:
    """A finaliser may log while this thread is inside of it."""
    with (tmp_path / "log").open("wb") as file:

        class Declaring:
            def __call__(self, count: int, _since: float, _reason: str) -> str:
                output.put("within")
                return f"missing {count}"

        output = Output(file.fileno(), Declaring(), room=100)
        for _ in range(1000):
            output.put("y" * 10)
        assert output.close()
