"""How connections leave a session that is unresponsive or on its way out. Sans-I/O.

A consumer's connections leave a session that is unresponsive (D-20) or whose address has vanished (R-3.3) as soon as
another session can take them. Those of a session with replaced credentials leave for its successor (D-38). Where they
go on is decided in :mod:`spnhub.transport.endpoint.core.resume`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.context import EndpointContext
from spnhub.transport.endpoint.connection.states import ConnectionState
from spnhub.transport.endpoint.session.hub_target import HubTarget, Why
from spnhub.transport.endpoint.session.session import Session

__all__ = ["Moves"]

HAND_OVER_PAUSE: Final = 1.0
"""Seconds between two checks of what still goes on in a session whose place another has taken."""


class Moves:
    """The sessions that connections have to leave.

    :param targets: all hub targets of the endpoint.
    :param is_same_peer: whether a session's peers take it for the same endpoint as its successor: the certificates have
        the same subject.
    """

    def __init__(
        self,
        context: EndpointContext,
        end_point_type: EndPointType,
        targets: Callable[[], Iterable[HubTarget]],
        is_same_peer: Callable[[Session], bool],
    ) -> None:
        self.leaving: list[HubTarget] = []
        """Sessions whose address has vanished, or whose place another has taken, and which are not yet over."""
        self._context = context
        self._type = end_point_type
        self._targets = targets
        self._is_same_peer = is_same_peer

    def on_address_lost(self, target: HubTarget, now: float) -> None:
        """The session is Closing because its address has vanished: it has the resume timeout to find another."""
        self.leaving.append(target)
        self._context.arm(_Leaving(self, target), now + self._context.options.resume_timeout)
        self.leave_if_possible(target)
        self.check_empty(target)

    def leave_if_possible(self, target: HubTarget) -> None:
        """A consumer's connections leave a session that is unresponsive, or whose address is gone, if there is
        another."""
        session = target.session
        if session is None or self._type is not EndPointType.CONSUMER:
            return
        if not any(one.takes_resumes and not one.unresponsive for one in self._targets() if one is not target):
            return
        self._leave(target, session)

    def hand_over(self, target: HubTarget) -> None:
        """Connections of a session whose place another has taken leave it, as soon as they are Connected.

        Where the successor has another subject, nobody would let it go on with them: they stay where they are, and
        nothing new comes there.
        """
        session = target.session
        if session is None:
            return
        if not self._is_same_peer(session):
            if session.weight and self._type is EndPointType.PROVIDER:
                session.set_weight(0, "its successor takes what is new")
            return
        for connection in session.legs():
            if connection.state is not ConnectionState.CONNECTING:
                connection.leave(Code.MOVED, "moved to a session with a renewed certificate")
        if session.connections:
            self._context.arm(_Leaving(self, target), self._context.now() + HAND_OVER_PAUSE)

    def on_time_over(self, target: HubTarget) -> None:
        """The session has had its time, and its connections leave it now."""
        if target not in self.leaving or target.session is None:
            return
        if target.why is Why.RENEWED:
            self.hand_over(target)
        else:
            self._leave(target, target.session)

    def _leave(self, target: HubTarget, session: Session) -> None:
        code, reason = Code.LEFT, "the hub is unresponsive"
        if target.why is Why.IP_LOST:
            reason = "the hub's address is gone"
            code = Code.LEFT if session.unresponsive else Code.MOVED
        for connection in session.legs():
            if connection.state is ConnectionState.CONNECTING:
                # Nobody has seen a byte of it: it begins anew elsewhere.
                connection.cut(Code.PEER_LOST, reason)
            else:
                connection.leave(code, reason)

    @staticmethod
    def check_empty(target: HubTarget) -> None:
        """A session that is Closing for the hub's or the address's sake ends with its last connection."""
        if target.session is not None and not target.session.connections:
            target.on_empty()


class _Leaving:
    """The deadline of a session that connections have to leave."""

    def __init__(self, moves: Moves, target: HubTarget) -> None:
        self._moves = moves
        self._target = target

    def on_deadline(self) -> None:
        self._moves.on_time_over(self._target)
