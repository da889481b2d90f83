"""Where the hubs are: what may be said, what DNS says, and when an address is gone (D-32)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from typing import Any

import dns.rcode
import dns.rdatatype
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from spnhub.transport.endpoint.session import dns_server
from spnhub.transport.endpoint.session.addresses import (
    ADDRESS_LIMIT,
    SAME_ANSWER,
    AddressBook,
    AddressChange,
    Addresses,
    parse_hub_addresses,
    parse_resolver,
)
from spnhub.transport.errors import ConfigurationError, HubUnreachable
from tests.support.dns_server import DnsServer

A, B, C = ("10.0.0.1", 443), ("10.0.0.2", 443), ("10.0.0.3", 443)
HOST = "hub.test"


# ---- the book ----------------------------------------------------------------------------------------------------


class Book:
    """A book that is told of answers a minute apart, unless a test says otherwise."""

    def __init__(self) -> None:
        self.book = AddressBook()
        self.now = 0.0

    def found(self, *found: tuple[str, int], later: float = 60.0) -> AddressChange:
        self.now += later
        return self.book.found(found, self.now)


def test_first_answer() -> None:
    """All of it is new; doubles count once."""
    book = Book()
    assert book.found(A, B, A) == AddressChange([A, B], [])
    assert book.found(B, A) == AddressChange([], [])
    assert book.book.addresses == [A, B]


def test_gone_after_two_answers() -> None:
    """Missing once says nothing; twice in a row says it is gone; and it may come back."""
    book = Book()
    book.found(A, B)
    assert book.found(A) == AddressChange([], [])
    assert book.found(A) == AddressChange([], [B])
    assert book.found(A) == AddressChange([], [])
    assert book.found(B, A) == AddressChange([B], [])


def test_back_in_between() -> None:
    """An address that flickers stays."""
    book = Book()
    book.found(A, B)
    for _ in range(3):
        assert book.found(A) == AddressChange([], [])
        assert book.found(A, B) == AddressChange([], [])
    assert book.book.addresses == [A, B]


def test_empty_answers() -> None:
    """Change nothing: neither do they take an address away, nor do they break a row."""
    book = Book()
    book.found(A, B)
    for _ in range(5):
        assert book.found() == AddressChange([], [])
    assert book.found(A) == AddressChange([], [])
    assert book.found() == AddressChange([], [])
    assert book.found(A) == AddressChange([], [B])


def test_all_replaced() -> None:
    """The new ones are there before the old ones go."""
    book = Book()
    book.found(A, B)
    assert book.found(C) == AddressChange([C], [])
    assert book.found(C) == AddressChange([], [A, B])


def test_two_at_once_are_one() -> None:
    """A check on demand that gets the same wrong answer from a cache is no second witness."""
    book = Book()
    book.found(A, B)
    book.found(A)
    assert book.found(A, later=SAME_ANSWER / 2) == AddressChange([], [])
    assert book.found(A, later=SAME_ANSWER / 2) == AddressChange([], [B])


def test_ports_tell_apart() -> None:
    """A fixed list may have several hubs on one host."""
    book = Book()
    assert book.found(("10.0.0.1", 1), ("10.0.0.1", 2)) == AddressChange([("10.0.0.1", 1), ("10.0.0.1", 2)], [])


def test_book_is_bounded() -> None:
    """No more are known than the limit, whatever the answers say; whose place becomes free is taken."""
    old = [(f"10.0.0.{number}", 443) for number in range(ADDRESS_LIMIT)]
    new = [(f"10.0.1.{number}", 443) for number in range(ADDRESS_LIMIT)]
    book = Book()
    assert book.found(*old).added == old
    assert book.found(*new) == AddressChange([], [])
    assert book.found(*new) == AddressChange(new, old)


@given(st.lists(st.lists(st.sampled_from([A, B, C]))))
def test_known_are_those_of_the_last_two_answers(answers: list[list[tuple[str, int]]]) -> None:
    """Whatever the answers: exactly those of the last two that weren't empty; the changes add up to it."""
    book, followed = Book(), set[tuple[str, int]]()
    told: list[Sequence[tuple[str, int]]] = [[], []]
    for answer in answers:
        change = book.found(*answer)
        if answer:
            told.append(answer)
        assert not followed & set(change.added)
        assert followed >= set(change.gone)
        followed = (followed | set(change.added)) - set(change.gone)
        assert followed == set(book.book.addresses) == {*told[-1], *told[-2]}


