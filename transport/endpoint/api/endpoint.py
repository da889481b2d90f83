"""What both roles of an endpoint have in common, on asyncio: clock, sockets, DNS, and the orderly end.

Everything that decides is sans-I/O in :mod:`spnhub.transport.endpoint.core.endpoint`. Counterparts:
:mod:`spnhub.transport.endpoint.api.consumer` and :mod:`spnhub.transport.endpoint.api.provider` have the roles,
:mod:`spnhub.transport.endpoint.api.config` reads the arguments, :mod:`spnhub.transport.udp` has the sockets,
:mod:`spnhub.transport.endpoint.session.addresses` looks the hubs up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

from spnhub.actors.contract.codes import Code
from spnhub.dataclass import dataclass
from spnhub.transport.endpoint.api.config import EndpointConfig, Runtime
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.core.endpoint import EndpointCore
from spnhub.transport.endpoint.core.listener import ConnectionChange
from spnhub.transport.endpoint.session.addresses import AddressBook, Addresses, IpAddress
from spnhub.transport.endpoint.session.credentials import Credentials, CredentialsChange, CredentialsWatch
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.session import Session
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.engine import Address, EngineEvent
from spnhub.transport.errors import EndpointClosed, HubUnreachable, SessionLost, SpnError
from spnhub.transport.faults import report_to_loop

__all__ = ["DRAIN_TIMEOUT", "Endpoint", "Observers", "Pair"]

DRAIN_TIMEOUT: Final = 10.0
"""Seconds that an endpoint's close leaves to open connections."""
FLUSH_BOUND: Final = 1.0
"""Seconds that the acknowledgement of the last packets may take."""
CLOSE_TIME: Final = 1.0
"""Seconds for which a close packet is repeated."""
LINGER_LIMIT: Final = 4
"""Sockets that stay open after their sessions, as long as a hub that hasn't heard of the end may send to them: it would
take a closed port as a sign that this process is gone (D-20)."""
LOOKUP_PAUSE: Final = 1.0
"""Seconds between two lookups at least, however many ask for one."""

Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Observers:
    """Functions that are called with what happens, from the loop, in order. For log lines."""

    on_session: Callable[[SessionChange], None] | None = None
    on_connection: Callable[[ConnectionChange], None] | None = None
    on_credentials: Callable[[CredentialsChange], None] | None = None


