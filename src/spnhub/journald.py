"""Log entries with fields for systemd's journal, in its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).

A line on standard output is text to the journal; an entry can be found by its fields (``journalctl SPN_REALM=acme``).
Each is a datagram, or, too large for one, a sealed file in memory whose descriptor is passed. Libraries that speak this
wait for a journal that is slow, or lose what it doesn't take; here :class:`JournaldSocket` says which of both it is.

Counterparts: :mod:`spnhub.logging` makes the entries, the thread of :mod:`spnhub.output` sends them.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import re
import select
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import PurePath
from typing import Final, Self

__all__ = ["ADDRESS", "FIELDS", "VALUE", "VALUES", "JournaldEntry", "JournaldSocket", "identifier", "is_journal"]

ADDRESS: Final = "/run/systemd/journal/socket"
FIELDS: Final = 64
"""The most fields of an entry, beside the journal's own; the message has all."""
VALUE: Final = 1024
"""The most characters of a field's value; the message has all."""
VALUES: Final = 16
"""The most values of a field whose value is a list: it is there once for each."""

_COMMANDS: Final = ("spnhub", "spnagent", "spnlog")
_NAME: Final = 64
"""The most characters of a field's name that the journal takes."""
_TOO_LARGE: Final = frozenset({errno.EMSGSIZE, errno.ENOBUFS})
_JSON: Final = json.JSONEncoder(default=str)
_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class JournaldEntry(str):
    """One entry: as a text it is the message, and beside it has its fields.

    :param priority: of syslog(3).
    :param fields: by name, as an event has them: ``serviceUrn`` and ``service_urn`` are both ``SPN_SERVICE_URN``. What
        has no name that the journal takes, and None, is left out.
    """

    __slots__ = ("data", "priority")

    data: bytes
    """The datagram."""
    priority: int

    def __new__(cls, message: str, priority: int, program: str, fields: Mapping[str, object]) -> Self:
        made = super().__new__(cls, message)
        made.priority = priority
        made.data = _serialized(
            (("MESSAGE", message), ("PRIORITY", str(priority)), ("SYSLOG_IDENTIFIER", program), *_named(fields))
        )
        return made

    @property
    def prefixed(self) -> str:
        """Its lines for a stream that is connected to the journal, each with its priority (sd-daemon(3))."""
        return "\n".join(f"<{self.priority}>{line}" for line in self.split("\n"))

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self) + len(self.data)


class JournaldSocket:
    """The journal's socket. Not for several threads.

    :param address: its path; None: :data:`ADDRESS`.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = ADDRESS if address is None else address
        self._socket: socket.socket | None = None

    def send(self, entry: JournaldEntry) -> bool:
        """Give it an entry. False: it can't be reached, or doesn't take it.

        :raises BlockingIOError: it has no room now; :meth:`await_room`.
        """
        # A journal that was started anew has another socket in the old one's place.
        for connected in (self._socket, None):
            try:
                self._send(connected or self._connect(), entry.data)
            except BlockingIOError:
                raise
            except OSError:
                self.close()
                if connected is None:
                    return False
            else:
                return True
        return False

    def await_room(self, timeout: float) -> None:
        """Wait until it may have room, or for ``timeout`` seconds."""
        if self._socket is not None:
            poll = select.poll()
            poll.register(self._socket, select.POLLOUT)
            poll.poll(1000 * timeout)

    def close(self) -> None:
        """Let go of the socket; the next entry connects anew."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            made.setblocking(False)
            made.connect(self._address)
        except BaseException:
            made.close()
            raise
        self._socket = made
        return made

    @staticmethod
    def _send(sock: socket.socket, data: bytes) -> None:
        try:
            sock.send(data)
        except OSError as exc:
            if exc.errno not in _TOO_LARGE:
                raise
            _send_file(sock, data)


def is_journal(descriptor: int) -> bool:
    """Whether it is the stream that systemd has connected to its journal for this process (systemd.exec(5)).

    :raises OSError: it isn't open.
    """
    found = os.fstat(descriptor)
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def identifier() -> str:
    """What this process is called in the journal: the command that it is; a worker of a hub is the hub."""
    name = PurePath(sys.argv[0]).name
    return name if name in _COMMANDS else _COMMANDS[0]


def _send_file(sock: socket.socket, data: bytes) -> None:
    file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(file, view) :]
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, seals)
        sock.sendmsg([], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))])
    finally:
        with suppress(OSError):
            os.close(file)


def _serialized(fields: Iterable[tuple[str, str]]) -> bytes:
    # Encoded at once: it is on the way of every line.
    texts: list[str] = []
    others: list[bytes] = []
    for name, value in fields:
        if "\n" in value:
            data = value.encode(errors="backslashreplace")
            others += (name.encode(), b"\n", len(data).to_bytes(8, "little"), data, b"\n")
        else:
            texts += (name, "=", value, "\n")
    return b"".join(("".join(texts).encode(errors="backslashreplace"), *others))


def _named(fields: Mapping[str, object]) -> list[tuple[str, str]]:
    """The fields with the journal's names and with texts, both bounded."""
    made: list[tuple[str, str]] = []
    for name, value in fields.items():
        called = _name(name)
        if called is None or value is None:
            continue
        if isinstance(value, str):
            made.append((called, value[:VALUE]))
        elif isinstance(value, list | tuple):
            made += ((called, _text(one)) for one in value[:VALUES])
        else:
            made.append((called, _text(value)))
        if len(made) >= FIELDS:
            break
    return made[:FIELDS]


def _text(value: object) -> str:
    return (value if isinstance(value, str) else _JSON.encode(value))[:VALUE]


@lru_cache(maxsize=1000)
def _name(name: str) -> str | None:
    """``serviceUrn`` is ``SPN_SERVICE_URN``, ``spnSessionId`` ``SPN_SESSION_ID``; None: no name for it."""
    made = _HUMP.sub("_", name).upper().replace("-", "_").replace(".", "_")
    made = made if made.startswith("SPN_") else f"SPN_{made}"
    return made if re.fullmatch(r"[A-Z0-9_]+", made) and len(made) <= _NAME else None
