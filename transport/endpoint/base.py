"""What both roles of an endpoint have in common, on asyncio: a session that comes back by itself, and its orderly end.

Everything that decides is sans-I/O in :mod:`spnhub.transport.endpoint.session` and
:mod:`spnhub.transport.endpoint.connection`; here are the clock and the tasks. Counterparts:
:mod:`spnhub.transport.endpoint.api` and :mod:`spnhub.transport.endpoint.provider` have the roles,
:mod:`spnhub.transport.endpoint.config` reads the arguments, :mod:`spnhub.transport.udp` has the sockets.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Final, Self

from spnhub.actors.codes import Code
from spnhub.transport.endpoint.config import EndpointConfig, Runtime
from spnhub.transport.endpoint.connection import ProviderConnection
from spnhub.transport.endpoint.session import Session
from spnhub.transport.endpoint.states import SessionEvent, SessionState, session_machine
from spnhub.transport.engine import ClientPolicy, EngineEvent
from spnhub.transport.errors import EndpointClosed, HandshakeRejected, HubUnreachable, SessionRefused, SpnError
from spnhub.transport.protocol import ALPN, SessionRequest

__all__ = ["DRAIN_TIMEOUT", "Endpoint", "Pair"]

DRAIN_TIMEOUT: Final = 10.0
"""Seconds that an endpoint's close leaves to open connections."""
FLUSH_BOUND: Final = 1.0
"""Seconds that the acknowledgement of the last packets may take."""
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
        self._drain_end = 0.0
        self._drained = False
        """Closed, and nobody is given more time."""
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

        A provider's weight becomes 0 first (R-5.4); what was on its way to it by then is still given to
        :meth:`ProviderEndpoint.listen`, and its session ends when the hub says that all connections are closed.

        :param drain_timeout: seconds; what is still open then is aborted, for both sides. A second call may shorten it.
        """
        end = self._loop.time() + drain_timeout
        if self._closed:
            self._drain_end = min(self._drain_end, end)
            self._notify()
            while self.state not in (SessionState.CLOSED, SessionState.FAILED):
                await self._changed.wait()
            return
        self._closed = True
        self._drain_end = end
        if self.state is not SessionState.FAILED:
            self._fire(SessionEvent.SHUTDOWN_SIGNAL)
        try:
            await self._drain()
        finally:
            await self._finish()

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
        session = Session(self._engine, c, self._request(), self, now=self._udp.now, wake=self._wake)
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

    def _request(self) -> SessionRequest:
        return self._config.request()

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

    def on_all_connections_closed(self, session: Session) -> None:
        """See :class:`SessionListener`."""
        if session is self._session:
            self._notify()

    def _on_closing(self) -> None:
        """No new connections from now on."""

    def _fire(self, event: SessionEvent) -> None:
        self._machine.fire(event)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _drain(self) -> None:
        """Wait until nothing is left, at most until ``_drain_end``."""
        if self._drain_end > self._loop.time() and self._session is not None and self._session.established:
            self._begin_drain(self._session)
        while self._session is not None and self._session.established and not self._is_drained(self._session):
            try:
                async with asyncio.timeout_at(self._drain_end):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _begin_drain(self, session: Session) -> None:
        """See to it that no new connections come; there is time for those that are open."""

    def _is_drained(self, session: Session) -> bool:
        return not session.connections

    async def _finish(self) -> None:
        self._drained = True
        self._on_closing()
        self._keeper.cancel()
        await asyncio.wait([self._keeper])
        if self._session is not None:
            self._session.cut_connections(Code.PEER_LOST, "the endpoint was closed")
            await self._flush(self._session)
            self._session.close(Code.OK, "shutdown")
            self._turn()
        if self.state is SessionState.CLOSING:
            self._fire(SessionEvent.EMPTY)
        if self._timer is not None:
            self._timer.cancel()
        await self._udp.close()
        self._notify()

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