class Endpoint:
    """What both roles have in common. Made by the ``create_`` functions only; use it in the loop that made it.

    A :class:`~spnhub.transport.endpoint.core.listener.CoreListener`.
    """

    def __init__(
        self, config: EndpointConfig, runtime: Runtime, observers: Observers, credentials: Credentials
    ) -> None:
        """:raises ConfigurationError: the resolver can't be asked for the hub's name."""
        self._config = config
        self._runtime = runtime
        self._observers = observers
        self._loop = asyncio.get_running_loop()
        self._addresses = Addresses(
            config.host, config.port, static=config.options.hub_addresses, resolver=config.options.resolver
        )
        self._engine, self._udp = runtime.build(config.options, self._on_events)
        self._core = EndpointCore(
            self._engine, config.core_settings(credentials), self, clock=self._udp.now, random=runtime.random
        )
        self._credentials = CredentialsWatch(config.source, credentials, self._renew, self._on_credentials)
        self._changed = asyncio.Event()
        """Set, and replaced, when something that is waited for may be so."""
        self._scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._finished = False
        self._drain_end = 0.0
        self._drained = False
        """Closed, without more time for anything."""
        self._last: Session | None = None
        self._last_error: SpnError | None = None
        """Why the last session that was lost was lost."""
        self._check = asyncio.Event()
        """A lookup is wanted before its time."""
        self._lingering: dict[Address, asyncio.TimerHandle] = {}
        """Sockets of sessions that are over, oldest first, and when they are closed."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(self._watch_addresses())
        self._spawn(self._watch_credentials())

    # --------------------------------------------------------------------------------------------------- for programs

    @property
    def state(self) -> SessionState:
        """R-2.6, of whichever session is most alive."""
        if self._core.failed is not None:
            return SessionState.FAILED
        if self._closed:
            return SessionState.CLOSED if self._finished else SessionState.CLOSING
        return self._core.state

    @property
    def session_id(self) -> str:
        """spnSessionId of the oldest session that is up, or of the last that was (D-2)."""
        return self._current.spn_session_id if self._current is not None else ""

    @property
    def hub_id(self) -> str:
        """The hub process that has that session."""
        return self._current.hub_id if self._current is not None else ""

    @property
    def sessions(self) -> dict[IpAddress, SessionState]:
        """The hub's addresses and the state of the session with each."""
        return {target.remote: target.state for target in self._core.targets()}

    @property
    def certificate_end(self) -> datetime | None:
        """Until when all is valid that is presented now; None: not known."""
        return self._credentials.current.end

    @property
    def certificate_subject(self) -> str:
        """Of the certificate that is presented now, RFC 4514."""
        return self._credentials.current.subject

    @property
    def connections(self) -> int:
        """Connections that have not ended, those included whose last packets are still on their way."""
        return self._core.connections

    @property
    def core(self) -> EndpointCore:
        """The part without sockets and clocks, to look at; no program needs it.

        :meta private:
        """
        return self._core

    @property
    def paused(self) -> int:
        """Connections that wait to be resumed."""
        return self._core.paused

    async def wait_established(self) -> None:
        """Wait until a session is up that takes new connections.

        :raises EndpointClosed: the endpoint was closed, or has failed for good.
        """
        while self._closed or not self._core.takes_new:
            self._check_open()
            await self._changed.wait()

    async def wait_ended(self) -> SpnError | None:
        """Wait until no session is up; why the last was lost, or None if this endpoint was closed."""
        while self._core.established:
            await self._changed.wait()
        if self._closed:
            return None
        return self._core.failed or self._last_error

    async def wait_closed(self) -> None:
        """Wait until the endpoint is Closed, or has Failed for good.

        :raises SpnError: why it has failed.
        """
        while not self._finished and self._core.failed is None:
            await self._changed.wait()
        if self._core.failed is not None:
            raise self._core.failed

    async def aclose(self, drain_timeout: float = DRAIN_TIMEOUT) -> None:
        """End in order: no new connections, time for the open ones to end (and to be resumed), then the sessions.

        A provider's weight becomes 0 first (R-5.4); what was on its way to it by then is still given to
        :meth:`ProviderEndpoint.listen`, and its sessions end when every hub says that all connections are closed.

        :param drain_timeout: seconds; what is still open then is aborted, for both sides. A second call may shorten it.
        """
        end = self._loop.time() + drain_timeout
        if self._closed:
            self._drain_end = min(self._drain_end, end)
            self._notify()
            while not self._finished:
                await self._changed.wait()
            return
        self._closed = True
        self._drain_end = end
        try:
            if drain_timeout > 0:
                self._begin_drain()
            self._core.close()
            self._notify()
            await self._drain()
        finally:
            await self._finish()

    async def renew(self) -> None:
        """Read certificate, key and trust anew now, and look the hubs up.

        If something else is there, sessions are replaced by ones with it, and their connections go on in those. That
        happens by itself, too, at every ``credentials_interval``.
        """
        self._check.set()
        await self._credentials.refresh()

    async def close(self) -> None:
        """End at once; open connections are aborted."""
        await self.aclose(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(DRAIN_TIMEOUT if error is None else 0)

    # --------------------------------------------------------------------------------------------------------- the end

    async def _drain(self) -> None:
        """Wait until nothing is left, at most until ``_drain_end``."""
        while self._core.failed is None and not self._is_drained():
            try:
                async with asyncio.timeout_at(self._drain_end):
                    await self._changed.wait()
            except TimeoutError:
                return

    def _begin_drain(self) -> None:
        """See to it that no new connections come; there is time for those that are open."""

    def _is_drained(self) -> bool:
        return not self._core.connections

    async def _finish(self) -> None:
        self._drained = True
        self._on_closing()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._core.cut(Code.PEER_RESET, "the endpoint was closed")
        await self._flush()
        self._core.finish()
        self._turn()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for local in list(self._lingering):
            self._release_lingering(local)
        await self._udp.close()
        self._finished = True
        self._notify()

    async def _flush(self) -> None:
        """Leave the last packets (a CloseAck) time to arrive: a QUIC connection that is closed repeats nothing."""
        end = self._loop.time() + FLUSH_BOUND
        self._turn()
        await asyncio.sleep(0)
        while self._loop.time() < end:
            found = [(one, self._engine.info(one.connection_id)) for one in self._core.established]
            busy = [info.rtt for one, info in found if info is not None and (info.bytes_in_flight or one.undelivered)]
            if not busy:
                return
            await asyncio.sleep(max(min(busy) / 2, 0.002))

    def _on_closing(self) -> None:
        """Give nothing more time from now on."""

    # ------------------------------------------------------------------------------------------------------- addresses

    async def _watch_addresses(self) -> None:
        """Look the hub's name up, now and then and when asked to (R-3.2, R-3.3)."""
        book = AddressBook()
        on_demand = False
        while True:
            self._check.clear()
            try:
                found = await self._lookup()
            except HubUnreachable as exc:
                if not book.addresses and not self._core.patient:
                    self._core.fail(exc)
                    self.wake()
                    return
            except Exception as fault:
                # A fault of ours, or no room for a thread: an endpoint that has had a hub, or waits for one, asks
                # again.
                if not book.addresses and not self._core.patient:
                    raise
                report_to_loop(self._loop, "a look-up failed", fault)
            else:
                now = self._udp.now()
                book.found(found, now)
                self._core.set_addresses(book.addresses, now, on_demand=on_demand)
            await asyncio.sleep(LOOKUP_PAUSE)
            # Without any address there is nothing else to do than to ask again.
            interval = self._config.options.resolve_interval if book.addresses else 0.0
            try:
                async with asyncio.timeout(max(0.0, interval - LOOKUP_PAUSE)):
                    await self._check.wait()
                on_demand = True
            except TimeoutError:
                on_demand = False

    async def _lookup(self) -> list[IpAddress]:
        if self._runtime.resolve is not None:
            return await self._runtime.resolve(self._config.host, self._config.port)
        return await self._addresses.lookup()

    async def _open_client_socket(self, remote: IpAddress) -> Address:
        try:
            return await self._udp.open_client_socket(remote)
        except OSError:
            if not self._lingering:
                raise
        # It may be a descriptor that is missing, and these aren't needed.
        for local in list(self._lingering):
            self._release_lingering(local)
        return await self._udp.open_client_socket(remote)

    async def _open_socket(self, remote: IpAddress) -> None:
        try:
            # What is to be shown in this handshake is what is in the files now.
            await self._credentials.refresh()
            local = await self._open_client_socket(remote)
        except OSError as exc:
            error = HubUnreachable(f"{remote[0]} port {remote[1]}: {exc}")
            error.__cause__ = exc
            self._core.dial_failed(remote, error)
        except Exception as fault:
            report_to_loop(self._loop, "a hub could not be called", fault)
            self._core.dial_failed(remote, HubUnreachable(f"{remote[0]} port {remote[1]}: {fault!r}"))
        else:
            self._core.dialed(remote, local, near_its_dates=self._credentials.near_its_dates)
        self.wake()

    # ----------------------------------------------------------------------------------------------------- credentials

    async def _watch_credentials(self) -> None:
        while True:
            await asyncio.sleep(self._config.options.credentials_interval)
            await self._credentials.refresh()

    def _renew(self, credentials: Credentials) -> None:
        self._core.renew(credentials)
        self.wake()

    def _on_credentials(self, change: CredentialsChange) -> None:
        if self._observers.on_credentials is not None:
            self._loop.call_soon(self._observers.on_credentials, change)

    # ---------------------------------------------------------------------------------------------------- CoreListener

    def wake(self) -> None:
        """See :class:`CoreListener`."""
        if not self._scheduled and not self._loop.is_closed():
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def dial(self, remote: IpAddress) -> None:
        """See :class:`CoreListener`."""
        self._spawn(self._open_socket(remote))

    def local_address(self, local: Address) -> IpAddress:
        """See :class:`CoreListener`."""
        host, port, *_ = self._udp.local_address(local)
        return str(host), int(port)

    def release(self, local: Address, *, linger: bool = False) -> None:
        """See :class:`CoreListener`."""
        if not linger:
            self._loop.call_later(CLOSE_TIME, self._udp.release, local)
            return
        limits = self._config.options.limits
        self._lingering[local] = self._loop.call_later(
            limits.keep_alive + limits.idle_timeout, self._release_lingering, local
        )
        if len(self._lingering) > LINGER_LIMIT:
            self._release_lingering(next(iter(self._lingering)))

    def _release_lingering(self, local: Address) -> None:
        self._lingering.pop(local).cancel()
        self._udp.release(local)

    def on_request(self, connection: Connection) -> None:
        """See :class:`CoreListener`; consumers are never asked."""
        connection.reject(Code.PROTOCOL, "a consumer takes no connections")

    def on_session(self, change: SessionChange) -> None:
        """See :class:`CoreListener`."""
        self._last = self._current
        if change.old in (SessionState.ESTABLISHED, SessionState.CLOSING):
            self._last_error = change.error or SessionLost("the session was closed")
        if self._observers.on_session is not None:
            self._loop.call_soon(self._observers.on_session, change)

    def on_connection(self, change: ConnectionChange) -> None:
        """See :class:`CoreListener`."""
        if self._observers.on_connection is not None:
            self._loop.call_soon(self._observers.on_connection, change)

    def on_failed(self, error: SpnError) -> None:  # noqa: ARG002
        """See :class:`CoreListener`."""
        self._on_closing()
        self._notify()

    def on_changed(self) -> None:
        """See :class:`CoreListener`."""
        self._notify()

    def on_fault(self, fault: BaseException) -> None:
        """See :class:`CoreListener`."""
        report_to_loop(self._loop, "a fault in the endpoint", fault)

    def check_addresses(self) -> None:
        """See :class:`CoreListener`."""
        self._check.set()

    # ------------------------------------------------------------------------------------------------- loop and engine

    @property
    def _current(self) -> Session | None:
        established = self._core.established
        if established:
            self._last = established[0]
        return self._last

    def _check_open(self) -> None:
        """:raises EndpointClosed: the endpoint was closed, or has failed for good."""
        if self._closed or self._core.failed is not None:
            raise EndpointClosed("the endpoint is closed") from self._core.failed

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """A fault of ours in a task must neither be lost nor leave anybody waiting."""
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._loop.call_exception_handler({"message": "the endpoint's task failed", "exception": fault})
            error = EndpointClosed(f"the endpoint failed: {fault!r}")
            error.__cause__ = fault
            self._core.fail(error)
            self.wake()

    def _on_events(self, events: list[EngineEvent]) -> None:
        self._core.handle(events)
        self._arm()

    def _turn(self) -> None:
        self._scheduled = False
        self._core.handle_timer(self._udp.now())
        self._arm()
        self._udp.flush()

    def _arm(self) -> None:
        when = self._core.timer()
        timer = self._timer
        if timer is not None:
            if when is not None and timer.when() <= when:
                # It may come too early, and is set anew then: that is rarer than deadlines that are put off.
                return
            timer.cancel()
            self._timer = None
        if when is not None:
            self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self._turn()

    async def _start(self) -> None:
        """Wait for the first session.

        :raises SpnError: why there is none.
        """
        if self._runtime.made is not None:
            self._runtime.made(self)
        try:
            while not self._core.established:
                if self._core.failed is not None:
                    raise self._core.failed
                await self._changed.wait()
        except (SpnError, asyncio.CancelledError):
            await self.close()
            raise
