"""What a consumer reports of the connections that it has ended, if the provider may not know of it (R-4.7). Sans-I/O.

A closed notice goes the way of a resume, with a code. Counterpart: :mod:`spnhub.transport.endpoint.core.invitations`
answers it.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from typing import Any, Final

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import ResumeAck, ResumeRequest
from spnhub.transport.endpoint.connection.connection import RESUME_STEP, Connection
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.core.resume import Resumer
from spnhub.transport.endpoint.session.session import Session

__all__ = ["NOTICE_LIMIT", "NOTICE_TIME", "ClosedNotice", "ClosedNotices"]

NOTICE_TIME: Final = 30.0
"""Seconds for which a consumer remembers what it has ended, in case the session is lost before the hub has passed it
on: longer than the idle timeout, which may be what shows that it is lost."""
NOTICE_LIMIT: Final = 4096
"""Ended connections that are remembered; the oldest go first."""


class ClosedNotice:
    """A consumer's connection that has ended without the provider's knowledge. Reported like a resume, with a code.

    A :class:`DeadlineOwner`: as long as nobody asked for it, its deadline is when it is forgotten.
    """

    def __init__(self, closed_notices: ClosedNotices, request: ResumeRequest, session: Session | None) -> None:
        self.session = session
        """The session in which the provider may still see it on the stream; None: it was lost, or there was none."""
        self.connection_uid = request.connection_uid
        self.peer = request.peer
        self.instance_id = request.instance_id
        self.epoch = request.epoch
        self.until: float | None = None
        """Since it has to be reported: when the provider will have given up by itself."""
        self._request = request
        self._closed_notices = closed_notices

    def resume(self, session: SessionStreams[Any]) -> None:
        """See :class:`Resumable`."""
        self.epoch += 1
        session.send(replace(self._request, epoch=self.epoch))
        self._closed_notices.asked(self)

    def on_deadline(self) -> None:
        self._closed_notices.on_deadline(self)


class ClosedNotices:
    """What a consumer remembers of the connections that it has ended. At most :data:`NOTICE_LIMIT`."""

    def __init__(self, endpoint: EndpointContext, resumer: Resumer) -> None:
        self._endpoint = endpoint
        self._resumer = resumer
        self._known: OrderedDict[str, ClosedNotice] = OrderedDict()

    @property
    def unreported(self) -> int:
        """Notices that are on their way."""
        return sum(one.until is not None for one in self._known.values())

    def add(self, connection: Connection, code: int, session: Session | None) -> None:
        """It has ended; ``session``: where the provider sees it on the stream; None: nowhere."""
        notice = ClosedNotice(self, connection.resume_request(connection.epoch, code), session)
        self._known[connection.connection_uid] = notice
        if len(self._known) > NOTICE_LIMIT:
            self._forget(next(iter(self._known.values())))
        if session is None:
            self._send_notice(notice)
        else:
            self._endpoint.arm(notice, self._endpoint.now() + NOTICE_TIME)

    def on_session_lost(self, session: Session) -> None:
        """What was to be seen there may not have arrived."""
        for notice in [one for one in self._known.values() if one.session is session]:
            self._send_notice(notice)

    def _send_notice(self, notice: ClosedNotice) -> None:
        notice.session = None
        notice.until = self._endpoint.now() + self._endpoint.options.resume_timeout
        self._endpoint.arm(notice, notice.until)
        self._resumer.add(notice, None)

    def asked(self, notice: ClosedNotice) -> None:
        """A request is on its way."""
        self._endpoint.arm(notice, self._endpoint.now() + RESUME_STEP)

    def on_ack(self, packet: ResumeAck) -> bool:
        """Take the hub's answer, if it is to one of these."""
        notice = self._known.get(packet.connection_uid)
        if notice is None:
            return False
        # An answer to an earlier attempt may come late; the present one has its own.
        if packet.epoch == notice.epoch and notice.until is not None:
            if packet.code != Code.OK and packet.retryable:
                self._again(notice)
            else:
                self._forget(notice)
        return True

    def on_deadline(self, notice: ClosedNotice) -> None:
        """It needn't be remembered any more, or nobody has answered."""
        if notice.until is None:
            self._forget(notice)
        else:
            self._again(notice)

    def _again(self, notice: ClosedNotice) -> None:
        assert notice.until is not None
        if self._endpoint.now() < notice.until:
            self._endpoint.arm(notice, notice.until)
            self._resumer.add(notice, None)
        else:
            self._forget(notice)

    def _forget(self, notice: ClosedNotice) -> None:
        self._known.pop(notice.connection_uid, None)
        self._endpoint.arm(notice, None)
        self._resumer.remove(notice)
