"""One SPN connection at its endpoint, sans-I/O: a conversation that has one leg after the other, pause and resume.

A connection belongs to its endpoint and outlives its legs (:mod:`spnhub.transport.endpoint.connection.leg`), each on a
session. What happens to it is reported (:mod:`spnhub.transport.endpoint.connection.reports`). The two roles are in
:mod:`spnhub.transport.endpoint.connection.roles`; what is said, and its end, in
:mod:`spnhub.transport.endpoint.connection.conversation`.

How it lives on (PROTOCOL.md section 5). What is written is kept until the other endpoint has acknowledged it. When the
leg ends and the conversation doesn't, nothing is read or written until the next leg goes on where the reader is: what
the listener sees of that is a write that takes nothing. A FIN is sent again in every leg, a reset is told by whoever
is asked for the connection later.
"""

from __future__ import annotations

from collections.abc import Callable
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
    PauseRequest,
    ResumeAck,
    ResumeRequest,
)
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.conversation import CLOSE_BOUND, Conversation
from spnhub.transport.endpoint.connection.leg import LEG_CODES, EndpointLeg
from spnhub.transport.endpoint.connection.replay import Shrink
from spnhub.transport.endpoint.connection.reports import ConnectionReport, Disconnected, Paused, Resumed
from spnhub.transport.endpoint.connection.states import ConnectionEvent, ConnectionState
from spnhub.transport.engine import LOST_CODE
from spnhub.transport.errors import can_retry, code_name
from spnhub.transport.protocol import ProtocolError

__all__ = ["PAUSE_BOUND", "RESUME_STEP", "SHRINK_AFTER", "Connection", "Report"]

PAUSE_BOUND: Final = 10.0
"""Seconds that the hub has to end the stream after our PauseAck."""
RESUME_STEP: Final = 12.0
"""Seconds from a ResumeRequest to the Accept: the hub's two steps of 5, and a little."""
SHRINK_AFTER: Final = 5.0
"""Seconds after which a replay buffer that is empty gives back what it had of the budget."""

_State = ConnectionState
_IN_LEG: Final = frozenset({_State.CONNECTED, _State.DISCONNECTING, _State.PAUSING, _State.RESUMING})


