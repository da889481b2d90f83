"""A DNS server of one's own choice, asked for one name (D-32). Loaded by :mod:`~.session.addresses` if there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from spnhub.transport.errors import ConfigurationError, HubUnreachable

__all__ = ["DNS_BOUND", "DNS_TRY", "DnsServer"]

DNS_TRY: Final = 1.5
"""Seconds that a DNS server has for an answer before it is asked again."""
DNS_BOUND: Final = 5.0
"""Seconds that a lookup with a DNS server takes at most."""

_FAMILIES: Final = (dns.rdatatype.A, dns.rdatatype.AAAA)


class DnsServer:
    """One server, and one name that it is asked for.

    :param host: the name; absolute, since the search list is the system resolver's affair.
    :param ip: where the server is.
    :param port: its port.
    """

    def __init__(self, host: str, ip: str, port: int) -> None:
        """:raises ConfigurationError: DNS can't be asked for this name."""
        self._host = host
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = [ip]
        self._resolver.port = port
        self._resolver.timeout = DNS_TRY
        self._resolver.lifetime = DNS_BOUND
        try:
            self._name = dns.name.from_text(host)
        except dns.exception.DNSException as exc:
            raise ConfigurationError(f"hub_url: {host!r} is no name that DNS can be asked for: {exc}") from exc
        self._last: dict[dns.rdatatype.RdataType, list[str]] = {family: [] for family in _FAMILIES}

    async def ask(self) -> Iterable[str]:
        """A and AAAA together. A family that gets no answer keeps what it had: half an answer must not look whole.

        :raises HubUnreachable: neither got one.
        """
        failures = await asyncio.gather(*(self._ask(family) for family in _FAMILIES))
        if all(failures):
            raise HubUnreachable(f"{self._host} can't be resolved: {failures[0]}") from failures[0]
        return dict.fromkeys(ip for family in _FAMILIES for ip in self._last[family])

    async def _ask(self, family: dns.rdatatype.RdataType) -> Exception | None:
        try:
            answer = await self._resolver.resolve(self._name, family, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN as exc:
            self._last[family] = []
            return exc
        except (dns.exception.DNSException, OSError) as exc:
            return exc
        self._last[family] = [] if answer.rrset is None else [record.to_text() for record in answer.rrset]
        return None
