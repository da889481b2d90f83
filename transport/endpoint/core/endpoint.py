"""An endpoint without sockets, clock and asyncio: sessions with every hub, and the connections that move among them.

``engine``, ``clock`` and randomness are given; the owner
(:class:`~spnhub.transport.endpoint.core.listener.CoreListener`) is notified of what there is to know and does what only
it can (open sockets). After anything was asked of the core or of one of its connections, the owner lets it have a turn:
:meth:`EndpointCore.handle` with the engine's events, :meth:`EndpointCore.handle_timer` when :meth:`EndpointCore.timer`
is due or ``CoreListener.wake`` was called; then it transmits what the engine has.

Counterparts: :mod:`spnhub.transport.endpoint.api.endpoint` is the owner on asyncio,
:mod:`spnhub.transport.endpoint.core.hub_targets` has the sessions,
:mod:`spnhub.transport.endpoint.core.connection_reports` takes what connections report,
:mod:`spnhub.transport.endpoint.core.resume` decides where connections go on,
:mod:`spnhub.transport.endpoint.core.opening` where new ones begin.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import (
    AllConnectionsClosed,
    PeerGone,
    PeerHere,
    ResumeAck,
    ResumeInvite,
    ShutdownRequest,
)
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext
from spnhub.transport.endpoint.connection.registry import ConnectionRegistry
from spnhub.transport.endpoint.connection.reports import ConnectionReport
from spnhub.transport.endpoint.core.connection_reports import ConnectionReports
from spnhub.transport.endpoint.core.containment import FAULT, Containment
from spnhub.transport.endpoint.core.hub_targets import HubTargets
from spnhub.transport.endpoint.core.invitations import Invitations
from spnhub.transport.endpoint.core.listener import CoreListener, CoreSettings
from spnhub.transport.endpoint.core.opening import OpeningAttempt, Openings
from spnhub.transport.endpoint.core.resume import Resumer
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.endpoint.session.hub_target import HubTarget, IpAddress, Why
from spnhub.transport.endpoint.session.session import Ended, Established, Session, SessionReport
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.engine import Address, Answered, Closed, Engine, EngineEvent, Unresponsive
from spnhub.transport.errors import SessionLost, SpnError

__all__ = ["EndpointCore"]

_S = SessionState


class EndpointCore:
    """See the module."""

    def __init__(
        self,
        engine: Engine,
        settings: CoreSettings,
        listener: CoreListener,
        *,
        clock: Callable[[], float],
        random: Callable[[], float],
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._listener = listener
        self._on_fault = Containment(listener.on_fault, self.sessions, self._forget)
        self.context = context = EndpointContext(
            engine,
            now=clock,
            random=random,
            random_bytes=random_bytes,
            wake=listener.wake,
            on_fault=self._on_fault,
            options=settings.options,
        )
        self._turns = context.turns
        self._connections = ConnectionRegistry(context, self._on_connection)
        self._targets = HubTargets(
            context, settings, listener, self._connections, self._on_session, self._on_none_coming
        )
        self._openings = Openings(
            context, self._targets.choose, lambda: self._targets.takes_new, lambda: self._targets.may_come
        )
        self._resumer = Resumer(context, self._targets.all)
        self._invitations = Invitations(context, settings.instance_id, self._connections.provider)
        self._reports = ConnectionReports(
            context, self._connections, self._targets, self._resumer, self._invitations, listener, self._on_fault
        )

    # --------------------------------------------------------------------------------------------------- for the owner

    def targets(self) -> Iterable[HubTarget]:
        """Where there are sessions, or shall be: see :meth:`HubTargets.all`."""
        return self._targets.all()

    def sessions(self) -> list[Session]:
        """See :meth:`HubTargets.sessions`."""
        return self._targets.sessions()

    @property
    def closing(self) -> bool:
        """Whether the endpoint is being closed."""
        return self._targets.closing

    @property
    def failed(self) -> SpnError | None:
        """Why no session can be had, and none is tried for any more."""
        return self._targets.failed

    @property
    def weight(self) -> int:
        """The provider's weight, as it was set last."""
        return self._targets.weight

    @property
    def connections(self) -> int:
        """Connections that have not ended, those included whose last packets are still on their way."""
        unattached = sum(one.session is None for one in self._connections.paused)
        return sum(target.connections for target in self.targets()) + unattached

    @property
    def paused(self) -> int:
        """Of these, how many have been Connected and are not now."""
        return len(self._connections.paused)

    @property
    def established(self) -> list[Session]:
        """The sessions that are up, those being closed included."""
        return self._targets.established

    @property
    def takes_new(self) -> bool:
        """Whether new connections may begin in one of them."""
        return self._targets.takes_new

    @property
    def all_connections_closed(self) -> bool:
        """A provider's: every hub has said so, and no connection may come to be resumed."""
        sessions = self.established
        return bool(sessions) and not self._connections.paused and all(one.all_connections_closed for one in sessions)

    @property
    def state(self) -> SessionState:
        """R-2.6, of whichever session is most alive."""
        states = {target.state for target in self.targets()}
        if self.failed is not None:
            return _S.FAILED
        for state in (_S.ESTABLISHED, _S.CLOSING, _S.SESSION_CONNECTING, _S.WAITING, _S.IP_FOUND, _S.FAILED):
            if state in states:
                return state
        return _S.CLOSED if self.closing else _S.IP_FOUND

    @property
    def patient(self) -> bool:
        """Whether a session is worth waiting for."""
        return self._targets.patient

    def set_addresses(self, addresses: Sequence[IpAddress], now: float, *, on_demand: bool = False) -> None:
        """See :meth:`HubTargets.set_addresses`."""
        self._targets.set_addresses(addresses, now, on_demand=on_demand)
        self._turns.settle()

    def renew(self, credentials: Credentials) -> None:
        """See :meth:`HubTargets.renew`."""
        self._targets.renew(credentials)
        self._turns.settle()

    def dialed(self, remote: IpAddress, local: Address, *, near_its_dates: bool = False) -> None:
        """See :meth:`HubTargets.dialed`."""
        self._targets.dialed(remote, local, near_its_dates=near_its_dates)

    def dial_failed(self, remote: IpAddress, error: SpnError) -> None:
        """See :meth:`HubTargets.dial_failed`."""
        self._targets.dial_failed(remote, error)
        self._turns.settle()

    def set_weight(self, weight: int, reason: str = "") -> None:
        """See :meth:`HubTargets.set_weight`."""
        self._targets.set_weight(weight, reason)

    def open(
        self,
        on_connected: Callable[[Connection], None],
        on_failed: Callable[[SpnError], None],
        timeout: float,
    ) -> OpeningAttempt:
        """Begin a connection; one of the two functions is called, later."""
        return self._openings.open(on_connected, on_failed, timeout)

    def close(self) -> None:
        """Begin the end: no new connections; sessions stay as long as connections need one."""
        if not self.closing:
            self._targets.close()
            self._openings.advance()
            self._turns.settle()

    def cut(self, code: int, reason: str) -> None:
        """End every connection with an error, for both sides; the local listeners are notified."""
        everything = {*self._connections.paused, *(leg for session in self.established for leg in session.legs())}
        for connection in everything:
            connection.cut(code, reason)
        self._turns.settle()

    def fail(self, error: SpnError) -> None:
        """See :meth:`HubTargets.fail`."""
        self._targets.fail(error)

    def finish(self) -> None:
        """The end of every session, now."""
        self._targets.finish()
        self._turns.settle()

    def handle(self, events: Iterable[EngineEvent]) -> None:
        """Take the engine's events."""
        find = self._targets.session
        self._turns.begin()
        try:
            for event in events:
                session = find(getattr(event, "connection_id", -1))
                if session is None:
                    continue
                try:
                    session.handle(event)
                except Exception as fault:
                    self._on_fault(session.concerned(event), fault)
                    if isinstance(event, Closed) and find(session.connection_id) is session:
                        session.lose(SessionLost(FAULT))
        finally:
            self._turns.settle()

    def timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called; None: not at all."""
        return self._turns.next()

    def handle_timer(self, now: float) -> None:
        """Let time pass, and do what was asked for outside of a turn."""
        self._turns.begin()
        try:
            self._turns.run_due(now)
        finally:
            self._turns.settle()

    # ----------------------------------------------------------------------------------------------- what is reported

    def _on_connection(self, connection: Connection, report: ConnectionReport) -> None:
        self._reports.take(connection, report)

    def _forget(self, connection: Connection) -> None:
        self._reports.forget(connection)

    def _on_none_coming(self) -> None:
        self._openings.advance()

    def _on_session(self, session: Session, report: SessionReport) -> None:
        match report:
            case Established():
                self._on_established(session)
            case Unresponsive():
                target = self._targets.target(session)
                self._targets.moves.leave_if_possible(target)
                self._targets.wake_others(target)
            case Answered():
                self._on_usable()
            case AllConnectionsClosed():
                self._on_all_connections_closed(session)
            case ShutdownRequest():
                self._targets.on_shutdown_request(session, report)
            case ResumeInvite():
                self._invitations.answer(session, report)
            case ResumeAck():
                self._reports.on_resume_ack(session, report)
            case PeerGone():
                self._reports.on_peer_gone(session, report)
            case PeerHere():
                self._resumer.peer_here(self._targets.target(session), report.peer, report.instance_id)
            case Ended(error=error):
                self._reports.closed_notices.on_session_lost(session)
                self._targets.on_ended(session, error)

    def _on_established(self, session: Session) -> None:
        before = self._targets.on_established(session)
        if session.brings_connections:
            self._openings.hub_returned()
        self._on_usable()
        if before.why is Why.RENEWED:
            self._targets.moves.hand_over(before)
            self._targets.moves.check_empty(before)

    def _on_all_connections_closed(self, session: Session) -> None:
        target = self._targets.target(session)
        if target.state is _S.CLOSING and target.why is not Why.SIGNAL:
            session.close(Code.OK, "all connections are closed")
        self.context.call(self._listener.on_changed)

    def _on_usable(self) -> None:
        """A session has come up, or answers again: what is to be resumed first, then what is new."""
        for target in self.targets():
            if target.unresponsive or target.why is Why.IP_LOST:
                self._targets.moves.leave_if_possible(target)
        self._resumer.usable()
        self._openings.advance()
