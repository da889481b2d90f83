"""The endpoint for programs (R-1.2), on asyncio: sessions that come back by themselves, connections, requests.

Everything that decides is sans-I/O in :mod:`spnhub.transport.endpoint.session` and
:mod:`spnhub.transport.endpoint.connection`; here are the clock, the tasks and asyncio's streams. Counterparts:
:mod:`spnhub.transport.endpoint.config` reads the arguments, :mod:`spnhub.transport.endpoint.adapter` makes the streams,
:mod:`spnhub.transport.udp` has the sockets.
"""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

from spnhub.actors.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.adapter import open_pair
from spnhub.transport.endpoint.config import EndpointConfig, Pem, Runtime, read_config
from spnhub.transport.endpoint.connection import ConsumerConnection, ProviderConnection
from spnhub.transport.endpoint.session import Session
from spnhub.transport.endpoint.states import SessionEvent, SessionState, session_machine
from spnhub.transport.endpoint.stream import Stream
from spnhub.transport.engine import ClientPolicy, EngineEvent, Limits
from spnhub.transport.errors import (
    ConnectionAborted,
    ConnectionRefused,
    EndpointClosed,
    HandshakeRejected,
    HubUnreachable,
    SessionLost,
    SessionRefused,
    SpnError,
)
from spnhub.transport.protocol import ALPN

__all__ = [
    "ConnectionRequest",
    "ConsumerEndpoint",
    "ProviderEndpoint",
    "create_consumer_endpoint",
    "create_provider_endpoint",
]

