"""What a provider answers to invitations, whichever session they come in (R-4.7, PROTOCOL.md section 5). Sans-I/O.

Counterpart: :mod:`spnhub.transport.endpoint.core.resume` is the consumer's side.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from hmac import compare_digest
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import ResumeInvite, ResumeRequest
from spnhub.dataclass import dataclass
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext
from spnhub.transport.endpoint.connection.happenings import EndedElsewhere
from spnhub.transport.endpoint.session.session import Session

__all__ = ["RECORD_LIMIT", "Invitations"]

RECORD_LIMIT: Final = 4096
"""Ended connections that are remembered; the oldest go first."""


@dataclass(frozen=True, slots=True)
class _ClosedRecord:
    """What an invitation to a connection that has ended is answered with."""

    secret: bytes
    peer: str
    epoch: int
    code: int
    read_offset: int
    peer_finished: bool
    until: float


class Invitations:
    """The provider's: what it answers to a ResumeInvite. Remembers at most :data:`RECORD_LIMIT` ended connections."""

    def __init__(self, endpoint: EndpointContext, instance_id: str, find: Callable[[str], Connection | None]) -> None:
        self._endpoint = endpoint
        self._instance_id = instance_id
        self._find = find
        self._ended: OrderedDict[str, _ClosedRecord] = OrderedDict()

    def add(self, connection: Connection, code: int) -> None:
        """It has ended, with ``code``; remembered for the resume timeout."""
        now = self._endpoint.now()
        self._ended[connection.connection_uid] = _ClosedRecord(
            connection.secret,
            connection.peer,
            connection.epoch,
            code,
            connection.read_offset,
            connection.peer_finished,
            now + self._endpoint.options.resume_timeout,
        )
        while self._ended and (len(self._ended) > RECORD_LIMIT or next(iter(self._ended.values())).until <= now):
            self._ended.popitem(last=False)

    def answer(self, session: Session, invite: ResumeInvite) -> None:
        """Go on with the connection, or say why not. An invitation that isn't allowed changes nothing."""
        connection = self._find(invite.connection_uid)
        if connection is not None and connection.established:
            code = self._judge(invite, connection.secret, connection.peer, connection.epoch)
            if code == Code.OK and invite.code == Code.OK:
                if connection.accept_invite(session.streams, invite, self._instance_id):
                    return
                code = Code.ENDED if connection.error is None else connection.error.code
            elif code == Code.OK:
                code = invite.code
                connection.leave(Code.LEFT, "the consumer's end is over")
                connection.happens(EndedElsewhere(invite.code, ""))
            self._refuse(session, invite, code, connection)
            return
        record = self._ended.get(invite.connection_uid)
        if record is None or record.until <= self._endpoint.now():
            self._refuse(session, invite, Code.ENDED, None)
            return
        code = self._judge(invite, record.secret, record.peer, record.epoch)
        self._refuse(session, invite, code or record.code, record)

    @staticmethod
    def _judge(invite: ResumeInvite, secret: bytes, peer: str, epoch: int) -> int:
        if not compare_digest(invite.resume_secret, secret) or invite.peer != peer:
            return Code.NOT_ALLOWED
        return Code.OK if invite.epoch > epoch else Code.STALE

    def _refuse(
        self, session: Session, invite: ResumeInvite, code: int, known: Connection | _ClosedRecord | None
    ) -> None:
        # An endpoint that isn't allowed to ask doesn't learn how much there was.
        shown = None if code == Code.NOT_ALLOWED else known
        session.send(
            ResumeRequest(
                invite.connection_uid,
                invite.resume_secret,
                invite.epoch,
                0 if shown is None else shown.read_offset,
                False if shown is None else shown.peer_finished,
                code,
                invite.peer if known is None else known.peer,
                self._instance_id,
            )
        )
