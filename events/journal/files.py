"""The files of a journal: identity, lock, segments, frames. The layout on disk; nothing about threads or loops.

A journal folder has ``journal.json`` (the hub that it belongs to), ``lock`` (locked with flock by the one writer),
``schemas.json`` (what the schema ids in it mean, see :mod:`spnhub.events.journal.schemas`) and segments
``{first sequence, 20 digits}.segment``. A segment is a header and frames:

- header: magic ``SPNJRNL\\n``, format version (u16), header length (u16), journal id (16 bytes), first sequence (u64),
  hub id (UTF-8), CRC-32 of all this (u32); numbers are big-endian;
- frame: length of the payload (u32), CRC-32 of length and payload (u32), payload: the Confluent frame of
  :func:`spnhub.events.model.encode`.

Counterparts: :mod:`spnhub.events.journal.journal` writes, :mod:`spnhub.events.journal.reader` reads.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat
import struct
import uuid
import zlib
from pathlib import Path
from typing import Any, BinaryIO, Final

from spnhub import bounded_json
from spnhub.dataclass import dataclass

__all__ = [
    "FRAME_LIMIT",
    "FolderLock",
    "JournalCorrupt",
    "JournalError",
    "JournalIdentity",
    "JournalLocked",
    "SegmentHeader",
    "check_frames",
    "find_frame",
    "frame_size",
    "load_identity",
    "next_frame",
    "open_identity",
    "open_private",
    "open_to_others",
    "pack_frame",
    "segments",
    "sync_folder",
    "whole_frames",
    "write_segment_header",
    "write_whole",
]

FORMAT: Final = 1
FRAME_LIMIT: Final = 1 << 20
"""Largest payload of a frame, in bytes. An event is a few hundred; packets bound its longest parts at 64 KiB."""

_MAGIC: Final = b"SPNJRNL\n"
_HEADER: Final = struct.Struct(">8sHH16sQ")
_CRC: Final = struct.Struct(">I")
_FRAME: Final = struct.Struct(">II")
_HEADER_LIMIT: Final = 4096
_SUFFIX: Final = ".segment"
_IDENTITY: Final = "journal.json"
_LOCK: Final = "lock"


class JournalError(Exception):
    """A journal can't be used; the message names the folder and says why."""


class JournalLocked(JournalError):
    """Another process writes this journal."""

    def __init__(self, folder: Path, hub_id: str, pid: int | None) -> None:
        holder = "another process" if pid is None else f"process {pid}"
        super().__init__(
            f"journal {folder} is in use by hub {hub_id} ({holder}); a second hub on this host needs its own hub id and"
            " its own journal folder"
        )
        self.folder = folder
        self.hub_id = hub_id
        self.pid = pid


class JournalCorrupt(JournalError):
    """Bytes inside the log are damaged: not an unfinished tail."""

    def __init__(self, path: Path, offset: int, reason: str) -> None:
        super().__init__(f"{path} is damaged at byte {offset}: {reason}")
        self.path = path
        self.offset = offset


# Identity and lock ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JournalIdentity:
    """The hub and the id of a journal (D-4)."""

    journal_id: uuid.UUID
    hub_id: str


def load_identity(folder: Path) -> JournalIdentity:
    """The identity of an existing journal.

    :raises JournalError: there is none, or it can't be read.
    """
    path = folder / _IDENTITY
    try:
        raw: Any = bounded_json.loads(path.read_text(encoding="utf-8"))
        version = raw["format"]
        identity = JournalIdentity(uuid.UUID(raw["journalId"]), str(raw["hubId"]))
    except FileNotFoundError:
        raise JournalError(f"no journal in {folder}") from None
    except OSError as exc:
        raise JournalError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError) as exc:
        raise JournalError(f"{path} is not the identity of a journal: {exc}") from exc
    if version != FORMAT:
        raise JournalError(f"{path} is of format {version}; this version knows {FORMAT}")
    return identity


