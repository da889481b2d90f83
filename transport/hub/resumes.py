"""The transport's part of resumes: secrets that must match, and streams that are still to come (R-4.7).

A consumer's ResumeRequest becomes an input without its secret. The secret stays here: it goes into the invitation, and
the secrets in the provider's answer and on both new streams are compared with it. When both streams are there with the
agreed offsets, :class:`spnhub.transport.hub.connections.Connections` has them like any other connection's. Bounded by
the connections that the actors allow a session; each request ends in a ForgetConnection.
"""

from __future__ import annotations

import hmac
import itertools
from collections.abc import Callable
from typing import NamedTuple

from spnhub.actors.contract import commands, inputs, packets
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.inputs import Key
from spnhub.actors.system import ActorSystem
from spnhub.dataclass import dataclass
from spnhub.events.model import EndPointType
from spnhub.transport.hub.sessions import HubSession, Sessions
from spnhub.transport.protocol import ProtocolError

__all__ = ["HubStream", "Resumes"]


class HubStream(NamedTuple):
    """A data stream whose header has been read, or that is ours."""

    connection_id: int
    stream_id: int
    ended: bool = False
    """Its FIN came with its header: it sends nothing."""


@dataclass(slots=True)
class _Resume:
    """A request, and how far it has got."""

    key: Key
    request: packets.ResumeRequest
    provider: int | None = None
    """The session that is invited."""
    answer: packets.ResumeRequest | None = None


class Resumes:
    """The resumes of a hub process that are under way.

    :param has: whether a connection has a stream of that QUIC connection already.
    :param attach: takes an endpoint's stream; both stream ids, the consumer's first, when both are there.
    """

    def __init__(
        self,
        system: ActorSystem,
        sessions: Sessions,
        has: Callable[[Key, int], bool],
        attach: Callable[[Key, packets.Opening, HubStream], tuple[int, int] | None],
    ) -> None:
        self._system = system
        self._sessions = sessions
        self._has = has
        self._attach = attach
        self._resumes: dict[int, dict[Key, _Resume]] = {}
        """By the consumer's session."""
        self._names: dict[tuple[int, str, int], Key] = {}
        """By session of either side, connectionUid and epoch."""
        self._numbers = itertools.count(1)

    def __len__(self) -> int:
        """How many are under way."""
        return sum(len(resumes) for resumes in self._resumes.values())

    def requested(self, session: HubSession, packet: packets.ResumeRequest) -> None:
        """Handle a consumer's request, or a provider's answer.

        :raises ProtocolError: before the session.
        """
        if not session.accepted:
            raise ProtocolError("a resume request before the session")
        uid = packet.connection_uid
        if session.end_point_type is EndPointType.PROVIDER:
            resume = self._find(session.connection_id, packet.connection_uid, packet.epoch)
            matches = resume is not None and resume.provider == session.connection_id and _same(packet, resume.request)
            # Only the first counts: the streams are compared with what both sides were sent of each other.
            if resume is not None and matches and resume.answer is None:
                resume.answer = packet
            self._system.tell_session(
                session.connection_id,
                inputs.ResumeAnswered(
                    connection_uid=uid,
                    epoch=packet.epoch,
                    received_offset=packet.received_offset,
                    finished=packet.finished,
                    code=packet.code,
                    peer=packet.peer,
                    matches=matches,
                ),
            )
            return
        reason = self._sessions.admit_more(session, "resumes")
        if reason is not None:
            refusal = packets.ResumeAck(uid, packet.epoch, Code.LIMIT, reason, retryable=True)
            self._sessions.send(session.connection_id, refusal)
            return
        # It has no stream yet, and a negative number is no stream's.
        key = Key(session.connection_id, -next(self._numbers))
        self._resumes.setdefault(session.connection_id, {})[key] = _Resume(key, packet)
        self._system.tell_session(
            session.connection_id,
            inputs.ResumeRequested(
                key=key,
                connection_uid=uid,
                epoch=packet.epoch,
                received_offset=packet.received_offset,
                finished=packet.finished,
                code=packet.code,
                peer=packet.peer,
                instance_id=packet.instance_id,
            ),
        )

    def invite(self, command: commands.InviteProvider) -> None:
        """Send the provider its ResumeInvite."""
        resume = self._get(command.connection)
        if resume is None:
            return
        request = resume.request
        resume.provider = command.provider
        for connection_id in (resume.key.session, command.provider):
            self._names[connection_id, request.connection_uid, request.epoch] = resume.key
        self._sessions.send(
            command.provider,
            packets.ResumeInvite(
                connection_uid=request.connection_uid,
                resume_secret=request.resume_secret,
                epoch=request.epoch,
                received_offset=request.received_offset,
                finished=request.finished,
                code=request.code,
                peer=command.peer,
            ),
        )

    def opened(self, session: HubSession, stream: HubStream, opening: packets.Opening) -> Code | None:
        """An endpoint has opened its stream of the new leg; the code with which it is refused, if it is."""
        resume = self._find(session.connection_id, opening.connection_uid, opening.epoch)
        if resume is None or resume.answer is None:
            return Code.TIMEOUT
        # Each direction goes on where its reader is. The streams are joined without a look at their bytes, so an
        # endpoint that begins elsewhere would go unnoticed.
        start = (resume.answer.received_offset, resume.request.received_offset)
        code: Code | None = None
        if not _same(opening, resume.request):
            code = Code.NOT_ALLOWED
        elif (opening.sent_offset, opening.receive_offset) != start or self._has(resume.key, stream.connection_id):
            code = Code.PROTOCOL
        if code is not None:
            of_consumer = stream.connection_id == resume.key.session
            rejected = inputs.ProviderRejected(code, "the provider's stream is not what was agreed")
            self._system.tell_connection(resume.key, inputs.ConsumerAborted(code) if of_consumer else rejected)
            return code
        streams = self._attach(resume.key, opening, stream)
        if streams is not None:
            self._system.tell_connection(resume.key, inputs.ResumeOpened(*streams))
        return None

    def forget(self, key: Key) -> None:
        """The leg has begun, or the resume has failed."""
        resumes = self._resumes.get(key.session, {})
        resume = resumes.pop(key, None)
        if resume is None:
            return
        if not resumes:
            del self._resumes[key.session]
        self._unname(resume)

    def forget_session(self, connection_id: int) -> None:
        """A consumer's session is gone: forget its requests, those included that its actor never got."""
        for resume in self._resumes.pop(connection_id, {}).values():
            self._unname(resume)

    def _unname(self, resume: _Resume) -> None:
        if resume.provider is not None:
            for connection_id in (resume.key.session, resume.provider):
                name = (connection_id, resume.request.connection_uid, resume.request.epoch)
                # The consumer may have asked again with the same epoch: then the name is that request's.
                if self._names.get(name) == resume.key:
                    del self._names[name]

    def _get(self, key: Key) -> _Resume | None:
        return self._resumes.get(key.session, {}).get(key)

    def _find(self, connection_id: int, uid: str, epoch: int) -> _Resume | None:
        key = self._names.get((connection_id, uid, epoch))
        return None if key is None else self._get(key)


def _same(packet: packets.ResumeRequest | packets.Opening, request: packets.ResumeRequest) -> bool:
    return hmac.compare_digest(packet.resume_secret, request.resume_secret)
