"""What two programs say to each other, at one end: bytes and their offsets, whichever leg they take, and how it ends.

Implements :class:`spnhub.transport.endpoint.connection.stream.Stream`. Callbacks to listeners go through the host's
queue, so they never come from inside a call. :mod:`spnhub.transport.endpoint.connection.connection` is the same with
more than one leg.

How it ends (R-4.5, D-17). Once both FINs are through (ours sent, the peer's read), the side whose FIN came second asks
with a CloseRequest. The provider's came second if it had read the consumer's before it sent its own, likewise the
consumer's. If the two crossed, the consumer asks, after :data:`TIE` without a request from the provider. Whoever is
asked answers with a CloseAck as soon as both FINs are through on its side, too. Everything else is an abort: reset and
stop, never a FIN.

QUIC's reset drops what is under way. So where a program has failed (:meth:`Conversation.fail`), the abort waits until
the other side has acknowledged everything that was written before (D-34), in this leg or a later one. A FIN that was
written before, too, is left to QUIC, and the stop alone tells of the failure.
"""

from __future__ import annotations

from typing import Any, Final

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import CloseAck, CloseRequest, Packet, PauseRequest
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.leg import LEG_CODES, EndpointLeg
from spnhub.transport.endpoint.connection.replay import Shrink
from spnhub.transport.endpoint.connection.rest import Rest
from spnhub.transport.endpoint.connection.states import ConnectionEvent, ConnectionState, connection_machine
from spnhub.transport.endpoint.connection.stream import StreamListener
from spnhub.transport.endpoint.kernel.acks import ACK_BYTES
from spnhub.transport.errors import ConnectionAborted, ConnectionRejected

__all__ = ["CLOSE_BOUND", "RECORD_BOUND", "REST_GRACE", "TIE", "Conversation"]

TIE: Final = 1.0
"""Seconds that the consumer leaves the provider to ask first when their FINs crossed."""
CLOSE_BOUND: Final = 10.0
"""Seconds after which both FINs alone count as the end for the listener, an unanswered CloseRequest(finished = False)
becomes an abort, and what a failed program has written isn't waited for any more if nothing of it was taken."""
REST_GRACE: Final = 1.0
"""Seconds that a program has at least for what had arrived before an error, though it took nothing for that long."""
RECORD_BOUND: Final = 60.0
"""Seconds for which the record is kept after that, and again for as long as the peer acknowledges: it may take long to
read the rest, and an orderly end of the session waits for it."""

_CHUNK: Final = 64 * 1024
_FAILED: Final = "ended here with an error"

_State = ConnectionState


