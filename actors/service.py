"""The actor of one service: who may have a session, which provider gets a connection, and the end of what failed.

It is the parent of the sessions and connections of its service, and keeps their addresses in the directory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pykka import ActorRef

from spnhub.actors import leg_rules
from spnhub.actors.choice import ProviderChoice
from spnhub.actors.codes import Code
from spnhub.actors.commands import AcceptSession, RefuseSession
from spnhub.actors.connection import ConnectionActor, ConnectionFailed, ConnectionGone
from spnhub.actors.definitions import ServiceDefinition
from spnhub.actors.environment import ConnectionEntry, Decision, Environment, SessionEntry
from spnhub.actors.inputs import ConnectionRequested, Key, SessionRequested
from spnhub.actors.leg import Leg, LegFacts, MustEnd, Side
from spnhub.actors.runtime import EventLoopActor
from spnhub.actors.session import (
    EndSession,
    LastLegGone,
    LegRequested,
    SessionActor,
    SessionEnding,
    SessionFailed,
    SessionGone,
    SessionLeaves,
    SuspicionChanged,
    by_fault,
    by_hub,
    decide_end,
    refuse_connection,
)
from spnhub.events.model import EndPointType, SessionRefused, SessionStarted

__all__ = ["Define", "ServiceActor", "SessionsStopped", "StopSessions", "refuse_session", "role_fault"]


@dataclass(frozen=True, slots=True)
class Define:
    """The service's definition from now on; sessions that are up stay as they are."""

    definition: ServiceDefinition


@dataclass(frozen=True, slots=True)
class StopSessions:
    """Planned stop (R-4.10): nothing new, and the sessions of this role end; ``SessionsStopped`` says when."""

    role: EndPointType


@dataclass(frozen=True, slots=True)
class SessionsStopped:
    """To the parent: no session of this role is left in ``child``."""

    role: EndPointType
    child: ActorRef[Any]


Refusal = tuple[Code, str]


def role_fault(definition: ServiceDefinition, request: SessionRequested) -> Refusal | None:
    """Why the certificate's common name may not play this role for this service; None when it may."""
    if request.end_point_type is EndPointType.PROVIDER:
        allowed = request.common_name == definition.provider
    else:
        allowed = request.common_name in definition.consumers
    if allowed:
        return None
    return Code.NOT_ALLOWED, f"{request.common_name!r} may not be a {request.end_point_type} of {definition.urn}"


def refuse_session(request: SessionRequested, code: Code, reason: str) -> Decision:
    """No to a session, with its reason (R-2.2)."""
    event = SessionRefused(
        realm=request.realm,
        network_urn=request.network_urn,
        spn_end_point=request.spn_end_point,
        end_point_type=request.end_point_type,
        service_urn=request.service_urn,
        remote_address=request.remote_address,
        code=code,
        reason=reason,
    )
    return Decision((event,), (RefuseSession(request.session, code, reason),))


def _accept_session(request: SessionRequested) -> Decision:
    event = SessionStarted(
        realm=request.realm,
        network_urn=request.network_urn,
        spn_session_id=request.spn_session_id,
        spn_end_point=request.spn_end_point,
        end_point_type=request.end_point_type,
        service_urn=request.service_urn,
        instance_id=request.instance_id,
        weight=request.weight,
        protocol=request.protocol,
        remote_address=request.remote_address,
    )
    return Decision((event,), (AcceptSession(request.session, request.spn_session_id),))


def _identity(request: SessionRequested) -> tuple[EndPointType, str, str] | None:
    """Who a session is the only one of (D-28); None: it didn't say."""
    return (request.end_point_type, request.spn_end_point, request.instance_id) if request.instance_id else None


