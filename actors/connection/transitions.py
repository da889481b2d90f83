"""The life of one connection, as a pure function: (leg, message) -> (leg, events, commands).

All transitions are here, but for the beginning of a leg that resumes (:mod:`spnhub.actors.connection.resume`).

```
INVITING    the provider is asked whether it goes on (R-4.7)                     bounded by step_timeout
RESUMING    both may; their streams are still to come                            bounded by step_timeout
WAITING     there is no provider; the service is being started (D-29)            bounded by start_timeout
            or the consumer can't ask again                                      bounded by provider_patience
OPENING     the provider's stream is asked for                                   bounded by accept_timeout
CONNECTING  the opening is on its way to the provider: the leg has started       bounded by accept_timeout
REJECTED    that provider doesn't take it: the service is asked for another      the same accept_timeout goes on
JOINED      bytes pass                                       close_timeout after a Close Request without ``finished``
PAUSING     the endpoints are asked to stop, and say where they did (R-4.6)      bounded by step_timeout
FINISHED    both FINs were passed on; the Close exchange is due                  unbounded: the reader takes its time
ENDING      both streams were cut; how many bytes they carried is still to come  bounded by abort_timeout
ENDED       the end is logged; further messages are ignored
```

Every opening and every resume leaves one trace in the log: its refusal when it ends before its start, else one start
and one end. An end after which the conversation may go on in another leg is suspended (D-1). An opening that is offered
to several providers in turn (D-35) has a leg at each: the ends of those that didn't take it are marked ``rejected``,
and the rules here hold for the last. The consumer hears of the last one only, and hasn't sent a byte before. The side
that asks first decides the reason of the end (D-5). Close Requests (R-4.5, D-17) may come before the splice has ended,
since QUIC keeps no order between streams, and both sides may send one at the same time. With ``finished``, the end
waits for the splice, however long the last bytes take. Without it, the request is *immediate*: the connection is cut
when the other side has acknowledged it or close_timeout has passed.

Counterparts: :mod:`spnhub.actors.connection.state` (the data), :mod:`spnhub.actors.connection.endings` (what every end
consists of), :mod:`spnhub.actors.connection.actor` (the actor that carries it out).
"""

from __future__ import annotations

from typing import Final

from spnhub.actors.connection import resume
from spnhub.actors.connection.endings import PASSING, Outcome, cut, end, known, leave, progress
from spnhub.actors.connection.state import (
    Ending,
    Leg,
    LegMessage,
    LegPhase,
    MustEnd,
    NoProvider,
    PacketReceived,
    PauseLeg,
    ProgressDue,
    ProviderAwaited,
    ProviderChosen,
    ProviderUnresponsive,
    Rejection,
    Side,
    StartTrouble,
    Superseded,
    TimedOut,
    Wait,
    may_still_take,
)
from spnhub.actors.contract.codes import Code, is_providers_own
from spnhub.actors.contract.commands import (
    Command,
    JoinStreams,
    OpenProviderStream,
    RefuseConnection,
    ReportProgress,
    SendPacket,
)
from spnhub.actors.contract.inputs import (
    BytesCarried,
    ConsumerAborted,
    ProviderAccepted,
    ProviderBusy,
    ProviderRejected,
    ProviderStreamOpened,
    SpliceEnded,
)
from spnhub.actors.contract.packets import CloseAck, CloseRequest, PauseAck, PauseRequest
from spnhub.actors.kernel.environment import Decision
from spnhub.events.model import ConnectionStarted, ConversationEvent, DisconnectReason, shared
from spnhub.events.state.entities import OpenConnection, connection_key

__all__ = ["chosen", "decide", "failure", "opening"]

_FINISHED = Ending(DisconnectReason.CLOSED_BY_PEER, Code.OK, "")
_CLOSE_REQUESTED = Ending(DisconnectReason.CLOSED_BY_PEER, Code.CLOSE_REQUESTED, "closed before both directions ended")
_LOST = Ending(DisconnectReason.ERROR, Code.PEER_LOST, "an endpoint was lost", suspended=True)
_SILENT = Ending(DisconnectReason.ERROR, Code.PEER_LOST, "the provider doesn't answer", suspended=True)
_PAUSED = Ending(DisconnectReason.CLOSED, Code.PAUSED, "the hub is being stopped", suspended=True)
_SHUTDOWN = Ending(DisconnectReason.CLOSED, Code.SHUTDOWN, "the hub is being stopped")

