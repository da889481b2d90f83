"""Ordinary TCP programs for the tests: clients and servers that send, stall, half-close, reset, and look closely.

Everything is on raw sockets, since a stream API would hide whether a FIN or a RST arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import errno
import fcntl
import hashlib
import os
import random
import resource
import socket
import struct
import sys
import termios
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from email.message import EmailMessage
from typing import Any, Self

from aiosmtpd.smtp import SMTP, Envelope, Session

__all__ = [
    "Ending",
    "Mailbox",
    "TcpPeer",
    "TcpServer",
    "digest",
    "no_descriptors",
    "pattern",
    "serve",
    "smtp_mail",
    "smtp_server",
]

_CHUNK = 256 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Ending(enum.Enum):
    """How the other side ended its direction, as our kernel saw it."""

    FIN = "fin"
    RST = "rst"


def pattern(seed: int, size: int) -> Iterator[bytes]:
    """``size`` random bytes, the same for the same seed, in pieces."""
    source = random.Random(seed)
    while size > 0:
        piece = source.randbytes(min(size, _CHUNK))
        size -= len(piece)
        yield piece


def digest(pieces: Iterator[bytes]) -> str:
    """SHA-256 of all pieces together, hex."""
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


class TcpPeer:
    """One end of a TCP connection. Counts what it sends and receives."""

    def __init__(self, sock: socket.socket, *, reset: bool = False) -> None:
        sock.setblocking(False)
        self.sock = sock
        self.sent = 0
        self.received = 0
        self._reset = reset

    @classmethod
    async def connect(cls, address: tuple[str, int], receive_buffer: int = 0) -> TcpPeer:
        """Connect as a client; ``receive_buffer`` (bytes) makes the kernel hold little for one that stalls."""
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        try:
            await asyncio.get_running_loop().sock_connect(sock, address)
        except ConnectionResetError:
            # Connected, and reset before the loop came to it. Asked for once, the kernel doesn't say so again.
            return cls(sock, reset=True)
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    @classmethod
    def pair(cls) -> tuple[TcpPeer, socket.socket]:
        """A connected pair over the loopback: our end, and the socket under test."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            other, _ = listener.accept()
        return cls(client), other

    async def send(self, data: bytes) -> None:
        """Send all of it.

        :raises OSError: the other side has reset the connection.
        """
        await asyncio.get_running_loop().sock_sendall(self.sock, data)
        self.sent += len(data)

    async def send_pattern(self, seed: int, size: int) -> None:
        """Send ``size`` bytes of :func:`pattern`."""
        for piece in pattern(seed, size):
            await self.send(piece)

    @property
    def unsent(self) -> int:
        """Bytes, and FIN, that the other side's kernel has not acknowledged: a reset would drop them."""
        return int.from_bytes(fcntl.ioctl(self.sock, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def send_until_blocked(self) -> int:
        """Send zeros until the kernel takes no more at this moment; how many bytes it took."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += self.sock.send(bytes(_CHUNK))
        self.sent += sent
        return sent

    async def receive(self, size: int) -> bytes:
        """Exactly ``size`` bytes.

        :raises EOFError: FIN came before.
        :raises OSError: RST came before.
        """
        data = bytearray()
        while len(data) < size:
            self._check_reset()
            piece = await asyncio.get_running_loop().sock_recv(self.sock, min(size - len(data), _CHUNK))
            if not piece:
                raise EOFError(f"{len(data)} of {size} bytes")
            data += piece
            self.received += len(piece)
        return bytes(data)

    async def receive_all(self) -> tuple[bytes, Ending]:
        """All that comes, and how it ended."""
        data = bytearray()
        while True:
            try:
                self._check_reset()
                piece = await asyncio.get_running_loop().sock_recv(self.sock, _CHUNK)
            except (ConnectionResetError, BrokenPipeError):
                return bytes(data), Ending.RST
            if not piece:
                return bytes(data), Ending.FIN
            data += piece
            self.received += len(piece)

    async def receive_digest(self) -> tuple[int, str, Ending]:
        """How many bytes came, their SHA-256, and how it ended: for more than one wants to hold."""
        total = hashlib.sha256()
        before = self.received
        while True:
            try:
                self._check_reset()
                piece = await asyncio.get_running_loop().sock_recv(self.sock, _CHUNK)
            except (ConnectionResetError, BrokenPipeError):
                return self.received - before, total.hexdigest(), Ending.RST
            if not piece:
                return self.received - before, total.hexdigest(), Ending.FIN
            total.update(piece)
            self.received += len(piece)

    def _check_reset(self) -> None:
        if self._reset:
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))

    def finish(self) -> None:
        """Half-close: FIN, while we go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.sock.close()

    def close(self) -> None:
        """Close as programs do: FIN, or RST when something was left unread."""
        self.sock.close()


class TcpServer:
    """A listening socket whose connections the test takes one by one.

    :param up: whether it listens from the beginning; else it has its port, and refuses until :meth:`listen`.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0, *, up: bool = True) -> None:
        if up:
            self.sock = socket.create_server((host, port), backlog=1024)
        else:
            self.sock = socket.socket()
            self.sock.bind((host, port))
        self.sock.setblocking(False)

    def listen(self) -> None:
        """Refuse no longer."""
        self.sock.listen(1024)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.sock.getsockname()[:2]
        return str(host), int(port)

    async def accept(self) -> TcpPeer:
        """The next connection."""
        sock, _ = await asyncio.get_running_loop().sock_accept(self.sock)
        return TcpPeer(sock)

    def close(self) -> None:
        """Stop listening; what waits unaccepted is reset by the kernel."""
        self.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextlib.contextmanager
def no_descriptors() -> Iterator[None]:
    """Meanwhile this process can open nothing more: EMFILE, as in real life."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    next_one = os.dup(0)
    os.close(next_one)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def serve(
    handler: Callable[[TcpPeer], Awaitable[None]], server: TcpServer | None = None
) -> AsyncIterator[tuple[str, int]]:
    """A TCP server program: one ``handler`` per connection; yields its address. A failing handler fails the test."""
    with server or TcpServer() as server:
        async with asyncio.TaskGroup() as group:

            async def one(peer: TcpPeer) -> None:
                try:
                    await handler(peer)
                finally:
                    peer.close()

            async def accept() -> None:
                while True:
                    group.create_task(one(await server.accept()))

            accepting = group.create_task(accept())
            yield server.address
            accepting.cancel()


class Mailbox:
    """What an SMTP server received (aiosmtpd's handler interface)."""

    def __init__(self) -> None:
        self.messages: list[tuple[str | None, list[str], bytes]] = []

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        self.messages.append((envelope.mail_from, list(envelope.rcpt_tos), envelope.content))
        return "250 taken"


@contextlib.asynccontextmanager
async def smtp_server() -> AsyncIterator[tuple[tuple[str, int], Mailbox]]:
    """A real SMTP server, whose side speaks first; yields its address and its mailbox."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()

    def protocol() -> Any:
        return SMTP(mailbox, hostname="mail.example", loop=loop, enable_SMTPUTF8=True)

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield (host, port), mailbox


def smtp_mail(address: tuple[str, int], text: str) -> None:
    """Send a mail with the standard library's client. Blocks: call it in a thread."""
    import smtplib

    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "a@example.org", "b@example.org", "hello"
    message.set_content(text)
    with smtplib.SMTP(*address, timeout=20) as client:
        client.send_message(message)
