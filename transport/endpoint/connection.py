"""One SPN connection at its endpoint, sans-I/O: headers, bytes and their offsets, and the orderly end.

Implements :class:`spnhub.transport.endpoint.stream.Stream`; its session (:mod:`spnhub.transport.endpoint.session`)
brings it the engine's events and the control packets that name it. Callbacks to listeners go through the session's
queue, so they never come from inside a call.

How it ends (R-4.5, D-17). Once both FINs are through (ours sent, the peer's read), the side whose FIN came second asks
with a CloseRequest. The provider's came second if it had read the consumer's before it sent its own, likewise the
consumer's. If the two crossed, the consumer asks, after :data:`TIE` without a request from the provider. Whoever is
asked answers with a CloseAck as soon as both FINs are through on its side, too. Everything else is an abort: reset and
stop, never a FIN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from spnhub.actors.codes import Code
from spnhub.transport.endpoint.states import ConnectionEvent, ConnectionState, connection_machine
from spnhub.transport.endpoint.stream import StreamListener
from spnhub.transport.engine import LOST_CODE, Engine
from spnhub.transport.errors import ConnectionAborted, ConnectionRefused, LocalProtocolError, code_name
from spnhub.transport.protocol import (
    Accept,
    CloseAck,
    CloseRequest,
    Opening,
    OpeningKind,
    Packet,
    PacketReader,
    ProtocolError,
    encode,
)

__all__ = [
    "CLOSE_BOUND",
    "HEADER_BOUND",
    "RECORD_BOUND",
    "TIE",
    "Connection",
    "ConsumerConnection",
    "Home",
    "ProviderConnection",
]

TIE: Final = 1.0
"""Seconds that the consumer leaves the provider to ask first when their FINs crossed."""
CLOSE_BOUND: Final = 10.0
"""Seconds after which both FINs alone count as the end for the listener, and an unanswered CloseRequest(finished =
False) becomes an abort."""
RECORD_BOUND: Final = 60.0
"""Seconds for which the record is kept after that: the peer may take long to read the rest, and an orderly end of the
session waits for it. The stream itself lives on in the engine until the peer has everything."""
HEADER_BOUND: Final = 10.0
"""Seconds that the hub has for the Opening on a stream that it opened."""


class Home(Protocol):
    """What a connection needs of its session."""

    engine: Engine
    c: int

    def now(self) -> float:
        """Monotonic seconds."""

    def touch(self) -> None:
        """The engine was used: have it flushed."""

    def call(self, function: Callable[[], None]) -> None:
        """Call from the event loop, after everything that was asked for before."""

    def send(self, packet: Packet) -> None:
        """Send on the control stream."""

    def arm(self, connection: Connection, when: float | None) -> None:
        """Call :meth:`Connection.on_deadline` at ``when``; None: never. One deadline per connection."""

    def requested(self, connection: ProviderConnection) -> None:
        """Its Opening is there: ask the application."""

    def forget(self, connection: Connection) -> None:
        """It has ended; nothing will be brought to it any more."""


class Connection:
    """What both sides have in common. ``read_offset`` and ``written_offset`` count application bytes."""

    def __init__(self, home: Home, uid: bytes = b"", secret: bytes = b"") -> None:
        self._home = home
        self._machine = connection_machine()
        self._machine.fire(ConnectionEvent.FOUND_SESSION)
        self.s: int | None = None
        self.connection_uid = uid
        self.secret = secret
        self.epoch = 0
        self.peer = ""
        self.instance_id = ""
        self.read_offset = 0
        self.written_offset = 0
        self._listener: StreamListener | None = None
        self._reader: PacketReader | None = PacketReader()
        self._head = b""
        self._may_read = False
        self._early_fin = False
        self._blocked = False
        self._finished = False
        self._fin_passed = False
        self._peer_finished = False
        self._second = False
        self._asked: CloseRequest | None = None
        self._request: CloseRequest | None = None
        self._closed_told = False
        self.error: ConnectionAborted | ConnectionRefused | None = None

    @property
    def state(self) -> ConnectionState:
        """R-4.11."""
        return self._machine.state

    @property
    def both_finished(self) -> bool:
        """Both directions have ended in order, as far as this side can see."""
        return self._finished and self._peer_finished

    # --------------------------------------------------------------------------------------------- the Stream interface

    def set_listener(self, listener: StreamListener) -> None:
        """See :meth:`Stream.set_listener`."""
        self._listener = listener
        self._home.call(self._tell)

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        """See :meth:`Stream.read`. After the fin it says (b"", False)."""
        if self.state is ConnectionState.DISCONNECTED and self.error is not None:
            return None
        if self.s is None or self._peer_finished:
            return b"", False
        if self._early_fin:
            answer: tuple[bytes, bool] | None = (b"", True)
        else:
            answer = self._home.engine.read(self._home.c, self.s, limit)
        if answer is None:
            return None
        data, fin = answer
        self.read_offset += len(data)
        self._may_read = len(data) == limit and not fin
        if fin:
            self._peer_finished = True
            self._check_end()
        self._home.touch()
        return data, fin

    def write(self, data: bytes) -> int:
        """See :meth:`Stream.write`."""
        if self._finished or self.s is None or self.state is not ConnectionState.CONNECTED:
            return 0
        self._write_head()
        taken = 0 if self._head else self._home.engine.write(self._home.c, self.s, data)
        self.written_offset += taken
        self._blocked = taken < len(data)
        self._home.touch()
        return taken

    def finish(self) -> None:
        """See :meth:`Stream.finish`."""
        if self._finished or self.state is not ConnectionState.CONNECTED:
            return
        self._finished = True
        self._second = self._peer_finished
        self._pass_fin()
        self._check_end()
        self._home.touch()

    def abort(self, code: int) -> None:
        """See :meth:`Stream.abort`."""
        self._listener = None
        self._end_aborted(code, "aborted here")

    def cut(self, code: int, reason: str) -> None:
        """The same for the endpoint's owner: the listener is told."""
        self._end_aborted(code, reason)

    # ------------------------------------------------------------------------------------------------------------- end

    def request_close(self) -> None:
        """Ask for the end although a direction is still open (R-4.5); the other side sees an error, no clean end.

        No callback follows. For a program that has closed and will not read what still comes.
        """
        if self.state is not ConnectionState.CONNECTED or self.both_finished or self._request is not None:
            return
        self._listener = None
        self._send_request(finished=False)
        self._home.touch()

    def _send_request(self, *, finished: bool) -> None:
        consumer = isinstance(self, ConsumerConnection)
        sent, received = self.written_offset, self.read_offset
        if not consumer:
            sent, received = received, sent
        self._request = CloseRequest(self.connection_uid, self.epoch, sent, received, finished)
        self._home.send(self._request)
        self._machine.fire(ConnectionEvent.CLOSE_REQUEST_SENT)
        self._home.arm(self, self._home.now() + CLOSE_BOUND)

    def _check_end(self) -> None:
        """Both FINs may be through: answer, ask, or wait to be asked."""
        if not self.both_finished or self.state is ConnectionState.DISCONNECTED:
            return
        if self._asked is not None:
            self._home.send(CloseAck(self.connection_uid, self.epoch))
            self._end_closed()
        elif self._request is None:
            if self._second:
                self._send_request(finished=True)
            else:
                consumer = isinstance(self, ConsumerConnection)
                self._home.arm(self, self._home.now() + (TIE if consumer else CLOSE_BOUND))

    def on_close_request(self, packet: CloseRequest) -> None:
        """The other endpoint asks for the end."""
        if packet.epoch != self.epoch:
            return
        if not packet.finished:
            self._home.send(CloseAck(self.connection_uid, self.epoch))
            self._end_aborted(Code.CLOSE_REQUESTED, "the other endpoint asked to close")
        elif not self._finished:
            self._end_aborted(Code.PROTOCOL, "a CloseRequest counts a FIN that was never sent")
        else:
            self._asked = packet
            self._machine.fire(ConnectionEvent.CLOSE_REQUEST_RECEIVED)
            self._check_end()

    def on_close_ack(self, packet: CloseAck) -> None:
        """The other endpoint agrees to the end."""
        if packet.epoch != self.epoch or self._request is None:
            return
        if self._request.finished:
            self._end_closed()
        else:
            self._end_aborted(Code.CLOSE_REQUESTED, "closed here")

    def on_deadline(self) -> None:
        """The one deadline that was armed has come."""
        if self.state is ConnectionState.CONNECTING:
            self._end_aborted(Code.TIMEOUT, "no answer in time")
        elif self._request is not None and not self._request.finished:
            self._end_aborted(Code.CLOSE_REQUESTED, "closed here")
        elif self._request is None and isinstance(self, ConsumerConnection):
            self._send_request(finished=True)
        elif not self._closed_told:
            self._tell_closed()
            self._home.arm(self, self._home.now() + RECORD_BOUND)
        else:
            self._machine.fire(ConnectionEvent.ABORTED)
            self._leave()

    def on_session_lost(self, reason: str) -> None:
        """The session is gone, and with it, for now, its connections."""
        self._end_aborted(Code.PEER_LOST, reason, gone=True)

    def on_reset(self, code: int) -> None:
        """The peer's sending half was reset."""
        if not self._peer_finished:
            self._end_by_peer(code)

    def on_stopped(self, code: int) -> None:
        """The peer wants no more; our sending half was reset."""
        self._end_by_peer(code)

    def _end_by_peer(self, code: int) -> None:
        if code == LOST_CODE:
            code = Code.PEER_LOST
        self._end_aborted(code, f"ended by the other side ({code_name(code)})")

    def _end_aborted(self, code: int, reason: str, *, gone: bool = False) -> None:
        if self.state is ConnectionState.DISCONNECTED:
            return
        before = self.state
        self._machine.fire(ConnectionEvent.ABORTED)
        self.error = ConnectionAborted(code, reason)
        if self.s is not None and not gone:
            self._home.engine.reset(self._home.c, self.s, code)
            self._home.engine.stop(self._home.c, self.s, code)
        self._leave()
        if before is ConnectionState.CONNECTING:
            self._on_failed()
        elif not self._closed_told:
            self._home.call(self._tell)

    def _end_closed(self) -> None:
        self._machine.fire(ConnectionEvent.STREAM_CLOSED)
        self._leave()
        self._tell_closed()

    def _leave(self) -> None:
        self._home.arm(self, None)
        self._home.forget(self)
        self._home.touch()

    def _tell_closed(self) -> None:
        if not self._closed_told:
            self._closed_told = True
            self._home.call(self._tell)

    def _on_failed(self) -> None:
        """It ended before it was Connected."""

    # -------------------------------------------------------------------------------------------------- engine's events

    def on_readable(self) -> None:
        """There is something on the stream."""
        if self._reader is not None:
            self._read_head(self._reader)
        else:
            self._may_read = True
            self._home.call(self._tell)

    def on_writable(self) -> None:
        """The engine takes more."""
        self._write_head()
        if not self._head and self._blocked:
            self._blocked = False
            self._home.call(self._tell_writable)

    def _read_head(self, reader: PacketReader) -> None:
        """Read the header and not a byte of what follows it."""
        assert self.s is not None
        while self._reader is not None and self.state is ConnectionState.CONNECTING:
            answer = self._home.engine.read(self._home.c, self.s, reader.wanted)
            if answer is None or answer == (b"", False):
                return
            data, fin = answer
            try:
                for packet in reader.feed(data):
                    self._reader = None
                    self._early_fin = fin
                    self._may_read = True
                    self._on_head(packet)
            except ProtocolError as exc:
                self._end_aborted(exc.code, str(exc))
                return
            if fin and self._reader is not None:
                self._end_aborted(Code.PROTOCOL, "the stream ended before its header")
                return

    def _on_head(self, packet: Packet) -> None:
        raise NotImplementedError

    def _send_head(self, packet: Packet) -> None:
        self._head = encode(packet)
        self._write_head()
        self._home.touch()

    def _write_head(self) -> None:
        if self._head and self.s is not None:
            self._head = self._head[self._home.engine.write(self._home.c, self.s, self._head) :]
        if not self._head and self._finished:
            self._pass_fin()

    def _pass_fin(self) -> None:
        if not self._head and not self._fin_passed and self.s is not None:
            self._fin_passed = True
            self._home.engine.finish(self._home.c, self.s)

    # --------------------------------------------------------------------------------------------- telling the listener

    def _tell(self) -> None:
        """Tell the listener what is the case now."""
        listener = self._listener
        if listener is None:
            return
        if self._closed_told:
            self._listener = None
            listener.on_closed()
        elif self.error is not None:
            self._listener = None
            listener.on_aborted(self.error.code, self.error.reason)
        elif self._may_read and not self._peer_finished:
            listener.on_readable()

    def _tell_writable(self) -> None:
        if self._listener is not None and self.error is None and not self._closed_told:
            self._listener.on_writable()


