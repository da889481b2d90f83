"""The endpoint for programs (R-1.2): how one is made, and the consuming one.

Counterparts: :mod:`spnhub.transport.endpoint.base` has the session, :mod:`spnhub.transport.endpoint.provider` the other
role, :mod:`spnhub.transport.endpoint.config` reads the arguments, :mod:`spnhub.transport.endpoint.adapter` makes the
streams.
"""

from __future__ import annotations

import asyncio
from typing import Final

from spnhub.actors.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.adapter import open_pair
from spnhub.transport.endpoint.base import Endpoint, Pair
from spnhub.transport.endpoint.config import Pem, Runtime, read_config
from spnhub.transport.endpoint.connection import ConsumerConnection
from spnhub.transport.endpoint.provider import ConnectionRequest, ProviderEndpoint
from spnhub.transport.endpoint.session import CONNECT_BOUND
from spnhub.transport.endpoint.states import SessionState
from spnhub.transport.endpoint.stream import Stream
from spnhub.transport.engine import Limits
from spnhub.transport.errors import ConnectionAborted, ConnectionRefused, EndpointClosed, SessionLost

__all__ = [
    "ConnectionRequest",
    "ConsumerEndpoint",
    "Pair",
    "ProviderEndpoint",
    "create_consumer_endpoint",
    "create_provider_endpoint",
]

CONNECT_TIMEOUT: Final = CONNECT_BOUND
"""Seconds that :meth:`ConsumerEndpoint.connect` takes at most, waiting for a session included."""


class ConsumerEndpoint(Endpoint):
    """Uses a service."""

    async def connect(self, *, timeout: float = CONNECT_TIMEOUT, limit: int = 65536) -> Pair:
        """A connection to a provider of the service.

        :param timeout: seconds at most, the wait for a lost session to come back included.
        :param limit: see :class:`asyncio.StreamReader`.
        :raises ConnectionRefused: the hub or the provider said no.
        :raises ConnectionAborted: it ended before it was established.
        :raises SessionLost: there is no session in time.
        :raises EndpointClosed: the endpoint was closed, or has failed for good.
        """
        return open_pair(self._loop, await self._open(timeout), limit)

    async def connect_stream(self, *, timeout: float = CONNECT_TIMEOUT) -> Stream:
        """The same, as the :class:`Stream` that :meth:`connect` is built on. Cancelled: it is aborted."""
        return await self._open(timeout)

    async def _open(self, timeout: float) -> ConsumerConnection:
        end = self._loop.time() + timeout
        await self._wait_for_session(end)
        assert self._session is not None
        done: asyncio.Future[None] = self._loop.create_future()

        def on_connected() -> None:
            if not done.done():
                done.set_result(None)

        def on_failed(error: ConnectionAborted | ConnectionRefused) -> None:
            if not done.done():
                done.set_exception(error)

        connection = self._session.open(on_connected, on_failed, timeout=max(0.0, end - self._loop.time()))
        try:
            await done
        except asyncio.CancelledError:
            connection.abort(Code.PEER_RESET)
            raise
        return connection

    async def _wait_for_session(self, end: float) -> None:
        while self._closed or self._session is None or not self._session.established:
            if self._closed or self.state is SessionState.FAILED:
                raise EndpointClosed("the endpoint is closed") from self._failure
            try:
                async with asyncio.timeout_at(end):
                    await self._changed.wait()
            except TimeoutError:
                raise SessionLost(f"no session to {self._config.host} in time") from None


async def create_consumer_endpoint(
    hub_url: str,
    service_urn: str,
    certificate: Pem,
    certificate_key: Pem,
    trust: Pem | None = None,
    *,
    instance_id: str | None = None,
    retries: int | None = None,
    wait_for_hub: bool = False,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
) -> ConsumerEndpoint:
    """A consumer of ``service_urn``, with its session established (D-19).

    :param hub_url: ``https://fqdn:port``; the port may be left out (443). An address instead of a name can't be used.
    :param certificate: PEM, the chain of the client certificate, leaf first: text, bytes, or a path.
    :param certificate_key: PEM, likewise.
    :param trust: PEM, the CA certificates that the hub's certificate must chain to; None: the system's roots.
    :param instance_id: which instance this is; stable over reconnects. None: random.
    :param retries: how often in a row a lost session is tried again before the endpoint has Failed; None: for ever.
    :param wait_for_hub: don't raise what a retry can help against, but retry the first session, too.
    :param limits: of the QUIC engine.
    :param runtime: engine, sockets, names and randomness, for tests.
    :raises ConfigurationError: an argument that can't be used.
    :raises HubUnreachable: no address, or nobody answers.
    :raises HandshakeRejected: a certificate or the server name is not accepted, by the hub or by us.
    :raises SessionRefused: the hub said no, with code and reason.
    """
    config = read_config(
        EndPointType.CONSUMER,
        hub_url,
        service_urn,
        certificate,
        certificate_key,
        trust,
        instance_id=instance_id,
        retries=retries,
        wait_for_hub=wait_for_hub,
        limits=limits,
    )
    endpoint = ConsumerEndpoint(config, runtime or Runtime())
    await endpoint._start()
    return endpoint


async def create_provider_endpoint(
    hub_url: str,
    service_urn: str,
    certificate: Pem,
    certificate_key: Pem,
    trust: Pem | None = None,
    *,
    weight: int = 100,
    instance_id: str | None = None,
    retries: int | None = None,
    wait_for_hub: bool = False,
    limits: Limits | None = None,
    runtime: Runtime | None = None,
) -> ProviderEndpoint:
    """A provider of ``service_urn``, with its session established (D-19).

    :param weight: its share of new connections (R-5.3), at least 0.

    For the rest see :func:`create_consumer_endpoint`.
    """
    config = read_config(
        EndPointType.PROVIDER,
        hub_url,
        service_urn,
        certificate,
        certificate_key,
        trust,
        weight=weight,
        instance_id=instance_id,
        retries=retries,
        wait_for_hub=wait_for_hub,
        limits=limits,
    )
    endpoint = ProviderEndpoint(config, runtime or Runtime())
    await endpoint._start()
    return endpoint
