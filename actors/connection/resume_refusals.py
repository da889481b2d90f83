"""Resumes that are refused, as decisions (R-4.7), and the legs of a service by name. Pure but for those names.

Counterparts: :mod:`spnhub.actors.connection.resume` (the leg that begins), :mod:`spnhub.actors.service.resume` (which
requests are granted).
"""

from __future__ import annotations

from spnhub.actors.connection.resume import acknowledge, is_lost
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import ForgetConnection
from spnhub.actors.contract.inputs import Key, ResumeAnswered, ResumeRequested, SessionRequested
from spnhub.actors.kernel.environment import Decision
from spnhub.events.model import ConnectionLost, EndPointEvent, Event, ResumeRefused, SessionEvent, shared

__all__ = ["LegNames", "refuse_answer", "refuse_resume", "report_gone"]


def refuse_resume(consumer: SessionRequested, request: ResumeRequested, code: Code, reason: str) -> Decision:
    """Refuse a consumer's request.

    A consumer that only states that it can't go on (``code``) has asked for nothing, so there is no refusal in the log;
    but what it stated is, if its provider can't hear it any more.
    """
    events: tuple[Event, ...] = ()
    if not request.code:
        events = (_refused(consumer, request.connection_uid, request.epoch, code, reason),)
    elif code in {Code.NOT_HERE, Code.GONE} and is_lost(request.code):
        events = (_lost(consumer, request, reason, receive_offset=request.received_offset),)
    ack = acknowledge(consumer.session, request.connection_uid, request.epoch, code, reason)
    return Decision(events, (ack, ForgetConnection(request.key)))


def report_gone(provider: SessionRequested, answer: ResumeAnswered) -> Decision:
    """Log a connection as lost, since its provider answers that the consumer's process is gone (D-20)."""
    reason = "the consumer is gone: its port is closed"
    return Decision((_lost(provider, answer, reason, sent_offset=answer.received_offset),))


def refuse_answer(provider: SessionRequested, answer: ResumeAnswered, code: Code, reason: str) -> Decision:
    """Refuse a provider's answer to an invitation that isn't open (any more)."""
    event = _refused(provider, answer.connection_uid, answer.epoch, code, reason)
    return Decision((event,), (acknowledge(provider.session, answer.connection_uid, answer.epoch, code, reason),))


def _lost(
    session: SessionRequested,
    stated: ResumeRequested | ResumeAnswered,
    reason: str,
    *,
    sent_offset: int = 0,
    receive_offset: int = 0,
) -> ConnectionLost:
    return ConnectionLost(
        **shared(SessionEvent, session),
        connection_uid=stated.connection_uid,
        epoch=stated.epoch,
        sent_offset=sent_offset,
        receive_offset=receive_offset,
        code=stated.code,
        reason=reason,
    )


def _refused(session: SessionRequested, connection_uid: str, epoch: int, code: Code, reason: str) -> ResumeRefused:
    return ResumeRefused(
        **shared(EndPointEvent, session),
        connection_uid=connection_uid,
        epoch=epoch,
        code=code,
        reason=reason,
    )


class LegNames:
    """The legs of one service by connectionUid and epoch, including legs that are beginning or ending."""

    def __init__(self) -> None:
        # Nearly all have one: a tuple of pairs takes half the memory of a dict.
        self._legs: dict[str, tuple[tuple[int, Key], ...]] = {}
        self._confirmed: dict[str, int] = {}
        """The highest epoch that both endpoints have confirmed, for the connections that have a leg here."""

    def __len__(self) -> int:
        """The number of connections that have a leg here, or several."""
        return len(self._legs)

    @property
    def confirmed_count(self) -> int:
        """Connections of which a confirmed epoch is known."""
        return len(self._confirmed)

    def get(self, connection_uid: str, epoch: int) -> Key | None:
        """The leg with this name; None: there is none."""
        return dict(self._legs.get(connection_uid, ())).get(epoch)

    def add(self, connection_uid: str, epoch: int, key: Key) -> None:
        """Add a leg that begins."""
        legs = dict(self._legs.get(connection_uid, ()))
        legs[epoch] = key
        self._legs[connection_uid] = tuple(legs.items())

    def remove(self, connection_uid: str, epoch: int) -> None:
        """Remove a leg that has ended."""
        legs = dict(self._legs[connection_uid])
        del legs[epoch]
        if legs:
            self._legs[connection_uid] = tuple(legs.items())
        else:
            del self._legs[connection_uid]
            self._confirmed.pop(connection_uid, None)

    def confirm(self, connection_uid: str, epoch: int) -> list[Key] | None:
        """Note that both endpoints want this epoch.

        :returns: the legs of lower epochs, which have to end; None: a higher epoch was confirmed before.
        """
        if self._confirmed.get(connection_uid, -1) > epoch:
            return None
        self._confirmed[connection_uid] = epoch
        return [key for other, key in sorted(self._legs[connection_uid]) if other < epoch]
