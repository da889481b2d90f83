"""The instance of a service that a cluster manager starts and stops, as pure functions (D-27, D-29; R-6.2).

```
STOPPED    no start was asked for, or it was stopped, or it could not be started
STARTING   the cluster manager is asked, or will be at ``due`` (rate limit, retry)
RUNNING    the cluster manager says that it was started; its provider's session comes by itself
STOPPING   the cluster manager is asked, or will be at ``due`` (retry)
```

A service has one command outstanding at a time. A start is retried, with growing intervals, as long as it is wanted: by
openings that wait, or by the inventory. Each command to the manager is logged, and so is its result.

Counterpart: :mod:`spnhub.actors.service.instance_controller` carries it out for the service's actor.
"""

from __future__ import annotations

import enum
import zlib
from dataclasses import replace
from typing import Any

from spnhub.actors.contract.commands import StartService, StopService
from spnhub.actors.contract.definitions import Availability
from spnhub.actors.contract.inventory import ServiceKey
from spnhub.actors.contract.options import ActorOptions
from spnhub.actors.kernel.environment import Decision
from spnhub.backoff import backoff
from spnhub.dataclass import dataclass
from spnhub.events.model import (
    ServiceStarted,
    ServiceStartFailed,
    ServiceStartRequested,
    ServiceStopFailed,
    ServiceStopped,
    ServiceStopRequested,
)

__all__ = [
    "CONSUMER",
    "LOAD",
    "PAYLOAD",
    "SCHEDULE",
    "ControllerPhase",
    "Instance",
    "Outcome",
    "Situation",
    "due",
    "exited",
    "need",
    "observe",
    "on_timer",
    "redefined",
    "removed",
    "start_failed",
    "started",
    "stop",
    "stop_failed",
    "stopped",
]

LOAD, CONSUMER, PAYLOAD, SCHEDULE = "load", "consumer", "payload", "schedule"
"""Why a service is started; the last also why it is stopped."""
IDLE, _REMOVED, _REPLACED = "idle", "removed", "replaced"
"""Why a service is stopped."""


class ControllerPhase(enum.Enum):
    """What is known or asked about the process of the instance; see the module."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Instance:
    """What the hub knows about the instance. Times are monotonic seconds."""

    phase: ControllerPhase = ControllerPhase.STOPPED
    reason: str = ""
    """STARTING, STOPPING: why."""
    attempt: int = 0
    asked: bool = False
    """The cluster manager's answer is awaited."""
    asked_at: float = 0.0
    due: float | None = None
    """When to ask, or when the answer is overdue."""
    last_start: float | None = None
    """When the manager was last asked to start it."""
    ready_at: float = 0.0
    """RUNNING: since when."""
    seen: bool = False
    """RUNNING: a provider's session has come since."""
    idle_since: float | None = None
    """Since when there has been no connection; None: there is one, or no instance that could be idle."""
    failure: str = ""
    """Why the last command failed."""
    afterwards: str = ""
    """STOPPING: why it is to be started again afterwards; empty: it isn't."""
    availability: Availability | None = None
    """The definition at the last start, by which the instance has to be stopped; None: the hub has started none."""

    @property
    def restarts(self) -> bool:
        """STARTING again, while the previous instance counts as running but its provider is missing."""
        return self.phase is ControllerPhase.STARTING and not self.attempt and self.availability is not None


@dataclass(frozen=True, slots=True)
class Situation:
    """What the service's actor knows at this moment."""

    realm: str
    key: ServiceKey
    availability: Availability | None
    """None: this hub doesn't start or stop the service (any more)."""
    providers: int
    """Sessions that may be given connections."""
    consumers: int
    waiting: int
    """Openings that wait for a provider."""
    legs: int
    """Open connections, waiting openings included."""
    closing: bool
    """The hub is being stopped: nothing is started or stopped any more."""
    now: float
    options: ActorOptions

    @property
    def where(self) -> dict[str, Any]:
        """The fields that all events of a service have in common."""
        return {"realm": self.realm, "network_urn": self.key.network_urn, "service_urn": self.key.service_urn}


Outcome = tuple[Instance, Decision]


