"""What becomes of a connection at its endpoint when something happens, as a pure function: all transitions are here.

The states and the ways between them are the table in :mod:`spnhub.transport.endpoint.connection.states`;
:func:`decide` says which of these ways is taken and what has to be done on it, and
:class:`spnhub.transport.endpoint.connection.connection.Connection` does it.

How a connection ends in order (R-4.5, D-17). Once both FINs are through (ours sent, the peer's read), the side whose
FIN came second asks with a CloseRequest. The provider's came second if it had read the consumer's before it sent its
own, likewise the consumer's. If the two crossed, the consumer asks, after :data:`TIE` without a request from the
provider. The other side answers with a CloseAck as soon as both FINs are through there, too. Everything else is an
abort: reset and stop, never a FIN.

QUIC's reset drops what is under way. So where a program has failed, the abort waits until the other side has
acknowledged everything that was written before (D-34), in this leg or a later one. A FIN that was written before is
left to QUIC, too, and the stop alone is the sign of the failure.

A leg may end and the connection not: the hub pauses it, its session is lost or left, or the other side leaves it. Then
the connection is Paused until it is resumed in another leg, the other end has ended, or the resume timeout is over.
"""

from __future__ import annotations

from typing import Final, NamedTuple, assert_never

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, CloseAck, CloseRequest, Opening, PauseRequest
from spnhub.transport.endpoint.connection.happenings import (
    Abort,
    Aborted,
    Accepted,
    Action,
    Arm,
    Close,
    DeadlinePassed,
    DropRest,
    DropStream,
    EndedElsewhere,
    EndLeg,
    Fail,
    Failed,
    FinPassed,
    ForgetStream,
    Happening,
    KeepEarly,
    KeepRecord,
    LegLeft,
    LegRefused,
    LegSessionLost,
    NotePeer,
    NotePeerGone,
    NoteRequest,
    NoteStop,
    Notify,
    PassBytes,
    PeerProcessGone,
    PeerReset,
    PeerStopped,
    Refuse,
    Rejected,
    RepeatCloseRequest,
    ReportClosed,
    ReportConnected,
    ReportFailed,
    ReportGone,
    ReportRequested,
    SendAccept,
    SendCloseAck,
    SendCloseRequest,
    SendPauseAck,
    SendRefusal,
    SessionFound,
    TakeRest,
    WritesTaken,
)
from spnhub.transport.endpoint.connection.leg import LEG_CODES
from spnhub.transport.endpoint.connection.states import ConnectionEvent, ConnectionState
from spnhub.transport.engine import LOST_CODE
from spnhub.transport.errors import LocalProtocolError, can_retry, code_name

__all__ = ["CLOSE_BOUND", "NOTHING", "PAUSE_BOUND", "TIE", "Facts", "Transition", "decide"]

TIE: Final = 1.0
"""Seconds that the consumer leaves the provider to ask first when their FINs crossed."""
CLOSE_BOUND: Final = 10.0
"""Seconds after which both FINs alone count as the end for the listener, an unanswered CloseRequest(finished = False)
becomes an abort, and what a failed program has written isn't waited for any more if nothing of it was taken."""
PAUSE_BOUND: Final = 10.0
"""Seconds that the hub has to end the stream after our PauseAck."""

_FAILED: Final = "ended here with an error"
_CLOSED_HERE: Final = "closed here"

_S = ConnectionState
_E = ConnectionEvent
_NOT_YET: Final = (_S.CONNECTING, _S.RESUMING)
_WAITING: Final = (_S.PAUSED, _S.RESUMING)


