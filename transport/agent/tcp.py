"""Listening and connecting on plain non-blocking sockets.

Counterparts: :mod:`spnhub.transport.agent.consumer` listens, :mod:`spnhub.transport.agent.provider` connects.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from typing import Final

from spnhub.actors.codes import Code
from spnhub.transport.agent.bridge import prepare_socket

__all__ = ["OUT_OF_RESOURCES", "ConnectError", "address_text", "connect", "listen"]

OUT_OF_RESOURCES: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors that say nothing about the peer: this host has no descriptor or memory left (D-25)."""

_ABSENT: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})
_BACKLOG: Final = 1024


class ConnectError(Exception):
    """The TCP server can't be reached. ``code`` goes to the consumer's side, the text says why."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


def address_text(host: str, port: int) -> str:
    """``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen on every address of ``host``, all on the same port; an empty host is all addresses.

    Port 0: a free one.

    :raises OSError: nothing can be bound, or a port is taken.
    """
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


async def connect(host: str, port: int, timeout: float) -> socket.socket:
    """A connected socket, prepared for a bridge; the name is resolved now, every address gets its turn.

    :param timeout: seconds for all of it.
    :raises ConnectError: CONNECT_TIMEOUT, CONNECT_FAILED, or LIMIT when this host has no descriptor left.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    try:
        async with asyncio.timeout_at(deadline):
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except TimeoutError:
        raise ConnectError(Code.CONNECT_TIMEOUT, f"{host} was not resolved within {timeout:g} s") from None
    except (OSError, UnicodeError) as exc:
        raise ConnectError(Code.CONNECT_FAILED, f"{host} can't be resolved: {exc}") from None
    candidates = list(dict.fromkeys((family, address) for family, _, _, _, address in found))
    failure = ConnectError(Code.CONNECT_FAILED, f"{host} has no address")
    for tried, (family, address) in enumerate(candidates):
        # An address that stays silent must not use up the time of the others.
        share = (deadline - loop.time()) / (len(candidates) - tried)
        try:
            async with asyncio.timeout(share):
                return await _connect_one(loop, family, address)
        except TimeoutError:
            failure = ConnectError(
                Code.CONNECT_TIMEOUT, f"{address[0]} port {port} did not answer within {timeout:g} s"
            )
        except OSError as exc:
            # asyncio's own text says only that the call failed.
            reason = f"{address[0]} port {port}: {os.strerror(exc.errno) if exc.errno else exc}"
            code = Code.LIMIT if exc.errno in OUT_OF_RESOURCES else Code.CONNECT_FAILED
            failure = ConnectError(code, reason)
    raise failure


async def _connect_one(loop: asyncio.AbstractEventLoop, family: int, address: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        prepare_socket(sock)
        await loop.sock_connect(sock, address)
    except BaseException:
        # Also when cancelled: the socket belongs to nobody yet.
        sock.close()
        raise
    return sock
