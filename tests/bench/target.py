"""The TCP server behind a provider's agent, as a program: prints its port, and serves until it is killed.

A connection's first byte says what it is:

====  ====================================================================================
E     echo until FIN
G     an HTTP request; each is answered with 10 KiB, the last with ``Connection: close``
T     and eight bytes, milliseconds: bytes are sent for so long, then FIN
V     bytes are taken until FIN; the answer is how many, eight bytes
====  ====================================================================================

Bulk (T, V) has a process of its own, so that an echo doesn't wait for the transfer beside it. Counterpart:
:mod:`tests.bench.load`. Only the standard library is imported: it starts fast and costs little.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import struct
import time
from collections.abc import Callable

__all__ = ["BLOCK", "COUNT"]

COUNT = struct.Struct(">Q")
BLOCK = memoryview(bytes(1 << 20))
_BODY = bytes(10 * 1024)
_KEEP = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_BODY) + _BODY
_CLOSE = _KEEP.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
_BUFFER = 128 * 1024
"""Of the kernel, for what is sent: else those of 100 connections hold more than a slow system moves in a minute."""


class _Loop:
    """Sockets and what each does when it is ready."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def on(self, sock: socket.socket, event: int, step: Callable[[], None]) -> None:
        """From now on ``step`` when ``sock`` is ready for ``event``."""
        sock.setblocking(False)
        with contextlib.suppress(KeyError):
            self._selector.unregister(sock)
        self._selector.register(sock, event, step)

    def forget(self, sock: socket.socket) -> None:
        """It belongs to somebody else."""
        self._selector.unregister(sock)

    def run(self) -> None:
        """For ever."""
        while True:
            for key, _ in self._selector.select():
                assert isinstance(key.fileobj, socket.socket)
                try:
                    key.data()
                except BlockingIOError:
                    continue
                except OSError:
                    with contextlib.suppress(KeyError):
                        self._selector.unregister(key.fileobj)
                    key.fileobj.close()


class _Small(_Loop):
    """Echo, HTTP, and the first byte of all."""

    def __init__(self, listener: socket.socket, bulk: socket.socket) -> None:
        super().__init__()
        self._bulk = bulk
        self.on(listener, selectors.EVENT_READ, lambda: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.on(sock, selectors.EVENT_READ, lambda: self._first(sock))

    def _first(self, sock: socket.socket) -> None:
        kind = sock.recv(1, socket.MSG_PEEK)
        if kind in (b"T", b"V"):
            self.forget(sock)
            socket.send_fds(self._bulk, [kind], [sock.fileno()])
            sock.close()
            return
        step = self._http if kind == b"G" else self._echo
        if kind == b"E":
            sock.recv(1)
        self.on(sock, selectors.EVENT_READ, lambda: step(sock))

    def _echo(self, sock: socket.socket) -> None:
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("FIN")
        sock.send(data)

    def _http(self, sock: socket.socket) -> None:
        request = sock.recv(65536)
        if not request:
            raise ConnectionError("FIN")
        sock.send(_CLOSE if b"close" in request else _KEEP)


class _Bulk(_Loop):
    """Transfers."""

    def __init__(self, handed: socket.socket) -> None:
        super().__init__()
        self._buffer = bytearray(1 << 20)
        self.on(handed, selectors.EVENT_READ, lambda: self._take(handed))

    def _take(self, handed: socket.socket) -> None:
        kind, descriptors, _, _ = socket.recv_fds(handed, 1, 1)
        if not kind:
            raise SystemExit  # the other process has ended
        sock = socket.socket(fileno=descriptors[0])
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        if kind == b"V":
            self._receive(sock)
        else:
            self.on(sock, selectors.EVENT_READ, lambda: self._begin(sock))

    def _begin(self, sock: socket.socket) -> None:
        head = sock.recv(1 + COUNT.size)
        end = time.monotonic() + COUNT.unpack(head[1:])[0] / 1000

        def send() -> None:
            if time.monotonic() < end:
                sock.send(BLOCK)
                return
            sock.shutdown(socket.SHUT_WR)
            self.on(sock, selectors.EVENT_READ, lambda: self._drain(sock))

        self.on(sock, selectors.EVENT_WRITE, send)

    def _receive(self, sock: socket.socket) -> None:
        got = -1  # without the first byte

        def take() -> None:
            nonlocal got
            size = sock.recv_into(self._buffer, len(self._buffer), socket.MSG_TRUNC)
            got += size
            if not size:
                sock.send(COUNT.pack(got))
                raise ConnectionError("all taken")

        self.on(sock, selectors.EVENT_READ, take)

    def _drain(self, sock: socket.socket) -> None:
        if not sock.recv(65536):
            raise ConnectionError("FIN")


def main() -> None:
    """The program."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    small, bulk = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        listener.close()
        small.close()
        _Bulk(bulk).run()
    bulk.close()
    print(listener.getsockname()[1], flush=True)
    _Small(listener, small).run()


if __name__ == "__main__":
    main()
