"""The sessions of an endpoint: one hub target for each address, and the QUIC connections that they have. Sans-I/O.

Counterparts: :mod:`spnhub.transport.endpoint.session.hub_target` has the states of one of them,
:mod:`spnhub.transport.endpoint.core.moves` takes connections out of those that end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import LocalAddress, SessionRenewal, SessionRequest, ShutdownRequest
from spnhub.actors.contract.protocols import SC01
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.registry import ConnectionRegistry
from spnhub.transport.endpoint.core.listener import CoreListener, CoreSettings
from spnhub.transport.endpoint.core.moves import Moves
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.endpoint.session.hub_target import HubTarget, IpAddress, SessionChange, Why
from spnhub.transport.endpoint.session.sc01_session import Sc01HubSession
from spnhub.transport.endpoint.session.session import Session, SessionReport
from spnhub.transport.endpoint.session.states import SessionState, SessionTrigger
from spnhub.transport.engine import Address
from spnhub.transport.errors import ConfigurationError, HandshakeRejected, SessionRejected, SpnError

__all__ = ["HubTargets"]

ANOTHER_WAY: Final = 1.0
"""Seconds for which an address whose session is lost may have it again, before another one of the same hub is tried."""

_S = SessionState
_BUSY: Final = (_S.IP_FOUND, _S.SESSION_CONNECTING)


class HubTargets:
    """Where the endpoint has sessions, and where it tries to have one.

    :param connections: those that may wait to be resumed.
    :param on_session: called with what becomes of each session.
    :param on_none_coming: is called when no session is on its way any more.
    """

    def __init__(
        self,
        context: EndpointContext,
        settings: CoreSettings,
        listener: CoreListener,
        connections: ConnectionRegistry,
        on_session: Callable[[Session, SessionReport], None],
        on_none_coming: Callable[[], None],
    ) -> None:
        self.weight = settings.weight
        self.weight_reason = ""
        self.closing = False
        """The endpoint is being closed."""
        self.failed: SpnError | None = None
        """Why no session can be had, and none is tried for any more."""
        self.patient = settings.options.wait_for_hub
        """Whether a session is worth waiting for."""
        self.moves = Moves(context, settings.end_point_type, self.all, self._is_same_peer)
        self._context = context
        self._settings = settings
        self._listener = listener
        self._connections = connections
        self._on_session = on_session
        self._on_none_coming = on_none_coming
        self._credentials = settings.credentials
        self._targets: dict[IpAddress, HubTarget] = {}
        self._successors: dict[IpAddress, HubTarget] = {}
        """On their way to take the place of a session with other credentials (D-38)."""
        self._addresses: set[IpAddress] = set()
        self._by_connection_id: dict[int, tuple[HubTarget, Session]] = {}

    def all(self) -> Iterable[HubTarget]:
        """One an address; before them those that end because their address has vanished or another has taken their
        place, and those that are about to take a place."""
        return [*self.moves.leaving, *self._successors.values(), *self._targets.values()]

    def sessions(self) -> list[Session]:
        """All that are begun and not over, also those that the hub has not yet accepted."""
        return [session for _, session in self._by_connection_id.values()]

    def session(self, connection_id: int) -> Session | None:
        """The session that has this QUIC connection."""
        found = self._by_connection_id.get(connection_id)
        return None if found is None else found[1]

    def target(self, session: Session) -> HubTarget:
        """The hub target of a session that is not over."""
        return self._by_connection_id[session.connection_id][0]

    @property
    def established(self) -> list[Session]:
        """The sessions that are up, those being closed included."""
        return [target.session for target in self.all() if target.session is not None and target.established]

    @property
    def takes_new(self) -> bool:
        """Whether new connections may begin in one of them."""
        return any(target.takes_new for target in self._targets.values())

    @property
    def about_to_be(self) -> bool:
        """Whether a session is on its way."""
        return any(target.state in _BUSY for target in self._targets.values())

    @property
    def may_come(self) -> bool:
        """Whether a session that takes new connections may be up soon."""
        return not self.closing and self.failed is None and self.about_to_be

    @property
    def done(self) -> bool:
        """Being closed, and no session is needed any more."""
        return self.closing and not self._connections.paused

    def choose(self, tried: set[HubTarget]) -> HubTarget | None:
        """The session for a new connection: of those that are up, the one with the fewest of this endpoint's.

        R-3.4 lets an endpoint pick any. With the fewest, its connections, and so what a lost hub interrupts, are spread
        over all hubs; ties are broken at random, so that many small endpoints don't all pick the same. None that is
        closing, since its hub or address is on its way out; an unresponsive one (D-20) only if there is no other, since
        failing at once would help nobody.
        """
        choice = [target for target in self._targets.values() if target.takes_new and target not in tried]
        return min(choice, key=lambda one: (one.unresponsive, one.connections, self._context.random()), default=None)

    # ---------------------------------------------------------------------------------------- addresses and credentials

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
                    self.moves.on_address_lost(target, now)
                self.wake_others(target)
        for remote in addresses:
            known = self._targets.get(remote)
            if known is None:
                if self.failed is None and not self.done:
                    target = self._targets[remote] = self._new_target(remote)
                    target.connect()
            elif known.state is _S.FAILED and self.failed is None and not self.done:
                known.connect()

    def renew(self, credentials: Credentials) -> None:
        """These are the endpoint's from now on. Sessions with others are replaced, and their connections go on in the
        new ones (D-38); who waits tries again at once, and who was refused for good begins anew."""
        self._credentials = credentials
        if self.closing or self.failed is not None:
            return
        for target in list(self._targets.values()):
            self._renew(target)

    def _renew(self, target: HubTarget) -> None:
        if target.state is _S.FAILED:
            target.connect()
        elif target.state is _S.ESTABLISHED:
            session, successor = target.session, self._successors.get(target.remote)
            if session is None or (session.credentials == self._credentials and not session.outdated):
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
        """The successor takes the address; what goes on in ``old`` follows (:meth:`Moves.hand_over`)."""
        del self._successors[old.remote]
        self._targets[old.remote] = successor
        old.give_way()
        if old.session is not None:
            self.moves.leaving.append(old)

    def _is_same_peer(self, session: Session) -> bool:
        return session.can_hand_over and session.credentials.subject == self._credentials.subject

    def set_weight(self, weight: int, reason: str = "") -> None:
        """The provider's weight and why it has it, in every session that there is and will be."""
        self.weight, self.weight_reason = weight, reason
        for target, session in list(self._by_connection_id.values()):
            if target.why is not Why.RENEWED:
                session.set_weight(weight, reason)
                if session.outdated and not self.closing and self._targets.get(target.remote) is target:
                    self._renew(target)
        self._context.touch()

    def dialed(self, remote: IpAddress, local: Address, *, near_its_dates: bool = False) -> None:
        """The socket that was asked for.

        :param near_its_dates: see :meth:`Credentials.near_its_dates`, of those that are the endpoint's now.
        """
        target = self._dialing(remote)
        if target is None:
            self._listener.release(local)
            return
        try:
            connection_id = self._context.engine.connect(local, self._credentials.policy, self._context.now())
        except ValueError as exc:
            self._listener.release(local)
            self.fail(ConfigurationError(f"certificate and certificate_key can't be used: {exc}"))
            return
        target.local = local
        renews = self._successors.get(remote) is target
        if renews:
            self._announce(self._targets[remote])
        make = Sc01HubSession if self._settings.options.protocol == SC01 else Session
        session = make(
            self._context,
            self._connections,
            self._on_session,
            connection_id,
            self._request(renews=renews),
            self._credentials,
            near_its_dates,
        )
        session.set_weight(self.weight, self.weight_reason)
        target.on_dialed(session)
        self._by_connection_id[connection_id] = (target, session)
        self._context.touch()

    def dial_failed(self, remote: IpAddress, error: SpnError) -> None:
        """There is no such socket."""
        target = self._dialing(remote)
        if target is not None:
            self._on_target_failed(target, error)

    def _dialing(self, remote: IpAddress) -> HubTarget | None:
        """Who waits for a socket to there."""
        for target in (self._successors.get(remote), self._targets.get(remote)):
            if target is not None and target.state is _S.SESSION_CONNECTING and target.session is None:
                return target
        return None

    def _announce(self, old: HubTarget) -> None:
        """Say that a session is about to have a successor, so that the hub lets its connections leave in order."""
        session = old.session
        if session is not None and session.established and self._is_same_peer(session):
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

    # ----------------------------------------------------------------------------------------- what becomes of sessions

    def on_established(self, session: Session) -> HubTarget:
        """The hub has accepted it; the target that was at its address until now."""
        target = self.target(session)
        self.patient = True
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
        return old or target

    def on_shutdown_request(self, session: Session, packet: ShutdownRequest) -> None:
        """The hub wants the session to end, and this endpoint back after a random part of the spread (R-4.8)."""
        target = self.target(session)
        target.return_after = self._context.random() * max(0, packet.spread_milliseconds) / 1000
        target.shut_down()
        self.moves.check_empty(target)

    def on_ended(self, session: Session, error: SpnError) -> None:
        """The session is over; its address may have another."""
        target, _ = self._by_connection_id.pop(session.connection_id)
        assert target.local is not None
        # The hub may not know, and take a closed port for the end of this process.
        self._listener.release(target.local, linger=bool(session.spn_session_id))
        self._on_target_failed(target, error)

    def press(self) -> None:
        """A connection waits to be resumed: where no session can have it, one is sought with less patience."""
        targets = self.all()
        if not any(target.takes_resumes and not target.unresponsive for target in targets):
            for target in targets:
                target.press()

    def check_empty(self, streams: SessionStreams[Connection]) -> None:
        """A session that is Closing for the hub's or the address's sake ends with its last connection."""
        found = self._by_connection_id.get(streams.connection_id)
        if found is not None:
            self.moves.check_empty(found[0])

    def check_closing(self) -> None:
        """A connection has ended: one of the sessions that are Closing may be empty now."""
        for target in self.all():
            if target.state is _S.CLOSING:
                self.moves.check_empty(target)

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
        if target in self.moves.leaving and target.state in (_S.CLOSED, _S.FAILED):
            self.moves.leaving.remove(target)
            if target.remote in self._addresses and target.remote not in self._targets and not self.done:
                self._targets[target.remote] = self._new_target(target.remote)
                self._targets[target.remote].connect()
        elif target.state is _S.CLOSED and not self.done and self._targets.get(target.remote) is target:
            target.connect(target.return_after)
        if target.state is _S.WAITING:
            self._context.call(self._listener.check_addresses)
        self.wake_others(target, ANOTHER_WAY)
        self._check_hopeless()
        if not self.about_to_be:
            self._on_none_coming()

    def _check_hopeless(self) -> None:
        """Every address refuses for good; or, without patience, none has given a session."""
        states = {target.state for target in self.all()}
        if self.closing or not states or not states <= {_S.FAILED, *(() if self.patient else (_S.WAITING,))}:
            return
        errors = [target.error for target in self.all() if target.error is not None]
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
        for target in self.all():
            if target.state is _S.WAITING:
                self._context.arm(target, None)
                target.fire(SessionTrigger.RETRIES_EXCEEDED, error)
            elif target.state is not _S.FAILED:
                target.signal()
                if target.session is not None:
                    target.session.close(Code.OK, "shutdown")
        self._successors.clear()
        self._context.call(lambda: self._listener.on_failed(error))
        self._on_none_coming()
        self._context.call(self._listener.on_changed)

    def close(self) -> None:
        """The endpoint is being closed: sessions end when they are empty. Where connections wait to be resumed, what is
        not yet a session may still become one."""
        self.closing = True
        for target in self.all():
            if target.established or not self._connections.paused:
                target.signal()

    def finish(self) -> None:
        """The end of every session, now."""
        self.closing = True
        self.patient = True
        for target in self.all():
            target.signal()
            if target.session is not None:
                target.session.close(Code.OK, "shutdown")

    def check_done(self) -> None:
        """A connection waits no more: if it was the last, no session is sought any more."""
        if self.done:
            for target in self.all():
                target.signal()

    def _new_target(self, remote: IpAddress) -> HubTarget:
        return HubTarget(
            self._context, self._connections, remote, self._listener.dial, self._is_reached, self._on_change
        )

    def _is_reached(self, target: HubTarget) -> bool:
        others = (one for one in self._targets.values() if one is not target and one.hub_id == target.hub_id)
        return any(one.takes_new and not one.unresponsive for one in others)

    def wake_others(self, target: HubTarget, after: float = 0.0) -> None:
        """Addresses of the same hub wait as long as this one leads to it."""
        for one in self._targets.values():
            if one is not target and one.hub_id == target.hub_id:
                one.wake(after)

    def _on_change(self, change: SessionChange) -> None:
        self._context.call(lambda: self._listener.on_session(change))
        self._context.call(self._listener.on_changed)