# ---- what may be said --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", ("10.0.0.1", 443)),
        ("10.0.0.1:8443", ("10.0.0.1", 8443)),
        (" 10.0.0.1:8443 ", ("10.0.0.1", 8443)),
        ("[2001:db8::1]:8443", ("2001:db8::1", 8443)),
        ("[2001:db8::1]", ("2001:db8::1", 443)),
        ("2001:db8::1", ("2001:db8::1", 443)),
        ("[2001:DB8:0::1]:1", ("2001:db8::1", 1)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
    ],
)
def test_hub_address(text: str, address: tuple[str, int]) -> None:
    """Every form; the port is the URL's where none is given."""
    assert parse_hub_addresses([text], 443) == [address]


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", ":443", "hub.test", "hub.test:443", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:x"),
        *("10.0.0.1:-1", "10.0.0.1:٣", "10.0.0.256", "[10.0.0.1]:1", "[::1", "::1]", "[]:1", "[::1]x", "[::1]:", "1:2"),
        "https://10.0.0.1",
    ],
)
def test_no_hub_address(text: str) -> None:
    """The option and the piece are named."""
    with pytest.raises(ConfigurationError) as failure:
        parse_hub_addresses(["10.0.0.1", text], 443, "--hub-addresses")
    assert str(failure.value) == f"--hub-addresses: {text!r} is not IP, IP:PORT or [V6]:PORT"


def test_empty_list() -> None:
    """Is not the same as none."""
    with pytest.raises(ConfigurationError, match="hub_addresses is empty"):
        Addresses(HOST, 443, static=[], resolver=None)


def test_resolver() -> None:
    """DNS has a port of its own."""
    assert parse_resolver("10.0.0.53") == ("10.0.0.53", 53)
    assert parse_resolver("[::1]:5353") == ("::1", 5353)
    with pytest.raises(ConfigurationError, match=r"resolver: 'dns\.test' is not IP, IP:PORT or"):
        Addresses(HOST, 443, static=None, resolver="dns.test")


def test_name_that_dns_does_not_know() -> None:
    """A label is at most 63 bytes."""
    with pytest.raises(ConfigurationError, match=r"hub_url: 'x+' is no name that DNS can be asked for"):
        Addresses("x" * 64, 443, static=None, resolver="10.0.0.53")


# ---- who is asked ------------------------------------------------------------------------------------------------


async def test_fixed_list() -> None:
    """Nobody is asked; the list wins over the server."""
    fixed = Addresses(HOST, 443, static=["10.0.0.2", "10.0.0.1:1", "10.0.0.2"], resolver="10.0.0.53")
    assert await fixed.lookup() == [("10.0.0.2", 443), ("10.0.0.1", 1)]


async def test_too_many() -> None:
    """The first in sorted order, the same on every endpoint; it is said once."""
    given = [f"10.0.{number % 7}.{number}" for number in range(ADDRESS_LIMIT + 9)]
    fixed = Addresses(HOST, 443, static=given, resolver=None)
    with capture_logs() as lines:
        found = await fixed.lookup()
        assert await fixed.lookup() == found
    assert found == sorted((ip, 443) for ip in given)[:ADDRESS_LIMIT]
    assert lines == [
        {"event": "addresses.limit", "log_level": "warning", "host": HOST, "addresses": 73, "used": ADDRESS_LIMIT}
    ]


