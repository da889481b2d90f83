"""Where a program listens or is reached: ``HOST:PORT``, or a socket in the file system, ``unix:/PATH``."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from spnhub.options import parse_address
from spnhub.transport.system.ip import host_port

__all__ = ["SocketAddress", "TcpAddress", "UnixAddress", "parse_listening", "parse_server"]

_UNIX: Final = "unix:"
PATH_LIMIT: Final = 107
"""Bytes of a path, unix(7): ``sun_path`` without the zero at its end."""


class TcpAddress(NamedTuple):
    """Of TCP."""

    host: str
    """A name or an address; empty: every address."""
    port: int

    def __str__(self) -> str:
        return host_port(self.host, self.port)


class UnixAddress(NamedTuple):
    """Of a stream socket of unix(7)."""

    path: str
    """Beginning with ``@``: a name in the abstract namespace, which is no file."""

    def __str__(self) -> str:
        return _UNIX + self.path

    @property
    def name(self) -> str:
        """As the kernel takes it."""
        return f"\0{self.path[1:]}" if self.is_abstract else self.path

    @property
    def is_abstract(self) -> bool:
        """Whether it is no file."""
        return self.path.startswith("@")


SocketAddress = TcpAddress | UnixAddress


def parse_server(text: str) -> SocketAddress:
    """One server that is connected to.

    :raises ValueError: the text is neither ``HOST:PORT`` nor ``unix:/PATH``.
    """
    address = _parse(text)
    if isinstance(address, TcpAddress) and not (address.host and address.port):
        raise _neither(text)
    return address


def parse_listening(text: str) -> tuple[SocketAddress, ...]:
    """Where to listen: one or more, with commas between. A host may be left out, and port 0 is a free one.

    :raises ValueError: one is neither ``HOST:PORT`` nor ``unix:/PATH``, or is there twice.
    """
    found: list[SocketAddress] = []
    for piece in text.split(","):
        address = _parse(piece.strip())
        if address in found and not (isinstance(address, TcpAddress) and not address.port):
            raise ValueError(f"{address} is there twice")
        found.append(address)
    return tuple(found)


def _parse(text: str) -> SocketAddress:
    if not text.startswith(_UNIX):
        try:
            return TcpAddress(*parse_address(text))
        except ValueError as exc:
            if "HOST:PORT" in str(exc):
                raise _neither(text) from exc
            raise
    path = text.removeprefix(_UNIX)
    if len(path) < 2 or path[0] not in "/@" or not path.isprintable():
        raise ValueError(f"{text!r} is not unix:/PATH, nor unix:@NAME")
    if len(os.fsencode(path)) > PATH_LIMIT:
        raise ValueError(f"the path of {text!r} is longer than {PATH_LIMIT} bytes")
    return UnixAddress(path)


def _neither(text: str) -> ValueError:
    return ValueError(f"{text!r} is not HOST:PORT, nor unix:/PATH")
