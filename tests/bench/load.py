"""TCP clients that load a service, each as a program of its own: ``python -m tests.bench.load NAME HOST PORT JSON``.

Prints its figures as JSON. Counterpart: :mod:`tests.bench.target`. A client of many connections fails as a whole when
one of them does: a figure of half the connections is none. Only the standard library is imported.
"""

from __future__ import annotations

import json
import selectors
import socket
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from tests.bench.target import BLOCK, COUNT

__all__ = ["Address", "Figures", "bulk", "echo", "first", "hold", "http", "opens", "share"]

Figures = dict[str, float]
Address = tuple[str, int]

_TIMEOUT = 60.0
_HTTP = b"GET /f HTTP/1.1\r\nHost: x\r\n%s\r\n"


def share(values: Sequence[float], part: float) -> float:
    """The value that ``part`` of them don't exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))]


def _connect(address: Address) -> socket.socket:
    sock = socket.create_connection(address, _TIMEOUT)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError(f"FIN after {len(data)} of {size} bytes")
        data += more
    return data


def bulk(address: Address, *, seconds: float, count: int = 1, up: bool = False) -> Figures:
    """Transfers at once for a time. ``MB_s``: to the last byte's coming; ``evenness``: slowest over fastest."""
    return _up(address, seconds, count) if up else _down(address, seconds, count)


def _down(address: Address, seconds: float, count: int) -> Figures:
    selector, buffer = selectors.DefaultSelector(), bytearray(1 << 20)
    got: dict[socket.socket, int] = {}
    for _ in range(count):
        sock = _connect(address)
        sock.sendall(b"T" + COUNT.pack(round(seconds * 1000)))
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ)
        got[sock] = 0
    began, at_end, left = time.monotonic(), None, count
    while left:
        if at_end is None and time.monotonic() - began >= seconds:
            at_end = list(got.values())
        for sock, _ in _ready(selector):
            size = sock.recv_into(buffer, len(buffer), socket.MSG_TRUNC)
            got[sock] += size
            if not size:
                selector.unregister(sock)
                sock.close()
                left -= 1
    each = at_end or list(got.values())
    total = sum(got.values())
    return {"MB_s": total / (time.monotonic() - began) / 1e6, "bytes": total, "evenness": min(each) / max(each)}


def _up(address: Address, seconds: float, count: int) -> Figures:
    selector, rates, total, left = selectors.DefaultSelector(), [], 0, count
    for _ in range(count):
        sock = _connect(address)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 128 * 1024)
        sock.sendall(b"V")
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_WRITE)
    began = time.monotonic()
    while left:
        for sock, event in _ready(selector):
            if event & selectors.EVENT_WRITE:
                if time.monotonic() - began < seconds:
                    sock.send(BLOCK[: 256 * 1024])
                else:
                    sock.shutdown(socket.SHUT_WR)
                    selector.modify(sock, selectors.EVENT_READ)
                continue
            taken = COUNT.unpack(sock.recv(COUNT.size))[0]
            total += taken
            rates.append(taken / (time.monotonic() - began))
            selector.unregister(sock)
            sock.close()
            left -= 1
    return {"MB_s": total / (time.monotonic() - began) / 1e6, "bytes": total, "evenness": min(rates) / max(rates)}


def _ready(selector: selectors.BaseSelector) -> list[tuple[socket.socket, int]]:
    ready = selector.select(_TIMEOUT)
    if not ready:
        raise TimeoutError(f"nothing for {_TIMEOUT} s")
    return [(key.fileobj, event) for key, event in ready if isinstance(key.fileobj, socket.socket)]


def echo(address: Address, *, seconds: float, size: int = 1) -> Figures:
    """One connection, one message after the other."""
    times, payload = [], bytes(size)
    with _connect(address) as sock:
        sock.sendall(b"E" + payload)
        _exactly(sock, size)
        end = time.perf_counter() + seconds
        while (began := time.perf_counter()) < end:
            sock.sendall(payload)
            _exactly(sock, size)
            times.append(time.perf_counter() - began)
    return {"p50_ms": statistics.median(times) * 1e3, "p99_ms": share(times, 0.99) * 1e3, "count": len(times)}


