"""The actor of one leg: it carries out what :mod:`~spnhub.actors.connection.transitions` decides, and has its timer."""

from __future__ import annotations

from typing import Any, Final

from pykka import ActorRef

from spnhub.actors.connection import transitions
from spnhub.actors.connection.state import Leg, LegMessage, LegPhase, Rejection, Side, TimedOut, Wait
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import BytesCarried, Key, SpliceEnded
from spnhub.actors.kernel.environment import Environment
from spnhub.actors.kernel.runtime import EventLoopActor
from spnhub.actors.kernel.timers import Timer
from spnhub.events.frozen import dataclass
from spnhub.events.state.entities import OpenConnection

__all__ = [
    "ConnectionActor",
    "ConnectionFailed",
    "ConnectionGone",
    "OpeningAccepted",
    "OpeningRejected",
    "ProviderLeft",
    "ServerUnreachable",
]


@dataclass(frozen=True, slots=True)
class ConnectionGone:
    """To its service: the leg has ended, and its end is logged."""

    key: Key
    suspended: bool
    """It was suspended because its consumer was lost: the provider keeps the conversation."""


@dataclass(frozen=True, slots=True)
class OpeningAccepted:
    """To its service: a provider on trial has taken the opening (D-35)."""

    key: Key


@dataclass(frozen=True, slots=True)
class OpeningRejected:
    """To its service: the provider doesn't take the opening (D-35).

    The answer is ``ProviderChosen``, ``ProviderAwaited`` or ``NoProvider``.
    """

    key: Key
    rejection: Rejection


@dataclass(frozen=True, slots=True)
class ServerUnreachable:
    """To its service: a provider that doesn't answer openings couldn't reach its server (D-35)."""

    key: Key


@dataclass(frozen=True, slots=True)
class ProviderLeft:
    """To its service: the end of the leg at the provider that didn't take the opening is logged."""

    key: Key


@dataclass(frozen=True, slots=True)
class ConnectionFailed:
    """To its service: the leg's actor has failed in the state ``leg``."""

    leg: Leg


_UNANSWERED: Final = TimedOut(Wait.ANSWER)


class ConnectionActor(EventLoopActor):
    """One leg (D-1). Its parent is the service's actor."""

    def __init__(self, env: Environment, parent: ActorRef[Any], leg: Leg) -> None:
        super().__init__()
        self._env = env
        self._parent = parent
        self._leg = leg
        self._wait: Wait | None = None
        self._timer: Timer | None = None
        self._asked_at = env.now
        """Monotonic seconds: when the present provider got the opening, or was last found not to have answered."""
        self._until = 0.0
        """Monotonic seconds: when some provider must have accepted, however many are asked."""

    @property
    def leg(self) -> Leg:
        """What the actor holds."""
        return self._leg

    def on_start(self) -> None:
        """Ask for the provider's stream, or invite the provider."""
        self._env.carry_out(transitions.opening(self._leg))
        self._arm_timer()

    def on_receive(self, message: LegMessage) -> None:
        """Decide, apply, and report to the service what it has to know."""
        # The timer for an answer was set for the provider before, if the opening has gone on since: then it is early.
        if isinstance(message, TimedOut) and message.wait is Wait.ANSWER and not self._is_unanswered():
            return
        self._judge_silent_provider(message)
        leg, decision = transitions.decide(self._leg, message, self._state(), self._env.wall_us)
        self._env.carry_out(decision)
        if leg is self._leg:  # nothing has changed: the usual case, since most messages are about progress
            return
        before, self._leg = self._leg, leg
        if leg.facts.provider != before.facts.provider:
            self._asked_at = self._env.now
        self._arm_timer()
        if leg.phase is before.phase:
            return
        if leg.phase is LegPhase.ENDED:
            self.stop()
        elif leg.phase is LegPhase.REJECTED:
            assert leg.rejected is not None, "it has a reason"
            self._parent.tell(OpeningRejected(leg.facts.key, leg.rejected))
        elif before.phase is LegPhase.REJECTED and leg.facts.provider != before.facts.provider:
            self._parent.tell(ProviderLeft(leg.facts.key))
        elif leg.phase is LegPhase.JOINED and leg.on_trial and leg.facts.provider_answers:
            self._parent.tell(OpeningAccepted(leg.facts.key))

    def _judge_silent_provider(self, message: LegMessage) -> None:
        """Report whether a provider that doesn't answer has taken the connection: what becomes of it says so."""
        leg = self._leg
        if leg.facts.provider_answers or leg.phase is not LegPhase.JOINED:
            return
        match message:
            case SpliceEnded(receive_bytes=0, code=Code.CONNECT_FAILED, by_consumer=False):
                self._parent.tell(ServerUnreachable(leg.facts.key))
            case SpliceEnded() | BytesCarried() if leg.on_trial and message.receive_bytes:
                self._parent.tell(OpeningAccepted(leg.facts.key))
            case _:
                pass

    def on_stop(self) -> None:
        """Tell the service that the leg has ended."""
        leg = self._leg
        suspended = leg.lost is Side.CONSUMER and leg.ending is not None and leg.ending.suspended
        self._parent.tell(ConnectionGone(leg.facts.key, suspended))

    def on_failed(self) -> None:
        """Tell the service, which ends the leg; no other connection is affected."""
        if self._timer is not None:
            self._timer.cancel()
        self._parent.tell(ConnectionFailed(self._leg))

    def _state(self) -> OpenConnection | None:
        key = self._leg.log_key
        return None if key is None else self._env.state.connections.get(key)

    def _arm_timer(self) -> None:
        """Set the timer for what the leg waits for now; a wait that goes on keeps its time.

        So an opening that is offered to a second provider has only what is left of its accept_timeout.
        """
        wait = self._leg.wait
        if wait is self._wait:
            return
        self._wait = wait
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait is Wait.ACCEPT:
            self._until = self._env.now + self._env.options.accept_timeout
            self._await_answer()
        elif wait is not None:
            self._timer = self._env.after(self._seconds(wait), self.actor_ref, TimedOut(wait))

    def _is_unanswered(self) -> bool:
        """Whether the present provider has had answer_timeout to answer; the timer is set for the next such check."""
        overdue = self._env.now >= self._asked_at + self._env.options.answer_timeout
        if overdue:
            self._asked_at = self._env.now
        self._await_answer()
        return overdue

    def _await_answer(self) -> None:
        due = self._asked_at + self._env.options.answer_timeout
        message = _UNANSWERED if due < self._until else TimedOut(Wait.ACCEPT)
        self._timer = self._env.after(max(0.0, min(due, self._until) - self._env.now), self.actor_ref, message)

    def _seconds(self, wait: Wait) -> float:
        options = self._env.options
        match wait:
            case Wait.INVITE | Wait.STREAMS | Wait.PAUSE:
                return options.step_timeout
            case Wait.PROVIDER:
                return options.provider_patience if self._leg.facts.patient else options.start_timeout
            case Wait.ACCEPT | Wait.ANSWER:
                return options.accept_timeout
            case Wait.CLOSE:
                return options.close_timeout
            case Wait.ABORT:
                return options.abort_timeout
