"""Where and when a consumer's connections are resumed (R-4.7, PROTOCOL.md section 5). Sans-I/O.

The consumer leads: :class:`Resumer` takes every paused connection to one session after the other until one goes on.
Counterparts: :mod:`spnhub.transport.endpoint.core.invitations` is the provider's side,
:mod:`spnhub.transport.endpoint.connection.connection` has the states of one connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from spnhub.backoff import backoff
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.session.hub_target import HubTarget

__all__ = ["GONE_GRACE", "RETRY_BASE", "RETRY_CAP", "Resumable", "Resumer"]

RETRY_BASE: Final = 0.05
"""Seconds after which a connection that no session could resume tries all again; doubled each time."""
RETRY_CAP: Final = 1.0
GONE_GRACE: Final = 0.75
"""Seconds for a session that isn't up now to be, once a hub has said that the provider is gone: its hub may have it."""


class Resumable(Protocol):
    """What a :class:`Resumer` takes to sessions."""

    @property
    def connection_uid(self) -> str:
        """Of the connection."""

    @property
    def peer(self) -> str:
        """The verified subject of the provider."""

    @property
    def instance_id(self) -> str:
        """Of the provider's process."""

    def resume(self, session: SessionStreams[Any]) -> None:
        """Send a ResumeRequest there. How that goes is reported with :meth:`Resumer.add` and :meth:`Resumer.remove`."""


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
    """Paused connections, and closed notices that nobody has heard yet.

    :param targets: where there may be sessions.
    """

    def __init__(self, endpoint: EndpointContext, targets: Callable[[], Iterable[HubTarget]]) -> None:
        self._endpoint = endpoint
        self._targets = targets
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

    def peer_here(self, target: HubTarget, peer: str, instance_id: str) -> None:
        """A hub that has refused what is to be resumed with this provider has it now: who waits goes there at once."""
        for turn in list(self._turns.values()):
            if (turn.what.peer, turn.what.instance_id) == (peer, instance_id):
                turn.tried.discard(target)
                turn.rounds = 0
                if turn.waiting:
                    self.advance(turn)

    def advance(self, turn: _Turn) -> None:
        """Take it to the next session, if there is one; else begin again later."""
        targets = list(self._targets())
        here = [target for target in targets if target.takes_resumes and not target.unresponsive]
        choice = [target for target in here if target not in turn.tried]
        turn.waiting = not choice
        if choice:
            self._endpoint.arm(turn, None)
            # Another hub than the one it has left: what ended the leg there may not be over.
            target = min(choice, key=lambda one: (one is turn.left, one.connections, self._endpoint.random()))
            turn.tried.add(target)
            assert target.session is not None
            turn.what.resume(target.session.streams)
        elif turn.give_up is not None:
            until = turn.gone_at + GONE_GRACE
            if self._endpoint.now() >= until or not any(target.unresponsive or target.unborn for target in targets):
                turn.give_up()
            else:
                self._endpoint.arm(turn, until)
        elif here:
            delay = backoff(RETRY_BASE, RETRY_CAP, turn.rounds, self._endpoint.random)
            turn.rounds += 1
            self._endpoint.arm(turn, self._endpoint.now() + delay)
        else:
            # The next session calls usable().
            self._endpoint.arm(turn, None)