# Tuples, since an enumeration's member is found in them by its identity, and in a set by a hash made in Python.
_RESUMING: Final = (LegPhase.INVITING, LegPhase.RESUMING)
_OFFERED: Final = (LegPhase.OPENING, LegPhase.CONNECTING)
"""Phases in which a provider has the opening and hasn't answered."""

_LEAVING: Final = {
    Code.MOVED: Ending(DisconnectReason.CLOSED_BY_PEER, Code.MOVED, "an endpoint moved to another hub", suspended=True),
    Code.LEFT: Ending(DisconnectReason.ERROR, Code.LEFT, "an endpoint left for another hub", suspended=True),
    Code.PEER_LOST: _LOST,
}
"""Codes with which an endpoint ends a leg and not its conversation, and how the leg is then logged."""


def opening(leg: Leg) -> Decision:
    """The first commands of a new leg, or of one that has waited for its provider."""
    facts = leg.facts
    if leg.resume is not None:
        return resume.invitation(leg)
    if facts.provider is None:
        return Decision()
    return Decision(commands=(OpenProviderStream(facts.key, facts.provider, facts.consumer_peer),))


def decide(leg: Leg, message: LegMessage, state: OpenConnection | None, wall_us: int) -> Outcome:
    """Apply ``message`` to ``leg``.

    :param state: the leg as it is logged; None before its start is logged.
    :param wall_us: microseconds since 1970: the time of the events decided here.
    """
    if leg.phase is LegPhase.ENDED:
        return leg, Decision()
    if leg.phase in _RESUMING:
        return resume.decide(leg, message)
    if _is_about_another(leg, message):
        return leg, Decision()
    match message:
        # Every connection has these, so they are looked for first.
        case ProviderStreamOpened() if leg.phase is LegPhase.OPENING:
            return _started(leg, message.stream)
        case ProviderAccepted() if leg.phase is LegPhase.CONNECTING:
            facts = leg.facts
            join = JoinStreams(facts.key, facts.provider_peer, facts.provider_instance)
            return leg._replace(phase=LegPhase.JOINED), Decision(commands=(join,))
        case SpliceEnded():
            return _splice_ended(leg, message, state, wall_us)
        case PacketReceived(side, CloseRequest() as packet) if leg.phase is not LegPhase.PAUSING:
            return _close_requested(leg, side, packet, state, wall_us)
        case PacketReceived(side, CloseAck()) if side.other in leg.asked:
            return _settle(leg._replace(answered=side), (), state, wall_us)
        case ProviderChosen() if leg.phase is LegPhase.WAITING:
            leg = chosen(leg, message)
            return leg, opening(leg)
        case ProviderChosen() if leg.phase is LegPhase.REJECTED:
            return _next_provider(leg, message, state, wall_us)
        case ProviderAwaited() if leg.phase is LegPhase.REJECTED:
            return _next_provider(leg, None, state, wall_us)
        case NoProvider() if leg.phase is LegPhase.REJECTED:
            return _no_other_provider(leg, state, wall_us)
        case StartTrouble() if leg.phase is LegPhase.WAITING:
            return leg._replace(trouble=message.reason), Decision()
        case NoProvider() if leg.phase is LegPhase.WAITING:
            return _refuse_waiting(leg, Ending(DisconnectReason.ERROR, message.code, message.reason), state, wall_us)
        case ProviderRejected() if leg.phase in _OFFERED:
            return _rejected(leg, message, state, wall_us)
        case ConsumerAborted() if leg.wait in {Wait.ACCEPT, Wait.PROVIDER}:
            code = known(message.code, Code.PEER_RESET)
            return cut(leg, Ending(DisconnectReason.ERROR, code, message.reason), state, wall_us)
        case ProgressDue() if leg.phase is LegPhase.JOINED and state is not None:
            # The transport compares with what is logged, and an idle connection costs no event.
            logged = (state.total_sent_bytes, state.total_receive_bytes)
            return leg, Decision(commands=(ReportProgress(leg.facts.key, *logged),))
        case BytesCarried() if leg.phase is LegPhase.JOINED and state is not None:
            return leg, Decision(progress(message, state, wall_us))
        case PauseLeg():
            return _pause(leg, state, wall_us)
        case PacketReceived(side, PauseAck() as packet) if leg.phase is LegPhase.PAUSING:
            return _paused(leg, side, packet, state, wall_us)
        case Superseded():
            return _superseded(leg, message, state, wall_us)
        # An opening isn't lost with its provider's session: the consumer has sent nothing, so another may take it.
        case MustEnd() if message.side is Side.PROVIDER and leg.phase in (*_OFFERED, LegPhase.REJECTED):
            return leg._replace(phase=LegPhase.REJECTED, rejected=message), Decision()
        case MustEnd():
            return _must_end(leg, message, state, wall_us)
        case ProviderBusy() | ProviderUnresponsive() if leg.phase in _OFFERED:
            return leg._replace(phase=LegPhase.REJECTED, rejected=message), Decision()
        # Established: the leg is suspended, so that the endpoints can go on through another hub. If they can't, it
        # stays: TCP would survive a pause of some seconds, too.
        case ProviderUnresponsive() if leg.facts.resumable and leg.phase not in {LegPhase.WAITING, LegPhase.REJECTED}:
            return _must_end(leg, MustEnd(Side.PROVIDER, _SILENT), state, wall_us)
        case TimedOut() if message.wait in {Wait.ACCEPT, Wait.ANSWER} and leg.phase in _OFFERED:
            return leg._replace(phase=LegPhase.REJECTED, rejected=message), Decision()
        case TimedOut() if message.wait is leg.wait:
            return _timed_out(leg, state, wall_us)
        case _:
            return leg, Decision()


