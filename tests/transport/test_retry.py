"""Address validation: a forged source occupies no place for long, and everybody else pays a round trip."""

from __future__ import annotations

import ssl

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from spnhub.transport.aioquic_engine.handshakes import CROWD
from spnhub.transport.aioquic_engine.retry import (
    HALF_OPEN_NAME,
    HALF_OPEN_SOURCE,
    TOKEN_LIFETIME,
    HalfOpen,
    RetryTokens,
)
from spnhub.transport.engine import (
    Address,
    Closed,
    CloseKind,
    Connected,
    HandshakeRefused,
    HandshakesDropped,
    RetriesSent,
)
from tests.support.aioquic_inside import sealed_initial
from tests.support.attack import Insider, Site, crypto_frame
from tests.support.engine_pair import Kit
from tests.support.engines import REAL, each

KEY = bytes(range(32))
HERE = Address(0, ("198.51.100.1", 4433))
CID, CLIENT = b"original", b"client's"


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


def forged(name: str = "hub.test") -> bytes:
    """The first packet of a client that is never heard again."""
    client = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["spn/1"], server_name=name))
    client.connect(("192.0.2.1", 443), 0.0)
    return client.datagrams_to_send(0.0)[0][0]


def scattered(number: int) -> Address:
    """One of many networks."""
    return Address(0, (f"203.{number // 250}.{number % 250}.1", 4000))


def flood(site: Site, count: int, name: str = "hub.test", *, one_network: bool = False) -> None:
    """Half-open handshakes from everywhere."""
    for number in range(count):
        source = Address(0, ("203.0.113.9", 1000 + number)) if one_network else scattered(number)
        site.engine.receive(forged(name), source, 0, site.now)
        site.step()


def retries(site: Site) -> int:
    """How many were sent, as far as the engine has said."""
    return sum(event.count for event in site.events if isinstance(event, RetriesSent))


# ---- tokens --------------------------------------------------------------------------------------------------------


def token(tokens: RetryTokens, address: Address = HERE, now: float = 100.0) -> tuple[bytes, bytes]:
    """A Retry's token, and the connection id that goes with it."""
    packet = tokens.packet(CLIENT, CID, address, now)
    assert packet[5:14] == b"\x08" + CLIENT
    return packet[23:-16], packet[15:23]


def test_a_token_counts_where_when_and_for_what_it_was_made() -> None:
    """And nowhere else."""
    tokens = RetryTokens(KEY, 8)
    made, cid = token(tokens)
    assert tokens.original(made, HERE, cid, 100.0) == CID
    assert tokens.original(made, HERE, cid, 100.0 + TOKEN_LIFETIME) == CID
    assert tokens.original(made, HERE, cid, 100.1 + TOKEN_LIFETIME) is None
    # Another machine's clock.
    assert tokens.original(made, HERE, cid, 50.0) is None
    assert tokens.original(made, Address(0, ("198.51.100.1", 4434)), cid, 100.0) is None
    assert tokens.original(made, Address(0, ("198.51.100.2", 4433)), cid, 100.0) is None
    assert tokens.original(made, HERE, b"another1", 100.0) is None
    for at in range(len(made)):
        broken = made[:at] + bytes([made[at] ^ 1]) + made[at + 1 :]
        assert tokens.original(broken, HERE, cid, 100.0) is None
        assert tokens.original(made[:at], HERE, cid, 100.0) is None


def test_tokens_outlive_an_update_and_nothing_else() -> None:
    """The same key makes the same tokens; without one each process has its own."""
    made, cid = token(RetryTokens(KEY, 8))
    assert RetryTokens(KEY, 8).original(made, HERE, cid, 101.0) == CID
    assert RetryTokens(None, 8).original(made, HERE, cid, 101.0) is None
    made, cid = token(RetryTokens(None, 8))
    assert RetryTokens(None, 8).original(made, HERE, cid, 101.0) is None


@pytest.mark.parametrize(
    ("hosts", "same"),
    [
        (("198.51.100.1", "198.51.100.200"), True),
        (("198.51.100.1", "198.51.101.1"), False),
        (("::ffff:198.51.100.1", "198.51.100.200"), True),
        (("2001:db8:0:100::1", "2001:db8:0:1ff::2"), True),
        (("2001:db8:0:100::1", "2001:db8:0:200::1"), False),
        (("fe80::1%eth0", "fe80::2%eth1"), True),
        (("no address", "no address"), True),
    ],
)
def test_networks(hosts: tuple[str, str], same: bool) -> None:
    """A /24, also where it is mapped, and a /56."""
    half_open = HalfOpen()
    first, second = (Address(0, (host, 1, 0, 0)) for host in hosts)
    sources = [half_open.add(f"{number}.test", first) for number in range(HALF_OPEN_SOURCE)]
    assert half_open.are_many("hub.test", second) is same
    half_open.remove("0.test", sources[0])
    assert not half_open.are_many("hub.test", second)


