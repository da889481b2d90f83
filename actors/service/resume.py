"""Which connections of one service may resume (R-4.7), and which its providers keep for lost consumers (D-26).

Parts of the service's actor, as :mod:`spnhub.actors.service.instance_controller` is. Counterparts:
:mod:`spnhub.actors.connection.resume_refusals` (refusals), :mod:`spnhub.actors.connection.resume` (the leg that
begins).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from pykka import ActorRef

from spnhub.actors.connection.resume_refusals import LegNames, refuse_answer, refuse_resume, report_gone
from spnhub.actors.connection.state import ProviderResumed, Resume, Superseded
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import ResumeRequested, SessionRequested
from spnhub.actors.contract.inventory import ServiceKey
from spnhub.actors.contract.protocols import is_resumable
from spnhub.actors.kernel.environment import Decision, Environment
from spnhub.actors.kernel.rate_limit import RateLimitedCounter
from spnhub.actors.kernel.timers import Timer
from spnhub.actors.service.admission import Refusal
from spnhub.actors.service.awaited import AwaitedProviders
from spnhub.actors.service.gone import GoneInstances
from spnhub.actors.service.registry import SessionRegistry
from spnhub.actors.session.messages import InvitationAnswered, ResumeAsked
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType, LimitReached

__all__ = ["Resuming", "SuspendedConnections", "SuspensionExpired"]

_ABSENT_LIMIT: Final = 4096
"""The most connections of one service whose refusal, since their provider isn't here, is logged only once."""


@dataclass(frozen=True, slots=True)
class SuspensionExpired:
    """Timer: the time of some suspended connections may be over (D-26)."""


class _Suspended(NamedTuple):
    epoch: int
    provider: int
    until: float
    """Monotonic seconds."""


class SuspendedConnections:
    """Connections that a provider keeps for consumers that were lost, and that count in the provider's load (D-26).

    Each counts until it resumes here, the provider's session ends, or the time for a resume has passed.

    :param where: the realm and the service.
    :param ref: the address of the service's actor, which gets :class:`SuspensionExpired` and calls :meth:`expire`.
    :param release: called with the provider's session when a connection doesn't count any more.
    """

    def __init__(
        self, env: Environment, where: tuple[str, ServiceKey], ref: ActorRef[Any], release: Callable[[int], None]
    ) -> None:
        self._env = env
        self._realm, self._key = where
        self._ref = ref
        self._release = release
        self._timer: Timer | None = None
        self._suspended_connections: OrderedDict[str, _Suspended] = OrderedDict()
        """By connectionUid, oldest first."""
        self._dropped = RateLimitedCounter(env.options.refusal_window)

    def __len__(self) -> int:
        return len(self._suspended_connections)

    def epoch(self, connection_uid: str) -> int:
        """The epoch of the leg that was suspended; -1: the connection isn't suspended here."""
        one = self._suspended_connections.get(connection_uid)
        return -1 if one is None else one.epoch

    def add(self, connection_uid: str, epoch: int, provider: int) -> None:
        """Keep counting a leg of this provider that was suspended; beyond the bound, the oldest is dropped."""
        options = self._env.options
        self._drop(connection_uid)
        self._suspended_connections[connection_uid] = _Suspended(
            epoch, provider, self._env.now + options.resume_timeout
        )
        if len(self._suspended_connections) > options.suspended_connections:
            self._drop(next(iter(self._suspended_connections)))
            self._report_dropped(self._dropped.add(1, self._env.now))
        self._arm_timer()

    def drop(self, connection_uid: str) -> None:
        """Stop counting a connection; an unknown one is ignored."""
        self._drop(connection_uid)
        self._arm_timer()

    def provider_gone(self, provider: int) -> None:
        """Stop counting the connections of a provider whose session has ended."""
        for connection_uid in [uid for uid, one in self._suspended_connections.items() if one.provider == provider]:
            self._drop(connection_uid)
        self._arm_timer()

    def expire(self) -> None:
        """Drop the connections whose time has passed, and report those that were dropped beyond the bound."""
        # All have the same timeout and are added in the order of time, so the oldest is the first one due.
        self._timer = None
        while (due := self._next_expiry()) is not None and due <= self._env.now:
            self._drop(next(iter(self._suspended_connections)))
        self._report_dropped(self._dropped.expire(self._env.now))
        self._arm_timer()

    def _report_dropped(self, dropped: int) -> None:
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
        one = self._suspended_connections.pop(connection_uid, None)
        if one is not None:
            self._release(one.provider)

    def _next_expiry(self) -> float | None:
        return next((one.until for one in self._suspended_connections.values()), None)

    def _due(self) -> float | None:
        return min((at for at in (self._next_expiry(), self._dropped.due) if at is not None), default=None)

    def _arm_timer(self) -> None:
        due = self._due()
        if self._timer is not None and due is None:
            self._timer.cancel()
            self._timer = None
        elif self._timer is None and due is not None:
            self._timer = self._env.after(max(0.0, due - self._env.now), self._ref, SuspensionExpired())


