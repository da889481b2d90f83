"""The actor of one service: who may have a session, which provider gets a connection, and the end of what failed.

It is the parent of the sessions and connections of its service, and keeps their addresses in the directory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pykka import ActorRef

from spnhub.actors.connection import endings
from spnhub.actors.connection.actor import (
    ConnectionFailed,
    ConnectionGone,
    OpeningAccepted,
    OpeningRejected,
    ProviderLeft,
)
from spnhub.actors.connection.resume_refusals import LegNames, refuse_resume
from spnhub.actors.connection.state import (
    MustEnd,
    NoProvider,
    Side,
)
from spnhub.actors.contract import inputs
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.definitions import Availability, ServiceDefinition
from spnhub.actors.contract.inputs import Key, ResumeRequested, SessionRequested
from spnhub.actors.contract.inventory import ServiceKey, not_allowed, service_event
from spnhub.actors.kernel.environment import Decision, Environment, SessionEntry
from spnhub.actors.kernel.runtime import EventLoopActor
from spnhub.actors.service import instance as rules
from spnhub.actors.service.admission import Refusal, accept_session, refuse_session, role_fault
from spnhub.actors.service.balancing import ProviderChoice
from spnhub.actors.service.gone import GoneInstanceDue, GoneInstances
from spnhub.actors.service.instance import Instance, Situation
from spnhub.actors.service.instance_controller import InstanceController, InstanceDue
from spnhub.actors.service.pending import PendingConnections
from spnhub.actors.service.registry import SessionRegistry
from spnhub.actors.service.resume import Resuming, SuspendedConnections, SuspensionExpired
from spnhub.actors.session.actor import (
    EndSession,
    LastLegGone,
    LegRequested,
    ProviderCame,
    ResponsivenessChanged,
    ResumeAsked,
    SessionActor,
    SessionEnding,
    SessionFailed,
    SessionGone,
    SessionLeaves,
    SessionWeighed,
    ShutSession,
    SupersedeSession,
    by_fault,
    by_hub,
    decide_end,
    refuse_connection,
    superseded,
)
from spnhub.events.model import EndPointType

__all__ = ["Define", "Leave", "ServiceActor", "ServiceEmpty", "SessionsStopped", "StopSessions"]


@dataclass(frozen=True, slots=True)
class Define:
    """The table has another definition of the service, or none."""


@dataclass(frozen=True, slots=True)
class ServiceEmpty:
    """To the parent: the service isn't defined any more, and nothing of it is left."""

    key: ServiceKey
    child: ActorRef[Any]


@dataclass(frozen=True, slots=True)
class Leave:
    """The actor isn't needed any more."""


@dataclass(frozen=True, slots=True)
class StopSessions:
    """Nothing new, and the sessions of these roles end; ``SessionsStopped`` says for each when none is left."""

    roles: tuple[EndPointType, ...]
    spread: float | None = None
    """None: a planned stop (R-4.10). Else resumable (R-4.8): seconds over which the endpoints spread their return."""


@dataclass(frozen=True, slots=True)
class SessionsStopped:
    """To the parent: no session of this role is left in ``child``."""

    role: EndPointType
    child: ActorRef[Any]


