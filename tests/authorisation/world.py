"""A real hub of two realms (engine, server, actors, gate), and a client of each cell at its door."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Final

from cryptography import x509

from spnhub.actors.contract.definitions import NetworkDefinition, RealmDefinition, ServiceDefinition
from spnhub.actors.contract.inputs import LoadInventory
from spnhub.actors.contract.packets import (
    Accept,
    Opening,
    OpeningKind,
    Packet,
    SessionAck,
    SessionRefusal,
    SessionRequest,
)
from spnhub.actors.system import ActorSystem
from spnhub.events.model import EndPointType, SessionRefused, SessionStarted
from spnhub.transport import protocol
from spnhub.transport.certificates import check_chain, next_expiry
from spnhub.transport.engine import (
    Address,
    ClientPolicy,
    ClientTrust,
    Closed,
    CloseKind,
    Connected,
    DatagramReceived,
    EngineEvent,
    HandshakeRefused,
    Limits,
    Opened,
    Readable,
    Revocation,
    ServerIdentity,
    ServerPolicy,
)
from spnhub.transport.hub import Gate, HubServer, Network
from spnhub.transport.pem import PrivateKey
from spnhub.transport.protocol import PacketReader
from tests.authorisation import credentials
from tests.authorisation.axes import REALMS, REVOCATIONS, SERVED, SERVICES, Cell
from tests.authorisation.credentials import NOW
from tests.authorisation.oracle import Verdict, offered
from tests.authorisation.places import Place, Virtual
from tests.support.aioquic_inside import OptionalProtocols, connection_of
from tests.support.engine_pair import Credentials
from tests.support.engines import make_real
from tests.support.memory_journal import MemoryJournal

__all__ = ["World"]

_WALL: Final = round(NOW.timestamp() * 1_000_000)
_ALPN: Final = ("spn/1", "sc01-provider", "sc01-consumer")
_CONSUMER, _PROVIDER = EndPointType.CONSUMER, EndPointType.PROVIDER
_ROLES: Final = {"consumer": (_CONSUMER,), "provider": (_PROVIDER,), "both": (_CONSUMER, _PROVIDER), "none": ()}


class _Judge:
    check = staticmethod(check_chain)
    next_expiry = staticmethod(next_expiry)


def _network(realm: str) -> str:
    return f"urn:chip-in:network:{realm}:main"


class _Peer:
    """An endpoint of either protocol without a mind; it reads what comes."""

    def __init__(self, world: World, who: Credentials, server_name: str | None, alpn: tuple[str, ...]) -> None:
        self._world = world
        self.alpn: str | None = None
        self.closed: Closed | None = None
        self.control: list[Packet] = []
        self.datagrams: list[bytes] = []
        self.streams: dict[int, bytes] = defaultdict(bytes)
        self.requests: list[SessionRequest] = []
        self._reader = PacketReader()
        self.engine = OptionalProtocols(Limits(), clock=lambda: NOW, offers_protocols=bool(alpn))
        self.node = world.place.node(self.engine, self._on_events)
        # There is no name in the ClientHello for an address.
        policy = ClientPolicy(server_name or world.place.hub[0], alpn, who.chain, who.key, credentials.standing_ca())
        address = Address(self.node.bind(), world.place.hub)
        self.connection_id = self.engine.connect(address, policy, world.clock.now())

    def present(self, chain: list[x509.Certificate], key: PrivateKey | None) -> None:
        """Present these in the handshake, or none; with a key that TLS has no use for, too."""
        tls = connection_of(self.engine).tls
        tls.certificate = chain[0] if chain else None
        tls.certificate_chain = chain[1:]
        tls.certificate_private_key = key

    def _on_events(self, events: list[EngineEvent]) -> None:
        for event in events:
            match event:
                case Connected():
                    self.alpn = event.alpn
                    if self.alpn == "spn/1":
                        assert self.engine.open_bidi(self.connection_id) == 0
                        self.send(0, *self.requests)
                case Closed():
                    self.closed = event
                case DatagramReceived():
                    self.datagrams.append(event.data)
                case Opened() | Readable():
                    self._read(event.stream_id)

    def _read(self, stream_id: int) -> None:
        while (got := self.engine.read(self.connection_id, stream_id, 65536)) is not None:
            if stream_id == 0 and self.alpn == "spn/1":
                self.control += self._reader.feed(got[0])
            else:
                self.streams[stream_id] += got[0]
            if not got[0] or got[1]:
                return

    def send(self, stream_id: int, *packets: Packet, data: bytes = b"") -> None:
        """Packets, then bytes."""
        whole = b"".join(map(protocol.encode, packets)) + data
        assert self.engine.write(self.connection_id, stream_id, whole) == len(whole)
        self.node.flush()

    def open(self, *packets: Packet, data: bytes = b"") -> int:
        """A stream that begins so."""
        stream_id = self.engine.open_bidi(self.connection_id)
        assert stream_id is not None
        self.send(stream_id, *packets, data=data)
        return stream_id

    def end(self, stream_id: int) -> None:
        """Want no more of a stream."""
        self.engine.reset(self.connection_id, stream_id, 0)
        self.engine.stop(self.connection_id, stream_id, 0)
        self.node.flush()

    def leave(self) -> None:
        """Close, and be gone."""
        self.engine.close(self.connection_id, 0, "bye")
        self.node.flush()


class World:
    """A hub on an engine of this name. Its inventory is the table's; a reload has taken one service away.

    :param place: where it meets its clients; None: in virtual time.
    """

    def __init__(self, engine: str, place: Place | None = None) -> None:
        self.place = place or Virtual()
        self.clock = self.place.clock
        self.faults: list[BaseException] = []
        self.engine = make_real(engine, Limits(), clock=lambda: NOW, on_fault=self._on_fault)
        self.journal = MemoryJournal("hub-1")
        self._system = ActorSystem(self.journal.append, "hub-1", state=self.journal.state)
        self._server = HubServer(
            self.engine,
            self._system,
            Gate(self.engine, self.journal, lambda: _WALL),
            "hub-1",
            on_stopped=lambda: None,
            on_service=lambda _: None,
            judge=_Judge(),
            on_fault=self._on_fault,
        )
        self.refused: list[HandshakeRefused] = []
        self._node = self.place.node(self.engine, self._turn, self._server.timer)
        self._local = self._node.bind(self.place.hub)
        self._numbers = itertools.count(1)
        self._trust("", Revocation())
        removed = ServiceDefinition(SERVICES["removed"].urn, "old", "former", frozenset({"former", "client"}))
        for more in ((removed,), ()):
            self._system.tell_hub(LoadInventory(tuple(_realm(one, more) for one in ("acme", "umbrella"))))
            self._node.flush()
            self.clock.run_for(0.05)
        self._providers = {
            name: self._standing(_PROVIDER, name, SERVICES[name].provider)
            for name in ("own", "another of the hub", "of the other realm")
        }
        self._consumers = {
            name: self._standing(_CONSUMER, name, min(SERVICES[name].consumers - {"clïent", "foreigner"}))
            for name in self._providers
        }

    def _on_fault(self, _where: str, fault: BaseException) -> None:
        self.faults.append(fault)

    def _turn(self, events: list[EngineEvent]) -> None:
        self.refused += [event for event in events if isinstance(event, HandshakeRefused)]
        self._server.turn(events, self.clock.now(), _WALL)

    def _trust(self, realm: str, revocation: Revocation) -> None:
        """What the realms accept; ``revocation`` is the inventory's of one of them."""
        hub = credentials.standing("hub", *SERVED)
        identities, networks, authorities = {}, {}, {}
        for name, (owner, anchor) in SERVED.items():
            ca = credentials.pem_of(anchor) + credentials.standing_ca()
            mine = revocation if owner == realm else Revocation()
            identities[name] = ServerIdentity(hub.chain, hub.key, ca, _ALPN, mine)
            networks[self._local, name] = Network(owner, _network(owner))
            authorities[_network(owner)] = ClientTrust(ca, mine)
        self.engine.set_policy(ServerPolicy(identities))
        self._server.set_networks(networks, authorities)

    def _standing(self, role: EndPointType, service: str, name: str) -> _Peer:
        """A session that is there for the cells' clients. As a provider it is the last choice."""
        (server_name,) = (one for one, (owner, _) in SERVED.items() if owner == SERVICES[service].realm)
        peer = _Peer(self, credentials.standing(name), server_name, ("spn/1",))
        weight = 1 if role is _PROVIDER else 100
        peer.requests = [SessionRequest(role, SERVICES[service].urn, f"standing {role}", weight)]
        peer.node.flush()
        self.until(lambda: bool(peer.control))
        assert isinstance(peer.control[0], SessionAck), peer.control
        return peer

    def until(self, reached: Callable[[], bool], limit: float = 15.0) -> None:
        """Let packets arrive."""
        self.clock.run_until(reached, limit)

    # ---- a cell ----------------------------------------------------------------------------------------------------

    def run(self, cell: Cell) -> Verdict:
        """What becomes of its client; one that is admitted is then given, or gives, a connection."""
        self._trust(REVOCATIONS[cell.revocation].realm, credentials.revocation_of(cell))
        self.refused.clear()
        logged = len(self.journal.records)
        peer = _Peer(self, credentials.standing("anybody"), REALMS[cell.realm].server_name, offered(cell))
        peer.present(*credentials.client(cell))
        urn = SERVICES[cell.service].urn
        peer.requests = [SessionRequest(role, urn, "the cell's") for role in _ROLES[cell.role]]
        peer.node.flush()

        def started() -> bool:
            records = self.journal.records[logged:]
            return any(isinstance(record.event, SessionStarted) for record in records)

        def judged() -> bool:
            if peer.closed is not None:
                return True
            if len(peer.requests) == 1:
                return bool(peer.control) or (peer.alpn != "spn/1" and started())
            return peer.alpn not in {None, "spn/1"} and started()

        self.until(judged)
        found = self._seen(cell, peer, logged)
        if found.kind == "admitted":
            self._converse(cell, peer, logged)
        peer.leave()
        self.clock.run_for(0.02)
        peer.node.crash()
        assert not self.faults, self.faults
        return found

    def _seen(self, cell: Cell, peer: _Peer, logged: int) -> Verdict:
        events = [record.event for record in self.journal.records[logged:]]
        # Those without a code are of handshakes, and may be of earlier ones: some are told together (D-13).
        refusals = [one for one in events if isinstance(one, SessionRefused) and one.code is not None]
        closed = peer.closed
        if closed is not None and closed.kind is CloseKind.PEER_TRANSPORT and 0x100 <= closed.code < 0x200:
            (refused,) = self.refused
            assert refused.alert == closed.code - 0x100, (refused, closed)
            assert not any(isinstance(one, SessionStarted) for one in events)
            return Verdict("alert", closed.code - 0x100, (refused.reason,))
        if closed is not None and closed.kind is CloseKind.PEER:
            if peer.alpn != "spn/1":
                (event,) = refusals
                assert event.reason == closed.reason
            return Verdict("close", closed.code, (closed.reason,))
        assert closed is None, closed
        if peer.control and isinstance(refusal := peer.control[0], SessionRefusal):
            (event,) = refusals
            assert (event.code, event.reason) == (refusal.code, refusal.reason)
            return Verdict("refusal", refusal.code, (refusal.reason,))
        assert peer.alpn != "spn/1" or isinstance(peer.control[0], SessionAck)
        assert not refusals
        return Verdict("admitted")

    def _converse(self, cell: Cell, peer: _Peer, logged: int) -> None:
        """Its session has the certificate's subject, and a connection of it passes bytes to its service."""
        (session,) = (
            record.event for record in self.journal.records[logged:] if isinstance(record.event, SessionStarted)
        )
        subject = credentials.leaf_of(cell).subject.rfc4514_string()
        assert session.spn_end_point == subject
        (service,) = (name for name, one in SERVICES.items() if one.urn == session.service_urn)
        if session.end_point_type is _CONSUMER:
            consumer, provider = peer, self._providers[service]
        else:
            consumer, provider = self._consumers[service], peer
        known = set(provider.streams)
        number = next(self._numbers)
        headers = (
            (Opening(OpeningKind.OPEN, f"{number:032x}", number.to_bytes(16)),) if consumer.alpn == "spn/1" else ()
        )
        ours = consumer.open(*headers, data=b"hello")
        self.until(lambda: bool(set(provider.streams) - known))
        (theirs,) = set(provider.streams) - known
        if provider.alpn == "spn/1":
            (opening,) = PacketReader().feed(provider.streams[theirs].partition(b"hello")[0])
            assert isinstance(opening, Opening)
            assert consumer is not peer or opening.peer == subject
            provider.send(theirs, Accept(OpeningKind.OPEN), data=b"welcome")
        else:
            provider.send(theirs, data=b"welcome")
        self.until(lambda: provider.streams[theirs].endswith(b"hello") and consumer.streams[ours].endswith(b"welcome"))
        consumer.end(ours)
        self.clock.run_for(0.01)
        provider.end(theirs)
        self.clock.run_for(0.01)


def _realm(name: str, more: tuple[ServiceDefinition, ...]) -> RealmDefinition:
    (server_name,) = (one for one, (owner, _) in SERVED.items() if owner == name)
    services = tuple(
        ServiceDefinition(one.urn, one.urn.rpartition(":")[2], one.provider, one.consumers)
        for one in SERVICES.values()
        if one.realm == name
    )
    added = more if name == "acme" else ()
    return RealmDefinition(name, (NetworkDefinition(_network(name), "main", server_name, (*services, *added)),))
