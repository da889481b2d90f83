"""How a TCP conversation can end, one way after the other, and what each side's program sees of it.

A cell of the matrix is the same whatever lies between the two programs: :class:`Talk` does it over any pair of sockets.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import itertools
import select
import socket
import subprocess
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tests.support.tcp import Ending, TcpPeer

__all__ = ["Cell", "How", "Seen", "Talk", "What", "When", "cells"]

UNDER_WAY: Final = 60_000
"""Bytes. A receiving kernel takes as many from a sender whose program doesn't read yet."""
_ALPHABET: Final = bytes(range(251))
_ANSWER: Final = b"an answer"
_BROKEN: Final = 2.0
"""Seconds in which a program that goes on writing hears that nobody is there."""
_BLOCKED: Final = 0.3
"""Seconds for which nothing more was taken from a sender that is blocked for good."""
_SEND_BUFFER: Final = 64 * 1024
_HOLDER: Final = ("/bin/sleep", "600")
"""A program that does nothing but hold its sockets."""


class How(enum.Enum):
    """What one program does."""

    FIN = "half-close"
    RST = "reset"
    CLOSE = "close with unread data"
    BOTH = "shutdown of both directions"
    HALF_RST = "half-close, then reset"
    KILL = "kill -9"


class When(enum.Enum):
    """And the other one ends its direction."""

    BEFORE = "later"
    DURING = "at the same time"
    AFTER = "before that"


class What(enum.Enum):
    """What is going on meanwhile."""

    IDLE = "idle"
    SENT = "60 KB under way"
    FULL = "backpressure"
    PAUSED = "paused by an update"
    RESUMED = "resumed"


class Cell(NamedTuple):
    """One case."""

    who: str
    """"client" or "server" does it."""
    how: How
    when: When
    what: What

    @property
    def direct(self) -> Cell:
        """The case that it is for two programs with nothing between them."""
        return self._replace(what=What.SENT) if self.what in (What.PAUSED, What.RESUMED) else self

    def __str__(self) -> str:
        return f"{self.who}: {self.how.value}, the other ends {self.when.value}; {self.what.value}"


def cells(*whats: What) -> list[Cell]:
    """All cases of these kinds."""
    return [Cell(*one) for one in itertools.product(("client", "server"), How, When, whats)]


@dataclass(frozen=True)
class Seen:
    """What the programs saw."""

    size: int = field(compare=False)
    """Bytes that the other one read; how many fit on the way where it doesn't read is no matter of the end."""
    missing: int
    """Bytes that were sent and not read."""
    exact: bool
    """Those that were sent, from the first on."""
    ending: Ending
    broken: bool | None
    """Going on to write after a FIN failed; None: it had ended its direction."""
    back: tuple[bytes, Ending] | None
    """What the one that had ended only its direction got then."""


def _piece(offset: int, size: int) -> bytes:
    start = offset % len(_ALPHABET)
    return (_ALPHABET * (size // len(_ALPHABET) + 2))[start : start + size]


class Talk:
    """Two programs, over whatever is between them. The steps in order: prepare, load, act, observe."""

    def __init__(self, cell: Cell, client: TcpPeer, server: TcpPeer) -> None:
        self.cell = cell
        self._ender, self._other = (client, server) if cell.who == "client" else (server, client)
        self._sent = 0
        self._holder: subprocess.Popen[bytes] | None = None

    async def prepare(self) -> None:
        """What has happened before."""
        if self.cell.how is How.CLOSE:
            await self._other.send(b"u")
            await _poll(self._ender.sock, select.POLLIN)
        if self.cell.when is When.AFTER:
            self._other.finish()
            await _poll(self._ender.sock, select.POLLRDHUP)

    async def load(self) -> None:
        """Put under way what shall be under way; the other program doesn't read it yet."""
        match self.cell.what:
            case What.IDLE:
                pass
            case What.FULL:
                await self._fill()
            case _:
                await self._ender.send(_piece(0, UNDER_WAY))
                self._sent = UNDER_WAY
                # With the next kernel: a reset drops what its own still has, whatever is behind that.
                while self._ender.unsent:
                    await asyncio.sleep(0.001)
        if self.cell.how is How.KILL:
            sock = self._ender.sock
            self._holder = subprocess.Popen(_HOLDER, pass_fds=[sock.fileno()])
            sock.close()

    async def _fill(self) -> None:
        ender = self._ender
        ender.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        loop = asyncio.get_running_loop()
        moved = loop.time()
        while loop.time() - moved < _BLOCKED:
            with contextlib.suppress(BlockingIOError):
                self._sent += ender.sock.send(_piece(self._sent, _SEND_BUFFER))
                moved = loop.time()
            await asyncio.sleep(0.001)

    def act(self) -> None:
        """The end."""
        ender = self._ender
        if self.cell.when is When.DURING:
            self._other.finish()
        match self.cell.how:
            case How.FIN:
                ender.finish()
            case How.RST:
                ender.reset()
            case How.CLOSE:
                ender.close()
            case How.BOTH:
                ender.sock.shutdown(socket.SHUT_RDWR)
            case How.HALF_RST:
                ender.finish()
                ender.reset()
            case How.KILL:
                assert self._holder is not None
                self._holder.kill()
                self._holder.wait()

    async def observe(self) -> Seen:
        """Read everything on both sides."""
        other = self._other
        data, ending = await other.receive_all()
        broken: bool | None = None
        back: tuple[bytes, Ending] | None = None
        if self.cell.how is How.FIN:
            if self.cell.when is When.BEFORE:
                await other.send(_ANSWER)
                other.finish()
            back = await self._ender.receive_all()
        elif self.cell.when is When.BEFORE:
            broken = ending is Ending.RST or await self._breaks(other)
        return Seen(len(data), self._sent - len(data), data == _piece(0, len(data)), ending, broken, back)

    @staticmethod
    async def _breaks(peer: TcpPeer) -> bool:
        loop = asyncio.get_running_loop()
        until = loop.time() + _BROKEN
        while loop.time() < until:
            try:
                peer.sock.send(b"?")
            except BlockingIOError:
                pass
            except OSError:
                return True
            await asyncio.sleep(0.05)
        return False

    def close(self) -> None:
        """Leave nothing behind."""
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
        for peer in (self._ender, self._other):
            peer.close()


async def _poll(sock: socket.socket, event: int) -> None:
    poll = select.poll()
    poll.register(sock, event)
    while not poll.poll(0):
        await asyncio.sleep(0.002)