CONNECT_TIMEOUT: Final = 30.0
"""Seconds that :meth:`ConsumerEndpoint.connect` takes at most, waiting for a session included."""
DRAIN_TIMEOUT: Final = 10.0
"""Seconds that an endpoint's close leaves to open connections."""
FLUSH_BOUND: Final = 1.0
"""Seconds that the acknowledgement of the last packets may take."""
PENDING_LIMIT: Final = 1024
"""Requests that wait for :meth:`ProviderEndpoint.listen`; beyond it they are rejected with ``Code.LIMIT``."""
BACKOFF_BASE: Final = 0.5
BACKOFF_CAP: Final = 30.0
STABLE_AFTER: Final = 30.0
"""A session that was up for this many seconds makes the next backoff begin anew."""

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Endpoint:
    """What both roles have in common. Made by the ``create_`` functions only; use it in the loop that made it."""

    def __init__(self, config: EndpointConfig, runtime: Runtime) -> None:
        self._config = config
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self._engine, self._udp = runtime.build(config.limits, self._on_events)
        self._machine = session_machine()
        self._session: Session | None = None
        self._ended: asyncio.Future[SpnError] | None = None
        """Of the current session."""
        self._changed = asyncio.Event()
        """Set, and replaced, when the state or the number of connections changes."""
        self._established: asyncio.Future[None] = self._loop.create_future()
        """Of the first session: what the ``create_`` functions wait for."""
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._draining = 0
        """Connections that were left when last somebody was told."""
        self._failure: SpnError | None = None
        self._keeper = self._loop.create_task(self._keep())
        self._keeper.add_done_callback(self._on_keeper_done)

    # --------------------------------------------------------------------------------------------------- for programs

    @property
    def state(self) -> SessionState:
        """R-2.6."""
        return self._machine.state

    @property
    def session_id(self) -> str:
        """spnSessionId of the current or last session (D-2)."""
        return self._session.spn_session_id if self._session is not None else ""

    @property
    def hub_id(self) -> str:
        """The hub process that has the current or last session."""
        return self._session.hub_id if self._session is not None else ""

    @property
    def connections(self) -> int:
        """Connections that have not ended, those included whose last packets are still on their way."""
        return self._session.connections if self._session is not None else 0

    async def wait_ended(self) -> SpnError | None:
        """Wait until the current session is over; why, or None if this endpoint was closed."""
        if self._ended is not None:
            error = await asyncio.shield(self._ended)
            return None if isinstance(error, EndpointClosed) else error
        return self._failure

    async def wait_closed(self) -> None:
        """Wait until the endpoint is Closed, or has Failed for good.

        :raises SpnError: why it has failed.
        """
        while self.state not in (SessionState.CLOSED, SessionState.FAILED):
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    async def aclose(self, drain_timeout: float = DRAIN_TIMEOUT) -> None:
        """End in order: no new connections, time for the open ones to end, then the session.

        :param drain_timeout: seconds; what is still open then is aborted.
        """
        if not self._closed:
            self._closed = True
            if self.state is not SessionState.FAILED:
                self._fire(SessionEvent.SHUTDOWN_SIGNAL)
            self._on_closing()
            await self._drain(drain_timeout)
            self._keeper.cancel()
            await asyncio.wait([self._keeper])
            if self._session is not None:
                await self._flush(self._session)
                self._session.close(Code.OK, "shutdown")
                self._turn()
            if self.state is SessionState.CLOSING:
                self._fire(SessionEvent.EMPTY)
            if self._timer is not None:
                self._timer.cancel()
            await self._udp.close()
            self._notify()
        else:
            while self.state not in (SessionState.CLOSED, SessionState.FAILED):
                await self._changed.wait()

    async def close(self) -> None:
        """End at once; open connections are aborted."""
        await self.aclose(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(DRAIN_TIMEOUT if error is None else 0)

    # --------------------------------------------------------------------------------------------------- the session

    async def _keep(self) -> None:
        """A session, and the next when it is lost, until closed or failed."""
        attempt = 0
        try:
            while True:
                self._fire(SessionEvent.RETRY if self.state is SessionState.WAITING else SessionEvent.CONNECT)
                began = self._loop.time()
                try:
                    await self._connect()
                except SpnError as exc:
                    error = exc
                    if not self._established.done() and not self._config.wait_for_hub:
                        raise
                else:
                    began = self._loop.time()
                    if not self._established.done():
                        self._established.set_result(None)
                    assert self._ended is not None
                    error = await asyncio.shield(self._ended)
                if self._closed:
                    if self.state is SessionState.CLOSING:
                        self._fire(SessionEvent.LOST)
                    return
                if self._loop.time() - began > STABLE_AFTER:
                    attempt = 0
                attempt = self._next_attempt(error, attempt)
                delay = min(BACKOFF_CAP, BACKOFF_BASE * 2.0 ** min(attempt - 1, 16))
                # Full jitter: a restarted hub meets all its endpoints at once (D-33).
                await asyncio.sleep(self._runtime.random() * delay)
        except SpnError as exc:
            self._fail(exc)

    def _on_keeper_done(self, task: asyncio.Task[None]) -> None:
        """A fault of ours in the task must neither be lost nor leave anybody waiting."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "the session's task failed", "exception": fault})
            error = EndpointClosed(f"the endpoint failed: {fault!r}")
            error.__cause__ = fault
            self._fail(error)

    def _next_attempt(self, error: SpnError, attempt: int) -> int:
        """Number of the next attempt.

        :raises SpnError: ``error``, if there shall be none.
        """
        connecting = self.state is SessionState.SESSION_CONNECTING
        if not error.retryable:
            raise error
        attempt += 1
        retries = self._config.retries
        if retries is not None and attempt > retries:
            if not connecting:
                self._fire(SessionEvent.LOST)
            raise error
        if not connecting:
            self._fire(SessionEvent.LOST)
        elif isinstance(error, SessionRefused):
            no_provider = error.code == Code.NO_PROVIDER
            self._fire(SessionEvent.PROVIDER_NOT_FOUND if no_provider else SessionEvent.REFUSED)
        else:
            self._fire(SessionEvent.CONNECT_FAILED)
        return attempt

    def _fail(self, error: SpnError) -> None:
        self._failure = error
        if self.state in (SessionState.SESSION_CONNECTING, SessionState.ESTABLISHED) and not error.retryable:
            self._fire(SessionEvent.REFUSED_FOR_GOOD)
        elif self.state is SessionState.ESTABLISHED:
            self._fire(SessionEvent.LOST)
        if self.state in (SessionState.SESSION_CONNECTING, SessionState.WAITING):
            self._fire(SessionEvent.RETRIES_EXCEEDED)
        if not self._established.done():
            self._established.set_exception(error)
        self._on_closing()
        self._notify()

    async def _connect(self) -> None:
        """A session with the first address that gives one.

        :raises SpnError: why none does; a refusal says more than silence.
        """
        config = self._config
        worst: SpnError | None = None
        for address in await self._runtime.resolve(config.host, config.port):
            try:
                await self._connect_to(address)
            except SpnError as exc:
                if worst is None or isinstance(exc, (SessionRefused, HandshakeRejected)):
                    worst = exc
            else:
                return
        raise worst or HubUnreachable(f"{config.host} has no address")

    async def _connect_to(self, remote: tuple[str, int]) -> None:
        config = self._config
        policy = ClientPolicy(config.host, (ALPN,), config.certificate, config.certificate_key, config.trust)
        try:
            address = await self._udp.open_client_socket(remote)
        except OSError as exc:
            raise HubUnreachable(f"{remote[0]} port {remote[1]}: {exc}") from exc
        try:
            c = self._engine.connect(address, policy, self._udp.now())
        except ValueError as exc:
            self._udp.release(address)
            raise config.unusable(str(exc)) from exc
        session = Session(self._engine, c, config.request(), self, now=self._udp.now, wake=self._wake)
        self._session = session
        self._ended = ended = self._loop.create_future()
        ended.add_done_callback(lambda _: self._loop.call_later(1.0, self._udp.release, address))
        self._wake()
        up = self._wait_established(session)
        try:
            await up
        except asyncio.CancelledError:
            session.close(Code.OK, "shutdown")
            raise

    async def _wait_established(self, session: Session) -> None:
        assert self._ended is not None
        while not session.established:
            if self._ended.done():
                raise self._ended.result()
            await self._changed.wait()

    # --------------------------------------------------------------------------------------- SessionListener and loop

    def on_established(self, session: Session) -> None:
        """See :class:`SessionListener`."""
        if session is self._session and self.state is SessionState.SESSION_CONNECTING:
            self._fire(SessionEvent.ESTABLISHED)

    def on_ended(self, session: Session, error: SpnError) -> None:
        """See :class:`SessionListener`."""
        if session is self._session and self._ended is not None and not self._ended.done():
            self._ended.set_result(error)
            self._notify()

    def on_request(self, connection: ProviderConnection) -> None:
        """See :class:`SessionListener`; consumers are never asked."""
        connection.reject(Code.PROTOCOL, "a consumer takes no connections")

    def _on_closing(self) -> None:
        """No new connections from now on."""

    def _fire(self, event: SessionEvent) -> None:
        self._machine.fire(event)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _drain(self, timeout: float) -> None:
        if self._session is None or not self._session.established or timeout <= 0:
            return
        end = self._loop.time() + timeout
        while self.connections and not (self._ended is not None and self._ended.done()):
            left = end - self._loop.time()
            if left <= 0:
                return
            waiter = self._loop.create_task(self._changed.wait())
            try:
                await asyncio.wait([waiter], timeout=left)
            finally:
                waiter.cancel()

    async def _flush(self, session: Session) -> None:
        """Leave the last packets (a CloseAck) time to arrive: a QUIC connection that is closed repeats nothing."""
        end = self._loop.time() + FLUSH_BOUND
        self._turn()
        await asyncio.sleep(0)
        while session.established and self._loop.time() < end:
            info = self._engine.info(session.c)
            if info is None or info.bytes_in_flight == 0:
                return
            await asyncio.sleep(max(info.rtt / 2, 0.002))

    def _on_events(self, events: list[EngineEvent]) -> None:
        session = self._session
        if session is not None:
            for event in events:
                if getattr(event, "c", None) == session.c:
                    session.handle(event)
            self._run(session)

    def _wake(self) -> None:
        if not self._scheduled and not self._loop.is_closed():
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._session is not None:
            self._session.handle_timer(self._udp.now())
            self._run(self._session)
        self._udp.flush()

    def _run(self, session: Session) -> None:
        session.run_calls()
        if self._closed and self._draining != session.connections:
            self._draining = session.connections
            self._notify()
        when = session.timer()
        if self._timer is not None and (when is None or self._timer.when() != when):
            self._timer.cancel()
            self._timer = None
        if when is not None and self._timer is None:
            self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn()

    async def _start(self) -> None:
        try:
            await asyncio.shield(self._established)
        except SpnError:
            await self.close()
            raise
        except asyncio.CancelledError:
            self._established.cancel()
            await self.close()
            raise


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


class ConnectionRequest:
    """A consumer wants a connection: accept or reject it. Until then not a byte of it is read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: ProviderConnection) -> None:
        self._loop = loop
        self._connection = connection

    @property
    def connection_uid(self) -> bytes:
        """The conversation's public id, 16 bytes."""
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
        return open_pair(self._loop, self._connection, limit)

    async def accept_stream(self) -> Stream:
        """The same, as the :class:`Stream` that :meth:`accept` is built on."""
        self._connection.accept()
        return self._connection

    async def reject(self, code: int = Code.CONNECT_FAILED, reason: str = "") -> None:
        """Refuse it; ``code`` and ``reason`` reach the consumer."""
        self._connection.reject(code, reason)