# ---- floods --------------------------------------------------------------------------------------------------------


def test_nobody_is_asked_without_need(kit: Kit) -> None:
    """Fewer than the threshold cost nobody a round trip."""
    site = Site(kit)
    flood(site, HALF_OPEN_NAME - 1)
    newcomer = Insider(site)
    alone = Insider(Site(kit)).connect()
    assert newcomer.connect() == alone
    assert retries(site) == 0


@pytest.mark.parametrize("one_network", [False, True])
def test_a_flood_of_half_open_handshakes_costs_a_newcomer_one_round_trip(kit: Kit, one_network: bool) -> None:
    """Whether it seems to come from everywhere or from one network; the rest of it is never begun."""
    site = Site(kit)
    places = HALF_OPEN_SOURCE if one_network else HALF_OPEN_NAME
    flood(site, places + 200, one_network=one_network)
    assert retries(site) == 200
    assert site.engine.counts()["half_open"] == places
    alone = Insider(Site(kit)).connect()
    newcomer = Insider(site, host="203.0.113.77" if one_network else "198.51.100.7")
    assert newcomer.connect() == alone + 1
    # Another name, another network: nobody asks.
    assert Insider(site, "other.test").connect() == alone
    # Nobody is refused once it is over.
    site.step(11.0)
    site.step()
    assert Insider(site).connect() == alone


def stall(site: Site, number: int) -> None:
    """A client that answers its Retry, if it is sent one, and is never heard again."""
    source = scattered(number)
    client = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["spn/1"], server_name="hub.test"))
    client.connect(("192.0.2.1", 443), site.now)
    for _ in range(2):
        for data, _ in client.datagrams_to_send(site.now):
            site.engine.receive(data, source, 0, site.now)
        site.step()
        for data in site.take(source):
            if data[0] & 0xF0 == 0xF0:
                client.receive_datagram(data, ("192.0.2.1", 443), site.now)


def told_of(site: Site) -> set[str]:
    """Under which server names clients were dropped or sent a Retry, as far as the engine has said."""
    return {event.server_name for event in site.events if isinstance(event, HandshakesDropped | RetriesSent)}


def dropped(site: Site) -> int:
    """How many first packets were, as far as the engine has said."""
    return sum(event.count for event in site.events if isinstance(event, HandshakesDropped))


@pytest.mark.parametrize("by_socket", [False, True])
def test_a_name_with_places_of_its_own(kit: Kit, by_socket: bool) -> None:
    """From an eighth of them on a client answers a Retry; beyond them it is dropped, counted, and let in by what it
    repeats once there is room. Another name isn't asked, and has as many as it had."""
    site = Site(kit)
    site.reload(16, by_socket=by_socket)
    alone = Insider(Site(kit)).connect()
    flood(site, 1)
    assert Insider(site).connect() == alone
    flood(site, 7)
    assert (retries(site), site.engine.counts()["half_open"]) == (6, 2)
    for number in range(100, 114):
        stall(site, number)
    assert (retries(site), site.engine.counts()["half_open"], dropped(site)) == (20, 16, 0)
    for number in range(200, 203):
        stall(site, number)
    assert (site.engine.counts()["half_open"], dropped(site)) == (16, 3)
    assert told_of(site) == {"hub.test"}
    site.step(6.0)
    newcomer = Insider(site)
    for _ in range(4):
        newcomer.carry()
    assert dropped(site) == 4
    assert Insider(site, "other.test").connect() == alone
    site.step(5.0)
    site.step()
    assert site.engine.counts()["half_open"] == 0
    newcomer.connect()


def test_a_reload_changes_a_name_s_places(kit: Kit) -> None:
    """More of them and less, and back to what any name has; what is under way goes on."""
    site = Site(kit)
    site.reload(8 * (HALF_OPEN_NAME + 40))
    flood(site, HALF_OPEN_NAME + 30)
    assert (retries(site), site.engine.counts()["half_open"]) == (0, HALF_OPEN_NAME + 30)
    alone = Insider(Site(kit)).connect()
    newcomer = Insider(site)
    newcomer.carry()
    site.reload(None)
    newcomer.connect()
    assert [event.server_name for event in site.events if isinstance(event, Connected)] == ["hub.test"]
    assert Insider(site).connect() == alone + 1
    assert retries(site) == 1
    site.reload(8)
    stall(site, 200)
    assert dropped(site) == 1