class ServiceActor(EventLoopActor):
    """One service of one network. Its parent is the realm's actor."""

    def __init__(self, env: Environment, parent: ActorRef[Any], definition: ServiceDefinition) -> None:
        super().__init__()
        self._env = env
        self._parent = parent
        self._definition = definition
        self._sessions: dict[int, SessionRequested] = {}
        self._roles: dict[EndPointType, int] = dict.fromkeys(EndPointType, 0)
        """Sessions of each role, ending ones included."""
        self._identities: dict[tuple[EndPointType, str, str], int] = {}
        self._choice = ProviderChoice()
        self._names: set[tuple[str, int]] = set()
        """connectionUid and epoch of every open leg."""
        self._failed: dict[int, SessionEnding] = {}
        """Sessions whose actor has failed and whose legs are ending."""
        self._stopping: set[EndPointType] = set()

    def on_receive(self, message: object) -> None:
        """Each kind has its handler."""
        _HANDLERS[type(message)](self, message)

    def recover(self, message: object) -> bool:
        """Others depend on this actor, so it lives on (handlers change it last), and who asked gets an answer."""
        match message:
            case SessionRequested() if message.session not in self._sessions:
                self._env.carry_out(refuse_session(message, Code.INTERNAL, "a fault in the hub"))
            case LegRequested() if Key(message.session, message.request.stream) not in self._env.directory.connections:
                session = self._sessions.get(message.session)
                if session is not None:
                    refusal = refuse_connection(session, message.request, Code.INTERNAL, "a fault in the hub")
                    self._env.carry_out(refusal)
        return True

    # Sessions

    def _session_requested(self, request: SessionRequested) -> None:
        refusal = self._session_fault(request)
        if refusal is not None:
            self._env.carry_out(refuse_session(request, *refusal))
            return
        identity = _identity(request)
        if identity is not None:
            self._supersede(identity)
            self._identities[identity] = request.session
        self._env.carry_out(_accept_session(request))
        ref = self._env.dispatcher.start(SessionActor, self._env, self.actor_ref, request)
        self._env.directory.sessions[request.session] = SessionEntry(ref, request.spn_session_id)
        self._sessions[request.session] = request
        self._roles[request.end_point_type] += 1
        if request.end_point_type is EndPointType.PROVIDER:
            self._choice.add(request.session, request.weight)

    def _session_fault(self, request: SessionRequested) -> Refusal | None:
        fault = role_fault(self._definition, request)
        if fault is not None:
            return fault
        if self._stopping:
            return Code.SHUTDOWN, "the hub is being stopped"
        if request.weight < 0:
            return Code.PROTOCOL, "a weight is at least 0"
        if request.end_point_type is EndPointType.PROVIDER:
            if self._definition.singleton and len(self._choice) > self._has_ghost(request):
                return Code.SINGLETON, f"{self._definition.urn} has its one provider"
        elif not len(self._choice) and not request.brings_connections:
            return Code.NO_PROVIDER, f"{self._definition.urn} has no provider now"
        return None

    def _has_ghost(self, request: SessionRequested) -> bool:
        identity = _identity(request)
        ghost = None if identity is None else self._identities.get(identity)
        return ghost is not None and ghost in self._choice

    def _supersede(self, identity: tuple[EndPointType, str, str]) -> None:
        """A reconnecting endpoint isn't kept out by the ghost of its own earlier session (D-28)."""
        ghost = self._identities.get(identity)
        if ghost is not None:
            self._choice.remove(ghost)
            ending = by_fault(Code.SUPERSEDED, "the same instance has a new session")
            self._env.directory.tell_session(ghost, EndSession(ending))

    def _suspicion_changed(self, message: SuspicionChanged) -> None:
        self._choice.set_suspect(message.session, message.suspect)

    def _session_leaves(self, message: SessionLeaves) -> None:
        self._choice.remove(message.session)

    def _session_gone(self, message: SessionGone) -> None:
        self._remove_session(message.session)

    def _session_failed(self, message: SessionFailed) -> None:
        """Its actor can't end it, so it is done here: the legs first, then the session."""
        session = message.session
        directory = self._env.directory
        entry = directory.sessions[session]
        if self._sessions[session].spn_session_id not in self._env.state.sessions:
            self._remove_session(session)  # it failed after its end
            return
        entry.ending = True
        self._choice.remove(session)
        self._failed[session] = ending = by_fault(Code.INTERNAL, "a fault in the hub")
        role = self._sessions[session].end_point_type
        side = Side.PROVIDER if role is EndPointType.PROVIDER else Side.CONSUMER
        for key in list(entry.legs.values()):
            directory.tell_connection(key, MustEnd(side, ending.leg))
        if not entry.legs:
            self._end_failed(session)

    def _end_failed(self, session: int) -> None:
        ending = self._failed.pop(session)
        state = self._env.state.sessions[self._sessions[session].spn_session_id]
        self._env.carry_out(decide_end(session, state, ending, self._env.wall))
        self._remove_session(session)

    def _remove_session(self, session: int) -> None:
        request = self._sessions.pop(session)
        del self._env.directory.sessions[session]
        self._choice.remove(session)
        identity = _identity(request)
        if identity is not None and self._identities.get(identity) == session:
            del self._identities[identity]
        self._roles[request.end_point_type] -= 1
        if request.end_point_type in self._stopping:
            self._report_stopped(request.end_point_type)

    # Connections

    def _leg_requested(self, message: LegRequested) -> None:
        consumer, request = self._sessions.get(message.session), message.request
        directory = self._env.directory
        if consumer is None:  # its actor has failed just after it asked, and the session has ended
            return
        name = (request.connection_uid, request.epoch)
        key = Key(message.session, request.stream)
        if self._stopping:
            refusal = refuse_connection(consumer, request, Code.SHUTDOWN, "the hub is being stopped")
        elif directory.sessions[message.session].ending:
            refusal = refuse_connection(consumer, request, Code.SHUTDOWN, "the session is ending")
        elif name in self._names or key in directory.connections:
            refusal = refuse_connection(consumer, request, Code.PROTOCOL, "a connection with this uid is open")
        else:
            provider = self._choice.acquire()
            if provider is not None:
                self._spawn_leg(key, name, consumer, self._sessions[provider], request)
                return
            reason = f"{self._definition.urn} has no provider now"
            refusal = refuse_connection(consumer, request, Code.NO_PROVIDER, reason)
        self._env.carry_out(refusal)

    def _spawn_leg(
        self,
        key: Key,
        name: tuple[str, int],
        consumer: SessionRequested,
        provider: SessionRequested,
        request: ConnectionRequested,
    ) -> None:
        facts = LegFacts(
            key=key,
            provider=provider.session,
            realm=consumer.realm,
            network_urn=consumer.network_urn,
            service_urn=consumer.service_urn,
            consumer_side_spn_session_id=consumer.spn_session_id,
            provider_side_spn_session_id=provider.spn_session_id,
            consumer_peer=consumer.spn_end_point,
            provider_peer=provider.spn_end_point,
            provider_instance=provider.instance_id,
            connection_uid=request.connection_uid,
            epoch=request.epoch,
        )
        directory = self._env.directory
        ref = self._env.dispatcher.start(ConnectionActor, self._env, self.actor_ref, Leg(facts))
        directory.connections[key] = ConnectionEntry(ref, provider.session, name)
        self._names.add(name)
        for session in (key.session, provider.session):
            directory.sessions[session].legs[name] = key

    def _connection_failed(self, message: ConnectionFailed) -> None:
        leg = message.leg
        state = None if leg.log_key is None else self._env.state.connections.get(leg.log_key)
        if leg.log_key is None or state is not None:  # otherwise its end is logged: it failed after it
            self._env.carry_out(leg_rules.failed(leg, state, self._env.wall))
        self._remove_connection(leg.facts.key)

    def _connection_gone(self, message: ConnectionGone) -> None:
        self._remove_connection(message.key)

    def _remove_connection(self, key: Key) -> None:
        directory = self._env.directory
        connection = directory.connections.pop(key)
        self._names.discard(connection.name)
        self._choice.release(connection.provider)
        for session in (key.session, connection.provider):
            entry = directory.sessions[session]
            del entry.legs[connection.name]
            if entry.ending and not entry.legs:
                if session in self._failed:
                    self._end_failed(session)
                else:
                    directory.tell_session(session, LastLegGone())

    # The definition and the stop

    def _define(self, message: Define) -> None:
        self._definition = message.definition

    def _stop_sessions(self, message: StopSessions) -> None:
        self._stopping.add(message.role)
        ending = by_hub(Code.SHUTDOWN, "the hub is being stopped")
        for session, request in self._sessions.items():
            if request.end_point_type is message.role:
                self._env.directory.tell_session(session, EndSession(ending))
        self._report_stopped(message.role)

    def _report_stopped(self, role: EndPointType) -> None:
        if not self._roles[role]:
            self._parent.tell(SessionsStopped(role, self.actor_ref))


_HANDLERS: dict[type, Callable[[ServiceActor, Any], None]] = {
    SessionRequested: ServiceActor._session_requested,
    SuspicionChanged: ServiceActor._suspicion_changed,
    SessionLeaves: ServiceActor._session_leaves,
    SessionGone: ServiceActor._session_gone,
    SessionFailed: ServiceActor._session_failed,
    LegRequested: ServiceActor._leg_requested,
    ConnectionFailed: ServiceActor._connection_failed,
    ConnectionGone: ServiceActor._connection_gone,
    Define: ServiceActor._define,
    StopSessions: ServiceActor._stop_sessions,
}
