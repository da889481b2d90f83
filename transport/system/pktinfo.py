"""Which of our own addresses a datagram came to, and from which one an answer leaves (RFC 3542 section 6.1, ip(7)).

A socket bound to all addresses answers from whichever the kernel likes best, and a peer that called another one doesn't
take that. Counterpart: :mod:`spnhub.transport.udp`; what is said here is :attr:`spnhub.transport.engine.Address.own`.
"""

from __future__ import annotations

import socket
from typing import Final

__all__ = ["OwnAddresses"]

_IP_PKTINFO: Final = 8
_IPV6_RECVPKTINFO: Final = 49
_IPV6_PKTINFO: Final = 50
_WILDCARDS: Final = ("0.0.0.0", "::", "::ffff:0.0.0.0")  # noqa: S104 - compared only
_KNOWN: Final = 1024
"""Own addresses that are remembered; a host may route whole networks to itself."""


class OwnAddresses:
    """The local addresses at which one socket gets datagrams; a socket that is bound to one address has just that.

    An address is given in the form that the kernel takes as the source of a datagram, so that an answer can reuse it: a
    ``struct in_pktinfo``, or ``in6_pktinfo`` (of an IPv4 peer on an IPv6 socket, too: a mapped address). The interface
    stays with link-local addresses only. Elsewhere routes choose it, and a datagram that comes in at another one is on
    the same path.
    """

    __slots__ = ("_known", "kind", "level")

    def __init__(self, sock: socket.socket) -> None:
        """Ask for it.

        :raises OSError: the kernel has no such thing.
        """
        self.level, self.kind = socket.IPPROTO_IP, _IP_PKTINFO
        self._known: dict[bytes, bytes] = {}
        if sock.getsockname()[0] not in _WILDCARDS:
            return
        if sock.family == socket.AF_INET6:
            self.level, self.kind = socket.IPPROTO_IPV6, _IPV6_PKTINFO
            sock.setsockopt(self.level, _IPV6_RECVPKTINFO, 1)
        else:
            sock.setsockopt(self.level, self.kind, 1)

    def __len__(self) -> int:
        """Addresses that are remembered."""
        return len(self._known)

    def of(self, data: bytes) -> bytes:
        """The address, from what the kernel reported with a datagram or an ICMP error."""
        found = self._known.get(data)
        if found is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            found = self._known[data] = _without_interface(data)
        return found


def _without_interface(data: bytes) -> bytes:
    if len(data) < 20:
        # Interface, source, destination: with an ICMP error the kernel doesn't report the source.
        return bytes(4) + data[8:12] + bytes(4)
    link_local = data[0] == 0xFE and data[1] & 0xC0 == 0x80
    return data if link_local else data[:16] + bytes(4)
