"""An endpoint without sockets, clock and asyncio: sessions with every hub, and the connections that move among them.

``engine``, ``clock`` and randomness are given; the owner
(:class:`~spnhub.transport.endpoint.core.listener.CoreListener`) is told what there is to know and does what only it can
(open sockets). After anything was asked of the core or of one of its connections, the owner lets it have a turn:
:meth:`EndpointCore.handle` with the engine's events, :meth:`EndpointCore.handle_timer` when :meth:`EndpointCore.timer`
is due or ``CoreListener.wake`` was called; then it transmits what the engine has.

Counterparts: :mod:`spnhub.transport.endpoint.api.endpoint` is the owner on asyncio,
:mod:`spnhub.transport.endpoint.session.hub_target` has the states of one session,
:mod:`spnhub.transport.endpoint.core.resume` decides where connections go on,
:mod:`spnhub.transport.endpoint.core.opening` where new ones begin.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Final, Literal

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import (
    AllConnectionsClosed,
    LocalAddress,
    PeerGone,
    ResumeAck,
    ResumeInvite,
    SessionRenewal,
    SessionRequest,
    ShutdownRequest,
)
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.registry import ConnectionRegistry
from spnhub.transport.endpoint.connection.reports import ConnectionReport, Disconnected, Paused, Requested, Resumed
from spnhub.transport.endpoint.connection.roles import ConsumerConnection, ProviderConnection
from spnhub.transport.endpoint.connection.states import ConnectionState
from spnhub.transport.endpoint.core.closed_notices import ClosedNotices
from spnhub.transport.endpoint.core.containment import FAULT, Containment
from spnhub.transport.endpoint.core.invitations import Invitations
from spnhub.transport.endpoint.core.listener import ConnectionChange, CoreListener, CoreSettings
from spnhub.transport.endpoint.core.opening import OpeningAttempt, Openings
from spnhub.transport.endpoint.core.resume import Resumer
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.endpoint.session.hub_target import HubTarget, IpAddress, SessionChange, Why
from spnhub.transport.endpoint.session.session import Ended, Established, Session, SessionReport
from spnhub.transport.endpoint.session.states import SessionState, SessionTrigger
from spnhub.transport.engine import Address, Answered, Closed, Engine, EngineEvent, Unresponsive
from spnhub.transport.errors import (
    ConfigurationError,
    HandshakeRejected,
    SessionLost,
    SessionRejected,
    SpnError,
)

__all__ = ["EndpointCore"]

HAND_OVER_PAUSE: Final = 1.0
"""Seconds between two looks at what still goes on in a session whose place another has taken."""

_S = SessionState
ANOTHER_WAY: Final = 1.0
"""Seconds for which an address whose session is lost may have it again, before another one of the same hub is tried."""
_BUSY: Final = (_S.IP_FOUND, _S.SESSION_CONNECTING)


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
        self.weight = settings.weight
        self.weight_reason = ""
        self.closing = False
        self.failed: SpnError | None = None
        self._credentials = settings.credentials
        self._settings = settings
        self._listener = listener
        self._targets: dict[IpAddress, HubTarget] = {}
        self._leaving: list[HubTarget] = []
        """Sessions whose address has vanished, or whose place another has taken, and which are not yet over."""
        self._successors: dict[IpAddress, HubTarget] = {}
        """On their way to take the place of a session with other credentials (D-38)."""
        self._addresses: set[IpAddress] = set()
        self._by_connection_id: dict[int, tuple[HubTarget, Session]] = {}
        self._on_fault = Containment(
            listener.on_fault, lambda: (session for _, session in list(self._by_connection_id.values())), self._forget
        )
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
        self._openings = Openings(context, self._choose, lambda: self.takes_new, self._may_come)
        self._patient = settings.options.wait_for_hub
        self._resumer = Resumer(context, self.targets)
        self._closed_notices = ClosedNotices(context, self._resumer)
        self._invitations = Invitations(context, settings.instance_id, self._connections.provider)

    # --------------------------------------------------------------------------------------------------- for the owner

    def targets(self) -> Iterable[HubTarget]:
        """The sessions, one an address; before them those that end because their address has vanished or another has
        taken their place, and those that are about to do so."""
        return [*self._leaving, *self._successors.values(), *self._targets.values()]

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
        return [target.session for target in self.targets() if target.session is not None and target.established]

    @property
    def takes_new(self) -> bool:
        """Whether new connections may begin in one of them."""
        return any(target.takes_new for target in self._targets.values())

    @property
    def about_to_be(self) -> bool:
        """Whether a session is on its way."""
        return any(target.state in _BUSY for target in self._targets.values())

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
        return self._patient

    def set_addresses(self, addresses: Sequence[IpAddress], now: float, *, on_demand: bool = False) -> None:
        """These are the hub's addresses from now on; a session that has Failed begins anew (R-3.2, R-3.3).

        :param on_demand: the answer to :meth:`CoreListener.check_addresses`.
        """
        self._addresses = set(addresses)
        for remote, target in list(self._targets.items()):
            if remote not in self._addresses:
                target.lose_address(on_demand=on_demand)
                del self._targets[remote]
                self._drop_successor(remote)
                if target.state is _S.CLOSING:
                    self._leaving.append(target)
                    self.context.arm(_Leaving(self, target), now + self.context.options.resume_timeout)
                    self._move(target)
                    if target.session is not None:
                        self._check_empty(target.session.streams)
                self._wake_others(target)
        for remote in addresses:
            known = self._targets.get(remote)
            if known is None:
                if self.failed is None and not self._done:
                    target = self._targets[remote] = self._new_target(remote)
                    target.connect()
            elif known.state is _S.FAILED and self.failed is None and not self._done:
                known.connect()
        self._turns.settle()

    def renew(self, credentials: Credentials) -> None:
        """These are the endpoint's from now on. Sessions with others are replaced, and their connections go on in the
        new ones (D-38); who waits tries again at once, and who was refused for good begins anew."""
        self._credentials = credentials
        if self.closing or self.failed is not None:
            return
        for target in list(self._targets.values()):
            self._renew(target)
        self._turns.settle()

    def _renew(self, target: HubTarget) -> None:
        if target.state is _S.FAILED:
            target.connect()
        elif target.state is _S.ESTABLISHED:
            session, successor = target.session, self._successors.get(target.remote)
            if session is None or session.credentials == self._credentials:
                self._drop_successor(target.remote)
            elif successor is None:
                successor = self._successors[target.remote] = self._new_target(target.remote)
                successor.connect()
            else:
                successor.hurry()
        else:
            target.hurry()

    def _drop_successor(self, remote: IpAddress) -> None:
        successor = self._successors.pop(remote, None)
        if successor is not None:
            successor.signal()

    def _replace(self, old: HubTarget, successor: HubTarget) -> None:
        """The successor takes the address; what goes on in ``old`` follows (:meth:`_hand_over`)."""
        del self._successors[old.remote]
        self._targets[old.remote] = successor
        old.give_way()
        if old.session is not None:
            self._leaving.append(old)

    def _hand_over(self, target: HubTarget, session: Session) -> None:
        """Connections of a session whose place another has taken leave it, as soon as they are Connected.

        Somebody else couldn't go on with them: they stay where they are, and nothing new comes there.
        """
        if session.credentials.subject != self._credentials.subject:
            if session.weight and self._settings.end_point_type is EndPointType.PROVIDER:
                session.set_weight(0, "its successor takes what is new")
            return
        for connection in session.legs():
            if connection.state is not ConnectionState.CONNECTING:
                connection.leave(Code.MOVED, "moved to a session with a renewed certificate")
        if session.connections:
            self.context.arm(_Leaving(self, target), self.context.now() + HAND_OVER_PAUSE)

    def _dialing(self, remote: IpAddress) -> HubTarget | None:
        """Who waits for a socket to there."""
        for target in (self._successors.get(remote), self._targets.get(remote)):
            if target is not None and target.state is _S.SESSION_CONNECTING and target.session is None:
                return target
        return None

    def dialed(self, remote: IpAddress, local: Address, *, near_its_dates: bool = False) -> None:
        """The socket that was asked for.

        :param near_its_dates: see :meth:`Credentials.near_its_dates`, of those that are the endpoint's now.
        """
        target = self._dialing(remote)
        if target is None:
            self._listener.release(local)
            return
        try:
            connection_id = self.context.engine.connect(local, self._credentials.policy, self.context.now())
        except ValueError as exc:
            self._listener.release(local)
            self.fail(ConfigurationError(f"certificate and certificate_key can't be used: {exc}"))
            return
        target.local = local
        renews = self._successors.get(remote) is target
        if renews:
            self._announce(self._targets[remote])
        target.session = session = Session(
            self.context,
            self._connections,
            self._on_session,
            connection_id,
            self._request(renews=renews),
            self._credentials,
            near_its_dates,
        )
        session.set_weight(self.weight, self.weight_reason)
        self._by_connection_id[connection_id] = (target, target.session)
        self.context.touch()

    def dial_failed(self, remote: IpAddress, error: SpnError) -> None:
        """There is no such socket."""
        target = self._dialing(remote)
        if target is not None:
            self._on_target_failed(target, error)
            self._turns.settle()

    def open(
        self,
        on_connected: Callable[[ConsumerConnection], None],
        on_failed: Callable[[SpnError], None],
        timeout: float,
    ) -> OpeningAttempt:
        """Begin a connection; one of the two functions is called, later."""
        return self._openings.open(on_connected, on_failed, timeout)

    def set_weight(self, weight: int, reason: str = "") -> None:
        """The provider's weight and why it has it, in every session that there is and will be."""
        self.weight, self.weight_reason = weight, reason
        for target, session in list(self._by_connection_id.values()):
            if target.why is not Why.RENEWED:
                session.set_weight(weight, reason)
        self.context.touch()

    def close(self) -> None:
        """Begin the end: no new connections; sessions stay as long as connections need one."""
        if not self.closing:
            self.closing = True
            for target in self.targets():
                if target.established or not self._connections.paused:
                    target.signal()
            self._openings.advance()
            self._turns.settle()

    def cut(self, code: int, reason: str) -> None:
        """End every connection with an error, for both sides; the local listeners are told."""
        everything = {*self._connections.paused, *(leg for session in self.established for leg in session.legs())}
        for connection in everything:
            connection.cut(code, reason)
        self._turns.settle()

    def finish(self) -> None:
        """The end of every session, now."""
        self.closing = True
        self._patient = True
        for target in self.targets():
            target.signal()
            if target.session is not None:
                target.session.close(Code.OK, "shutdown")
        self._turns.settle()

    def handle(self, events: Iterable[EngineEvent]) -> None:
        """Take the engine's events."""
        self._turns.begin()
        try:
            for event in events:
                found = self._by_connection_id.get(getattr(event, "connection_id", -1))
                if found is None:
                    continue
                session = found[1]
                try:
                    session.handle(event)
                except Exception as fault:
                    self._on_fault(session.concerned(event), fault)
                    if isinstance(event, Closed) and session.connection_id in self._by_connection_id:
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

    # --------------------------------------------------------------------------------------- what connections report

    def _on_connection(self, connection: Connection, report: ConnectionReport) -> None:
        match report:
            case Requested():
                assert isinstance(connection, ProviderConnection)
                self._on_requested(connection)
            case Paused(reason=reason):
                self._on_paused(connection, reason)
            case Resumed():
                self._forget_paused(connection)
                self._tell(connection, "resumed", "")
            case Disconnected():
                self._on_disconnected(connection, report)

    def _on_paused(self, connection: Connection, reason: str) -> None:
        if connection not in self._connections.paused:
            self._connections.paused[connection] = None
            self._tell(connection, "paused", reason)
        if isinstance(connection, ConsumerConnection):
            left = next((target for target in self.targets() if _streams(target) is connection.left), None)
            self._resumer.add(connection, left, connection.end_gone if connection.peer_gone is not None else None)
        elif connection.peer_gone is not None:
            connection.end_gone()
        if connection.left is not None:
            self._check_empty(connection.left)

    def _on_disconnected(self, connection: Connection, report: Disconnected) -> None:
        lost = connection.paused_at is not None and connection.error is not None
        self._forget_paused(connection)
        self._connections.forget(connection)
        if connection.established:
            if isinstance(connection, ProviderConnection):
                error = connection.error
                self._invitations.add(connection, Code.CLOSED if error is None else error.code)
            elif isinstance(connection, ConsumerConnection) and report.closed_notice is not None:
                found = None if report.told_in is None else self._by_connection_id.get(report.told_in)
                self._closed_notices.add(connection, report.closed_notice, None if found is None else found[1])
            if lost:
                self._tell(connection, "lost", str(connection.error))
        for target in self.targets():
            if target.state is _S.CLOSING and target.session is not None:
                self._check_empty(target.session.streams)
        self._changed()

    def _on_requested(self, connection: ProviderConnection) -> None:
        if connection.connection_uid in self._connections.by_uid:
            connection.reject(Code.PROTOCOL, "a connection with this uid is open")
            return
        self._connections.by_uid[connection.connection_uid] = connection
        self.context.call(lambda: self._request_connection(connection))

    def _request_connection(self, connection: ProviderConnection) -> None:
        if connection.state is ConnectionState.DISCONNECTED:
            # Its consumer has given up since.
            return
        try:
            self._listener.on_request(connection)
        except Exception as fault:
            self._on_fault(connection, fault)

    # ------------------------------------------------------------------------------------------ what sessions report

    def _on_session(self, session: Session, report: SessionReport) -> None:
        match report:
            case Established():
                self._on_established(session)
            case Unresponsive():
                target, _ = self._by_connection_id[session.connection_id]
                self._move(target)
                self._wake_others(target)
            case Answered():
                self._on_usable()
            case AllConnectionsClosed():
                self._on_all_connections_closed(session)
            case ShutdownRequest():
                self._on_shutdown_request(session, report)
            case ResumeInvite():
                self._invitations.answer(session, report)
            case ResumeAck():
                self._on_resume_ack(session, report)
            case PeerGone():
                self._on_peer_gone(session, report)
            case Ended(error=error):
                self._on_ended(session, error)

    def _on_established(self, session: Session) -> None:
        target, _ = self._by_connection_id[session.connection_id]
        self._patient = True
        old = self._targets.get(target.remote)
        if old is not None and self._successors.get(target.remote) is target:
            self._replace(old, target)
        target.on_established()
        assert target.local is not None
        session.send(LocalAddress(*self._listener.local_address(target.local)))
        if self.closing:
            target.signal()
        elif self._targets.get(target.remote) is target and session.credentials != self._credentials:
            self._renew(target)
        self._on_usable()
        if old is not None and old.why is Why.RENEWED and old.session is not None:
            self._hand_over(old, old.session)
            self._check_empty(old.session.streams)

    def _on_all_connections_closed(self, session: Session) -> None:
        target, _ = self._by_connection_id[session.connection_id]
        if target.state is _S.CLOSING and target.why is not Why.SIGNAL:
            session.close(Code.OK, "all connections are closed")
        self._changed()

    def _on_shutdown_request(self, session: Session, packet: ShutdownRequest) -> None:
        target, _ = self._by_connection_id[session.connection_id]
        target.return_after = self.context.random() * max(0, packet.spread_milliseconds) / 1000
        target.shut_down()
        self._check_empty(session.streams)

    def _on_resume_ack(self, session: Session, packet: ResumeAck) -> None:
        connection = self._connections.by_uid.get(packet.connection_uid)
        if connection is None:
            self._closed_notices.on_ack(packet)
        elif connection.session is session.streams:
            connection.on_resume_ack(packet)

    def _on_peer_gone(self, session: Session, packet: PeerGone) -> None:
        """What is Connected is with an instance that its own hub hears."""
        for connection in list(self._connections.paused):
            if packet.instance_id and (connection.peer, connection.instance_id) == (packet.peer, packet.instance_id):
                connection.peer_gone = session.streams
                if connection.state is ConnectionState.PAUSED:
                    self._on_paused(connection, "")

    def _on_ended(self, session: Session, error: SpnError) -> None:
        target, _ = self._by_connection_id.pop(session.connection_id)
        assert target.local is not None
        # The hub may not know, and take a closed port for the end of this process.
        self._listener.release(target.local, linger=bool(session.spn_session_id))
        self._closed_notices.on_session_lost(session)
        self._on_target_failed(target, error)

    # ------------------------------------------------------------------------------------------------- hub targets

    def _new_target(self, remote: IpAddress) -> HubTarget:
        return HubTarget(
            self.context, self._connections, remote, self._listener.dial, self._is_reached, self._on_change
        )

    def _is_reached(self, target: HubTarget) -> bool:
        others = (one for one in self._targets.values() if one is not target and one.hub_id == target.hub_id)
        return any(one.takes_new and not one.suspect for one in others)

    def _wake_others(self, target: HubTarget, after: float = 0.0) -> None:
        """Addresses of the same hub wait as long as this one leads to it."""
        for one in self._targets.values():
            if one is not target and one.hub_id == target.hub_id:
                one.wake(after)

    def _on_change(self, change: SessionChange) -> None:
        self.context.call(lambda: self._listener.on_session(change))
        self._changed()

    # ------------------------------------------------------------------------------------------------ new connections

    def _choose(self, tried: set[HubTarget]) -> HubTarget | None:
        """The session for a new connection: of those that are up, the one with the fewest of this endpoint's.

        R-3.4 lets an endpoint pick any. With the fewest, its connections, and so what a lost hub interrupts, are spread
        over all hubs; ties are broken at random, so that many small endpoints don't all pick the same. None that is
        closing, since its hub or address is on its way out; a suspect one (D-20) only if there is no other, since
        failing at once would help nobody.
        """
        choice = [target for target in self._targets.values() if target.takes_new and target not in tried]
        return min(choice, key=lambda one: (one.suspect, one.connections, self.context.random()), default=None)

    def _may_come(self) -> bool:
        return not self.closing and self.failed is None and self.about_to_be

    # ---------------------------------------------------------------------------------------------------------- inside

    @property
    def _done(self) -> bool:
        """Being closed, and no session is needed any more."""
        return self.closing and not self._connections.paused

    def _announce(self, old: HubTarget) -> None:
        """Say that a session is about to have a successor, so that the hub lets its connections leave in order."""
        session = old.session
        if session is not None and session.established and session.credentials.subject == self._credentials.subject:
            session.send(SessionRenewal())

    def _request(self, *, renews: bool = False) -> SessionRequest:
        settings = self._settings
        return SessionRequest(
            settings.end_point_type,
            settings.service_urn,
            settings.instance_id,
            self.weight,
            renews or bool(self._connections.paused),
            settings.software,
        )

    def _on_usable(self) -> None:
        """A session has come up, or answers again: what is to be resumed first, then what is new."""
        for target in self.targets():
            if target.suspect or target.why is Why.IP_LOST:
                self._move(target)
        self._resumer.usable()
        self._openings.advance()

    def _move(self, target: HubTarget) -> None:
        """A consumer's connections leave a session that is suspect, or whose address is gone, if there is another."""
        session = target.session
        if session is None or self._settings.end_point_type is not EndPointType.CONSUMER:
            return
        if not any(one.takes_resumes and not one.suspect for one in self.targets() if one is not target):
            return
        self._leave(target, session)

    def _leave(self, target: HubTarget, session: Session) -> None:
        moved = target.why is Why.IP_LOST and not session.suspect
        for connection in session.legs():
            if connection.state is ConnectionState.CONNECTING:
                # Nobody has seen a byte of it: it begins anew elsewhere.
                connection.cut(Code.PEER_LOST, "the hub is suspect" if session.suspect else "the hub's address is gone")
            else:
                connection.leave(Code.MOVED if moved else Code.LEFT, "moved to another hub" if moved else "hub suspect")

    def leave_address(self, target: HubTarget) -> None:
        """It has had its time to find another session."""
        if target not in self._leaving or target.session is None:
            return
        if target.why is Why.RENEWED:
            self._hand_over(target, target.session)
        else:
            self._leave(target, target.session)

    def _check_empty(self, streams: SessionStreams[Connection]) -> None:
        """A session that is Closing for the hub's or the address's sake ends with its last connection."""
        found = self._by_connection_id.get(streams.connection_id)
        if found is None:
            return
        target, session = found
        if not session.connections:
            target.on_empty()

    def _on_target_failed(self, target: HubTarget, error: SpnError) -> None:
        target.session = None
        target.local = None
        target.on_failed(error)
        successor = self._successors.get(target.remote)
        if successor is target:
            if target.state in (_S.CLOSED, _S.FAILED):
                # Refused for good, or not wanted any more: what it was to replace stays as long as it can.
                del self._successors[target.remote]
            return
        if successor is not None and self._targets.get(target.remote) is target:
            self._replace(target, successor)
            successor.hurry()
        if target in self._leaving and target.state in (_S.CLOSED, _S.FAILED):
            self._leaving.remove(target)
            if target.remote in self._addresses and target.remote not in self._targets and not self._done:
                self._targets[target.remote] = self._new_target(target.remote)
                self._targets[target.remote].connect()
        elif target.state is _S.CLOSED and not self._done and self._targets.get(target.remote) is target:
            target.connect(target.return_after)
        if target.state is _S.WAITING:
            self.context.call(self._listener.check_addresses)
        self._wake_others(target, ANOTHER_WAY)
        self._check_hopeless()
        if not self.about_to_be:
            self._openings.advance()

    def _check_hopeless(self) -> None:
        """Every address refuses for good; or, without patience, none has given a session."""
        states = {target.state for target in self.targets()}
        if self.closing or not states or not states <= {_S.FAILED, *(() if self._patient else (_S.WAITING,))}:
            return
        errors = [target.error for target in self.targets() if target.error is not None]
        # A refusal says more than silence.
        self.fail(next((one for one in errors if isinstance(one, SessionRejected | HandshakeRejected)), errors[0]))

    def fail(self, error: SpnError) -> None:
        """It has come to nothing: no session can be had, and none is tried for any more."""
        if self.failed is not None:
            return
        self.failed = error
        # Nowhere can anything go on.
        code = error.code if isinstance(error, SessionRejected) else Code.PEER_LOST
        for connection in list(self._connections.paused):
            connection.cut(code, str(error))
        for target in self.targets():
            if target.state is _S.WAITING:
                self.context.arm(target, None)
                target.fire(SessionTrigger.RETRIES_EXCEEDED, error)
            elif target.state is not _S.FAILED:
                target.signal()
                if target.session is not None:
                    target.session.close(Code.OK, "shutdown")
        self._successors.clear()
        self.context.call(lambda: self._listener.on_failed(error))
        self._openings.advance()
        self._changed()

    def _forget(self, connection: Connection) -> None:
        """It could not be ended in order: nothing here knows it any more."""
        self._connections.forget(connection)
        if isinstance(connection, ConsumerConnection):
            self._resumer.remove(connection)
        for _, session in list(self._by_connection_id.values()):
            if connection in session.legs():
                session.abandon(connection)
        self._changed()

    def _forget_paused(self, connection: Connection) -> None:
        self._connections.paused.pop(connection, None)
        if isinstance(connection, ConsumerConnection):
            self._resumer.remove(connection)
        if self._done:
            for target in self.targets():
                target.signal()

    def _tell(self, connection: Connection, kind: Literal["paused", "resumed", "lost"], reason: str) -> None:
        since = connection.paused_at
        seconds = 0.0 if since is None else self.context.now() - since
        change = ConnectionChange(connection.connection_uid, connection.epoch, kind, seconds, reason)
        self.context.call(lambda: self._listener.on_connection(change))

    def _changed(self) -> None:
        self.context.call(self._listener.on_changed)


def _streams(target: HubTarget) -> SessionStreams[Connection] | None:
    return None if target.session is None else target.session.streams


class _Leaving:
    """The deadline of a session whose address has vanished."""

    def __init__(self, core: EndpointCore, target: HubTarget) -> None:
        self._core = core
        self._target = target

    def on_deadline(self) -> None:
        self._core.leave_address(self._target)
