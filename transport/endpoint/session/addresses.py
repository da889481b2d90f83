"""Where the hubs are, and which of them have come and gone (R-3.1 to R-3.3, D-32).

:class:`Addresses` asks: a fixed list, a DNS server of one's own choice, or the system's resolver. :class:`AddressBook`
judges the answers, without any I/O. Counterpart: :mod:`spnhub.transport.endpoint.api.endpoint` keeps a session with
every address.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from spnhub.transport.errors import ConfigurationError, HubUnreachable
from spnhub.transport.log import get_logger
from spnhub.transport.system.name_lookup import LookupFailed, ask_getaddrinfo

if TYPE_CHECKING:
    from spnhub.transport.endpoint.session.dns_server import DnsServer

__all__ = [
    "ADDRESS_LIMIT",
    "AddressBook",
    "AddressChange",
    "Addresses",
    "IpAddress",
    "parse_hub_addresses",
    "parse_resolver",
]

_log = get_logger()

ADDRESS_LIMIT: Final = 64
"""Addresses of one name; of more the first in sorted order are used, so that every endpoint uses the same."""
DNS_PORT: Final = 53
SAME_ANSWER: Final = 0.5
"""Seconds within which two answers count as one: a check on demand right after a periodic one learns nothing new."""

_WITH_PORT: Final = re.compile(r"(?:\[([^][]+)\]|([^][:]+))(?::([0-9]{1,5}))?")

IpAddress = tuple[str, int]
"""IP address and UDP port."""


class Addresses:
    """The addresses of one hub name. One lookup at a time."""

    def __init__(self, host: str, port: int, *, static: Sequence[str] | None, resolver: str | None) -> None:
        """:param host: the hub's FQDN.
        :param port: of addresses that don't come with one.
        :param static: SPN_HUB_ADDRESSES: see :func:`parse_hub_addresses`; nothing is looked up then.
        :param resolver: SPN_RESOLVER: see :func:`parse_resolver`; None: the system's.
        :raises ConfigurationError: one can't be used; the text names it.
        """
        self._host = host
        self._port = port
        self._static = None if static is None else parse_hub_addresses(static, port)
        self._server: DnsServer | None = None
        if resolver is not None:
            # Imported late: most endpoints ask the system only (spnhub.transport.system.name_lookup.load_dns).
            from spnhub.transport.endpoint.session.dns_server import DnsServer  # noqa: PLC0415

            self._server = DnsServer(host, *parse_resolver(resolver))
        self._failing = False
        self._limit_told = False

    async def lookup(self) -> list[IpAddress]:
        """The addresses now, without doubles, at most :data:`ADDRESS_LIMIT`, never none.

        :raises HubUnreachable: there is none now, or no resolver answers. Temporary, whatever the reason is: a name
            that doesn't exist yet may exist later. The first failure in a row is logged.
        """
        try:
            found = await self._find()
            if not found:
                raise HubUnreachable(f"{self._host} has no address")
        except HubUnreachable as exc:
            if not self._failing:
                self._failing = True
                _log.warning("addresses.failed", host=self._host, reason=str(exc))
            raise
        self._failing = False
        if len(found) <= ADDRESS_LIMIT:
            return found
        if not self._limit_told:
            self._limit_told = True
            _log.warning("addresses.limit", host=self._host, addresses=len(found), used=ADDRESS_LIMIT)
        return sorted(found)[:ADDRESS_LIMIT]

    async def _find(self) -> list[IpAddress]:
        if self._static is not None:
            return list(self._static)
        if self._server is not None:
            return [(ip, self._port) for ip in await self._server.ask()]
        return [(ip, self._port) for ip in await self._ask_system()]

    async def _ask_system(self) -> Iterable[str]:
        try:
            return (await ask_getaddrinfo(self._host)).addresses
        except LookupFailed as exc:
            raise HubUnreachable(f"{self._host} can't be resolved: {exc}") from exc


class AddressChange(NamedTuple):
    """What an answer has changed."""

    added: list[IpAddress]
    gone: list[IpAddress]


class AddressBook:
    """The addresses that count, by the answers so far (D-32). Pure; at most :data:`ADDRESS_LIMIT` of them.

    An address is gone only when it is missing from two non-empty answers in a row: an empty or failed answer says
    something about DNS, not about hubs, and one answer may come from a server that hasn't heard yet.
    """

    def __init__(self) -> None:
        self._known: dict[IpAddress, float | None] = {}
        """Since when it is missing; None: it is not."""

    @property
    def addresses(self) -> list[IpAddress]:
        """Those that count now, the oldest first."""
        return list(self._known)

    def found(self, addresses: Sequence[IpAddress], now: float) -> AddressChange:
        """Take an answer.

        :param addresses: all that were found; none: the answer was empty, nothing changes.
        :param now: monotonic seconds.
        """
        if not addresses:
            return AddressChange([], [])
        present = dict.fromkeys(addresses)
        gone: list[IpAddress] = []
        for address, since in list(self._known.items()):
            if address in present:
                self._known[address] = None
            elif since is None:
                self._known[address] = now
            elif now - since >= SAME_ANSWER:
                gone.append(address)
                del self._known[address]
        added = [address for address in present if address not in self._known][: ADDRESS_LIMIT - len(self._known)]
        self._known.update(dict.fromkeys(added))
        return AddressChange(added, gone)


def parse_hub_addresses(pieces: Iterable[str], port: int, option: str = "hub_addresses") -> list[IpAddress]:
    """The addresses of a fixed list, without doubles: each ``IP``, ``IP:PORT`` or ``[V6]:PORT``.

    :param port: of those that name none.
    :param option: what the list is called where it came from.
    :raises ConfigurationError: one is none of these, or the list is empty.
    """
    found = dict.fromkeys(_parse(piece, port, option) for piece in pieces)
    if not found:
        raise ConfigurationError(f"{option} is empty")
    return list(found)


def parse_resolver(text: str, option: str = "resolver") -> IpAddress:
    """The address of a DNS server: ``IP`` (port 53), ``IP:PORT`` or ``[V6]:PORT``.

    :raises ConfigurationError: it is none of these.
    """
    return _parse(text, DNS_PORT, option)


def _parse(text: str, port: int, option: str) -> IpAddress:
    piece = text.strip()
    with contextlib.suppress(ValueError):
        # First, since an IPv6 address without brackets has colons of its own.
        return str(ipaddress.ip_address(piece)), port
    if form := _WITH_PORT.fullmatch(piece):
        with contextlib.suppress(ValueError):
            v6, v4, digits = form.groups()
            ip = ipaddress.IPv6Address(v6) if v6 else ipaddress.IPv4Address(v4)
            number = int(digits) if digits else port
            if 0 < number < 65_536:
                return str(ip), number
    raise ConfigurationError(f"{option}: {text!r} is not IP, IP:PORT or [V6]:PORT")
