"""Endpoints of one service whose process is gone, with everything that it had to go on with (D-20).

The evidence is a session that was lost because its endpoint's port is closed (:attr:`SessionClosed.process_gone`). A
grace period follows, in which the same instance may show by another session that it lives. After it, the connections of
that process are over. An endpoint that asks to resume one is refused with GONE, and a provider, which can't ask, is
notified without asking. Part of the service's actor, as :mod:`spnhub.actors.service.resume` is.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import field
from functools import partial
from typing import Any, Final

from pykka import ActorRef

from spnhub.actors.contract.commands import SendPacket
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.packets import PeerGone
from spnhub.actors.contract.protocols import is_resumable
from spnhub.actors.kernel.environment import Decision, Environment
from spnhub.actors.kernel.timers import Timer
from spnhub.actors.service.registry import Identity, SessionRegistry, identity
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType

__all__ = ["GONE_LIMIT", "GoneInstanceDue", "GoneInstances"]

GONE_LIMIT: Final = 4096
"""The most gone instances of one service that are remembered. Those that went first are forgotten: like an instance
    that was merely not heard of, they get NOT_HERE, and their peers go on asking until ``resume_timeout``."""


@dataclass(frozen=True, slots=True)
class GoneInstanceDue:
    """Timer: the grace period of an instance is over, or it has been remembered long enough."""

    instance: Identity


@dataclass(slots=True)
class _Grace:
    timer: Timer
    replaced: bool = False
    """Another process with the same name has a session, so the name isn't remembered as gone."""
    askers: dict[int, None] = field(default_factory=dict)
    """Consumer sessions that have asked to resume a connection with it, in order; they hear if it is gone."""


class GoneInstances:
    """The instances that are gone, and those that may be (see the module).

    :param ref: the address of the service's actor, which gets :class:`GoneInstanceDue` and calls :meth:`due`.
    """

    def __init__(self, env: Environment, ref: ActorRef[Any], registry: SessionRegistry) -> None:
        self._env = env
        self._ref = ref
        self._registry = registry
        self._graces: dict[Identity, _Grace] = {}
        self._gone: OrderedDict[Identity, Timer] = OrderedDict()
        """The instances that are gone, the longest ago first, with the timer after which each is forgotten."""

    def counts(self) -> dict[str, int]:
        """How many instances may still come back, and of how many it is known that they are gone."""
        return {"graces": len(self._graces), "gone": len(self._gone)}

    def port_closed(self, request: SessionRequested) -> None:
        """Begin the grace period of an endpoint that has closed its port, unless its instance has another session."""
        instance = identity(request)
        if not is_resumable(request.instance_id):
            return  # nobody waits for it
        if instance is not None and self._registry.identities.get(instance) == request.session:
            self._drop(instance)
            self._graces[instance] = _Grace(self._after(self._env.options.gone_timeout, instance))

    def session_started(self, request: SessionRequested, *, cut_legs: bool) -> None:
        """Note that this instance has a session, and tell a provider that brings connections which consumers are gone.

        :param cut_legs: the session supersedes one whose connections were cut. If it brings none, another process was
            started under the same name, and those connections can't go on.
        """
        instance = identity(request)
        if instance is not None:
            cut_legs = cut_legs or instance in self._graces
            self._drop(instance)
            if cut_legs and not request.brings_connections and request.end_point_type is EndPointType.CONSUMER:
                # Not for a provider: the consumer asks it for the connection, and it answers GONE itself. Nothing would
                # ever ask a new consumer process, so the providers have to be notified.
                self._graces[instance] = _Grace(self._after(self._env.options.gone_timeout, instance), replaced=True)
        if request.brings_connections and request.end_point_type is EndPointType.PROVIDER:
            for gone in self._gone:
                if gone[0] is EndPointType.CONSUMER:
                    self._report_gone(request.session, gone)

    def is_gone(self, consumer: int, peer: str, instance_id: str) -> bool:
        """Whether this provider instance is gone.

        While its grace period lasts, that isn't known: then ``consumer``, the session that asks, hears it afterwards.
        """
        instance = (EndPointType.PROVIDER, peer, instance_id)
        grace = self._graces.get(instance)
        if grace is not None:
            grace.askers[consumer] = None
        return instance in self._gone

    def due(self, instance: Identity) -> None:
        """End the instance's grace period, or forget it."""
        grace = self._graces.pop(instance, None)
        if grace is None:
            self._drop(instance)
            return
        if not grace.replaced:
            self._gone[instance] = self._after(self._env.options.resume_timeout, instance)
        if len(self._gone) > GONE_LIMIT:
            self._drop(next(iter(self._gone)))
        # If a provider is gone, only the consumers that have asked need to hear: others ask sooner or later. If a
        # consumer is gone, all providers are notified: they never ask, and the hub, which may have been started after
        # the connection, doesn't know which of them has one with it.
        hearers = grace.askers if instance[0] is EndPointType.PROVIDER else self._providers()
        for session in list(hearers):
            self._env.work_queue.add(partial(self._report_gone, session, instance))

    def _providers(self) -> list[int]:
        sessions = self._registry.sessions.items()
        return [session for session, request in sessions if request.end_point_type is EndPointType.PROVIDER]

    def _after(self, seconds: float, instance: Identity) -> Timer:
        return self._env.after(seconds, self._ref, GoneInstanceDue(instance))

    def _drop(self, instance: Identity) -> None:
        grace, timer = self._graces.pop(instance, None), self._gone.pop(instance, None)
        for one in (grace.timer if grace is not None else None, timer):
            if one is not None:
                one.cancel()

    def _report_gone(self, session: int, instance: Identity) -> None:
        _, peer, instance_id = instance
        self._env.carry_out(Decision(commands=(SendPacket(session, PeerGone(peer, instance_id)),)))
