"""One SPN connection at its endpoint, sans-I/O: headers, bytes and their offsets, pause and resume, the orderly end.

Implements :class:`spnhub.transport.endpoint.stream.Stream`. A connection belongs to its endpoint (:class:`Host`, which
is :class:`spnhub.transport.endpoint.core.EndpointCore`) and outlives the legs that it has, one at a time, on a session
(:class:`Home`). The two roles are in :mod:`spnhub.transport.endpoint.roles`. Callbacks to listeners go through the
host's queue, so they never come from inside a call.

How it ends (R-4.5, D-17). Once both FINs are through (ours sent, the peer's read), the side whose FIN came second asks
with a CloseRequest. The provider's came second if it had read the consumer's before it sent its own, likewise the
consumer's. If the two crossed, the consumer asks, after :data:`TIE` without a request from the provider. Whoever is
asked answers with a CloseAck as soon as both FINs are through on its side, too. Everything else is an abort: reset and
stop, never a FIN.

How it lives on (PROTOCOL.md section 5). What is written is kept until the other endpoint has acknowledged it. When the
leg ends and the conversation doesn't, nothing is read or written until the next leg goes on where the reader is: what
the listener sees of that is a write that takes nothing. A FIN is sent again in every leg, a reset is told by whoever
is asked for the connection later.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from spnhub.actors.codes import Code
from spnhub.transport.endpoint.acks import ACK_BYTES, AckBook
from spnhub.transport.endpoint.deadlines import Due
from spnhub.transport.endpoint.replay import ReplayBuffer
from spnhub.transport.endpoint.states import ConnectionEvent, ConnectionState, connection_machine
from spnhub.transport.endpoint.stream import StreamListener
from spnhub.transport.engine import LOST_CODE, Engine
from spnhub.transport.errors import ConnectionAborted, ConnectionRefused, can_retry, code_name
from spnhub.transport.protocol import (
    Accept,
    CloseAck,
    CloseRequest,
    Opening,
    OpeningKind,
    Packet,
    PacketReader,
    PauseAck,
    PauseRequest,
    ProtocolError,
    ResumeAck,
    encode,
)

__all__ = ["CLOSE_BOUND", "PAUSE_BOUND", "RECORD_BOUND", "RESUME_STEP", "TIE", "Connection", "Home", "Host"]

TIE: Final = 1.0
"""Seconds that the consumer leaves the provider to ask first when their FINs crossed."""
CLOSE_BOUND: Final = 10.0
"""Seconds after which both FINs alone count as the end for the listener, and an unanswered CloseRequest(finished =
False) becomes an abort."""
RECORD_BOUND: Final = 60.0
"""Seconds for which the record is kept after that, and again for as long as the peer acknowledges: it may take long to
read the rest, and an orderly end of the session waits for it."""
PAUSE_BOUND: Final = 10.0
"""Seconds that the hub has to end the stream after our PauseAck."""
RESUME_STEP: Final = 12.0
"""Seconds from a ResumeRequest to the Accept: the hub's two steps of 5, and a little."""
SHRINK_AFTER: Final = 5.0
"""Seconds after which a replay buffer that is empty gives back what it had of the budget."""

_LEG_CODES: Final = frozenset({Code.PAUSED, Code.MOVED, Code.LEFT, Code.PEER_LOST, LOST_CODE})
"""With these a stream ends and the conversation doesn't."""
_EARLY: Final = 4
"""Control packets kept that came before the Accept that they follow."""

_State = ConnectionState
_OPEN: Final = frozenset({_State.CONNECTED, _State.DISCONNECTING})
_IN_LEG: Final = frozenset({_State.CONNECTED, _State.DISCONNECTING, _State.PAUSING, _State.RESUMING})