def test_a_burst_is_answered_without_a_look_into_it(kit: Kit) -> None:
    """Two thousand in one turn: what is looked into takes 0.2 ms each."""
    site = Site(kit)
    for number in range(2000):
        packet = sealed_initial(number.to_bytes(8), crypto_frame(16_000, b"x"), 0)
        site.engine.receive(packet, scattered(number), 0, site.now)
    newcomer = Insider(site)
    assert newcomer.connect() <= 5
    assert retries(site) >= 2000 - CROWD - HALF_OPEN_NAME
    assert "" in told_of(site)  # nobody has looked for their names
    # Another realm's, too: a round trip while it lasts.
    assert Insider(site, "other.test").connect() <= 5


def test_a_forged_token_counts_as_none(kit: Kit) -> None:
    """Also a token of somebody else."""
    site = Site(kit)
    flood(site, HALF_OPEN_NAME)
    client = QuicConnection(
        configuration=QuicConfiguration(alpn_protocols=["spn/1"], server_name="hub.test", token=bytes(40))
    )
    client.connect(("192.0.2.1", 443), 0.0)
    site.engine.receive(client.datagrams_to_send(0.0)[0][0], HERE, 0, site.now)
    site.step()
    assert retries(site) == 1


def test_a_retry_is_smaller_than_what_it_answers(kit: Kit) -> None:
    """Nobody's packets are multiplied."""
    site = Site(kit)
    flood(site, HALF_OPEN_NAME)
    site.sent.clear()
    site.engine.receive(forged(), HERE, 0, site.now)
    site.step()
    (answer,) = site.take(HERE)
    assert len(answer) < 120


def test_a_session_that_was_validated_is_like_any_other(kit: Kit) -> None:
    """Streams, and the reset by a hub that has started again with the same key."""
    site = Site(kit, reset_key=KEY)
    flood(site, HALF_OPEN_NAME)
    newcomer = Insider(site)
    newcomer.connect()
    (connected,) = (event for event in newcomer.events if isinstance(event, Connected))
    (served,) = (event for event in site.events if isinstance(event, Connected))
    assert served.server_name == "hub.test"
    assert served.cid == connected.cid
    stream_id = newcomer.engine.open_bidi(connected.connection_id)
    assert stream_id is not None
    newcomer.engine.write(connected.connection_id, stream_id, b"hello")
    newcomer.carry()
    assert site.engine.read(served.connection_id, stream_id, 100) == (b"hello", False)
    again = Site(kit, reset_key=KEY)
    again.now = site.now
    newcomer.site = again
    newcomer.engine.write(connected.connection_id, stream_id, b"x")
    newcomer.carry()
    newcomer.carry()
    assert [event.kind for event in newcomer.events if isinstance(event, Closed)] == [CloseKind.RESET]


def test_a_hub_that_starts_again_takes_the_tokens_of_before(kit: Kit) -> None:
    """A client can't be sent a second Retry."""
    site = Site(kit, reset_key=KEY)
    flood(site, HALF_OPEN_NAME)
    newcomer = Insider(site)
    newcomer.carry()
    assert retries(site) == 1
    again = Site(kit, reset_key=KEY)
    again.now = site.now
    newcomer.site = again
    newcomer.connect()


def test_a_hello_of_two_packets(kit: Kit) -> None:
    """It is the name in both together that counts, before the Retry and behind it."""
    site = Site(kit)
    flood(site, HALF_OPEN_NAME)
    protocols = ["spn/1", *(f"{number:0200}" for number in range(6))]
    client = QuicConnection(
        configuration=QuicConfiguration(alpn_protocols=protocols, server_name="hub.test", verify_mode=ssl.CERT_NONE)
    )
    client.connect(("192.0.2.1", 443), site.now)
    for data, _ in client.datagrams_to_send(site.now):
        site.engine.receive(data, HERE, 0, site.now)
    site.step()
    for _ in range(4):
        for data in site.take(HERE):
            client.receive_datagram(data, ("192.0.2.1", 443), site.now)
        for data, _ in client.datagrams_to_send(site.now):
            site.engine.receive(data, HERE, 0, site.now)
        site.step(0.01)
    # It has no certificate, so it is refused; but by its name, behind its Retry.
    refused = [event for event in site.events if isinstance(event, HandshakeRefused)]
    assert [(event.server_name, event.reason) for event in refused] == [("hub.test", "no client certificate")]
    assert retries(site) == 1
