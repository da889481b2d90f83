"""What the agents need of TCP sockets beyond Python's own: how their closes end, and what the kernel still holds.

A socket of unix(7) has neither RST nor anything under way: an error reaches its program as the end of what was sent,
and as ECONNRESET if it has sent what nobody read. Linux only. Counterpart: :mod:`spnhub.transport.agent.bridge`.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys
import termios
from typing import Final

__all__ = [
    "arm_reset",
    "disarm_reset",
    "fin_came",
    "is_unix",
    "keep_urgent_inline",
    "prepare_socket",
    "reset_socket",
    "silent_for",
    "unsent",
    "waiting",
]

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
_FIN_ON_CLOSE: Final = struct.pack("ii", 0, 0)


def arm_reset(sock: socket.socket) -> None:
    """Make every close of the socket send RST, also the kernel's close of a process that was killed (D-23)."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


def disarm_reset(sock: socket.socket) -> None:
    """Undo :func:`arm_reset`: the kernel delivers what it still holds, then FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FIN_ON_CLOSE)


def keep_urgent_inline(sock: socket.socket) -> None:
    """Read urgent data (MSG_OOB) where it stands among the bytes; the mark is lost, for an SPN connection has none.

    To be set before anything can arrive: on a listening socket, whose connections inherit it, or before connect.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)


def prepare_socket(sock: socket.socket) -> None:
    """What every bridged TCP socket gets at accept or connect: non-blocking, armed, without Nagle's delay.

    Whether it is asked to show that it is still there is the watcher's (:mod:`spnhub.transport.agent.keep_alive`).
    """
    sock.setblocking(False)
    arm_reset(sock)
    keep_urgent_inline(sock)
    if not is_unix(sock):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def is_unix(sock: socket.socket) -> bool:
    """Whether it is a socket of unix(7)."""
    return sock.family == socket.AF_UNIX


def fin_came(sock: socket.socket) -> bool:
    """Whether there is nothing before the FIN any more. Takes a pending error off the socket."""
    try:
        return not sock.recv(1, socket.MSG_PEEK)
    except OSError:
        return False


def reset_socket(sock: socket.socket) -> None:
    """Close with RST."""
    arm_reset(sock)
    sock.close()


def silent_for(sock: socket.socket) -> float:
    """Seconds since the kernel has last sent data of ours: tcpi_last_data_sent of tcp(7)."""
    if is_unix(sock):
        return 0.0
    milliseconds: int = struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 48), 44)[0]
    return milliseconds / 1000


def unsent(sock: socket.socket) -> int:
    """Bytes, and FIN, that the other side's kernel has not acknowledged."""
    if is_unix(sock):
        # They are with the program's socket already.
        return 0
    return int.from_bytes(fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)


def waiting(sock: socket.socket) -> int:
    """Bytes that have come and were not read, also from a program that has reset since; a pending error stays."""
    return int.from_bytes(fcntl.ioctl(sock, termios.FIONREAD, bytes(4)), sys.byteorder)