class Conversation:
    """One end of it. ``read_offset`` and ``written_offset`` count application bytes over all legs."""

    consumer = False

    def __init__(self, endpoint: EndpointContext, uid: str, secret: bytes) -> None:
        self._endpoint = endpoint
        self._machine = connection_machine()
        self._machine.fire(ConnectionEvent.FOUND_SESSION)
        self.connection_uid = uid
        self.secret = secret
        self.epoch = 0
        self.peer = ""
        self.instance_id = ""
        """Of the other endpoint; empty where the hub doesn't tell a provider."""
        self.read_offset = 0
        self.told_offset = 0
        self.ack_bytes = ACK_BYTES
        self.ack_time = float("-inf")
        self.replay = endpoint.new_replay()
        self.error: ConnectionAborted | ConnectionRejected | None = None
        self._leg: EndpointLeg[Any] | None = None
        self._open = False
        """The leg passes application bytes on."""
        self._listener: StreamListener | None = None
        self._blocked = False
        self._finished = False
        self._peer_finished = False
        self._second = False
        self._read_time = float("-inf")
        """When the program took something last."""
        self._rest = Rest()
        self._failing: int | None = None
        """The program has ended with this error; the other side shall have everything first."""
        self._closed_told = False
        self._record_start = 0
        self._may_read = False
        self._shrink: Shrink | None = None

    @property
    def state(self) -> ConnectionState:
        """R-4.11."""
        return self._machine.state

    @property
    def session(self) -> SessionStreams[Any] | None:
        """Where the leg is; None: there is no leg."""
        return None if self._leg is None else self._leg.session

    @property
    def stream_id(self) -> int | None:
        """The leg's stream; None: there is none, or not yet."""
        return None if self._leg is None else self._leg.stream_id

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

    @property
    def paused(self) -> bool:
        """See :attr:`Stream.paused`."""
        return self.state in (_State.PAUSING, _State.PAUSED, _State.RESUMING)

    def set_listener(self, listener: StreamListener) -> None:
        """See :meth:`Stream.set_listener`."""
        self._listener = listener
        self._endpoint.call(self._tell)

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        """See :meth:`Stream.read`. After the fin it says (b"", False)."""
        if self._rest:
            return self._read_rest(limit)
        if not self._open or self._peer_finished:
            return None if self.error is not None else (b"", False)
        leg = self._leg
        assert leg is not None
        answer = leg.read(limit)
        if answer is None:
            return b"", False
        data, fin = answer
        if data:
            self.read_offset += len(data)
            self._read_time = self._endpoint.now()
            leg.session.acks.took(self)
        self._may_read = len(data) == limit and not fin
        if fin:
            self._peer_finished = True
            self._on_fin()
        self._endpoint.touch()
        return data, fin

    def _absorb(self) -> None:
        """The leg is being lost: take what it has brought, which may never come again."""
        leg = self._leg
        if not self._open or leg is None or leg.stream_id is None or self._peer_finished or self._failing is not None:
            return
        while (answer := leg.read(_CHUNK)) is not None:
            data, fin = answer
            self._rest.add(data, fin)
            self.read_offset += len(data)
            if fin or not data:
                return

    def _read_rest(self, limit: int) -> tuple[bytes, bool]:
        data, fin = self._rest.take(limit)
        if fin:
            self._peer_finished = True
            self._on_fin()
        if self._rest and self.state is _State.DISCONNECTED:
            self._endpoint.arm(self, self._endpoint.now() + CLOSE_BOUND)
        elif not self._rest:
            self._endpoint.call(self._tell)
            self._endpoint.touch()
        return data, fin

    def write(self, data: bytes) -> int:
        """See :meth:`Stream.write`."""
        if self._finished or self._failing is not None or self.error is not None:
            return 0
        leg = self._leg
        if not self._open or leg is None or leg.busy:
            self._blocked = True
            return 0
        taken = leg.write(data)
        self._blocked = taken < len(data)
        self._endpoint.touch()
        return taken

    def finish(self) -> None:
        """See :meth:`Stream.finish`."""
        if self._finished or self._failing is not None or self.state in (_State.CONNECTING, _State.DISCONNECTED):
            return
        self._finished = True
        self._second = self._peer_finished
        self._push()
        self._check_end()
        self._endpoint.touch()

    def fail(self, code: int) -> None:
        """See :meth:`Stream.fail`."""
        self._rest.clear()
        if self.state is _State.CONNECTING:
            self._end_aborted(code, _FAILED, closed_notice=code)
        elif self.state is _State.DISCONNECTED:
            self._endpoint.call(self._tell)
            self._endpoint.touch()
        elif not self.both_finished and self._failing is None:
            self._failing = code
            self._check_failed()
            self._endpoint.call(self._tell)
            self._endpoint.touch()

    def abort(self, code: int) -> None:
        """See :meth:`Stream.abort`."""
        self._listener = None
        self._rest.clear()
        self._end_aborted(code, "aborted here", closed_notice=code)

    def cut(self, code: int, reason: str) -> None:
        """The same for the endpoint's owner: the listener is told."""
        self._end_aborted(code, reason, closed_notice=code)

    def on_writable(self) -> None:
        """The engine takes more."""
        self._push()
        if self._failing is not None:
            self._check_failed()
        elif self._open and self._blocked and self._leg is not None and not self._leg.busy:
            self._blocked = False
            self._endpoint.call(self._tell_writable)

    def _push(self) -> None:
        if self._leg is not None and self.state is not _State.PAUSING:
            self._leg.push(finished=self._finished)

    def _send_head(self, packet: Packet) -> None:
        assert self._leg is not None
        self._leg.put_head(packet)
        self._push()
        self._endpoint.touch()

    # ------------------------------------------------------------------------------------------------- the orderly end

    def request_close(self) -> None:
        """Ask for the end although a direction is still open (R-4.5); the other side sees an error, no clean end.

        No callback follows. For a program that has closed and will not read what still comes. The other side is asked
        when it has taken what was written.
        """
        if self.state not in (_State.CONNECTING, _State.DISCONNECTING):
            self._listener = None
            self.fail(Code.CLOSE_REQUESTED)

    def _send_request(self, leg: EndpointLeg[Any], *, finished: bool) -> None:
        sent, received = self.written_offset, self.read_offset
        if not self.consumer:
            sent, received = received, sent
        leg.request = CloseRequest(self.connection_uid, self.epoch, sent, received, finished)
        leg.session.send(leg.request)
        self._machine.fire(ConnectionEvent.CLOSE_REQUEST_SENT)
        self._endpoint.arm(self, self._endpoint.now() + CLOSE_BOUND)

    def _check_end(self) -> None:
        """Both FINs may be through: answer, ask, or wait to be asked."""
        leg = self._leg
        if not self._open or leg is None or not self.both_finished:
            return
        if self._failing is not None and leg.asked is None:
            # What it has read was thrown away: no orderly end, unless the other side sees one already.
            return
        if leg.asked is not None:
            leg.session.send(CloseAck(self.connection_uid, self.epoch))
            self._end_closed(ConnectionEvent.STREAM_CLOSED)
        elif leg.request is None:
            if self._second:
                self._send_request(leg, finished=True)
            else:
                self._endpoint.arm(self, self._endpoint.now() + (TIE if self.consumer else CLOSE_BOUND))

    def on_close_request(self, packet: CloseRequest) -> None:
        """The other endpoint asks for the end."""
        leg = self._leg
        if packet.epoch != self.epoch or leg is None:
            return
        if not self._open:
            self._keep_early(leg, packet)
        elif not packet.finished:
            leg.session.send(CloseAck(self.connection_uid, self.epoch))
            self._end_aborted(
                Code.CLOSE_REQUESTED, "the other endpoint asked to close", closed_notice=Code.CLOSE_REQUESTED
            )
        elif not self._finished:
            self._end_aborted(
                Code.PROTOCOL, "a CloseRequest counts a FIN that was never sent", closed_notice=Code.PROTOCOL
            )
        else:
            leg.asked = packet
            self._machine.fire(ConnectionEvent.CLOSE_REQUEST_RECEIVED)
            self._check_end()

    def on_close_ack(self, packet: CloseAck) -> None:
        """The other endpoint agrees to the end."""
        leg = self._leg
        if packet.epoch != self.epoch or leg is None or leg.request is None or not self._open:
            return
        if leg.request.finished:
            self._end_closed(ConnectionEvent.STREAM_CLOSED)
        else:
            self._end_aborted(Code.CLOSE_REQUESTED, "closed here", closed_notice=Code.CLOSE_REQUESTED)

    def _keep_early(self, leg: EndpointLeg[Any], packet: CloseRequest | PauseRequest) -> None:
        if self.state in (_State.CONNECTING, _State.RESUMING):
            leg.keep_early(packet)

    def on_deadline(self) -> None:
        """The one deadline that was armed has come."""
        leg, now = self._leg, self._endpoint.now()
        if self.state is _State.DISCONNECTED:
            # Nobody has read the rest for long.
            self._rest.clear()
            self._tell()
        elif self.state is _State.CONNECTING:
            self._end_aborted(Code.TIMEOUT, "no answer in time")
        elif leg is None:
            return
        elif self._failing is not None and leg.request is None:
            self._end_aborted(self._failing, "the other side takes nothing any more", closed_notice=self._failing)
        elif leg.request is not None and not leg.request.finished:
            self._end_aborted(Code.CLOSE_REQUESTED, "closed here", closed_notice=Code.CLOSE_REQUESTED)
        elif leg.request is None and self.consumer:
            self._send_request(leg, finished=True)
        elif not self._closed_told or self.replay.start != self._record_start:
            # Once, and then for as long as the peer goes on reading. A hub that has lost the leg without our knowing
            # says so when it is asked once more.
            if leg.request is not None:
                leg.session.send(leg.request)
            self._tell_closed()
            self._record_start = self.replay.start
            self._endpoint.arm(self, now + RECORD_BOUND)
        else:
            self._machine.fire(ConnectionEvent.ABORTED)
            self._end(Code.CLOSED)

    # -------------------------------------------------------------------------------------------------------- the end

    def _check_failed(self) -> None:
        """The other side may have taken everything that was written before the failure: then it is told."""
        code, leg = self._failing, self._leg
        if code is None or self.state in (_State.PAUSING, _State.RESUMING):
            return
        if self.replay.held or (self._finished and not (self._open and leg is not None and leg.fin_passed)):
            if self._open:
                self._endpoint.arm(self, self._endpoint.now() + CLOSE_BOUND)
        elif code == Code.CLOSE_REQUESTED and self._open and leg is not None:
            # Who has asked for the end, and has both FINs, is answered when ours is read.
            if leg.request is None and leg.asked is None:
                self._send_request(leg, finished=False)
        else:
            self._end_aborted(code, _FAILED, closed_notice=code, keep_fin=self._finished)

    def _discard(self) -> None:
        """Nobody reads any more; the other side goes on until it is told."""
        while self._open:
            answer = self.read(_CHUNK)
            if answer is None or not answer[0] or answer[1]:
                return

    def _on_fin(self) -> None:
        """The other's FIN was read."""
        self._check_end()

    def _end_aborted(
        self,
        code: int,
        reason: str,
        *,
        closed_notice: int | None = None,
        event: ConnectionEvent = ConnectionEvent.ABORTED,
        keep_fin: bool = False,
    ) -> None:
        """The end for good, with an error; nothing if it has ended. ``keep_fin``: see :meth:`EndpointLeg.drop`."""
        before = self.state
        if before is _State.DISCONNECTED:
            return
        self._machine.fire(event)
        self.error = ConnectionAborted(code, reason)
        if self._leg is not None:
            self._leg.drop(_final(code), keep_fin=keep_fin)
        self._end(None if closed_notice is None else _final(closed_notice))
        if self._rest:
            now = self._endpoint.now()
            self._endpoint.arm(self, max(now + REST_GRACE, self._read_time + CLOSE_BOUND))
        if before is _State.CONNECTING:
            self._on_failed()
        elif not self._closed_told:
            self._endpoint.call(self._tell)

    def _end_closed(self, event: ConnectionEvent) -> None:
        self._machine.fire(event)
        self._end(Code.CLOSED)
        self._tell_closed()

    def _end(self, closed_notice: int | None) -> None:
        """It is over: nothing is kept. ``closed_notice``: see :class:`Disconnected`."""
        raise NotImplementedError

    def _on_failed(self) -> None:
        """It ended before it was Connected."""

    def _tell_closed(self) -> None:
        if not self._closed_told:
            self._closed_told = True
            self._endpoint.call(self._tell)

    # --------------------------------------------------------------------------------------------- telling the listener

    def _tell(self) -> None:
        """Tell the listener what is the case now."""
        listener = self._listener
        if self._failing is not None and self.error is None and not self._closed_told:
            self._discard()
            return
        if listener is None:
            return
        if self._rest:
            listener.on_readable()
        elif self._closed_told:
            self._listener = None
            listener.on_closed()
        elif self.error is not None:
            self._listener = None
            listener.on_aborted(self.error.code, self.error.reason)
        elif self._may_read and not self._peer_finished:
            listener.on_readable()

    def _tell_writable(self) -> None:
        if self._listener is not None and self.error is None and self._failing is None and not self._closed_told:
            self._listener.on_writable()


def _final(code: int) -> int:
    """``code`` for the wire where a connection ends for good: never one that only ends a leg."""
    return Code.PEER_RESET if code in LEG_CODES else code