def open_identity(folder: Path, hub_id: str) -> JournalIdentity:
    """The identity of the journal in ``folder``, made if it has none. The caller has the lock.

    :raises JournalError: it belongs to another hub, or segments stand there without an identity.
    :raises OSError: the folder can't be written.
    """
    path = folder / _IDENTITY
    if path.exists():
        identity = load_identity(folder)
        if identity.hub_id != hub_id:
            raise JournalError(f"journal {folder} belongs to hub {identity.hub_id}, not to hub {hub_id}")
        return identity
    if segments(folder):
        raise JournalError(f"journal {folder} has segments and no {_IDENTITY}")
    identity = JournalIdentity(uuid.uuid4(), hub_id)
    text = json.dumps({"format": FORMAT, "journalId": str(identity.journal_id), "hubId": hub_id}, indent=2) + "\n"
    write_whole(path, text.encode())
    return identity


class FolderLock:
    """The right to write a journal: an open file with flock, which ends with the process, however that ends."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    @classmethod
    def acquire(cls, folder: Path, hub_id: str) -> FolderLock:
        """Take the lock for this process.

        :raises JournalLocked: another holds it.
        :raises OSError: the folder can't be written.
        """
        fd = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise JournalLocked(folder, *_holder(fd)) from None
            os.ftruncate(fd, 0)
            os.pwrite(fd, json.dumps({"hubId": hub_id, "pid": os.getpid()}).encode(), 0)
        except BaseException:  # also on a KeyboardInterrupt: an open descriptor would keep the lock
            os.close(fd)
            raise
        return cls(fd)

    def release(self) -> None:
        """Let go. Once only."""
        os.close(self._fd)


def _holder(fd: int) -> tuple[str, int | None]:
    try:
        raw = bounded_json.loads(os.pread(fd, 4096, 0))
        return str(raw["hubId"]), int(raw["pid"])
    except (ValueError, KeyError, TypeError):
        return "(unknown)", None


# Segments -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What a segment says about itself."""

    identity: JournalIdentity
    first_sequence: int
    size: int = 0
    """Bytes of the header: where the first frame begins."""

    @staticmethod
    def read(path: Path, data: bytes) -> SegmentHeader:
        """The header at the beginning of a segment's bytes.

        :raises JournalCorrupt: it is damaged.
        :raises JournalError: it is of another format.
        """
        if len(data) < _HEADER.size or not data.startswith(_MAGIC):
            raise JournalCorrupt(path, 0, "it doesn't begin with the header of a segment")
        _, version, size, journal_id, first = _HEADER.unpack_from(data)
        if version != FORMAT:
            raise JournalError(f"{path} is of format {version}; this version knows {FORMAT}")
        end = size - _CRC.size
        if not _HEADER.size <= end <= len(data) - _CRC.size or _CRC.unpack_from(data, end)[0] != zlib.crc32(data[:end]):
            raise JournalCorrupt(path, 0, "the checksum of its header is wrong")
        hub_id = data[_HEADER.size : end].decode(errors="replace")
        return SegmentHeader(JournalIdentity(uuid.UUID(bytes=journal_id), hub_id), first, size)

    def pack(self) -> bytes:
        """Its bytes."""
        hub_id = self.identity.hub_id.encode()
        size = _HEADER.size + len(hub_id) + _CRC.size
        if size > _HEADER_LIMIT:
            raise JournalError(f"a hub id of {len(hub_id)} bytes is too long for a journal")
        head = _HEADER.pack(_MAGIC, FORMAT, size, self.identity.journal_id.bytes, self.first_sequence) + hub_id
        return head + _CRC.pack(zlib.crc32(head))


HEADER_READ: Final = _HEADER_LIMIT
"""Reading this many bytes from a segment's beginning gets its whole header."""


def segments(folder: Path) -> list[tuple[int, Path]]:
    """First sequence and path of each segment, in order.

    :raises OSError: the folder can't be read.
    """
    return sorted(
        (int(path.stem), path) for path in folder.iterdir() if path.suffix == _SUFFIX and path.stem.isdecimal()
    )


