"""The actor of one service: it admits sessions, gives connections to providers, and ends children that have failed.

It is the parent of the sessions and connections of its service, and keeps their addresses in the directory.
"""

from __future__ import annotations

from functools import partial
from typing import Any, assert_never

from pykka import ActorRef

from spnhub.actors.connection import endings
from spnhub.actors.connection.actor import (
    ConnectionFailed,
    ConnectionGone,
    OpeningAccepted,
    OpeningRejected,
    ProviderLeft,
    ServerUnreachable,
)
from spnhub.actors.connection.resume_refusals import LegNames, refuse_resume
from spnhub.actors.connection.state import (
    MustEnd,
    NoProvider,
    Side,
)
from spnhub.actors.contract import inputs
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import ReportProviderStopped
from spnhub.actors.contract.definitions import Availability, ServiceDefinition
from spnhub.actors.contract.inputs import Key, ResumeRequested, SessionRequested
from spnhub.actors.contract.inventory import ServiceKey, not_allowed, service_event
from spnhub.actors.contract.protocols import abilities
from spnhub.actors.kernel.environment import Decision, Environment, SessionEntry, release
from spnhub.actors.kernel.runtime import EventLoopActor
from spnhub.actors.service import instance as rules
from spnhub.actors.service.admission import Refusal, accept_session, may_wait, refuse_session, session_fault
from spnhub.actors.service.awaited import AwaitedProviders
from spnhub.actors.service.balancing import ProviderChoice
from spnhub.actors.service.gone import GoneInstanceDue, GoneInstances
from spnhub.actors.service.instance import Instance, Situation
from spnhub.actors.service.instance_controller import InstanceController, InstanceDue
from spnhub.actors.service.legs import Legs
from spnhub.actors.service.messages import Define, Leave, ServiceEmpty, SessionsStopped, StopSessions
from spnhub.actors.service.pending import PendingConnections
from spnhub.actors.service.registry import SessionRegistry
from spnhub.actors.service.resume import Resuming, SuspendedConnections, SuspensionExpired
from spnhub.actors.service.unserved import ConsumerUnserved, UnservedConsumers
from spnhub.actors.session.actor import SessionActor, refuse_connection
from spnhub.actors.session.endings import SessionEnding, by_fault, by_hub, decide_end, expired, superseded
from spnhub.actors.session.messages import (
    EndSession,
    InvitationAnswered,
    LastLegGone,
    LegRequested,
    ProviderAsked,
    ProviderWeightSet,
    ResponsivenessChanged,
    ResumeAsked,
    SessionFailed,
    SessionGone,
    SessionLeaves,
    ShutSession,
    SupersedeSession,
)
from spnhub.events.model import EndPointType

__all__ = ["ServiceActor"]


ServiceMessage = (
    LegRequested
    | ProviderAsked
    | ConsumerUnserved
    | ConnectionGone
    | OpeningAccepted
    | ServerUnreachable
    | SessionGone
    | SessionLeaves
    | SessionRequested
    | ResponsivenessChanged
    | ProviderWeightSet
    | SessionFailed
    | ResumeAsked
    | InvitationAnswered
    | SuspensionExpired
    | GoneInstanceDue
    | OpeningRejected
    | ProviderLeft
    | ConnectionFailed
    | Define
    | Leave
    | InstanceDue
    | inputs.ServiceInput
    | StopSessions
)


