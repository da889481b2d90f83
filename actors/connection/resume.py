"""How a leg that resumes a connection begins (R-4.7), as pure functions: until its streams are there, or a refusal.

The consumer asks to resume and names the provider. The provider is invited, and answers with its own state. Each is
sent the other's state and opens its stream, and the leg starts. A consumer that can't go on asks, too: then the
provider gets the reason, and nothing starts. Each request leaves one trace in the log: the start of its leg, its
refusal, ConnectionFinished, or ConnectionLost (a request that is repeated because the provider isn't here is logged
once).
Counterparts: :mod:`spnhub.actors.connection.transitions` (everything from the start on),
:mod:`spnhub.actors.service.resume` (which requests are granted).
"""

from __future__ import annotations

from typing import Final

from spnhub.actors.connection.endings import Outcome, known, refused
from spnhub.actors.connection.state import (
    Ending,
    Leg,
    LegMessage,
    LegPhase,
    MustEnd,
    PauseLeg,
    ProviderResumed,
    ProviderUnresponsive,
    Resume,
    Side,
    Superseded,
    TimedOut,
)
from spnhub.actors.contract.codes import Code, is_retryable
from spnhub.actors.contract.commands import (
    AbortConnection,
    Command,
    ForgetConnection,
    InviteProvider,
    JoinStreams,
    SendPacket,
)
from spnhub.actors.contract.inputs import ConsumerAborted, ProviderRejected, ResumeOpened
from spnhub.actors.contract.packets import ResumeAck
from spnhub.actors.kernel.environment import Decision
from spnhub.events.model import (
    ConnectionFinished,
    ConnectionLost,
    ConnectionResumed,
    ConnectionStarted,
    ConversationEvent,
    DisconnectReason,
    Event,
    ServiceEvent,
    shared,
)
from spnhub.events.state.entities import connection_key

__all__ = ["acknowledge", "decide", "invitation", "is_lost"]

_UNKNOWN: Final = Resume(received_offset=0, finished=False, code=0)
"""The state in a ResumeAck when the other endpoint's isn't known."""


def is_lost(code: int) -> bool:
    """Whether an endpoint that states this code gives the conversation up, and not in order."""
    code = known(code, Code.PEER_RESET) if code else Code.OK
    return code not in {Code.OK, Code.CLOSED, Code.NOT_ALLOWED} and not is_retryable(code)


def acknowledge(
    session: int, connection_uid: str, epoch: int, code: int, reason: str, other: Resume | None = None
) -> SendPacket:
    """The ResumeAck for an endpoint's ResumeRequest (R-4.7). ResumeOpened follows when both got code 0 and have opened.

    :param other: the state that the other endpoint has sent, if it has.
    """
    received_offset, finished, _ = other or _UNKNOWN
    ack = ResumeAck(connection_uid, epoch, code, reason, is_retryable(code), received_offset, finished)
    return SendPacket(session, ack)


def invitation(leg: Leg) -> Decision:
    """The first command: invite the provider."""
    facts = leg.facts
    assert facts.provider is not None, "it was looked up before"
    return Decision(commands=(InviteProvider(facts.key, facts.provider, facts.consumer_peer),))


def decide(leg: Leg, message: LegMessage) -> Outcome:
    """Apply ``message`` to a leg that is INVITING or RESUMING."""
    match message:
        case ProviderResumed() if leg.phase is LegPhase.INVITING:
            return _answered(leg, message)
        case ResumeOpened() if leg.phase is LegPhase.RESUMING:
            return _opened(leg, message)
        case ConsumerAborted() if leg.phase is LegPhase.RESUMING:
            code = known(message.code, Code.PEER_RESET)
            return _give_up(leg, code, message.reason, abort=code)
        case ProviderRejected() if leg.phase is LegPhase.RESUMING:
            code = known(message.code, Code.PEER_RESET)
            return _give_up(leg, code, message.reason, abort=code)
        case PauseLeg():
            return _give_up(leg, Code.SHUTDOWN, "the hub is being stopped", abort=Code.PAUSED)
        case Superseded():
            return _give_up(leg, Code.STALE, f"the connection goes on in epoch {message.epoch}")
        case MustEnd():
            if message.side is Side.PROVIDER:
                return _give_up(leg, Code.NOT_HERE, message.ending.reason)
            # The log says that the consumer was lost. The consumer, if it lives, has another session: NOT_HERE makes it
            # ask again there.
            return _give_up(leg, Code.PEER_LOST, message.ending.reason, ack_code=Code.NOT_HERE)
        case ProviderUnresponsive():
            return _give_up(leg, Code.NOT_HERE, "the provider doesn't answer")
        case TimedOut() if message.wait is leg.wait:
            silent = "the provider" if leg.phase is LegPhase.INVITING else "an endpoint"
            return _give_up(leg, Code.TIMEOUT, f"{silent} did not answer in time")
        case _:
            return leg, Decision()