class Home(Protocol):
    """What a connection needs of the session that has its leg."""

    c: int
    acks: AckBook

    def send(self, packet: Packet) -> None:
        """Send on the control stream."""

    def attach(self, connection: Connection) -> None:
        """It has a leg here, or will have."""

    def detach(self, connection: Connection) -> None:
        """Its leg here is over; nothing will be brought to it any more."""

    def want_stream(self, connection: Connection) -> None:
        """Call :meth:`Connection.begin` with a stream as soon as there is one."""


class Host(Protocol):
    """What a connection needs of its endpoint."""

    engine: Engine
    resume_timeout: float

    def now(self) -> float:
        """Monotonic seconds."""

    def touch(self) -> None:
        """The engine was used: have it flushed."""

    def call(self, function: Callable[[], None]) -> None:
        """Call later in this turn, after everything that was asked for before."""

    def arm(self, owner: Due, when: float | None) -> None:
        """One deadline per owner; None: none."""

    def new_replay(self) -> ReplayBuffer:
        """For one direction."""

    def on_paused(self, connection: Connection, reason: str) -> None:
        """It is Paused, for the first time or again after an attempt."""

    def on_resumed(self, connection: Connection) -> None:
        """It is Connected again."""

    def on_disconnected(self, connection: Connection, farewell: int | None, home: Home | None) -> None:
        """It is over.

        ``farewell``: how, where the other end doesn't know it but from us. ``home``: where it was told so on the
        stream; None: it was not.
        """


class _Shrink:
    """Gives the replay buffer's growth back after a while without use."""

    def __init__(self, replay: ReplayBuffer) -> None:
        self._replay = replay

    def on_deadline(self) -> None:
        if not self._replay.held:
            self._replay.shrink()


