"""One session of an endpoint over one QUIC connection, sans-I/O: control stream, and the way to its connections.

The owner (:mod:`spnhub.transport.endpoint.api`) brings the engine's events of ``c`` and the time, and calls
:meth:`Session.run_calls` afterwards and whenever ``wake`` was called. R-2.6's states belong to the owner: they outlive
one QUIC connection. Counterpart: :mod:`spnhub.transport.endpoint.connection`.
"""

from __future__ import annotations

import dataclasses
import enum
import secrets
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from spnhub.actors.codes import Code
from spnhub.events.model import EndPointType
from spnhub.schemas.codec import PACKET_KINDS
from spnhub.transport.endpoint.connection import Connection, ConsumerConnection, ProviderConnection
from spnhub.transport.engine import (
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
    Unsupported,
    can_retry,
    code_name,
)
from spnhub.transport.protocol import (
    AllConnectionsClosed,
    CloseAck,
    CloseRequest,
    Packet,
    PacketReader,
    ProtocolError,
    SessionAck,
    SessionRefusal,
    SessionRequest,
    SetWeight,
    encode,
)

__all__ = ["ACK_BOUND", "CONNECT_BOUND", "OPENING_LIMIT", "Session", "SessionListener"]

ACK_BOUND: Final = 10.0
"""Seconds that the hub has for the session ACK, once the QUIC connection is up (D-19)."""
CONNECT_BOUND: Final = 60.0
"""Seconds that an Opening waits for its Accept, unless :meth:`Session.open` says otherwise. More than the hub needs at
most: 30 for a service that is started on demand, then 15 for the provider that has come."""
OPENING_LIMIT: Final = 4096
"""Connections that may wait for a stream at once; beyond it they are refused here."""

_CHUNK: Final = 65536
_TLS_ALERT: Final = 0x100
_NEEDED: Final = frozenset(PACKET_KINDS[name] for name in ("CloseRequest", "CloseAck", "Opening", "Accept"))
_SET_WEIGHT: Final = PACKET_KINDS["SetWeight"]


class SessionListener(Protocol):
    """Who owns a session."""

    def on_established(self, session: Session) -> None:
        """The session ACK is there."""

    def on_request(self, connection: ProviderConnection) -> None:
        """A consumer wants a connection; ``connection`` wants ``accept`` or ``reject``."""

    def on_all_connections_closed(self, session: Session) -> None:
        """The hub says that no connection is open and none will come (R-5.4, D-22)."""

    def on_ended(self, session: Session, error: SpnError) -> None:
        """The last call. What was the matter, :class:`EndpointClosed` after :meth:`Session.close`."""


class _Phase(enum.Enum):
    HANDSHAKE = enum.auto()
    REQUESTED = enum.auto()
    ESTABLISHED = enum.auto()
    ENDED = enum.auto()


