"""The hub between the engine and the actors: packets to inputs, commands to engine calls. Sans-I/O.

It holds what neither side should: the control streams' bytes, headers that are still arriving, the consumers' resume
secrets, and which streams belong to which connection. It decides nothing about sessions or connections. Counterparts:
:mod:`spnhub.actors.system` (decides), :mod:`spnhub.transport.gate` (holds back what is not yet written),
:mod:`spnhub.transport.udp` (drives it), ``PROTOCOL.md``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import singledispatchmethod
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from spnhub.actors import commands, inputs
from spnhub.actors.codes import Code, is_retryable
from spnhub.actors.inputs import Key
from spnhub.actors.system import ActorSystem
from spnhub.transport import engine as api
from spnhub.transport import protocol
from spnhub.transport.gate import Gate
from spnhub.transport.protocol import OpeningKind, PacketReader, ProtocolError

__all__ = ["HubServer", "Network"]

CONTROL_STREAM: Final = 0
_CONTROL_BACKLOG: Final = 1024 * 1024
"""Control bytes that wait for a session's flow control; a peer that lets more pile up is not reading: closed."""
_REQUEST_TIMEOUT: Final = 10.0
"""Seconds from the handshake to the session request, and from a stream's first byte to its whole header."""
_REFUSAL_LINGER: Final = 1.0
"""Seconds that a refused endpoint has to read the refusal before the QUIC connection is closed."""


@dataclass(frozen=True, slots=True)
class Network:
    """Which of the inventory's hubs a server name selects."""

    realm: str
    urn: str


@dataclass(slots=True)
class _Session:
    """A QUIC connection that is up."""

    c: int
    network: Network
    cid: str
    subject: str
    common_name: str
    address: str
    reader: PacketReader = field(default_factory=PacketReader)
    requested: bool = False
    accepted: bool = False
    refused: tuple[Code, str] | None = None
    outgoing: bytearray = field(default_factory=bytearray)
    early: list[int] = field(default_factory=list)
    """Streams that were opened before the session was accepted."""
    waiting: deque[Key] = field(default_factory=deque)
    """Connections that wait for a stream on this provider's session."""
    headers: dict[int, PacketReader] = field(default_factory=dict)
    """Data streams of a consumer whose header is still arriving."""
    keys: set[Key] = field(default_factory=set)
    """Connections with a stream on this session."""


@dataclass(slots=True)
class _Connection:
    """A consumer's stream and, once there is one, its provider's."""

    key: Key
    opening: protocol.Opening
    provider: tuple[int, int] | None = None
    peer: str = ""
    reader: PacketReader | None = None
    """Reads the provider's Accept; None when it is through."""
    token: int | None = None
    consumer_ended: bool = False
    """The consumer's FIN came with its header: it sends nothing."""
    provider_ended: bool = False
    """The provider's FIN came with its header."""


