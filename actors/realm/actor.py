"""The actor of one realm (a tenant): its networks' services. Realms never see each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from pykka import ActorRef

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.inventory import NO_NAME, ServiceKey
from spnhub.actors.contract.protocols import abilities
from spnhub.actors.kernel.environment import Environment
from spnhub.actors.kernel.runtime import EventLoopActor
from spnhub.actors.service.actor import ServiceActor
from spnhub.actors.service.admission import refuse_session
from spnhub.actors.service.messages import Define, Leave, ServiceEmpty, SessionsStopped, StopSessions
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType

__all__ = ["DefineRealm", "DefineService", "RealmActor", "RealmEmpty", "RealmMessage"]


@dataclass(frozen=True, slots=True)
class DefineService:
    """The inventory's definition of this service has changed or is gone."""

    key: ServiceKey


@dataclass(frozen=True, slots=True)
class DefineRealm:
    """The inventory's definition of this realm has changed or is gone."""


@dataclass(frozen=True, slots=True)
class RealmEmpty:
    """To the parent: the realm is no longer defined, and none of its services is left."""

    name: str


RealmMessage = SessionRequested | DefineRealm | DefineService | Leave | ServiceEmpty | StopSessions | SessionsStopped


def _not_one(request: SessionRequested, found: tuple[str, ...]) -> str:
    """Why a common name doesn't say which service an endpoint means."""
    if not request.common_name:
        return NO_NAME
    who = f"{request.common_name!r} may be a {request.end_point_type} of"
    if not found:
        return f"{request.common_name!r} may not be a {request.end_point_type} of any service of {request.network_urn}"
    return f"{who} {len(found)} services, and {request.protocol} doesn't say which: {', '.join(found[:8])}"


class RealmActor(EventLoopActor):
    """One realm. Its parent is the hub's actor; its definition is in the table (:attr:`Environment.table`)."""

    def __init__(self, env: Environment, parent: ActorRef[Any], name: str) -> None:
        super().__init__()
        self._env = env
        self._parent = parent
        self._name = name
        self._services: dict[ServiceKey, ActorRef[Any]] = {}
        """The services of the inventory, and removed ones until they have no session and no instance to stop."""
        self._waiting: dict[EndPointType, set[ActorRef[Any]]] = {}
        """During a stop: by role, the services that haven't reported yet that they have no session of it left."""

    @property
    def name(self) -> str:
        """The realm's name."""
        return self._name

    def on_receive(self, message: RealmMessage) -> None:
        """Call the handler of the message's class."""
        match message:
            case SessionRequested():
                self._session_requested(message)
            case DefineRealm():
                self._define()
            case DefineService():
                self._define_service(message)
            case Leave():
                self._leave()
            case ServiceEmpty():
                self._service_empty(message)
            case StopSessions():
                self._stop_sessions(message)
            case SessionsStopped():
                self._sessions_stopped(message)
            case _:
                assert_never(message)

    def recover(self, message: object) -> bool:
        """Stay alive, since a tenant depends on this actor, and answer a request for a session."""
        if isinstance(message, SessionRequested):
            self._env.carry_out(refuse_session(message, Code.INTERNAL, "a fault in the hub"))
        return True

    def _session_requested(self, request: SessionRequested) -> None:
        if not request.service_urn and not abilities(request.protocol).names_service:
            found = self._env.table.services_of(request.network_urn, request.end_point_type, request.common_name)
            if len(found) != 1:
                self._env.carry_out(refuse_session(request, Code.NOT_ALLOWED, _not_one(request, found)))
                return
            request = replace(request, service_urn=found[0])
        key = ServiceKey(request.network_urn, request.service_urn)
        if self._defines(key):
            self._service(key).tell(request)
        else:
            reason = f"{request.network_urn} has no service {request.service_urn!r}"
            self._env.carry_out(refuse_session(request, Code.UNKNOWN_SERVICE, reason))

    # Definitions

    def _defines(self, key: ServiceKey) -> bool:
        table = self._env.table
        return key in table.services and table.realm_of(key) == self._name

    def _service(self, key: ServiceKey) -> ActorRef[Any]:
        ref = self._services.get(key)
        if ref is None:
            ref = self._env.dispatcher.start(ServiceActor, self._env, self.actor_ref, self._name, key)
            self._services[key] = self._env.directory.services[key.service_urn] = ref
        return ref

    def _define_service(self, message: DefineService) -> None:
        if message.key in self._services or self._defines(message.key):
            self._service(message.key).tell(Define())

    def _service_empty(self, message: ServiceEmpty) -> None:
        key = message.key
        if self._defines(key) or self._waiting or self._services.get(key) != message.child:
            return
        del self._services[key]
        if self._env.directory.services.get(key.service_urn) == message.child:
            del self._env.directory.services[key.service_urn]
        message.child.tell(Leave())
        self._report_if_empty()

    def _define(self) -> None:
        self._report_if_empty()

    def _report_if_empty(self) -> None:
        if self._name not in self._env.table.realms and not self._services:
            self._parent.tell(RealmEmpty(self._name))

    def _leave(self) -> None:
        self.stop()

    # The stop

    def _stop_sessions(self, message: StopSessions) -> None:
        for role in message.roles:
            self._waiting[role] = set(self._services.values())
        for service in self._services.values():
            service.tell(message)
        for role in message.roles:
            self._report_stopped(role)

    def _sessions_stopped(self, message: SessionsStopped) -> None:
        waiting = self._waiting.get(message.role, set())
        if message.child in waiting:
            waiting.discard(message.child)
            self._report_stopped(message.role)

    def _report_stopped(self, role: EndPointType) -> None:
        if not self._waiting[role]:
            self._parent.tell(SessionsStopped(role, self.actor_ref))
