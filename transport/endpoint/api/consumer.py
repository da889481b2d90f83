"""The endpoint for programs (R-1.2): how one is made, and the consuming one.

Counterparts: :mod:`spnhub.transport.endpoint.api.endpoint` has the session,
:mod:`spnhub.transport.endpoint.api.provider` the other role, :mod:`spnhub.transport.endpoint.api.options` reads the
arguments, :mod:`spnhub.transport.endpoint.api.asyncio_adapter` makes the streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.asyncio_adapter import open_pair
from spnhub.transport.endpoint.api.endpoint import Endpoint, Observers, Pair
from spnhub.transport.endpoint.api.options import (
    CREDENTIALS_INTERVAL,
    ENDPOINT_LIMITS,
    RESOLVE_INTERVAL,
    EndpointConfig,
    Runtime,
    read_config,
)
from spnhub.transport.endpoint.api.provider import ConnectionRequest, ProviderEndpoint
from spnhub.transport.endpoint.connection.replay import REPLAY_MAX
from spnhub.transport.endpoint.connection.roles import ConsumerConnection
from spnhub.transport.endpoint.connection.stream import Stream
from spnhub.transport.endpoint.core.listener import RESUME_TIMEOUT, ConnectionChange
from spnhub.transport.endpoint.session.credentials import CredentialsChange, Pem
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.session import CONNECT_BOUND
from spnhub.transport.engine import Limits
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
        :raises ConnectionRefused: the hubs or the provider said no.
        :raises ConnectionAborted: it ended before it was established.
        :raises SessionLost: there is no session in time.
        :raises EndpointClosed: the endpoint was closed, or has failed for good.
        """
        end = self._loop.time() + timeout
        while True:
            try:
                async with asyncio.timeout_at(end):
                    await self.wait_established()
            except TimeoutError:
                raise SessionLost(f"no session to {self._config.host} in time") from None
            try:
                connection = await self._open(max(0.0, end - self._loop.time()))
            except SessionLost:
                # Nothing was there to try: it was lost just now.
                if self._loop.time() >= end:
                    raise
            else:
                return open_pair(self._loop, connection, limit)

    async def connect_stream(self, *, timeout: float = CONNECT_TIMEOUT) -> Stream:
        """The same, as the :class:`Stream` that :meth:`connect` is built on. Cancelled: it is aborted.

        :raises SessionLost: no session is up, and none is about to be; at once (see :meth:`wait_established`).
        """
        self._check_open()
        return await self._open(timeout)

    async def _open(self, timeout: float) -> ConsumerConnection:
        done: asyncio.Future[ConsumerConnection] = self._loop.create_future()

        def on_connected(connection: ConsumerConnection) -> None:
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
    instance_id: str | None = None,
    hub_addresses: Sequence[str] | None = None,
    resolver: str | None = None,
    resolve_interval: float = RESOLVE_INTERVAL,
    resume_timeout: float = RESUME_TIMEOUT,
    replay_buffer: int = REPLAY_MAX,
    replay_budget: int | None = None,
    retries: int | None = None,
    wait_for_hub: bool = False,
    idle_timeout: float = ENDPOINT_LIMITS.idle_timeout,
    keep_alive: float = ENDPOINT_LIMITS.keep_alive,
    suspect_after: float = ENDPOINT_LIMITS.suspect_after,
    probe_timeout: float = ENDPOINT_LIMITS.probe_timeout,
    limits: Limits = ENDPOINT_LIMITS,
    on_session: Callable[[SessionChange], None] | None = None,
    on_connection: Callable[[ConnectionChange], None] | None = None,
    on_credentials: Callable[[CredentialsChange], None] | None = None,
    credentials_interval: float = CREDENTIALS_INTERVAL,
    runtime: Runtime | None = None,
) -> ConsumerEndpoint:
    """A consumer of ``service_urn``, with a first session established (D-19). It has one with every hub (R-3.2).

    :param hub_url: ``https://fqdn:port``; the port may be left out (443). An address instead of a name can't be used.
    :param certificate: PEM, the chain of the client certificate, leaf first: text, bytes, or a path. Files are read
        anew before each handshake and every ``credentials_interval``; the sessions are renewed with what is there then,
        and connections go on in the new ones (D-38). What can't be used is told, and the last that could stays in use.
    :param certificate_key: PEM, likewise.
    :param trust: PEM, certificates that the hub's chain must end at, roots or not; None: the system's roots.
    :param instance_id: which instance this is; stable over reconnects. None: random.
    :param hub_addresses: the hubs' addresses, each ``IP``, ``IP:PORT`` or ``[V6]:PORT``; None: DNS is asked (D-32).
    :param resolver: the DNS server to ask, ``IP`` or ``IP:PORT``; None: the system's resolver.
    :param resolve_interval: seconds between two looks at DNS.
    :param resume_timeout: seconds after which a connection that could not be resumed is aborted.
    :param replay_buffer: bytes; what is kept of one connection until it is acknowledged may grow to this.
    :param replay_budget: bytes; what all connections may have together above 256 KiB each. None: 64 MiB, shared by all
        endpoints of the process that say None.
    :param retries: how often in a row a lost session is tried again before it has Failed; None: for ever.
    :param wait_for_hub: don't raise what a retry can help against, but retry the first session, too.
    :param idle_timeout: seconds; a hub that is silent for this long is lost. The shorter of both sides' holds.
    :param keep_alive: seconds of silence after which a PING is sent, below ``idle_timeout``; 0: never.
    :param suspect_after: seconds without an answer after which connections move to another hub, if there is one.
    :param probe_timeout: seconds; a hub whose port is closed is lost when it hasn't answered for this long.
    :param limits: sizes of the QUIC engine; its times are the four above.
    :param on_session: told of every change of a session's state.
    :param on_connection: told when a connection is paused, resumed, or lost because it could not be resumed.
    :param on_credentials: told when files have others, can't be used, or are about to expire.
    :param credentials_interval: seconds between two looks at the files.
    :param runtime: engine, sockets, names and randomness, for tests.
    :raises ConfigurationError: an argument that can't be used.
    :raises HubUnreachable: no address, or nobody answers.
    :raises HandshakeRejected: a certificate or the server name is not accepted, by the hub or by us.
    :raises SessionRefused: the hub said no, with code and reason.
    """
    runtime = runtime or Runtime()
    config = read_config(
        EndPointType.CONSUMER,
        hub_url,
        service_urn,
        certificate,
        certificate_key,
        trust,
        instance_id=instance_id,
        hub_addresses=hub_addresses,
        resolver=resolver,
        resolve_interval=resolve_interval,
        resume_timeout=resume_timeout,
        replay_buffer=replay_buffer,
        replay_budget=replay_budget,
        retries=retries,
        wait_for_hub=wait_for_hub,
        idle_timeout=idle_timeout,
        keep_alive=keep_alive,
        suspect_after=suspect_after,
        probe_timeout=probe_timeout,
        limits=limits,
        credentials_interval=credentials_interval,
        names=runtime.names,
        judge=runtime.judge,
    )
    observers = Observers(on_session, on_connection, on_credentials)
    return await _started(ConsumerEndpoint, config, runtime, observers)