class ConsumerConnection(Connection):
    """The side that asks for the connection (R-4.2). It mints its identity and the secret (D-1)."""

    def __init__(
        self,
        home: Home,
        uid: bytes,
        secret: bytes,
        on_connected: Callable[[], None],
        on_failed: Callable[[ConnectionAborted | ConnectionRefused], None],
    ) -> None:
        super().__init__(home, uid, secret)
        self._connected = on_connected
        self._failed = on_failed
        self._stopped: int | None = None

    def begin(self, s: int) -> None:
        """The stream is there: the Opening leaves at once, so that servers that speak first work (D-29)."""
        self.s = s
        self._send_head(Opening(OpeningKind.OPEN, self.connection_uid, self.secret))

    def _on_head(self, packet: Packet) -> None:
        if not isinstance(packet, Accept) or packet.kind is not OpeningKind.OPEN or packet.epoch != self.epoch:
            raise ProtocolError("the answer to an Opening is its Accept")
        if packet.code != Code.OK:
            self._machine.fire(ConnectionEvent.REFUSED)
            self.error = ConnectionRefused(packet.code, packet.reason)
            assert self.s is not None
            self._home.engine.reset(self._home.c, self.s, packet.code)
            self._home.engine.stop(self._home.c, self.s, packet.code)
            self._leave()
            self._on_failed()
            return
        if self._stopped is not None:
            self._end_by_peer(self._stopped)
            return
        self.peer = packet.peer
        self.instance_id = packet.instance_id
        self._machine.fire(ConnectionEvent.ESTABLISHED)
        self._home.arm(self, None)
        self._home.call(self._connected)

    def on_stopped(self, code: int) -> None:
        """See :meth:`Connection.on_stopped`. The stop that goes with a refusal may overtake its Accept."""
        if self.state is ConnectionState.CONNECTING:
            self._stopped = code
        else:
            super().on_stopped(code)

    def _on_failed(self) -> None:
        error = self.error
        assert error is not None
        self._home.call(lambda: self._failed(error))


