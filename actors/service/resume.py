"""Who may go on with what in one service (R-4.7), and what its providers still hold for those who were lost (D-26).

Parts of the service's actor, as :mod:`spnhub.actors.service.instance_controller` is. Counterparts:
:mod:`spnhub.actors.connection.resume_refusals` (refusals), :mod:`spnhub.actors.connection.resume` (the leg that
begins).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from pykka import ActorRef

from spnhub.actors.connection.resume_refusals import LegNames, refuse_answer, refuse_resume, report_gone
from spnhub.actors.connection.state import ProviderResumed, Resume, Superseded
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import ResumeRequested, SessionRequested
from spnhub.actors.contract.inventory import ServiceKey
from spnhub.actors.kernel.environment import Decision, Environment
from spnhub.actors.kernel.rate_limit import RateLimitedCounter
from spnhub.actors.kernel.timers import Timer
from spnhub.actors.service.admission import Refusal
from spnhub.actors.service.gone import GoneInstances
from spnhub.actors.service.registry import SessionRegistry
from spnhub.actors.session.actor import ProviderCame, ResumeAsked
from spnhub.events.model import EndPointType, LimitReached

__all__ = ["Resuming", "SuspendedConnections", "SuspensionExpired"]

_ABSENT_LIMIT: Final = 4096
"""Connections of one service that wait for a provider elsewhere and have their refusal logged once."""


@dataclass(frozen=True, slots=True)
class SuspensionExpired:
    """Some suspended connections may have counted long enough (D-26)."""


class _Hold(NamedTuple):
    epoch: int
    provider: int
    until: float


class SuspendedConnections:
    """Conversations that a provider still holds for consumers that were lost: they count in its load (D-26).

    Until they resume here, the provider's session ends, or the time for a resume has passed.

    :param where: the service and its realm.
    :param ref: whom :class:`SuspensionExpired` is told; it calls :meth:`expire`.
    :param release: called with the provider's session when one doesn't count any more.
    """

    def __init__(
        self, env: Environment, where: tuple[str, ServiceKey], ref: ActorRef[Any], release: Callable[[int], None]
    ) -> None:
        self._env = env
        self._realm, self._key = where
        self._ref = ref
        self._release = release
        self._timer: Timer | None = None
        self._holds: OrderedDict[str, _Hold] = OrderedDict()
        """By connectionUid, oldest first."""
        self._dropped = RateLimitedCounter(env.options.refusal_window)

    def __len__(self) -> int:
        return len(self._holds)

    def epoch(self, connection_uid: str) -> int:
        """The epoch of the leg that was suspended; -1: nothing is held."""
        hold = self._holds.get(connection_uid)
        return -1 if hold is None else hold.epoch

    def add(self, connection_uid: str, epoch: int, provider: int) -> None:
        """A leg of this provider was suspended; it goes on counting. Beyond the bound the oldest don't."""
        options = self._env.options
        self._drop(connection_uid)
        self._holds[connection_uid] = _Hold(epoch, provider, self._env.now + options.resume_timeout)
        if len(self._holds) > options.suspended_connections:
            self._drop(next(iter(self._holds)))
            self._tell(self._dropped.add(1, self._env.now))
        self._watch()

    def drop(self, connection_uid: str) -> None:
        """It doesn't count any more; unknown ones are ignored."""
        self._drop(connection_uid)
        self._watch()

    def provider_gone(self, provider: int) -> None:
        """What it held, it doesn't hold here any more."""
        for connection_uid in [uid for uid, hold in self._holds.items() if hold.provider == provider]:
            self._drop(connection_uid)
        self._watch()

    def expire(self) -> None:
        """Let go of those whose time has passed, and tell what is still to be told."""
        self._timer = None
        while (due := self._oldest()) is not None and due <= self._env.now:
            self._drop(next(iter(self._holds)))
        self._tell(self._dropped.expire(self._env.now))
        self._watch()

    def _tell(self, dropped: int) -> None:
        if dropped:
            event = LimitReached(
                realm=self._realm,
                network_urn=self._key.network_urn,
                service_urn=self._key.service_urn,
                limit="heldConnections",
                bound=self._env.options.suspended_connections,
                count=dropped,
            )
            self._env.carry_out(Decision((event,)))

    def _drop(self, connection_uid: str) -> None:
        hold = self._holds.pop(connection_uid, None)
        if hold is not None:
            self._release(hold.provider)

    def _oldest(self) -> float | None:
        return next((hold.until for hold in self._holds.values()), None)

    def _due(self) -> float | None:
        return min((at for at in (self._oldest(), self._dropped.due) if at is not None), default=None)

    def _watch(self) -> None:
        due = self._due()
        if self._timer is not None and due is None:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and due is not None:
            self._timer = self._env.after(max(0.0, due - self._env.now), self._ref, SuspensionExpired())


