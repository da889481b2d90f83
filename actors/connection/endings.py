"""The events of a leg's progress, and the events and commands of its end, whatever the reason.

An end is one event in the log, and the commands that reset and forget the leg's streams. A leg is *suspended* when the
conversation may go on in another (D-1): then a ConnectionPaused comes with its end, and its streams are reset with a
code by which the endpoints know that. Counterparts: :mod:`spnhub.actors.connection.transitions` and
:mod:`spnhub.actors.connection.resume`, the transitions.
"""

from __future__ import annotations

from typing import Final, TypedDict

from spnhub.actors.connection.state import Ending, Leg, LegPhase, Side
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AbortConnection,
    Command,
    ForgetConnection,
    RefuseConnection,
    SendPacket,
)
from spnhub.actors.contract.inputs import BytesCarried
from spnhub.actors.contract.packets import CloseAck
from spnhub.actors.kernel.environment import Decision
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionRefused,
    DisconnectReason,
    EndPointType,
    Event,
    LegEvent,
    LegStartEvent,
    OpeningEvent,
    ResumeRefused,
    ServiceEvent,
    shared,
)
from spnhub.events.state.entities import OpenConnection

__all__ = ["PASSING", "Outcome", "cut", "end", "failed", "known", "leave", "progress", "refused"]

Outcome = tuple[Leg, Decision]

PASSING: Final = (LegPhase.JOINED, LegPhase.PAUSING)
"""Phases in which bytes pass, or passed until just now: both endpoints are Connected."""
_ESTABLISHED: Final = (*PASSING, LegPhase.FINISHED, LegPhase.ENDING)


def known(code: int, otherwise: Code) -> Code:
    """The code, if the table has it, else ``otherwise``.

    An endpoint may send any number, and 0 gives no reason for a failure.
    """
    try:
        return Code(code) or otherwise
    except ValueError:
        return otherwise


def refused(leg: Leg, ending: Ending) -> ConnectionRefused | ResumeRefused:
    """The event of an opening, or of a resume, that led to no leg."""
    facts = leg.facts
    code = ending.code or Code.PEER_LOST
    if leg.resume is not None:
        return ResumeRefused(
            **shared(ServiceEvent, facts),
            spn_session_id=facts.consumer_side_spn_session_id,
            spn_end_point=facts.consumer_peer,
            end_point_type=EndPointType.CONSUMER,
            connection_uid=facts.connection_uid,
            epoch=facts.epoch,
            code=code,
            reason=ending.reason,
        )
    return ConnectionRefused(**shared(OpeningEvent, facts), code=code, reason=ending.reason)


def progress(message: BytesCarried, state: OpenConnection, wall_us: int) -> tuple[Event, ...]:
    """The event of a leg that has carried more bytes than are logged; none if it hasn't (D-10)."""
    counts = _counts((message.sent_bytes, message.receive_bytes), state)
    if not counts["delta_sent_bytes"] and not counts["delta_receive_bytes"]:
        return ()
    event = ConnectionProgress(
        **shared(LegStartEvent, state),
        **counts,
        elapsed_time=state.elapsed(wall_us),
    )
    return (event,)


def cut(leg: Leg, ending: Ending, state: OpenConnection | None, wall_us: int, side: Side | None = None) -> Outcome:
    """Reset both streams. A leg that carries bytes ends later, when the splice has reported how many (D-10).

    :param side: the side whose session has ended, if that is the reason.
    """
    code = known(ending.code, Code.PEER_LOST)  # never 0: a cut is no FIN (D-17)
    if ending.suspended and not leg.facts.resumable:
        code = Code.PEER_RESET  # neither end may wait for another leg
    if leg.phase in PASSING and leg.carried is None:
        abort = AbortConnection(leg.facts.key, code)
        return leg._replace(phase=LegPhase.ENDING, ending=ending, lost=side), Decision(commands=(abort,))
    if leg.phase not in _ESTABLISHED and side is Side.CONSUMER and ending.suspended:
        code = Code.PEER_RESET  # the provider never had it established, so it can't go on anywhere
    return end(leg, ending, state, wall_us, AbortConnection(leg.facts.key, code), side=side)