class Resuming:
    """The resumes of one service.

    :param fault: returns why a consumer may not have a leg now; None when it may.
    :param begin: called when a connection may resume, with the consumer's session, its request and the provider's
        session.
    """

    def __init__(
        self,
        env: Environment,
        registry: SessionRegistry,
        names: LegNames,
        suspended: SuspendedConnections,
        gone: GoneInstances,
        awaited: AwaitedProviders,
        *,
        fault: Callable[[SessionRequested], Refusal | None],
        begin: Callable[[SessionRequested, ResumeRequested, SessionRequested], None],
    ) -> None:
        self._env = env
        self._registry = registry
        self._names = names
        self._suspended = suspended
        self._gone = gone
        self._awaited = awaited
        self._fault = fault
        self._begin = begin
        self._absent: OrderedDict[str, None] = OrderedDict()
        """Connections whose refusal, since their provider isn't here, is logged; the least recent request first."""

    def asked(self, message: ResumeAsked) -> None:
        """Answer a consumer's request to resume: a refusal, or the start of a leg."""
        consumer, request = self._registry.sessions.get(message.session), message.request
        if consumer is None:  # its actor failed right after this request: nobody is left to answer
            return
        provider = self._holder(request)
        refusal = self._fault(consumer)
        if refusal is None and not is_resumable(request.instance_id):
            refusal = Code.ENDED, f"{request.peer} can't resume"
        uid, epoch = request.connection_uid, request.epoch
        # An epoch is used once. A suspended leg has no name any more, but its epoch is still known: a late copy of the
        # request that began it must not begin another.
        if refusal is None and (self._names.get(uid, epoch) is not None or epoch <= self._suspended.epoch(uid)):
            refusal = Code.STALE, f"epoch {epoch} was there before"
        elif refusal is None and provider is None:
            refusal = self._absence(request, consumer.session)
        if refusal is not None:
            logged = refusal[0] is Code.NOT_HERE and self._absence_logged(uid)
            decision = refuse_resume(consumer, request, *refusal)
            self._env.carry_out(decision._replace(events=()) if logged else decision)
        elif provider is not None:
            self._absent.pop(uid, None)
            self._registry.choice.charge(provider)
            self._begin(consumer, request, self._registry.sessions[provider])

    def _absence(self, request: ResumeRequested, consumer: int) -> Refusal:
        """The refusal for a connection whose provider isn't here: gone for good, or perhaps at another hub."""
        provider = f"{request.peer}, instance {request.instance_id!r},"
        if self._gone.is_gone(consumer, request.peer, request.instance_id):
            return Code.GONE, f"{provider} is gone: its port is closed"
        self._awaited.add(consumer, (EndPointType.PROVIDER, request.peer, request.instance_id))
        return Code.NOT_HERE, f"{provider} has no session here"

    def _absence_logged(self, connection_uid: str) -> bool:
        """Whether this connection's refusal is logged already, since a waiting consumer asks again and again."""
        logged = connection_uid in self._absent
        self._absent[connection_uid] = None
        self._absent.move_to_end(connection_uid)
        if len(self._absent) > _ABSENT_LIMIT:
            self._absent.popitem(last=False)
        return logged

    def _holder(self, request: ResumeRequested) -> int | None:
        """The session of the provider instance that the consumer names, which holds the other end.

        None: it has no session here, or one that is ending or unresponsive; it may answer through another hub (D-20).
        """
        session = self._registry.identities.get((EndPointType.PROVIDER, request.peer, request.instance_id))
        entry = None if session is None else self._env.directory.sessions[session]
        if entry is None or entry.ending or self._env.state.sessions[entry.spn_session_id].suspect:
            return None
        return session

    def answered(self, message: InvitationAnswered) -> None:
        """Pass a provider's answer to an invitation to its leg.

        A leg that both endpoints want supersedes the older ones of its connection; it is refused after a newer one.
        """
        provider, answer = self._registry.sessions.get(message.session), message.answer
        directory = self._env.directory
        uid, epoch = answer.connection_uid, answer.epoch
        key = self._names.get(uid, epoch)
        if provider is None:
            return
        if key is None and answer.code == Code.GONE:
            self._env.carry_out(report_gone(provider, answer))
            return
        # The leg may have timed out meanwhile, or the opening has gone to another session of this provider.
        if key is None or directory.connections[key].provider != message.session:
            self._env.carry_out(refuse_answer(provider, answer, Code.TIMEOUT, "no such invitation is open"))
            return
        stated, reason = Resume(answer.received_offset, answer.finished, answer.code), ""
        if answer.code:
            reason = "the provider's end can't go on"
        elif not answer.matches or answer.peer != self._registry.sessions[key.session].spn_end_point:
            stated, reason = stated._replace(code=Code.NOT_ALLOWED), "the endpoints don't mean the same connection"
        elif (older := self._names.confirm(uid, epoch)) is None:
            stated, reason = stated._replace(code=Code.STALE), "a later leg is known"
        else:
            for other in older:
                directory.tell_connection(other, Superseded(epoch))
            self._suspended.drop(uid)
        directory.tell_connection(key, ProviderResumed(stated, reason))