class Connection(Conversation):
    """What both roles have in common."""

    def __init__(
        self,
        endpoint: EndpointContext,
        session: SessionStreams[Connection],
        report: Report,
        uid: str = "",
        secret: bytes = b"",
    ) -> None:
        super().__init__(endpoint, uid, secret)
        self._report = report
        self.established = False
        """Whether it has ever been Connected."""
        self.paused_at: float | None = None
        """Since when it has not been Connected."""
        self.left: SessionStreams[Connection] | None = None
        """Where the last leg was."""
        self.peer_gone: SessionStreams[Connection] | None = None
        """Where it was said that the process of the other end is gone, since it was Connected."""
        self._resume_by = 0.0
        self._stopped: int | None = None
        """The peer wants no more, and how its own direction ends is still to come."""
        self._attach(session)

    def _attach(self, session: SessionStreams[Connection]) -> EndpointLeg[Connection]:
        """A new leg, of which there is nothing yet."""
        leg = self._leg = EndpointLeg(self._endpoint.engine, session, self.replay)
        self._stopped = None
        session.attach(self)
        return leg

    def _detach(self) -> None:
        self._open = self._may_read = False
        leg = self._leg
        if leg is not None:
            leg.session.acks.forget(self)
            leg.session.detach(self, leg.stream_id)
            # Whoever is in the middle of something with it finds no stream.
            self._leg = leg.stream_id = None
        self._endpoint.arm(self, None)
        self._endpoint.touch()

    def on_deadline(self) -> None:
        """The one deadline that was armed has come."""
        match self.state:
            case _State.PAUSED:
                self._end_resume_timeout()
            case _State.RESUMING if self._endpoint.now() >= self._resume_by:
                self._end_resume_timeout()
            case _State.RESUMING:
                self._pause(ConnectionEvent.RESUME_REFUSED, Code.TIMEOUT, "no answer to a ResumeRequest in time")
            case _State.PAUSING:
                self._pause(ConnectionEvent.LEG_LOST, Code.PAUSED, "the hub did not end the stream in time")
            case _ if self._open and self._stopped is not None:
                self._end_by_peer(self._stopped)
            case _:
                super().on_deadline()

    def _end(self, closed_notice: int | None) -> None:
        session = self.session if self._open else None
        self._detach()
        self.replay.close()
        if self._shrink is not None:
            self._endpoint.arm(self._shrink, None)
        self._report(self, Disconnected(closed_notice, None if session is None else session.connection_id))

    def _end_resume_timeout(self) -> None:
        reason = f"it could not be resumed within {self._endpoint.options.resume_timeout:g} s"
        self._give_up(ConnectionEvent.RESUME_TIMEOUT, Code.RESUME_TIMEOUT, reason, closed_notice=Code.RESUME_TIMEOUT)

    def end_gone(self) -> None:
        """Nothing holds the other end any more; the hub that knows so hears what has become of it here."""
        session = self.peer_gone
        assert session is not None
        if self._give_up(ConnectionEvent.ENDED_ELSEWHERE, Code.GONE, "the process at the other end is gone"):
            session.send(self.resume_request(self.epoch + 1, Code.GONE))

    def _give_up(self, event: ConnectionEvent, code: Code, reason: str, *, closed_notice: int | None = None) -> bool:
        """It can't be resumed any more; whether that is an error."""
        if self.both_finished and not self.replay.held and self._failing is None:
            # Everything was taken on both sides; it is only not known here whether the other knows. The leg that was
            # to be is left, so that the hub doesn't keep it; how it ended is told where the other asks, or is asked.
            if self._leg is not None:
                self._leg.drop(Code.LEFT)
            self._end_closed(event)
            return False
        self._end_aborted(code, reason, closed_notice=closed_notice, event=event)
        return True

    # ------------------------------------------------------------------------------------------------- the leg's stream

    def begin(self, stream_id: int) -> None:
        """Here is the stream of the leg: ours is the first word."""
        leg = self._leg
        assert leg is not None
        start, taken = self.replay.start, self.read_offset
        if self.state is _State.CONNECTING:
            leg.begin(stream_id, Opening(OpeningKind.OPEN, self.connection_uid, self.secret))
        else:
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
        elif self._peer_finished:
            self._read_fin_again(leg)
        else:
            self._may_read = True
            self._endpoint.call(self._tell)

    def on_reset(self, code: int) -> None:
        """The peer's sending half was reset."""
        if not self._peer_finished or code in LEG_CODES:
            self._end_by_peer(code)

    def on_stopped(self, code: int) -> None:
        """The peer wants no more; our sending half was reset.

        A failure after a FIN has no other sign (D-18), and may overtake the FIN, which comes first for the program.
        """
        if self._peer_finished or code in LEG_CODES or can_retry(code):
            self._end_by_peer(code)
        elif self._open:
            self._stopped = code
            self._endpoint.arm(self, self._endpoint.now() + CLOSE_BOUND)
        elif self.state is _State.RESUMING:
            # It has overtaken the Accept.
            self._stopped = code
        else:
            self._end_by_peer(code)

    def _on_fin(self) -> None:
        if self._stopped is not None:
            self._end_by_peer(self._stopped)
        else:
            super()._on_fin()

    def _end_by_peer(self, code: int) -> None:
        text = f"ended by the other side ({code_name(Code.PEER_LOST if code == LOST_CODE else code)})"
        if self.state is _State.PAUSING and code == Code.PAUSED:
            self._pause(ConnectionEvent.STREAM_CLOSED, code, text)
        elif self.state is _State.RESUMING and (code in LEG_CODES or can_retry(code)):
            self._pause(ConnectionEvent.RESUME_REFUSED, code, text)
        elif self.state in _IN_LEG and code in LEG_CODES:
            self._pause(ConnectionEvent.LEG_LOST, code, text)
        else:
            self._absorb()
            self._end_aborted(Code.PEER_LOST if code == LOST_CODE else code, text)

    def _read_head(self, leg: EndpointLeg[Connection]) -> None:
        try:
            packet = leg.read_head()
            if packet is not None:
                self._on_head(leg, packet)
        except ProtocolError as exc:
            self._end_aborted(exc.code, str(exc), closed_notice=exc.code)

    def _on_head(self, leg: EndpointLeg[Connection], packet: Packet) -> None:
        """The peer's header is there.

        :raises ProtocolError: it isn't the one that had to come.
        """
        raise NotImplementedError

    def _read_fin_again(self, leg: EndpointLeg[Connection]) -> None:
        if not leg.is_silent_after_fin():
            self._end_aborted(Code.PROTOCOL, "bytes after the FIN", closed_notice=Code.PROTOCOL)

    def _opened(self, leg: EndpointLeg[Connection]) -> None:
        """Connected, for the first time or again: application bytes may pass."""
        self.established = self._open = self._may_read = True
        self._endpoint.arm(self, None)
        early, leg.early = leg.early, []
        for packet in early:
            self.on_packet(packet)
        if self._stopped is not None:
            self.on_stopped(self._stopped)

    def on_packet(self, packet: CloseRequest | CloseAck | PauseRequest) -> None:
        """A control packet about a leg of this connection has come on the session that has it."""
        match packet:
            case CloseRequest():
                self.on_close_request(packet)
            case CloseAck():
                self.on_close_ack(packet)
            case PauseRequest():
                self.on_pause_request(packet)
            case _:
                assert_never(packet)

    # ------------------------------------------------------------------------------------------------------------ pause

    def on_pause_request(self, packet: PauseRequest) -> None:
        """The hub wants to end this leg (R-4.6)."""
        leg = self._leg
        if packet.epoch != self.epoch or leg is None:
            return
        if not self._open:
            self._keep_early(leg, packet)
            return
        self._open = False
        leg.session.acks.forget(self)
        leg.session.send(PauseAck(self.connection_uid, self.epoch, self.read_offset))
        self._machine.fire(ConnectionEvent.PAUSE_ACK_SENT)
        if self.both_finished and leg.fin_passed:
            # Nothing is left of the stream that the hub could close.
            self._pause(ConnectionEvent.STREAM_CLOSED, Code.PAUSED, "the hub has paused it")
        else:
            self._endpoint.arm(self, self._endpoint.now() + PAUSE_BOUND)

    def leave(self, code: Code, reason: str) -> None:
        """End this leg by ourselves (MOVED, LEFT); the conversation goes on in another."""
        if self.state in _IN_LEG:
            self._pause(ConnectionEvent.LEG_LOST, code, reason)

    def on_session_lost(self, reason: str) -> None:
        """The session is gone, and with it this leg."""
        if not self._rest:
            self._absorb()
        if self._leg is not None:
            # There is no stream to end any more.
            self._leg.stream_id = None
        if self.state in _IN_LEG:
            self._pause(ConnectionEvent.LEG_LOST, Code.LEFT, reason)
        else:
            self._end_aborted(Code.PEER_LOST, reason)

    def _pause(self, event: ConnectionEvent, code: int, reason: str) -> None:
        """The leg is over; the stream is ended with ``code``, which must be one that ends legs."""
        leg = self._leg
        assert leg is not None
        if leg.request is not None and not leg.request.finished:
            self._end_aborted(Code.CLOSE_REQUESTED, "closed here", closed_notice=Code.CLOSE_REQUESTED)
            return
        if not self._rest:
            # Else a reader that has stopped would be brought more with each leg.
            self._absorb()
        self._machine.fire(event)
        leg.drop(code if code in LEG_CODES else Code.LEFT)
        if event is not ConnectionEvent.RESUME_REFUSED:
            self.left = leg.session
        self._detach()
        self._blocked = True
        if self.paused_at is None:
            self.paused_at = self._endpoint.now()
            self._resume_by = self.paused_at + self._endpoint.options.resume_timeout
        self._endpoint.arm(self, self._resume_by)
        self._report(self, Paused(reason))

    # ----------------------------------------------------------------------------------------------------------- resume

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

    def _resume_at(self, session: SessionStreams[Connection], epoch: int) -> None:
        """A session was found: there the next leg shall be."""
        self._machine.fire(ConnectionEvent.FOUND_SESSION)
        self.epoch = epoch
        self.told_offset = self.read_offset
        self._attach(session)
        self._endpoint.arm(self, min(self._resume_by, self._endpoint.now() + RESUME_STEP))

    def on_resume_ack(self, packet: ResumeAck) -> None:
        """The hub's answer to our ResumeRequest: the streams may be opened, or why not."""
        leg = self._leg
        if packet.epoch != self.epoch or self.state is not _State.RESUMING or leg is None or leg.granted:
            return
        if packet.code != Code.OK:
            self._refused(packet.code, packet.reason, packet.retryable)
            return
        offset, replay = packet.received_offset, self.replay
        if not replay.start <= offset <= replay.end or packet.finished > (self._finished and offset == replay.end):
            self._end_aborted(
                Code.PROTOCOL, "the other endpoint has taken what was never written", closed_notice=Code.PROTOCOL
            )
            return
        leg.granted = True
        self._acknowledge(offset)
        leg.session.want_stream(self, self.begin)

    def _refused(self, code: int, reason: str, retryable: bool) -> None:
        """The resume was refused, or the other end has said how it ended."""
        if retryable:
            self._pause(ConnectionEvent.RESUME_REFUSED, code, f"resume refused, {code_name(code)}: {reason}")
        else:
            self.on_ended_elsewhere(code, reason)

    def on_ended_elsewhere(self, code: int, reason: str) -> None:
        """The other end can't go on: it has ended in order, or why not."""
        if code == Code.CLOSED and self.both_finished:
            if self._leg is not None:
                self._leg.drop(Code.CLOSED)
            self._end_closed(ConnectionEvent.ENDED_ELSEWHERE)
        else:
            text = f"the other end can't go on, {code_name(code)}: {reason}" if reason else "the other end can't go on"
            self._end_aborted(code, text, event=ConnectionEvent.ENDED_ELSEWHERE)

    def _on_resumed(self, leg: EndpointLeg[Connection], packet: Accept) -> None:
        """The Accept of a leg after the first: Connected again."""
        if packet.code != Code.OK:
            self._refused(packet.code, packet.reason, can_retry(packet.code))
            return
        self._machine.fire(ConnectionEvent.RESUMED)
        self._report(self, Resumed())
        self.paused_at = self.peer_gone = None
        self._opened(leg)
        if self._peer_finished:
            self._read_fin_again(leg)
        self._check_end()
        self._check_failed()
        self._endpoint.call(self._tell)
        self.on_writable()

    # ---------------------------------------------------------------------------------------------------- acknowledged

    def on_acknowledged(self, epoch: int, offset: int) -> None:
        """A DataAck of this leg."""
        leg, replay = self._leg, self.replay
        if epoch != self.epoch or not self._open or leg is None or offset <= replay.start:
            return
        if offset > replay.end:
            self._end_aborted(
                Code.PROTOCOL, "an acknowledgement of what was never written", closed_notice=Code.PROTOCOL
            )
            return
        self._acknowledge(offset)
        leg.on_acknowledged(offset)
        if self._failing is not None:
            self._check_failed()
        elif self._blocked and not leg.busy and replay.room:
            self._blocked = False
            self._endpoint.call(self._tell_writable)

    def _acknowledge(self, offset: int) -> None:
        now, replay = self._endpoint.now(), self.replay
        replay.acknowledge(offset, now)
        if replay.grown and not replay.held:
            self._shrink = self._shrink or Shrink(replay)
            self._endpoint.arm(self._shrink, now + SHRINK_AFTER)


Report = Callable[[Connection, ConnectionReport], None]
"""Who is told what becomes of a connection."""
