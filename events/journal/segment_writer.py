"""The segment files of a journal as its writer thread sees them: frames are appended to the last one, or to a new one.

Counterpart: :mod:`spnhub.events.journal.writer`; :mod:`spnhub.events.journal.files` has the layout.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from spnhub.events.journal.files import JournalIdentity, SegmentHeader, whole_frames, write_segment_header

__all__ = ["Descriptor", "SegmentWriter"]


class Descriptor:
    """An open segment, shared by its writer and the thread that syncs it; closed when neither needs it any more.

    The descriptor is shared, not duplicated: a process that has no descriptor left can write and sync what it has open.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._users = 1
        self._lock = threading.Lock()

    def use(self) -> Descriptor:
        """One more needs it."""
        with self._lock:
            self._users += 1
        return self

    def release(self) -> None:
        """One needs it no more."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            os.close(self.fd)


class SegmentWriter:
    """Appends frames to the last segment, or to a new one."""

    def __init__(self, folder: Path, identity: JournalIdentity, position: tuple[Path, int] | None) -> None:
        self._before_end: Callable[[], None] = lambda: None
        self._folder = folder
        self._identity = identity
        self._open: Descriptor | None = None
        self._path: Path | None = None
        self._size = 0
        self._dirty = False
        if position is not None:
            self._path, self._size = position
            self._open = Descriptor(os.open(self._path, os.O_WRONLY | os.O_CLOEXEC))
            self._drop_tail()

    def before_end(self, sync: Callable[[], None]) -> None:
        """Call ``sync`` before a segment that has unsynced bytes is left for the next."""
        self._before_end = sync

    @property
    def dirty(self) -> bool:
        """Whether there are bytes that only the page cache has."""
        return self._dirty

    @property
    def position(self) -> tuple[Path, int] | None:
        """The segment and the end of the last frame in it; None before the first segment."""
        return None if self._path is None else (self._path, self._size)

    @property
    def gone(self) -> str | None:
        """Why what is written can't be found any more; None: it is where it should be.

        A file that is deleted, or whose folder is, takes bytes as before.
        """
        if self._open is None or self._path is None:
            return None
        try:
            there, ours = self._path.stat(), os.fstat(self._open.fd)
        except OSError as exc:
            return f"{self._path}: {exc.strerror or exc}"
        same = (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
        return None if same else f"{self._path} is another file now"

    def begin(self, first_sequence: int, *, fresh: bool) -> bool:
        """Make room for a batch that begins with this sequence: a new segment, if that is wanted or there is none.

        :returns: whether it is a new one.
        :raises OSError: it can't be made; everything is as it was.
        """
        if self._open is not None and not fresh:
            return False
        header = SegmentHeader(self._identity, first_sequence)
        path = write_segment_header(self._folder, header)
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        if self._dirty:
            self._before_end()
        self.close()
        self._open, self._path, self._size = Descriptor(fd), path, len(header.pack())
        return True

    def write(self, data: memoryview) -> tuple[int, OSError | None]:
        """Append frames. How many bytes of whole frames are in the file now, and why they aren't all.

        Whole frames stay even when the rest fails: a reader may have seen them, and their sequence is never reused.
        """
        assert self._open is not None, "begin() comes first"
        done = 0
        try:
            while done < len(data):
                done += os.pwrite(self._open.fd, data[done:], self._size + done)
        except OSError as exc:
            whole = whole_frames(data, done)
            self._size += whole
            self._dirty = self._dirty or whole > 0
            self._drop_tail()
            return whole, exc
        self._size += done
        self._dirty = True
        return done, None

    def to_sync(self) -> Descriptor:
        """The segment for someone else to sync and to release; what was written counts as synced."""
        assert self._open is not None, "there is something to sync"
        self._dirty = False
        return self._open.use()

    def close(self) -> None:
        """Let go of the segment."""
        if self._open is not None:
            self._open.release()
            self._open = None

    def _drop_tail(self) -> None:
        assert self._open is not None
        # If even this fails, the next attempt writes the same bytes over the same place.
        with contextlib.suppress(OSError):
            os.ftruncate(self._open.fd, self._size)