class Session:
    """See the module. ``c`` names the QUIC connection, which the owner has begun with :meth:`Engine.connect`."""

    def __init__(
        self,
        engine: Engine,
        c: int,
        request: SessionRequest,
        listener: SessionListener,
        *,
        now: Callable[[], float],
        wake: Callable[[], None],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self.engine = engine
        self.c = c
        self.now = now
        self.peer_kinds: dict[int, int] = {}
        self.spn_session_id = ""
        self.hub_id = ""
        self._request = request
        self._weight = request.weight
        self._all_closed = False
        self._listener = listener
        self._wake = wake
        self._random_bytes = random_bytes
        self._phase = _Phase.HANDSHAKE
        self._control: int | None = None
        self._control_out = bytearray()
        self._reader = PacketReader()
        self._refusal: SessionRefusal | None = None
        self._failure: SpnError | None = None
        self._by_stream: dict[int, Connection] = {}
        self._by_uid: dict[bytes, Connection] = {}
        self._waiting: deque[ConsumerConnection] = deque()
        self._deadlines: dict[Connection | None, float] = {}
        """Of connections; None is the session's own."""
        self._calls: deque[Callable[[], None]] = deque()

    @property
    def established(self) -> bool:
        """Between the session ACK and the end."""
        return self._phase is _Phase.ESTABLISHED

    @property
    def connections(self) -> int:
        """Connections that have not ended, those included whose last packets are still on their way."""
        return len(self._by_stream) + len(self._waiting)

    @property
    def reads_weights(self) -> bool:
        """Whether the hub reads SetWeight, and so says when all connections are closed. Known with the ACK."""
        return _SET_WEIGHT in self.peer_kinds

    @property
    def all_connections_closed(self) -> bool:
        """The hub said so, and nothing was said since that makes it untrue: the weight is still 0."""
        return self._all_closed

    # ------------------------------------------------------------------------------------------------- for the owner

    def set_weight(self, weight: int) -> None:
        """The provider's weight from now on, or from the ACK on while there is none yet.

        :raises Unsupported: the hub doesn't read SetWeight.
        """
        self._weight = weight
        self._all_closed = False
        if self._phase is _Phase.HANDSHAKE:
            self._request = dataclasses.replace(self._request, weight=weight)
        elif self.established:
            if not self.reads_weights:
                raise Unsupported("the hub doesn't read SetWeight: the weight counts from the next session on")
            self.send(SetWeight(weight))

    def cut_connections(self, code: int, reason: str) -> None:
        """End every connection with an error, for both sides; the local listeners are told."""
        for connection in [*self._by_stream.values(), *self._waiting]:
            connection.cut(code, reason)

    def open(
        self,
        on_connected: Callable[[], None],
        on_failed: Callable[[ConnectionAborted | ConnectionRefused], None],
        *,
        timeout: float = CONNECT_BOUND,
    ) -> ConsumerConnection:
        """Begin a connection; one of the two functions is called later, from the loop.

        :raises SessionLost: the session isn't established.
        :raises ConnectionRefused: :data:`OPENING_LIMIT` are waiting already.
        """
        if not self.established:
            raise SessionLost("no session is established")
        if len(self._waiting) >= OPENING_LIMIT:
            raise ConnectionRefused(Code.LIMIT, f"{OPENING_LIMIT} connections wait for a stream already")
        connection = ConsumerConnection(self, self._random_bytes(16), self._random_bytes(16), on_connected, on_failed)
        self.arm(connection, self.now() + timeout)
        self._waiting.append(connection)
        self._open_waiting()
        return connection

    def close(self, code: int, reason: str) -> None:
        """Close the QUIC connection; open connections are aborted. ``on_ended`` follows."""
        if self._phase is not _Phase.ENDED:
            self._failure = self._failure or EndpointClosed(reason)
            self.engine.close(self.c, code, reason)
            self.touch()

    def handle(self, event: EngineEvent) -> None:
        """Take an event of ``c``."""
        match event:
            case _ if self._phase is _Phase.ENDED:
                return
            case Connected():
                self._begin()
            case Closed():
                self._end(event)
            case Available():
                self._open_waiting()
            case Opened(s=s):
                self._opened(s)
            case Readable(s=s) if s == self._control:
                self._read_control()
            case Writable(s=s) if s == self._control:
                self._write_control()
            case Reset(s=s) | Stopped(s=s) if s == self._control:
                self._fail(ProtocolError("the control stream ended before the session"))
            case Readable(s=s) | Writable(s=s) | Reset(s=s) | Stopped(s=s):
                connection = self._by_stream.get(s)
                if connection is not None:
                    _bring(connection, event)
            case _:
                return

    def timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called; None: not at all."""
        return min(self._deadlines.values(), default=None)

    def handle_timer(self, now: float) -> None:
        """Let time pass."""
        for connection in [one for one, when in self._deadlines.items() if when <= now]:
            if self._deadlines.pop(connection, None) is None:
                continue
            if connection is None:
                self._failure = HubUnreachable(f"no session ACK within {ACK_BOUND:g} s")
                self.engine.close(self.c, Code.TIMEOUT, "no session ACK in time")
                self.touch()
            else:
                connection.on_deadline()

    def run_calls(self) -> None:
        """Call back whoever has something to hear."""
        while self._calls:
            self._calls.popleft()()

    # ------------------------------------------------------------------------------------------- Home of connections

    def touch(self) -> None:
        """See :meth:`Home.touch`."""
        self._wake()

    def call(self, function: Callable[[], None]) -> None:
        """See :meth:`Home.call`."""
        self._calls.append(function)
        self._wake()

    def send(self, packet: Packet) -> None:
        """See :meth:`Home.send`."""
        self._control_out += encode(packet)
        self._write_control()
        self.touch()

    def arm(self, connection: Connection, when: float | None) -> None:
        """See :meth:`Home.arm`."""
        if when is None:
            self._deadlines.pop(connection, None)
        else:
            self._deadlines[connection] = when
            self._wake()

    def requested(self, connection: ProviderConnection) -> None:
        """See :meth:`Home.requested`."""
        if connection.connection_uid in self._by_uid:
            connection.reject(Code.PROTOCOL, "a connection with this uid is open")
            return
        self._by_uid[connection.connection_uid] = connection
        self.call(lambda: self._listener.on_request(connection))

    def forget(self, connection: Connection) -> None:
        """See :meth:`Home.forget`."""
        if connection.s is not None:
            self._by_stream.pop(connection.s, None)
        elif isinstance(connection, ConsumerConnection) and connection in self._waiting:
            self._waiting.remove(connection)
        if self._by_uid.get(connection.connection_uid) is connection:
            del self._by_uid[connection.connection_uid]

    # ------------------------------------------------------------------------------------------------------- streams

    def _opened(self, s: int) -> None:
        if self._request.end_point_type is not EndPointType.PROVIDER or not self.established:
            self.engine.reset(self.c, s, Code.PROTOCOL)
            self.engine.stop(self.c, s, Code.PROTOCOL)
            self.touch()
            return
        connection = ProviderConnection(self)
        self._by_stream[s] = connection
        connection.begin(s)

    def _open_waiting(self) -> None:
        while self._waiting:
            s = self.engine.open_bidi(self.c)
            if s is None:
                return
            connection = self._waiting.popleft()
            self._by_stream[s] = connection
            self._by_uid[connection.connection_uid] = connection
            connection.begin(s)

    # ------------------------------------------------------------------------------------------------ control stream

    def _begin(self) -> None:
        """The QUIC connection is up: the control stream first, the request first on it (R-2.1)."""
        self._phase = _Phase.REQUESTED
        self._control = self.engine.open_bidi(self.c)
        if self._control is None:
            self._fail(ProtocolError("the hub allows no stream"))
            return
        self._deadlines[None] = self.now() + ACK_BOUND
        self.send(self._request)

    def _write_control(self) -> None:
        if self._control_out and self._control is not None:
            del self._control_out[: self.engine.write(self.c, self._control, bytes(self._control_out))]

    def _read_control(self) -> None:
        assert self._control is not None
        while True:
            answer = self.engine.read(self.c, self._control, _CHUNK)
            if answer is None or answer == (b"", False):
                return
            data, fin = answer
            self.touch()
            try:
                for packet in self._reader.feed(data):
                    self._on_packet(packet)
                if fin and self._refusal is None:
                    raise ProtocolError("the control stream ended before the session")
            except ProtocolError as exc:
                self._fail(exc)
                return
            if fin:
                return

    def _on_packet(self, packet: Packet) -> None:
        match packet:
            case SessionAck() if self._phase is _Phase.REQUESTED:
                self._on_ack(packet)
            case SessionRefusal() if self._phase is _Phase.REQUESTED:
                self._refusal = packet
                self.close(Code.OK, "refused")
            case CloseRequest() if self.established:
                connection = self._by_uid.get(packet.connection_uid)
                if connection is not None:
                    connection.on_close_request(packet)
                else:
                    # It has ended here, so nothing is in the way of ending it there.
                    self.send(CloseAck(packet.connection_uid, packet.epoch))
            case CloseAck() if self.established:
                connection = self._by_uid.get(packet.connection_uid)
                if connection is not None:
                    connection.on_close_ack(packet)
            case AllConnectionsClosed() if self.established:
                # What was said to an earlier weight is no news about this one.
                if not self._weight:
                    self._all_closed = True
                    self.call(lambda: self._listener.on_all_connections_closed(self))
            case _:
                raise ProtocolError(f"a {type(packet).__name__} has no place here")

    def _on_ack(self, packet: SessionAck) -> None:
        missing = [kind for kind in _NEEDED if packet.kinds.get(kind, 0) < 1]
        if missing:
            raise ProtocolError(f"the hub doesn't read packet kinds {sorted(missing)}", Code.VERSION)
        self._phase = _Phase.ESTABLISHED
        self._deadlines.pop(None, None)
        self.peer_kinds = dict(packet.kinds)
        self.spn_session_id = packet.spn_session_id
        self.hub_id = packet.hub_id
        if self.reads_weights and self._weight != self._request.weight:
            # It was set while the request was on its way.
            self.send(SetWeight(self._weight))
        elif self._request.end_point_type is EndPointType.PROVIDER and self._weight == self._request.weight == 0:
            # A session begins with no connection, and with this weight it gets none.
            self._all_closed = True
        self.call(lambda: self._listener.on_established(self))

    def _fail(self, error: ProtocolError) -> None:
        self._failure = SessionLost(f"the hub broke the rules of the protocol: {error}")
        self.engine.close(self.c, error.code, str(error))
        self.touch()

    # ----------------------------------------------------------------------------------------------------------- end

    def _end(self, event: Closed) -> None:
        error = self._why(event)
        self._phase = _Phase.ENDED
        self._deadlines.clear()
        for connection in [*self._by_stream.values(), *self._waiting]:
            connection.on_session_lost(str(error))
        self.call(lambda: self._listener.on_ended(self, error))

    def _why(self, event: Closed) -> SpnError:
        if self._refusal is not None:
            return SessionRefused(self._refusal.code, self._refusal.reason, self._refusal.retryable)
        if self._failure is not None:
            return self._failure
        text = f"{event.kind.value}, code {event.code}: {event.reason}"
        if event.kind is CloseKind.PEER:
            if not self.established or not (event.code == Code.OK or can_retry(event.code)):
                return SessionRefused(event.code, event.reason, can_retry(event.code))
            return SessionLost(f"the hub closed the session, {code_name(event.code)}: {event.reason}")
        if self.established:
            return SessionLost(text)
        if event.kind in (CloseKind.PEER_TRANSPORT, CloseKind.VIOLATION) and event.code >> 8 == _TLS_ALERT >> 8:
            by_hub = event.kind is CloseKind.PEER_TRANSPORT
            return HandshakeRejected(event.code - _TLS_ALERT, event.reason, by_hub=by_hub)
        return HubUnreachable(text)


def _bring(connection: Connection, event: Readable | Writable | Reset | Stopped) -> None:
    match event:
        case Readable():
            connection.on_readable()
        case Writable():
            connection.on_writable()
        case Reset(code=code):
            connection.on_reset(code)
        case Stopped(code=code):
            connection.on_stopped(code)