def chosen(leg: Leg, message: ProviderChosen) -> Leg:
    """The leg with its provider."""
    facts = leg.facts._replace(
        provider=message.provider,
        provider_side_spn_session_id=message.provider_side_spn_session_id,
        provider_peer=message.provider_peer,
        provider_instance=message.provider_instance,
        provider_resumes=message.resumes,
        provider_answers=message.answers,
    )
    return leg._replace(facts=facts, phase=LegPhase.OPENING, on_trial=message.on_trial)


def failure(rejection: Rejection) -> Ending | None:
    """The failure of a provider that doesn't take an opening, for which it is passed over (D-35).

    None: it hasn't failed. A provider whose session ends, or that is unresponsive, isn't chosen any more anyway; a full
    one can take connections again as soon as one of its own has ended.
    """
    return _ending_of(rejection) if isinstance(rejection, ProviderRejected | TimedOut) else None


def _ending_of(rejection: Rejection) -> Ending:
    """How a leg ends at the provider that doesn't take it. Never suspended: it was never established."""
    match rejection:
        case ProviderRejected():
            code = known(rejection.code, Code.CONNECT_FAILED)
            return Ending(DisconnectReason.ERROR, code, rejection.reason)
        case MustEnd():
            return rejection.ending._replace(suspended=False)
        case ProviderBusy():
            return Ending(DisconnectReason.ERROR, Code.LIMIT, "the provider allows no more connections now")
        case ProviderUnresponsive():
            return _SILENT._replace(suspended=False)
        case TimedOut():
            return Ending(DisconnectReason.ERROR, Code.CONNECT_TIMEOUT, "the provider did not answer in time")


def _is_about_another(leg: Leg, message: LegMessage) -> bool:
    """Whether a message is about a provider that the opening has left, and so comes too late.

    Say that provider 7 answers just when its time is over: the opening is with provider 9 then, and must not be joined.
    """
    match message:
        case MustEnd() if message.side is Side.PROVIDER:
            about = message.session
        case ProviderUnresponsive():
            about = message.session
        case ProviderStreamOpened() | ProviderBusy() | ProviderAccepted() | ProviderRejected():
            about = message.provider
        case _:
            return False
    return about is not None and about != leg.facts.provider


def _rejected(leg: Leg, message: ProviderRejected, state: OpenConnection | None, wall_us: int) -> Outcome:
    if is_providers_own(message.code or Code.CONNECT_FAILED):
        return leg._replace(phase=LegPhase.REJECTED, rejected=message), Decision()
    # The application itself has refused: any other provider would, too.
    return _refuse(leg._replace(rejected=message), _ending_of(message), state, wall_us)


def _next_provider(leg: Leg, message: ProviderChosen | None, state: OpenConnection | None, wall_us: int) -> Outcome:
    """End the leg at this provider, and begin it at the next one; None: wait for one that is being started."""
    assert leg.rejected is not None, "REJECTED has a reason"
    events = leave(_ending_of(leg.rejected), state, wall_us)
    facts = leg.facts._replace(
        provider=None,
        provider_side_spn_session_id="",
        provider_peer="",
        provider_instance="",
        provider_resumes=True,
        provider_answers=True,
    )
    leg = leg._replace(facts=facts, phase=LegPhase.WAITING, log_key=None, rejected=None, on_trial=False)
    if message is None:
        return leg, Decision(events)
    leg = chosen(leg, message)
    return leg, Decision(events, opening(leg).commands)