class Facts(NamedTuple):
    """What a decision depends on."""

    state: ConnectionState
    consumer: bool
    finished: bool = False
    """The program has ended our direction in order."""
    peer_finished: bool = False
    """The program has read the other's FIN."""
    second: bool = False
    """Our FIN came after that."""
    fin_passed: bool = False
    """Our FIN is with the engine, in this leg."""
    unacknowledged: bool = False
    """The other side hasn't taken everything that was written."""
    failing: int | None = None
    """The program has ended with this error; the other side shall have everything first."""
    request: bool | None = None
    """Whether our CloseRequest of this leg says that both FINs are through; None: none was sent."""
    requested: bool = False
    """The other side has sent such a CloseRequest in this leg."""
    stopped: int | None = None
    """The peer wants no more, and how its own direction ends is still to come."""
    closed_reported: bool = False
    """The program's listener was notified that both directions have ended in order."""
    resumable: bool = True
    """The other endpoint may go on in another leg; else the connection ends with its leg."""

    @property
    def both_finished(self) -> bool:
        """Both directions have ended in order, as far as this side can see."""
        return self.finished and self.peer_finished


class Transition(NamedTuple):
    """The way through the table, from the state that there is, and what is to be done there."""

    way: tuple[ConnectionEvent, ...] = ()
    actions: tuple[Action, ...] = ()


NOTHING: Final = Transition()


def decide(at: Facts, what: Happening) -> Transition:
    """What becomes of a connection when ``what`` happens; :data:`NOTHING`: it changes nothing.

    :raises LocalProtocolError: the program asks for something that is not possible in this state.
    """
    match what:
        case Accepted():
            return _accepted(at)
        case DeadlinePassed() if at.state is _S.DISCONNECTED:
            return Transition((), (DropRest(),))
        case Failed() if at.state is _S.DISCONNECTED:
            return Transition((), (Notify(),))
        case _ if at.state is _S.DISCONNECTED:
            return NOTHING
        case SessionFound():
            if at.state not in (_S.LOOKING_UP_SESSION, _S.PAUSED):
                raise LocalProtocolError(f"a connection that is {at.state.value} looks for no session")
            return Transition((_E.FOUND_SESSION,))
        case Rejected(code, reason):
            if at.state is not _S.CONNECTING:
                raise LocalProtocolError("an accepted connection can't be rejected")
            return _refused(at, code, reason)
        case Opening():
            return _requested(what) if at.state is _S.CONNECTING and not at.consumer else NOTHING
        case Accept() if at.state is _S.RESUMING:
            return _resume_answered(at, what)
        case Accept():
            return _answered(at, what) if at.state is _S.CONNECTING and at.consumer else NOTHING
        case LegRefused():
            return _resume_refused(at, what) if at.state is _S.RESUMING else NOTHING
        case EndedElsewhere(code, reason):
            return _ended_elsewhere(at, code, reason) if at.state in _WAITING else NOTHING
        case PeerProcessGone():
            return _peer_gone(at) if at.state in _WAITING else NOTHING
        case CloseRequest() | PauseRequest() if at.state in _NOT_YET:
            return Transition((), (KeepEarly(what),))
        case CloseRequest() if at.state.passes_bytes:
            return _close_requested(at, finished=what.finished)
        case CloseAck() if at.state is _S.DISCONNECTING:
            return _close_acknowledged(at)
        case PauseRequest() if at.state.passes_bytes:
            return _pause_requested(at)
        case CloseRequest() | CloseAck() | PauseRequest():
            return NOTHING
        case LegLeft(code, reason):
            # A connection that can't be resumed stays where it is, as long as that holds.
            return _end_leg(at, _E.LEG_LOST, code, reason) if at.state.may_pause and at.resumable else NOTHING
        case LegSessionLost(reason):
            return _session_gone(at, reason)
        case PeerReset(code):
            return _ended_by_peer(at, code) if not at.peer_finished or code in LEG_CODES else NOTHING
        case PeerStopped(code):
            return _stopped(at, code)
        case FinPassed():
            return _ended_by_peer(at, at.stopped) if at.stopped is not None and at.peer_finished else _end_in_order(at)
        case WritesTaken():
            return _end_failed(at)
        case Failed(code):
            return _failed(at, code)
        case Aborted(code, reason):
            return _abort(at, code, reason, notice=True)
        case DeadlinePassed():
            return _deadline(at, what)
        case _:
            assert_never(what)


