"""One session of an endpoint over one QUIC connection, sans-I/O: control stream, and the way to its connections.

The endpoint's core (:mod:`spnhub.transport.endpoint.core.endpoint`) brings the engine's events of ``connection_id``,
and gets reports of what becomes of the session. R-2.6's states belong to
:mod:`spnhub.transport.endpoint.session.hub_target`: they outlive one QUIC connection, as do the connections
(:mod:`spnhub.transport.endpoint.connection.connection`), which are here for one leg.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import (
    AllConnectionsClosed,
    CloseAck,
    CloseRequest,
    DataAck,
    LegPacket,
    Packet,
    ResumeInvite,
    SessionAck,
    SessionPacket,
    SessionRefusal,
    SessionRequest,
    SetWeight,
    ToEndpoint,
)
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.registry import ConnectionRegistry
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.endpoint.session.failures import why_closed
from spnhub.transport.engine import (
    Answered,
    Available,
    Closed,
    Connected,
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
    ConnectionRejected,
    EndpointClosed,
    HubUnreachable,
    SessionLost,
    SessionRejected,
    SpnError,
)
from spnhub.transport.log import get_logger
from spnhub.transport.protocol import PacketReader, ProtocolError, common_kinds, missing_kinds

__all__ = ["ACK_BOUND", "CONNECT_BOUND", "OPENING_LIMIT", "Ended", "Established", "Session", "SessionReport"]

ACK_BOUND: Final = 10.0
"""Seconds that the hub has for the session ACK, once the QUIC connection is up (D-19)."""
CONNECT_BOUND: Final = 60.0
"""Seconds that an Opening waits for its Accept, unless the program says otherwise. More than the hub needs at most: 30
for a service that is started on demand, then 15 for the provider that has come."""
OPENING_LIMIT: Final = 4096
"""Connections that may wait for a stream at once; beyond it they are refused here."""

_CHUNK: Final = 65536

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Established:
    """The session ACK is there."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The last report of a session."""

    error: SpnError
    """What was the matter, :class:`EndpointClosed` after :meth:`Session.close`."""


SessionReport = Established | Unresponsive | Answered | ResumeInvite | SessionPacket | Ended
"""What a session reports to its endpoint: what becomes of it, and the hub's packets that are about more than one of its
connections."""


class _Phase(enum.Enum):
    HANDSHAKE = enum.auto()
    REQUESTED = enum.auto()
    ESTABLISHED = enum.auto()
    ENDED = enum.auto()