def due(instance: Instance, situation: Situation) -> float | None:
    """When :func:`on_timer` has something to do; None: not before something happens."""
    if situation.closing:
        return None
    times = (instance.due, _idle_due(instance, situation))
    return min((time for time in times if time is not None), default=None)


def _idle_due(instance: Instance, situation: Situation) -> float | None:
    availability = situation.availability
    if availability is None or not availability.on_demand or not availability.idle_timeout:
        return None
    if instance.idle_since is None or instance.phase not in {ControllerPhase.STOPPED, ControllerPhase.RUNNING}:
        return None
    return instance.idle_since + availability.idle_timeout


def observe(instance: Instance, situation: Situation) -> Instance:
    """Take notice of providers and connections, after every change of them."""
    running = instance.phase is ControllerPhase.RUNNING
    if running and not instance.seen and situation.providers:
        instance = replace(instance, seen=True)
    if situation.legs or not (running or situation.providers):
        return instance if instance.idle_since is None else replace(instance, idle_since=None)
    return instance if instance.idle_since is not None else replace(instance, idle_since=situation.now)


# Starts ---------------------------------------------------------------------------------------------------------------


def need(instance: Instance, situation: Situation, reason: str) -> Outcome:
    """Start the instance for this reason, unless there is a provider or a start is under way."""
    if situation.availability is None or situation.closing:
        return instance, Decision()
    match instance.phase:
        case ControllerPhase.STARTING:
            return instance, Decision()
        case ControllerPhase.STOPPING:
            return replace(instance, afterwards=instance.afterwards or reason), Decision()
        case _ if situation.providers:
            return instance, Decision()
        case ControllerPhase.RUNNING if (
            not instance.seen and situation.now < instance.ready_at + situation.options.start_timeout
        ):
            # It was started, and its provider may still come: a second copy would run beside it.
            return instance, Decision()
        case _:
            return _begin_start(instance, situation, reason)


def _begin_start(instance: Instance, situation: Situation, reason: str) -> Outcome:
    last = instance.last_start
    earliest = situation.now if last is None else max(situation.now, last + situation.options.start_interval)
    instance = replace(
        instance,
        phase=ControllerPhase.STARTING,
        reason=reason,
        attempt=0,
        asked=False,
        due=earliest,
        idle_since=None,
        failure="",
    )
    return on_timer(instance, situation)


def _ask_start(instance: Instance, situation: Situation) -> Outcome:
    availability = situation.availability
    assert availability is not None, "_wanted has checked it"
    instance = replace(
        instance,
        attempt=instance.attempt + 1,
        asked=True,
        asked_at=situation.now,
        due=situation.now + situation.options.cluster_timeout,
        last_start=situation.now,
        availability=availability,
    )
    event = ServiceStartRequested(**situation.where, reason=instance.reason, attempt=instance.attempt)
    return instance, Decision((event,), (StartService(situation.key.service_urn, instance.reason, availability),))


def started(instance: Instance, situation: Situation) -> Outcome:
    """Note that the cluster manager has started the instance, also if the answer comes after its timeout."""
    if instance.phase is not ControllerPhase.STARTING or not instance.attempt:
        return instance, Decision()
    event = ServiceStarted(**situation.where, latency=situation.now - instance.asked_at)
    instance = replace(
        instance,
        phase=ControllerPhase.RUNNING,
        asked=False,
        due=None,
        ready_at=situation.now,
        seen=False,
        idle_since=None,
    )
    return observe(instance, situation), Decision((event,))


def start_failed(instance: Instance, situation: Situation, reason: str, *, retryable: bool) -> Outcome:
    """Schedule another start after the cluster manager has failed, or give up: then the instance is STOPPED."""
    if instance.phase is not ControllerPhase.STARTING or not instance.asked:
        return instance, Decision()
    retry = retryable and _wanted(instance, situation)
    event = ServiceStartFailed(**situation.where, reason=reason, attempt=instance.attempt, will_retry=retry)
    if not retry:
        return _gave_up(instance, reason), Decision((event,))
    interval = situation.options.start_interval
    at = max(situation.now + _backoff(instance, situation), instance.asked_at + interval)
    return replace(instance, asked=False, due=at, failure=reason), Decision((event,))


