"""Who may resume what, in one service (R-4.7): refusals as decisions, the open legs by name, and what is held.

Counterparts: :mod:`spnhub.actors.resume_rules` (the leg that begins), :mod:`spnhub.actors.service` (asks here).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from spnhub.actors.codes import Code
from spnhub.actors.commands import ForgetConnection, SendResumeAck
from spnhub.actors.environment import Decision
from spnhub.actors.inputs import Key, ResumeAnswered, ResumeRequested, SessionRequested
from spnhub.actors.resume_rules import is_lost
from spnhub.events.model import ConnectionLost, Event, ResumeRefused

__all__ = ["Held", "LegNames", "refuse_answer", "refuse_resume"]


def refuse_resume(consumer: SessionRequested, request: ResumeRequested, code: Code, reason: str) -> Decision:
    """No to a consumer's request. Who only says that it can't go on is refused nothing: the log says what it said."""
    events: tuple[Event, ...] = ()
    if not request.code:
        events = (_refused(consumer, request.connection_uid, request.epoch, code, reason),)
    elif code is Code.NOT_HERE and is_lost(request.code):
        lost = ConnectionLost(
            realm=consumer.realm,
            network_urn=consumer.network_urn,
            spn_session_id=consumer.spn_session_id,
            service_urn=consumer.service_urn,
            connection_uid=request.connection_uid,
            epoch=request.epoch,
            receive_offset=request.received_offset,
            code=request.code,
            reason=reason,
        )
        events = (lost,)
    ack = SendResumeAck(consumer.session, request.connection_uid, request.epoch, code, reason)
    return Decision(events, (ack, ForgetConnection(request.key)))


def refuse_answer(provider: SessionRequested, answer: ResumeAnswered, code: Code, reason: str) -> Decision:
    """No to a provider that answers what nobody asks, or not any more."""
    event = _refused(provider, answer.connection_uid, answer.epoch, code, reason)
    return Decision((event,), (SendResumeAck(provider.session, answer.connection_uid, answer.epoch, code, reason),))


def _refused(session: SessionRequested, connection_uid: str, epoch: int, code: Code, reason: str) -> ResumeRefused:
    return ResumeRefused(
        realm=session.realm,
        network_urn=session.network_urn,
        spn_session_id=session.spn_session_id,
        spn_end_point=session.spn_end_point,
        end_point_type=session.end_point_type,
        service_urn=session.service_urn,
        connection_uid=connection_uid,
        epoch=epoch,
        code=code,
        reason=reason,
    )


class LegNames:
    """The legs of one service by connectionUid and epoch, those that are beginning or ending included."""

    def __init__(self) -> None:
        self._legs: dict[str, dict[int, Key]] = {}
        self._confirmed: dict[str, int] = {}
        """The highest epoch that both endpoints have confirmed, of connections that are named."""

    def __len__(self) -> int:
        """Connections that are named."""
        return len(self._legs)

    def get(self, connection_uid: str, epoch: int) -> Key | None:
        """The leg of this name."""
        return self._legs.get(connection_uid, {}).get(epoch)

    def add(self, connection_uid: str, epoch: int, key: Key) -> None:
        """A leg begins."""
        self._legs.setdefault(connection_uid, {})[epoch] = key

    def remove(self, connection_uid: str, epoch: int) -> None:
        """A leg is gone."""
        legs = self._legs[connection_uid]
        del legs[epoch]
        if not legs:
            del self._legs[connection_uid]
            self._confirmed.pop(connection_uid, None)

    def confirm(self, connection_uid: str, epoch: int) -> list[Key] | None:
        """Both endpoints want this epoch: the legs of lower ones, which end; None: a higher one was confirmed."""
        if self._confirmed.get(connection_uid, -1) > epoch:
            return None
        self._confirmed[connection_uid] = epoch
        return [key for other, key in sorted(self._legs[connection_uid].items()) if other < epoch]


class _Hold(NamedTuple):
    epoch: int
    provider: int
    until: float


class Held:
    """Conversations that a provider still holds for consumers that were lost: they count in its load (D-26).

    Until they resume here, the provider's session ends, or the time for a resume has passed.

    :param seconds: how long.
    :param limit: how many; beyond it the oldest count no longer.
    :param release: called with the provider's session when one doesn't count any more.
    """

    def __init__(self, seconds: float, limit: int, release: Callable[[int], None]) -> None:
        self._seconds = seconds
        self._limit = limit
        self._release = release
        self._holds: OrderedDict[str, _Hold] = OrderedDict()
        """By connectionUid, oldest first."""

    def __len__(self) -> int:
        return len(self._holds)

    def epoch(self, connection_uid: str) -> int:
        """The epoch of the leg that was suspended; -1: nothing is held."""
        hold = self._holds.get(connection_uid)
        return -1 if hold is None else hold.epoch

    def add(self, connection_uid: str, epoch: int, provider: int, now: float) -> None:
        """A leg of this provider was suspended; it goes on counting."""
        self.drop(connection_uid)
        self._holds[connection_uid] = _Hold(epoch, provider, now + self._seconds)
        if len(self._holds) > self._limit:
            self.drop(next(iter(self._holds)))

    def drop(self, connection_uid: str) -> None:
        """It doesn't count any more; unknown ones are ignored."""
        hold = self._holds.pop(connection_uid, None)
        if hold is not None:
            self._release(hold.provider)

    def provider_gone(self, provider: int) -> None:
        """What it held, it doesn't hold here any more."""
        for connection_uid in [uid for uid, hold in self._holds.items() if hold.provider == provider]:
            self.drop(connection_uid)

    def due(self) -> float | None:
        """When :meth:`expire` has something to do, monotonic seconds."""
        return next((hold.until for hold in self._holds.values()), None)

    def expire(self, now: float) -> None:
        """Let go of those whose time has passed."""
        while (due := self.due()) is not None and due <= now:
            self.drop(next(iter(self._holds)))
