"""Lines to a descriptor, written by a thread: a reader that is slow, or doesn't read, delays nothing.

The queue is bounded by the size of its lines. Lines that come while it is full are dropped and counted; as soon as half
of it is free again, one line in the place of the missing ones says how many they were. A descriptor that fails (its
reader left, the disk is full, the terminal is gone) is tried again: a named pipe gets a new reader, a disk gets room.
Where the descriptor is systemd's journal, entries with fields go to its socket instead, as long as it takes them.

Counterparts: :mod:`spnhub.logging` makes the lines of hubs, agents and other services; :mod:`spnhub.journald`.
"""

from __future__ import annotations

import codecs
import errno
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Final

from spnhub.journald import JournaldEntry, JournaldSocket

__all__ = ["FLUSH", "ROOM", "Output"]

ROOM: Final = 4 << 20
"""The most characters of lines that wait for their reader."""
FLUSH: Final = 2.0
"""Seconds for which an end waits until what is queued is written."""

_GATHER: Final = 0.01
"""Seconds in which lines gather that are written together: a thread that woke for each would take the loop's time."""
RETRY: Final = 1.0
"""Seconds between attempts at a descriptor that fails."""
_PIECE: Final = select.PIPE_BUF
"""Bytes that a pipe takes whole or not at all, so that an end while it is full tears no line."""
_FILE_PIECE: Final = 1 << 16
"""Bytes at a time for files, which have room or fail."""

Declare = Callable[[int, float, str], str]


class Output:
    """Writes lines in order. :meth:`put` may be called by any thread, and neither waits nor fails.

    :param descriptor: the caller closes it.
    :param declare: makes the line that reports missing ones, from their count, the time of the first (seconds since
        1970) and why writing failed ("" if the reader was just slow).
    :param encoding: of the lines; other characters are escaped.
    :param room: the most characters that wait; of entries their fields count, too.
    :param journal: where entries go.
    """

    def __init__(
        self,
        descriptor: int,
        declare: Declare,
        *,
        encoding: str = "utf-8",
        room: int = ROOM,
        journal: JournaldSocket | None = None,
    ) -> None:
        self.dropped = 0
        """Lines that were dropped so far."""
        self._descriptor = descriptor
        self._declare = declare
        # With state: some encodings begin with a mark, once.
        self._encoder = codecs.getincrementalencoder(encoding)("backslashreplace")
        self._room = room
        self._piece = _piece(descriptor)
        self._journal = journal
        # Reentrant: a line may be logged by a finaliser that the collector runs inside of this class.
        self._lock = threading.RLock()
        self._waiting: deque[str] = deque()
        self._size = 0
        """Characters that wait, or are being written."""
        self._full = False
        self._missing = 0
        """Dropped since the last declaration."""
        self._since = 0.0
        self._error = ""
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="output", daemon=True)
        self._thread.start()

    def admits(self) -> bool:
        """Whether there is room for a line. One for which there is none needn't be made: it is counted as dropped."""
        with self._lock:
            if self._full:
                self._drop()
            return not self._full

    def put(self, line: str) -> None:
        """Write a line (without its end) after all others, or drop it."""
        with self._lock:
            if self._full:
                self._drop()
                return
            self._waiting.append(line)
            self._size += _size(line)
            self._full = self._size >= self._room
        if not self._wake.is_set():
            self._wake.set()

    def close(self, timeout: float = FLUSH) -> bool:
        """Write what is there, for at most ``timeout`` seconds. False: not all of it could be written."""
        self._closing.set()
        self._wake.set()
        self._thread.join(timeout)
        if self._journal is not None and not self._thread.is_alive():
            self._journal.close()
        return not self._thread.is_alive() and not self._size

    def _drop(self) -> None:
        if not self._missing:
            self._since = time.time()
        self._missing += 1
        self.dropped += 1

    # ---- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._closing.wait(_GATHER)
            self._wake.clear()
            # In this order: closing sets the first, then the second.
            ending = self._closing.is_set()
            with self._lock:
                lines = list(self._waiting)
                self._waiting.clear()
            for part in lines if self._journal else _pieces(lines, self._piece):
                if not (self._pass_on(part) if self._journal else self._write(self._encoder.encode(part))):
                    return
                with self._lock:
                    self._size -= _size(part) if self._journal else len(part)
                    if not self._missing:
                        self._error = ""
                    elif self._size <= self._room // 2:
                        self._declare_missing()
            if ending and not self._waiting:
                return

    def _declare_missing(self) -> None:
        """After the lines that came before those that are missing: none was taken since."""
        line = self._declare(self._missing, self._since, self._error)
        self._missing = 0
        self._error = ""
        self._waiting.append(line)
        self._size += _size(line)
        self._full = False
        self._wake.set()

    def _pass_on(self, line: str) -> bool:
        """An entry goes to the journal, or to the descriptor if that can't be reached; result as of :meth:`_write`."""
        if not isinstance(line, JournaldEntry):
            return self._write(self._encoder.encode(line + "\n"))
        return self._send(line) or self._write(self._encoder.encode(line.prefixed + "\n"), partial(self._send, line))

    def _send(self, entry: JournaldEntry) -> bool:
        assert self._journal is not None
        while True:
            try:
                return self._journal.send(entry)
            except BlockingIOError:
                self._journal.await_room(RETRY)

    def _write(self, data: bytes, instead: Callable[[], bool] | None = None) -> bool:
        """Write this, however long it takes; False: given up, as everything ends.

        :param instead: tried before each further attempt at a descriptor that fails; True: it has been written.
        """
        done = 0
        while done < len(data):
            try:
                done += os.write(self._descriptor, data[done : done + self._piece])
            except BlockingIOError:
                # Another process with the same terminal or pipe has made it non-blocking.
                self._await_room()
            except OSError as exc:
                self._error = exc.strerror or str(exc)
                if self._closing.wait(RETRY):
                    return False
                if instead is not None and instead():
                    return True
                if done and exc.errno == errno.EPIPE:
                    # The rest of a line would be the first that a new reader gets; the pipe may still hold its begin.
                    with self._lock:
                        self._drop()
                    data, done, instead = self._encoder.encode("\n"), 0, None
        return True

    def _await_room(self) -> None:
        poll = select.poll()
        poll.register(self._descriptor, select.POLLOUT)
        with suppress(OSError):
            poll.poll(1000 * RETRY)
        # There may be room, but not for all that a pipe takes at once.
        time.sleep(_GATHER)


def _size(line: str) -> int:
    return line.size if isinstance(line, JournaldEntry) else len(line) + 1


def _piece(descriptor: int) -> int:
    try:
        mode = os.fstat(descriptor).st_mode
    except OSError:
        return _PIECE
    return _FILE_PIECE if stat.S_ISREG(mode) else _PIECE


def _pieces(lines: Sequence[str], limit: int) -> Iterator[str]:
    """The lines, with their ends, as texts of whole lines of about ``limit`` characters; a longer line is by itself."""
    piece: list[str] = []
    size = 0
    for line in lines:
        # An escape takes ten bytes at most.
        length = (len(line) if line.isascii() else 10 * len(line)) + 1
        if piece and size + length > limit:
            yield "\n".join(piece) + "\n"
            piece, size = [], 0
        piece.append(line)
        size += length
    if piece:
        yield "\n".join(piece) + "\n"