class ServiceActor(EventLoopActor):
    """One service of one network. Its parent is the realm's actor."""

    def __init__(self, env: Environment, parent: ActorRef[Any], realm: str, key: ServiceKey) -> None:
        super().__init__()
        self._env = env
        self._parent = parent
        self._realm = realm
        self._key = key
        self._definition: ServiceDefinition | None = None
        """As far as it has been taken notice of; what counts is the table's."""
        self._registry = SessionRegistry(ProviderChoice(env.options.failure_base, env.options.failure_limit))
        self._names = LegNames()
        self._pending = PendingConnections(env, self.actor_ref, self._registry, self._names)
        self._suspended = SuspendedConnections(env, (realm, key), self.actor_ref, self._registry.choice.release)
        self._gone = GoneInstances(env, self.actor_ref, self._registry)
        self._resuming = Resuming(
            env,
            self._registry,
            self._names,
            self._suspended,
            self._gone,
            fault=self._leg_fault,
            begin=self._begin_resume,
        )
        self._failed: dict[int, SessionEnding] = {}
        """Sessions whose actor has failed and whose legs are ending."""
        self._stopping: set[EndPointType] = set()
        self._controller = InstanceController(env, self.actor_ref, self._situation, self._instance_changed)

    def on_receive(self, message: object) -> None:
        """Each kind has its handler; each is judged by the table as it is now."""
        self._catch_up()
        _HANDLERS[type(message)](self, message)
        if self._definition is None:
            self._tell_when_empty()

    def recover(self, message: object) -> bool:
        """Others depend on this actor, so it lives on (handlers change it last), and who asked gets an answer."""
        match message:
            case SessionRequested() if message.session not in self._registry.sessions:
                self._env.carry_out(refuse_session(message, Code.INTERNAL, "a fault in the hub"))
            case LegRequested() if Key(message.session, message.request.stream) not in self._env.directory.connections:
                session = self._registry.sessions.get(message.session)
                if session is not None:
                    refusal = refuse_connection(session, message.request, Code.INTERNAL, "a fault in the hub")
                    self._env.carry_out(refusal)
            case ResumeAsked() if message.request.key not in self._env.directory.connections:
                session = self._registry.sessions.get(message.session)
                if session is not None:
                    self._env.carry_out(refuse_resume(session, message.request, Code.INTERNAL, "a fault in the hub"))
            case OpeningRejected():
                self._env.directory.tell_connection(message.key, NoProvider(Code.INTERNAL, "a fault in the hub"))
        return True

    # Sessions

    def _session_requested(self, request: SessionRequested) -> None:
        refusal = self._session_fault(request)
        if refusal is not None:
            self._env.carry_out(refuse_session(request, *refusal))
            return
        cut = self._supersede(request)
        self._env.carry_out(accept_session(request))
        ref = self._env.dispatcher.start(SessionActor, self._env, self.actor_ref, request)
        self._env.directory.sessions[request.session] = SessionEntry(ref, request.spn_session_id)
        self._env.directory.realm_sessions[self._realm] += 1
        self._registry.add(request)
        self._gone.came(request, cut=cut)
        if request.end_point_type is EndPointType.PROVIDER:
            self._provider_came(request)
        elif self._starts_on_consumer:
            self._controller.decide(rules.need, rules.CONSUMER)

    def _provider_came(self, request: SessionRequested) -> None:
        if self._controller.instance.phase is rules.ControllerPhase.STOPPING:
            self._registry.retired.add(request.session)
            return
        self._registry.choice.add(request.session, request.weight)
        self._observe()
        self._pending.serve()

    def _session_fault(self, request: SessionRequested) -> Refusal | None:
        definition = self._definition
        if definition is None:
            return Code.UNKNOWN_SERVICE, f"{request.network_urn} has no service {request.service_urn!r}"
        fault = role_fault(definition, request)
        if fault is not None:
            return fault
        if self._stopping:
            return Code.SHUTDOWN, "the hub is being stopped"
        if request.weight < 0:
            return Code.PROTOCOL, "a weight is at least 0"
        ghosts = int(self._registry.stale_session(request) is not None)
        limit = self._session_limit()
        if self._env.directory.realm_sessions[self._realm] - ghosts >= limit:
            return Code.LIMIT, f"realm {self._realm} has {limit} sessions, as many as it may"
        if request.end_point_type is EndPointType.PROVIDER:
            if definition.singleton and self._registry.has_other_provider(request):
                return Code.SINGLETON, f"{definition.urn} has its one provider"
        elif not len(self._registry.choice) and not request.brings_connections and not self._on_demand:
            return Code.NO_PROVIDER, f"{definition.urn} has no provider now"
        return None

    def _session_limit(self) -> int:
        realm = self._env.table.realms.get(self._realm)
        own = None if realm is None else realm.max_sessions
        return self._env.options.realm_sessions if own is None else own

    def _supersede(self, request: SessionRequested) -> bool:
        """A reconnecting endpoint isn't kept out by the ghost of its own earlier session (D-28).

        One that has said that it renews its session is no ghost: what it carries leaves in order (D-38).

        :return: whether it takes away what a ghost carries.
        """
        stale_session = self._registry.stale_session(request)
        if stale_session is None:
            return False
        self._registry.put_out(stale_session)
        entry = self._env.directory.sessions[stale_session]
        renews = entry.renewing_until is not None and self._env.now < entry.renewing_until
        cut = bool(entry.legs) and not renews
        self._env.directory.tell_session(stale_session, SupersedeSession() if renews else EndSession(superseded()))
        return cut

    def _responsiveness_changed(self, message: ResponsivenessChanged) -> None:
        self._registry.choice.set_unresponsive(message.session, message.unresponsive)
        self._pending.serve()

    def _session_weighed(self, message: SessionWeighed) -> None:
        self._registry.choice.set_weight(message.session, message.weight)
        self._pending.serve()

    def _session_leaves(self, message: SessionLeaves) -> None:
        if message.process_gone:
            self._gone.lost(self._registry.sessions[message.session])
        self._provider_left(message.session)

    def _provider_left(self, session: int) -> None:
        if self._registry.put_out(session):
            self._observe()
            if len(self._pending) and not len(self._registry.choice):
                self._controller.decide(rules.need, rules.PAYLOAD)

    def _session_gone(self, message: SessionGone) -> None:
        self._remove_session(message.session)

    def _session_failed(self, message: SessionFailed) -> None:
        """Its actor can't end it, so it is done here: the legs first, then the session."""
        session = message.session
        directory = self._env.directory
        entry = directory.sessions[session]
        if self._registry.sessions[session].spn_session_id not in self._env.state.sessions:
            self._remove_session(session)  # it failed after its end
            return
        entry.ending = True
        self._provider_left(session)
        self._failed[session] = ending = by_fault(Code.INTERNAL, "a fault in the hub")
        role = self._registry.sessions[session].end_point_type
        side = Side.PROVIDER if role is EndPointType.PROVIDER else Side.CONSUMER
        for key in list(entry.legs.values()):
            directory.tell_connection(key, MustEnd(side, ending.leg, session))
        if not entry.legs:
            self._end_failed(session)

    def _end_failed(self, session: int) -> None:
        ending = self._failed.pop(session)
        state = self._env.state.sessions[self._registry.sessions[session].spn_session_id]
        self._env.carry_out(decide_end(session, state, ending, self._env.wall_us))
        self._remove_session(session)

    def _remove_session(self, session: int) -> None:
        del self._env.directory.sessions[session]
        self._env.directory.realm_sessions[self._realm] -= 1
        self._provider_left(session)
        self._suspended.provider_gone(session)
        role = self._registry.remove(session).end_point_type
        if role in self._stopping:
            self._report_stopped(role)

    # Connections

    def _leg_requested(self, message: LegRequested) -> None:
        consumer, request = self._registry.sessions.get(message.session), message.request
        directory = self._env.directory
        if consumer is None:  # its actor has failed just after it asked, and the session has ended
            return
        name = (request.connection_uid, request.epoch)
        key = Key(message.session, request.stream)
        if (fault := self._leg_fault(consumer)) is not None:
            refusal = refuse_connection(consumer, request, *fault)
        elif self._names.get(*name) is not None or key in directory.connections:
            refusal = refuse_connection(consumer, request, Code.PROTOCOL, "a connection with this uid is open")
        else:
            if self._pending.open(consumer, request):
                self._observe()
                return
            if self._on_demand and len(self._pending) < self._env.options.waiting_openings:
                self._pending.wait(consumer, request)
                self._observe()
                self._controller.decide(rules.need, rules.PAYLOAD)
                return
            refusal = refuse_connection(consumer, request, *self._no_provider())
        self._env.carry_out(refusal)

    def _no_provider(self) -> Refusal:
        if self._on_demand:
            reason = f"{self._env.options.waiting_openings} connections wait for {self._key.service_urn} to be started"
            return Code.LIMIT, reason
        return Code.NO_PROVIDER, f"{self._key.service_urn} has no provider now"

    def _resume_asked(self, message: ResumeAsked) -> None:
        self._resuming.asked(message)

    def _provider_answered(self, message: ProviderCame) -> None:
        self._resuming.answered(message)

    def _leg_fault(self, consumer: SessionRequested) -> Refusal | None:
        if self._env.directory.sessions[consumer.session].ending and not self._stopping:
            return Code.SHUTDOWN, "the session is ending"
        return self._service_fault(consumer)

    def _service_fault(self, consumer: SessionRequested) -> Refusal | None:
        if self._stopping:
            return Code.SHUTDOWN, "the hub is being stopped"
        fault = not_allowed(self._definition, consumer.end_point_type, consumer.common_name)
        return None if fault is None else (Code.WITHDRAWN, fault)

    def _begin_resume(self, consumer: SessionRequested, request: ResumeRequested, provider: SessionRequested) -> None:
        self._pending.resume(consumer, request, provider)
        self._observe()

    def _opening_rejected(self, message: OpeningRejected) -> None:
        """Its provider doesn't take it: the next one, or the one that is started, or the end of it (D-35)."""
        consumer = self._registry.sessions.get(message.key.session)
        # A session that is ending, or gives way to its successor, ends its legs itself.
        another = consumer is not None and self._service_fault(consumer) is None
        wait = self._on_demand and len(self._pending) < self._env.options.waiting_openings
        if self._pending.rejected(message, another=another, wait=wait):
            self._controller.decide(rules.need, rules.PAYLOAD)

    def _opening_accepted(self, message: OpeningAccepted) -> None:
        self._pending.accepted(message)

    def _opening_left(self, message: ProviderLeft) -> None:
        """The leg at the provider that didn't take it is over, for the log as well."""
        connection = self._env.directory.connections.get(message.key)
        if connection is not None and connection.left is not None:
            provider, connection.left = connection.left, None
            self._registry.choice.release(provider)
            self._let_go(provider, connection.name)

    def _connection_failed(self, message: ConnectionFailed) -> None:
        leg = message.leg
        state = None if leg.log_key is None else self._env.state.connections.get(leg.log_key)
        if leg.log_key is None or state is not None:  # otherwise its end is logged: it failed after it
            self._env.carry_out(endings.failed(leg, state, self._env.wall_us))
        self._remove_connection(leg.facts.key, suspended=False)

    def _connection_gone(self, message: ConnectionGone) -> None:
        self._remove_connection(message.key, suspended=message.suspended)

    def _remove_connection(self, key: Key, *, suspended: bool) -> None:
        directory = self._env.directory
        connection = directory.connections.pop(key)
        self._env.pauses.gone(key)
        self._names.remove(*connection.name)
        self._pending.gone(key)
        sessions = [key.session]
        if connection.provider is not None:
            if connection.on_trial:
                self._registry.choice.untried(connection.provider)
            if suspended and connection.provider in self._registry.choice:
                self._suspended.add(*connection.name, connection.provider)
            else:
                self._registry.choice.release(connection.provider)
            sessions.append(connection.provider)
        if connection.left is not None:
            self._registry.choice.release(connection.left)
            sessions.append(connection.left)
        for session in sessions:
            self._let_go(session, connection.name)
        self._observe()

    def _let_go(self, session: int, name: tuple[str, int]) -> None:
        """A leg of this session is over."""
        entry = self._env.directory.sessions[session]
        del entry.legs[name]
        if entry.legs:
            return
        if session in self._failed:
            self._end_failed(session)
        elif entry.ending or not self._env.state.sessions[entry.spn_session_id].weight:
            self._env.directory.tell_session(session, LastLegGone())

    def _suspension_expired(self, _: SuspensionExpired) -> None:
        self._suspended.expire()
        self._observe()

    def _gone_due(self, message: GoneInstanceDue) -> None:
        self._gone.due(message.who)

    # The definition and the instance

    def _catch_up(self) -> None:
        """Apply what the table says of this service now, if that is new."""
        before, definition = self._definition, self._env.table.services.get(self._key)
        if definition is before:
            return
        self._definition = definition
        reason = self._env.table.absence(self._realm)
        event = service_event(self._realm, self._key, before, definition, reason)
        if event is not None:
            self._env.carry_out(Decision((event,)))
        old = None if before is None else before.availability
        if definition is None:
            self._controller.decide(rules.removed, old)
        self._cut()
        if definition is not None and (before is None or old != definition.availability):
            self._controller.decide(rules.redefined, old)
        if len(self._pending) and not self._on_demand:
            self._pending.refuse(*self._no_provider())

    def _cut(self) -> None:
        """End the sessions that aren't allowed any more, and only those; a few at a time, without a choice at once."""
        for session, reason in self._registry.withdrawn(self._definition).items():
            self._registry.put_out(session)
            end = EndSession(by_hub(Code.WITHDRAWN, reason))
            self._env.work_queue.add(partial(self._env.directory.tell_session, session, end))

    def _define(self, _: Define) -> None:
        """The look at the table was all."""

    def _tell_when_empty(self) -> None:
        busy = self._controller.instance.phase in {rules.ControllerPhase.STARTING, rules.ControllerPhase.STOPPING}
        if not self._registry.sessions and not self._stopping and not busy:
            self._parent.tell(ServiceEmpty(self._key, self.actor_ref))

    def _leave(self, _: Leave) -> None:
        self._controller.cancel()
        self.stop()

    @property
    def _availability(self) -> Availability | None:
        return None if self._definition is None else self._definition.availability

    @property
    def _on_demand(self) -> bool:
        return self._availability is not None and self._availability.on_demand

    @property
    def _starts_on_consumer(self) -> bool:
        return self._availability is not None and self._availability.start_on_consumer

    def _situation(self) -> Situation:
        return Situation(
            realm=self._realm,
            key=self._key,
            availability=self._availability,
            providers=len(self._registry.choice),
            consumers=self._registry.roles[EndPointType.CONSUMER],
            waiting=len(self._pending),
            legs=len(self._names) + len(self._suspended),
            closing=bool(self._stopping),
            now=self._env.now,
            options=self._env.options,
        )

    def _observe(self) -> None:
        if self._availability is not None:
            self._controller.observe()

    def _instance_told(self, message: inputs.ServiceInput) -> None:
        self._controller.told(message)

    def _upkeep_due(self, _: InstanceDue) -> None:
        self._controller.due()

    def _instance_changed(self, before: Instance, after: Instance) -> None:
        """What the instance's phase means for providers, and for openings that wait."""
        urn, stopping = self._key.service_urn, rules.ControllerPhase.STOPPING
        if after.phase is stopping and before.phase is not stopping:
            self._registry.retire()
            for session in self._registry.retired:
                self._suspended.provider_gone(session)
            if not after.afterwards:
                self._pending.refuse(Code.START_FAILED, f"{urn} is being stopped")
        elif before.phase is stopping and after.phase is rules.ControllerPhase.RUNNING:
            self._take_back()
            self._pending.serve()
        elif before.phase is stopping and after.phase is not stopping:
            for session in sorted(self._registry.retired):
                ending = by_hub(Code.SHUTDOWN, "the service was stopped")
                self._env.directory.tell_session(session, EndSession(ending))
            self._registry.retired.clear()
        elif before.phase is rules.ControllerPhase.STARTING and after.phase is rules.ControllerPhase.STOPPED:
            self._pending.refuse(Code.START_FAILED, f"{urn} could not be started: {after.failure}")
        elif after.failure != before.failure and after.failure:
            self._pending.trouble(after.failure)

    def _take_back(self) -> None:
        for session in sorted(self._registry.retired):
            entry = self._env.directory.sessions[session]
            state = self._env.state.sessions[entry.spn_session_id]
            until = state.passed_over_until or self._env.wall_us
            self._registry.choice.add(
                session,
                state.weight,
                len(entry.legs),
                unresponsive=state.suspect,
                failures=state.failures,
                until=self._env.now + (until - self._env.wall_us) / 1_000_000,
            )
        self._registry.retired.clear()

    # The stop

    def _stop_sessions(self, message: StopSessions) -> None:
        self._stopping.update(message.roles)
        self._controller.cancel()
        ending = by_hub(Code.SHUTDOWN, "the hub is being stopped")
        tell = self._env.directory.tell_session
        for session, request in self._registry.sessions.items():
            if request.end_point_type not in message.roles:
                continue
            if message.spread is None:
                tell(session, EndSession(ending))
            else:
                self._env.work_queue.add(partial(tell, session, ShutSession(message.spread)))
        for role in message.roles:
            self._report_stopped(role)

    def _report_stopped(self, role: EndPointType) -> None:
        if not self._registry.roles[role]:
            self._parent.tell(SessionsStopped(role, self.actor_ref))


