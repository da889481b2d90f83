"""Endpoints of one service whose process is gone, with everything that it had to go on with (D-20).

The evidence is a session that was lost because its endpoint's port is closed (:attr:`SessionClosed.process_gone`). A
grace follows, in which the same instance may show itself in another session. Then its connections are over: who asks to
go on with one is told GONE, and the other side, which may not be the one that asks, hears it without asking. Part of
the service's actor, as :mod:`spnhub.actors.service.resume` is.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from pykka import ActorRef

from spnhub.actors.contract.commands import SendPacket
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.packets import PeerGone
from spnhub.actors.kernel.environment import Decision, Environment
from spnhub.actors.kernel.timers import Timer
from spnhub.actors.service.admission import Identity, identity
from spnhub.actors.service.registry import SessionRegistry
from spnhub.events.model import EndPointType

__all__ = ["GONE_LIMIT", "GoneInstanceDue", "GoneInstances"]

GONE_LIMIT: Final = 4096
"""Instances of one service that are remembered; those gone longest ago count as silent again."""


@dataclass(frozen=True, slots=True)
class GoneInstanceDue:
    """An instance's grace is over, or it has been remembered long enough."""

    who: Identity


@dataclass(slots=True)
class _Grace:
    timer: Timer
    replaced: bool = False
    """By another process with the same name, so there is nothing to remember."""
    askers: dict[int, None] = field(default_factory=dict)
    """Sessions of those that want to go on with it."""


class GoneInstances:
    """See the module.

    :param ref: whom :class:`GoneInstanceDue` is told; it calls :meth:`due`.
    """

    def __init__(self, env: Environment, ref: ActorRef[Any], registry: SessionRegistry) -> None:
        self._env = env
        self._ref = ref
        self._registry = registry
        self._graces: dict[Identity, _Grace] = {}
        self._gone: OrderedDict[Identity, Timer] = OrderedDict()
        """Longest ago first."""

    def lost(self, request: SessionRequested) -> None:
        """This session's endpoint has closed its port; nothing is said if the instance has another session."""
        who = identity(request)
        if who is not None and self._registry.identities.get(who) == request.session:
            self._drop(who)
            self._graces[who] = _Grace(self._after(self._env.options.gone_timeout, who))

    def came(self, request: SessionRequested, *, cut: bool) -> None:
        """This instance has a session; a provider that brings connections hears with whom it can't go on.

        :param cut: it takes the place of one that had connections. If it brings none, it is another process, which was
            told the same name, and the connections can't go on.
        """
        who = identity(request)
        if who is not None:
            cut = cut or who in self._graces
            self._drop(who)
            if cut and not request.brings_connections and request.end_point_type is EndPointType.CONSUMER:
                # A provider says so itself, when it is asked for them.
                self._graces[who] = _Grace(self._after(self._env.options.gone_timeout, who), replaced=True)
        if request.brings_connections and request.end_point_type is EndPointType.PROVIDER:
            for gone in self._gone:
                if gone[0] is EndPointType.CONSUMER:
                    self._tell(request.session, gone)

    def asked(self, consumer: int, peer: str, instance_id: str) -> bool:
        """Whether this provider instance is gone. If that is about to turn out, ``consumer`` will hear of it."""
        who = (EndPointType.PROVIDER, peer, instance_id)
        grace = self._graces.get(who)
        if grace is not None:
            grace.askers[consumer] = None
        return who in self._gone

    def due(self, who: Identity) -> None:
        """Its grace is over, or it is forgotten."""
        grace = self._graces.pop(who, None)
        if grace is None:
            self._drop(who)
            return
        if not grace.replaced:
            self._gone[who] = self._after(self._env.options.resume_timeout, who)
        if len(self._gone) > GONE_LIMIT:
            self._drop(next(iter(self._gone)))
        # A consumer asks, sooner or later. A provider can't, and nobody else knows with whom its connections are.
        hearers = grace.askers if who[0] is EndPointType.PROVIDER else self._providers()
        for session in list(hearers):
            self._env.work_queue.add(partial(self._tell, session, who))

    def _providers(self) -> list[int]:
        sessions = self._registry.sessions.items()
        return [session for session, request in sessions if request.end_point_type is EndPointType.PROVIDER]

    def _after(self, seconds: float, who: Identity) -> Timer:
        return self._env.after(seconds, self._ref, GoneInstanceDue(who))

    def _drop(self, who: Identity) -> None:
        grace, timer = self._graces.pop(who, None), self._gone.pop(who, None)
        for one in (grace.timer if grace is not None else None, timer):
            if one is not None:
                one.cancel()

    def _tell(self, session: int, who: Identity) -> None:
        _, peer, instance_id = who
        self._env.carry_out(Decision(commands=(SendPacket(session, PeerGone(peer, instance_id)),)))
