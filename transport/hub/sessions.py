"""The transport's part of sessions: QUIC connections that are up, and their control streams (R-2.1 to R-2.3)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import field
from operator import itemgetter
from typing import Any, Final

from spnhub.actors.contract import inputs, packets
from spnhub.actors.contract.codes import Code, is_retryable
from spnhub.actors.contract.inputs import Key
from spnhub.actors.system import ActorSystem
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType
from spnhub.transport import protocol
from spnhub.transport.certificates import identify
from spnhub.transport.engine import Connected, Engine
from spnhub.transport.hub.certificates import Certificates
from spnhub.transport.hub.memory import Memory
from spnhub.transport.hub.rates import Rates, TokenBucket
from spnhub.transport.protocol import PacketReader, ProtocolError
from spnhub.transport.sc01 import words as sc01
from spnhub.transport.sc01.hub import Sc01Session, Sc01Sessions
from spnhub.transport.system.ip import host_port

__all__ = [
    "CONTROL_BACKLOG",
    "CONTROL_CHUNK",
    "CONTROL_STREAM",
    "REQUEST_TIMEOUT",
    "HubSession",
    "Network",
    "Sessions",
    "TransportPacket",
]

CONTROL_STREAM: Final = 0
CONTROL_CHUNK: Final = 1024
"""Bytes of control packets of one session that are handled before the next session's turn."""
REQUEST_TIMEOUT: Final = 10.0
"""Seconds from the handshake to the session request, and from a data stream's first byte to its whole header."""
_REFUSAL_LINGER: Final = 1.0
"""Seconds that a refused endpoint has to read the refusal before the QUIC connection is closed."""
_WEIGHTS_AGAIN: Final = 0.5
"""Seconds between two looks at whether a weight that had to wait can be applied."""
CONTROL_BACKLOG: Final = 1024 * 1024
"""The most control bytes that wait for a session's flow control; beyond it the peer isn't reading, and is closed."""
_CONTROL_FREE: Final = 4096
"""Those that are in no budget (:meth:`Memory.hold_packets`)."""

TransportPacket = packets.ResumeRequest | packets.DataAck | packets.LocalAddress
"""Control packets that no actor sees as they are: they hold a secret, or concern the transport only."""


@dataclass(frozen=True, slots=True)
class Network:
    """Which of the inventory's hubs a server name selects."""

    realm: str
    urn: str


@dataclass(slots=True)
class HubSession:
    """A QUIC connection that is up."""

    connection_id: int
    network: Network
    cid: str
    subject: str
    common_name: str
    address: str
    local: int
    """The socket that it came in on (:attr:`Address.local`)."""
    reader: PacketReader = field(default_factory=PacketReader)
    kinds: Mapping[int, int] = field(default_factory=lambda: protocol.REQUIRED_KINDS)
    """Version by kind of the packets that it may be sent; those of spn/1 until it has announced its own (D-37)."""
    instance_id: str = ""
    service_urn: str | None = None
    """None: it speaks sc01, or its SessionRequest hasn't come."""
    meters: tuple[int, ...] = ()
    """What the bytes of a provider's connections pass; empty: it has had none yet."""
    requested: bool = False
    end_point_type: EndPointType | None = None
    """None until its SessionRequest has come."""
    sc01: Sc01Session | None = None
    """None: it speaks spn/1."""
    control_stream: int = CONTROL_STREAM
    """-1: it has none."""
    accepted: bool = False
    refused: tuple[Code, str] | None = None
    no_memory: str | None = None
    """Why it is refused as soon as it asks."""
    outgoing: bytearray = field(default_factory=bytearray)
    holds: int = 0
    """Bytes of these that were counted last; 0: so few that they aren't."""
    early: list[int] = field(default_factory=list)
    """Data streams that were opened before the session was accepted."""
    waiting: deque[Key] = field(default_factory=deque)
    """Connections that wait for a stream on this provider's session."""
    headers: dict[int, PacketReader] = field(default_factory=dict)
    """Data streams whose header is still arriving."""
    buckets: dict[str, TokenBucket] = field(default_factory=dict)
    """What it may still do, of what has a rate."""
    weight: packets.SetWeight | None = None
    """The last that has come of those that are read together."""
    unread: bytearray = field(default_factory=bytearray)
    """Control packets that came before the end of its QUIC connection and wait for their turn."""


