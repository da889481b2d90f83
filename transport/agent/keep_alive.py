"""Whether the program at the other end of a TCP connection is still there, asked by its kernel (``--tcp-keepalive``).

The programs' own keep-alive probes reach the agents only, so the agents have to ask the programs. While nothing is on
its way the kernel does (SO_KEEPALIVE). While something stays unacknowledged it doesn't, and gives up after a quarter of
an hour: that is looked at here. TCP_USER_TIMEOUT is no help, since Linux (5.11 and later) counts with it, too, for how
long a program that is there reads nothing. Counterpart: :mod:`spnhub.transport.agent.reset_watcher` has one of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from spnhub.dataclass import dataclass
from spnhub.transport.agent.sockets import is_unix
from spnhub.transport.faults import report_to_loop

__all__ = ["TCP_KEEP_ALIVE", "TcpKeepAlive", "Unanswered", "parse_keep_alive"]

_TCP_RTO_MAX_MS: Final = 44
"""Linux 6.15 and later."""
_INFO: Final = struct.Struct("=2xBB20xI28xI84xI")
"""Of ``struct tcp_info``: retransmits and window probes without an answer, segments under way, milliseconds since the
last acknowledgement, bytes not yet sent."""
_UNANSWERED: Final = 2
"""Retransmits or probes without an answer, at least: one may be lost."""
_BATCH: Final = 512
"""Sockets looked at per turn of the loop."""


@dataclass(frozen=True, slots=True)
class TcpKeepAlive:
    """When a TCP peer that doesn't answer is given up."""

    idle: int = 60
    """Seconds without a word from it after which it is asked."""
    interval: int = 15
    """Seconds from one question to the next."""
    count: int = 4
    """Questions without an answer."""

    @property
    def bound(self) -> int:
        """Seconds without an answer, in all."""
        return self.idle + self.interval * self.count


TCP_KEEP_ALIVE: Final = TcpKeepAlive()
"""If nothing else is said."""


def parse_keep_alive(text: str) -> TcpKeepAlive | None:
    """``IDLE,INTERVAL,COUNT`` in seconds and times, or ``off``: None.

    :raises ValueError: neither, or what the kernel doesn't take.
    """
    if text.strip() == "off":
        return None
    pieces = [piece.strip() for piece in text.split(",")]
    if len(pieces) != 3 or not all(piece.isascii() and piece.isdigit() for piece in pieces):
        raise ValueError(f"{text!r} is neither IDLE,INTERVAL,COUNT (as 60,15,4) nor off")
    idle, interval, count = map(int, pieces)
    if not (1 <= idle <= 32_767 and 1 <= interval <= 32_767 and 1 <= count <= 127):
        raise ValueError(f"{text!r}: seconds are between 1 and 32767, the count between 1 and 127")
    return TcpKeepAlive(idle, interval, count)


class _Expected:
    __slots__ = ("on_dead", "since", "sock")

    def __init__(self, sock: socket.socket, on_dead: Callable[[OSError], object], since: float) -> None:
        self.sock = sock
        self.on_dead = on_dead
        self.since = since


class Unanswered:
    """The sockets to which something was sent that may be unacknowledged. Costs nothing while that is acknowledged.

    :param keep_alive: None: peers are never probed, unless the system does it.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, keep_alive: TcpKeepAlive | None) -> None:
        self._loop = loop
        self._keep_alive = keep_alive
        self._expected: dict[int, _Expected] = {}
        self._timer: asyncio.Handle | None = None
        self._period = 0.0 if keep_alive is None else min(keep_alive.interval, keep_alive.bound / 4)

    def __len__(self) -> int:
        return len(self._expected)

    def prepare(self, sock: socket.socket) -> None:
        """Have the kernel ask while nothing is on its way."""
        if is_unix(sock):
            return
        mine = self._keep_alive
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, mine is not None)
        if mine is not None:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, mine.idle)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, mine.interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, mine.count)
            with contextlib.suppress(OSError):
                # Else a program that has read nothing for long is asked every two minutes only.
                sock.setsockopt(socket.IPPROTO_TCP, _TCP_RTO_MAX_MS, mine.interval * 1000)

    def expect(self, sock: socket.socket, on_dead: Callable[[OSError], object]) -> None:
        """Note that something was sent. Call ``on_dead`` with ETIMEDOUT if it isn't acknowledged within the bound."""
        fd = sock.fileno()
        if self._keep_alive is None or fd in self._expected or is_unix(sock):
            return
        self._expected[fd] = _Expected(sock, on_dead, self._loop.time())
        if self._timer is None:
            self._timer = self._loop.call_later(self._period, self.check)

    def forget(self, fd: int) -> None:
        """The socket is being closed."""
        self._expected.pop(fd, None)

    def close(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._expected.clear()

    @property
    def resting(self) -> bool:
        """Nothing is to be looked at, and no timer is set."""
        return self._timer is None

    def check(self) -> None:
        """Check all sockets now, as the timer does."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._check_batches(list(self._expected), self._loop.time())

    def _check_batches(self, left: list[int], now: float) -> None:
        for fd in left[:_BATCH]:
            one = self._expected.get(fd)
            if one is not None and self._judge(fd, one, now):
                del self._expected[fd]
                self._report_dead(one)
        if len(left) > _BATCH:
            self._timer = self._loop.call_soon(self._check_batches, left[_BATCH:], now)
        elif self._expected:
            self._timer = self._loop.call_later(self._period, self.check)

    def _judge(self, fd: int, one: _Expected, now: float) -> bool:
        """Whether its peer is dead; what has been acknowledged is expected no more."""
        assert self._keep_alive is not None
        try:
            info = one.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
            retransmits, probes, under_way, silent, unsent = _INFO.unpack(info)
        except (OSError, struct.error):
            del self._expected[fd]  # it has an error of its own, or the kernel can't say
            return False
        if not under_way and not unsent:
            del self._expected[fd]
            return False
        # Before something was sent, there was nothing to acknowledge.
        waited = min(silent / 1000, now - one.since)
        return bool(waited >= self._keep_alive.bound and retransmits + probes >= _UNANSWERED)

    def _report_dead(self, one: _Expected) -> None:
        try:
            one.on_dead(OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))
        except Exception as fault:
            # The others are still to be looked at.
            report_to_loop(self._loop, "the callback of a dead peer failed", fault)