def _accepted(at: Facts) -> Transition:
    if at.state is not _S.CONNECTING:
        raise LocalProtocolError(f"a connection that is {at.state.value} can't be accepted")
    return _established(at)


def _established(at: Facts) -> Transition:
    if at.stopped in LEG_CODES:
        # It has overtaken the Accept: that leg is over already.
        return _ended_by_peer(at, at.stopped)
    report = ReportConnected() if at.consumer else SendAccept()
    return Transition((_E.ESTABLISHED,), (report, PassBytes(resumed=False)))


def _refused(at: Facts, code: int, reason: str) -> Transition:
    refuse = Refuse(code, reason)
    if at.consumer:
        return Transition((_E.REFUSED,), (DropStream(code), refuse, ReportFailed()))
    # The stream isn't stopped: the stop could overtake the Accept. The hub ends its half when it has read that.
    return Transition((_E.REFUSED,), (SendRefusal(code, reason), refuse))


def _requested(opening: Opening) -> Transition:
    return Transition((), (NotePeer(opening.peer, opening.instance_id), ReportRequested(opening)))


def _answered(at: Facts, accept: Accept) -> Transition:
    if accept.code != Code.OK:
        return _refused(at, accept.code, accept.reason)
    then = _established(at)
    return Transition(then.way, (NotePeer(accept.peer, accept.instance_id), *then.actions))


def _resume_answered(at: Facts, accept: Accept) -> Transition:
    if accept.code != Code.OK:
        return _resume_refused(at, LegRefused(accept.code, accept.reason, can_retry(accept.code)))
    return Transition((_E.RESUMED,), (PassBytes(resumed=True),))


def _resume_refused(at: Facts, what: LegRefused) -> Transition:
    # That the provider's process is gone is what one hub knows; another may have it alive.
    gone = at.consumer and what.code == Code.GONE
    if not what.retryable and not gone:
        return _ended_elsewhere(at, what.code, what.reason)
    text = f"resume refused, {code_name(what.code)}: {what.reason}"
    end = _end_leg(at, _E.RESUME_REFUSED, what.code, text)
    return Transition(end.way, (NotePeerGone(), *end.actions)) if gone else end


def _ended_elsewhere(at: Facts, code: int, reason: str) -> Transition:
    if code == Code.CLOSED and at.both_finished:
        return Transition((_E.ENDED_ELSEWHERE,), (Close(on_stream=False, drop=Code.CLOSED),))
    text = f"the other end can't go on, {code_name(code)}: {reason}" if reason else "the other end can't go on"
    return _abort(at, code, text, way=_E.ENDED_ELSEWHERE)


def _peer_gone(at: Facts) -> Transition:
    end = _give_up(at, _E.ENDED_ELSEWHERE, Code.GONE, "the process at the other end is gone", notice=False)
    return Transition(end.way, (*end.actions, ReportGone())) if isinstance(end.actions[0], Abort) else end


def _give_up(at: Facts, way: ConnectionEvent, code: int, reason: str, *, notice: bool) -> Transition:
    """It can't be resumed any more; whether that is an error."""
    if at.both_finished and not at.unacknowledged and at.failing is None:
        # Everything was taken on both sides; it is only not known here whether the other knows. The leg that was to be
        # is left, so that the hub doesn't keep it; how it ended is said where the other asks, or is asked.
        return Transition((way,), (Close(on_stream=False, drop=Code.LEFT),))
    return _abort(at, code, reason, notice=notice, way=way)