@pytest.mark.system
async def test_system_resolver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each address one entry, with the port; a failure is temporary."""
    asked = Addresses("localhost", 443, static=None, resolver=None)
    assert ("127.0.0.1", 443) in await asked.lookup()

    def none(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", none)
    with pytest.raises(HubUnreachable, match=r"localhost can't be resolved: .*Temporary failure") as failure:
        await asked.lookup()
    assert failure.value.retryable


@pytest.fixture
async def server(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[DnsServer]:
    """A DNS server that is given up after a moment."""
    monkeypatch.setattr(dns_server, "DNS_TRY", 0.1)
    monkeypatch.setattr(dns_server, "DNS_BOUND", 0.3)
    async with DnsServer() as server:
        yield server


@pytest.mark.system
async def test_dns_server(server: DnsServer) -> None:
    """A and AAAA, asked anew each time: no cache keeps an answer."""
    asked = Addresses(HOST, 443, static=None, resolver=server.address)
    server.set(HOST, ["10.0.0.1", "2001:db8::1", "10.0.0.2"])
    # In whatever order: DNS promises none.
    assert sorted(await asked.lookup()) == [("10.0.0.1", 443), ("10.0.0.2", 443), ("2001:db8::1", 443)]
    server.set(HOST, ["10.0.0.2"])
    assert await asked.lookup() == [("10.0.0.2", 443)]
    assert server.asked == {dns.rdatatype.A: 2, dns.rdatatype.AAAA: 2}


@pytest.mark.system
@pytest.mark.parametrize(
    ("known", "failing", "silent", "message"),
    [
        (None, {}, (), "does not exist"),
        ([], {}, (), "has no address"),
        (["10.0.0.1"], dict.fromkeys((dns.rdatatype.A, dns.rdatatype.AAAA), dns.rcode.SERVFAIL), (), "SERVFAIL"),
        (["10.0.0.1"], {}, (dns.rdatatype.A, dns.rdatatype.AAAA), "resolution lifetime expired"),
    ],
)
async def test_no_answer(
    server: DnsServer,
    known: list[str] | None,
    failing: dict[dns.rdatatype.RdataType, dns.rcode.Rcode],
    silent: Sequence[dns.rdatatype.RdataType],
    message: str,
) -> None:
    """No such name, no address, a failing server, a silent one: all temporary, and it says which."""
    asked = Addresses(HOST, 443, static=None, resolver=server.address)
    server.set(HOST, known)
    server.fail = failing
    server.silent = set(silent)
    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(HubUnreachable, match=message) as failure:
                await asked.lookup()
            assert failure.value.retryable
    # Said once for all that follow each other.
    assert [(line["event"], message in line["reason"]) for line in lines] == [("addresses.failed", True)]
    server.set(HOST, ["10.0.0.9"])
    server.fail, server.silent = {}, set()
    assert await asked.lookup() == [("10.0.0.9", 443)]
    server.set(HOST, None)
    with capture_logs() as lines, pytest.raises(HubUnreachable):
        await asked.lookup()
    assert len(lines) == 1


@pytest.mark.system
async def test_no_server_there(server: DnsServer) -> None:
    """Whatever the kernel says of it."""
    address = server.address
    asked = Addresses(HOST, 443, static=None, resolver=address)
    await server.__aexit__(None, None, None)
    # The transport closes its socket in the loop's next turn.
    await asyncio.sleep(0)
    with pytest.raises(HubUnreachable):
        await asked.lookup()


@pytest.mark.system
async def test_half_an_answer(server: DnsServer) -> None:
    """A family that got no answer keeps what it had: half an answer doesn't make addresses vanish."""
    asked = Addresses(HOST, 443, static=None, resolver=server.address)
    server.set(HOST, ["10.0.0.1", "2001:db8::1"])
    server.silent = {dns.rdatatype.AAAA}
    assert await asked.lookup() == [("10.0.0.1", 443)]
    server.silent = set()
    assert await asked.lookup() == [("10.0.0.1", 443), ("2001:db8::1", 443)]
    server.fail = {dns.rdatatype.AAAA: dns.rcode.SERVFAIL}
    server.set(HOST, ["10.0.0.2"])
    assert await asked.lookup() == [("10.0.0.2", 443), ("2001:db8::1", 443)]