class Connection:
    """What both sides have in common. ``read_offset`` and ``written_offset`` count application bytes over all legs."""

    consumer = False

    def __init__(self, host: Host, home: Home, uid: bytes = b"", secret: bytes = b"") -> None:
        self._host = host
        self._engine = host.engine
        self._machine = connection_machine()
        self._machine.fire(ConnectionEvent.FOUND_SESSION)
        self.connection_uid = uid
        self.secret = secret
        self.epoch = 0
        self.peer = ""
        self.instance_id = ""
        """Of the provider's endpoint."""
        self.read_offset = 0
        self.told_offset = 0
        self.ack_bytes = ACK_BYTES
        self.ack_time = float("-inf")
        self.replay = host.new_replay()
        self.established = False
        """Whether it has ever been Connected."""
        self.paused_at: float | None = None
        """Since when it has not been Connected."""
        self.error: ConnectionAborted | ConnectionRefused | None = None
        self.left: Home | None = None
        """Where the last leg was."""
        self._resume_by = 0.0
        self._listener: StreamListener | None = None
        self._blocked = False
        self._finished = False
        self._peer_finished = False
        self._second = False
        self._closed_told = False
        self._record_start = 0
        self._may_read = False
        self._shrink: _Shrink | None = None
        # Of this leg:
        self.s: int | None = None
        self.home: Home | None = None
        self._c = -1
        self._open = False
        self._resending: int | None = None
        """Offset up to which the leg was given what was written before it; None: all."""
        self._attach(home)

    def _attach(self, home: Home) -> None:
        """A new leg, of which there is nothing yet."""
        self.home, self._c = home, home.c
        self.s = None
        self._reader: PacketReader | None = PacketReader()
        self._head = b""
        self._early_fin = False
        self._fin_passed = False
        self._granted = False
        self._asked: CloseRequest | None = None
        self._request: CloseRequest | None = None
        self._early: list[CloseRequest | PauseRequest] = []
        home.attach(self)

    def _detach(self) -> None:
        self._open = self._may_read = False
        if self.home is not None:
            self.home.acks.forget(self)
            self.home.detach(self)
        self.home, self.s = None, None
        self._host.arm(self, None)
        self._host.touch()

    @property
    def state(self) -> ConnectionState:
        """R-4.11."""
        return self._machine.state

    @property
    def written_offset(self) -> int:
        """Bytes taken from the program."""
        return self.replay.end

    @property
    def finished(self) -> bool:
        """The program has ended our direction in order."""
        return self._finished

    @property
    def peer_finished(self) -> bool:
        """The program has read the other's FIN."""
        return self._peer_finished

    @property
    def both_finished(self) -> bool:
        """Both directions have ended in order, as far as this side can see."""
        return self._finished and self._peer_finished

    # --------------------------------------------------------------------------------------------- the Stream interface

    def set_listener(self, listener: StreamListener) -> None:
        """See :meth:`Stream.set_listener`."""
        self._listener = listener
        self._host.call(self._tell)

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        """See :meth:`Stream.read`. After the fin it says (b"", False)."""
        if not self._open or self._peer_finished:
            return None if self.error is not None else (b"", False)
        if self._early_fin:
            data, fin = b"", True
        else:
            assert self.s is not None
            answer = self._engine.read(self._c, self.s, limit)
            if answer is None:
                # The event that says why is on its way.
                return b"", False
            data, fin = answer
        if data:
            self.read_offset += len(data)
            assert self.home is not None
            self.home.acks.took(self)
        self._may_read = len(data) == limit and not fin
        if fin:
            self._peer_finished = True
            self._check_end()
        self._host.touch()
        return data, fin

    def write(self, data: bytes) -> int:
        """See :meth:`Stream.write`."""
        if self._finished or self.error is not None:
            return 0
        if not self._open or self._head or self._resending is not None:
            self._blocked = True
            return 0
        assert self.s is not None
        replay = self.replay
        size = len(data)
        room = replay.room
        if size <= room:
            taken = self._engine.write(self._c, self.s, data)
        else:
            replay.full()
            taken = self._engine.write(self._c, self.s, data[:room]) if room else 0
        replay.append(data if taken == size else data[:taken])
        self._blocked = taken < size
        self._host.touch()
        return taken

    def finish(self) -> None:
        """See :meth:`Stream.finish`."""
        if self._finished or self.state in (_State.CONNECTING, _State.DISCONNECTED):
            return
        self._finished = True
        self._second = self._peer_finished
        self._push()
        self._check_end()
        self._host.touch()

    def abort(self, code: int) -> None:
        """See :meth:`Stream.abort`."""
        self._listener = None
        self._end_aborted(code, "aborted here", farewell=code)

    def cut(self, code: int, reason: str) -> None:
        """The same for the endpoint's owner: the listener is told."""
        self._end_aborted(code, reason, farewell=code)

    # ------------------------------------------------------------------------------------------------------------- end

    def request_close(self) -> None:
        """Ask for the end although a direction is still open (R-4.5); the other side sees an error, no clean end.

        No callback follows. For a program that has closed and will not read what still comes.
        """
        if self.state is _State.CONNECTED and not self.both_finished and self._request is None:
            self._listener = None
            self._send_request(finished=False)
            self._host.touch()
        elif self.state in (_State.PAUSING, _State.PAUSED, _State.RESUMING):
            self.abort(Code.CLOSE_REQUESTED)

    def _send_request(self, *, finished: bool) -> None:
        sent, received = self.written_offset, self.read_offset
        if not self.consumer:
            sent, received = received, sent
        assert self.home is not None
        self._request = CloseRequest(self.connection_uid, self.epoch, sent, received, finished)
        self.home.send(self._request)
        self._machine.fire(ConnectionEvent.CLOSE_REQUEST_SENT)
        self._host.arm(self, self._host.now() + CLOSE_BOUND)

    def _check_end(self) -> None:
        """Both FINs may be through: answer, ask, or wait to be asked."""
        if not self._open or not self.both_finished:
            return
        assert self.home is not None
        if self._asked is not None:
            self.home.send(CloseAck(self.connection_uid, self.epoch))
            self._end_closed(ConnectionEvent.STREAM_CLOSED)
        elif self._request is None:
            if self._second:
                self._send_request(finished=True)
            else:
                self._host.arm(self, self._host.now() + (TIE if self.consumer else CLOSE_BOUND))

    def on_close_request(self, packet: CloseRequest) -> None:
        """The other endpoint asks for the end."""
        if packet.epoch != self.epoch:
            return
        if not self._open:
            self._keep_early(packet)
        elif not packet.finished:
            assert self.home is not None
            self.home.send(CloseAck(self.connection_uid, self.epoch))
            self._end_aborted(Code.CLOSE_REQUESTED, "the other endpoint asked to close", farewell=Code.CLOSE_REQUESTED)
        elif not self._finished:
            self._end_aborted(Code.PROTOCOL, "a CloseRequest counts a FIN that was never sent", farewell=Code.PROTOCOL)
        else:
            self._asked = packet
            self._machine.fire(ConnectionEvent.CLOSE_REQUEST_RECEIVED)
            self._check_end()

    def on_close_ack(self, packet: CloseAck) -> None:
        """The other endpoint agrees to the end."""
        if packet.epoch != self.epoch or self._request is None or not self._open:
            return
        if self._request.finished:
            self._end_closed(ConnectionEvent.STREAM_CLOSED)
        else:
            self._end_aborted(Code.CLOSE_REQUESTED, "closed here", farewell=Code.CLOSE_REQUESTED)

    def on_deadline(self) -> None:
        """The one deadline that was armed has come."""
        now = self._host.now()
        match self.state:
            case _State.CONNECTING:
                self._end_aborted(Code.TIMEOUT, "no answer in time")
            case _State.PAUSED:
                self._end_resume_timeout()
            case _State.RESUMING if now >= self._resume_by:
                self._end_resume_timeout()
            case _State.RESUMING:
                self._pause(ConnectionEvent.RESUME_REFUSED, Code.TIMEOUT, "no answer to a ResumeRequest in time")
            case _State.PAUSING:
                self._pause(ConnectionEvent.LEG_LOST, Code.PAUSED, "the hub did not end the stream in time")
            case _:
                self._on_close_deadline(now)

    def _on_close_deadline(self, now: float) -> None:
        if self._request is not None and not self._request.finished:
            self._end_aborted(Code.CLOSE_REQUESTED, "closed here", farewell=Code.CLOSE_REQUESTED)
        elif self._request is None and self.consumer:
            self._send_request(finished=True)
        elif not self._closed_told:
            self._ask_again()
            self._tell_closed()
            self._record_start = self.replay.start
            self._host.arm(self, now + RECORD_BOUND)
        elif self.replay.start != self._record_start:
            # The peer is still reading.
            self._ask_again()
            self._record_start = self.replay.start
            self._host.arm(self, now + RECORD_BOUND)
        else:
            self._machine.fire(ConnectionEvent.ABORTED)
            self._end(Code.CLOSED)

    def _ask_again(self) -> None:
        """A hub that has lost the leg without our knowing says so when it is asked once more."""
        if self._request is not None and self.home is not None:
            self.home.send(self._request)

    def _end_resume_timeout(self) -> None:
        if self.both_finished and not self.replay.held:
            # Everything was taken on both sides; it is only not known here whether the other knows.
            self._end_closed(ConnectionEvent.RESUME_TIMEOUT)
            return
        reason = f"it could not be resumed within {self._host.resume_timeout:g} s"
        self._end_aborted(
            Code.RESUME_TIMEOUT, reason, farewell=Code.RESUME_TIMEOUT, event=ConnectionEvent.RESUME_TIMEOUT
        )

    def _end_aborted(
        self,
        code: int,
        reason: str,
        *,
        farewell: int | None = None,
        event: ConnectionEvent = ConnectionEvent.ABORTED,
    ) -> None:
        """The end for good, with an error; nothing if it has ended."""
        before = self.state
        if before is _State.DISCONNECTED:
            return
        self._machine.fire(event)
        self.error = ConnectionAborted(code, reason)
        self._drop_stream(_final(code))
        self._end(None if farewell is None else _final(farewell))
        if before is _State.CONNECTING:
            self._on_failed()
        elif not self._closed_told:
            self._host.call(self._tell)

    def _end_closed(self, event: ConnectionEvent) -> None:
        self._machine.fire(event)
        self._end(Code.CLOSED)
        self._tell_closed()

    def _end(self, farewell: int | None) -> None:
        home = self.home if self._open else None
        self._detach()
        self.replay.close()
        if self._shrink is not None:
            self._host.arm(self._shrink, None)
        self._host.on_disconnected(self, farewell, home)

    def _drop_stream(self, code: int) -> None:
        if self.s is not None:
            self._engine.reset(self._c, self.s, code)
            self._engine.stop(self._c, self.s, code)

    def _tell_closed(self) -> None:
        if not self._closed_told:
            self._closed_told = True
            self._host.call(self._tell)

    def _on_failed(self) -> None:
        """It ended before it was Connected."""

    # ------------------------------------------------------------------------------------------------- pause and resume

    def on_pause_request(self, packet: PauseRequest) -> None:
        """The hub wants to end this leg (R-4.6)."""
        if packet.epoch != self.epoch:
            return
        if not self._open:
            self._keep_early(packet)
            return
        assert self.home is not None
        self._open = False
        self.home.acks.forget(self)
        self.home.send(PauseAck(self.connection_uid, self.epoch, self.read_offset))
        self._machine.fire(ConnectionEvent.PAUSE_ACK_SENT)
        if self.both_finished and self._fin_passed:
            # Nothing is left of the stream that the hub could close.
            self._pause(ConnectionEvent.STREAM_CLOSED, Code.PAUSED, "the hub has paused it")
        else:
            self._host.arm(self, self._host.now() + PAUSE_BOUND)

    def leave(self, code: Code, reason: str) -> None:
        """End this leg by ourselves (MOVED, LEFT); the conversation goes on in another."""
        if self.state in _IN_LEG:
            self._pause(ConnectionEvent.LEG_LOST, code, reason)

    def on_session_lost(self, reason: str) -> None:
        """The session is gone, and with it this leg."""
        if self.state in _IN_LEG:
            # There is no stream to end any more.
            self.s = None
            self._pause(ConnectionEvent.LEG_LOST, Code.LEFT, reason)
        else:
            self.s = None
            self._end_aborted(Code.PEER_LOST, reason)

    def _pause(self, event: ConnectionEvent, code: int, reason: str) -> None:
        """The leg is over; the stream is ended with ``code``, which must be one that ends legs."""
        if self._request is not None and not self._request.finished:
            self._end_aborted(Code.CLOSE_REQUESTED, "closed here", farewell=Code.CLOSE_REQUESTED)
            return
        self._machine.fire(event)
        self._drop_stream(code if code in _LEG_CODES else Code.LEFT)
        if event is not ConnectionEvent.RESUME_REFUSED:
            self.left = self.home
        self._detach()
        self._resending = None
        self._blocked = True
        if self.paused_at is None:
            self.paused_at = self._host.now()
            self._resume_by = self.paused_at + self._host.resume_timeout
        self._host.arm(self, self._resume_by)
        self._host.on_paused(self, reason)

    def _resume_at(self, home: Home, epoch: int) -> None:
        """A session was found: there the next leg shall be."""
        self._machine.fire(ConnectionEvent.FOUND_SESSION)
        self.epoch = epoch
        self.told_offset = self.read_offset
        self._attach(home)
        self._host.arm(self, min(self._resume_by, self._host.now() + RESUME_STEP))

    def on_resume_ack(self, packet: ResumeAck) -> None:
        """The hub's answer to our ResumeRequest: the streams may be opened, or why not."""
        if packet.epoch != self.epoch or self.state is not _State.RESUMING or self._granted:
            return
        if packet.code != Code.OK:
            self._refused(packet.code, packet.reason, packet.retryable)
            return
        offset, replay = packet.received_offset, self.replay
        if not replay.start <= offset <= replay.end or packet.finished > (self._finished and offset == replay.end):
            self._end_aborted(
                Code.PROTOCOL, "the other endpoint has taken what was never written", farewell=Code.PROTOCOL
            )
            return
        self._granted = True
        self._acknowledge(offset)
        assert self.home is not None
        self.home.want_stream(self)

    def _refused(self, code: int, reason: str, retryable: bool) -> None:
        """The resume was refused, or the other end has said how it ended."""
        if retryable:
            self._pause(ConnectionEvent.RESUME_REFUSED, code, f"resume refused, {code_name(code)}: {reason}")
        else:
            self.on_ended_elsewhere(code, reason)

    def on_ended_elsewhere(self, code: int, reason: str) -> None:
        """The other end can't go on: it has ended in order, or why not."""
        if code == Code.CLOSED and self.both_finished:
            self._drop_stream(Code.CLOSED)
            self._end_closed(ConnectionEvent.ENDED_ELSEWHERE)
        else:
            text = f"the other end can't go on, {code_name(code)}: {reason}" if reason else "the other end can't go on"
            self._end_aborted(code, text, event=ConnectionEvent.ENDED_ELSEWHERE)

    def on_acknowledged(self, epoch: int, offset: int) -> None:
        """A DataAck of this leg."""
        replay = self.replay
        if epoch != self.epoch or not self._open or offset <= replay.start:
            return
        if offset > replay.end:
            self._end_aborted(Code.PROTOCOL, "an acknowledgement of what was never written", farewell=Code.PROTOCOL)
            return
        self._acknowledge(offset)
        if self._resending is not None and self._resending < offset:
            self._resending = offset
        if self._blocked and self._resending is None and replay.room:
            self._blocked = False
            self._host.call(self._tell_writable)

    def _acknowledge(self, offset: int) -> None:
        now, replay = self._host.now(), self.replay
        replay.acknowledge(offset, now)
        if replay.grown and not replay.held:
            self._shrink = self._shrink or _Shrink(replay)
            self._host.arm(self._shrink, now + SHRINK_AFTER)

    def _keep_early(self, packet: CloseRequest | PauseRequest) -> None:
        """It has overtaken the Accept, which comes on another stream."""
        if self.state in (_State.CONNECTING, _State.RESUMING) and len(self._early) < _EARLY:
            self._early.append(packet)

    def _opened(self) -> None:
        """Connected, for the first time or again: application bytes may pass."""
        self.established = self._open = self._may_read = True
        self._host.arm(self, None)
        early, self._early = self._early, []
        for packet in early:
            if isinstance(packet, PauseRequest):
                self.on_pause_request(packet)
            else:
                self.on_close_request(packet)

    # -------------------------------------------------------------------------------------------------- engine's events

    def begin(self, s: int) -> None:
        """Here is the stream of the leg: ours is the first word."""
        self.s = s
        start, taken = self.replay.start, self.read_offset
        if self.state is _State.CONNECTING:
            opening = Opening(OpeningKind.OPEN, self.connection_uid, self.secret)
        else:
            sent, received = (start, taken) if self.consumer else (taken, start)
            opening = Opening(OpeningKind.RESUME, self.connection_uid, self.secret, self.epoch, sent, received)
            self._resending = start
        self._send_head(opening)

    def on_readable(self) -> None:
        """There is something on the stream."""
        if self._reader is not None:
            self._read_head(self._reader)
        elif self._peer_finished:
            self._read_fin_again()
        else:
            self._may_read = True
            self._host.call(self._tell)

    def on_writable(self) -> None:
        """The engine takes more."""
        self._push()
        if self._open and self._blocked and not self._head and self._resending is None:
            self._blocked = False
            self._host.call(self._tell_writable)

    def on_reset(self, code: int) -> None:
        """The peer's sending half was reset."""
        if not self._peer_finished or code in _LEG_CODES:
            self._end_by_peer(code)

    def on_stopped(self, code: int) -> None:
        """The peer wants no more; our sending half was reset."""
        self._end_by_peer(code)

    def _end_by_peer(self, code: int) -> None:
        text = f"ended by the other side ({code_name(Code.PEER_LOST if code == LOST_CODE else code)})"
        if self.state is _State.PAUSING and code == Code.PAUSED:
            self._pause(ConnectionEvent.STREAM_CLOSED, code, text)
        elif self.state is _State.RESUMING and (code in _LEG_CODES or can_retry(code)):
            self._pause(ConnectionEvent.RESUME_REFUSED, code, text)
        elif self.state in _IN_LEG and code in _LEG_CODES:
            self._pause(ConnectionEvent.LEG_LOST, code, text)
        else:
            self._end_aborted(Code.PEER_LOST if code == LOST_CODE else code, text)

    def _read_head(self, reader: PacketReader) -> None:
        """Read the header and not a byte of what follows it."""
        while self._reader is reader and self.s is not None:
            answer = self._engine.read(self._c, self.s, reader.wanted)
            if answer is None or answer == (b"", False):
                return
            data, fin = answer
            try:
                for packet in reader.feed(data):
                    self._reader = None
                    self._early_fin = fin
                    self._on_head(packet)
            except ProtocolError as exc:
                self._end_aborted(exc.code, str(exc), farewell=exc.code)
                return
            # A refusal may have led to another leg meanwhile, which has a reader of its own.
            if fin and self._reader is reader:
                self._end_aborted(Code.PROTOCOL, "the stream ended before its header", farewell=Code.PROTOCOL)
                return

    def _on_head(self, packet: Packet) -> None:
        raise NotImplementedError

    def _on_resumed(self, packet: Accept) -> None:
        """The Accept of a leg after the first: Connected again."""
        if packet.code != Code.OK:
            self._refused(packet.code, packet.reason, can_retry(packet.code))
            return
        self._machine.fire(ConnectionEvent.RESUMED)
        self._host.on_resumed(self)
        self.paused_at = None
        self._opened()
        if self._peer_finished:
            self._read_fin_again()
        self._check_end()
        self._host.call(self._tell)
        self.on_writable()

    def _read_fin_again(self) -> None:
        """A FIN that was taken comes once more in a later leg; there is nothing before it."""
        if (
            self.s is not None
            and not self._early_fin
            and self._engine.read(self._c, self.s, 1)
            not in (
                None,
                (b"", False),
                (b"", True),
            )
        ):
            self._end_aborted(Code.PROTOCOL, "bytes after the FIN", farewell=Code.PROTOCOL)

    def _send_head(self, packet: Packet) -> None:
        self._head = encode(packet)
        self._push()
        self._host.touch()

    def _push(self) -> None:
        """Give the engine what is due before the program's next bytes: header, what is sent again, FIN."""
        s = self.s
        if s is None or self.state is _State.PAUSING:
            return
        if self._head:
            self._head = self._head[self._engine.write(self._c, s, self._head) :]
        if not self._head and self._resending is not None:
            self._resend(s, self._resending)
        if self._finished and not self._head and self._resending is None and not self._fin_passed:
            self._fin_passed = True
            self._engine.finish(self._c, s)

    def _resend(self, s: int, offset: int) -> None:
        while piece := self.replay.piece(offset):
            taken = self._engine.write(self._c, s, piece)
            offset += taken
            if taken < len(piece):
                self._resending = offset
                return
        self._resending = None

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


def _final(code: int) -> int:
    """``code`` for the wire where a connection ends for good: never one that only ends a leg."""
    return Code.PEER_RESET if code in _LEG_CODES else code
