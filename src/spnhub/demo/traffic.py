"""Ordinary TCP programs, as they are found anywhere: a web server, a mail server, and their clients.

They know nothing of SPN Hub. Each counts its bytes at its own socket, so that the log can be held against them.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from spnhub.dataclass import dataclass

__all__ = ["Counted", "MailServer", "Server", "WebServer", "fetch", "send_mail"]

PAGE: Final = b"Hello from a web server that listens on no network of yours.\n"
_CHUNK: Final = 64 * 1024
_REQUEST_LIMIT: Final = 64 * 1024
MESSAGE: Final = (
    "From: a@demo.example\r\nTo: b@demo.example\r\nSubject: through the hub\r\n\r\nThe server spoke first.\r\n"
)


@dataclass(slots=True)
class Counted:
    """Bytes of one conversation at one socket, as the client would name them."""

    sent: int = 0
    """From client to server."""
    received: int = 0
    """From server to client."""


class Server:
    """A TCP server on a free port of the loopback; :attr:`finished` has the counts of each conversation at its end."""

    def __init__(self) -> None:
        self.finished: asyncio.Queue[Counted] = asyncio.Queue()
        self._conversations: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[tuple[str, int]]:
        """Listen; the address."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=_REQUEST_LIMIT)
        try:
            host, port = server.sockets[0].getsockname()[:2]
            yield str(host), int(port)
        finally:
            server.close()
            for task in self._conversations:
                task.cancel()
            await asyncio.gather(*self._conversations, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._converse(reader, writer))
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        counted = Counted()
        # A client that goes away in the middle, or sends what is no request, is its own affair.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await self.talk(_CountingReader(reader, counted), _CountingWriter(writer, counted))
            writer.write_eof()
            while data := await reader.read(_CHUNK):
                counted.sent += len(data)
        with contextlib.suppress(ConnectionError):
            writer.close()
            await writer.wait_closed()
        self.finished.put_nowait(counted)

    async def talk(self, reader: _CountingReader, writer: _CountingWriter) -> None:
        """Hold one conversation."""
        raise NotImplementedError


class _CountingReader:
    def __init__(self, reader: asyncio.StreamReader, counted: Counted) -> None:
        self._reader = reader
        self._counted = counted

    async def until(self, end: bytes) -> bytes:
        """Everything up to and with ``end``."""
        data = await self._reader.readuntil(end)
        self._counted.sent += len(data)
        return data


class _CountingWriter:
    def __init__(self, writer: asyncio.StreamWriter, counted: Counted) -> None:
        self._writer = writer
        self._counted = counted

    async def send(self, data: bytes) -> None:
        """Write, and wait until it went on its way."""
        for place in range(0, len(data), _CHUNK):
            piece = data[place : place + _CHUNK]
            self._writer.write(piece)
            self._counted.received += len(piece)
            await self._writer.drain()


class WebServer(Server):
    """``/`` is a page, ``/download`` so many random bytes.

    :param size: bytes.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.download = os.urandom(size)
        self.sha256 = hashlib.sha256(self.download).hexdigest()

    async def talk(self, reader: _CountingReader, writer: _CountingWriter) -> None:
        """Answer one request."""
        head = (await reader.until(b"\r\n\r\n")).decode("latin-1")
        method, path, *_ = [*head.split("\r\n", 1)[0].split(" "), "", ""]
        known = {"/": ("text/plain", PAGE), "/download": ("application/octet-stream", self.download)}
        status, (kind, body) = "200 OK", known.get(path, ("text/plain", b"There are / and /download here.\n"))
        if method not in {"GET", "HEAD"}:
            status, kind, body = "405 Method Not Allowed", "text/plain", b"Only GET and HEAD.\n"
        elif path not in known:
            status = "404 Not Found"
        headers = (
            f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        await writer.send(headers.encode() + (b"" if method == "HEAD" else body))


class MailServer(Server):
    """Takes mail, and greets before the client has said anything (RFC 5321)."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    async def talk(self, reader: _CountingReader, writer: _CountingWriter) -> None:
        """Take what one client brings."""
        await writer.send(b"220 mail.demo.example ready\r\n")
        while True:
            verb = (await reader.until(b"\r\n")).decode("latin-1").strip().partition(" ")[0].upper()
            if verb == "DATA":
                await writer.send(b"354 go on\r\n")
                message = (await reader.until(b"\r\n.\r\n")).decode("latin-1")
                self.messages.append(message.removesuffix(".\r\n"))
            elif verb == "QUIT":
                await writer.send(b"221 goodbye\r\n")
                return
            await writer.send(b"250 ok\r\n")


async def fetch(address: tuple[str, int], path: str) -> tuple[str, bytes, Counted]:
    """An HTTP GET: the status line, the body, and what went over this socket.

    :raises OSError: the connection failed, or ended before the answer did.
    """
    async with _connected(address) as (reader, writer):
        request = f"GET {path} HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nConnection: close\r\n\r\n".encode()
        writer.write(request)
        answer = bytearray()
        while data := await reader.read(_CHUNK):
            answer += data
        head, _, body = bytes(answer).partition(b"\r\n\r\n")
        return head.split(b"\r\n")[0].decode("latin-1"), body, Counted(len(request), len(answer))


async def send_mail(address: tuple[str, int]) -> tuple[str, Counted]:
    """Send :data:`MESSAGE`: what the server said before the client said anything, and what went over this socket.

    :raises OSError: the connection failed, or the server said no.
    """
    counted = Counted()
    async with _connected(address) as (reader, writer):

        async def answer() -> str:
            line = await reader.readline()
            counted.received += len(line)
            return line.decode("latin-1").strip()

        greeting = await answer()
        words = ["HELO demo.example", "MAIL FROM:<a@demo.example>", "RCPT TO:<b@demo.example>", "DATA"]
        for text in [*(f"{word}\r\n" for word in words), f"{MESSAGE}.\r\n", "QUIT\r\n"]:
            writer.write(text.encode())
            counted.sent += len(text)
            if not (said := await answer()).startswith(("2", "3")):
                raise ConnectionError(f"the mail server said {said!r} to {text.split()[0]}")
        counted.received += len(await reader.read())
    return greeting, counted


@asynccontextmanager
async def _connected(address: tuple[str, int]) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection(*address)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
