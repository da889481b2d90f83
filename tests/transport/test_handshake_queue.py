"""Handshakes wait their turn (D-33): established sessions and other realms don't pay for a flood."""

from __future__ import annotations

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from hypothesis import given
from hypothesis import strategies as st

from spnhub.pki import Authority
from spnhub.transport.aioquic_engine import AioquicEngine, handshakes
from spnhub.transport.aioquic_engine.handshakes import HandshakeQueue, Waiting, peek_server_name
from spnhub.transport.engine import Address, ClientPolicy, Connected, Opened, ServerIdentity, ServerPolicy

AUTHORITY = Authority.create()
HERE = Address(0, ("192.0.2.1", 443))


def first_datagram(name: str | None) -> bytes:
    """What a client sends first."""
    client = QuicConnection(configuration=QuicConfiguration(alpn_protocols=["spn/1"], server_name=name))
    client.connect(("192.0.2.1", 443), 0.0)
    return client.datagrams_to_send(0.0)[0][0]


def address(port: int) -> Address:
    return Address(0, ("198.51.100.1", port))


def test_the_server_name_is_read_from_the_first_datagram() -> None:
    """SNI stands in the Initial packet, under keys that everybody can derive."""
    assert peek_server_name(first_datagram("Realm-A.test")) == "realm-a.test"
    assert peek_server_name(first_datagram(None)) is None


@given(st.binary(min_size=20, max_size=1300), st.booleans())
def test_anything_else_has_no_name(data: bytes, initial: bool) -> None:
    """Garbage raises nothing."""
    assert peek_server_name(b"\xc3\x00\x00\x00\x01\x08" + data if initial else data) is None


def test_names_are_served_in_turn_and_bounded() -> None:
    """A flood under one name leaves every second step to another; what finds no place is counted."""
    queue = HandshakeQueue()
    for _ in range(handshakes.PER_NAME + 10):
        queue.put(Waiting(None, b"a", HERE, "a"))
    for _ in range(3):
        queue.put(Waiting(None, b"b", HERE, "b"))
    served = [waiting.name for _ in range(8) if (waiting := queue.next()) is not None]
    assert served == ["a", "b", "a", "b", "a", "b", "a", "a"]
    assert (queue.dropped, len(queue)) == (10, handshakes.PER_NAME + 3 - 8)
    while queue.next() is not None:
        pass
    assert len(queue) == 0


class Site:
    """An engine with two realms, fed by hand."""

    def __init__(self) -> None:
        self.engine = AioquicEngine()
        self.realms = {name: Authority.create(name) for name in ("a.test", "b.test")}
        identities = {}
        for name, authority in self.realms.items():
            server = authority.server(name)
            identities[name] = ServerIdentity(server.certificate, server.key, authority.certificate, ("spn/1",))
        self.engine.set_policy(ServerPolicy(identities))
        self.now = 0.0

    def client(self, name: str) -> tuple[AioquicEngine, int]:
        """A client engine that has begun to connect."""
        mine = self.realms[name].client("someone")
        client = AioquicEngine()
        policy = ClientPolicy(name, ("spn/1",), mine.certificate, mine.key, self.realms[name].certificate)
        return client, client.connect(HERE, policy, self.now)

    def carry(self, client: AioquicEngine, port: int) -> list[object]:
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

    def connect(self, name: str, port: int) -> tuple[AioquicEngine, int, int]:
        """A session that is up; how many exchanges it took."""
        client, c = self.client(name)
        for exchange in range(1, 2000):
            if any(isinstance(event, Connected) for event in self.carry(client, port)):
                return client, c, exchange
        raise TimeoutError


def test_an_established_session_never_waits_behind_handshakes() -> None:
    """Its datagram is handled in the turn it came in, whatever else came with it."""
    site = Site()
    client, c, _ = site.connect("b.test", 1)
    for _ in range(5):
        site.carry(client, 1)
    flood = [first_datagram("a.test") for _ in range(200)]
    s = client.open_bidi(c)
    assert s is not None
    client.write(c, s, b"hello")
    site.now += 0.001
    for i, data in enumerate(flood):
        site.engine.receive(data, address(1000 + i), 0, site.now)
    for data, _, size in client.transmit(site.now):
        site.engine.receive(data, address(1), size, site.now)
    events = site.engine.events()
    assert [event.s for event in events if isinstance(event, Opened)] == [s]
    assert site.engine.timer() == site.now  # there is more to do, at once


def test_one_realm_s_flood_leaves_the_other_s_handshake_its_turn() -> None:
    """With 400 handshakes of realm A under way, one of realm B needs a handful of turns more than alone."""
    site = Site()
    _, _, alone = site.connect("b.test", 1)
    for i in range(400):
        site.engine.receive(first_datagram("a.test"), address(1000 + i), 0, site.now)
    _, _, beside = site.connect("b.test", 2)
    # Sorting the arrivals takes 400 / PEEKS turns, then every second step is B's.
    assert beside <= 400 // handshakes.PEEKS + 4 * alone + 10


def test_half_open_connections_are_bounded_per_name() -> None:
    """A flood that never goes on fills only its own realm's places."""
    site = Site()
    for i in range(600):
        site.engine.receive(first_datagram("a.test"), address(1000 + i), 0, site.now)
        for _ in range(2):
            site.engine.handle_timer(site.now)
            site.engine.events()
    assert max(site.engine._half_open.values()) <= 512
    site.connect("b.test", 1)
