"""Handshakes wait their turn (D-33): established sessions and other realms don't pay for a flood."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import cast

import pytest
from aioquic.quic import rangeset
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from hypothesis import given
from hypothesis import strategies as st

from spnhub.pki import Authority
from spnhub.transport.aioquic_engine import handshakes
from spnhub.transport.aioquic_engine.handle import ConnectionHandle
from spnhub.transport.aioquic_engine.handshakes import HandshakeQueue, peek_server_name
from spnhub.transport.engine import (
    Address,
    ClientPolicy,
    Connected,
    Engine,
    HandshakesDropped,
    Limits,
    Opened,
    RetriesSent,
    ServerIdentity,
    ServerPolicy,
)
from spnhub.transport.native_engine.installed import load
from tests.support.aioquic_inside import client_hello, sealed_initial
from tests.support.attack import crypto_frame
from tests.support.engine_pair import Kit
from tests.support.engines import REAL, each, each_name
from tests.support.lines_run import lines_run

Peek = Callable[[list[bytes]], str | None]
AUTHORITY = Authority.create()
HERE = Address(0, ("192.0.2.1", 443))


def first_datagram(name: str | None) -> bytes:
    """What a client sends first."""
    client = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["spn/1"], server_name=name))
    client.connect(("192.0.2.1", 443), 0.0)
    return client.datagrams_to_send(0.0)[0][0]


def address(port: int) -> Address:
    return Address(0, ("198.51.100.1", port))


@pytest.fixture(params=each_name(REAL), scope="module")
def peek(request: pytest.FixtureRequest) -> Peek:
    """How each real engine looks for a name."""
    if request.param == "aioquic":
        return peek_server_name
    native: Peek = load().peek_server_name
    return native


def test_the_server_name_is_read_from_the_first_datagram(peek: Peek) -> None:
    """SNI stands in the Initial packet, under keys that everybody can derive."""
    assert peek([first_datagram("Realm-A.test")]) == "realm-a.test"
    assert peek([first_datagram(None)]) is None


def test_a_client_hello_of_two_datagrams(peek: Peek) -> None:
    """One with a post-quantum key share takes two, which may come in any order, and again."""
    protocols = ["spn/1", *(f"{number:0200}" for number in range(6))]
    client = QuicConnection(configuration=QuicConfiguration(alpn_protocols=protocols, server_name="realm-a.test"))
    client.connect(("192.0.2.1", 443), 0.0)
    first, second = (data for data, _ in client.datagrams_to_send(0.0))
    assert peek([first]) is None
    assert peek([first, second]) == "realm-a.test"
    assert peek([second, second, first]) == "realm-a.test"


@given(st.binary(min_size=20, max_size=1300), st.booleans())
def test_anything_else_has_no_name(peek: Peek, data: bytes, initial: bool) -> None:
    """Garbage raises nothing."""
    assert peek([b"\xc3\x00\x00\x00\x01\x08" + data if initial else data]) is None


def _scrambled(name: str) -> bytes:
    """A ClientHello as its bytes' twentieth parts, back to front, with PING and PADDING between."""
    hello = client_hello(name)
    size = -(-len(hello) // 20)
    parts = [crypto_frame(at, hello[at : at + size]) for at in range(0, len(hello), size)]
    return sealed_initial(b"12345678", b"\x01\x00\x00".join(reversed(parts)), 0)


def test_name_of_a_scrambled_hello(peek: Peek) -> None:
    """As browsers do on purpose."""
    assert peek([_scrambled("realm-a.test")]) == "realm-a.test"


@pytest.mark.parametrize(
    "frames",
    [
        pytest.param(b"\x00" * 1100, id="padding"),
        pytest.param(b"\x01" * 1100, id="pings"),
        pytest.param(b"\x01\x00" * 550, id="both"),
        pytest.param(crypto_frame(1, b"") * 350, id="empty crypto"),
    ],
)
def test_frames_without_end_cost_no_time(frames: bytes) -> None:
    """Each first packet is looked into, whoever sent it."""
    datagram = sealed_initial(b"12345678", crypto_frame(16_000, b"x") + frames, 0)
    assert lines_run(handshakes, lambda: peek_server_name([datagram])) < 1000


@pytest.mark.parametrize("kind", [2, 3])
def test_acknowledgements_are_passed_over(kind: int) -> None:
    """Hundreds of ranges fit into a packet, and nothing was sent that they could be of."""
    ranges = 300
    ack = bytes([kind, 0x7F, 0xFF, 0]) + (0x4000 | ranges).to_bytes(2) + bytes(1 + 2 * ranges + 3 * (kind == 3))
    datagram = sealed_initial(b"12345678", ack + crypto_frame(0, client_hello("realm-a.test")), 0)
    assert peek_server_name([datagram]) == "realm-a.test"
    assert lines_run(rangeset, lambda: peek_server_name([datagram])) == 0


def initial(number: int) -> bytes:
    """As much of a first datagram as the queue reads itself, with a connection id of its own."""
    return b"\xc3\x00\x00\x00\x01\x08" + number.to_bytes(8, "big")


def queued(names: dict[str, int]) -> HandshakeQueue:
    """So many new connections under each name, from 0.0 s on, a millisecond after one another, and sorted."""
    queue = HandshakeQueue()
    number = 0
    for name, count in names.items():
        for _ in range(count):
            queue.arrive(first_datagram(name), address(number), number / 1000)
            number += 1
            queue.sort_arrivals(lambda _, name: name)
    return queue


def test_names_are_served_in_turn() -> None:
    """A flood under one name leaves every second step to another."""
    queue = queued({"a": 13, "b": 3})
    served = [waiting.name for _ in range(8) if (waiting := queue.next(1.0)) is not None]
    assert served == ["a", "b", "a", "b", "a", "b", "a", "a"]
    while queue.next(1.0) is not None:
        pass
    assert not queue


def test_who_was_heard_last_comes_first() -> None:
    """A client that repeats itself is still there; it has one place, and its whole ClientHello once."""
    queue = queued({"a": 4})
    again = first_datagram("a")
    queue.arrive(again, address(9), 2.0)
    queue.sort_arrivals(lambda _, name: name)
    for now in (3.0, 4.0, 5.0):
        queue.arrive(again, address(9), now)
    first = queue.next(5.0)
    assert first is not None
    assert [address.remote[1] for _, address in first.datagrams] == [9]
    assert [w.address.remote[1] for _ in range(4) if (w := queue.next(5.0)) is not None] == [3, 2, 1, 0]


def test_nothing_is_begun_with_who_has_been_silent() -> None:
    """It has gone, or it will say so again."""
    queue = queued({"a": 4})
    assert queue.next(handshakes.STALE + 0.0025) is not None
    assert queue.next(handshakes.STALE + 0.0025) is None
    assert not queue


def test_new_connections_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under all names together, and a name has its share however many others are flooded; what goes is counted."""
    monkeypatch.setattr(handshakes, "SORTED", 12)
    monkeypatch.setattr(handshakes, "FEWEST", 4)
    queue = queued({"a": 20, "b": 10})
    served = [waiting for _ in range(30) if (waiting := queue.next(0.1)) is not None]
    assert [sum(waiting.name == name for waiting in served) for name in ("a", "b")] == [12, 6]
    assert queue.dropped == {(0, "a"): 8, (0, "b"): 4}
    monkeypatch.setattr(handshakes, "ARRIVALS", 5)
    for number in range(8):
        queue.arrive(initial(number), HERE, 1.0)
        queue.arrive(initial(number), HERE, 1.0)
    assert queue.dropped == {(0, "a"): 8, (0, "b"): 4, (0, ""): 6}


@dataclass
class _Link:
    """What the queue needs to know of a connection."""

    client: _Client
    attempt: int
    queue: str = ""
    waiting: bool = False

    __hash__ = object.__hash__


class _Client:
    """Comes at 0.0 s, repeats itself each second, gives up after ten, and comes again soon."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.attempt = 0
        self.until = 10.0
        self.handle: _Link | None = None
        self.done = False

    def speak(self, queue: HandshakeQueue, now: float) -> None:
        """What it sends now."""
        if now >= self.until:
            self.attempt += 1
            self.until, self.handle = now + 10.0, None
        if self.handle is not None:
            queue.go_on(cast("ConnectionHandle", self.handle), b"", HERE, now)
        else:
            queue.arrive(initial(self.attempt * 10_000 + self.number), address(self.number), now)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_a_herd_gets_in_however_long_that_takes(share: float) -> None:
    """Clients that give up long before all are through: hardly any step is spent on who has gone.

    ``share``: of the time, for handshakes; each takes two steps of 4 ms.
    """
    queue = HandshakeQueue()
    clients = [_Client(number) for number in range(3000)]
    says = [(number / 3000, number) for number in range(3000)]
    now, steps, outside = 0.0, 0, 3000
    while outside:
        while says and says[0][0] <= now:
            at, number = heappop(says)
            if not clients[number].done:
                clients[number].speak(queue, now)
                heappush(says, (at + 1.0, number))
        now += 0.004 / share
        queue.sort_arrivals(lambda _, name: name)
        waiting = queue.next(now)
        if waiting is None:
            continue
        steps += 1
        if waiting.handle is not None:
            link = cast("_Link", waiting.handle)
            if link.attempt == link.client.attempt and not link.client.done:
                link.client.done = True
                outside -= 1
            continue
        client = clients[waiting.address.remote[1]]
        if int.from_bytes(waiting.cid, "big") // 10_000 == client.attempt:
            client.handle = _Link(client, client.attempt)
            heappush(says, (now + 0.05, client.number))
    assert steps < 1.1 * 2 * 3000
    assert now < 1.1 * 3000 * 0.008 / share


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


class Site:
    """An engine with two realms, fed by hand."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self.engine = kit.make(Limits())
        self.realms = {name: Authority.create(name) for name in ("a.test", "b.test")}
        identities = {}
        for name, authority in self.realms.items():
            server = authority.server(name)
            identities[name] = ServerIdentity(server.certificate, server.key, authority.certificate, ("spn/1",))
        self.engine.set_policy(ServerPolicy(identities))
        self.now = 0.0

    def client(self, name: str) -> tuple[Engine, int]:
        """A client engine that has begun to connect."""
        mine = self.realms[name].client("someone")
        client = self._kit.make(Limits())
        policy = ClientPolicy(name, ("spn/1",), mine.certificate, mine.key, self.realms[name].certificate)
        return client, client.connect(HERE, policy, self.now)

    def carry(self, client: Engine, port: int) -> list[object]:
        """One exchange between a client and the engine; what the engine said."""
        self.now += 0.001
        client.handle_timer(self.now)
        self.engine.handle_timer(self.now)
        for data, _, size in client.transmit(self.now):
            self.engine.receive(data, address(port), size, self.now)
        said: list[object] = list(self.engine.events())
        for data, to, size in self.engine.transmit(self.now):
            if to == address(port):
                client.receive(data, HERE, size, self.now)
        client.events()
        return said

    def connect(self, name: str, port: int) -> tuple[Engine, int, int]:
        """A session that is up; how many exchanges it took."""
        client, connection_id = self.client(name)
        for exchange in range(1, 2000):
            if any(isinstance(event, Connected) for event in self.carry(client, port)):
                return client, connection_id, exchange
        raise TimeoutError


def test_an_established_session_never_waits_behind_handshakes(kit: Kit) -> None:
    """Its datagram is handled in the turn it came in, whatever else came with it."""
    site = Site(kit)
    client, connection_id, _ = site.connect("b.test", 1)
    for _ in range(5):
        site.carry(client, 1)
    flood = [first_datagram("a.test") for _ in range(200)]
    stream_id = client.open_bidi(connection_id)
    assert stream_id is not None
    client.write(connection_id, stream_id, b"hello")
    site.now += 0.001
    for i, data in enumerate(flood):
        site.engine.receive(data, address(1000 + i), 0, site.now)
    for data, _, size in client.transmit(site.now):
        site.engine.receive(data, address(1), size, site.now)
    events = site.engine.events()
    assert [event.stream_id for event in events if isinstance(event, Opened)] == [stream_id]
    assert site.engine.timer() == site.now  # there is more to do, at once


@pytest.mark.long
def test_one_realm_s_flood_leaves_the_other_s_handshake_its_turn(kit: Kit) -> None:
    """With 400 handshakes of realm A under way, one of realm B needs a handful of turns more than alone."""
    site = Site(kit)
    _, _, alone = site.connect("b.test", 1)
    for i in range(400):
        site.engine.receive(first_datagram("a.test"), address(1000 + i), 0, site.now)
    _, _, beside = site.connect("b.test", 2)
    # Sorting the arrivals takes 400 / PEEKS turns, then every second step is B's.
    assert beside <= 400 // handshakes.PEEKS + 4 * alone + 10


@pytest.mark.long
def test_half_open_connections_are_bounded_per_name(kit: Kit) -> None:
    """A flood that never goes on fills only its own realm's places; the rest is dropped, or has to show an address."""
    site = Site(kit)
    events: list[object] = []
    for i in range(600):
        site.engine.receive(first_datagram("a.test"), address(1000 + i), 0, site.now)
        for _ in range(2):
            site.engine.handle_timer(site.now)
            events += site.engine.events()
    places = site.engine.counts()["half_open"]
    assert places <= 512
    assert sum(event.count for event in events if isinstance(event, HandshakesDropped | RetriesSent)) == 600 - places
    site.connect("b.test", 1)