def exited(instance: Instance, situation: Situation, reason: str) -> Outcome:
    """Note that the process has ended by itself: before its provider came, that is a start that has failed."""
    if instance.restarts:
        return replace(instance, availability=None), Decision((ServiceStopped(**situation.where, reason=reason),))
    if instance.phase is not ControllerPhase.RUNNING:
        return instance, Decision()
    if not instance.seen:
        starting = replace(instance, phase=ControllerPhase.STARTING, asked=True)
        return start_failed(starting, situation, reason, retryable=True)
    event = ServiceStopped(**situation.where, reason=reason)
    instance = replace(instance, phase=ControllerPhase.STOPPED, asked=False, due=None, failure="", availability=None)
    if not _wanted(instance, situation):
        return instance, Decision((event,))
    after, decision = need(instance, situation, instance.reason)
    return after, Decision((event, *decision.events), decision.commands)


def _gave_up(instance: Instance, reason: str) -> Instance:
    return replace(instance, phase=ControllerPhase.STOPPED, asked=False, due=None, failure=reason, availability=None)


def _wanted(instance: Instance, situation: Situation) -> bool:
    """Whether a start is (still) wanted: by the inventory, an opening that waits, or a consumer."""
    availability = situation.availability
    if availability is None or situation.closing:
        return False
    if instance.reason in {LOAD, SCHEDULE} or situation.waiting:
        return True
    return availability.start_on_consumer and situation.consumers > 0


def _backoff(instance: Instance, situation: Situation) -> float:
    """Seconds; the random part differs by service and attempt, but not from run to run."""
    options, attempt = situation.options, instance.attempt
    # Not random: the same inputs have to give the same decisions in a replay. It still spreads the retries of services
    # that failed together, say when their cluster manager was restarted.
    dice = zlib.crc32(f"{situation.key.service_urn} {attempt}".encode()) / 2**32
    return backoff(options.retry_base, options.retry_limit, attempt - 1, lambda: dice)


# Stops ----------------------------------------------------------------------------------------------------------------


def stop(instance: Instance, situation: Situation, reason: str) -> Outcome:
    """Stop the instance, in whatever phase it is."""
    availability = instance.availability or situation.availability
    if availability is None or situation.closing:
        return instance, Decision()
    if instance.phase is ControllerPhase.STOPPING:
        return replace(instance, afterwards=""), Decision()
    # A start that still waits for its rate limit: the manager was asked for nothing, so it has nothing to stop.
    if instance.phase is ControllerPhase.STARTING and not instance.attempt and not instance.restarts:
        return _gave_up(instance, ""), Decision()
    instance = replace(
        instance, phase=ControllerPhase.STOPPING, reason=reason, attempt=0, afterwards="", idle_since=None
    )
    return _ask_stop(replace(instance, availability=availability), situation)


def _ask_stop(instance: Instance, situation: Situation) -> Outcome:
    availability = instance.availability
    assert availability is not None, "stop has set it"
    instance = replace(
        instance,
        attempt=instance.attempt + 1,
        asked=True,
        asked_at=situation.now,
        due=situation.now + situation.options.cluster_timeout,
    )
    event = ServiceStopRequested(**situation.where, reason=instance.reason, attempt=instance.attempt)
    return instance, Decision((event,), (StopService(situation.key.service_urn, instance.reason, availability),))


def stopped(instance: Instance, situation: Situation) -> Outcome:
    """Note that the cluster manager has stopped the instance, and start it again if that was wanted meanwhile."""
    if instance.phase is not ControllerPhase.STOPPING:
        return instance, Decision()
    event = ServiceStopped(**situation.where, reason=instance.reason)
    reason = instance.afterwards
    instance = replace(
        instance, phase=ControllerPhase.STOPPED, asked=False, due=None, afterwards="", failure="", availability=None
    )
    wanted = reason and _wanted(replace(instance, reason=reason), situation)
    after, decision = need(instance, situation, reason) if wanted else (instance, Decision())
    return after, Decision((event, *decision.events), decision.commands)


