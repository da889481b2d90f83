"""The life of one connection, as a pure function: (leg, message) -> (leg, events, commands). All transitions are here.

```
WAITING     there is no provider; the service is being started (D-29)            bounded by start_timeout
OPENING     the provider's stream is asked for                                   bounded by accept_timeout
CONNECTING  the opening is on its way to the provider: the leg has started       bounded by accept_timeout
JOINED      bytes pass                                                           close_timeout after a hasty request
FINISHED    both FINs were passed on; the Close exchange is due                  bounded by close_timeout
ENDING      both streams were cut; how many bytes they carried is still to come  bounded by abort_timeout
ENDED       the end is logged; nothing matters any more
```

Every opening leaves one trace in the log: its refusal when it ends while WAITING or OPENING, else one start and one
end. Who asked first decides the reason (D-5). Close Requests (R-4.5, D-17) may come before the splice has ended, since
streams know no order among each other, and may cross. With ``finished`` they wait for the splice, however long the last
bytes take; without, the connection is cut when the other side has acknowledged or the timeout has passed.

Counterparts: :mod:`spnhub.actors.leg` (the data), :mod:`spnhub.actors.connection` (the actor that carries it out).
"""

from __future__ import annotations

from dataclasses import replace

from spnhub.actors.codes import Code
from spnhub.actors.commands import (
    AbortConnection,
    Command,
    ForgetConnection,
    JoinStreams,
    OpenProviderStream,
    RefuseConnection,
    SendCloseAck,
    SendCloseRequest,
)
from spnhub.actors.environment import Decision
from spnhub.actors.inputs import (
    ConsumerAborted,
    ProviderAccepted,
    ProviderRejected,
    ProviderStreamOpened,
    SpliceEnded,
)
from spnhub.actors.leg import (
    CloseAnswered,
    CloseAsked,
    Ending,
    Leg,
    LegMessage,
    MustEnd,
    NoProvider,
    Phase,
    ProviderChosen,
    StartTrouble,
    TimedOut,
    Wait,
)
from spnhub.events.model import ConnectionEnded, ConnectionRefused, ConnectionStarted, DisconnectReason, Event
from spnhub.events.state import ConnectionState

__all__ = ["chosen", "decide", "failed", "opening", "refused"]

_FINISHED = Ending(DisconnectReason.CLOSED_BY_PEER, Code.OK, "")
_CLOSE_REQUESTED = Ending(DisconnectReason.CLOSED_BY_PEER, Code.CLOSE_REQUESTED, "closed before both directions ended")
_LOST = Ending(DisconnectReason.ERROR, Code.PEER_LOST, "an endpoint was lost")

Outcome = tuple[Leg, Decision]


def opening(leg: Leg) -> Decision:
    """The first thing to do for a new leg, or for one that has waited for its provider."""
    facts = leg.facts
    if facts.provider is None:
        return Decision()
    return Decision(commands=(OpenProviderStream(facts.key, facts.provider, facts.consumer_peer),))


def decide(leg: Leg, message: LegMessage, state: ConnectionState | None, wall: int) -> Outcome:
    """What ``message`` means for ``leg``.

    :param state: the leg as logged; None before its start is.
    :param wall: microseconds since 1970: the time of the events decided here.
    """
    if leg.phase is Phase.ENDED:
        return leg, Decision()
    match message:
        case ProviderChosen() if leg.phase is Phase.WAITING:
            leg = chosen(leg, message)
            return leg, opening(leg)
        case StartTrouble() if leg.phase is Phase.WAITING:
            return replace(leg, trouble=message.reason), Decision()
        case NoProvider() if leg.phase is Phase.WAITING:
            return _in_vain(leg, Ending(DisconnectReason.ERROR, message.code, message.reason), state, wall)
        case ProviderStreamOpened() if leg.phase is Phase.OPENING:
            return _started(leg, message.stream)
        case ProviderAccepted() if leg.phase is Phase.CONNECTING:
            facts = leg.facts
            join = JoinStreams(facts.key, facts.provider_peer, facts.provider_instance)
            return replace(leg, phase=Phase.JOINED), Decision(commands=(join,))
        case ProviderRejected() if leg.wait is Wait.ACCEPT:
            code = _known(message.code, Code.CONNECT_FAILED)
            ending = Ending(DisconnectReason.ERROR, code, message.reason)
            return _end(leg, ending, state, wall, RefuseConnection(leg.facts.key, code, message.reason))
        case ConsumerAborted() if leg.wait in {Wait.ACCEPT, Wait.PROVIDER}:
            code = _known(message.code, Code.PEER_RESET)
            return _cut(leg, Ending(DisconnectReason.ERROR, code, "the consumer gave up"), state, wall)
        case SpliceEnded():
            return _splice_ended(leg, message, state, wall)
        case CloseAsked():
            return _close_asked(leg, message, state, wall)
        case CloseAnswered() if message.side.other in leg.asked:
            return _settle(replace(leg, answered=message.side), (), state, wall)
        case MustEnd():
            return _must_end(leg, message, state, wall)
        case TimedOut() if message.wait is leg.wait:
            return _timed_out(leg, state, wall)
        case _:
            return leg, Decision()