class ProviderEndpoint(Endpoint):
    """Provides a service."""

    def __init__(self, config: EndpointConfig, runtime: Runtime) -> None:
        super().__init__(config, runtime)
        self._pending: deque[ProviderConnection] = deque()

    async def listen(self) -> ConnectionRequest:
        """The next request, also from sessions that come after a lost one.

        :raises EndpointClosed: the endpoint was closed, or has failed for good.
        """
        while True:
            while self._pending:
                connection = self._pending.popleft()
                if connection.error is None:
                    return ConnectionRequest(self._loop, connection)
            if self._closed or self.state is SessionState.FAILED:
                raise EndpointClosed("the endpoint is closed") from self._failure
            await self._changed.wait()

    def on_request(self, connection: ProviderConnection) -> None:
        """See :class:`SessionListener`."""
        if self._closed:
            connection.reject(Code.SHUTDOWN, "the provider is being stopped")
        elif len(self._pending) >= PENDING_LIMIT:
            connection.reject(Code.LIMIT, f"{PENDING_LIMIT} requests wait at the provider already")
        else:
            self._pending.append(connection)
            self._notify()

    def _on_closing(self) -> None:
        while self._pending:
            self._pending.popleft().reject(Code.SHUTDOWN, "the provider is being stopped")


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
