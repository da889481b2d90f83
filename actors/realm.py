"""The actor of one realm (a tenant): its networks' services. Realms never see each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pykka import ActorRef

from spnhub.actors.codes import Code
from spnhub.actors.definitions import RealmDefinition
from spnhub.actors.environment import Environment
from spnhub.actors.inputs import SessionRequested
from spnhub.actors.runtime import EventLoopActor
from spnhub.actors.service import Define, ServiceActor, SessionsStopped, StopSessions, refuse_session
from spnhub.events.model import EndPointType

__all__ = ["DefineRealm", "RealmActor"]


@dataclass(frozen=True, slots=True)
class DefineRealm:
    """The realm's definition from now on; None: it is no longer defined, and takes no new sessions."""

    definition: RealmDefinition | None


class RealmActor(EventLoopActor):
    """One realm. Its parent is the hub's actor; it is told its definition before anything else."""

    def __init__(self, env: Environment, parent: ActorRef[Any]) -> None:
        super().__init__()
        self._env = env
        self._parent = parent
        self._services: dict[tuple[str, str], ActorRef[Any]] = {}
        """By network URN and service URN."""
        self._defined: set[tuple[str, str]] = set()
        """Those that the inventory has now; the others only keep the sessions they have."""
        self._waiting: dict[EndPointType, set[ActorRef[Any]]] = {}

    def on_receive(self, message: object) -> None:
        """Each kind has its handler."""
        _HANDLERS[type(message)](self, message)

    def recover(self, message: object) -> bool:
        """A tenant depends on this actor, so it lives on, and who asked gets an answer."""
        if isinstance(message, SessionRequested):
            self._env.carry_out(refuse_session(message, Code.INTERNAL, "a fault in the hub"))
        return True

    def _define(self, message: DefineRealm) -> None:
        networks = message.definition.networks if message.definition else ()
        services = {(network.urn, service.urn): service for network in networks for service in network.services}
        for name, definition in services.items():
            if name in self._services:
                self._services[name].tell(Define(definition))
            else:
                self._services[name] = self._env.dispatcher.start(ServiceActor, self._env, self.actor_ref, definition)
        self._defined = set(services)

    def _session_requested(self, request: SessionRequested) -> None:
        name = (request.network_urn, request.service_urn)
        if name in self._defined:
            self._services[name].tell(request)
        else:
            reason = f"{request.network_urn} has no service {request.service_urn}"
            self._env.carry_out(refuse_session(request, Code.UNKNOWN_SERVICE, reason))

    def _stop_sessions(self, message: StopSessions) -> None:
        self._waiting[message.role] = set(self._services.values())
        for service in self._services.values():
            service.tell(message)
        self._report_stopped(message.role)

    def _sessions_stopped(self, message: SessionsStopped) -> None:
        waiting = self._waiting.get(message.role, set())
        if message.child in waiting:
            waiting.discard(message.child)
            self._report_stopped(message.role)

    def _report_stopped(self, role: EndPointType) -> None:
        if not self._waiting[role]:
            self._parent.tell(SessionsStopped(role, self.actor_ref))


_HANDLERS: dict[type, Callable[[RealmActor, Any], None]] = {
    DefineRealm: RealmActor._define,
    SessionRequested: RealmActor._session_requested,
    StopSessions: RealmActor._stop_sessions,
    SessionsStopped: RealmActor._sessions_stopped,
}