def refused(leg: Leg, ending: Ending) -> ConnectionRefused:
    """The event of an opening that led to no leg."""
    facts = leg.facts
    return ConnectionRefused(
        realm=facts.realm,
        network_urn=facts.network_urn,
        consumer_side_spn_session_id=facts.consumer_side_spn_session_id,
        service_urn=facts.service_urn,
        connection_uid=facts.connection_uid,
        epoch=facts.epoch,
        code=ending.code or Code.PEER_LOST,
        reason=ending.reason,
    )


def chosen(leg: Leg, message: ProviderChosen) -> Leg:
    """The leg with its provider."""
    facts = replace(
        leg.facts,
        provider=message.provider,
        provider_side_spn_session_id=message.provider_side_spn_session_id,
        provider_peer=message.provider_peer,
        provider_instance=message.provider_instance,
    )
    return replace(leg, facts=facts, phase=Phase.OPENING)


def _in_vain(leg: Leg, ending: Ending, state: ConnectionState | None, wall: int) -> Outcome:
    code = _known(ending.code, Code.START_FAILED)
    return _end(leg, ending, state, wall, RefuseConnection(leg.facts.key, code, ending.reason))


def _started(leg: Leg, stream: int) -> Outcome:
    facts = leg.facts
    spn_connection_id = f"{facts.key.stream}-{stream}"
    event = ConnectionStarted(
        realm=facts.realm,
        network_urn=facts.network_urn,
        spn_connection_id=spn_connection_id,
        consumer_side_spn_session_id=facts.consumer_side_spn_session_id,
        provider_side_spn_session_id=facts.provider_side_spn_session_id,
        service_urn=facts.service_urn,
        connection_uid=facts.connection_uid,
        epoch=facts.epoch,
    )
    return replace(leg, phase=Phase.CONNECTING, spn_connection_id=spn_connection_id), Decision((event,))


def _splice_ended(leg: Leg, message: SpliceEnded, state: ConnectionState | None, wall: int) -> Outcome:
    leg = replace(leg, carried=(message.sent_bytes, message.receive_bytes))
    match leg.phase:
        case Phase.JOINED if message.finished:
            return _settle(replace(leg, phase=Phase.FINISHED), (), state, wall)
        case Phase.JOINED if leg.hasty:
            return _end(leg, _CLOSE_REQUESTED, state, wall)
        case Phase.JOINED if message.lost:
            return replace(leg, phase=Phase.ENDING, ending=_LOST, verdict_due=True), Decision()
        case Phase.JOINED:
            ending = Ending(DisconnectReason.ERROR, message.code, "reset before both directions ended")
            return _end(leg, ending, state, wall)
        case Phase.ENDING if leg.ending is not None:
            return _end(leg, leg.ending, state, wall)
        case _:
            return leg, Decision()


def _close_asked(leg: Leg, message: CloseAsked, state: ConnectionState | None, wall: int) -> Outcome:
    side, facts = message.side, leg.facts
    joined = leg.phase is Phase.JOINED
    known = side in leg.asked
    leg = replace(
        leg,
        asked=leg.asked if known else (*leg.asked, side),
        hasty=leg.hasty or (joined and not message.finished),
    )
    match leg.phase:
        case Phase.WAITING | Phase.OPENING | Phase.CONNECTING:
            return _cut(leg, _CLOSE_REQUESTED, state, wall)
        case Phase.ENDING:
            return leg, Decision()  # the end, which is near, answers it
        case _:
            commands: tuple[Command, ...] = ()
            if not known and side.other not in leg.asked:
                commands = (
                    SendCloseRequest(
                        session=facts.session(side.other),
                        connection_uid=facts.connection_uid,
                        epoch=facts.epoch,
                        sent_offset=message.sent_offset,
                        receive_offset=message.receive_offset,
                        finished=message.finished,
                    ),
                )
            return _settle(leg, commands, state, wall)


def _settle(leg: Leg, commands: tuple[Command, ...], state: ConnectionState | None, wall: int) -> Outcome:
    """End, if both sides have said that they are through: one asked and the other answered, or both asked."""
    agreed = len(leg.asked) == 2 or (leg.answered is not None and leg.answered.other in leg.asked)
    if agreed and leg.phase is Phase.FINISHED:
        return _end(leg, _FINISHED, state, wall, *commands)
    if agreed and leg.phase is Phase.JOINED and leg.hasty:
        return _cut(leg, _CLOSE_REQUESTED, state, wall)
    return leg, Decision(commands=commands)


