"""One SPN connection at its endpoint, sans-I/O: one leg after the other, and what is kept to be sent again.

A connection belongs to its endpoint and outlives its legs, each on a session. It implements
:class:`spnhub.transport.endpoint.connection.stream.Stream` for its program. What becomes of it is decided in
:mod:`spnhub.transport.endpoint.connection.transitions`, carried out here, and reported to the endpoint
(:mod:`spnhub.transport.endpoint.connection.reports`). Its parts: :mod:`spnhub.transport.endpoint.connection.leg`,
:mod:`spnhub.transport.endpoint.connection.replay`, :mod:`spnhub.transport.endpoint.connection.rest`.

What is written is kept until the other endpoint has acknowledged it (PROTOCOL.md section 5). When a leg ends and the
connection doesn't, nothing is read or written until the next leg goes on where the reader is: what the program sees of
that is a write that takes nothing. A FIN is sent again in every leg; a reset is reported where the connection is asked
for later. Callbacks to the program go through the endpoint's queue, so they never come from inside a call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, assert_never

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import (
    Accept,
    CloseAck,
    CloseRequest,
    Opening,
    OpeningKind,
    Packet,
    PauseAck,
    ResumeAck,
    ResumeInvite,
    ResumeRequest,
    ToLeg,
)
from spnhub.actors.contract.protocols import is_resumable
from spnhub.dataclass import dataclass
from spnhub.transport.endpoint.connection import happenings as on
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.leg import LEG_CODES, EndpointLeg, check_head
from spnhub.transport.endpoint.connection.replay import Shrink
from spnhub.transport.endpoint.connection.reports import ConnectionReport, Disconnected, Paused, Requested, Resumed
from spnhub.transport.endpoint.connection.rest import Rest
from spnhub.transport.endpoint.connection.sc01 import Sc01Leg, Sc01Streams
from spnhub.transport.endpoint.connection.states import ConnectionState, connection_machine
from spnhub.transport.endpoint.connection.stream import StreamListener
from spnhub.transport.endpoint.connection.transitions import CLOSE_BOUND, Facts, decide
from spnhub.transport.endpoint.kernel.acks import ACK_BYTES
from spnhub.transport.errors import ConnectionAborted, ConnectionRejected, check_code
from spnhub.transport.protocol import ProtocolError

__all__ = ["RECORD_BOUND", "REST_GRACE", "RESUME_STEP", "SHRINK_AFTER", "ConnectCallbacks", "Connection", "Report"]

RESUME_STEP: Final = 12.0
"""Seconds from a ResumeRequest to the Accept: the hub's two steps of 5, and a little."""
REST_GRACE: Final = 1.0
"""Seconds that a program has at least for what had arrived before an error, though it took nothing for that long."""
RECORD_BOUND: Final = 60.0
"""Seconds for which the record is kept after both FINs were counted as the end, and again for as long as the peer
acknowledges: it may take long to read the rest, and an orderly end of the session waits for it."""
SHRINK_AFTER: Final = 5.0
"""Seconds after which a replay buffer that is empty gives back what it had of the budget."""

_CHUNK: Final = 64 * 1024

_State = ConnectionState


@dataclass(frozen=True, slots=True)
class ConnectCallbacks:
    """A consumer's program: one of the two is called, later."""

    on_connected: Callable[[], None]
    on_failed: Callable[[ConnectionAborted | ConnectionRejected], None]


