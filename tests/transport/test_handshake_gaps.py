"""Messages of a handshake that come before others which are missing: a stranger can't have a hub hold many of them."""

from __future__ import annotations

import pytest

from spnhub.transport.aioquic_engine.retry import HALF_OPEN_NAME
from spnhub.transport.engine import Address, HandshakeRefused
from tests.support.aioquic_inside import acknowledged_ahead, connection_of, open_flight, show_certificate
from tests.support.attack import HERE, Insider, Site, Stranger, crypto_frame
from tests.support.engine_pair import Kit
from tests.support.engines import REAL, each

HELD = 16 * 1024


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


def flight(insider: Insider, size: int) -> list[bytes]:
    """So many bytes that a client sends without an answer."""
    datagrams: list[bytes] = []
    while sum(map(len, datagrams)) < size:
        for data, _, segment in insider.engine.transmit(insider.site.now):
            datagrams += [data[at : at + segment] for at in range(0, len(data), segment)] if segment else [data]
        insider.site.now += 0.0002
        insider.engine.handle_timer(insider.site.now)
    return datagrams


def greet(insider: Insider) -> None:
    """Say hello, and hear what the hub says; the client's answer is still to be sent."""
    site = insider.site
    for data, _, _ in insider.engine.transmit(site.now):
        site.engine.receive(data, insider.address, 0, site.now)
    site.step()
    for datagram in site.take(insider.address):
        insider.engine.receive(datagram, HERE, 0, site.now)


@pytest.mark.parametrize("others_under_way", [0, HALF_OPEN_NAME])
def test_a_certificate_whose_beginning_is_missing(kit: Kit, others_under_way: int) -> None:
    """Where many handshakes are half-open no more than 16 KiB of it are acknowledged. The client sends the others
    again, and is judged by all of it."""
    site = Site(kit)
    for number in range(others_under_way):
        greet(Insider(site, host=f"203.0.{number}.7"))
    insider = Insider(site)
    quic = connection_of(insider.engine)
    if others_under_way:
        greet(insider)  # the answer is a Retry, with which it begins anew
    show_certificate(quic, bytes(60_000))
    open_flight(quic)
    greet(insider)
    datagrams = flight(insider, 60_000)
    # The first with a Handshake packet (RFC 9000 section 17.2.4) is lost.
    lost = next(number for number, datagram in enumerate(datagrams) if datagram[0] & 0xF0 == 0xE0)
    del datagrams[lost]
    for datagram in datagrams:
        site.engine.receive(datagram, insider.address, 0, site.now)
        site.step()
    for datagram in site.take(insider.address):
        insider.engine.receive(datagram, HERE, 0, site.now)
    ahead = acknowledged_ahead(quic)
    if others_under_way:
        assert HELD // 2 < ahead <= HELD
    else:
        assert ahead > 50_000
    for _ in range(450):
        insider.carry(0.02)
        if any(isinstance(event, HandshakeRefused) for event in site.events):
            break
    (refused,) = (event for event in site.events if isinstance(event, HandshakeRefused))
    # The whole of it was there: it is no certificate.
    assert refused.alert == 42


def test_a_hello_is_small(kit: Kit) -> None:
    """What may be had of an address that nobody has validated."""
    site = Site(kit)
    for number, (end, fits) in enumerate(((HELD, True), (HELD + 1, False))):
        stranger = Stranger(site, Address(0, (f"203.0.113.{number}", 4000)))
        # The beginning of a ClientHello of 16,000 bytes.
        stranger.send(crypto_frame(0, b"\x01" + (16_000).to_bytes(3) + bytes(500)))
        site.step()
        stranger.send(crypto_frame(end - 10, bytes(10)))
        site.step()
        assert any(isinstance(event, HandshakeRefused) for event in site.events) is not fits