def end(
    leg: Leg, ending: Ending, state: OpenConnection | None, wall_us: int, *commands: Command, side: Side | None = None
) -> Outcome:
    """Log the end, acknowledge the Close Requests, and forget the leg's streams."""
    facts = leg.facts
    suspended = ending.suspended and leg.phase in _ESTABLISHED and leg.facts.resumable
    ending = ending._replace(suspended=suspended)
    events: tuple[Event, ...]
    if state is None:
        events = (refused(leg, ending),)
    elif suspended:
        events = _suspended(leg, ending, state, wall_us)
    else:
        events = (_ended(ending, state, _carried(leg, state), wall_us, rejected=leg.rejected is not None),)
    # An endpoint whose Close Request isn't acknowledged makes it again in the next leg, where it can be carried out.
    asked = () if suspended else leg.asked
    ack = CloseAck(facts.connection_uid, facts.epoch)
    answers = tuple(SendPacket(facts.session(side), ack) for side in asked)
    # RefuseConnection forgets the streams itself.
    forget = () if any(isinstance(c, RefuseConnection) for c in commands) else (ForgetConnection(facts.key),)
    ended = leg._replace(phase=LegPhase.ENDED, ending=ending, lost=side or leg.lost)
    return ended, Decision(events, (*commands, *answers, *forget))


def leave(ending: Ending, state: OpenConnection | None, wall_us: int) -> tuple[Event, ...]:
    """The end of a leg at a provider that didn't take it, while the opening goes on (D-35); none if not logged."""
    return () if state is None else (_ended(ending, state, (0, 0), wall_us, rejected=True),)


def failed(leg: Leg, state: OpenConnection | None, wall_us: int) -> Decision:
    """End a leg whose actor has failed, at once."""
    if leg.phase is LegPhase.ENDED:
        return Decision()
    reason = "a fault in the hub" + ("" if leg.carried or state is None else "; the byte counts are lower bounds")
    ending = Ending(DisconnectReason.ERROR, Code.INTERNAL, reason)
    return end(leg, ending, state, wall_us, AbortConnection(leg.facts.key, Code.INTERNAL))[1]


def _suspended(leg: Leg, ending: Ending, state: OpenConnection, wall_us: int) -> tuple[Event, ...]:
    """The events of a suspended leg; after a planned pause, with the offsets that both endpoints stated (D-10)."""
    carried = _carried(leg, state)
    start = (state.start_sent_offset, state.start_receive_offset)
    planned = None not in leg.paused
    paused = carried
    if planned:
        # Clamped to what was passed on: an endpoint can't have taken bytes that never came, whatever it says. Say the
        # leg began at offset 1000 and carried 500: an ack with 1300 means 300 of them, one with 9999 counts as 500.
        stated = [offset - at for offset, at in zip(leg.paused, start, strict=True) if offset is not None]
        paused = (max(0, min(carried[0], stated[0])), max(0, min(carried[1], stated[1])))
    event = ConnectionPaused(
        **shared(LegEvent, state),
        sent_offset=start[0] + paused[0],
        receive_offset=start[1] + paused[1],
        planned=planned,
        code=ending.code,
        reason=ending.reason,
    )
    return event, _ended(ending, state, paused, wall_us)


def _carried(leg: Leg, state: OpenConnection) -> tuple[int, int]:
    """Bytes passed on, as far as is known: as the splice reported at its end, else as logged by the last progress."""
    return leg.carried or (state.total_sent_bytes, state.total_receive_bytes)


class _Counts(TypedDict):
    """The byte counts of a leg's events (D-10)."""

    total_sent_bytes: int
    total_receive_bytes: int
    delta_sent_bytes: int
    delta_receive_bytes: int


def _counts(carried: tuple[int, int], state: OpenConnection) -> _Counts:
    """The counts of an event: never less than is logged already.

    After a pause, an endpoint may have taken less than was passed on. Then the offset at which the next leg begins
    shows it, and not a negative delta here (D-10).
    """
    sent, received = max(carried[0], state.total_sent_bytes), max(carried[1], state.total_receive_bytes)
    return _Counts(
        total_sent_bytes=sent,
        total_receive_bytes=received,
        delta_sent_bytes=sent - state.total_sent_bytes,
        delta_receive_bytes=received - state.total_receive_bytes,
    )


def _ended(
    ending: Ending, state: OpenConnection, carried: tuple[int, int], wall_us: int, *, rejected: bool = False
) -> ConnectionEnded:
    return ConnectionEnded(
        **shared(LegStartEvent, state),
        **_counts(carried, state),
        elapsed_time=state.elapsed(wall_us),
        disconnect_reason=ending.disconnect_reason,
        code=ending.code,
        reason=ending.reason,
        suspended=ending.suspended,
        rejected=rejected,
    )
