"""The root actor, one for the process: the inventory, refused handshakes, and the stop (R-4.8, R-4.10).

A reload is decided in one step: the new table replaces the old one, and every later decision is made by the new one.
The consequences (an event for each difference, and the end of sessions that are no longer allowed) are carried out in
slices (D-31).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any, Final, assert_never

from pykka import ActorRef

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import ReportHubStopped
from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.actors.contract.inputs import (
    ClockStepped,
    HandshakeRefusal,
    HubInput,
    LimitExceeded,
    LoadInventory,
    RejectInventory,
    ScheduleDue,
    ServiceExited,
    ServiceInput,
    SessionRequested,
    StartFailed,
    StartHub,
    StartSucceeded,
    StopFailed,
    StopHub,
    StopSucceeded,
)
from spnhub.actors.contract.inventory import DefinitionDifference, Plan, ServiceKey, Table, plan
from spnhub.actors.hub.lifecycle import ProcessLifecycle
from spnhub.actors.hub.progress import ProgressRounds
from spnhub.actors.hub.refusals import Refusals
from spnhub.actors.kernel.environment import Decision, Environment
from spnhub.actors.kernel.rate_limit import RateLimitedCounter
from spnhub.actors.kernel.runtime import EventLoopActor
from spnhub.actors.kernel.timers import Timer
from spnhub.actors.realm.actor import DefineRealm, DefineService, RealmActor, RealmEmpty
from spnhub.actors.service.admission import refuse_session
from spnhub.actors.service.messages import Leave, SessionsStopped, StopSessions
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType, Event, InventoryRejected, LimitReached

__all__ = ["HubActor"]

_PLANNED: Final = (StopSessions((EndPointType.CONSUMER,)), StopSessions((EndPointType.PROVIDER,)))
"""The stages of a planned stop (R-4.10)."""
_FAULT_LIMIT: Final = 1000
"""The most faults of a rejected inventory that its event names."""


@dataclass(frozen=True, slots=True)
class ExpiryDue:
    """Timer: a realm may have expired."""


@dataclass(frozen=True, slots=True)
class WindowOver:
    """Timer: the window of some refusals or limits may be over (D-13)."""


@dataclass(frozen=True, slots=True)
class HeartbeatDue:
    """Timer: the next heartbeat is due."""


@dataclass(frozen=True, slots=True)
class ProgressRoundDue:
    """Timer: connections are to be asked for their byte counts, or a round that has begun is to be continued."""


@dataclass(frozen=True, slots=True)
class StopTimedOut:
    """Timer: the present stage of the stop has taken as long as it may."""


HubMessage = (
    HubInput | ExpiryDue | RealmEmpty | WindowOver | HeartbeatDue | ProgressRoundDue | SessionsStopped | StopTimedOut
)


class HubActor(EventLoopActor):
    """The hub process."""

    def __init__(self, env: Environment) -> None:
        super().__init__()
        self._env = env
        self._realms: dict[str, ActorRef[Any]] = {}
        """The realms of the inventory, and removed ones as long as they have services."""
        self._loaded = False
        self._lifecycle = ProcessLifecycle(env)
        self._heartbeat_timer: Timer | None = None
        self._progress_rounds = ProgressRounds(env)
        self._progress_timer: Timer | None = None
        self._expiry_timer: Timer | None = None
        self._refusals = Refusals(env.options.refusal_window, env.options.refusal_kinds)
        self._limit_counters: dict[tuple[str | None, str | None, str, int | None], RateLimitedCounter] = {}
        """By realm, and by limit and bound as the transport names them: there are only a few."""
        self._window_timer: Timer | None = None
        self._stop_asked = False
        self._resumable = False
        """The hub is in a resumable shutdown, which a planned stop may still replace."""
        self._stages_left: deque[StopSessions] = deque()
        """The stages of the stop that are still to come."""
        self._stop_timer: Timer | None = None
        self._waiting: set[tuple[ActorRef[Any], EndPointType]] = set()
        """The realms that still have sessions of these roles, as far as they have reported."""

    @property
    def running(self) -> bool:
        """Whether the log has a start of this process, and no end."""
        return self._lifecycle.running

    def on_receive(self, message: HubMessage) -> None:
        """Call the handler of the message's class."""
        match message:
            case SessionRequested():
                self._session_requested(message)
            case LoadInventory():
                self._load_inventory(message)
            case RejectInventory():
                self._reject_inventory(message)
            case ExpiryDue() | ClockStepped():
                self._expiry_due()
            case RealmEmpty():
                self._realm_empty(message)
            case StartSucceeded() | StartFailed() | StopSucceeded() | StopFailed() | ServiceExited() | ScheduleDue():
                self._service_reported(message)
            case HandshakeRefusal():
                self._handshake_refused(message)
            case LimitExceeded():
                self._limit_exceeded(message)
            case WindowOver():
                self._window_over()
            case StartHub():
                self._start_hub(message)
            case HeartbeatDue():
                self._heartbeat_due()
            case ProgressRoundDue():
                self._progress_round_due()
            case StopHub():
                self._stop_hub(message)
            case SessionsStopped():
                self._sessions_stopped(message)
            case StopTimedOut():
                self._stop_timed_out()
            case _:
                assert_never(message)

    def recover(self, message: object) -> bool:
        """Stay alive, since everything depends on this actor, and answer a request for a session."""
        if isinstance(message, SessionRequested):
            self._env.carry_out(refuse_session(message, Code.INTERNAL, "a fault in the hub"))
        return True

    # The process lifecycle

    def _start_hub(self, message: StartHub) -> None:
        if self._heartbeat_timer is None and not self._stop_asked:
            self._env.carry_out(Decision(self._lifecycle.start(message)))
            self._schedule_heartbeat()
            self._schedule_progress_round(self._env.options.progress_interval)

    def _heartbeat_due(self) -> None:
        self._env.carry_out(Decision(self._lifecycle.alive()))
        self._schedule_heartbeat()

    def _schedule_heartbeat(self) -> None:
        self._heartbeat_timer = self._env.after(self._env.options.alive_interval, self.actor_ref, HeartbeatDue())

    def _progress_round_due(self) -> None:
        self._schedule_progress_round(self._progress_rounds.go_on())

    def _schedule_progress_round(self, seconds: float) -> None:
        self._progress_timer = self._env.after(seconds, self.actor_ref, ProgressRoundDue())

    # The inventory

    def _load_inventory(self, message: LoadInventory) -> None:
        if not self._stop_asked:
            made = message.plan
            if made is None or not self._is_current(made):
                made = self._plan(message.realms)
            self._env.carry_out(Decision((made.loaded(initial=not self._loaded),)))
            self._loaded = True
            self._apply(made)

    def _reject_inventory(self, message: RejectInventory) -> None:
        faults = message.faults
        event = InventoryRejected(
            realm=None, network_urn=None, fault_count=len(faults), faults=tuple(faults[:_FAULT_LIMIT])
        )
        self._env.carry_out(Decision((event,)))

    def _plan(self, realms: Iterable[RealmDefinition]) -> Plan:
        before = self._env.table
        return plan(before, Table.of(realms, self._env.clock_us, before))

    def _is_current(self, made: Plan) -> bool:
        """Whether a plan that was made before is the one that :meth:`_plan` would make now."""
        return made.before is self._env.table and made.after.is_current(self._env.clock_us)

    def _apply(self, made: Plan) -> None:
        """Put the new table in force, and queue the consequences."""
        self._env.table = made.after
        for difference in made.differences:
            self._env.work_queue.add(partial(self._apply_difference, made, difference))
        self._arm_expiry_timer()

    def _apply_difference(self, made: Plan, difference: DefinitionDifference) -> None:
        network_urn, service_urn = difference.network_urn, difference.service_urn
        if network_urn is not None and service_urn is not None:
            if difference.realm in self._realms or difference.realm in self._env.table.realms:
                self._realm(difference.realm).tell(DefineService(ServiceKey(network_urn, service_urn)))
            return
        self._env.carry_out(Decision((made.event(difference),)))
        if network_urn is None and difference.realm in self._realms:
            self._realms[difference.realm].tell(DefineRealm())

    def _realm(self, name: str) -> ActorRef[Any]:
        ref = self._realms.get(name)
        if ref is None:
            ref = self._realms[name] = self._env.dispatcher.start(RealmActor, self._env, self.actor_ref, name)
        return ref

    def _realm_empty(self, message: RealmEmpty) -> None:
        if message.name in self._realms and message.name not in self._env.table.realms and not self._stop_asked:
            self._realms.pop(message.name).tell(Leave())

    def _arm_expiry_timer(self) -> None:
        if self._expiry_timer is not None:
            self._expiry_timer.cancel()
            self._expiry_timer = None
        moment = self._env.table.next_expiry
        if moment is not None and not self._stop_asked:
            seconds = max(0.0, (moment - self._env.clock_us) / 1_000_000)
            seconds = min(seconds, self._env.options.expiry_check)
            self._expiry_timer = self._env.after(seconds, self.actor_ref, ExpiryDue())

    def _expiry_due(self) -> None:
        table = self._env.table
        if self._stop_asked:
            return
        if not table.is_current(self._env.clock_us):
            self._apply(self._plan([*table.realms.values(), *table.expired.values()]))
        else:
            self._arm_expiry_timer()

    def _service_reported(self, message: ServiceInput) -> None:
        if not self._stop_asked:
            self._env.directory.tell_service(message.service_urn, message)

    def _session_requested(self, request: SessionRequested) -> None:
        refusal: tuple[Code, str] | None = None
        if self._stop_asked:
            refusal = Code.SHUTDOWN, "the hub is being stopped"
        elif request.unread:
            refusal = Code.VERSION, f"an endpoint of spn/1 reads {', '.join(request.unread)}, too"
        elif request.session in self._env.directory.sessions:
            refusal = Code.PROTOCOL, "the session has been requested before"
        elif (expiry := self._env.table.expiry(request.realm)) is not None:
            refusal = Code.EXPIRED, expiry
        elif request.realm not in self._env.table.realms:
            refusal = Code.UNKNOWN_SERVICE, f"no realm {request.realm}"
        if refusal is None:
            self._realm(request.realm).tell(request)
        else:
            self._env.carry_out(refuse_session(request, *refusal))

    # Refused handshakes

    def _handshake_refused(self, message: HandshakeRefusal) -> None:
        self._env.carry_out(Decision(self._refusals.add(message, self._env.now)))
        self._arm_window_timer()

    def _limit_exceeded(self, message: LimitExceeded) -> None:
        limit = message.realm, message.service_urn, message.limit, message.bound
        limit_counter = self._limit_counters.setdefault(limit, RateLimitedCounter(self._env.options.refusal_window))
        self._env.carry_out(Decision(_limit_reached(*limit, limit_counter.add(message.count, self._env.now))))
        self._arm_window_timer()

    def _window_over(self) -> None:
        self._window_timer = None
        now = self._env.now
        events = [*self._refusals.expire(now)]
        for limit, limit_counter in self._limit_counters.items():
            events += _limit_reached(*limit, limit_counter.expire(now))
        self._env.carry_out(Decision(tuple(events)))
        self._arm_window_timer()

    def _arm_window_timer(self) -> None:
        times = (self._refusals.due(), *(limit_counter.due for limit_counter in self._limit_counters.values()))
        due = min((at for at in times if at is not None), default=None)
        if due is not None and self._window_timer is None:
            self._window_timer = self._env.after(max(0.0, due - self._env.now), self.actor_ref, WindowOver())

    # The stop

    def _stop_hub(self, message: StopHub) -> None:
        if self._stop_asked and (message.resumable or not self._resumable):
            return
        self._stop_asked = True
        self._resumable = message.resumable
        self._arm_expiry_timer()
        self._stages_left = deque(_PLANNED)
        if message.resumable:
            self._stages_left.appendleft(StopSessions(tuple(EndPointType), message.spread))
        # A reload that is under way is applied first: nothing is defined, and started, behind the stop.
        self._env.work_queue.finish(for_good=not message.resumable)
        self._next_stage()

    def _next_stage(self) -> None:
        self._cancel_stop_timer()
        self._env.pauses.clear()
        if not self._stages_left:
            self._finish_stop()
            return
        stage = self._stages_left.popleft()
        options = self._env.options
        seconds = options.stop_timeout if stage.spread is None else options.shutdown_timeout
        self._stop_timer = self._env.after(seconds, self.actor_ref, StopTimedOut())
        self._waiting = {(realm, role) for realm in self._realms.values() for role in stage.roles}
        for realm in self._realms.values():
            realm.tell(stage)
        if not self._waiting:
            self._next_stage()

    def _sessions_stopped(self, message: SessionsStopped) -> None:
        waited = (message.child, message.role)
        if waited in self._waiting:
            self._waiting.discard(waited)
            if not self._waiting:
                self._next_stage()

    def _stop_timed_out(self) -> None:
        self._waiting.clear()
        self._next_stage()

    def _cancel_stop_timer(self) -> None:
        if self._stop_timer is not None:
            self._stop_timer.cancel()
            self._stop_timer = None

    def _finish_stop(self) -> None:
        how = "after a resumable shutdown" if self._resumable else "as planned"
        self._resumable = False
        for timer in (self._window_timer, self._heartbeat_timer, self._progress_timer):
            if timer is not None:
                timer.cancel()
        self._window_timer = self._heartbeat_timer = self._progress_timer = None
        events = [*self._refusals.flush()]
        for limit, limit_counter in self._limit_counters.items():
            events += _limit_reached(*limit, limit_counter.flush())
        self._env.carry_out(Decision((*events, *self._lifecycle.stop(how)), (ReportHubStopped(),)))


def _limit_reached(
    realm: str | None, service_urn: str | None, limit: str, bound: int | None, count: int
) -> tuple[Event, ...]:
    if not count:
        return ()
    return (
        LimitReached(realm=realm, network_urn=None, service_urn=service_urn, limit=limit, bound=bound, count=count),
    )