async def create_provider_endpoint(
    hub_url: str,
    service_urn: str,
    certificate: Pem,
    certificate_key: Pem,
    trust: Pem | None = None,
    *,
    weight: int = 100,
    instance_id: str | None = None,
    hub_addresses: Sequence[str] | None = None,
    resolver: str | None = None,
    resolve_interval: float = RESOLVE_INTERVAL,
    resume_timeout: float = RESUME_TIMEOUT,
    replay_buffer: int = REPLAY_MAX,
    replay_budget: int | None = None,
    retries: int | None = None,
    wait_for_hub: bool = False,
    idle_timeout: float = ENDPOINT_LIMITS.idle_timeout,
    keep_alive: float = ENDPOINT_LIMITS.keep_alive,
    suspect_after: float = ENDPOINT_LIMITS.suspect_after,
    probe_timeout: float = ENDPOINT_LIMITS.probe_timeout,
    limits: Limits = ENDPOINT_LIMITS,
    on_session: Callable[[SessionChange], None] | None = None,
    on_connection: Callable[[ConnectionChange], None] | None = None,
    on_credentials: Callable[[CredentialsChange], None] | None = None,
    credentials_interval: float = CREDENTIALS_INTERVAL,
    runtime: Runtime | None = None,
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
        weight=weight,
        instance_id=instance_id,
        hub_addresses=hub_addresses,
        resolver=resolver,
        resolve_interval=resolve_interval,
        resume_timeout=resume_timeout,
        replay_buffer=replay_buffer,
        replay_budget=replay_budget,
        retries=retries,
        wait_for_hub=wait_for_hub,
        idle_timeout=idle_timeout,
        keep_alive=keep_alive,
        suspect_after=suspect_after,
        probe_timeout=probe_timeout,
        limits=limits,
        credentials_interval=credentials_interval,
        names=runtime.names,
        judge=runtime.judge,
    )
    observers = Observers(on_session, on_connection, on_credentials)
    return await _started(ProviderEndpoint, config, runtime, observers)
