"""The provider agent: every SPN connection to it becomes a TCP connection to its server (R-1.3).

TCP comes first, then the acceptance (D-16): a server that is down gives the consumer's client a reset at once.
Counterparts: :mod:`spnhub.transport.agent.consumer` at the other end, :mod:`spnhub.transport.agent.bridge` moves the
bytes, :mod:`spnhub.transport.agent.session_manager` has the endpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from typing import Protocol

from spnhub.actors.contract.codes import Code
from spnhub.dataclass import dataclass
from spnhub.transport.agent.bridges import Bridges, Traffic
from spnhub.transport.agent.health import HealthCheck, HealthWatch
from spnhub.transport.agent.keep_alive import TCP_KEEP_ALIVE, TcpKeepAlive
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.agent.sockets import reset_socket
from spnhub.transport.agent.tasks import Tasks
from spnhub.transport.agent.tcp import ConnectError, Connector
from spnhub.transport.endpoint.connection.stream import Stream
from spnhub.transport.errors import EndpointClosed, SpnError
from spnhub.transport.faults import Throttle
from spnhub.transport.log import get_logger
from spnhub.transport.repeats import Repeats, repeated
from spnhub.transport.system.descriptors import room
from spnhub.transport.system.name_lookup import load_dns
from spnhub.transport.system.socket_address import SocketAddress, TcpAddress

__all__ = ["ProviderAgent", "ProviderLimits", "RequestSource", "StreamRequest"]

_log = get_logger()


class StreamRequest(Protocol):
    """An SPN connection that waits for its answer."""

    @property
    def connection_uid(self) -> str:
        """By which the logs of both agents and the hub have it."""

    async def accept_stream(self) -> Stream:
        """Accept it; the connection is Connected.

        :raises SpnError: it is gone.
        """

    async def reject(self, code: Code, reason: str) -> None:
        """Refuse it."""


class RequestSource(Protocol):
    """A provider endpoint."""

    async def listen(self) -> StreamRequest:
        """The next request, of whichever session.

        :raises EndpointClosed: it was closed, or has failed for good.
        """

    async def set_weight(self, weight: int, reason: str = "") -> None:
        """Set the share of new connections and say why, in every session that is and that comes.

        :raises EndpointClosed: it was closed, or has failed for good.
        """

    async def wait_all_connections_closed(self) -> None:
        """After a weight of 0: wait until the hubs say that nothing is open and nothing will come.

        :raises EndpointClosed: it was closed, or has failed for good.
        """


class RequestSources(Protocol):
    """Where the endpoint is found (:class:`spnhub.transport.agent.session_manager.SessionManager`)."""

    @property
    def current(self) -> RequestSource | None:
        """The endpoint, once it has had a session."""

    @property
    def established(self) -> bool:
        """There is a session that takes new connections."""

    async def wait_established(self) -> RequestSource:
        """The endpoint, once it has one."""

    async def wait_lost(self) -> None:
        """Wait until there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderLimits:
    """Counts, and times in seconds."""

    connections: int = 10_000
    """Connections open at once, connecting ones included, as far as this process has descriptors for them (D-25); one
    more is refused with LIMIT."""
    connect: float = 5.0
    """How long connecting may take, once an address is known (D-16)."""


