"""A real hub (server, actors, gate) on a fake engine in virtual time, and endpoints written by hand, packet by packet.

:class:`Peer` does nothing by itself: a test says what it sends, and sees what has come, as an endpoint of another make
would.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from typing import Final, TypeVar

from spnhub.actors.contract import packets
from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.actors.contract.inputs import LoadInventory
from spnhub.actors.contract.packets import Accept, Opening, OpeningKind, Packet
from spnhub.actors.system import ActorOptions, ActorSystem
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.model import EndPointType, Event
from spnhub.pki import Authority, IssuedCredentials
from spnhub.transport import protocol
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import (
    Address,
    ChainFault,
    ClientPolicy,
    ClientTrust,
    Closed,
    Connected,
    Engine,
    EngineEvent,
    Opened,
    Readable,
    Reset,
    ServerIdentity,
    ServerPolicy,
    Stopped,
)
from spnhub.transport.hub import Gate, HubServer, Network
from spnhub.transport.hub.memory import MemoryLimits
from spnhub.transport.hub.rates import RealmRates, SessionRates
from spnhub.transport.protocol import PacketReader
from tests.support.fake_engine import FakeEngine, FakeWire, fake_ca, fake_certificate
from tests.support.fake_network import FakeNetwork, FakeNode, VirtualClock
from tests.support.memory_journal import MemoryJournal

REALM = "acme"
NETWORK = "urn:chip-in:network:acme:main"
SERVICE = "urn:chip-in:service:acme:main:web"
NAME = "hub.test"
HUB = ("192.0.2.1", 4433)
UID = bytes(range(16)).hex()
SECRET = bytes(range(16, 32))
WALL = 1_700_000_000_000_000

P = TypeVar("P", bound=Packet)
E = TypeVar("E", bound=Event)

_WEB = ServiceDefinition(SERVICE, "web", "server", frozenset({"client", "other"}))
_authority = Authority.create()
credentials = cache(_authority.client)
"""By common name: those of an endpoint whose certificate the hub accepts."""
_hub = _authority.server(NAME)


authority: Final = _authority
"""What endpoints' certificates are issued by, and the real hub's."""


class _Judge:
    def check(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> ChainFault | None:
        return None

    def next_expiry(self, certificates: tuple[bytes, ...], trust: ClientTrust, moment: datetime) -> datetime | None:
        return None


@dataclass
class Received:
    """What has come on one stream."""

    data: bytes = b""
    fin: bool = False
    reset: int | None = None
    stopped: int | None = None


class Peer:
    """An endpoint without a mind."""

    def __init__(self, bench: Bench, role: EndPointType, subject: str, instance_id: str) -> None:
        self.bench = bench
        self.role = role
        self.instance_id = instance_id
        self.subject = f"CN={subject}"
        self.control: list[Packet] = []
        """Control packets that have come and no test has looked at."""
        self.streams: dict[int, Received] = defaultdict(Received)
        self.closed: Closed | None = None
        self._reader = PacketReader()
        self.engine = bench.new_engine()
        self.node = FakeNode(bench.network, self.engine, self._on_events)
        local = self.node.bind()
        mine = bench.credentials.get(subject) or credentials(subject)
        policy = ClientPolicy(NAME, ("spn/1",), mine.certificate, mine.key, bench.trust)
        self.connection_id = self.engine.connect(Address(local, HUB), policy, bench.clock.now())
        self.node.flush()

    def _on_events(self, events: list[EngineEvent]) -> None:
        for event in events:
            match event:
                case Connected():
                    assert self.engine.open_bidi(self.connection_id) == 0
                    self.connected()
                case Closed():
                    self.closed = event
                case Opened() | Readable():
                    self._read(event.stream_id)
                case Reset():
                    self.streams[event.stream_id].reset = event.code
                case Stopped():
                    self.streams[event.stream_id].stopped = event.code

    def connected(self) -> None:
        self.send(packets.SessionRequest(self.role, SERVICE, self.instance_id))

    def _read(self, stream_id: int) -> None:
        while (got := self.engine.read(self.connection_id, stream_id, 65536)) is not None:
            data, fin = got
            if stream_id == 0:
                self.control += self._reader.feed(data)
            else:
                self.streams[stream_id].data += data
                self.streams[stream_id].fin |= fin
            if not data or fin:
                return

    def send(self, *packets: Packet) -> None:
        """Control packets."""
        data = b"".join(protocol.encode(packet) for packet in packets)
        assert self.engine.write(self.connection_id, 0, data) == len(data)
        self.node.flush()

    def open(self, opening: Opening, data: bytes = b"", *, fin: bool = False) -> int:
        """A data stream that begins so."""
        stream_id = self.engine.open_bidi(self.connection_id)
        assert stream_id is not None
        self.write(stream_id, protocol.encode(opening) + data, fin=fin)
        return stream_id

    def write(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        """Bytes on a data stream."""
        assert self.engine.write(self.connection_id, stream_id, data) == len(data)
        if fin:
            self.engine.finish(self.connection_id, stream_id)
        self.node.flush()

    def abort(self, stream_id: int, code: int) -> None:
        """Reset and stop a data stream."""
        self.engine.reset(self.connection_id, stream_id, code)
        self.engine.stop(self.connection_id, stream_id, code)
        self.node.flush()

    def close(self, code: int = 0) -> None:
        """Close the session."""
        self.engine.close(self.connection_id, code, "bye")
        self.node.flush()

    def take(self, kind: type[P]) -> P:
        """The control packet that has come, the only one and of this kind."""
        self.bench.settle()
        (packet,), self.control = self.control, []
        assert isinstance(packet, kind)
        return packet

    def header(self, stream_id: int, kind: type[P]) -> tuple[P, bytes]:
        """The packet that a data stream begins with, and what follows it."""
        reader = PacketReader()
        data = self.streams[stream_id].data
        for end in range(1, len(data) + 1):
            packets = reader.feed(data[end - 1 : end])
            if packets:
                assert isinstance(packets[0], kind)
                return packets[0], data[end:]
        raise AssertionError(f"no packet in {data!r}")


@dataclass
class Leg:
    """Two endpoints whose bytes pass."""

    consumer: Peer
    cs: int
    provider: Peer
    ps: int


@dataclass
class Bench:
    """One hub with one service, which "server" provides and "client" and "other" use."""

    options: ActorOptions = field(default_factory=ActorOptions)
    on_fault: OnFault = log_fault
    service: ServiceDefinition = _WEB
    real: bool = False
    """QUIC itself, on both sides, in place of the fake engine."""
    credentials: dict[str, IssuedCredentials] = field(default_factory=dict)
    """Of endpoints whose certificates are their own matter, by common name."""
    rates: SessionRates | None = None
    memory: MemoryLimits | None = None
    resident: Callable[[], int] = lambda: 0
    realm_rates: RealmRates = RealmRates()

    def new_engine(self) -> Engine:
        """One that understands the others."""
        return AioquicEngine(on_fault=self.on_fault) if self.real else FakeEngine(self.wire)

    @property
    def trust(self) -> bytes:
        """What issues the hub's certificate."""
        return _authority.certificate if self.real else fake_ca("servers")

    def __post_init__(self) -> None:
        self.clock = VirtualClock()
        self.network = FakeNetwork(self.clock, latency=0.001)
        self.wire = FakeWire()
        self.engine = self.new_engine()
        self.journal = MemoryJournal("hub-1")
        self.system = ActorSystem(self.journal.append, "hub-1", self.options, state=self.journal.state)
        self.stopped = False
        self.services: list[object] = []
        """What the cluster manager was asked."""
        self.server = HubServer(
            self.engine,
            self.system,
            Gate(self.engine, self.journal, self.wall_us),
            "hub-1",
            on_stopped=self._on_stopped,
            on_service=self.services.append,
            judge=_Judge(),
            on_fault=self.on_fault,
            rates=self.rates,
            memory=self.memory,
            resident=self.resident,
            logged=self.journal.logged,
        )
        self.node = FakeNode(self.network, self.engine, self._turn, self.server.timer)
        local = self.node.bind(HUB)
        chain = _hub.certificate if self.real else fake_certificate(f"CN={NAME}", "servers")
        alpn = ("spn/1", "sc01-provider", "sc01-consumer")
        identity = ServerIdentity(chain, _hub.key if self.real else b"key", _authority.certificate, alpn)
        self.engine.set_policy(ServerPolicy({NAME: identity}))
        self._local = local
        self.set_realms()
        definition = NetworkDefinition(NETWORK, "main", NAME, (self.service,))
        self.system.tell_hub(LoadInventory((RealmDefinition(REALM, (definition,)),)))
        self.node.flush()
        self.settle()

    def set_realms(self, *realms: RealmDefinition) -> None:
        """What a reload tells the transport; of these, the bandwidth."""
        self.server.set_networks(
            {(self._local, NAME): Network(REALM, NETWORK)},
            {NETWORK: ClientTrust(_authority.certificate)},
            {REALM: self.realm_rates},
            realms=realms,
        )
        self.node.flush()

    def _on_stopped(self) -> None:
        self.stopped = True

    def wall_us(self) -> int:
        return WALL + round(self.clock.now() * 1_000_000)

    def _turn(self, events: list[EngineEvent]) -> None:
        self.server.turn(events, self.clock.now(), self.wall_us())

    def settle(self, seconds: float = 0.05) -> None:
        """Let packets arrive."""
        self.clock.run_for(seconds)

    def tell(self, message: object) -> None:
        """An input to the hub."""
        self.system.tell_hub(message)  # type: ignore[arg-type]
        self.node.flush()
        self.settle()

    def events(self, kind: type[E]) -> list[E]:
        """What the log has of one class."""
        return [recorded.event for recorded in self.journal.records if isinstance(recorded.event, kind)]

    def peer(self, role: EndPointType, subject: str, instance_id: str) -> Peer:
        """An endpoint with its session."""
        peer = Peer(self, role, subject, instance_id)
        peer.take(packets.SessionAck)
        return peer

    def provider(self, instance_id: str = "p1") -> Peer:
        """A provider's session."""
        return self.peer(EndPointType.PROVIDER, "server", instance_id)

    def consumer(self, subject: str = "client", instance_id: str = "c1") -> Peer:
        """A consumer's session."""
        return self.peer(EndPointType.CONSUMER, subject, instance_id)

    def leg(self, consumer: Peer, provider: Peer, uid: str = UID, secret: bytes = SECRET) -> Leg:
        """A connection whose bytes pass."""
        known = set(provider.streams)
        cs = consumer.open(Opening(OpeningKind.OPEN, uid, secret))
        self.settle()
        (ps,) = set(provider.streams) - known
        provider.write(ps, protocol.encode(Accept(OpeningKind.OPEN)))
        self.settle()
        accept, _ = consumer.header(cs, Accept)
        assert (accept.code, accept.instance_id, accept.peer) == (0, provider.instance_id, provider.subject)
        return Leg(consumer, cs, provider, ps)