def opens(address: Address, *, seconds: float, at_once: int) -> Figures:
    """Open, echo one byte, close, with so many under way."""

    def answered(sock: socket.socket, _: bytes) -> bool:
        return True

    return _requests(address, seconds, at_once, b"E1", answered, keep=False)


def http(address: Address, *, seconds: float, keep: bool, at_once: int = 16) -> Figures:
    """Requests for 10 KiB."""
    got: dict[socket.socket, bytes] = {}

    def answered(sock: socket.socket, data: bytes) -> bool:
        whole = got.pop(sock, b"") + data
        head = whole.find(b"\r\n\r\n") + 4
        if head < 4 or len(whole) - head < 10 * 1024:
            got[sock] = whole
            return False
        return True

    request = _HTTP % (b"" if keep else b"Connection: close\r\n")
    return _requests(address, seconds, at_once, request, answered, keep=keep)


def _requests(
    address: Address,
    seconds: float,
    at_once: int,
    request: bytes,
    answered: Callable[[socket.socket, bytes], bool],
    *,
    keep: bool,
) -> Figures:
    """So many connections at once; on each a request and its answer, on and on or (without ``keep``) once."""
    selector, times, asked, live = selectors.DefaultSelector(), [], dict[socket.socket, float](), 0
    began = time.perf_counter()
    while True:
        running = time.perf_counter() - began < seconds
        while running and live < at_once:
            sock = socket.socket()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            asked[sock] = time.perf_counter()
            sock.connect_ex(address)
            selector.register(sock, selectors.EVENT_WRITE)
            live += 1
        if not live:
            break
        for sock, event in _ready(selector):
            if event & selectors.EVENT_WRITE:
                sock.send(request)
                selector.modify(sock, selectors.EVENT_READ)
                continue
            data = sock.recv(65536)
            if not data:
                raise ConnectionError("FIN in place of an answer")
            if not answered(sock, data):
                continue
            times.append(time.perf_counter() - asked[sock])
            if keep and running:
                asked[sock] = time.perf_counter()
                sock.send(request)
            else:
                selector.unregister(sock)
                del asked[sock]
                sock.close()
                live -= 1
    took = time.perf_counter() - began
    return {
        "per_s": len(times) / took,
        "count": len(times),
        "p50_ms": statistics.median(times) * 1e3,
        "p99_ms": share(times, 0.99) * 1e3,
    }


def first(address: Address, *, seconds: float, interval: float = 0.02) -> Figures:
    """Try every ``interval`` seconds, until an echo comes back; ``at``: when, of the machine's monotonic clock."""
    selector, last = selectors.DefaultSelector(), 0.0
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        if now - last >= interval and len(selector.get_map()) < 50:
            last = now
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(address)
            selector.register(sock, selectors.EVENT_WRITE)
        for key, event in selector.select(interval / 4):
            assert isinstance(key.fileobj, socket.socket)
            try:
                if event & selectors.EVENT_WRITE:
                    key.fileobj.send(b"E1")
                    selector.modify(key.fileobj, selectors.EVENT_READ)
                    continue
                if key.fileobj.recv(1) == b"1":
                    return {"at": time.monotonic()}
            except BlockingIOError:
                continue
            except OSError:
                pass
            selector.unregister(key.fileobj)
            key.fileobj.close()
    raise TimeoutError(f"no byte within {seconds} s")


def hold(address: Address, *, count: int, at_once: int = 50) -> Figures:
    """So many connections, each after an echo; says so with a line, and keeps them until its input ends."""
    held: list[socket.socket] = []
    began = time.monotonic()
    while len(held) < count:
        some = [_connect(address) for _ in range(min(at_once, count - len(held)))]
        for sock in some:
            sock.sendall(b"E1")
        for sock in some:
            _exactly(sock, 1)
        held += some
    figures = {"count": float(len(held)), "seconds": time.monotonic() - began}
    print(json.dumps(figures), flush=True)
    sys.stdin.read()
    for sock in held:
        sock.close()
    return figures


_CLIENTS: dict[str, Callable[..., Figures]] = {
    client.__name__: client for client in (bulk, echo, opens, http, first, hold)
}

if __name__ == "__main__":
    name, host, port, options = sys.argv[1:]
    print(json.dumps(_CLIENTS[name]((host, int(port)), **json.loads(options))))