def write_segment_header(folder: Path, header: SegmentHeader) -> Path:
    """Make a new segment that holds its header, or nothing at all if that fails.

    :raises OSError: it can't be written.
    """
    path = folder / f"{header.first_sequence:020d}{_SUFFIX}"
    write_whole(path, header.pack())
    return path


def sync_folder(folder: Path) -> None:
    """Make names in the folder last over a power failure."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_private(path: Path) -> BinaryIO:
    """A file to write anew that only this user reads: who talks to whom, and where from, is nobody else's business.

    :raises OSError: it can't be made.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    # One that a crash left behind may have another mode.
    os.fchmod(descriptor, 0o600)
    return os.fdopen(descriptor, "wb")


def open_to_others(folder: Path) -> str | None:
    """Why others than its user can look into a folder; None: they can't."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    return f"its mode is {mode:04o}; 0700 keeps others out" if mode & 0o077 else None


def write_whole(path: Path, data: bytes) -> None:
    """The file appears with all of its bytes or not at all, also over a power failure."""
    temporary = path.with_name(path.name + ".new")
    with open_private(temporary) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
    sync_folder(path.parent)


# Frames ---------------------------------------------------------------------------------------------------------------


def pack_frame(payload: bytes) -> bytes:
    """A frame.

    :raises JournalError: the payload is longer than :data:`FRAME_LIMIT`.
    """
    length = len(payload)
    if length > FRAME_LIMIT:
        raise JournalError(f"an event of {length} bytes is longer than {FRAME_LIMIT}")
    return _FRAME.pack(length, zlib.crc32(payload, zlib.crc32(length.to_bytes(4, "big")))) + payload


def next_frame(data: bytes, start: int) -> tuple[bytes, int] | None:
    """Payload and end of the whole, undamaged frame at ``start``; None when there is none.

    A length of 0 is damage: it is what a file system leaves where it has lost a page.
    """
    if len(data) - start < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack_from(data, start)
    begin = start + _FRAME.size
    if not 0 < length <= min(FRAME_LIMIT, len(data) - begin):
        return None
    payload = data[begin : begin + length]
    if zlib.crc32(payload, zlib.crc32(data[start : start + 4])) != checksum:
        return None
    return payload, begin + length


def check_frames(path: Path, end: int) -> None:
    """Look at the checksums of a segment's frames up to ``end``, without decoding them: a third of a second for 64 MiB.

    :raises JournalCorrupt: one is wrong.
    """
    with path.open("rb") as file:
        data = file.read(end)
    place = SegmentHeader.read(path, data[:HEADER_READ]).size
    while place < end:
        if (frame := next_frame(data, place)) is None:
            raise JournalCorrupt(path, place, "a bad frame before good ones")
        place = frame[1]


def frame_size(data: bytes) -> int:
    """The size of the frame that begins here, in bytes, by its length field; at most the largest that is allowed."""
    return _FRAME.size + min(int.from_bytes(data[:4], "big"), FRAME_LIMIT)


def find_frame(data: bytes, start: int) -> int | None:
    """Where the first whole, undamaged frame at or after ``start`` begins; None when there is none.

    Every payload begins with a zero byte and the high bytes of a small schema id, so only such places are looked at.
    """
    place = data.find(b"\0\0\0", start + _FRAME.size)
    while place >= 0:
        if next_frame(data, place - _FRAME.size) is not None:
            return place - _FRAME.size
        place = data.find(b"\0\0\0", place + 1)
    return None


def whole_frames(data: memoryview, limit: int) -> int:
    """Bytes of the frames in ``data`` that lie wholly within the first ``limit`` bytes."""
    end = 0
    while end < limit:
        following = end + _FRAME.size + int.from_bytes(data[end : end + 4], "big")
        if following > limit:
            break
        end = following
    return end
