"""Listening and connecting on plain non-blocking sockets, of TCP and of unix(7).

Counterparts: :mod:`spnhub.transport.agent.consumer` listens, :mod:`spnhub.transport.agent.provider` connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from asyncio.staggered import staggered_race
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.events.spare import OUT_OF_RESOURCES
from spnhub.transport.agent.sockets import keep_urgent_inline, prepare_socket
from spnhub.transport.system.ip import socket_address
from spnhub.transport.system.names import LookupFailed, NameCache
from spnhub.transport.system.socket_address import SocketAddress, TcpAddress, UnixAddress

__all__ = ["ConnectError", "Connector", "address_of", "close_listener", "listen", "listen_at"]


NEXT_AFTER: Final = 0.25
"""Seconds after which the next address is tried beside one that hasn't answered (RFC 8305 section 8)."""
DOUBTFUL_FOR: Final = 10.0
"""Seconds for which an address that failed, or was slower than another, comes after the others."""
NAMED: Final = 4
"""The most addresses whose failures a refusal names."""

_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_BACKLOG: Final = 1024
_UNIX_AGAIN: Final = 0.02
"""Seconds before another attempt at a server that has not accepted those before."""


class ConnectError(Exception):
    """The TCP server can't be reached. ``code`` goes to the consumer's side, the text says why."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of ``host``, all on the same port; an empty host is all addresses.

    Port 0: a free one.

    :raises OSError: nothing can be bound, or a port is taken.
    """
    sockets = _listen(host, port)
    for sock in sockets:
        keep_urgent_inline(sock)
    return sockets


def listen_at(address: SocketAddress) -> list[socket.socket]:
    """The same at an address of either kind. A file of a socket that nobody listens at any more is replaced.

    :raises OSError: nothing can be bound, or the address is taken.
    """
    if isinstance(address, TcpAddress):
        return listen(*address)
    if not address.is_abstract:
        _remove_abandoned(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address.name)
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return [sock]


def address_of(sock: socket.socket) -> SocketAddress:
    """What a socket is bound to."""
    name = sock.getsockname()
    if sock.family != socket.AF_UNIX:
        return TcpAddress(*name[:2])
    return UnixAddress(f"@{os.fsdecode(name[1:])}" if isinstance(name, bytes) else name)


def close_listener(sock: socket.socket, *, last: bool = True) -> None:
    """Listen no more; the file of a socket goes with its last one.

    :param last: no duplicate of it listens on.
    """
    if last and sock.family == socket.AF_UNIX and sock.fileno() >= 0:
        address = address_of(sock)
        if isinstance(address, UnixAddress) and not address.is_abstract:
            with contextlib.suppress(OSError):
                Path(address.path).unlink()
    sock.close()


def _remove_abandoned(path: str) -> None:
    """The file of a process that was killed would be in the way of each later one."""
    try:
        if not Path(path).is_socket():
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            with contextlib.suppress(OSError):
                Path(path).unlink()
        except OSError:
            # Somebody listens, and is busy; or it isn't ours to touch.
            return