class HubServer:
    """One hub process's sessions and connections, as the transport sees them.

    :param engine: the QUIC endpoint.
    :param system: the actors.
    :param gate: what is visible to a peer waits there for the journal (D-6).
    :param hub_id: told in each SessionAck.
    :param on_stopped: called when the actors say that everything has ended.
    """

    def __init__(
        self, engine: api.Engine, system: ActorSystem, gate: Gate, hub_id: str, on_stopped: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._system = system
        self._gate = gate
        self._hub_id = hub_id
        self._on_stopped = on_stopped
        self._networks: Mapping[tuple[int, str], Network] = {}
        self._sessions: dict[int, _Session] = {}
        self._connections: dict[Key, _Connection] = {}
        self._provider_streams: dict[tuple[int, int], Key] = {}
        self._splices: dict[int, Key] = {}
        self._deadlines: deque[tuple[float, Callable[[], None]]] = deque()
        self._lingers: deque[tuple[float, int]] = deque()
        self._touched: set[int] = set()
        self._now = 0.0

    def set_networks(self, networks: Mapping[tuple[int, str], Network]) -> None:
        """Which network a socket (:attr:`Address.local`) and a server name stand for."""
        self._networks = networks

    # ---- the turn ----------------------------------------------------------------------------------------------

    def turn(self, events: list[api.EngineEvent], now: float, wall: int) -> None:
        """Let the actors hear of ``events`` and of the time, and carry out what they decide.

        ``now`` is monotonic seconds, ``wall`` microseconds since 1970: the time of every event of this turn.
        """
        self._now = now
        self._pass_time(now)
        for event in events:
            self._on(event)
        while True:
            self._system.run(now, wall)
            todo = self._system.take_commands()
            if not todo:
                break
            for command in todo:
                self._do(command)
        self._gate.close_turn(self._touched, now)
        self._touched.clear()

    def timer(self) -> float | None:
        """When a turn is wanted at the latest."""
        times = [self._system.timer(), self._gate.timer()]
        times += [queue[0][0] for queue in (self._deadlines, self._lingers) if queue]
        return min((t for t in times if t is not None), default=None)

    def _pass_time(self, now: float) -> None:
        while self._deadlines and self._deadlines[0][0] <= now:
            self._deadlines.popleft()[1]()
        while self._lingers and self._lingers[0][0] <= now:
            _, c = self._lingers.popleft()
            session = self._sessions.get(c)
            if session is not None and session.refused is not None:
                self._engine.close(c, *session.refused)

    # ---- engine events -----------------------------------------------------------------------------------------

    @singledispatchmethod
    def _on(self, event: api.EngineEvent) -> None:
        """Events that a hub has no use for (DATAGRAM frames)."""

    @_on.register
    def _(self, event: api.HandshakeRefused) -> None:
        network = None if event.server_name is None else self._networks.get((event.address.local, event.server_name))
        self._system.tell_hub(
            inputs.HandshakeRefused(
                realm=network.realm if network else None,
                network_urn=network.urn if network else None,
                server_name=event.server_name,
                remote_address=_address_text(event.address),
                alert=event.alert,
                reason=event.reason,
                subject=event.subject,
            )
        )

    @_on.register
    def _(self, event: api.Connected) -> None:
        network = self._networks.get((event.address.local, event.server_name))
        if network is None:
            self._engine.close(event.c, Code.WITHDRAWN, "this hub was taken away")
            return
        certificate = x509.load_der_x509_certificate(event.certificates[0])
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        session = _Session(
            c=event.c,
            network=network,
            cid=event.cid.hex(),
            subject=certificate.subject.rfc4514_string(),
            common_name=str(names[0].value) if names else "",
            address=_address_text(event.address),
        )
        self._sessions[event.c] = session
        self._deadlines.append((self._now + _REQUEST_TIMEOUT, lambda: self._check_requested(session)))

    @_on.register
    def _(self, event: api.Closed) -> None:
        session = self._sessions.pop(event.c, None)
        if session is None:
            return
        if session.requested:
            by_peer = event.kind is api.CloseKind.PEER
            self._system.tell_session(event.c, inputs.SessionClosed(by_peer, event.code, event.reason))

    @_on.register
    def _(self, event: api.Opened) -> None:
        session = self._sessions.get(event.c)
        if session is None or event.s == CONTROL_STREAM:
            return
        if not session.accepted:
            session.early.append(event.s)
        else:
            self._begin_header(session, event.s)

    @_on.register
    def _(self, event: api.Readable) -> None:
        session = self._sessions.get(event.c)
        if session is None:
            return
        if event.s == CONTROL_STREAM:
            self._read_control(session)
        elif event.s in session.headers:
            self._read_header(session, event.s)
        elif (key := self._provider_streams.get((event.c, event.s))) is not None:
            self._read_accept(self._connections[key])

    @_on.register
    def _(self, event: api.Writable) -> None:
        session = self._sessions.get(event.c)
        if session is not None and event.s == CONTROL_STREAM:
            self._flush_control(session)

    @_on.register
    def _(self, event: api.Reset) -> None:
        self._on_aborted(event.c, event.s, event.code)

    @_on.register
    def _(self, event: api.Stopped) -> None:
        self._on_aborted(event.c, event.s, event.code)

    @_on.register
    def _(self, event: api.Available) -> None:
        session = self._sessions.get(event.c)
        while session is not None and session.waiting:
            connection = self._connections.get(session.waiting[0])
            if connection is not None and not self._open_provider_stream(connection, event.c):
                return
            session.waiting.popleft()

    @_on.register
    def _(self, event: api.Suspect) -> None:
        self._system.tell_session(event.c, inputs.SessionSuspected())

    @_on.register
    def _(self, event: api.Answered) -> None:
        self._system.tell_session(event.c, inputs.SessionAnswered())

    @_on.register
    def _(self, event: api.Spliced) -> None:
        key = self._splices.pop(event.token, None)
        if key is None:
            return
        outcomes = (event.outcome_a_to_b, event.outcome_b_to_a)
        self._system.tell_connection(
            key,
            inputs.SpliceEnded(
                sent_bytes=event.a_to_b,
                receive_bytes=event.b_to_a,
                finished=all(o.kind is api.OutcomeKind.FINISHED for o in outcomes),
                lost=any(o.kind is api.OutcomeKind.LOST for o in outcomes),
                code=next((o.code for o in outcomes if o.kind is not api.OutcomeKind.FINISHED), 0),
            ),
        )

    def _on_aborted(self, c: int, s: int, code: int) -> None:
        """A stream that is not spliced was reset or stopped by its endpoint."""
        session = self._sessions.get(c)
        if session is None:
            return
        if s == CONTROL_STREAM:
            self._fail(session, ProtocolError("the control stream was reset"))
            return
        key = self._provider_streams.get((c, s))
        if key is not None:
            self._abort_streams(c, s, code)
            if self._connections[key].reader is not None:
                self._connections[key].reader = None
                self._system.tell_connection(key, inputs.ProviderRejected(code, "the provider reset the stream"))
            return
        if session.headers.pop(s, None) is not None:
            self._abort_streams(c, s, code)
        elif (key := Key(c, s)) in self._connections:
            self._system.tell_connection(key, inputs.ConsumerAborted(code))

    # ---- control streams ---------------------------------------------------------------------------------------

    def _check_requested(self, session: _Session) -> None:
        if not session.requested and self._sessions.get(session.c) is session:
            self._engine.close(session.c, Code.TIMEOUT, "no session request")

    def _fail(self, session: _Session, error: ProtocolError) -> None:
        self._engine.close(session.c, error.code, str(error))

    def _read_control(self, session: _Session) -> None:
        while (got := self._engine.read(session.c, CONTROL_STREAM, 65_536)) is not None:
            data, fin = got
            try:
                for packet in session.reader.feed(data):
                    self._on_packet(session, packet)
                if fin:
                    raise ProtocolError("the control stream ended before the session")
            except ProtocolError as exc:
                self._fail(session, exc)
                return
            if not data:
                return

    def _on_packet(self, session: _Session, packet: protocol.Packet) -> None:
        if isinstance(packet, protocol.SessionRequest):
            self._on_request(session, packet)
        elif not session.requested:
            raise ProtocolError("the first packet was not a session request")
        elif isinstance(packet, protocol.CloseRequest):
            self._system.tell_session(
                session.c,
                inputs.CloseRequested(
                    packet.connection_uid.hex(),
                    packet.epoch,
                    packet.sent_offset,
                    packet.receive_offset,
                    packet.finished,
                ),
            )
        elif isinstance(packet, protocol.CloseAck):
            self._system.tell_session(session.c, inputs.CloseAcknowledged(packet.connection_uid.hex(), packet.epoch))
        else:
            raise ProtocolError(f"{type(packet).__name__} is not for a hub")

    def _on_request(self, session: _Session, packet: protocol.SessionRequest) -> None:
        if session.requested:
            raise ProtocolError("a second session request")
        if not 0 <= packet.weight <= 1_000_000:
            raise ProtocolError(f"weight {packet.weight} is not within 0 and 1000000")
        if len(packet.instance_id) > 256 or len(packet.service_urn) > 1024:
            raise ProtocolError("an instance id or service URN that long")
        session.requested = True
        self._system.tell_hub(
            inputs.SessionRequested(
                session=session.c,
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
            )
        )

    def _send_control(self, c: int, packet: protocol.Packet) -> None:
        session = self._sessions.get(c)
        if session is None:
            return
        self._touched.add(c)
        session.outgoing += protocol.encode(packet)
        self._flush_control(session)
        if len(session.outgoing) > _CONTROL_BACKLOG:
            self._engine.close(c, Code.LIMIT, "control packets are not being read")

    def _flush_control(self, session: _Session) -> None:
        if session.outgoing:
            taken = self._engine.write(session.c, CONTROL_STREAM, bytes(session.outgoing))
            del session.outgoing[:taken]

    # ---- data streams ------------------------------------------------------------------------------------------

    def _abort_streams(self, c: int, s: int, code: int) -> None:
        self._engine.reset(c, s, code)
        self._engine.stop(c, s, code)

    def _begin_header(self, session: _Session, s: int) -> None:
        session.headers[s] = PacketReader()
        self._deadlines.append((self._now + _REQUEST_TIMEOUT, lambda: self._check_header(session, s)))
        self._read_header(session, s)

    def _check_header(self, session: _Session, s: int) -> None:
        if self._sessions.get(session.c) is session and session.headers.pop(s, None) is not None:
            self._abort_streams(session.c, s, Code.TIMEOUT)

    def _read_header(self, session: _Session, s: int) -> None:
        reader = session.headers[s]
        try:
            got = self._read_packet(session.c, s, reader)
            if got is None:
                return
            packet, ended = got
            if not isinstance(packet, protocol.Opening):
                raise ProtocolError(f"a data stream begins with an Opening, not a {type(packet).__name__}")
        except ProtocolError as exc:
            del session.headers[s]
            self._abort_streams(session.c, s, exc.code)
            return
        del session.headers[s]
        if packet.kind is not OpeningKind.OPEN or packet.epoch or packet.sent_offset or packet.receive_offset:
            self._refuse(session.c, s, packet, Code.ENDED, "this hub holds no connection to resume")
            return
        key = Key(session.c, s)
        self._connections[key] = _Connection(key, packet, consumer_ended=ended)
        session.keys.add(key)
        self._system.tell_session(
            session.c,
            inputs.ConnectionRequested(
                s, packet.connection_uid.hex(), packet.epoch, packet.sent_offset, packet.receive_offset
            ),
        )

    def _read_packet(self, c: int, s: int, reader: PacketReader) -> tuple[protocol.Packet, bool] | None:
        """One packet of a data stream, and whether its FIN follows at once; not a byte of anything else.

        None: not all of the packet is there yet.
        """
        while True:
            got = self._engine.read(c, s, reader.wanted)
            if got is None:
                return None
            data, fin = got
            packets = reader.feed(data)
            if packets:
                return packets[0], fin
            if fin:
                raise ProtocolError("the stream ended within its header")
            if not data:
                return None

    def _read_accept(self, connection: _Connection) -> None:
        if connection.reader is None or connection.provider is None:
            return
        try:
            got = self._read_packet(*connection.provider, connection.reader)
            if got is None:
                return
            packet, connection.provider_ended = got
            if not isinstance(packet, protocol.Accept):
                raise ProtocolError(f"the answer begins with an Accept, not a {type(packet).__name__}")
        except ProtocolError as exc:
            connection.reader = None
            self._abort_streams(*connection.provider, exc.code)
            self._system.tell_connection(connection.key, inputs.ProviderRejected(exc.code, str(exc)))
            return
        connection.reader = None
        if packet.code == Code.OK:
            self._system.tell_connection(connection.key, inputs.ProviderAccepted())
        else:
            self._abort_streams(*connection.provider, packet.code)
            self._system.tell_connection(connection.key, inputs.ProviderRejected(packet.code, packet.reason[:256]))

    def _open_provider_stream(self, connection: _Connection, provider: int) -> bool:
        s = self._engine.open_bidi(provider)
        if s is None:
            return False
        opening = connection.opening
        connection.provider = (provider, s)
        connection.reader = PacketReader()
        self._provider_streams[provider, s] = connection.key
        self._touched.add(provider)
        header = protocol.Opening(
            kind=opening.kind,
            connection_uid=opening.connection_uid,
            resume_secret=opening.resume_secret,
            epoch=opening.epoch,
            sent_offset=opening.sent_offset,
            receive_offset=opening.receive_offset,
            peer=connection.peer,
        )
        self._engine.write(provider, s, protocol.encode(header))
        self._system.tell_connection(connection.key, inputs.ProviderStreamOpened(s))
        return True

    def _accept_packet(
        self, opening: protocol.Opening, code: int = 0, reason: str = "", instance_id: str = "", peer: str = ""
    ) -> bytes:
        return protocol.encode(
            protocol.Accept(
                kind=opening.kind,
                code=code,
                reason=reason,
                epoch=opening.epoch,
                sent_offset=opening.sent_offset,
                receive_offset=opening.receive_offset,
                instance_id=instance_id,
                peer=peer,
            )
        )

    def _refuse(self, c: int, s: int, opening: protocol.Opening, code: Code, reason: str) -> None:
        self._touched.add(c)
        self._engine.write(c, s, self._accept_packet(opening, code, reason))
        self._engine.finish(c, s)
        self._engine.stop(c, s, code)

    def _forget(self, key: Key) -> None:
        connection = self._connections.pop(key, None)
        if connection is not None and connection.provider is not None:
            self._provider_streams.pop(connection.provider, None)

    # ---- commands ----------------------------------------------------------------------------------------------

    @singledispatchmethod
    def _do(self, command: commands.Command) -> None:
        raise AssertionError(f"no such command: {command!r}")

    @_do.register
    def _(self, command: commands.AcceptSession) -> None:
        session = self._sessions.get(command.session)
        if session is None:
            return
        session.accepted = True
        self._send_control(command.session, protocol.SessionAck(command.spn_session_id, self._hub_id))
        for s in session.early:
            self._begin_header(session, s)
        session.early.clear()

    @_do.register
    def _(self, command: commands.RefuseSession) -> None:
        session = self._sessions.get(command.session)
        if session is None:
            return
        code, reason = command.code, command.reason
        session.refused = (code, reason)
        self._send_control(command.session, protocol.SessionRefusal(code, reason, is_retryable(code)))
        self._engine.finish(command.session, CONTROL_STREAM)
        self._lingers.append((self._now + _REFUSAL_LINGER, command.session))

    @_do.register
    def _(self, command: commands.CloseSession) -> None:
        self._touched.add(command.session)
        self._engine.close(command.session, command.code, command.reason)

    @_do.register
    def _(self, command: commands.OpenProviderStream) -> None:
        connection = self._connections.get(command.connection)
        session = self._sessions.get(command.provider)
        if connection is None or session is None:
            return
        connection.peer = command.peer
        if session.waiting or not self._open_provider_stream(connection, command.provider):
            session.waiting.append(command.connection)

    @_do.register
    def _(self, command: commands.RefuseConnection) -> None:
        connection = self._connections.get(command.connection)
        if connection is not None:
            self._refuse(*command.connection, connection.opening, command.code, command.reason)
            self._forget(command.connection)

    @_do.register
    def _(self, command: commands.JoinStreams) -> None:
        connection = self._connections.get(command.connection)
        if connection is None or connection.provider is None:
            return
        c, s = command.connection
        self._touched.add(c)
        accept = self._accept_packet(connection.opening, instance_id=command.instance_id, peer=command.peer)
        self._engine.write(c, s, accept)
        connection.token = self._engine.splice(
            c, s, *connection.provider, a_ended=connection.consumer_ended, b_ended=connection.provider_ended
        )
        self._splices[connection.token] = command.connection

    @_do.register
    def _(self, command: commands.AbortConnection) -> None:
        connection = self._connections.get(command.connection)
        if connection is None:
            return
        if connection.token is not None:
            self._engine.unsplice(connection.token, command.code)
        # Also once the splice is over: half of it may still be under way.
        self._touched.add(command.connection.session)
        self._abort_streams(*command.connection, command.code)
        if connection.provider is not None:
            self._touched.add(connection.provider[0])
            self._abort_streams(*connection.provider, command.code)

    @_do.register
    def _(self, command: commands.SendCloseRequest) -> None:
        self._send_control(
            command.session,
            protocol.CloseRequest(
                bytes.fromhex(command.connection_uid),
                command.epoch,
                command.sent_offset,
                command.receive_offset,
                command.finished,
            ),
        )

    @_do.register
    def _(self, command: commands.SendCloseAck) -> None:
        self._send_control(command.session, protocol.CloseAck(bytes.fromhex(command.connection_uid), command.epoch))

    @_do.register
    def _(self, command: commands.ForgetConnection) -> None:
        self._forget(command.connection)

    @_do.register
    def _(self, _command: commands.HubStopped) -> None:
        self._on_stopped()


def _address_text(address: api.Address) -> str:
    host, port = address.remote[0], address.remote[1]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