def stop_failed(instance: Instance, situation: Situation, reason: str) -> Outcome:
    """Schedule another stop after the cluster manager has failed, or give up: then the instance is RUNNING again."""
    if instance.phase is not ControllerPhase.STOPPING or not instance.asked:
        return instance, Decision()
    attempt = instance.attempt
    retry = attempt < situation.options.stop_attempts and not instance.afterwards and not situation.closing
    event = ServiceStopFailed(**situation.where, reason=reason, attempt=attempt, will_retry=retry)
    if retry:
        at = situation.now + _backoff(instance, situation)
        return replace(instance, asked=False, due=at, failure=reason), Decision((event,))
    instance = replace(
        instance, phase=ControllerPhase.RUNNING, asked=False, due=None, afterwards="", ready_at=situation.now, seen=True
    )
    return observe(instance, situation), Decision((event,))


# Time, and another definition -----------------------------------------------------------------------------------------


def on_timer(instance: Instance, situation: Situation) -> Outcome:
    """Do what is due."""
    now, overdue = situation.now, f"no answer of the cluster manager in {situation.options.cluster_timeout:g} s"
    idle = _idle_due(instance, situation)
    if instance.due is not None and instance.due <= now:
        match instance.phase:
            case ControllerPhase.STARTING if instance.asked:
                return start_failed(instance, situation, overdue, retryable=True)
            case ControllerPhase.STARTING if _wanted(instance, situation):
                return _ask_start(instance, situation)
            case ControllerPhase.STARTING:
                return _abandon(instance, situation)
            case ControllerPhase.STOPPING if instance.asked:
                return stop_failed(instance, situation, overdue)
            case ControllerPhase.STOPPING:
                return _ask_stop(instance, situation)
    if idle is not None and idle <= now and not situation.legs:
        return stop(instance, situation, IDLE)
    return instance, Decision()


def _abandon(instance: Instance, situation: Situation) -> Outcome:
    """Give up a start that was still to be tried (again) and that is no longer wanted."""
    if instance.restarts:
        return observe(replace(instance, phase=ControllerPhase.RUNNING, due=None, seen=True), situation), Decision()
    if not instance.attempt:
        return _gave_up(instance, ""), Decision()
    reason = f"nobody waits for it any more; {instance.failure}"
    event = ServiceStartFailed(**situation.where, reason=reason, attempt=instance.attempt)
    return _gave_up(instance, reason), Decision((event,))


def removed(instance: Instance, situation: Situation, before: Availability | None) -> Outcome:
    """Stop what runs of a service that isn't defined any more, also if the hub hasn't started it.

    :param before: the availability that it had.
    """
    if instance.phase is ControllerPhase.STOPPING:
        return replace(instance, afterwards=""), Decision()
    if instance.phase is ControllerPhase.STOPPED and not (before is not None and situation.providers):
        return instance, Decision()
    if instance.phase is not ControllerPhase.STARTING:
        instance = replace(instance, availability=instance.availability or before)
    return stop(instance, situation, _REMOVED)


def redefined(instance: Instance, situation: Situation, before: Availability | None) -> Outcome:
    """Apply another availability.

    :param before: the one that the service had; None: the service is new, or wasn't managed.
    """
    availability, known = situation.availability, instance.availability
    active = instance.phase in {ControllerPhase.STARTING, ControllerPhase.RUNNING}
    if availability is None:
        # Something else manages the service from now on: a running instance is left alone.
        decision = Decision()
        if instance.phase is ControllerPhase.STARTING and not instance.asked:
            instance, decision = _abandon(instance, situation)
        return (Instance() if instance.phase is ControllerPhase.RUNNING else instance), decision
    if active and known is not None and _identity(known) != _identity(availability):
        instance, decision = stop(instance, situation, _REPLACED)
        again = LOAD if availability.start_on_load else PAYLOAD if situation.waiting else ""
        return replace(instance, afterwards=again), decision
    if availability.start_on_load and not (before is not None and before.start_on_load):
        return need(instance, situation, LOAD)
    if availability.start_on_consumer and situation.consumers:
        return need(instance, situation, CONSUMER)
    return instance, Decision()


def _identity(availability: Availability) -> tuple[str, str]:
    return availability.cluster_manager_urn, availability.service_id