class Session:
    """See the module.

    :param connections: those of the endpoint, whichever session has their leg.
    :param report: called with what becomes of it.
    :param connection_id: the QUIC connection that was begun with :meth:`Engine.connect`.
    """

    acknowledged = True
    """The hub has said yes where the session is established; else that shows in its lasting."""
    can_hand_over = True
    """Its connections may go on in another session."""

    def __init__(
        self,
        endpoint: EndpointContext,
        connections: ConnectionRegistry,
        report: Callable[[Session, SessionReport], None],
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
        self.unresponsive = False
        """What we sent has been unanswered for a while."""
        self._unresponsive_since = 0.0
        self._use(SessionStreams(endpoint, connection_id))
        self._endpoint = endpoint
        self._engine = endpoint.engine
        self._all = connections
        self._report = report
        self._request = request
        self._weight = request.weight
        self._weight_reason = ""
        self._all_closed = False
        self._phase = _Phase.HANDSHAKE
        self._control: int | None = None
        self._reader = PacketReader()
        self._refusal: SessionRefusal | None = None
        self._failure: SpnError | None = None
        self._early: dict[int, None] = {}
        """Streams that have overtaken the session ACK, in order: QUIC orders nothing between streams."""

    @property
    def outdated(self) -> bool:
        """Another session has to take its place: the hub can't be told otherwise what has changed."""
        return False

    @property
    def undelivered(self) -> bool:
        """Something that was written isn't acknowledged by QUIC, and nobody else waits for it."""
        return False

    def _use(self, streams: SessionStreams[Connection]) -> None:
        self.streams = streams
        """What its connections have of it."""
        self.send = streams.send
        self._by_stream = streams.by_stream

    @property
    def established(self) -> bool:
        """Between the session ACK and the end."""
        return self._phase is _Phase.ESTABLISHED

    @property
    def is_unanswered(self) -> bool:
        """Whether the handshake of its QUIC connection isn't over."""
        return self._phase is _Phase.HANDSHAKE

    def repeat(self) -> None:
        """Send once more what the handshake waits to have answered."""
        self._engine.repeat(self.connection_id, self._endpoint.now())
        self._endpoint.touch()

    @property
    def connections(self) -> int:
        """Connections that have a leg here, or are about to."""
        return len(self.streams.attached)

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
        return list(self.streams.attached)

    def open(
        self,
        on_connected: Callable[[], None],
        on_failed: Callable[[ConnectionAborted | ConnectionRejected], None],
        until: float,
    ) -> Connection:
        """Begin a connection; one of the two functions is called later in this turn, or in another.

        :raises SessionLost: the session isn't established.
        :raises ConnectionRejected: :data:`OPENING_LIMIT` are waiting already.
        """
        if not self.established:
            raise SessionLost("no session is established")
        if self.streams.waiting >= OPENING_LIMIT:
            raise ConnectionRejected(Code.LIMIT, f"{OPENING_LIMIT} connections wait for a stream already")
        return self._all.open(self.streams, on_connected, on_failed, until)

    def close(self, code: int, reason: str) -> None:
        """Close the QUIC connection; legs that are here are lost. ``on_ended`` follows."""
        if self._phase is not _Phase.ENDED:
            self._failure = self._failure or EndpointClosed(reason)
            self._close(code, reason)

    def break_off(self, reason: str) -> None:
        """A fault of ours: this session is lost, and another is made; its connections go on there."""
        if self._phase is not _Phase.ENDED:
            self._failure = SessionLost(reason)
            self._close(Code.INTERNAL, reason)

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
                self.streams.open_waiting()
            case Opened(stream_id=stream_id):
                self._opened(stream_id)
            case Readable():
                self._read_control()
            case Writable():
                self.streams.push()
            case Reset(stream_id=stream_id) | Stopped(stream_id=stream_id) if stream_id == self._control:
                self._fail(ProtocolError("the control stream ended before the session"))
            case Reset(stream_id=stream_id) | Stopped(stream_id=stream_id) if stream_id in self._early:
                del self._early[stream_id]
                self.streams.refuse(stream_id, Code.OK)
            case Reset(stream_id=stream_id, code=code):
                if (connection := self._by_stream.get(stream_id)) is not None:
                    connection.on_reset(code)
            case Stopped(stream_id=stream_id, code=code):
                if (connection := self._by_stream.get(stream_id)) is not None:
                    connection.on_stopped(code)
            case Unresponsive() | Answered():
                self.unresponsive = isinstance(event, Unresponsive)
                if self.established:
                    self._note_silence()
                self._report(self, event)
            case _:
                return

    def _note_silence(self) -> None:
        """For who wonders why nothing moves: connections go on elsewhere only if there is another hub.

        No warning: nothing is lost yet.
        """
        ids = {"spnSessionId": self.spn_session_id, "hubId": self.hub_id}
        now = self._endpoint.now()
        if self.unresponsive:
            self._unresponsive_since = now
            _log.info("session.unresponsive", connections=len(self._by_stream), **ids)
        else:
            _log.info("session.answers", seconds=round(now - self._unresponsive_since, 3), **ids)

    @property
    def brings_connections(self) -> bool:
        """Whether the hub was told so, and has accepted the session for it where there was no provider (D-27)."""
        return self._request.brings_connections

    def on_deadline(self) -> None:
        """The hub has not answered the request."""
        self._failure = HubUnreachable(f"no session ACK within {ACK_BOUND:g} s")
        self._close(Code.TIMEOUT, "no session ACK in time")

    def abandon(self, connection: Connection) -> None:
        """Let go of a connection that could not end: its stream is cut, and nothing is kept."""
        stream_id = connection.stream_id
        self.streams.detach(connection, stream_id)
        if stream_id is not None:
            self.streams.refuse(stream_id, Code.INTERNAL)

    def _opened(self, stream_id: int) -> None:
        if self._request.end_point_type is not EndPointType.PROVIDER:
            self.streams.refuse(stream_id, Code.PROTOCOL)
        elif self.established:
            self._all.offered(self.streams, stream_id).on_readable()
        else:
            self._early[stream_id] = None

    # ------------------------------------------------------------------------------------------------ control stream

    def _begin(self) -> None:
        """The QUIC connection is up: the control stream first, the request first on it (R-2.1)."""
        self._phase = _Phase.REQUESTED
        self._control = self.streams.control = self._engine.open_bidi(self.connection_id)
        if self._control is None:
            self._fail(ProtocolError("the hub allows no stream"))
            return
        self._endpoint.arm(self, self._endpoint.now() + ACK_BOUND)
        if self._all.paused:
            # Also what was lost while the handshake was under way.
            self._request = dataclasses.replace(self._request, brings_connections=True)
        self.send(self._request)

    def _read_control(self) -> None:
        assert self._control is not None
        while True:
            answer = self._engine.read(self.connection_id, self._control, _CHUNK)
            if answer is None or answer == (b"", False):
                return
            data, fin = answer
            self._endpoint.touch()
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
            connection = self._leg(getattr(packet, "connection_uid", ""))
            self._endpoint.on_fault(connection or self, fault)

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
                            self._endpoint.on_fault(connection, fault)
            case ResumeInvite() if self._request.end_point_type is EndPointType.PROVIDER:
                # Whether it comes to something or not: AllConnectionsClosed is sent again afterwards.
                self._all_closed = False
                self._report(self, packet)
            case _ if isinstance(packet, ToEndpoint):
                self._on_control_packet(packet)
            case _:
                raise ProtocolError(f"a {type(packet).__name__} has no place here")

    def _on_control_packet(self, packet: ToEndpoint) -> None:
        if not isinstance(packet, LegPacket):
            if isinstance(packet, AllConnectionsClosed):
                # An answer to an earlier weight says nothing about this one.
                self._all_closed = not self._weight
            self._report(self, packet)
        elif (connection := self._leg(packet.connection_uid)) is not None:
            connection.on_packet(packet)
        elif isinstance(packet, CloseRequest) and packet.connection_uid not in self._all.by_uid:
            # It has ended here, so nothing is in the way of ending it there.
            self.send(CloseAck(packet.connection_uid, packet.epoch))

    def _leg(self, uid: str) -> Connection | None:
        connection = self._all.by_uid.get(uid)
        return connection if connection is not None and connection.session is self.streams else None

    def _on_ack(self, packet: SessionAck) -> None:
        if missing := missing_kinds(packet.kinds):
            raise ProtocolError(f"a hub of spn/1 reads {', '.join(missing)}, too", Code.VERSION)
        self.streams.kinds = common_kinds(packet.kinds)
        self._establish()
        self.spn_session_id = packet.spn_session_id
        self.hub_id = packet.hub_id
        if self._weight != self._request.weight or self._weight_reason:
            # It was set while the request was on its way; or there is more to say of it than the request can.
            self.send(SetWeight(self._weight, self._weight_reason))
        elif self._request.end_point_type is EndPointType.PROVIDER and self._weight == 0:
            # A session begins with no connection, and with this weight it gets none but those that are resumed.
            self._all_closed = True
        self._report(self, Established())
        early, self._early = self._early, {}
        for stream_id in early:
            connection = self._all.offered(self.streams, stream_id)
            try:
                connection.on_readable()
            except Exception as fault:
                self._endpoint.on_fault(connection, fault)

    def _establish(self) -> None:
        self._phase = _Phase.ESTABLISHED
        self._endpoint.arm(self, None)

    def _fail(self, error: ProtocolError) -> None:
        self._failure = SessionLost(f"the hub broke the rules of the protocol: {error}")
        self._close(error.code, str(error))

    def _close(self, code: int, reason: str) -> None:
        self._engine.close(self.connection_id, code, reason)
        self._endpoint.touch()

    # ----------------------------------------------------------------------------------------------------------- end

    def _end(self, event: Closed) -> None:
        refusal = self._refusal
        if refusal is not None:
            error: SpnError = SessionRejected(refusal.code, refusal.reason, refusal.retryable)
        else:
            about = self.credentials.dates, self._near_its_dates
            error = self._failure or why_closed(event, *about, established=self.established)
        self.lose(error)

    def lose(self, error: SpnError) -> None:
        """It is over; so are the legs that were here."""
        self._phase = _Phase.ENDED
        self._endpoint.arm(self, None)
        self._endpoint.arm(self.streams.acks, None)
        for connection in self.legs():
            try:
                connection.on_session_lost(str(error))
            except Exception as fault:
                self._endpoint.on_fault(connection, fault)
        self._report(self, Ended(error))