def _must_end(leg: Leg, message: MustEnd, state: ConnectionState | None, wall: int) -> Outcome:
    side, ending = message.side, message.ending
    match leg.phase:
        case Phase.FINISHED:
            # Both FINs came first (D-5); but a side that was lost before it confirmed may lack the last bytes.
            confirmed = side in leg.asked or side is leg.answered
            lacking = ending.disconnect_reason is DisconnectReason.ERROR and not confirmed
            return _end(leg, ending if lacking else _FINISHED, state, wall)
        case Phase.ENDING if leg.verdict_due:
            return _end(leg, ending, state, wall)
        case Phase.ENDING:
            return leg, Decision()
        case Phase.JOINED if leg.hasty:
            return _cut(leg, _CLOSE_REQUESTED, state, wall)
        case _:
            return _cut(leg, ending, state, wall)


def _timed_out(leg: Leg, state: ConnectionState | None, wall: int) -> Outcome:
    match leg.phase:
        case Phase.WAITING:
            reason = "the service was not there in time" + (f": {leg.trouble}" if leg.trouble else "")
            return _in_vain(leg, Ending(DisconnectReason.ERROR, Code.START_FAILED, reason), state, wall)
        case Phase.FINISHED:
            return _end(leg, _FINISHED, state, wall)
        case Phase.JOINED:
            return _cut(leg, _CLOSE_REQUESTED, state, wall)
        case Phase.ENDING if leg.ending is not None:
            ending = leg.ending
            if leg.carried is None:
                ending = ending._replace(reason=f"{ending.reason}; the byte counts are lower bounds".lstrip("; "))
            return _end(leg, ending, state, wall)
        case _:
            ending = Ending(DisconnectReason.ERROR, Code.CONNECT_TIMEOUT, "the provider did not answer in time")
            return _cut(leg, ending, state, wall)


def _cut(leg: Leg, ending: Ending, state: ConnectionState | None, wall: int) -> Outcome:
    """Reset both streams; a joined leg ends when it is known how much they carried (D-10)."""
    abort = AbortConnection(leg.facts.key, _known(ending.code, Code.PEER_LOST))  # never 0: a cut is no FIN (D-17)
    if leg.phase is Phase.JOINED:
        return replace(leg, phase=Phase.ENDING, ending=ending), Decision(commands=(abort,))
    return _end(leg, ending, state, wall, abort)


def _end(leg: Leg, ending: Ending, state: ConnectionState | None, wall: int, *commands: Command) -> Outcome:
    facts = leg.facts
    event: Event
    if state is None:
        event = refused(leg, ending)
    else:
        sent, received = leg.carried or (0, 0)
        event = ConnectionEnded(
            realm=facts.realm,
            network_urn=facts.network_urn,
            spn_connection_id=state.spn_connection_id,
            consumer_side_spn_session_id=facts.consumer_side_spn_session_id,
            provider_side_spn_session_id=facts.provider_side_spn_session_id,
            service_urn=facts.service_urn,
            connection_uid=facts.connection_uid,
            epoch=facts.epoch,
            start_sent_offset=state.start_sent_offset,
            start_receive_offset=state.start_receive_offset,
            total_sent_bytes=sent,
            total_receive_bytes=received,
            delta_sent_bytes=sent,
            delta_receive_bytes=received,
            elapsed_time=state.elapsed(wall),
            disconnect_reason=ending.disconnect_reason,
            code=ending.code,
            reason=ending.reason,
        )
    answers = tuple(SendCloseAck(facts.session(side), facts.connection_uid, facts.epoch) for side in leg.asked)
    forget = () if any(isinstance(c, RefuseConnection) for c in commands) else (ForgetConnection(facts.key),)
    return replace(leg, phase=Phase.ENDED), Decision((event,), (*commands, *answers, *forget))


def failed(leg: Leg, state: ConnectionState | None, wall: int) -> Decision:
    """What is left to do for a leg whose actor has failed: it ends at once."""
    if leg.phase is Phase.ENDED:
        return Decision()
    reason = "a fault in the hub" + ("" if leg.carried or state is None else "; the byte counts are lower bounds")
    ending = Ending(DisconnectReason.ERROR, Code.INTERNAL, reason)
    return _end(leg, ending, state, wall, AbortConnection(leg.facts.key, Code.INTERNAL))[1]


def _known(code: int, otherwise: Code) -> Code:
    """A code of the table; an endpoint may send any number, and 0 says nothing where something went wrong."""
    try:
        return Code(code) or otherwise
    except ValueError:
        return otherwise