class Resuming:
    """The resumes of one service.

    :param fault: why a consumer may not have a leg now; None when it may.
    :param begin: called with the consumer's session, its request and the provider's session when it may go on.
    """

    def __init__(
        self,
        env: Environment,
        registry: SessionRegistry,
        names: LegNames,
        suspended: SuspendedConnections,
        gone: GoneInstances,
        *,
        fault: Callable[[SessionRequested], Refusal | None],
        begin: Callable[[SessionRequested, ResumeRequested, SessionRequested], None],
    ) -> None:
        self._env = env
        self._registry = registry
        self._names = names
        self._suspended = suspended
        self._gone = gone
        self._fault = fault
        self._begin = begin
        self._absent: OrderedDict[str, None] = OrderedDict()
        """Connections whose provider isn't here, as the log says already; those asked for longest ago first."""

    def asked(self, message: ResumeAsked) -> None:
        """A consumer asks."""
        consumer, request = self._registry.sessions.get(message.session), message.request
        if consumer is None:  # its actor has failed just after it asked
            return
        provider = self._holder(request)
        refusal = self._fault(consumer)
        uid, epoch = request.connection_uid, request.epoch
        if refusal is None and (self._names.get(uid, epoch) is not None or epoch <= self._suspended.epoch(uid)):
            refusal = Code.STALE, f"epoch {epoch} was there before"
        elif refusal is None and provider is None:
            refusal = self._absence(request, consumer.session)
        if refusal is not None:
            told = refusal[0] is Code.NOT_HERE and self._told_absent(uid)
            decision = refuse_resume(consumer, request, *refusal)
            self._env.carry_out(decision._replace(events=()) if told else decision)
        elif provider is not None:
            self._absent.pop(uid, None)
            self._registry.choice.charge(provider)
            self._begin(consumer, request, self._registry.sessions[provider])

    def _absence(self, request: ResumeRequested, consumer: int) -> Refusal:
        """Why the provider that the consumer names can't be asked."""
        who = f"{request.peer}, instance {request.instance_id!r},"
        if self._gone.asked(consumer, request.peer, request.instance_id):
            return Code.GONE, f"{who} is gone: its port is closed"
        return Code.NOT_HERE, f"{who} has no session here"

    def _told_absent(self, connection_uid: str) -> bool:
        """Whether the log says so already: who waits for its provider asks again, and again."""
        told = connection_uid in self._absent
        self._absent[connection_uid] = None
        self._absent.move_to_end(connection_uid)
        if len(self._absent) > _ABSENT_LIMIT:
            self._absent.popitem(last=False)
        return told

    def _holder(self, request: ResumeRequested) -> int | None:
        """The session of the provider instance that the consumer names. A suspect one may answer elsewhere (D-20)."""
        session = self._registry.identities.get((EndPointType.PROVIDER, request.peer, request.instance_id))
        entry = None if session is None else self._env.directory.sessions[session]
        if entry is None or entry.ending or self._env.state.sessions[entry.spn_session_id].suspect:
            return None
        return session

    def answered(self, message: ProviderCame) -> None:
        """What both endpoints want is confirmed; it ends the legs that are older, and comes too late after a newer."""
        provider, answer = self._registry.sessions.get(message.session), message.answer
        directory = self._env.directory
        uid, epoch = answer.connection_uid, answer.epoch
        key = self._names.get(uid, epoch)
        if provider is None:
            return
        if key is None and answer.code == Code.GONE:
            self._env.carry_out(report_gone(provider, answer))
            return
        if key is None or directory.connections[key].provider != message.session:
            self._env.carry_out(refuse_answer(provider, answer, Code.TIMEOUT, "no such invitation is open"))
            return
        told, reason = Resume(answer.received_offset, answer.finished, answer.code), ""
        if answer.code:
            reason = "the provider's end can't go on"
        elif not answer.matches or answer.peer != self._registry.sessions[key.session].spn_end_point:
            told, reason = told._replace(code=Code.NOT_ALLOWED), "the endpoints don't mean the same connection"
        elif (older := self._names.confirm(uid, epoch)) is None:
            told, reason = told._replace(code=Code.STALE), "a later leg is known"
        else:
            for other in older:
                directory.tell_connection(other, Superseded(epoch))
            self._suspended.drop(uid)
        directory.tell_connection(key, ProviderResumed(told, reason))
