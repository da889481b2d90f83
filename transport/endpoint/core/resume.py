"""Where and when connections are resumed (R-4.7, PROTOCOL.md section 5). Sans-I/O.

The consumer leads: :class:`Resumer` takes every paused connection to one session after the other until one goes on. The
provider answers invitations, whichever session they come in: :class:`Invitations`. Both remember for a while what has
ended, because the other end may not have heard. Counterpart: :mod:`spnhub.transport.endpoint.connection.connection` has
the states of one connection.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, Protocol

from spnhub.actors.contract.codes import Code
from spnhub.transport.endpoint.connection.connection import RESUME_STEP
from spnhub.transport.endpoint.connection.roles import ConsumerConnection, ProviderConnection
from spnhub.transport.endpoint.kernel.deadlines import DeadlineOwner
from spnhub.transport.endpoint.options import EndpointOptions
from spnhub.transport.endpoint.session.hub_target import HubTarget
from spnhub.transport.endpoint.session.session import Session
from spnhub.transport.protocol import ResumeAck, ResumeInvite, ResumeRequest

__all__ = [
    "FAREWELL_TIME",
    "GONE_GRACE",
    "REMEMBER_LIMIT",
    "RETRY_BASE",
    "RETRY_CAP",
    "Farewell",
    "Invitations",
    "Resumer",
]

RETRY_BASE: Final = 0.05
"""Seconds after which a connection that no session could resume tries all again; doubled each time."""
RETRY_CAP: Final = 1.0
GONE_GRACE: Final = 0.75
"""Seconds for a session that isn't up now to be, once a hub has said that the provider is gone: its hub may have it."""
FAREWELL_TIME: Final = 30.0
"""Seconds for which a consumer remembers what it has ended, in case the session is lost before the hub has passed it
on: longer than the idle timeout, which may be what tells that it is lost."""
REMEMBER_LIMIT: Final = 4096
"""Ended connections that are remembered; the oldest go first."""


class _Host(Protocol):
    options: EndpointOptions

    def now(self) -> float: ...

    def random(self) -> float: ...

    def arm(self, owner: DeadlineOwner, when: float | None) -> None: ...

    def slots(self) -> Iterable[HubTarget]: ...


class Resumable(Protocol):
    """What a :class:`Resumer` takes to sessions."""

    @property
    def connection_uid(self) -> bytes:
        """Of the connection."""

    def resume(self, session: Session) -> None:
        """Send a ResumeRequest there. How that goes is told with :meth:`Resumer.add` and :meth:`Resumer.remove`."""


class _Turn:
    """How far the search for one connection has come. A :class:`DeadlineOwner`: its deadline is the next round."""

    def __init__(self, resumer: Resumer, what: Resumable, left: HubTarget | None) -> None:
        self.what = what
        self.left = left
        """Where its last leg was: tried last."""
        self.tried: set[HubTarget] = set()
        self.give_up: Callable[[], None] | None = None
        """A hub has said that the other end is gone: what to do if no other hub has it. None: none has."""
        self.gone_at = 0.0
        self.rounds = 0
        self.waiting = False
        """For the next round, or for a session; else at one."""
        self._resumer = resumer

    def on_deadline(self) -> None:
        self.tried.clear()
        self._resumer.advance(self)