class ServiceActor(EventLoopActor):
    """One service of one network. Its parent is the realm's actor."""

    def __init__(self, env: Environment, parent: ActorRef[Any], realm: str, key: ServiceKey) -> None:
        super().__init__()
        self._env = env
        self._parent = parent
        self._realm = realm
        self._key = key
        self._definition: ServiceDefinition | None = None
        """The definition that was applied last; the table may have a newer one (:meth:`_apply_definition`)."""
        self._registry = SessionRegistry(ProviderChoice(env.options.failure_base, env.options.failure_limit))
        self._names = LegNames()
        self._suspended = SuspendedConnections(env, (realm, key), self.actor_ref, self._registry.choice.release)
        self._legs = Legs(env, self.actor_ref, self._registry, self._names, self._suspended, self._last_leg_gone)
        self._pending = PendingConnections(env, self._registry, self._legs)
        self._gone = GoneInstances(env, self.actor_ref, self._registry)
        self._awaited = AwaitedProviders(env)
        self._resuming = Resuming(
            env,
            self._registry,
            self._names,
            self._suspended,
            self._gone,
            self._awaited,
            fault=self._leg_fault,
            begin=self._begin_resume,
        )
        self._failed: dict[int, SessionEnding] = {}
        """Sessions whose actor has failed and that end when their last leg has, with the ending that is then logged."""
        self._stopping: set[EndPointType] = set()
        self._unserved = UnservedConsumers(env, self.actor_ref, self._registry)
        self._asked_until = 0.0
        """Monotonic seconds: until when a consumer's wish for a provider counts."""
        self._controller = InstanceController(env, self.actor_ref, self._situation, self._instance_changed)

    @property
    def key(self) -> ServiceKey:
        """Which service of which network."""
        return self._key

    @property
    def definition(self) -> ServiceDefinition | None:
        """As far as the actor has taken notice of the table's."""
        return self._definition

    @property
    def registry(self) -> SessionRegistry:
        """Its sessions, and the providers to choose among."""
        return self._registry

    @property
    def instance(self) -> Instance:
        """What is known of the instance that is started on demand."""
        return self._controller.instance

    def counts(self) -> dict[str, int]:
        """How many of each it remembers beside sessions; all are 0 when nothing is left."""
        return {
            "names": len(self._names),
            "confirmed": self._names.confirmed_count,
            "pending": len(self._pending),
            "suspended": len(self._suspended),
            "awaited": len(self._awaited),
            "failed": len(self._failed),
            **self._gone.counts(),
        }

    def on_receive(self, message: ServiceMessage) -> None:
        """Call the handler of the message's class, after applying the table's present definition."""
        # Define is queued behind other work after a reload, so a request may overtake it. Without this, a consumer that
        # the new inventory forbids would still be accepted until Define arrives.
        self._apply_definition()
        match message:
            case LegRequested():
                self._leg_requested(message)
            case ConnectionGone():
                self._remove_connection(message.key, suspended=message.suspended)
            case OpeningAccepted():
                self._pending.accepted(message)
            case ServerUnreachable():
                self._pending.unreachable(message.key)
            case SessionGone():
                self._remove_session(message.session)
            case SessionLeaves():
                self._session_leaves(message)
            case SessionRequested():
                self._session_requested(message)
            case ResponsivenessChanged():
                self._responsiveness_changed(message)
            case ProviderWeightSet():
                self._provider_weight_set(message)
            case SessionFailed():
                self._session_failed(message)
            case ResumeAsked():
                self._resuming.asked(message)
            case ProviderAsked():
                self._provider_asked()
            case ConsumerUnserved():
                self._unserved.due(message.session, startable=self._on_demand)
            case InvitationAnswered():
                self._resuming.answered(message)
            case SuspensionExpired():
                self._suspension_expired()
            case GoneInstanceDue():
                self._gone.due(message.instance)
            case OpeningRejected():
                self._opening_rejected(message)
            case ProviderLeft():
                self._legs.provider_left(message.key)
            case ConnectionFailed():
                self._connection_failed(message)
            case Define():
                # _apply_definition has done it.
                pass
            case Leave():
                self._leave()
            case InstanceDue():
                self._controller.due()
            case (
                inputs.StartSucceeded()
                | inputs.StartFailed()
                | inputs.StopSucceeded()
                | inputs.StopFailed()
                | inputs.ServiceExited()
                | inputs.ScheduleDue()
            ):
                self._controller.report(message)
            case StopSessions():
                self._stop_sessions(message)
            case _:
                assert_never(message)
        if self._definition is None:
            self._report_when_empty()

    def recover(self, message: object) -> bool:
        """Stay alive, since sessions and connections depend on this actor, and answer the request that has failed.

        Handlers change the actor's own state last, so a handler that raises leaves it as it was before the message.
        Each guard below asks whether the request has been answered already: a session that is registered, or a leg
        that is in the directory, has its own actor, and that one answers.
        """
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
        identity = self._realm, request.spn_end_point
        refusal = session_fault(
            request,
            self._definition,
            self._registry,
            stopping=bool(self._stopping),
            realm_sessions=self._env.directory.realm_sessions[self._realm],
            limit=self._session_limit(),
            identity_sessions=self._env.directory.identity_sessions[identity],
            identity_limit=self._env.options.identity_sessions,
        )
        if refusal is not None:
            self._env.carry_out(refuse_session(request, *refusal))
            return
        cut_legs = self._supersede(request)
        self._env.carry_out(accept_session(request))
        ref = self._env.dispatcher.start(SessionActor, self._env, self.actor_ref, request)
        self._env.directory.sessions[request.session] = SessionEntry(ref, request.spn_session_id, identity=identity)
        self._env.directory.realm_sessions[self._realm] += 1
        self._env.directory.identity_sessions[identity] += 1
        self._registry.add(request)
        self._gone.session_started(request, cut_legs=cut_legs)
        if request.end_point_type is EndPointType.PROVIDER:
            self._provider_came(request)
            self._awaited.provider_came(request)
            return
        self._unserved.add(request)
        if self._starts_on_consumer:
            self._controller.decide(rules.need, rules.CONSUMER)

    def _provider_came(self, request: SessionRequested) -> None:
        if self._controller.instance.phase is rules.ControllerPhase.STOPPING:
            # It would be gone in a moment. It is kept apart, since the cluster manager may fail to stop it: then it is
            # chosen like any other (_reinstate_providers).
            self._registry.retired.add(request.session)
            return
        self._registry.choice.add(request.session, request.weight)
        self._unserved.provider_came()
        self._observe()
        self._pending.serve()

    def _session_limit(self) -> int:
        realm = self._env.table.realms.get(self._realm)
        own = None if realm is None else realm.max_sessions
        return self._env.options.realm_sessions if own is None else own

    def _supersede(self, request: SessionRequested) -> bool:
        """End the stale session of an endpoint that reconnects, so that it doesn't keep the endpoint out (D-28).

        A session whose endpoint has announced that it renews it isn't stale: its connections leave in order (D-38).

        :return: whether connections of a stale session are cut.
        """
        stale_session = self._registry.stale_session(request)
        if stale_session is None:
            return False
        self._registry.exclude(stale_session)
        entry = self._env.directory.sessions[stale_session]
        renews = entry.renewing_until is not None and self._env.now < entry.renewing_until
        cut_legs = bool(entry.legs) and not renews
        self._env.directory.tell_session(stale_session, SupersedeSession() if renews else EndSession(superseded()))
        return cut_legs

    def _responsiveness_changed(self, message: ResponsivenessChanged) -> None:
        self._registry.choice.set_unresponsive(message.session, message.unresponsive)
        request = self._registry.sessions.get(message.session)
        if request is not None and not message.unresponsive:
            self._awaited.provider_came(request)
        self._pending.serve()

    def _provider_weight_set(self, message: ProviderWeightSet) -> None:
        self._registry.choice.set_weight(message.session, message.weight)
        self._pending.serve()

    def _session_leaves(self, message: SessionLeaves) -> None:
        if message.process_gone:
            self._gone.port_closed(self._registry.sessions[message.session])
        self._provider_left(message.session)

    def _provider_left(self, session: int) -> None:
        if self._registry.exclude(session):
            self._observe()
            if not len(self._registry.choice):
                self._unserved.providers_left()
                if len(self._pending):
                    self._controller.decide(rules.need, rules.PAYLOAD)

    def _session_failed(self, message: SessionFailed) -> None:
        """End a session whose actor has failed and can't do it: its legs first, then the session."""
        session = message.session
        directory = self._env.directory
        entry = directory.sessions[session]
        if self._registry.sessions[session].spn_session_id not in self._env.state.sessions:
            # It failed after its end.
            self._remove_session(session)
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
        self._unserved.gone(session)
        self._awaited.gone(session)
        entry = self._env.directory.sessions.pop(session)
        self._env.directory.realm_sessions[self._realm] -= 1
        release(self._env.directory.identity_sessions, entry.identity)
        self._provider_left(session)
        self._suspended.provider_gone(session)
        role = self._registry.remove(session).end_point_type
        if role in self._stopping:
            self._report_stopped(role)

    # Connections

    def _leg_requested(self, message: LegRequested) -> None:
        consumer, request = self._registry.sessions.get(message.session), message.request
        directory = self._env.directory
        if consumer is None:
            # Its actor failed right after this request, and the session has ended: nobody is left to answer.
            return
        name = (request.connection_uid, request.epoch)
        key = Key(message.session, request.stream)
        if (fault := self._leg_fault(consumer)) is not None:
            refusal = refuse_connection(consumer, request, *fault)
        elif self._names.get(*name) is not None or key in directory.connections:
            refusal = refuse_connection(consumer, request, Code.PROTOCOL, "a connection with this uid is open")
        elif (most := self._connection_limit()) is not None and len(self._names) >= most:
            reason = f"{self._key.service_urn} has {most} connections, as many as it may"
            refusal = refuse_connection(consumer, request, Code.LIMIT, reason)
        else:
            if self._pending.open(consumer, request):
                self._observe()
                return
            if self._has_room_to_wait(consumer):
                self._pending.wait(consumer, request)
                self._observe()
                self._controller.decide(rules.need, rules.PAYLOAD)
                return
            refusal = refuse_connection(consumer, request, *self._no_provider(consumer))
        self._env.carry_out(refusal)

    def _connection_limit(self) -> int | None:
        return None if self._definition is None else self._definition.max_connections

    def _has_room_to_wait(self, consumer: SessionRequested) -> bool:
        """Whether one more opening of this consumer may wait for a provider."""
        return may_wait(self._definition, consumer) and len(self._pending) < self._env.options.waiting_openings

    def _no_provider(self, consumer: SessionRequested | None = None) -> Refusal:
        limit, urn = self._env.options.waiting_openings, self._key.service_urn
        if self._on_demand:
            return Code.LIMIT, f"{limit} connections wait for {urn} to be started"
        if consumer is not None and may_wait(self._definition, consumer):
            return Code.LIMIT, f"{limit} connections wait for a provider of {urn}"
        return Code.NO_PROVIDER, f"{self._key.service_urn} has no provider now"

    def _provider_asked(self) -> None:
        """Start the service for a consumer that opens no connection before it is there."""
        if self._on_demand and not self._stopping:
            self._asked_until = self._env.now + self._env.options.start_timeout
            self._controller.decide(rules.need, rules.PAYLOAD)

    def _leg_fault(self, consumer: SessionRequested) -> Refusal | None:
        if self._env.directory.sessions[consumer.session].ending and not self._stopping:
            return Code.SHUTDOWN, "the session is ending"
        return self._service_fault(consumer)

    def _service_fault(self, consumer: SessionRequested) -> Refusal | None:
        if self._stopping:
            return Code.SHUTDOWN, "the hub is being stopped"
        fault = not_allowed(self._definition, consumer.end_point_type, consumer.common_name)
        if fault is not None and (expiry := self._env.table.expiry(self._realm)) is not None:
            return Code.EXPIRED, expiry
        return None if fault is None else (Code.WITHDRAWN, fault)

    def _begin_resume(self, consumer: SessionRequested, request: ResumeRequested, provider: SessionRequested) -> None:
        self._legs.resume(consumer, request, provider)
        self._observe()

    def _opening_rejected(self, message: OpeningRejected) -> None:
        """Find or start another provider for an opening that its provider doesn't take, or refuse it (D-35)."""
        consumer = self._registry.sessions.get(message.key.session)
        # Not _leg_fault: a session that is ending, or that its successor supersedes, ends its legs itself.
        another = consumer is not None and self._service_fault(consumer) is None
        wait = consumer is not None and self._has_room_to_wait(consumer)
        if self._pending.rejected(message, another=another, wait=wait):
            self._controller.decide(rules.need, rules.PAYLOAD)

    def _connection_failed(self, message: ConnectionFailed) -> None:
        leg = message.leg
        state = None if leg.log_key is None else self._env.state.connections.get(leg.log_key)
        # A leg that has a name in the log and no state there has failed after its end was logged: one end is enough.
        if leg.log_key is None or state is not None:
            self._env.carry_out(endings.failed(leg, state, self._env.wall_us))
        self._remove_connection(leg.facts.key, suspended=False)

    def _remove_connection(self, key: Key, *, suspended: bool) -> None:
        self._pending.gone(key)
        self._legs.remove(key, suspended=suspended)
        self._observe()

    def _last_leg_gone(self, session: int) -> None:
        """Tell the session if it waits for that; one whose actor has failed ends now."""
        entry = self._env.directory.sessions[session]
        if session in self._failed:
            self._end_failed(session)
        elif entry.ending or not self._env.state.sessions[entry.spn_session_id].weight:
            self._env.directory.tell_session(session, LastLegGone())

    def _suspension_expired(self) -> None:
        self._suspended.expire()
        self._observe()

    # The definition and the instance

    def _apply_definition(self) -> None:
        """Apply the table's definition of this service, if it is another than was applied last."""
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
        self._end_disallowed()
        if definition is not None and (before is None or old != definition.availability):
            self._controller.decide(rules.redefined, old)
        if len(self._pending) and not self._on_demand:
            self._pending.refuse(*self._no_provider())

    def _end_disallowed(self) -> None:
        """End the sessions that aren't allowed any more, and only those.

        They get no more connections from now on; their ends are queued, since a reload may end thousands of them. Those
        of a realm whose time is over may come again: the clock may be wrong.
        """
        expiry = self._env.table.expiry(self._realm)
        for session, reason in self._registry.disallowed(self._definition).items():
            self._registry.exclude(session)
            end = EndSession(by_hub(Code.WITHDRAWN, reason) if expiry is None else expired(expiry))
            self._env.work_queue.add(partial(self._env.directory.tell_session, session, end))

    def _report_when_empty(self) -> None:
        busy = self._controller.instance.phase in {rules.ControllerPhase.STARTING, rules.ControllerPhase.STOPPING}
        if not self._registry.sessions and not self._stopping and not busy:
            self._parent.tell(ServiceEmpty(self._key, self.actor_ref))

    def _leave(self) -> None:
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
            waiting=len(self._pending) + (self._env.now < self._asked_until),
            legs=len(self._names) + len(self._suspended),
            closing=bool(self._stopping),
            now=self._env.now,
            options=self._env.options,
        )

    def _observe(self) -> None:
        if self._availability is not None:
            self._controller.observe()

    def _instance_changed(self, before: Instance, after: Instance) -> None:
        """Carry out what a change of the instance's phase means for providers and for openings that wait."""
        urn, stopping = self._key.service_urn, rules.ControllerPhase.STOPPING
        if after.phase is stopping and before.phase is not stopping:
            # Providers that are about to be stopped get no new connections.
            self._registry.retire()
            self._unserved.providers_left()
            for session in self._registry.retired:
                self._suspended.provider_gone(session)
            if not after.afterwards:
                self._pending.refuse(Code.START_FAILED, f"{urn} is being stopped")
        elif before.phase is stopping and after.phase is rules.ControllerPhase.RUNNING:
            # The stop has failed.
            self._reinstate_providers()
            self._unserved.provider_came()
            self._pending.serve()
        elif before.phase is stopping and after.phase is not stopping:
            # The stop has succeeded.
            for session in sorted(self._registry.retired):
                ending = by_hub(Code.SHUTDOWN, "the service was stopped")
                self._env.directory.tell_session(session, EndSession(ending))
            self._registry.retired.clear()
            if before.reason == rules.IDLE:
                self._report_idle_stop()
        elif before.phase is rules.ControllerPhase.STARTING and after.phase is rules.ControllerPhase.STOPPED:
            self._pending.refuse(Code.START_FAILED, f"{urn} could not be started: {after.failure}")
        elif after.failure != before.failure and after.failure:
            self._pending.trouble(after.failure)

    def _report_idle_stop(self) -> None:
        consumers = [
            session
            for session, request in self._registry.sessions.items()
            if request.end_point_type is EndPointType.CONSUMER and abilities(request.protocol).hears_of_idle_stop
        ]
        self._env.carry_out(Decision(commands=tuple(map(ReportProviderStopped, consumers))))

    def _reinstate_providers(self) -> None:
        """Let the retired providers be chosen again, with the load and the failures that they had."""
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
                # Queued: each session pauses all of its connections.
                self._env.work_queue.add(partial(tell, session, ShutSession(message.spread)))
        for role in message.roles:
            self._report_stopped(role)

    def _report_stopped(self, role: EndPointType) -> None:
        if not self._registry.roles[role]:
            self._parent.tell(SessionsStopped(role, self.actor_ref))