def _no_other_provider(leg: Leg, state: OpenConnection | None, wall_us: int) -> Outcome:
    """Refuse an opening that no other provider can take, unless the present one may still take it in time.

    The consumer gets the present provider's reason.
    """
    rejection = leg.rejected
    assert rejection is not None, "REJECTED has a reason"
    if may_still_take(rejection):
        # Back to where it was: the leg is logged (``state``) as soon as the provider's stream is open.
        phase = LegPhase.OPENING if state is None else LegPhase.CONNECTING
        return leg._replace(phase=phase, rejected=None), Decision()
    return _refuse(leg, _ending_of(rejection), state, wall_us)


def _refuse_waiting(leg: Leg, ending: Ending, state: OpenConnection | None, wall_us: int) -> Outcome:
    return _refuse(leg, ending._replace(code=known(ending.code, Code.START_FAILED)), state, wall_us)


def _refuse(leg: Leg, ending: Ending, state: OpenConnection | None, wall_us: int) -> Outcome:
    refusal = RefuseConnection(leg.facts.key, known(ending.code, Code.PEER_LOST), ending.reason)
    return end(leg, ending, state, wall_us, refusal)


def _started(leg: Leg, stream: int) -> Outcome:
    facts = leg.facts
    spn_connection_id = f"{facts.key.stream}-{stream}"
    event = ConnectionStarted(**shared(ConversationEvent, facts), spn_connection_id=spn_connection_id)
    return leg._replace(phase=LegPhase.CONNECTING, log_key=connection_key(event)), Decision((event,))


def _splice_ended(leg: Leg, message: SpliceEnded, state: OpenConnection | None, wall_us: int) -> Outcome:
    if leg.phase not in (*PASSING, LegPhase.ENDING):
        return leg, Decision()
    leg = leg._replace(carried=(message.sent_bytes, message.receive_bytes))
    if leg.phase is LegPhase.ENDING and leg.ending is not None:
        return end(leg, leg.ending, state, wall_us)
    if message.finished and leg.phase is LegPhase.PAUSING:
        return leg, Decision()  # the endpoints have stopped reading, and their PauseAcks say how far they got
    if message.finished:
        return _settle(leg._replace(phase=LegPhase.FINISHED), (), state, wall_us)
    if leg.immediate:
        return end(leg, _CLOSE_REQUESTED, state, wall_us)
    if message.lost:
        # The engine noticed before the session's actor did. MustEnd follows and says how the session ended, say by its
        # idle timeout or by the endpoint itself: that decides whether the conversation may go on.
        return leg._replace(phase=LegPhase.ENDING, ending=_LOST, verdict_due=True), Decision()
    side = Side.CONSUMER if message.by_consumer else Side.PROVIDER
    reset = Ending(DisconnectReason.ERROR, message.code, "reset before both directions ended")
    return end(leg, _LEAVING.get(known(message.code, Code.PEER_RESET), reset), state, wall_us, side=side)


def _close_requested(leg: Leg, side: Side, packet: CloseRequest, state: OpenConnection | None, wall_us: int) -> Outcome:
    joined = leg.phase is LegPhase.JOINED
    repeated = side in leg.asked
    leg = leg._replace(
        asked=leg.asked if repeated else (*leg.asked, side),
        immediate=leg.immediate or (joined and not packet.finished),
    )
    match leg.phase:
        case LegPhase.WAITING | LegPhase.OPENING | LegPhase.CONNECTING | LegPhase.REJECTED:
            return cut(leg, _CLOSE_REQUESTED, state, wall_us)
        case LegPhase.ENDING:
            return leg, Decision()  # the end, which is near, answers it
        case _:
            commands: tuple[Command, ...] = ()
            if not repeated and side.other not in leg.asked:
                commands = (SendPacket(leg.facts.session(side.other), packet),)
            return _settle(leg, commands, state, wall_us)


def _settle(leg: Leg, commands: tuple[Command, ...], state: OpenConnection | None, wall_us: int) -> Outcome:
    """End the leg if both sides have agreed to close: one asked and the other answered, or both asked."""
    agreed = len(leg.asked) == 2 or (leg.answered is not None and leg.answered.other in leg.asked)
    if agreed and leg.phase is LegPhase.FINISHED:
        return end(leg, _FINISHED, state, wall_us, *commands)
    if agreed and leg.phase is LegPhase.JOINED and leg.immediate:
        return cut(leg, _CLOSE_REQUESTED, state, wall_us)
    return leg, Decision(commands=commands)


