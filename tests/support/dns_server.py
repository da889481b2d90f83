"""A little DNS server on the loopback whose answers a test changes: A and AAAA of the names it was told of."""

from __future__ import annotations

import asyncio
import ipaddress
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset

__all__ = ["DnsServer"]


class DnsServer(asyncio.DatagramProtocol):
    """An async context manager: listens on a UDP port of the loopback; 0: a free one."""

    def __init__(self, listen: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._listen = listen
        self.delay = 0.0
        """Seconds that each answer takes."""
        self.late: dict[dns.rdatatype.RdataType, float] = {}
        """Seconds that answers to some record types take beyond it."""
        self.ttl = 0
        self.asked: Counter[dns.rdatatype.RdataType] = Counter()
        """Queries so far, by record type."""
        self.fail: dict[dns.rdatatype.RdataType, dns.rcode.Rcode] = {}
        """Record types that are answered with an error."""
        self.silent: set[dns.rdatatype.RdataType] = set()
        """Record types that are not answered."""
        self._records: dict[dns.name.Name, list[str]] = {}
        self._transport: asyncio.DatagramTransport | None = None
        self._news = asyncio.Event()
        self._closed = asyncio.Event()

    @property
    def address(self) -> str:
        """``IP:PORT``, as SPN_RESOLVER wants it."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    def set(self, name: str, addresses: Sequence[str] | None) -> None:
        """The name has these addresses from now on, of either family; none: it exists, without any.

        None: it doesn't exist.
        """
        if addresses is None:
            self._records.pop(dns.name.from_text(name), None)
        else:
            self._records[dns.name.from_text(name)] = list(addresses)

    async def wait_asked(self, times: int, family: dns.rdatatype.RdataType = dns.rdatatype.A) -> None:
        """Wait until it has answered, or passed over, that many more queries."""
        end = self.asked[family] + times
        while self.asked[family] < end:
            await self._news.wait()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, self._listen)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._transport is not None
        self._transport.close()
        # Its address is free only then.
        await self._closed.wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed.set()

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        self.asked[question.rdtype] += 1
        self._news.set()
        self._news = asyncio.Event()
        if question.rdtype in self.silent:
            return
        answer = self._answer(query, question).to_wire()
        delay = self.delay + self.late.get(question.rdtype, 0.0)
        asyncio.get_running_loop().call_later(delay, self._send, answer, addr)

    def _send(self, answer: bytes, addr: tuple[str | Any, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(answer, addr)

    def _answer(self, query: dns.message.Message, question: dns.rrset.RRset) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        addresses = self._records.get(question.name)
        if question.rdtype in self.fail:
            answer.set_rcode(self.fail[question.rdtype])
        elif addresses is None:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        else:
            version = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}.get(question.rdtype)
            fitting = [text for text in addresses if ipaddress.ip_address(text).version == version]
            if fitting:
                answer.answer.append(dns.rrset.from_text_list(question.name, self.ttl, "IN", question.rdtype, fitting))
        return answer
