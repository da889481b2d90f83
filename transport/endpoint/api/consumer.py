"""The endpoint for programs (R-1.2): how one is made, and the consuming one.

Counterparts: :mod:`spnhub.transport.endpoint.api.endpoint` has the session,
:mod:`spnhub.transport.endpoint.api.provider` the other role, :mod:`spnhub.transport.endpoint.api.config` reads the
arguments, :mod:`spnhub.transport.endpoint.api.asyncio_adapter` makes the streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar, Unpack

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.asyncio_adapter import open_pair, open_protocol
from spnhub.transport.endpoint.api.config import EndpointConfig, Runtime, read_config
from spnhub.transport.endpoint.api.endpoint import Endpoint, Observers, Pair
from spnhub.transport.endpoint.api.notes import Notes
from spnhub.transport.endpoint.api.provider import ConnectionRequest, ProviderEndpoint
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.stream import Stream
from spnhub.transport.endpoint.core.listener import ConnectionChange
from spnhub.transport.endpoint.options import EndpointKeywords, EndpointOptions, endpoint_options
from spnhub.transport.endpoint.session.credentials import CredentialsChange, Pem
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.session import CONNECT_BOUND
from spnhub.transport.errors import SessionLost, SpnError

__all__ = [
    "ConnectionChange",
    "ConnectionRequest",
    "ConsumerEndpoint",
    "CredentialsChange",
    "Pair",
    "ProviderEndpoint",
    "SessionChange",
    "create_consumer_endpoint",
    "create_provider_endpoint",
]

E = TypeVar("E", bound=Endpoint)

CONNECT_TIMEOUT: Final = CONNECT_BOUND
"""Seconds that :meth:`ConsumerEndpoint.connect` takes at most, waiting for a session included."""


class ConsumerEndpoint(Endpoint):
    """Uses a service."""

    async def connect(self, *, timeout: float = CONNECT_TIMEOUT, limit: int = 65536) -> Pair:
        """A connection to a provider of the service, through any hub that gives one.

        :param timeout: seconds at most, the wait for a session included.
        :param limit: see :class:`asyncio.StreamReader`.
        :raises ConnectionRejected: the hubs or the provider refused it.
        :raises ConnectionAborted: it ended before it was established.
        :raises SessionLost: there is no session in time.
        :raises EndpointClosed: the endpoint was closed, or has failed for good.
        """
        return open_pair(self._loop, await self._connect(timeout), limit, self._config.service_urn)

    async def connect_protocol(
        self, protocol: asyncio.BaseProtocol, *, timeout: float = CONNECT_TIMEOUT
    ) -> asyncio.Transport:
        """The same, with a protocol of the program's own in place of streams; see :meth:`connect`."""
        return open_protocol(self._loop, await self._connect(timeout), protocol, self._config.service_urn)

    async def _connect(self, timeout: float) -> Connection:
        end = self._loop.time() + timeout
        while True:
            try:
                async with asyncio.timeout_at(end):
                    await self.wait_established()
            except TimeoutError:
                raise SessionLost(f"no session to {self._config.host} in time") from None
            try:
                return await self._open(max(0.0, end - self._loop.time()))
            except SessionLost:
                # Nothing was there to try: it was lost just now.
                if self._loop.time() >= end:
                    raise

    async def connect_stream(self, *, timeout: float = CONNECT_TIMEOUT) -> Stream:
        """The same, as the :class:`Stream` that :meth:`connect` is built on. Cancelled: it is aborted.

        :raises SessionLost: no session is up, and none is about to be; at once (see :meth:`wait_established`).
        """
        self._check_open()
        return await self._open(timeout)

    async def _open(self, timeout: float) -> Connection:
        done: asyncio.Future[Connection] = self._loop.create_future()

        def on_connected(connection: Connection) -> None:
            if done.done():
                connection.abort(Code.PEER_RESET)
            else:
                done.set_result(connection)

        def on_failed(error: SpnError) -> None:
            if not done.done():
                done.set_exception(error)

        attempt = self._core.open(on_connected, on_failed, timeout)
        try:
            return await done
        except asyncio.CancelledError:
            attempt.cancel(Code.PEER_RESET)
            raise


