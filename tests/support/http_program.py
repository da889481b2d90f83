"""An ordinary HTTP server and client (the standard library's) that count the bytes at their sockets."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.support.tcp import pattern

__all__ = ["Exchange", "HttpServer", "download", "http_server", "upload"]

_CHUNK = 256 * 1024


class CountingSocket(socket.socket):
    """Counts what passes between the program and the kernel."""

    sent = 0
    received = 0

    @classmethod
    def take(cls, sock: socket.socket) -> CountingSocket:
        """The same connection, counted from now on."""
        timeout = sock.gettimeout()
        counting = cls(fileno=sock.detach())
        counting.settimeout(timeout)
        return counting

    def recv_into(self, *arguments: Any, **keywords: Any) -> int:
        size = super().recv_into(*arguments, **keywords)
        self.received += size
        return size

    def send(self, data: Any, *flags: int) -> int:
        size = super().send(data, *flags)
        self.sent += size
        return size

    def sendall(self, data: Any, *flags: int) -> None:
        super().sendall(data, *flags)
        self.sent += memoryview(data).nbytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP exchange as one side saw it: SHA-256 of the body, and bytes at the socket, headers included."""

    sha256: str
    sent: int
    received: int


class _Handler(BaseHTTPRequestHandler):
    """``GET /?size=&seed=`` gives a pattern; ``PUT`` answers with the SHA-256 of the body."""

    protocol_version = "HTTP/1.1"

    def setup(self) -> None:
        super().setup()
        self.total = hashlib.sha256()

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        seed, size = (int(query[name][0]) for name in ("seed", "size"))
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.send_header("Connection", "close")
        self.end_headers()
        for piece in pattern(seed, size):
            self.total.update(piece)
            self.wfile.write(piece)

    def do_PUT(self) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, _CHUNK))
            assert piece
            left -= len(piece)
            self.total.update(piece)
        answer = self.total.hexdigest().encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answer)

    def finish(self) -> None:
        super().finish()
        sock = self.request
        self.server.exchanges.append(  # type: ignore[attr-defined]
            Exchange(self.total.hexdigest(), sock.sent, sock.received)
        )

    def log_message(self, *_: Any) -> None:
        """Silence."""


class HttpServer(ThreadingHTTPServer):
    """Collects what its side of each exchange saw."""

    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.exchanges: list[Exchange] = []

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, port = self.socket.getsockname()[:2]
        return str(host), int(port)

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = super().get_request()
        return CountingSocket.take(sock), address


@contextlib.contextmanager
def http_server() -> Iterator[HttpServer]:
    """Serve in threads."""
    with HttpServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class _Client(http.client.HTTPConnection):
    counted: CountingSocket

    def connect(self) -> None:
        super().connect()
        self.counted = self.sock = CountingSocket.take(self.sock)


def download(address: tuple[str, int], seed: int, size: int) -> Exchange:
    """``GET`` a pattern. Blocks: call it in a thread."""
    client = _Client(*address, timeout=120)
    with contextlib.closing(client):
        client.request("GET", f"/?seed={seed}&size={size}")
        with client.getresponse() as answer:
            assert answer.status == 200
            total = hashlib.sha256()
            while piece := answer.read(_CHUNK):
                total.update(piece)
    return Exchange(total.hexdigest(), client.counted.sent, client.counted.received)


def upload(address: tuple[str, int], seed: int, size: int) -> Exchange:
    """``PUT`` a pattern; the SHA-256 is what the server says it got. Blocks: call it in a thread."""
    client = _Client(*address, timeout=120)
    with contextlib.closing(client):
        client.request("PUT", "/", body=pattern(seed, size), headers={"Content-Length": str(size)})
        with client.getresponse() as answer:
            assert answer.status == 201
            sha256 = answer.read().decode()
    return Exchange(sha256, client.counted.sent, client.counted.received)
