"""The two ends of a connection: the consumer asks for it and leads every resume, the provider is asked.

Counterparts: :mod:`spnhub.transport.endpoint.connection.connection` has what they share,
:mod:`spnhub.transport.endpoint.core.resume` decides where and when a connection is resumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Accept, Opening, OpeningKind, Packet, ResumeInvite
from spnhub.transport.endpoint.connection.connection import Connection, Report
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.leg import LEG_CODES, EndpointLeg
from spnhub.transport.endpoint.connection.reports import Requested
from spnhub.transport.endpoint.connection.states import ConnectionEvent, ConnectionState
from spnhub.transport.errors import ConnectionAborted, ConnectionRejected, LocalProtocolError
from spnhub.transport.protocol import ProtocolError

__all__ = ["HEADER_BOUND", "ConsumerConnection", "ProviderConnection"]

HEADER_BOUND: Final = 10.0
"""Seconds that the hub has for the Opening on a stream that it opened."""


class ConsumerConnection(Connection):
    """The side that asks for the connection (R-4.2). It mints its identity and the secret (D-1)."""

    consumer = True

    def __init__(
        self,
        endpoint: EndpointContext,
        session: SessionStreams[Connection],
        report: Report,
        uid: str,
        secret: bytes,
        on_connected: Callable[[], None],
        on_failed: Callable[[ConnectionAborted | ConnectionRejected], None],
        until: float,
    ) -> None:
        """:param until: when it has failed without an Accept."""
        super().__init__(endpoint, session, report, uid, secret)
        self._connected = on_connected
        self._failed = on_failed
        endpoint.arm(self, until)
        # The Opening leaves at once, so that servers that speak first work (D-29).
        session.want_stream(self, self.begin)

    def resume(self, session: SessionStreams[Connection]) -> None:
        """Ask for the next leg at ``session``. Each attempt takes a new epoch."""
        self._resume_at(session, self.epoch + 1)
        session.send(self.resume_request(self.epoch))

    def _on_head(self, leg: EndpointLeg[Connection], packet: Packet) -> None:
        resuming = self.state is ConnectionState.RESUMING
        kind = OpeningKind.RESUME if resuming else OpeningKind.OPEN
        if (
            not isinstance(packet, Accept)
            or packet.kind is not kind
            or (packet.epoch != self.epoch and not packet.code)
        ):
            raise ProtocolError("the answer to an Opening is its Accept")
        if resuming:
            self._on_resumed(leg, packet)
        elif packet.code != Code.OK:
            self._machine.fire(ConnectionEvent.REFUSED)
            self.error = ConnectionRejected(packet.code, packet.reason)
            leg.drop(packet.code)
            self._end(None)
            self._on_failed()
        elif self._stopped in LEG_CODES:
            self._end_by_peer(self._stopped)
        else:
            self.peer = packet.peer
            self.instance_id = packet.instance_id
            self._machine.fire(ConnectionEvent.ESTABLISHED)
            self._endpoint.call(self._connected)
            self._opened(leg)

    def _refused(self, code: int, reason: str, retryable: bool) -> None:
        """See :meth:`Connection._refused`. That the provider is gone is one hub's word; another may have it alive."""
        if code == Code.GONE:
            self.peer_gone = self.session
        super()._refused(code, reason, retryable or code == Code.GONE)

    def on_stopped(self, code: int) -> None:
        """See :meth:`Connection.on_stopped`. The stop may overtake the Accept, which may be a refusal."""
        if self.state is ConnectionState.CONNECTING:
            self._stopped = code
        else:
            super().on_stopped(code)

    def _on_failed(self) -> None:
        error = self.error
        assert error is not None
        self._endpoint.call(lambda: self._failed(error))


class ProviderConnection(Connection):
    """The side that is asked: it says :meth:`accept` or :meth:`reject`."""

    def __init__(
        self, endpoint: EndpointContext, session: SessionStreams[Connection], report: Report, stream_id: int
    ) -> None:
        """The hub opened stream ``stream_id``; its Opening is on the way."""
        super().__init__(endpoint, session, report)
        assert self._leg is not None
        self._leg.stream_id = stream_id
        endpoint.arm(self, endpoint.now() + HEADER_BOUND)

    def _on_head(self, leg: EndpointLeg[Connection], packet: Packet) -> None:
        if self.state is ConnectionState.RESUMING:
            if not isinstance(packet, Accept) or packet.kind is not OpeningKind.RESUME or packet.epoch != self.epoch:
                raise ProtocolError("the answer to an Opening is its Accept")
            self._on_resumed(leg, packet)
            return
        if not isinstance(packet, Opening) or packet.kind is not OpeningKind.OPEN:
            raise ProtocolError("a data stream begins with an Opening")
        self._endpoint.arm(self, None)
        self.connection_uid = packet.connection_uid
        self.secret = packet.resume_secret
        self.peer = packet.peer
        self.instance_id = packet.instance_id
        self._report(self, Requested())

    def accept(self) -> None:
        """Say yes: it is Connected now (D-16).

        :raises ConnectionAborted: it has ended meanwhile.
        :raises LocalProtocolError: it was answered before.
        """
        if isinstance(self.error, ConnectionAborted):
            raise self.error
        self._machine.fire(ConnectionEvent.ESTABLISHED)
        assert self._leg is not None
        self._send_head(Accept(OpeningKind.OPEN, epoch=self.epoch))
        self._opened(self._leg)

    def reject(self, code: int, reason: str) -> None:
        """Say no; ``code`` and ``reason`` reach the consumer. Nothing happens if it has ended meanwhile.

        :raises LocalProtocolError: it was accepted.
        """
        if self.state is ConnectionState.DISCONNECTED:
            return
        if self.state is not ConnectionState.CONNECTING:
            raise LocalProtocolError("an accepted connection can't be rejected")
        self._machine.fire(ConnectionEvent.REFUSED)
        self.error = ConnectionRejected(code, reason)
        self._finished = True
        self._send_head(Accept(OpeningKind.OPEN, code, reason))
        if self._leg is not None and self._leg.sends_head:
            self._leg.reset(code)
        # No stop: it could overtake the Accept. The hub ends its half when it has read it.
        self._end(None)

    def accept_invite(self, session: SessionStreams[Connection], invite: ResumeInvite, instance_id: str) -> None:
        """Go on at ``session``, in a leg of a higher epoch; the leg that there is, is left."""
        self.leave(Code.LEFT, "invited to another leg")
        self._resume_at(session, invite.epoch)
        session.send(self.resume_request(self.epoch, instance_id=instance_id))
