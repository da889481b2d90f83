"""One session of an endpoint over one QUIC connection, sans-I/O: control stream, and the way to its connections.

Its owner (:class:`spnhub.transport.endpoint.core.endpoint.EndpointCore`) brings the engine's events of
``connection_id``. R-2.6's states belong to :mod:`spnhub.transport.endpoint.session.hub_target`: they outlive one QUIC
connection, as do the connections (:mod:`spnhub.transport.endpoint.connection.connection`), which are here for one leg.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.roles import ConsumerConnection, ProviderConnection, ProviderContext
from spnhub.transport.endpoint.kernel.acks import AckBook
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.engine import (
    Answered,
    Available,
    Closed,
    CloseKind,
    Connected,
    Engine,
    EngineEvent,
    Opened,
    Readable,
    Reset,
    Stopped,
    Unresponsive,
    Writable,
)
from spnhub.transport.errors import (
    ConnectionAborted,
    ConnectionRefused,
    EndpointClosed,
    HandshakeRejected,
    HubUnreachable,
    SessionLost,
    SessionRefused,
    SpnError,
    can_retry,
    code_name,
)
from spnhub.transport.protocol import (
    REQUIRED_KINDS,
    AllConnectionsClosed,
    CloseAck,
    CloseRequest,
    DataAck,
    Packet,
    PacketReader,
    PauseRequest,
    PeerGone,
    ProtocolError,
    ResumeAck,
    ResumeInvite,
    SessionAck,
    SessionRefusal,
    SessionRequest,
    SetWeight,
    ShutdownRequest,
    common_kinds,
    encode,
    kind_of,
    missing_kinds,
)

__all__ = ["ACK_BOUND", "CONNECT_BOUND", "OPENING_LIMIT", "Session", "SessionOwner"]

ACK_BOUND: Final = 10.0
"""Seconds that the hub has for the session ACK, once the QUIC connection is up (D-19)."""
CONNECT_BOUND: Final = 60.0
"""Seconds that an Opening waits for its Accept, unless the program says otherwise. More than the hub needs at most: 30
for a service that is started on demand, then 15 for the provider that has come."""
OPENING_LIMIT: Final = 4096
"""Connections that may wait for a stream at once; beyond it they are refused here."""

_CHUNK: Final = 65536
_TLS_ALERT: Final = 0x100
_CERTIFICATE_EXPIRED: Final = 45
_PERHAPS_TIME: Final = frozenset({42, 46})  # bad_certificate, certificate_unknown
_ABOUT_TIME: Final = re.compile(r"expired|not (yet )?valid|validity|NotBefore|NotAfter", re.IGNORECASE)


class SessionOwner(ProviderContext, Protocol):
    """Who owns a session. A :class:`Host` of its connections as well."""

    def connection(self, uid: bytes) -> Connection | None:
        """The connection of that name, whichever session has its leg."""

    def register(self, connection: ConsumerConnection) -> None:
        """It has a name from now on."""

    def has_paused(self) -> bool:
        """Whether connections wait to be resumed."""

    def flush_acks(self, book: AckBook) -> None:
        """Call :meth:`AckBook.flush` at the end of this turn."""

    def random_bytes(self, count: int) -> bytes:
        """For identities and secrets."""

    def on_established(self, session: Session) -> None:
        """The session ACK is there."""

    def on_all_connections_closed(self, session: Session) -> None:
        """The hub says that no connection is open and none will come (R-5.4, D-22)."""

    def on_shutdown_request(self, session: Session, packet: ShutdownRequest) -> None:
        """The hub is about to end this session (R-4.8)."""

    def on_resume_invite(self, session: Session, packet: ResumeInvite) -> None:
        """A consumer wants to go on with a connection in this session (R-4.7)."""

    def on_resume_ack(self, session: Session, packet: ResumeAck) -> None:
        """The answer to a ResumeRequest."""

    def on_peer_gone(self, session: Session, packet: PeerGone) -> None:
        """An instance on the other side is gone (D-20)."""

    def on_suspect(self, session: Session) -> None:
        """What we sent is unanswered, or no longer: :attr:`Session.suspect`."""

    def on_fault(self, owner: object, fault: BaseException) -> None:
        """A fault of ours: end the connection or session that it is about."""

    def on_ended(self, session: Session, error: SpnError) -> None:
        """The last call. What was the matter, :class:`EndpointClosed` after :meth:`Session.close`."""


class _Phase(enum.Enum):
    HANDSHAKE = enum.auto()
    REQUESTED = enum.auto()
    ESTABLISHED = enum.auto()
    ENDED = enum.auto()


class Session:
    """See the module. ``connection_id`` is the QUIC connection that the owner has begun with :meth:`Engine.connect`."""

    def __init__(
        self,
        owner: SessionOwner,
        connection_id: int,
        request: SessionRequest,
        credentials: Credentials,
        near_its_dates: bool = False,
    ) -> None:
        self.connection_id = connection_id
        self.credentials = credentials
        """What it was begun with."""
        self._near_its_dates = near_its_dates
        self.spn_session_id = ""
        self.hub_id = ""
        self.suspect = False
        """What we sent has been unanswered for a while."""
        self.acks = AckBook(self.send, owner.now, owner.arm, owner.flush_acks)
        self._owner = owner
        self._engine: Engine = owner.engine
        self._request = request
        self._weight = request.weight
        self._weight_reason = ""
        self._all_closed = False
        self._phase = _Phase.HANDSHAKE
        self._control: int | None = None
        self._control_out = bytearray()
        self._reader = PacketReader()
        self._kinds: Mapping[int, int] = REQUIRED_KINDS
        self._refusal: SessionRefusal | None = None
        self._failure: SpnError | None = None
        self._connections: dict[Connection, None] = {}
        self._by_stream: dict[int, Connection] = {}
        self._waiting: deque[Connection] = deque()

    @property
    def established(self) -> bool:
        """Between the session ACK and the end."""
        return self._phase is _Phase.ESTABLISHED

    @property
    def connections(self) -> int:
        """Connections that have a leg here, or are about to."""
        return len(self._connections)

    @property
    def all_connections_closed(self) -> bool:
        """The hub said so, and nothing was said since that makes it untrue: the weight is still 0."""
        return self._all_closed

    # ------------------------------------------------------------------------------------------------- for the owner

    @property
    def weight(self) -> int:
        """A provider's, as it was said last."""
        return self._weight

    def set_weight(self, weight: int, reason: str) -> None:
        """The provider's weight from now on and why, or from the ACK on while there is none yet."""
        self._weight, self._weight_reason = weight, reason
        self._all_closed = False
        if self._phase is _Phase.HANDSHAKE:
            self._request = dataclasses.replace(self._request, weight=weight)
        elif self.established:
            self.send(SetWeight(weight, reason))

    def legs(self) -> list[Connection]:
        """The connections that have a leg here, or are about to."""
        return list(self._connections)

    def open(
        self,
        on_connected: Callable[[], None],
        on_failed: Callable[[ConnectionAborted | ConnectionRefused], None],
        until: float,
    ) -> ConsumerConnection:
        """Begin a connection; one of the two functions is called later in this turn, or in another.

        :raises SessionLost: the session isn't established.
        :raises ConnectionRefused: :data:`OPENING_LIMIT` are waiting already.
        """
        if not self.established:
            raise SessionLost("no session is established")
        if len(self._waiting) >= OPENING_LIMIT:
            raise ConnectionRefused(Code.LIMIT, f"{OPENING_LIMIT} connections wait for a stream already")
        random_bytes = self._owner.random_bytes
        uid, secret = random_bytes(16), random_bytes(16)
        connection = ConsumerConnection(self._owner, self, uid, secret, on_connected, on_failed, until)
        self._owner.register(connection)
        return connection

    def close(self, code: int, reason: str) -> None:
        """Close the QUIC connection; legs that are here are lost. ``on_ended`` follows."""
        if self._phase is not _Phase.ENDED:
            self._failure = self._failure or EndpointClosed(reason)
            self._engine.close(self.connection_id, code, reason)
            self._owner.touch()

    def break_off(self, reason: str) -> None:
        """A fault of ours: this session is lost, and another is made; its connections go on there."""
        if self._phase is not _Phase.ENDED:
            self._failure = SessionLost(reason)
            self._engine.close(self.connection_id, Code.INTERNAL, reason)
            self._owner.touch()

    def concerned(self, event: EngineEvent) -> Connection | Session:
        """What an event of ``connection_id`` is about."""
        return self._by_stream.get(getattr(event, "stream_id", -1), self)

    def handle(self, event: EngineEvent) -> None:
        """Take an event of ``connection_id``."""
        match event:
            case _ if self._phase is _Phase.ENDED:
                return
            case Readable(stream_id=stream_id) if stream_id != self._control:
                if (connection := self._by_stream.get(stream_id)) is not None:
                    connection.on_readable()
            case Writable(stream_id=stream_id) if stream_id != self._control:
                if (connection := self._by_stream.get(stream_id)) is not None:
                    connection.on_writable()
            case Connected():
                self._begin()
            case Closed():
                self._end(event)
            case Available():
                self._open_waiting()
            case Opened(stream_id=stream_id):
                self._opened(stream_id)
            case Readable():
                self._read_control()
            case Writable():
                self._write_control()
            case Reset(stream_id=stream_id) | Stopped(stream_id=stream_id) if stream_id == self._control:
                self._fail(ProtocolError("the control stream ended before the session"))
            case Reset(stream_id=stream_id, code=code):
                if (connection := self._by_stream.get(stream_id)) is not None:
                    connection.on_reset(code)
            case Stopped(stream_id=stream_id, code=code):
                if (connection := self._by_stream.get(stream_id)) is not None:
                    connection.on_stopped(code)
            case Unresponsive() | Answered():
                self.suspect = isinstance(event, Unresponsive)
                self._owner.on_suspect(self)
            case _:
                return

    def on_deadline(self) -> None:
        """The hub has not answered the request."""
        self._failure = HubUnreachable(f"no session ACK within {ACK_BOUND:g} s")
        self._engine.close(self.connection_id, Code.TIMEOUT, "no session ACK in time")
        self._owner.touch()

    # ------------------------------------------------------------------------------------------- Home of connections

    def send(self, packet: Packet) -> None:
        """See :meth:`Home.send`."""
        if kind_of(packet) not in self._kinds:
            return
        self._control_out += encode(packet, self._kinds)
        self._write_control()
        self._owner.touch()

    def attach(self, connection: Connection) -> None:
        """See :meth:`Home.attach`."""
        self._connections[connection] = None

    def detach(self, connection: Connection) -> None:
        """See :meth:`Home.detach`."""
        self._connections.pop(connection, None)
        if connection.stream_id is not None:
            self._by_stream.pop(connection.stream_id, None)
        elif connection in self._waiting:
            self._waiting.remove(connection)

    def abandon(self, connection: Connection) -> None:
        """Let go of a connection that could not end: its stream is cut, and nothing is kept."""
        stream_id = connection.stream_id
        self.detach(connection)
        if stream_id is not None:
            self._engine.reset(self.connection_id, stream_id, Code.INTERNAL)
            self._engine.stop(self.connection_id, stream_id, Code.INTERNAL)

    def want_stream(self, connection: Connection) -> None:
        """See :meth:`Home.want_stream`."""
        self._waiting.append(connection)
        self._open_waiting()

    # ------------------------------------------------------------------------------------------------------- streams

    def _opened(self, stream_id: int) -> None:
        if self._request.end_point_type is not EndPointType.PROVIDER or not self.established:
            self._engine.reset(self.connection_id, stream_id, Code.PROTOCOL)
            self._engine.stop(self.connection_id, stream_id, Code.PROTOCOL)
            self._owner.touch()
            return
        connection = self._by_stream[stream_id] = ProviderConnection(self._owner, self, stream_id)
        connection.on_readable()

    def _open_waiting(self) -> None:
        while self._waiting:
            stream_id = self._engine.open_bidi(self.connection_id)
            if stream_id is None:
                return
            connection = self._waiting.popleft()
            self._by_stream[stream_id] = connection
            connection.begin(stream_id)

    # ------------------------------------------------------------------------------------------------ control stream

    def _begin(self) -> None:
        """The QUIC connection is up: the control stream first, the request first on it (R-2.1)."""
        self._phase = _Phase.REQUESTED
        self._control = self._engine.open_bidi(self.connection_id)
        if self._control is None:
            self._fail(ProtocolError("the hub allows no stream"))
            return
        self._owner.arm(self, self._owner.now() + ACK_BOUND)
        if self._owner.has_paused():
            # Also what was lost while the handshake was under way.
            self._request = dataclasses.replace(self._request, brings_connections=True)
        self.send(self._request)

    def _write_control(self) -> None:
        if self._control_out and self._control is not None:
            del self._control_out[: self._engine.write(self.connection_id, self._control, bytes(self._control_out))]

    def _read_control(self) -> None:
        assert self._control is not None
        while True:
            answer = self._engine.read(self.connection_id, self._control, _CHUNK)
            if answer is None or answer == (b"", False):
                return
            data, fin = answer
            self._owner.touch()
            try:
                for packet in self._reader.feed(data):
                    self._take(packet)
                if fin and self._refusal is None:
                    raise ProtocolError("the control stream ended before the session")
            except ProtocolError as exc:
                self._fail(exc)
                return
            if fin:
                return

    def _take(self, packet: Packet) -> None:
        try:
            self._on_packet(packet)
        except ProtocolError:
            raise
        except Exception as fault:
            # The packets behind it are about others.
            connection = self._leg(getattr(packet, "connection_uid", b""))
            self._owner.on_fault(connection or self, fault)

    def _on_packet(self, packet: Packet) -> None:
        match packet:
            case SessionAck() if self._phase is _Phase.REQUESTED:
                self._on_ack(packet)
            case SessionRefusal() if self._phase is _Phase.REQUESTED:
                self._refusal = packet
                self.close(Code.OK, "refused")
            case _ if not self.established:
                raise ProtocolError(f"a {type(packet).__name__} before the session ACK")
            case DataAck(acks=acks):
                for uid, epoch, offset in acks:
                    if (connection := self._leg(uid)) is not None:
                        try:
                            connection.on_acknowledged(epoch, offset)
                        except Exception as fault:
                            self._owner.on_fault(connection, fault)
            case CloseRequest(connection_uid=uid):
                if (connection := self._leg(uid)) is not None:
                    connection.on_close_request(packet)
                elif self._owner.connection(uid) is None:
                    # It has ended here, so nothing is in the way of ending it there.
                    self.send(CloseAck(uid, packet.epoch))
            case CloseAck(connection_uid=uid):
                if (connection := self._leg(uid)) is not None:
                    connection.on_close_ack(packet)
            case PauseRequest(connection_uid=uid):
                if (connection := self._leg(uid)) is not None:
                    connection.on_pause_request(packet)
            case AllConnectionsClosed():
                # What was said to an earlier weight is no news about this one.
                self._all_closed = not self._weight
                self._owner.on_all_connections_closed(self)
            case ShutdownRequest():
                self._owner.on_shutdown_request(self, packet)
            case ResumeInvite() if self._request.end_point_type is EndPointType.PROVIDER:
                # Whether it comes to something or not: it is said again afterwards.
                self._all_closed = False
                self._owner.on_resume_invite(self, packet)
            case ResumeAck():
                self._owner.on_resume_ack(self, packet)
            case PeerGone():
                self._owner.on_peer_gone(self, packet)
            case _:
                raise ProtocolError(f"a {type(packet).__name__} has no place here")

    def _leg(self, uid: bytes) -> Connection | None:
        connection = self._owner.connection(uid)
        return connection if connection is not None and connection.session is self else None

    def _on_ack(self, packet: SessionAck) -> None:
        if missing := missing_kinds(packet.kinds):
            raise ProtocolError(f"a hub of spn/1 reads {', '.join(missing)}, too", Code.VERSION)
        self._kinds = common_kinds(packet.kinds)
        self._phase = _Phase.ESTABLISHED
        self._owner.arm(self, None)
        self.spn_session_id = packet.spn_session_id
        self.hub_id = packet.hub_id
        if self._weight != self._request.weight or self._weight_reason:
            # It was set while the request was on its way; or there is more to say of it than the request can.
            self.send(SetWeight(self._weight, self._weight_reason))
        elif self._request.end_point_type is EndPointType.PROVIDER and self._weight == 0:
            # A session begins with no connection, and with this weight it gets none but those that are resumed.
            self._all_closed = True
        self._owner.on_established(self)

    def _fail(self, error: ProtocolError) -> None:
        self._failure = SessionLost(f"the hub broke the rules of the protocol: {error}")
        self._engine.close(self.connection_id, error.code, str(error))
        self._owner.touch()

    # ----------------------------------------------------------------------------------------------------------- end

    def _end(self, event: Closed) -> None:
        self.lose(self._why(event))

    def lose(self, error: SpnError) -> None:
        """It is over; so are the legs that were here."""
        self._phase = _Phase.ENDED
        self._owner.arm(self, None)
        self._owner.arm(self.acks, None)
        for connection in self.legs():
            try:
                connection.on_session_lost(str(error))
            except Exception as fault:
                self._owner.on_fault(connection, fault)
        self._owner.on_ended(self, error)

    def _rejected(self, alert: int, reason: str, by_hub: bool) -> HandshakeRejected:
        about_time = alert == _CERTIFICATE_EXPIRED
        if by_hub and alert in _PERHAPS_TIME:
            # Other TLS stacks say no more than this of a date.
            about_time = self._near_its_dates or _ABOUT_TIME.search(reason) is not None
        if by_hub and about_time:
            reason = f"{reason}; what was presented: {self.credentials.dates}"
        return HandshakeRejected(alert, reason, by_hub=by_hub, about_time=about_time)

    def _why(self, event: Closed) -> SpnError:
        if self._refusal is not None:
            return SessionRefused(self._refusal.code, self._refusal.reason, self._refusal.retryable)
        if self._failure is not None:
            return self._failure
        text = f"{event.kind.value}, code {event.code}: {event.reason}"
        if event.kind is CloseKind.PEER:
            if not self.established or not (event.code == Code.OK or can_retry(event.code)):
                return SessionRefused(event.code, event.reason, can_retry(event.code))
            return SessionLost(f"the hub closed the session, {code_name(event.code)}: {event.reason}", event.code)
        if self.established:
            return SessionLost(text)
        if event.kind in (CloseKind.PEER_TRANSPORT, CloseKind.VIOLATION) and event.code >> 8 == _TLS_ALERT >> 8:
            return self._rejected(event.code - _TLS_ALERT, event.reason, event.kind is CloseKind.PEER_TRANSPORT)
        return HubUnreachable(text)