def _answered(leg: Leg, message: ProviderResumed) -> Outcome:
    asked, answer = leg.resume, message.answer
    assert asked is not None, "nobody is invited without a request"
    if asked.code or answer.code:
        return _ended_elsewhere(leg, asked, answer, message.reason)
    acks = (_ack(leg, Side.CONSUMER, 0, "", answer), _ack(leg, Side.PROVIDER, 0, "", asked))
    # Each direction goes on where its receiver is: consumer to provider at what the provider has received.
    start = (answer.received_offset, asked.received_offset)
    return leg._replace(phase=LegPhase.RESUMING, start=start), Decision(commands=acks)


def _ended_elsewhere(leg: Leg, asked: Resume, answer: Resume, reason: str) -> Outcome:
    """End a conversation that one endpoint, or both, can't go on with.

    Each gets the reason why the other can't. If only one can't, it gets its own code back, and so knows that it was
    heard: it needn't say so again.
    """
    events: list[Event] = []
    if _in_order(asked, answer):
        events.append(_finished(leg, asked, answer))
    elif not asked.code:
        events.append(refused(leg, _ending(known(answer.code, Code.PEER_RESET), reason)))
    if answer.code != Code.NOT_ALLOWED:
        if is_lost(asked.code):
            events.append(_lost(leg, Side.CONSUMER, asked.code, asked, answer, reason))
        elif is_lost(answer.code):
            events.append(_lost(leg, Side.PROVIDER, answer.code, asked, answer, reason))
    acks = (
        _ack(leg, Side.CONSUMER, answer.code or asked.code, reason, answer),
        _ack(leg, Side.PROVIDER, asked.code or answer.code, reason, asked),
    )
    return _over(leg, tuple(events), acks)


def _in_order(asked: Resume, answer: Resume) -> bool:
    """Whether the conversation was complete: each endpoint has taken all that the other has sent."""
    return {asked.code, answer.code} <= {Code.OK, Code.CLOSED} and asked.finished and answer.finished


def _opened(leg: Leg, message: ResumeOpened) -> Outcome:
    facts = leg.facts
    spn_connection_id = f"{message.consumer_stream}-{message.provider_stream}"
    leg_fields = shared(ConversationEvent, facts) | {"spn_connection_id": spn_connection_id}
    sent, received = leg.start
    started = ConnectionStarted(**leg_fields, start_sent_offset=sent, start_receive_offset=received)
    resumed = ConnectionResumed(**leg_fields, sent_offset=sent, receive_offset=received)
    join = JoinStreams(facts.key, facts.provider_peer, facts.provider_instance)
    joined = leg._replace(phase=LegPhase.JOINED, log_key=connection_key(started))
    return joined, Decision((started, resumed), (join,))


def _give_up(leg: Leg, code: Code, reason: str, abort: Code = Code.PEER_LOST, ack_code: Code | None = None) -> Outcome:
    """End an attempt to resume; the endpoints go back to Paused and try again, here or at another hub.

    :param abort: the code with which streams are reset that are open already.
    :param ack_code: the code that the consumer gets, if not ``code``.
    """
    asked = leg.resume
    assert asked is not None, "it began with a request"
    # A consumer that can't go on repeats its request until the provider has heard it. It asks for nothing that could
    # be refused, so an attempt that fails leaves no trace.
    events: tuple[Event, ...] = () if asked.code else (refused(leg, _ending(code, reason)),)
    if leg.phase is LegPhase.INVITING:
        return _over(leg, events, (_ack(leg, Side.CONSUMER, code if ack_code is None else ack_code, reason),))
    return _over(leg, events, (AbortConnection(leg.facts.key, abort),))


def _over(leg: Leg, events: tuple[Event, ...], commands: tuple[Command, ...]) -> Outcome:
    forget = ForgetConnection(leg.facts.key)
    return leg._replace(phase=LegPhase.ENDED), Decision(events, (*commands, forget))


def _ending(code: Code, reason: str) -> Ending:
    return Ending(DisconnectReason.ERROR, code, reason)


def _ack(leg: Leg, side: Side, code: int, reason: str, other: Resume | None = None) -> SendPacket:
    facts = leg.facts
    return acknowledge(facts.session(side), facts.connection_uid, facts.epoch, code, reason, other)


def _finished(leg: Leg, asked: Resume, answer: Resume) -> ConnectionFinished:
    return ConnectionFinished(
        **shared(ConversationEvent, leg.facts),
        sent_offset=answer.received_offset,
        receive_offset=asked.received_offset,
    )


def _lost(leg: Leg, side: Side, code: int, asked: Resume, answer: Resume, reason: str) -> ConnectionLost:
    facts = leg.facts
    session = facts.consumer_side_spn_session_id if side is Side.CONSUMER else facts.provider_side_spn_session_id
    return ConnectionLost(
        **shared(ServiceEvent, facts),
        spn_session_id=session,
        connection_uid=facts.connection_uid,
        epoch=facts.epoch,
        sent_offset=answer.received_offset,
        receive_offset=asked.received_offset,
        code=code,
        reason=reason,
    )