def _pause(leg: Leg, state: OpenConnection | None, wall_us: int) -> Outcome:
    """Pause an established leg where its endpoints stop; refuse an opening; leave a leg alone that is ending.

    One that can't go on elsewhere has the rest of the shutdown's time to end.
    """
    match leg.phase:
        case LegPhase.WAITING | LegPhase.OPENING | LegPhase.CONNECTING | LegPhase.REJECTED:
            return _refuse(leg, _SHUTDOWN, state, wall_us)
        case LegPhase.JOINED | LegPhase.FINISHED if leg.facts.resumable and not leg.immediate:
            # Also after both FINs: until both sides have confirmed the close, one may still be reading.
            asking = tuple(_ask_to_pause(leg, side) for side in Side)
            return leg._replace(phase=LegPhase.PAUSING), Decision(commands=asking)
        case _:
            return leg, Decision()


def _ask_to_pause(leg: Leg, side: Side) -> SendPacket:
    facts = leg.facts
    return SendPacket(facts.session(side), PauseRequest(facts.connection_uid, facts.epoch))


def _paused(leg: Leg, side: Side, packet: PauseAck, state: OpenConnection | None, wall_us: int) -> Outcome:
    sent, received = leg.paused
    # The consumer's ack says how much of the provider's bytes it has taken, so it is the offset of that direction.
    paused = (sent, packet.received_offset) if side is Side.CONSUMER else (packet.received_offset, received)
    leg = leg._replace(paused=paused)
    return (leg, Decision()) if None in paused else cut(leg, _PAUSED, state, wall_us)


def _superseded(leg: Leg, message: Superseded, state: OpenConnection | None, wall_us: int) -> Outcome:
    """Cut a leg whose endpoints have met again in a later one: the bytes that are still in it are sent again there."""
    if leg.phase is LegPhase.ENDING:
        return leg, Decision()
    reason = f"the connection goes on in epoch {message.epoch}"
    return cut(leg, Ending(DisconnectReason.ERROR, Code.LEFT, reason, suspended=True), state, wall_us)


def _must_end(leg: Leg, message: MustEnd, state: OpenConnection | None, wall_us: int) -> Outcome:
    side, ending = message.side, message.ending
    match leg.phase:
        case LegPhase.FINISHED:
            # Both FINs came before (D-5), so the connection is finished. But a side that was lost, or left, before it
            # confirmed the close may lack the last bytes: then the conversation goes on in another leg.
            confirmed = side in leg.asked or side is leg.answered
            lacking = not confirmed and (ending.suspended or ending.disconnect_reason is DisconnectReason.ERROR)
            if not lacking:
                return end(leg, _FINISHED, state, wall_us, side=side)
            # The other side may wait for its close to be confirmed, and a reset wouldn't reach it, since its streams
            # have ended: a pause request tells it that the leg is over.
            return end(leg, ending, state, wall_us, _ask_to_pause(leg, side.other), side=side)
        case LegPhase.ENDING if leg.verdict_due:
            return end(leg, ending, state, wall_us, side=side)
        case LegPhase.ENDING:
            return leg, Decision()
        case LegPhase.JOINED if leg.immediate:
            return cut(leg, _CLOSE_REQUESTED, state, wall_us)
        case _:
            return cut(leg, ending, state, wall_us, side)


def _timed_out(leg: Leg, state: OpenConnection | None, wall_us: int) -> Outcome:
    match leg.phase:
        case LegPhase.WAITING:
            reason = "the service was not there in time" + (f": {leg.trouble}" if leg.trouble else "")
            code = Code.NO_PROVIDER if leg.facts.patient else Code.START_FAILED
            return _refuse_waiting(leg, Ending(DisconnectReason.ERROR, code, reason), state, wall_us)
        case LegPhase.JOINED:
            return cut(leg, _CLOSE_REQUESTED, state, wall_us)
        case LegPhase.PAUSING:
            return cut(leg, _PAUSED, state, wall_us)
        case LegPhase.ENDING if leg.ending is not None:
            ending = leg.ending
            if leg.carried is None:
                ending = ending._replace(reason=f"{ending.reason}; the byte counts are lower bounds".lstrip("; "))
            return end(leg, ending, state, wall_us)
        case _:
            ending = Ending(DisconnectReason.ERROR, Code.CONNECT_TIMEOUT, "the provider did not answer in time")
            return cut(leg, ending, state, wall_us)