class ProviderConnection(Connection):
    """The side that is asked: it says :meth:`accept` or :meth:`reject`."""

    def begin(self, s: int) -> None:
        """The hub opened a stream; its Opening is on the way."""
        self.s = s
        self._home.arm(self, self._home.now() + HEADER_BOUND)
        self.on_readable()

    def _on_head(self, packet: Packet) -> None:
        if not isinstance(packet, Opening):
            raise ProtocolError("a data stream begins with an Opening")
        self._home.arm(self, None)
        self.connection_uid = packet.connection_uid
        self.secret = packet.resume_secret
        self.peer = packet.peer
        if packet.kind is not OpeningKind.OPEN:
            self.reject(Code.ENDED, "no such connection here", kind=packet.kind)
            return
        self._home.requested(self)

    def accept(self) -> None:
        """Say yes: it is Connected now (D-16).

        :raises ConnectionAborted: it has ended meanwhile.
        :raises LocalProtocolError: it was answered before.
        """
        if isinstance(self.error, ConnectionAborted):
            raise self.error
        self._machine.fire(ConnectionEvent.ESTABLISHED)
        self._send_head(Accept(OpeningKind.OPEN, epoch=self.epoch))

    def reject(self, code: int, reason: str, kind: OpeningKind = OpeningKind.OPEN) -> None:
        """Say no; ``code`` and ``reason`` reach the consumer. Nothing happens if it has ended meanwhile.

        :raises LocalProtocolError: it was accepted.
        """
        if self.state is ConnectionState.DISCONNECTED:
            return
        if self.state is not ConnectionState.CONNECTING:
            raise LocalProtocolError("an accepted connection can't be rejected")
        assert self.s is not None
        self._machine.fire(ConnectionEvent.REFUSED)
        self.error = ConnectionRefused(code, reason)
        self._finished = True
        self._send_head(Accept(kind, code, reason))
        if self._head:
            self._home.engine.reset(self._home.c, self.s, code)
        # No stop: it could overtake the Accept. The hub ends its half when it has read it.
        self._leave()
