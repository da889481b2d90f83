"""IP addresses as text and for sockets, and with a port. Nothing here asks anybody, as ``getaddrinfo`` may."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from typing import Final

__all__ = ["host_port", "ip_address", "plain_host", "socket_address"]

_OLD_FORMS: Final = re.compile(r"[0-9][0-9a-fA-FxX.]*")


def host_port(host: str, port: int) -> str:
    """``HOST:PORT``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_host(host: str) -> str:
    """An IP address as it is written without scope, and IPv4's without IPv6 around it; anything else as it is."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def ip_address(host: str) -> str | None:
    """``host`` in its usual form, if it is an IP address as the system takes it; None: it is a name.

    IPv4 may be written as inet_aton(3) reads it (``127.1``), IPv6 may have a scope.
    """
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return socket.inet_ntoa(socket.inet_aton(host)) if _OLD_FORMS.fullmatch(host) else None
    except OSError:
        return None


def socket_address(ip: str, port: int) -> tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]:
    """The family, and what a socket of it is bound or connected to.

    :raises OSError: ``ip`` is no IP address, or its scope names no interface.
    """
    try:
        address = ipaddress.ip_address(ip)
    except ValueError:
        raise OSError(errno.EINVAL, f"{ip!r} is not an IP address") from None
    if isinstance(address, ipaddress.IPv4Address):
        return socket.AF_INET, (str(address), port)
    scope = address.scope_id or "0"
    index = int(scope) if scope.isdecimal() else socket.if_nametoindex(scope)
    return socket.AF_INET6, (str(address).partition("%")[0], port, 0, index)