async def _started(kind: type[E], config: EndpointConfig, runtime: Runtime, observers: Observers) -> E:
    """Read the files, make the endpoint, wait for its first session."""
    endpoint = kind(config, runtime, observers, await config.source.first())
    await endpoint._start()
    return endpoint


async def create_consumer_endpoint(
    hub_url: str,
    service_urn: str,
    certificate: Pem,
    certificate_key: Pem,
    trust: Pem | None = None,
    *,
    options: EndpointOptions | None = None,
    on_session: Callable[[SessionChange], None] | None = None,
    on_connection: Callable[[ConnectionChange], None] | None = None,
    on_credentials: Callable[[CredentialsChange], None] | None = None,
    runtime: Runtime | None = None,
    **keywords: Unpack[EndpointKeywords],
) -> ConsumerEndpoint:
    """A consumer of ``service_urn``, with a first session established (D-19). It has one with every hub (R-3.2).

    :param hub_url: ``https://fqdn:port``; the port may be left out (443). An address instead of a name can't be used.
    :param certificate: PEM, the chain of the client certificate, leaf first: text, bytes, or a path. Files are read
        anew before each handshake and every ``credentials_interval``; the sessions are renewed with what is there then,
        and connections go on in the new ones (D-38). What can't be used is reported, and the last that could stays in
        use.
    :param certificate_key: PEM, likewise.
    :param trust: PEM, certificates that the hub's chain must end at, roots or not; None: the system's roots.
    :param options: how it behaves, see :class:`~spnhub.transport.endpoint.options.EndpointOptions`; None: the defaults.
    :param on_session: called with every change of a session's state. None, here and of the next two: the standard
        library's logger ``spnhub`` has what is of interest.
    :param on_connection: called when a connection is paused, resumed, or lost because it could not be resumed.
    :param on_credentials: called when files have other credentials, can't be used, or are about to expire.
    :param runtime: engine, sockets, names and randomness, for tests.
    :param keywords: single options, which win over ``options``: ``resume_timeout=10.0``.
    :raises ConfigurationError: an argument that can't be used.
    :raises HubUnreachable: the name has no address, or no hub answers.
    :raises HandshakeRejected: a certificate or the server name is not accepted, by the hub or by us.
    :raises SessionRejected: the hub refused the session, with code and reason.
    """
    runtime = runtime or Runtime()
    config = read_config(
        EndPointType.CONSUMER,
        hub_url,
        service_urn,
        certificate,
        certificate_key,
        trust,
        endpoint_options(options, keywords),
        names=runtime.names,
        judge=runtime.judge,
    )
    notes = Notes()
    observers = Observers(
        on_session or notes.on_session, on_connection or notes.on_connection, on_credentials or notes.on_credentials
    )
    return await _started(ConsumerEndpoint, config, runtime, observers)


async def create_provider_endpoint(
    hub_url: str,
    service_urn: str,
    certificate: Pem,
    certificate_key: Pem,
    trust: Pem | None = None,
    *,
    weight: int = 100,
    options: EndpointOptions | None = None,
    on_session: Callable[[SessionChange], None] | None = None,
    on_connection: Callable[[ConnectionChange], None] | None = None,
    on_credentials: Callable[[CredentialsChange], None] | None = None,
    runtime: Runtime | None = None,
    **keywords: Unpack[EndpointKeywords],
) -> ProviderEndpoint:
    """A provider of ``service_urn``, with a first session established (D-19). It has one with every hub (R-3.2).

    :param weight: its share of new connections (R-5.3), at least 0; the same at every hub.

    For the rest see :func:`create_consumer_endpoint`.
    """
    runtime = runtime or Runtime()
    config = read_config(
        EndPointType.PROVIDER,
        hub_url,
        service_urn,
        certificate,
        certificate_key,
        trust,
        endpoint_options(options, keywords),
        weight=weight,
        names=runtime.names,
        judge=runtime.judge,
    )
    notes = Notes()
    observers = Observers(
        on_session or notes.on_session, on_connection or notes.on_connection, on_credentials or notes.on_credentials
    )
    return await _started(ProviderEndpoint, config, runtime, observers)
