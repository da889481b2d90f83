"""The providing endpoint for programs: requests, the weight, and the way out that cuts nothing (R-5.3, R-5.4).

Counterparts: :mod:`spnhub.transport.endpoint.api.endpoint` has the session,
:mod:`spnhub.transport.endpoint.api.consumer` makes it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.transport.endpoint.api.asyncio_adapter import open_pair, open_protocol
from spnhub.transport.endpoint.api.config import EndpointConfig, Runtime, check_weight
from spnhub.transport.endpoint.api.endpoint import Endpoint, Observers, Pair
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.stream import Stream
from spnhub.transport.endpoint.session.credentials import Credentials
from spnhub.transport.errors import EndpointClosed

__all__ = ["LATE_BOUND", "PENDING_LIMIT", "ConnectionRequest", "ProviderEndpoint"]

PENDING_LIMIT: Final = 4096
"""Requests that wait for :meth:`ProviderEndpoint.listen`; beyond it they are rejected with ``Code.LIMIT``."""
LATE_BOUND: Final = 1.0
"""Seconds that a request waits for :meth:`ProviderEndpoint.listen` while the endpoint is being closed."""

_STOPPING: Final = "the provider is being stopped"


class ConnectionRequest:
    """A consumer wants a connection: accept or reject it. Until then not a byte of it is read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection, service_urn: str) -> None:
        self._loop = loop
        self._connection = connection
        self._service_urn = service_urn

    @property
    def connection_uid(self) -> str:
        """The conversation's public id: 16 bytes as 32 hexadecimal digits."""
        return self._connection.connection_uid

    @property
    def peer(self) -> str:
        """Verified Subject of the consumer's certificate, RFC 4514, as the hub states it."""
        return self._connection.peer

    async def accept(self, *, limit: int = 65536) -> Pair:
        """Take it.

        :param limit: see :class:`asyncio.StreamReader`.
        :raises ConnectionAborted: it has ended meanwhile.
        """
        self._connection.accept()
        return open_pair(self._loop, self._connection, limit, self._service_urn)

    async def accept_protocol(self, protocol: asyncio.BaseProtocol) -> asyncio.Transport:
        """The same, with a protocol of the program's own in place of streams: what asyncio's servers are made of.

        :raises ConnectionAborted: it has ended meanwhile.
        """
        self._connection.accept()
        return open_protocol(self._loop, self._connection, protocol, self._service_urn)

    async def accept_stream(self) -> Stream:
        """The same, as the :class:`Stream` that :meth:`accept` is built on."""
        self._connection.accept()
        return self._connection

    async def reject(self, code: int = Code.CONNECT_FAILED, reason: str = "") -> None:
        """Refuse it; ``code`` and ``reason`` reach the consumer if no other provider takes it.

        CONNECT_FAILED, LIMIT and the like mean that this provider can't take any now: the hub offers the connection to
        the next one, and passes this one over for a while. To refuse this consumer on behalf of all providers, use
        ``Code.NOT_ALLOWED`` or a number of your own above 255.

        :raises ConfigurationError: the code isn't within 0 and 2^62 - 1.
        """
        self._connection.reject(code, reason)


class ProviderEndpoint(Endpoint):
    """Provides a service."""

    def __init__(
        self, config: EndpointConfig, runtime: Runtime, observers: Observers, credentials: Credentials
    ) -> None:
        super().__init__(config, runtime, observers, credentials)
        self._pending: deque[Connection] = deque()

    @property
    def weight(self) -> int:
        """Its share of new connections (R-5.3)."""
        return self._core.weight

    async def set_weight(self, weight: int, reason: str = "") -> None:
        """Set the share of new connections (R-5.3): at every hub now, and in every session that comes.

        Returns when it is on its way. With 0 no new connections come, but for the few that were on their way, too;
        :meth:`wait_all_connections_closed` waits for the rest.

        :param weight: 0 to 1,000,000.
        :param reason: why, for the hubs' logs; a hub of an earlier version doesn't hear it.
        :raises ConfigurationError: it isn't, or the hub speaks sc01 and it is neither 0 nor 100.
        :raises EndpointClosed: the endpoint was closed, or has failed for good.
        """
        check_weight(weight, self._config.options.protocol)
        self._check_open()
        self._core.set_weight(weight, reason)

    async def wait_all_connections_closed(self) -> None:
        """After ``set_weight(0)``: wait until every hub says that all connections are closed and none will come.

        What has arrived before may still be there to read. While there is no session, it waits for the next; one
        that begins with weight 0 has no connections (R-5.4). Connections that wait to be resumed are waited for, too.

        :raises EndpointClosed: the endpoint was closed, or has failed for good.
        """
        while not self._core.all_connections_closed:
            if self._finished or self._core.failed is not None:
                raise EndpointClosed("the endpoint is closed") from self._core.failed
            await self._changed.wait()

    async def listen(self) -> ConnectionRequest:
        """The next request, in whichever session it comes.

        While :meth:`aclose` waits for open connections, the requests that were on their way still come; then:

        :raises EndpointClosed: the endpoint was closed, or has failed for good.
        """
        while True:
            while self._pending:
                connection = self._pending.popleft()
                if connection.error is None:
                    return ConnectionRequest(self._loop, connection, self._config.service_urn)
            if self._drained or self._core.failed is not None:
                raise EndpointClosed("the endpoint is closed") from self._core.failed
            await self._changed.wait()

    # -------------------------------------------------------------------------------------------------------- the core

    def on_request(self, connection: Connection) -> None:
        """See :class:`CoreListener`."""
        if self._drained:
            connection.reject(Code.SHUTDOWN, _STOPPING)
        elif len(self._pending) >= PENDING_LIMIT:
            connection.reject(Code.LIMIT, f"{PENDING_LIMIT} requests wait at the provider already")
        else:
            self._pending.append(connection)
            self._notify()
            if self._closed:
                self._bound(connection)

    # -------------------------------------------------------------------------------------------------------- the end

    def _begin_drain(self) -> None:
        if self._core.weight:
            self._core.set_weight(0)
        for connection in self._pending:
            self._bound(connection)

    def _is_drained(self) -> bool:
        return super()._is_drained() and (self._core.all_connections_closed or not self._core.established)

    def _bound(self, connection: Connection) -> None:
        """Refuse it if the program has stopped listening, so that the hub can offer it to another provider in time."""
        self._loop.call_later(LATE_BOUND, self._reject_late, connection)

    def _reject_late(self, connection: Connection) -> None:
        if connection in self._pending:
            self._pending.remove(connection)
            connection.reject(Code.SHUTDOWN, _STOPPING)

    def _on_closing(self) -> None:
        while self._pending:
            self._pending.popleft().reject(Code.SHUTDOWN, _STOPPING)