def _close_requested(at: Facts, *, finished: bool) -> Transition:
    if not finished:
        end = _abort(at, Code.CLOSE_REQUESTED, "the other endpoint asked to close", notice=True)
        return Transition(end.way, (SendCloseAck(), *end.actions))
    if not at.finished:
        return _abort(at, Code.PROTOCOL, "a CloseRequest counts a FIN that was never sent", notice=True)
    then = _end_in_order(at._replace(state=_S.DISCONNECTING, requested=True))
    return Transition((_E.CLOSE_REQUEST_RECEIVED, *then.way), (NoteRequest(), *then.actions))


def _close_acknowledged(at: Facts) -> Transition:
    if at.request is None:
        return NOTHING
    if at.request:
        return Transition((_E.STREAM_CLOSED,), (Close(on_stream=True),))
    return _abort(at, Code.CLOSE_REQUESTED, _CLOSED_HERE, notice=True)


def _pause_requested(at: Facts) -> Transition:
    if at.both_finished and at.fin_passed:
        # Nothing is left of the stream that the hub could close.
        at = at._replace(state=_S.PAUSING)
        end = _end_leg(at, _E.STREAM_CLOSED, Code.PAUSED, "the hub has paused it")
        return Transition((_E.PAUSE_ACK_SENT, *end.way), (SendPauseAck(), *end.actions))
    return Transition((_E.PAUSE_ACK_SENT,), (SendPauseAck(), Arm(PAUSE_BOUND)))


def _session_gone(at: Facts, reason: str) -> Transition:
    end = _end_leg(at, _E.LEG_LOST, Code.LEFT, reason) if at.state.may_pause else _abort(at, Code.PEER_LOST, reason)
    take = (TakeRest(),) if at.state.passes_bytes else ()
    return Transition(end.way, (*take, ForgetStream(), *end.actions))


def _stopped(at: Facts, code: int) -> Transition:
    """A failure after a FIN has no other sign than a stop (D-18), which may overtake the FIN: that comes first for the
    program."""
    if at.consumer and at.state is _S.CONNECTING:
        # It may have overtaken the Accept, which may be a refusal.
        return Transition((), (NoteStop(code),))
    if at.peer_finished or code in LEG_CODES or can_retry(code):
        return _ended_by_peer(at, code)
    if at.state.passes_bytes:
        return Transition((), (NoteStop(code), Arm(CLOSE_BOUND)))
    if at.state is _S.RESUMING:
        # It has overtaken the Accept.
        return Transition((), (NoteStop(code),))
    return _ended_by_peer(at, code)


def _ended_by_peer(at: Facts, code: int) -> Transition:
    text = f"ended by the other side ({code_name(Code.PEER_LOST if code == LOST_CODE else code)})"
    if at.state is _S.PAUSING and code == Code.PAUSED:
        return _end_leg(at, _E.STREAM_CLOSED, code, text)
    if at.state is _S.RESUMING and (code in LEG_CODES or can_retry(code)):
        return _end_leg(at, _E.RESUME_REFUSED, code, text)
    if at.state.may_pause and code in LEG_CODES and at.resumable:
        return _end_leg(at, _E.LEG_LOST, code, text)
    end = _abort(at, Code.PEER_LOST if code == LOST_CODE else code, text)
    return Transition(end.way, (TakeRest(more=True), *end.actions)) if at.state.passes_bytes else end


def _end_in_order(at: Facts) -> Transition:
    """Both FINs may be through: answer, ask, or wait to be asked."""
    if not at.state.passes_bytes or not at.both_finished:
        return NOTHING
    if at.requested:
        return Transition((_E.STREAM_CLOSED,), (SendCloseAck(), Close(on_stream=True)))
    # What a program that has failed reads was thrown away: no orderly end, unless the other side sees one already.
    if at.failing is not None or at.request is not None:
        return NOTHING
    if at.second:
        return _ask(finished=True)
    return Transition((), (Arm(TIE if at.consumer else CLOSE_BOUND),))


def _ask(*, finished: bool) -> Transition:
    return Transition((_E.CLOSE_REQUEST_SENT,), (SendCloseRequest(finished), Arm(CLOSE_BOUND)))