class Resumer:
    """The consumer's: paused connections, and farewells."""

    def __init__(self, endpoint: _Host) -> None:
        self._endpoint = endpoint
        self._turns: dict[Resumable, _Turn] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def add(self, what: Resumable, left: HubTarget | None, give_up: Callable[[], None] | None = None) -> None:
        """It is paused, or was refused where it was taken to.

        :param left: where its last leg was.
        :param give_up: see :class:`_Turn`.
        """
        turn = self._turns.get(what)
        if turn is None:
            turn = self._turns[what] = _Turn(self, what, left)
        if give_up is not None and turn.give_up is None:
            turn.give_up, turn.gone_at = give_up, self._endpoint.now()
        self.advance(turn)

    def remove(self, what: Resumable) -> None:
        """It was resumed, or has ended."""
        turn = self._turns.pop(what, None)
        if turn is not None:
            self._endpoint.arm(turn, None)

    def usable(self) -> None:
        """A session has come up, or answers again: who waits tries it at once, the longest-waiting first."""
        for turn in list(self._turns.values()):
            if turn.waiting:
                turn.tried.clear()
                self.advance(turn)

    def advance(self, turn: _Turn) -> None:
        """Take it to the next session, if there is one; else begin again later."""
        slots = list(self._endpoint.slots())
        here = [target for target in slots if target.takes_resumes and not target.suspect]
        choice = [target for target in here if target not in turn.tried]
        turn.waiting = not choice
        if choice:
            self._endpoint.arm(turn, None)
            # Another hub than the one it has left: what ended the leg there may not be over.
            target = min(choice, key=lambda one: (one is turn.left, one.connections, self._endpoint.random()))
            turn.tried.add(target)
            assert target.session is not None
            turn.what.resume(target.session)
        elif turn.give_up is not None:
            until = turn.gone_at + GONE_GRACE
            if self._endpoint.now() >= until or not any(target.suspect or target.unborn for target in slots):
                turn.give_up()
            else:
                self._endpoint.arm(turn, until)
        elif here:
            delay = min(RETRY_CAP, RETRY_BASE * 2.0 ** min(turn.rounds, 16))
            turn.rounds += 1
            self._endpoint.arm(turn, self._endpoint.now() + delay * (1 - self._endpoint.random() / 2))
        else:
            # The next session calls usable().
            self._endpoint.arm(turn, None)


class Farewell:
    """A consumer's connection that has ended without the provider's knowledge. Told like a resume, with a code.

    A :class:`DeadlineOwner`: as long as nobody asked for it, its deadline is when it is forgotten.
    """

    def __init__(self, closed_notices: Farewells, request: ResumeRequest, session: Session | None) -> None:
        self.session = session
        """The session whose end would leave the provider in the dark; None: it is told already, or never was."""
        self.connection_uid = request.connection_uid
        self.epoch = request.epoch
        self.until: float | None = None
        """Since it has to be told: when the provider will have given up by itself."""
        self._request = request
        self._closed_notices = closed_notices

    def resume(self, session: Session) -> None:
        """See :class:`Resumable`."""
        self.epoch += 1
        request = self._request
        session.send(
            ResumeRequest(
                request.connection_uid,
                request.resume_secret,
                self.epoch,
                request.received_offset,
                request.finished,
                request.code,
                request.peer,
                request.instance_id,
            )
        )
        self._closed_notices.asked(self)

    def on_deadline(self) -> None:
        self._closed_notices.on_deadline(self)


class Farewells:
    """What a consumer remembers of the connections that it has ended. At most :data:`REMEMBER_LIMIT`."""

    def __init__(self, endpoint: _Host, resumer: Resumer) -> None:
        self._endpoint = endpoint
        self._resumer = resumer
        self._known: OrderedDict[bytes, Farewell] = OrderedDict()

    @property
    def untold(self) -> int:
        """Farewells that are being told."""
        return sum(one.until is not None for one in self._known.values())

    def add(self, connection: ConsumerConnection, code: int, session: Session | None) -> None:
        """It has ended; ``session``: where the provider is told of it on the stream, None: nowhere."""
        closed_notice = Farewell(self, connection.resume_request(connection.epoch, code), session)
        self._known[connection.connection_uid] = closed_notice
        if len(self._known) > REMEMBER_LIMIT:
            self._forget(next(iter(self._known.values())))
        if session is None:
            self._tell(closed_notice)
        else:
            self._endpoint.arm(closed_notice, self._endpoint.now() + FAREWELL_TIME)

    def on_session_lost(self, session: Session) -> None:
        """What was told there may not have arrived."""
        for closed_notice in [one for one in self._known.values() if one.session is session]:
            self._tell(closed_notice)

    def _tell(self, closed_notice: Farewell) -> None:
        closed_notice.session = None
        closed_notice.until = self._endpoint.now() + self._endpoint.options.resume_timeout
        self._endpoint.arm(closed_notice, closed_notice.until)
        self._resumer.add(closed_notice, None)

    def asked(self, closed_notice: Farewell) -> None:
        """A request is on its way."""
        self._endpoint.arm(closed_notice, self._endpoint.now() + RESUME_STEP)

    def on_ack(self, packet: ResumeAck) -> bool:
        """Take the hub's answer, if it is to one of these."""
        closed_notice = self._known.get(packet.connection_uid)
        if closed_notice is None:
            return False
        if packet.epoch == closed_notice.epoch and closed_notice.until is not None:
            if packet.code != Code.OK and packet.retryable:
                self._again(closed_notice)
            else:
                self._forget(closed_notice)
        return True

    def on_deadline(self, closed_notice: Farewell) -> None:
        """It needn't be remembered any more, or nobody has answered."""
        if closed_notice.until is None:
            self._forget(closed_notice)
        else:
            self._again(closed_notice)

    def _again(self, closed_notice: Farewell) -> None:
        assert closed_notice.until is not None
        if self._endpoint.now() < closed_notice.until:
            self._endpoint.arm(closed_notice, closed_notice.until)
            self._resumer.add(closed_notice, None)
        else:
            self._forget(closed_notice)

    def _forget(self, closed_notice: Farewell) -> None:
        self._known.pop(closed_notice.connection_uid, None)
        self._endpoint.arm(closed_notice, None)
        self._resumer.remove(closed_notice)