class Connection:
    """One end of a connection. ``read_offset`` and ``written_offset`` count application bytes over all legs.

    :param session: where the first leg is.
    :param report: called with what becomes of the connection.
    :param callbacks: for the consumer that asks for it; None: this is the provider's end.
    :param stream_id: the first leg's stream, where the hub has opened it; None: one is asked for.
    """

    def __init__(
        self,
        endpoint: EndpointContext,
        session: SessionStreams[Connection],
        report: Report,
        callbacks: ConnectCallbacks | None,
        uid: str = "",
        secret: bytes = b"",
        *,
        stream_id: int | None = None,
        until: float,
    ) -> None:
        """:param until: monotonic seconds: when it has failed without an Opening or Accept."""
        self._endpoint = endpoint
        self._report = report
        self._callbacks = callbacks
        self.consumer = callbacks is not None
        self._machine = connection_machine()
        self.state = self._machine.state
        """R-4.11."""
        self.connection_uid = uid
        self.secret = secret
        self.epoch = 0
        self.peer = ""
        self.instance_id = ""
        """Of the other endpoint; empty where the hub doesn't name a provider's."""
        self.read_offset = 0
        self.reported_offset = 0
        self.ack_bytes = ACK_BYTES
        self.ack_time = float("-inf")
        self.replay = endpoint.new_replay()
        self._shrink: Shrink | None = None
        self.error: ConnectionAborted | ConnectionRejected | None = None
        self.established = False
        """Whether it has ever been Connected."""
        self.paused_at: float | None = None
        """Since when it has not been Connected."""
        self._resume_by = 0.0
        self.left: SessionStreams[Connection] | None = None
        """Where the last leg was."""
        self.peer_gone: SessionStreams[Connection] | None = None
        """Where it was said that the process of the other end is gone, since it was Connected."""
        self._leg: EndpointLeg[Connection] | None = None
        self.finished = False
        """The program has ended our direction in order."""
        self.peer_finished = False
        """The program has read the other's FIN."""
        self._second = False
        self._failing: int | None = None
        self._stopped: int | None = None
        self._closed_reported = False
        self._record_start = 0
        self._listener: StreamListener | None = None
        self._blocked = False
        """A write has taken less than it was given."""
        self._may_read = False
        """There may be something on the stream that the program doesn't know of."""
        self._read_time = float("-inf")
        """When the program took something last."""
        self._rest = Rest()
        self.happens(on.SessionFound())
        leg = self._attach(session)
        leg.stream_id = stream_id
        endpoint.arm(self, until)
        if stream_id is None:
            # The Opening leaves at once, so that servers that speak first work (D-29).
            session.want_stream(self, self.begin)

    @property
    def session(self) -> SessionStreams[Connection] | None:
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
    def resumable(self) -> bool:
        """Whether it may go on in another leg."""
        return is_resumable(self.instance_id)

    # ------------------------------------------------------------------------------------------- decide, then carry out

    def happens(self, what: on.Happening) -> None:
        """Decide what becomes of the connection, and do it."""
        leg = self._leg
        facts = Facts(
            self.state,
            self.consumer,
            self.finished,
            self.peer_finished,
            self._second or (leg is not None and leg.asks_first),
            False if leg is None else leg.fin_passed,
            self.replay.held > 0,
            self._failing,
            None if leg is None or leg.request is None else leg.request.finished,
            False if leg is None else leg.requested,
            self._stopped,
            self._closed_reported,
            self.resumable,
        )
        way, actions = decide(facts, what)
        for event in way:
            self.state = self._machine.fire(event)
        for action in actions:
            self._carry_out(action, leg)

    def _carry_out(self, action: on.Action, leg: EndpointLeg[Connection] | None) -> None:
        match action:
            case on.DropRest():
                self._rest.clear()
                self._notify()
            case on.Refuse(code, reason):
                self.error = ConnectionRejected(code, reason, self.connection_uid)
                self._end(None, on_stream=False)
            case on.ReportRequested(opening):
                self._endpoint.arm(self, None)
                self.connection_uid = opening.connection_uid
                self.secret = opening.resume_secret
                self._report(self, Requested())
            case on.ReportConnected():
                assert self._callbacks is not None
                self._endpoint.call(self._callbacks.on_connected)
            case on.ReportFailed():
                assert self._callbacks is not None
                assert self.error is not None
                self._endpoint.call(partial(self._callbacks.on_failed, self.error))
            case on.NotePeer(peer, instance_id):
                self.peer, self.instance_id = peer, instance_id
            case on.Fail(code):
                self._failing = code
            case on.Close(on_stream, drop, report):
                if drop is not None and leg is not None:
                    leg.drop(drop)
                self._end(Code.CLOSED, on_stream=on_stream)
                if report:
                    self._notify_closed()
            case on.Abort():
                self._abort(action, leg)
            case on.ReportClosed():
                self._notify_closed()
            case on.KeepRecord():
                self._record_start = self.replay.start
                self._endpoint.arm(self, self._endpoint.now() + RECORD_BOUND)
            case on.ReportGone():
                assert self.peer_gone is not None
                self.peer_gone.send(self.resume_request(self.epoch + 1, Code.GONE))
            case on.Arm(seconds):
                self._endpoint.arm(self, self._endpoint.now() + seconds)
            case on.NotePeerGone():
                self.peer_gone = self.session
            case on.Notify():
                self._endpoint.call(self._notify)
            case on.NoteStop(code):
                self._stopped = code
            case _:
                assert leg is not None
                self._carry_out_in_leg(action, leg)

    def _carry_out_in_leg(self, action: on.LegAction, leg: EndpointLeg[Connection]) -> None:
        match action:
            case on.PassBytes(resumed):
                self._pass_bytes(leg, resumed=resumed)
            case on.SendAccept():
                self._send_head(leg, Accept(OpeningKind.OPEN, epoch=self.epoch))
            case on.SendRefusal(code, reason):
                self.finished = True
                self._send_head(leg, Accept(OpeningKind.OPEN, code, reason))
                if leg.sends_head:
                    # It is blocked, and the leg ends now: the code says what the Accept would have.
                    leg.reset(code)
            case on.DropStream(code):
                leg.drop(code)
            case on.KeepEarly(packet):
                leg.keep_early(packet)
            case on.NoteRequest():
                leg.requested = True
            case on.SendCloseRequest(finished):
                sent, received = self.written_offset, self.read_offset
                if not self.consumer:
                    sent, received = received, sent
                leg.request = CloseRequest(self.connection_uid, self.epoch, sent, received, finished)
                leg.session.send(leg.request)
            case on.RepeatCloseRequest():
                assert leg.request is not None
                leg.session.send(leg.request)
            case on.SendCloseAck():
                leg.session.send(CloseAck(self.connection_uid, self.epoch))
            case on.SendPauseAck():
                leg.session.acks.forget(self)
                leg.session.send(PauseAck(self.connection_uid, self.epoch, self.read_offset))
            case on.TakeRest(more):
                # A reader that has stopped would be brought more with each leg.
                if more or not self._rest:
                    self._take_rest(leg)
            case on.ForgetStream():
                leg.stream_id = None
            case on.EndLeg():
                self._end_leg(action, leg)
            case _:
                assert_never(action)

    def _attach(self, session: SessionStreams[Connection]) -> EndpointLeg[Connection]:
        """A new leg, of which there is nothing yet."""
        leg: EndpointLeg[Connection]
        if isinstance(session, Sc01Streams):
            leg = Sc01Leg(self._endpoint, session, self.replay)
        else:
            leg = EndpointLeg(self._endpoint.engine, session, self.replay)
        self._leg = leg
        self._stopped = None
        session.attach(self)
        return leg

    def _detach(self) -> None:
        self._may_read = False
        leg = self._leg
        if leg is not None:
            leg.session.acks.forget(self)
            leg.session.detach(self, leg.stream_id)
            # Whoever is in the middle of something with it finds no stream.
            self._leg = leg.stream_id = None
        self._endpoint.arm(self, None)
        self._endpoint.touch()

    def _pass_bytes(self, leg: EndpointLeg[Connection], *, resumed: bool) -> None:
        """Connected, for the first time or again: application bytes may pass."""
        if resumed:
            self._report(self, Resumed())
            self.paused_at = self.peer_gone = None
        self.established = self._may_read = True
        self._endpoint.arm(self, None)
        early, leg.early = leg.early, []
        for packet in early:
            self.on_packet(packet)
        if self._stopped is not None:
            self.happens(on.PeerStopped(self._stopped))
        if resumed:
            if self.peer_finished:
                self._read_fin_again(leg)
            self.happens(on.FinPassed())
            self.happens(on.WritesTaken())
            self._endpoint.call(self._notify)
            self.on_writable()

    def _end_leg(self, action: on.EndLeg, leg: EndpointLeg[Connection]) -> None:
        leg.drop(action.code)
        if action.left:
            self.left = leg.session
        self._detach()
        self._blocked = True
        if self.paused_at is None:
            self.paused_at = self._endpoint.now()
            self._resume_by = self.paused_at + self._endpoint.options.resume_timeout
        self._endpoint.arm(self, self._resume_by)
        self._report(self, Paused(action.reason))

    def _abort(self, action: on.Abort, leg: EndpointLeg[Connection] | None) -> None:
        self.error = ConnectionAborted(action.code, action.reason, self.connection_uid)
        final = _final(action.code)
        if leg is not None:
            leg.drop(final, keep_fin=action.keep_fin)
        self._end(final if action.notice else None, on_stream=action.on_stream)
        if self._rest:
            now = self._endpoint.now()
            self._endpoint.arm(self, max(now + REST_GRACE, self._read_time + CLOSE_BOUND))

    def _end(self, closed_notice: int | None, *, on_stream: bool) -> None:
        """It is over: nothing is kept. For both, see :class:`Disconnected`."""
        session = self.session if on_stream else None
        self._detach()
        self.replay.close()
        if self._shrink is not None:
            self._endpoint.arm(self._shrink, None)
        self._report(self, Disconnected(closed_notice, None if session is None else session.connection_id))

    # --------------------------------------------------------------------------------------------- the Stream interface

    @property
    def paused(self) -> bool:
        """See :attr:`Stream.paused`."""
        return self.state.waits

    def set_listener(self, listener: StreamListener) -> None:
        """See :meth:`Stream.set_listener`."""
        self._listener = listener
        self._endpoint.call(self._notify)

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        """See :meth:`Stream.read`. After the fin it says (b"", False)."""
        if self._rest:
            return self._read_rest(limit)
        if not self.state.passes_bytes or self.peer_finished:
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
        # Less than the limit is all that there was; the engine says when there is more.
        self._may_read = len(data) == limit and not fin
        if fin:
            self.peer_finished = True
            self.happens(on.FinPassed())
        self._endpoint.touch()
        return data, fin

    def _take_rest(self, leg: EndpointLeg[Connection]) -> None:
        if leg.stream_id is None or self.peer_finished or self._failing is not None:
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
            self.peer_finished = True
            self.happens(on.FinPassed())
        if self._rest and self.state is _State.DISCONNECTED:
            self._endpoint.arm(self, self._endpoint.now() + CLOSE_BOUND)
        elif not self._rest:
            self._endpoint.call(self._notify)
            self._endpoint.touch()
        return data, fin

    def write(self, data: bytes) -> int:
        """See :meth:`Stream.write`."""
        if self.finished or self._failing is not None or self.error is not None:
            return 0
        leg = self._leg
        if not self.state.passes_bytes or leg is None or leg.busy:
            self._blocked = True
            return 0
        taken = leg.write(data)
        self._blocked = taken < len(data)
        self._endpoint.touch()
        return taken

    def finish(self) -> None:
        """See :meth:`Stream.finish`."""
        if self.finished or self._failing is not None or self.state in (_State.CONNECTING, _State.DISCONNECTED):
            return
        self.finished = True
        self._second = self.peer_finished
        self._push()
        self.happens(on.FinPassed())
        self._endpoint.touch()

    def fail(self, code: int) -> None:
        """See :meth:`Stream.fail`."""
        check_code(code)
        self._rest.clear()
        self.happens(on.Failed(code))

    def abort(self, code: int) -> None:
        """See :meth:`Stream.abort`."""
        check_code(code)
        self._listener = None
        self._rest.clear()
        self.happens(on.Aborted(code, "aborted here"))

    def cut(self, code: int, reason: str) -> None:
        """The same for the endpoint's owner: the listener is notified."""
        check_code(code)
        self.happens(on.Aborted(code, reason))

    def request_close(self) -> None:
        """Ask for the end although a direction is still open (R-4.5); the other side sees an error, no clean end.

        No callback follows. For a program that has closed and will not read what still comes. The other side is asked
        when it has taken what was written.
        """
        if self.state not in (_State.CONNECTING, _State.DISCONNECTING):
            self._listener = None
            self.fail(Code.CLOSE_REQUESTED)

    def on_writable(self) -> None:
        """The engine takes more."""
        self._push()
        if self._failing is not None:
            self.happens(on.WritesTaken())
        elif self._blocked and self.state.passes_bytes and self._leg is not None and not self._leg.busy:
            self._blocked = False
            self._endpoint.call(self._notify_writable)

    def _push(self) -> None:
        if self._leg is not None and self.state is not _State.PAUSING:
            self._leg.push(finished=self.finished)

    def _send_head(self, leg: EndpointLeg[Connection], packet: Packet) -> None:
        leg.put_head(packet)
        self._push()
        self._endpoint.touch()

    def _discard(self) -> None:
        """Nobody reads any more; the other side goes on until it sees the end."""
        while self.state.passes_bytes:
            answer = self.read(_CHUNK)
            if answer is None or not answer[0] or answer[1]:
                return

    def _notify_closed(self) -> None:
        if not self._closed_reported:
            self._closed_reported = True
            self._endpoint.call(self._notify)

    def _notify(self) -> None:
        """Notify the listener of what is the case now."""
        listener = self._listener
        if self._failing is not None and self.error is None and not self._closed_reported:
            self._discard()
            return
        if listener is None:
            return
        if self._rest:
            listener.on_readable()
        elif self._closed_reported:
            self._listener = None
            listener.on_closed()
        elif self.error is not None:
            self._listener = None
            listener.on_aborted(self.error.code, self.error.reason)
        elif self._may_read and not self.peer_finished:
            listener.on_readable()

    def _notify_writable(self) -> None:
        if self._listener is not None and self.error is None and self._failing is None and not self._closed_reported:
            self._listener.on_writable()

    # ------------------------------------------------------------------------------------------------- the leg's stream

    def begin(self, stream_id: int) -> None:
        """Here is the stream of the leg: ours is the first word."""
        leg = self._leg
        assert leg is not None
        start, taken = self.replay.start, self.read_offset
        if self.state is _State.CONNECTING:
            leg.begin(stream_id, Opening(OpeningKind.OPEN, self.connection_uid, self.secret))
            if leg.asks_first:
                # Nobody answers: it is Connected with its stream.
                self._read_head(leg)
        else:
            # Both ends name the consumer's direction first, so that the hub can compare what they say.
            sent, received = (start, taken) if self.consumer else (taken, start)
            opening = Opening(OpeningKind.RESUME, self.connection_uid, self.secret, self.epoch, sent, received)
            leg.begin(stream_id, opening, again_from=start)
        self._push()
        self._endpoint.touch()

    def on_readable(self) -> None:
        """There is something on the stream."""
        leg = self._leg
        if leg is None:
            return
        if leg.awaits_head:
            self._read_head(leg)
        elif self.peer_finished:
            self._read_fin_again(leg)
        else:
            self._may_read = True
            self._endpoint.call(self._notify)

    def on_reset(self, code: int) -> None:
        """The peer's sending half was reset."""
        self.happens(on.PeerReset(code))

    def on_stopped(self, code: int) -> None:
        """The peer wants no more; our sending half was reset."""
        self.happens(on.PeerStopped(code))

    def _read_head(self, leg: EndpointLeg[Connection]) -> None:
        try:
            packet = leg.read_head()
            if packet is None:
                return
            resuming = self.state is _State.RESUMING
            self.happens(check_head(packet, self.epoch, consumer=self.consumer, resuming=resuming))
        except ProtocolError as exc:
            self.happens(on.Aborted(exc.code, str(exc)))

    def _read_fin_again(self, leg: EndpointLeg[Connection]) -> None:
        if not leg.is_silent_after_fin():
            self.happens(on.Aborted(Code.PROTOCOL, "bytes after the FIN"))

    # -------------------------------------------------------------------------------------------- what others say of it

    def on_packet(self, packet: ToLeg) -> None:
        """A control packet about a leg of this connection has come on the session that has it."""
        if packet.epoch == self.epoch and self._leg is not None:
            self.happens(packet)

    def on_deadline(self) -> None:
        """The one deadline that was armed has come."""
        over = self._endpoint.now() >= self._resume_by
        moved = self.replay.start != self._record_start
        self.happens(on.DeadlinePassed(over, self._endpoint.options.resume_timeout, moved))

    def on_session_lost(self, reason: str) -> None:
        """The session is gone, and with it this leg."""
        self.happens(on.LegSessionLost(reason))

    def leave(self, code: Code, reason: str) -> None:
        """End this leg by ourselves (MOVED, LEFT); the connection goes on in another."""
        self.happens(on.LegLeft(code, reason))

    def end_gone(self) -> None:
        """Nothing holds the other end any more; the hub that knows so hears what has become of it here."""
        self.happens(on.PeerProcessGone())

    # ----------------------------------------------------------------------------------------------- answers and resume

    def accept(self) -> None:
        """A provider's: say yes. It is Connected now (D-16).

        :raises ConnectionAborted: it has ended meanwhile.
        :raises LocalProtocolError: it was answered before.
        """
        if isinstance(self.error, ConnectionAborted):
            raise self.error
        self.happens(on.Accepted())

    def reject(self, code: int, reason: str) -> None:
        """Say no; a provider's ``code`` and ``reason`` reach the consumer. Nothing happens if it has ended meanwhile.

        :raises ConfigurationError: the code can't be sent.
        :raises LocalProtocolError: it was accepted.
        """
        check_code(code)
        self.happens(on.Rejected(code, reason))

    def resume(self, session: SessionStreams[Connection]) -> None:
        """A consumer's: ask for the next leg at ``session``. Each attempt takes a new epoch."""
        self._resume_at(session, self.epoch + 1, None)

    def accept_invite(self, session: SessionStreams[Connection], invite: ResumeInvite, instance_id: str) -> bool:
        """A provider's: go on at ``session``, in a leg of a higher epoch; the leg that there is, is left.

        False: it has ended instead, since its program had asked for the end.
        """
        # The consumer has given that leg up, though nothing here shows it: its hub may be cut off from one side only.
        self.leave(Code.LEFT, "invited to another leg")
        if self.state is _State.DISCONNECTED:
            return False
        self._resume_at(session, invite.epoch, instance_id)
        return True

    def _resume_at(self, session: SessionStreams[Connection], epoch: int, instance_id: str | None) -> None:
        self.happens(on.SessionFound())
        self.epoch = epoch
        # The request itself says how far the program has read.
        self.reported_offset = self.read_offset
        self._attach(session)
        self._endpoint.arm(self, min(self._resume_by, self._endpoint.now() + RESUME_STEP))
        session.send(self.resume_request(epoch, instance_id=instance_id))

    def resume_request(self, epoch: int, code: int = Code.OK, instance_id: str | None = None) -> ResumeRequest:
        """What the hub is asked with, or answered.

        :param instance_id: the instance that it names; None: the other endpoint's.
        """
        return ResumeRequest(
            self.connection_uid,
            self.secret,
            epoch,
            self.read_offset,
            self.peer_finished,
            code,
            self.peer,
            self.instance_id if instance_id is None else instance_id,
        )

    def on_resume_ack(self, packet: ResumeAck) -> None:
        """The hub's answer to our ResumeRequest: the streams may be opened, or why not."""
        leg = self._leg
        if packet.epoch != self.epoch or self.state is not _State.RESUMING or leg is None or leg.granted:
            return
        if packet.code != Code.OK:
            self.happens(on.LegRefused(packet.code, packet.reason, packet.retryable))
            return
        offset, replay = packet.received_offset, self.replay
        # Before the start nothing is kept that could be sent again, and beyond the end nothing was written: the bytes
        # would be others than those that the reader expects.
        if not replay.start <= offset <= replay.end or packet.finished > (self.finished and offset == replay.end):
            self.happens(on.Aborted(Code.PROTOCOL, "the other endpoint has taken what was never written"))
            return
        leg.granted = True
        self._acknowledge(offset)
        leg.session.want_stream(self, self.begin)

    def on_acknowledged(self, epoch: int, offset: int) -> None:
        """A DataAck of this leg."""
        leg, replay = self._leg, self.replay
        # One of an earlier leg may come late; the resume has said as much, or more.
        if epoch != self.epoch or not self.state.passes_bytes or leg is None or offset <= replay.start:
            return
        if offset > replay.end:
            self.happens(on.Aborted(Code.PROTOCOL, "an acknowledgement of what was never written"))
            return
        self._acknowledge(offset)
        leg.on_acknowledged(offset)
        if self._failing is not None:
            self.happens(on.WritesTaken())
        elif self._blocked and not leg.busy and replay.room:
            self._blocked = False
            self._endpoint.call(self._notify_writable)

    def _acknowledge(self, offset: int) -> None:
        now, replay = self._endpoint.now(), self.replay
        replay.acknowledge(offset, now)
        if replay.grown and not replay.held:
            self._shrink = self._shrink or Shrink(replay)
            self._endpoint.arm(self._shrink, now + SHRINK_AFTER)


Report = Callable[[Connection, ConnectionReport], None]
"""Called with what becomes of a connection."""


def _final(code: int) -> int:
    """``code`` for the wire where a connection ends for good: never one that only ends a leg."""
    return Code.PEER_RESET if code in LEG_CODES else code