def _failed(at: Facts, code: int) -> Transition:
    if at.state is _S.CONNECTING:
        return _abort(at, code, _FAILED, notice=True)
    if at.both_finished or at.failing is not None:
        return NOTHING
    then = _end_failed(at._replace(failing=code))
    return Transition(then.way, (Fail(code), *then.actions, Notify()))


def _end_failed(at: Facts) -> Transition:
    """The other side may have taken everything that was written before the failure: then that is reported."""
    code = at.failing
    if code is None or at.state in (_S.PAUSING, _S.RESUMING):
        return NOTHING
    passes = at.state.passes_bytes
    if at.unacknowledged or (at.finished and not (passes and at.fin_passed)):
        return Transition((), (Arm(CLOSE_BOUND),)) if passes else NOTHING
    if code == Code.CLOSE_REQUESTED and passes:
        # Who has asked for the end, and has both FINs, is answered when ours is read.
        return _ask(finished=False) if at.request is None and not at.requested else NOTHING
    return _abort(at, code, _FAILED, notice=True, keep_fin=at.finished)


def _deadline(at: Facts, what: DeadlinePassed) -> Transition:
    match at.state:
        case _S.LOOKING_UP_SESSION:
            return NOTHING
        case _S.CONNECTING:
            return _abort(at, Code.TIMEOUT, "no answer in time")
        case _S.PAUSING:
            return _end_leg(at, _E.LEG_LOST, Code.PAUSED, "the hub did not end the stream in time")
        case _S.RESUMING if not what.resume_over:
            return _end_leg(at, _E.RESUME_REFUSED, Code.TIMEOUT, "no answer to a ResumeRequest in time")
        case _S.PAUSED | _S.RESUMING:
            text = f"it could not be resumed within {what.resume_timeout:g} s"
            return _give_up(at, _E.RESUME_TIMEOUT, Code.RESUME_TIMEOUT, text, notice=True)
    if at.stopped is not None:
        return _ended_by_peer(at, at.stopped)
    if at.failing is not None and at.request is None:
        return _abort(at, at.failing, "the other side takes nothing any more", notice=True)
    if at.request is False:
        return _abort(at, Code.CLOSE_REQUESTED, _CLOSED_HERE, notice=True)
    if at.request is None and at.consumer and not at.requested:
        return _ask(finished=True)
    if not at.closed_reported or what.reader_moved:
        # Once, and then for as long as the peer goes on reading. A hub that has lost the leg without our knowing says
        # so when it is asked once more.
        again = (RepeatCloseRequest(),) if at.request is not None else ()
        return Transition((), (*again, ReportClosed(), KeepRecord()))
    return Transition((_E.ABORTED,), (Close(on_stream=True, report=False),))


def _end_leg(at: Facts, way: ConnectionEvent, code: int, reason: str) -> Transition:
    """The leg is over; its stream is ended with a code that ends legs only."""
    if at.request is False:
        return _abort(at, Code.CLOSE_REQUESTED, _CLOSED_HERE, notice=True)
    if not at.resumable:
        return _abort(at, Code.PEER_LOST, f"{reason}; the other endpoint can't resume")
    end = EndLeg(code if code in LEG_CODES else Code.LEFT, reason, left=way is not _E.RESUME_REFUSED)
    return Transition((way,), (TakeRest(), end) if at.state.passes_bytes else (end,))


def _abort(
    at: Facts,
    code: int,
    reason: str,
    *,
    notice: bool = False,
    way: ConnectionEvent = _E.ABORTED,
    keep_fin: bool = False,
) -> Transition:
    abort = Abort(code, reason, notice, at.state.passes_bytes, keep_fin)
    if at.state is _S.CONNECTING:
        # A provider's program wasn't asked yet, or finds the error when it answers.
        return Transition((way,), (abort, ReportFailed()) if at.consumer else (abort,))
    return Transition((way,), (abort,) if at.closed_reported else (abort, Notify()))