@dataclass(frozen=True, slots=True)
class _Tombstone:
    """What an invitation to a connection that has ended is answered with."""

    secret: bytes
    peer: str
    epoch: int
    code: int
    read_offset: int
    peer_finished: bool
    until: float


class Invitations:
    """The provider's: what it answers to a ResumeInvite. Remembers at most :data:`REMEMBER_LIMIT` ended connections."""

    def __init__(self, endpoint: _Host, instance_id: str, find: Callable[[bytes], ProviderConnection | None]) -> None:
        self._endpoint = endpoint
        self._instance_id = instance_id
        self._find = find
        self._ended: OrderedDict[bytes, _Tombstone] = OrderedDict()

    def add(self, connection: ProviderConnection, code: int) -> None:
        """It has ended, with ``code``; remembered for the resume timeout."""
        now = self._endpoint.now()
        self._ended[connection.connection_uid] = _Tombstone(
            connection.secret,
            connection.peer,
            connection.epoch,
            code,
            connection.read_offset,
            connection.peer_finished,
            now + self._endpoint.options.resume_timeout,
        )
        while self._ended and (len(self._ended) > REMEMBER_LIMIT or next(iter(self._ended.values())).until <= now):
            self._ended.popitem(last=False)

    def answer(self, session: Session, invite: ResumeInvite) -> None:
        """Go on with the connection in ``session``, or say why not; who isn't allowed to ask changes nothing."""
        connection = self._find(invite.connection_uid)
        if connection is not None and connection.established:
            code = self._judge(invite, connection.secret, connection.peer, connection.epoch)
            if code == Code.OK and invite.code == Code.OK:
                connection.accept_invite(session, invite, self._instance_id)
                return
            if code == Code.OK:
                code = invite.code
                connection.leave(Code.LEFT, "the consumer's end is over")
                connection.on_ended_elsewhere(invite.code, "")
            self._refuse(session, invite, code, connection)
            return
        stone = self._ended.get(invite.connection_uid)
        if stone is None or stone.until <= self._endpoint.now():
            self._refuse(session, invite, Code.ENDED, None)
            return
        code = self._judge(invite, stone.secret, stone.peer, stone.epoch)
        self._refuse(session, invite, code or stone.code, stone)

    @staticmethod
    def _judge(invite: ResumeInvite, secret: bytes, peer: str, epoch: int) -> int:
        if not compare_digest(invite.resume_secret, secret) or invite.peer != peer:
            return Code.NOT_ALLOWED
        return Code.OK if invite.epoch > epoch else Code.STALE

    def _refuse(
        self, session: Session, invite: ResumeInvite, code: int, known: ProviderConnection | _Tombstone | None
    ) -> None:
        # Who isn't allowed to ask isn't told how much there was.
        told = None if code == Code.NOT_ALLOWED else known
        session.send(
            ResumeRequest(
                invite.connection_uid,
                invite.resume_secret,
                invite.epoch,
                0 if told is None else told.read_offset,
                False if told is None else told.peer_finished,
                code,
                invite.peer if known is None else known.peer,
                self._instance_id,
            )
        )