def _listen(host: str, port: int) -> list[socket.socket]:
    if not host:
        if socket.has_dualstack_ipv6():
            return [socket.create_server(("", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)]
        return [socket.create_server(("", port), backlog=_BACKLOG)]
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    absent: OSError | None = None
    for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
        bound_port = sockets[0].getsockname()[1] if sockets else port
        try:
            # A scope id and the like stay with the address.
            sockets.append(
                socket.create_server((address[0], bound_port, *address[2:]), family=family, backlog=_BACKLOG)
            )
        except OSError as exc:
            # A name such as localhost may have an address of a family that this host hasn't got.
            if exc.errno in _ABSENT:
                absent = exc
                continue
            for sock in sockets:
                sock.close()
            raise
    if not sockets:
        raise absent or OSError(errno.EADDRNOTAVAIL, f"{host} has no address")
    return sockets


class Connector:
    """Connects to servers by name or address. Use from one event loop.

    Of several addresses each has a quarter of a second before the next one is tried beside it (RFC 8305); those that
    have lately failed come last.
    """

    def __init__(self, names: NameCache | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._names = names or NameCache()
        self._doubtful: dict[tuple[str, int], float] = {}
        """Until when an address comes after the others."""

    async def connect(self, host: str, port: int, timeout: float) -> socket.socket:
        """A connected socket, prepared for a bridge.

        :param timeout: seconds from when an address is known. Looking the name up has a bound of its own
            (:data:`~spnhub.transport.system.names.LOOKUP_BOUND`).
        :raises ConnectError: CONNECT_TIMEOUT, CONNECT_FAILED, or LIMIT when this host has no descriptor left.
        """
        try:
            found = await self._names.find(host)
        except LookupFailed as exc:
            raise ConnectError(Code.CONNECT_FAILED, f"{host} can't be resolved: {exc}") from None
        deadline = self._loop.time() + timeout
        try:
            return await self._race(found, port, deadline, timeout)
        except ConnectError as exc:
            # The server may have moved before its name's time was over.
            others = () if exc.code is Code.LIMIT else await self._others(host, found, deadline)
            if not others or self._loop.time() >= deadline:
                raise
        return await self._race(others, port, deadline, timeout)

    async def connect_to(self, address: SocketAddress, timeout: float) -> socket.socket:
        """The same, to an address of either kind; see :meth:`connect`."""
        if isinstance(address, TcpAddress):
            return await self.connect(*address, timeout)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            prepare_socket(sock)
            await _connect_unix(self._loop, sock, address, timeout)
        except BaseException:
            # Also when cancelled: nothing else has the socket yet.
            sock.close()
            raise
        return sock

    def close(self) -> None:
        """Stop looking names up."""
        self._names.close()

    async def _others(self, host: str, known: tuple[str, ...], deadline: float) -> tuple[str, ...]:
        try:
            async with asyncio.timeout_at(deadline):
                return await self._names.renew(host, known)
        except TimeoutError:
            # The next connection has the answer at once.
            return ()

    async def _race(self, addresses: tuple[str, ...], port: int, deadline: float, timeout: float) -> socket.socket:
        targets = self.order(addresses, port)
        failures: dict[str, OSError] = {}
        made: set[socket.socket] = set()

        async def attempt(ip: str) -> socket.socket:
            try:
                sock = await _connect_one(self._loop, ip, port)
            except OSError as exc:
                failures[ip] = exc
                raise
            made.add(sock)
            return sock

        winner: socket.socket | None = None
        number: int | None = None
        try:
            async with asyncio.timeout_at(deadline):
                if len(targets) == 1:
                    winner = await attempt(targets[0])
                else:
                    winner, number, _ = await staggered_race((partial(attempt, ip) for ip in targets), NEXT_AFTER)
        except OSError:
            # Each is in ``failures``, but for those that had no time left (TimeoutError is one, too).
            pass
        finally:
            # Too late, or cancelled just then: nothing else will close it.
            for sock in made:
                if sock is not winner:
                    sock.close()
        if len(targets) > 1:
            self._note(targets[:number], port)
        if winner is None:
            raise _failure(targets, port, failures, timeout)
        return winner

    def order(self, addresses: tuple[str, ...], port: int) -> list[str]:
        """The families in turn (RFC 8305 section 4), doubtful ones last."""
        now = self._loop.time()
        first = ":" in addresses[0]
        same, other = ([ip for ip in addresses if (":" in ip) is family] for family in (first, not first))
        mixed = [ip for pair in zip_longest(same, other) for ip in pair if ip is not None]
        return sorted(mixed, key=lambda ip: self._doubtful.get((ip, port), now) > now)

    def _note(self, overtaken: list[str], port: int) -> None:
        now = self._loop.time()
        if self._doubtful:
            self._doubtful = {target: until for target, until in self._doubtful.items() if until > now}
        self._doubtful.update({(ip, port): now + DOUBTFUL_FOR for ip in overtaken})


def _failure(targets: list[str], port: int, failures: dict[str, OSError], timeout: float) -> ConnectError:
    code = Code.CONNECT_FAILED if len(failures) == len(targets) else Code.CONNECT_TIMEOUT
    if any(exc.errno in OUT_OF_RESOURCES for exc in failures.values()):
        code = Code.LIMIT
    # asyncio's own text says only that the call failed.
    reasons = [
        f"{ip} port {port} did not answer within {timeout:g} s"
        if (exc := failures.get(ip)) is None
        else f"{ip} port {port}: {os.strerror(exc.errno) if exc.errno else exc}"
        for ip in targets[:NAMED]
    ]
    more = [f"{len(targets) - NAMED} more"] if len(targets) > NAMED else []
    return ConnectError(code, "; ".join(reasons + more))


async def _connect_unix(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, address: UnixAddress, timeout: float
) -> None:
    """:raises ConnectError: see :meth:`Connector.connect`."""
    until = loop.time() + timeout
    while True:
        try:
            sock.connect(address.name)
        except BlockingIOError:
            # The server's backlog is full, and nothing tells when it isn't any more.
            if loop.time() >= until:
                reason = f"{address} did not answer within {timeout:g} s"
                raise ConnectError(Code.CONNECT_TIMEOUT, reason) from None
            await asyncio.sleep(_UNIX_AGAIN)
        except OSError as exc:
            code = Code.LIMIT if exc.errno in OUT_OF_RESOURCES else Code.CONNECT_FAILED
            raise ConnectError(code, f"{address}: {exc.strerror or exc}") from exc
        else:
            return


async def _connect_one(loop: asyncio.AbstractEventLoop, ip: str, port: int) -> socket.socket:
    family, address = socket_address(ip, port)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare_socket(sock)
        await loop.sock_connect(sock, address)
    except BaseException:
        # Also when cancelled: nothing else has the socket yet.
        sock.close()
        raise
    return sock