class Sessions:
    """The sessions of a hub process and what travels on their control streams.

    :param gated: collects the sessions that were sent something in this turn: it waits for the journal (D-6).
    :param certificates: keeps what each session presented.
    :param on_packet: handles the control packets that no actor sees.
    :param fail: called with a session's number and what was raised by a check of it; the others' checks follow.
    :param rates: count what goes beyond them.
    :param go_on: called with a session's number when there is more on its control stream than one turn takes.
    :param memory: what the sessions may have the hub hold.
    """

    def __init__(
        self,
        engine: Engine,
        system: ActorSystem,
        hub_id: str,
        gated: set[int],
        certificates: Certificates,
        on_packet: Callable[[HubSession, TransportPacket], None],
        fail: Callable[[int, BaseException], None],
        rates: Rates,
        go_on: Callable[[int], None],
        memory: Memory,
    ) -> None:
        self._engine = engine
        self._certificates = certificates
        self._system = system
        self._hub_id = hub_id
        self._gated = gated
        self._networks: Mapping[tuple[int, str], Network] = {}
        self._sessions: dict[int, HubSession] = {}
        self._by_socket: Counter[int] = Counter()
        self._deadlines: deque[tuple[float, int, Callable[[], None]]] = deque()
        """When a check is due, of which session, and the check."""
        self._lingers: deque[tuple[float, int]] = deque()
        self.now = 0.0
        self._on_packet = on_packet
        self._fail = fail
        self.sc01 = Sc01Sessions(engine, system, gated)
        """Speaks for those sessions that speak sc01."""
        self._rates = rates
        self._go_on = go_on
        self._memory = memory
        self._weights: dict[int, packets.SetWeight] = {}
        """The last weight of each session whose realm is over its rates."""
        self._weights_due: list[tuple[float]] = []
        """When these are looked at again, if there are any."""
        self._queues: tuple[Sequence[tuple[Any, ...]], ...] = (
            self._deadlines,
            self._lingers,
            memory.due,
            self._weights_due,
        )
        """What is due, when, and first what is so next."""
        self.packets = 0
        """Control packets that have come, known or not, since the caller set this to 0."""

    def set_networks(self, networks: Mapping[tuple[int, str], Network]) -> None:
        """Which network a socket (:attr:`Address.local`) and a server name stand for."""
        self._networks = networks

    def network(self, local: int, server_name: str | None) -> Network | None:
        """The network that a server name selects on a socket (:attr:`Address.local`)."""
        return None if server_name is None else self._networks.get((local, server_name))

    def __iter__(self) -> Iterator[HubSession]:
        """The sessions now, requested or not."""
        return iter(list(self._sessions.values()))

    def on_socket(self, local: int) -> int:
        """How many QUIC connections came in on a socket (:attr:`Address.local`)."""
        return self._by_socket[local]

    def get(self, connection_id: int) -> HubSession | None:
        """The session with this number, while its QUIC connection is up."""
        return self._sessions.get(connection_id)

    # ---- time --------------------------------------------------------------------------------------------------

    def after_request_timeout(self, session: HubSession, check: Callable[[], None]) -> None:
        """Call ``check``, which is about this session, when :data:`REQUEST_TIMEOUT` has passed."""
        self._deadlines.append((self.now + REQUEST_TIMEOUT, session.connection_id, check))

    def timer(self) -> float | None:
        """When :meth:`pass_time` wants to be called."""
        first = min(filter(None, self._queues), key=itemgetter(0), default=None)
        return None if first is None else float(first[0][0])

    def pass_time(self, now: float) -> None:
        """Do what is due: checks of requests, and the close of refused sessions."""
        self.now = now
        while self._deadlines and self._deadlines[0][0] <= now:
            _, connection_id, check = self._deadlines.popleft()
            try:
                check()
            except Exception as fault:
                self._fail(connection_id, fault)
        if self._memory.due:
            self._memory.pass_time(now)
        if self._weights_due:
            self._apply_weights(now)
        while self._lingers and self._lingers[0][0] <= now:
            session = self._sessions.get(self._lingers.popleft()[1])
            if session is not None and session.refused is not None:
                self._engine.close(session.connection_id, *session.refused)

    # ---- beginning and end -------------------------------------------------------------------------------------

    def begin(self, event: Connected) -> None:
        """A QUIC connection is up; the session request comes next."""
        network = self.network(event.address.local, event.server_name)
        if network is None:
            self._engine.close(event.connection_id, Code.WITHDRAWN, "this hub was taken away")
            return
        reason = self._rates.refuse_session(network.realm, self.now)
        if reason is not None:
            self._engine.close(event.connection_id, Code.LIMIT, reason)
            return
        who = identify(event.certificates[0])
        if who is None:
            self._engine.close(event.connection_id, Code.NOT_ALLOWED, "the certificate's subject can't be read")
            return
        session = HubSession(
            connection_id=event.connection_id,
            network=network,
            cid=event.cid.hex(),
            subject=who.text,
            common_name=who.common_name,
            address=host_port(*event.address.remote[:2]),
            local=event.address.local,
        )
        self._sessions[event.connection_id] = session
        self._by_socket[session.local] += 1
        self._certificates.add(event.connection_id, network.urn, event.certificates)
        session.no_memory = self._memory.begin(event.connection_id, network.realm, session.subject, self.now)
        if event.alpn in sc01.ROLES:
            self._begin_sc01(session, event.alpn)
            if session.no_memory:
                self.refuse(session.connection_id, Code.LIMIT, session.no_memory)
            return
        self.after_request_timeout(session, lambda: self._check_requested(session))

    def _begin_sc01(self, session: HubSession, alpn: str) -> None:
        session.requested = True
        session.control_stream = -1
        session.end_point_type = sc01.ROLES[alpn]
        session.sc01 = self.sc01.begin(
            connection_id=session.connection_id,
            role=session.end_point_type,
            realm=session.network.realm,
            network_urn=session.network.urn,
            cid=session.cid,
            subject=session.subject,
            name=session.common_name,
            address=session.address,
        )
        session.instance_id = session.sc01.instance_id

    def _check_requested(self, session: HubSession) -> None:
        if not session.requested and self._sessions.get(session.connection_id) is session:
            self._engine.close(session.connection_id, Code.TIMEOUT, "no session request")

    def end(self, connection_id: int) -> HubSession | None:
        """The QUIC connection is gone: forget and return its session."""
        session = self._sessions.pop(connection_id, None)
        if session is not None:
            self._by_socket[session.local] -= 1
            self._memory.end(connection_id)
            self._weights.pop(connection_id, None)
            self._certificates.forget(connection_id)
        return session

    def fail(self, session: HubSession, error: ProtocolError) -> None:
        """Close the session of an endpoint that has broken the rules."""
        self._engine.close(session.connection_id, error.code, str(error))

    def accept(self, connection_id: int, spn_session_id: str) -> list[int]:
        """Send SessionAck; returns the data streams that were waiting for it."""
        session = self._sessions.get(connection_id)
        if session is None:
            return []
        session.accepted = True
        early, session.early = session.early, []
        if session.sc01 is not None:
            self.sc01.accept(session.sc01)
            return early
        self.send(connection_id, packets.SessionAck(spn_session_id, self._hub_id))
        return early

    def refuse(self, connection_id: int, code: Code, reason: str) -> None:
        """Send SessionRefusal; the QUIC connection is closed a little later."""
        session = self._sessions.get(connection_id)
        if session is not None and session.sc01 is not None:
            self.sc01.close(session.sc01, code, reason)
        elif session is not None:
            session.refused = (code, reason)
            self.send(connection_id, packets.SessionRefusal(code, reason, is_retryable(code)))
            self._engine.finish(connection_id, CONTROL_STREAM)
            self._lingers.append((self.now + _REFUSAL_LINGER, connection_id))

    def close(self, connection_id: int, code: Code, reason: str) -> None:
        """Close the QUIC connection."""
        session = self._sessions.get(connection_id)
        if session is not None and session.sc01 is not None:
            self.sc01.close(session.sc01, code, reason)
            return
        self._gated.add(connection_id)
        self._engine.close(connection_id, code, reason)

    # ---- the control stream ------------------------------------------------------------------------------------

    def read(self, session: HubSession) -> None:
        """Handle the packets that have come on the control stream, :data:`CONTROL_CHUNK` of them at a time."""
        data, fin = self._read(session)
        before = session.reader.taken
        try:
            complete = session.reader.feed(data)
            count = session.reader.taken - before
            self.packets += count
            if count and not self.admit(session, "control_packets", count):
                return
            for packet in complete:
                self._take(session, packet)
            if session.weight is not None:
                self._set_weight(session, session.weight)
            if fin:
                raise ProtocolError("the control stream ended before the session")
        except ProtocolError as exc:
            self.fail(session, exc)
            return
        if len(data) == CONTROL_CHUNK:
            self._go_on(session.connection_id)

    def _read(self, session: HubSession) -> tuple[bytes, bool]:
        if session.unread:
            data = bytes(session.unread[:CONTROL_CHUNK])
            del session.unread[: len(data)]
            return data, False
        return self._engine.read(session.connection_id, CONTROL_STREAM, CONTROL_CHUNK) or (b"", False)

    def keep_unread(self, connection_id: int) -> None:
        """The QUIC connection is over: keep what is on its control stream, which the engine is about to forget."""
        session = self._sessions.get(connection_id)
        if session is None or session.sc01 is not None:
            return
        while got := self._engine.read(connection_id, CONTROL_STREAM, 65_536):
            session.unread += got[0]
            if not got[0] or got[1]:
                return

    def admit(self, session: HubSession, name: str, count: int = 1) -> bool:
        """Whether a session may do this now (:class:`SessionRates` has ``name``); one that may not is closed."""
        bucket = session.buckets.get(name) or self._new_bucket(session, name)
        if bucket.take(self.now, count):
            return True
        self._rates.exceed(session.network.realm, name)
        self.close(session.connection_id, Code.LIMIT, self._rates.reason(name))
        return False

    def admit_more(self, session: HubSession, name: str) -> str | None:
        """Why a session may not begin something now that will be logged (:class:`SessionRates` has ``name``); None: it
        may, and that was counted.
        """
        bucket = session.buckets.get(name) or self._new_bucket(session, name)
        if not bucket.take(self.now):
            self._rates.exceed(session.network.realm, name)
            return self._rates.reason(name)
        return self._rates.refuse_more(session.network.realm, self.now)

    def _new_bucket(self, session: HubSession, name: str) -> TokenBucket:
        bucket = session.buckets[name] = self._rates.bucket(name, self.now)
        return bucket

    def _take(self, session: HubSession, packet: packets.Packet) -> None:
        if isinstance(packet, packets.SessionRequest):
            self._on_request(session, packet)
            return
        if not session.requested:
            raise ProtocolError("the first packet was not a session request")
        if isinstance(packet, TransportPacket):
            self._on_packet(session, packet)
        elif isinstance(packet, packets.FromEndpoint):
            if isinstance(packet, packets.SetWeight) and session.end_point_type is not EndPointType.PROVIDER:
                raise ProtocolError("only a provider has a weight")
            if isinstance(packet, packets.SetWeight):
                session.weight = packet if self.admit(session, "weights") else None
                return
            self._system.tell_session(session.connection_id, packet)
        else:
            raise ProtocolError(f"{type(packet).__name__} is not for a hub")

    def _set_weight(self, session: HubSession, packet: packets.SetWeight) -> None:
        """Have a weight applied, and so logged: of those that are read together the last one only.

        One that its realm is over its rates for isn't, until the realm is below them again; then the session's last is.
        """
        session.weight = None
        if self._rates.refuse_more(session.network.realm, self.now) is None:
            self._weights.pop(session.connection_id, None)
            self._system.tell_session(session.connection_id, packet)
            return
        if not self._weights:
            self._weights_due.append((self.now + _WEIGHTS_AGAIN,))
        self._weights[session.connection_id] = packet

    def _apply_weights(self, now: float) -> None:
        """Apply the weights that had to wait, of the realms that are below their rates again."""
        if not self._weights_due or now < self._weights_due[0][0]:
            return
        self._weights_due.clear()
        for connection_id, packet in list(self._weights.items()):
            session = self._sessions.get(connection_id)
            if session is not None and not self._rates.is_over(session.network.realm, now):
                del self._weights[connection_id]
                self._system.tell_session(connection_id, packet)
        if self._weights:
            self._weights_due.append((now + _WEIGHTS_AGAIN,))

    def _on_request(self, session: HubSession, packet: packets.SessionRequest) -> None:
        if session.requested:
            raise ProtocolError("a second session request")
        session.requested = True
        session.kinds = protocol.common_kinds(packet.kinds)
        session.end_point_type = packet.end_point_type
        session.instance_id = packet.instance_id
        session.service_urn = packet.service_urn
        if session.no_memory:
            self.refuse(session.connection_id, Code.LIMIT, session.no_memory)
            return
        self._system.tell_hub(
            inputs.SessionRequested(
                session=session.connection_id,
                realm=session.network.realm,
                network_urn=session.network.urn,
                spn_session_id=session.cid,
                spn_end_point=session.subject,
                common_name=session.common_name,
                end_point_type=packet.end_point_type,
                service_urn=packet.service_urn,
                instance_id=packet.instance_id,
                weight=packet.weight,
                brings_connections=packet.brings_connections,
                protocol=protocol.ALPN,
                remote_address=session.address,
                unread=protocol.missing_kinds(packet.kinds),
            )
        )

    def send(self, connection_id: int, packet: packets.Packet) -> None:
        """Send a control packet, if the endpoint reads its kind (D-37)."""
        session = self._sessions.get(connection_id)
        if session is not None and session.sc01 is not None:
            self.sc01.send(session.sc01, packet)
            return
        if session is None or protocol.kind_of(packet) not in session.kinds:
            return
        self._gated.add(connection_id)
        session.outgoing += protocol.encode(packet, session.kinds)
        self.flush(session)
        if len(session.outgoing) > _CONTROL_FREE and not self._hold(session):
            self._engine.close(connection_id, Code.LIMIT, "control packets are not being read")

    def _hold(self, session: HubSession) -> bool:
        """Whether there is room for the control packets that wait for a session."""
        session.holds = size = len(session.outgoing)
        return size <= CONTROL_BACKLOG and self._memory.hold_packets(session.connection_id, size, self.now) is None

    def flush(self, session: HubSession) -> None:
        """Write what the control stream takes."""
        if session.outgoing:
            taken = self._engine.write(session.connection_id, CONTROL_STREAM, bytes(session.outgoing))
            del session.outgoing[:taken]
            if session.holds and not session.outgoing:
                session.holds = 0
                self._memory.hold_packets(session.connection_id, 0, self.now)