class ProviderAgent:
    """Connects to one TCP server. Use from one event loop."""

    def __init__(
        self,
        server: SocketAddress,
        sources: RequestSources,
        limits: ProviderLimits | None = None,
        keep_alive: TcpKeepAlive | None = TCP_KEEP_ALIVE,
        weight: int = 100,
        health_check: HealthCheck | None = None,
    ) -> None:
        """:param server: a name is looked up as :mod:`spnhub.transport.system.names` says.
        :param keep_alive: of servers; None: off.
        :param weight: the share of new connections (R-5.3) while the server is healthy.
        :param health_check: by which that is known; None: it is taken for healthy.
        """
        self._loop = asyncio.get_running_loop()
        self._server = server
        self._sources = sources
        self._limits = limits or ProviderLimits()
        self._bound = min(self._limits.connections, room())
        self._exhausted = Throttle()
        self._connector = Connector()
        if isinstance(server, TcpAddress):
            load_dns((server.host,))
        self._weight = weight
        self._health: HealthWatch | None = None
        if health_check is not None:
            self._health = HealthWatch(health_check, server, self._connector, self._report_health)
        self._leaving = False
        self._watcher = ResetWatcher(self._loop, keep_alive)
        self._opening = Tasks("a connection failed while it was opened")
        self._bridges = Bridges(self._watcher, self._ended)
        self._refusals: Counter[str] = Counter()
        self._repeats = Repeats(self._loop.call_later)
        self._connections = 0
        self._closed = False
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def connections(self) -> int:
        """Open connections, connecting ones included."""
        return self._connections

    def traffic(self) -> Traffic:
        """So far. Costs time for each open connection."""
        return Traffic(self._bridges.opened, dict(self._refusals), *self._bridges.moved())

    @property
    def healthy(self) -> bool:
        """Whether the server passes its checks; one without checks is taken for healthy."""
        return self._health is None or self._health.healthy

    @property
    def health_fault(self) -> str | None:
        """Why its server is taken for unhealthy; None: it isn't."""
        if self._health is None or self._health.healthy:
            return None
        return self._health.reason or "the server has not been checked yet"

    async def change_weight(self, weight: int) -> None:
        """Another share of new connections, in every session that is and that comes; connections go on."""
        self._weight = weight
        endpoint = self._sources.current
        if endpoint is not None and not self._leaving:
            with contextlib.suppress(EndpointClosed):
                await endpoint.set_weight(await self.weight())

    async def wait_healthy(self) -> None:
        """Wait until the server passes its checks."""
        if self._health is not None:
            await self._health.wait_healthy()

    async def weight(self) -> int:
        """The share of new connections that a session begins with: 0 while the server is unhealthy.

        Waits for the first check, so that neither is a server taken for healthy that was never there, nor a session
        begun without its weight.
        """
        if self._health is None:
            return self._weight
        await self._health.wait_known()
        return self._weight if self._health.healthy else 0

    async def check_health(self) -> None:
        """Check the server, and report the weight that follows to the hubs, until cancelled."""
        if self._health is not None:
            await self._health.run()

    async def run(self) -> None:
        """Take requests until cancelled, or until the endpoint has failed for good; the session manager has the
        reason."""
        endpoint = await self._sources.wait_established()
        await self._report_health()  # why a session has begun with 0, and what has changed since
        with contextlib.suppress(EndpointClosed):
            while True:
                self._take(await endpoint.listen())

    async def wait_idle(self) -> None:
        """Wait until no connection is open."""
        await self._idle.wait()

    async def drain(self) -> None:
        """Leave without cutting anything (R-5.4): weight 0, and open and pending connections are served to the end.

        Returns when the hubs report that all connections are closed, and none is open here either. Paused connections
        are open: they are waited for until they have resumed and ended, or can't resume any more. Without a session no
        hub can report; then it is enough that none is open here. Unbounded: the caller has a timeout.
        """
        self._leaving = True
        endpoint = self._sources.current
        if endpoint is not None:
            # Closed: the end of the endpoint is the end of its connections.
            with contextlib.suppress(EndpointClosed):
                await endpoint.set_weight(0, "the agent is being stopped")
                await self._wait_nothing_comes(endpoint)
        await self.wait_idle()

    async def _report_health(self) -> None:
        """With 0 nothing new comes, and what is open goes on; that all of it has ended then is no end of the agent."""
        endpoint = self._sources.current
        if self._health is None or endpoint is None or self._leaving:
            return
        with contextlib.suppress(EndpointClosed):
            await endpoint.set_weight(self._weight if self._health.healthy else 0, self._health.reason)

    async def _wait_nothing_comes(self, endpoint: RequestSource) -> None:
        all_closed = asyncio.ensure_future(endpoint.wait_all_connections_closed())
        alone = asyncio.ensure_future(self._wait_alone())
        try:
            await asyncio.wait([all_closed, alone], return_when=asyncio.FIRST_COMPLETED)
            if all_closed.done():
                all_closed.result()
        finally:
            all_closed.cancel()
            alone.cancel()
            await asyncio.gather(all_closed, alone, return_exceptions=True)

    async def _wait_alone(self) -> None:
        """Wait until there is neither a session nor a connection."""
        while self._connections or self._sources.established:
            await self._sources.wait_lost()
            await self.wait_idle()

    async def close(self) -> None:
        """Stop at once: what is still open is reset, after the bytes that were taken."""
        self._closed = True
        await self._opening.cancel()
        await self._bridges.stop(self.wait_idle())
        self._connector.close()
        self._watcher.close()
        self._repeats.close()

    # ---- one connection ----

    def _take(self, request: StreamRequest) -> None:
        if self._closed:
            work = self._reject(request, Code.SHUTDOWN, "the provider agent is being stopped")
        elif self._connections >= self._bound:
            reason = f"the provider agent has {self._connections} connections"
            self._refused(Code.LIMIT, reason, request.connection_uid)
            work = self._reject(request, Code.LIMIT, reason)
        else:
            self._connections += 1
            self._idle.clear()
            self._opening.spawn(self._open(request)).add_done_callback(self._opened)
            return
        self._opening.spawn(work)

    async def _open(self, request: StreamRequest) -> tuple[socket.socket, Stream] | None:
        """Both sides of the connection, or None when there will be none (said in the log)."""
        try:
            sock = await self._connector.connect_to(self._server, self._limits.connect)
        except ConnectError as exc:
            if exc.code == Code.LIMIT:
                self._out_of_resources(str(exc))
            else:
                self._refused(exc.code, str(exc), request.connection_uid)
            await self._reject(request, exc.code, str(exc))
            return None
        except Exception:
            # A fault of ours: the consumer must not wait for an answer until its time is over.
            await self._reject(request, Code.INTERNAL, "a fault in the agent")
            raise
        try:
            return sock, await request.accept_stream()
        except SpnError as exc:
            _log.debug("connection.gone", connectionUid=request.connection_uid, reason=str(exc))
            reset_socket(sock)
            return None
        except BaseException:
            # Cancelled: nothing else has the socket, so it is closed here.
            reset_socket(sock)
            raise

    def _refused(self, code: Code, reason: str, uid: str) -> None:
        """A server that is down is one fault, not one for each client: their lines are joined."""
        facts = {
            "code": code.name,
            "address": str(self._server),
            "reason": reason,
            "connectionUid": uid,
        }
        self._repeats.say(code, lambda count: _log.warning("connection.refused", **facts, **repeated(count)))

    def _out_of_resources(self, reason: str) -> None:
        """Once a second: it happens with every connection of a crowd."""
        before = self._exhausted.admit(self._loop.time())
        if before is not None:
            refused = before + 1
            _log.warning("agent.out_of_resources", reason=reason, connections=self._connections, refused=refused)

    def _opened(self, opening: asyncio.Task[tuple[socket.socket, Stream] | None]) -> None:
        if opening.cancelled() or opening.exception() is not None or (both := opening.result()) is None:
            self._ended()
        else:
            self._bridges.begin(*both)

    async def _reject(self, request: StreamRequest, code: Code, reason: str) -> None:
        self._refusals[code.name] += 1
        try:
            await request.reject(code, reason)
        except SpnError as exc:
            _log.debug("connection.gone", reason=str(exc))

    def _ended(self) -> None:
        self._connections -= 1
        if not self._connections:
            self._idle.set()
