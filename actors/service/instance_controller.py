"""The controller of a service's instance, with its one timer.

It carries out what :mod:`spnhub.actors.service.instance` decides.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec

from pykka import ActorRef

from spnhub.actors.contract import inputs
from spnhub.actors.kernel.environment import Environment
from spnhub.actors.kernel.timers import Timer
from spnhub.actors.service import instance as rules
from spnhub.actors.service.instance import Instance, Outcome, Situation
from spnhub.dataclass import dataclass

__all__ = ["InstanceController", "InstanceDue"]

_P = ParamSpec("_P")


@dataclass(frozen=True, slots=True)
class InstanceDue:
    """To the service's actor: it is time for :meth:`InstanceController.due`."""


class InstanceController:
    """Part of a service's actor.

    :param ref: the address of that actor, which gets :class:`InstanceDue`.
    :param situation: returns what that actor knows at this moment.
    :param changed: called with the instance before and after each change of it.
    """

    def __init__(
        self,
        env: Environment,
        ref: ActorRef[Any],
        situation: Callable[[], Situation],
        changed: Callable[[Instance, Instance], None],
    ) -> None:
        self._env = env
        self._ref = ref
        self._situation = situation
        self._changed = changed
        self.instance = Instance()
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self._due_reported = False

    def decide(
        self, rule: Callable[Concatenate[Instance, Situation, _P], Outcome], *args: _P.args, **kwargs: _P.kwargs
    ) -> None:
        """Apply a rule of :mod:`spnhub.actors.service.instance` to the instance."""
        situation = self._situation()
        before = rules.observe(self.instance, situation)
        self.instance, decision = rule(before, situation, *args, **kwargs)
        self._env.carry_out(decision)
        self._arm(situation)
        if self.instance is not before:
            self._changed(before, self.instance)

    def report(self, message: inputs.ServiceInput) -> None:
        """Apply what a cluster manager or the schedule has reported."""
        match message:
            case inputs.StartSucceeded():
                self.decide(rules.started)
            case inputs.StartFailed():
                self.decide(rules.start_failed, message.reason, retryable=message.retryable)
            case inputs.StopSucceeded():
                self.decide(rules.stopped)
            case inputs.StopFailed():
                self.decide(rules.stop_failed, message.reason)
            case inputs.ServiceExited():
                self.decide(rules.exited, message.reason)
            case inputs.ScheduleDue() if message.start:
                self.decide(rules.need, rules.SCHEDULE)
            case inputs.ScheduleDue():
                self.decide(rules.stop, rules.SCHEDULE)

    def observe(self) -> None:
        """Take notice of a change of providers or connections."""
        situation = self._situation()
        self.instance = rules.observe(self.instance, situation)
        self._arm(situation)

    def due(self) -> None:
        """Do what is due: the timer has fired, or the time had come already when it would have been set."""
        self._due_reported = False
        self.cancel()
        self.decide(rules.on_timer)

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self, situation: Situation) -> None:
        """Set the one timer for the next due time.

        A timer that is set for an earlier time stays: :meth:`due` finds nothing to do then, and sets it anew. So the
        idle timeout may move with each connection, a thousand times a second, without a new timer.
        """
        at = rules.due(self.instance, situation)
        if at is None or self._due_reported or (self._timer is not None and self._timer_at <= at):
            return
        self.cancel()
        if at <= self._env.now:
            # Not by a timer: timers fire after the inputs of the same moment, and a start shouldn't wait for those.
            self._due_reported = True
            self._ref.tell(InstanceDue())
        else:
            self._timer_at = at
            self._timer = self._env.after(at - self._env.now, self._ref, InstanceDue())
