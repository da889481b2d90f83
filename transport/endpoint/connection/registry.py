"""The connections of an endpoint, whichever session has their leg."""

from __future__ import annotations

from collections.abc import Callable

from spnhub.transport.endpoint.connection.connection import ConnectCallbacks, Connection, Report
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.errors import ConnectionAborted, ConnectionRejected

__all__ = ["ConnectionRegistry"]


class ConnectionRegistry:
    """Makes connections, and knows those that have not ended by their id.

    :param report: called with what becomes of each; it keeps :attr:`by_uid` and :attr:`paused`.
    """

    def __init__(self, endpoint: EndpointContext, report: Report) -> None:
        self.by_uid: dict[str, Connection] = {}
        self.paused: dict[Connection, None] = {}
        """Those that wait to be resumed, or are being resumed."""
        self._endpoint = endpoint
        self._report = report

    def open(
        self,
        session: SessionStreams[Connection],
        on_connected: Callable[[], None],
        on_failed: Callable[[ConnectionAborted | ConnectionRejected], None],
        until: float,
    ) -> Connection:
        """A consumer's new connection, with an identity and a secret of its own (D-1)."""
        endpoint = self._endpoint
        uid, secret = endpoint.random_bytes(16).hex(), endpoint.random_bytes(16)
        connection = Connection(
            endpoint, session, self._report, ConnectCallbacks(on_connected, on_failed), uid, secret, until=until
        )
        self.by_uid[uid] = connection
        return connection

    def offered(self, session: SessionStreams[Connection], stream_id: int) -> Connection:
        """A provider's new connection, on a stream that the hub has opened."""
        connection = Connection(
            self._endpoint,
            session,
            self._report,
            None,
            stream_id=stream_id,
            until=self._endpoint.now() + session.header_bound,
        )
        session.by_stream[stream_id] = connection
        return connection

    def provider(self, uid: str) -> Connection | None:
        """The provider's connection of that id."""
        connection = self.by_uid.get(uid)
        return None if connection is None or connection.consumer else connection

    def forget(self, connection: Connection) -> None:
        """It has ended: its id is nobody's."""
        self.paused.pop(connection, None)
        if self.by_uid.get(connection.connection_uid) is connection:
            del self.by_uid[connection.connection_uid]
