"""Writes a recording, in a thread of its own: what goes wrong there ends the recording and nothing else.

A file for each start of the hub, in one folder that has a bound. Steps are handed over as they are, frozen objects, and
are put into words by the thread; a hub that brings them faster than the disk takes them loses the recording, not time.
Counterpart: :mod:`spnhub.recording.reader`.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from spnhub.events.model import to_datetime
from spnhub.recording.format import SUFFIX, Header, pack_end, pack_step
from spnhub.recording.system import Step

__all__ = ["DEFAULT_SIZE", "WAITING_LIMIT", "RecordingWriter"]

DEFAULT_SIZE: Final = 256 << 20
"""Bytes of all recordings in a folder."""
WAITING_LIMIT: Final = 50_000
"""Inputs, events and commands that wait for the disk; about 25 MB."""
_END_SIZE: Final = 512
"""Bytes that are kept for the last line."""
_BATCH_SIZE: Final = 1 << 18
"""Bytes written at once."""


class RecordingWriter:
    """One recording. :meth:`put` and :meth:`close` belong to the loop's thread.

    :param folder: made if it isn't there.
    :param limit: bytes of all recordings in the folder, older ones included.
    :param on_end: called once, in the writer's thread, with the reason if the recording ends before :meth:`close`.
    :raises OSError: the folder can't be used.
    """

    def __init__(
        self, folder: Path, header: Header, limit: int = DEFAULT_SIZE, on_end: Callable[[str], None] = lambda _: None
    ) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        stamp = to_datetime(header.started).strftime("%Y%m%dT%H%M%S.%fZ")
        self.path = folder / f"{stamp}-{header.hub_id.replace('/', '_')[:64]}{SUFFIX}"
        used = sum(path.stat().st_size for path in folder.glob(f"*{SUFFIX}"))
        self._on_end = on_end
        self._limit = limit
        self._room = limit - used - _END_SIZE
        self._size = 0
        self._put = self._taken = 0
        """Inputs, events and commands so far: those put in by the loop's thread, those taken out by the writer's."""
        self._reason: str | None = None
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[tuple[Step, int] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        first = header.pack()
        if len(first) > self._room:
            self._end(self._full())
            return
        self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            self._write(first)
        except OSError:
            os.close(self._fd)
            raise
        self._thread = threading.Thread(target=self._run, name="recording-writer", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Nothing is recorded any more."""
        return self._reason is not None

    def put(self, step: Step) -> None:
        """Record a step, unless the recording has ended."""
        if self._reason is not None:
            return
        weight = sum(1 + len(part.events) + len(part.commands) for part in step.parts)
        self._put += weight
        waiting = self._put - self._taken
        if waiting > WAITING_LIMIT:
            self._end(f"the disk is too slow: {waiting} inputs, events and commands wait for it")
            self._queue.put(None)
            return
        self._queue.put((step, weight))

    def close(self, timeout: float = 5.0) -> None:
        """Write what waits, for at most ``timeout`` seconds, and the end. Again: nothing happens."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(timeout)
            self._thread = None

    def _run(self) -> None:
        lines: list[bytes] = []
        size = 0
        try:
            while self._reason is None and (taken := self._queue.get()) is not None:
                step, weight = taken
                line = pack_step(step)
                self._taken += weight
                if self._size + size + len(line) > self._room:
                    self._end(self._full())
                    break
                lines.append(line)
                size += len(line)
                if size >= _BATCH_SIZE or self._queue.empty():
                    self._write(b"".join(lines))
                    lines.clear()
                    size = 0
            self._write(b"".join(lines) + pack_end(self._reason or "the hub has stopped"))
        # Whatever it is, the hub goes on.
        except Exception as exc:
            reason = (exc.strerror if isinstance(exc, OSError) else None) or f"{type(exc).__name__}: {exc}"
            self._end(f"{self.path} can't be written: {reason}")
        finally:
            os.close(self._fd)

    def _write(self, data: bytes) -> None:
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:])
        except OSError:
            # Half a line would be dropped by a reader, too.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)

    def _full(self) -> str:
        return f"the recordings in {self.path.parent} have reached {self._limit} bytes"

    def _end(self, reason: str) -> None:
        with self._lock:
            if self._reason is not None:
                return
            self._reason = reason
        self._on_end(reason)
