"""What an endpoint does when a connection is requested, paused, resumed or over. Sans-I/O.

Counterparts: :mod:`spnhub.transport.endpoint.connection.reports` are the reports,
:mod:`spnhub.transport.endpoint.core.resume` takes a consumer's paused connection to another session,
:mod:`spnhub.transport.endpoint.core.invitations` and :mod:`spnhub.transport.endpoint.core.closed_notices` remember
those that have ended, a provider's and a consumer's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import PeerGone, ResumeAck
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext
from spnhub.transport.endpoint.connection.registry import ConnectionRegistry
from spnhub.transport.endpoint.connection.reports import ConnectionReport, Disconnected, Paused, Requested, Resumed
from spnhub.transport.endpoint.connection.states import ConnectionState
from spnhub.transport.endpoint.core.closed_notices import ClosedNotices
from spnhub.transport.endpoint.core.hub_targets import HubTargets
from spnhub.transport.endpoint.core.invitations import Invitations
from spnhub.transport.endpoint.core.listener import ConnectionChange, CoreListener
from spnhub.transport.endpoint.core.resume import Resumer
from spnhub.transport.endpoint.session.session import Session

__all__ = ["ConnectionReports"]


class ConnectionReports:
    """Takes what connections report, and what hubs say about connections that are paused.

    :param on_fault: takes what the program raised when it was asked for a connection.
    """

    def __init__(
        self,
        context: EndpointContext,
        connections: ConnectionRegistry,
        targets: HubTargets,
        resumer: Resumer,
        invitations: Invitations,
        listener: CoreListener,
        on_fault: Callable[[object, BaseException], None],
    ) -> None:
        self.closed_notices = ClosedNotices(context, resumer)
        self._context = context
        self._connections = connections
        self._targets = targets
        self._resumer = resumer
        self._invitations = invitations
        self._listener = listener
        self._on_fault = on_fault

    def take(self, connection: Connection, report: ConnectionReport) -> None:
        """Do what a report asks for."""
        match report:
            case Requested():
                self._on_requested(connection)
            case Paused(reason=reason):
                self._on_paused(connection, reason)
            case Resumed():
                self._forget_paused(connection)
                self._report(connection, "resumed", "")
            case Disconnected():
                self._on_disconnected(connection, report)

    def on_resume_ack(self, session: Session, packet: ResumeAck) -> None:
        """A hub answers a ResumeRequest: of a connection, or one that only says how it has ended."""
        connection = self._connections.by_uid.get(packet.connection_uid)
        if connection is None:
            self.closed_notices.on_ack(packet)
        elif connection.session is session.streams:
            connection.on_resume_ack(packet)

    def on_peer_gone(self, session: Session, packet: PeerGone) -> None:
        """The process of another endpoint is gone. What is Connected is with an instance that its own hub hears."""
        for connection in list(self._connections.paused):
            if packet.instance_id and (connection.peer, connection.instance_id) == (packet.peer, packet.instance_id):
                connection.peer_gone = session.streams
                if connection.state is ConnectionState.PAUSED:
                    self._on_paused(connection, "")

    def forget(self, connection: Connection) -> None:
        """It could not be ended in order: nothing here knows it any more."""
        self._connections.forget(connection)
        if connection.consumer:
            self._resumer.remove(connection)
        for session in self._targets.sessions():
            if connection in session.legs():
                session.abandon(connection)
        self._context.call(self._listener.on_changed)

    def _on_requested(self, connection: Connection) -> None:
        if connection.connection_uid in self._connections.by_uid:
            connection.reject(Code.PROTOCOL, "a connection with this uid is open")
            return
        self._connections.by_uid[connection.connection_uid] = connection
        self._context.call(lambda: self._request_connection(connection))

    def _request_connection(self, connection: Connection) -> None:
        if connection.state is ConnectionState.DISCONNECTED:
            # Its consumer has given up since.
            return
        try:
            self._listener.on_request(connection)
        except Exception as fault:
            self._on_fault(connection, fault)

    def _on_paused(self, connection: Connection, reason: str) -> None:
        if connection not in self._connections.paused:
            self._connections.paused[connection] = None
            self._targets.press()
            self._report(connection, "paused", reason)
        if connection.consumer:
            left = next((one for one in self._targets.all() if one.streams is connection.left), None)
            self._resumer.add(connection, left, connection.end_gone if connection.peer_gone is not None else None)
        elif connection.peer_gone is not None:
            connection.end_gone()
        if connection.left is not None:
            self._targets.check_empty(connection.left)

    def _on_disconnected(self, connection: Connection, report: Disconnected) -> None:
        lost = connection.paused_at is not None and connection.error is not None
        self._forget_paused(connection)
        self._connections.forget(connection)
        if connection.established:
            if not connection.resumable:
                # Nobody will ask for it, or can be told.
                pass
            elif not connection.consumer:
                error = connection.error
                self._invitations.add(connection, Code.CLOSED if error is None else error.code)
            elif report.closed_notice is not None:
                session = None if report.seen_in is None else self._targets.session(report.seen_in)
                self.closed_notices.add(connection, report.closed_notice, session)
            if lost:
                self._report(connection, "lost", str(connection.error))
        self._targets.check_closing()
        self._context.call(self._listener.on_changed)

    def _forget_paused(self, connection: Connection) -> None:
        self._connections.paused.pop(connection, None)
        if connection.consumer:
            self._resumer.remove(connection)
        self._targets.check_done()

    def _report(self, connection: Connection, kind: Literal["paused", "resumed", "lost"], reason: str) -> None:
        since = connection.paused_at
        seconds = 0.0 if since is None else self._context.now() - since
        change = ConnectionChange(connection.connection_uid, connection.epoch, kind, seconds, reason)
        self._context.call(lambda: self._listener.on_connection(change))
