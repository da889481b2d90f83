"""Consumers that can't ask again, and have no provider: their sessions end when nobody has come for long enough.

A consumer that can is refused at once while there is no provider (D-27). Part of the service's actor, as
:mod:`spnhub.actors.service.resume` is. Memory: one timer for each such session, while there is no provider.
"""

from __future__ import annotations

from typing import Any

from pykka import ActorRef

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.protocols import abilities
from spnhub.actors.kernel.environment import Environment
from spnhub.actors.kernel.timers import Timer
from spnhub.actors.service.registry import SessionRegistry
from spnhub.actors.session.endings import by_hub
from spnhub.actors.session.messages import EndSession
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType

__all__ = ["ConsumerUnserved", "UnservedConsumers"]


@dataclass(frozen=True, slots=True)
class ConsumerUnserved:
    """Timer: a consumer has been without a provider for as long as it may."""

    session: int


class UnservedConsumers:
    """The consumers of one service that wait for a provider.

    :param ref: the service's actor, which gets :class:`ConsumerUnserved` and calls :meth:`due`.
    """

    def __init__(self, env: Environment, ref: ActorRef[Any], registry: SessionRegistry) -> None:
        self._env = env
        self._ref = ref
        self._registry = registry
        self._timers: dict[int, Timer] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def add(self, request: SessionRequested) -> None:
        """A consumer has a session."""
        if not len(self._registry.choice) and not abilities(request.protocol).asks_again:
            self._wait(request.session)

    def provider_came(self) -> None:
        """There is a provider: nobody is without one."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def providers_left(self) -> None:
        """There is no provider any more."""
        for session, request in self._registry.sessions.items():
            if request.end_point_type is EndPointType.CONSUMER and session not in self._timers:
                self.add(request)

    def gone(self, session: int) -> None:
        """The session has ended."""
        timer = self._timers.pop(session, None)
        if timer is not None:
            timer.cancel()

    def due(self, session: int, *, startable: bool) -> None:
        """End the session, unless it has connections, say with a provider that gets no new ones.

        :param startable: the service is started when somebody wants it.
        """
        if self._timers.pop(session, None) is None:
            return
        if startable or self._env.directory.sessions[session].legs:
            self._wait(session)
            return
        reason = f"no provider has come within {self._env.options.provider_patience:g} s"
        self._env.directory.tell_session(session, EndSession(by_hub(Code.NO_PROVIDER, reason)))

    def _wait(self, session: int) -> None:
        self._timers[session] = self._env.after(
            self._env.options.provider_patience, self._ref, ConsumerUnserved(session)
        )