_HANDLERS: dict[type, Callable[[ServiceActor, Any], None]] = {
    SessionRequested: ServiceActor._session_requested,
    ResponsivenessChanged: ServiceActor._responsiveness_changed,
    SessionWeighed: ServiceActor._session_weighed,
    SessionLeaves: ServiceActor._session_leaves,
    SessionGone: ServiceActor._session_gone,
    SessionFailed: ServiceActor._session_failed,
    LegRequested: ServiceActor._leg_requested,
    ResumeAsked: ServiceActor._resume_asked,
    ProviderCame: ServiceActor._provider_answered,
    SuspensionExpired: ServiceActor._suspension_expired,
    GoneInstanceDue: ServiceActor._gone_due,
    OpeningAccepted: ServiceActor._opening_accepted,
    OpeningRejected: ServiceActor._opening_rejected,
    ProviderLeft: ServiceActor._opening_left,
    ConnectionFailed: ServiceActor._connection_failed,
    ConnectionGone: ServiceActor._connection_gone,
    Define: ServiceActor._define,
    Leave: ServiceActor._leave,
    InstanceDue: ServiceActor._upkeep_due,
    inputs.StartSucceeded: ServiceActor._instance_told,
    inputs.StartFailed: ServiceActor._instance_told,
    inputs.StopSucceeded: ServiceActor._instance_told,
    inputs.StopFailed: ServiceActor._instance_told,
    inputs.ServiceExited: ServiceActor._instance_told,
    inputs.ScheduleDue: ServiceActor._instance_told,
    StopSessions: ServiceActor._stop_sessions,
}
