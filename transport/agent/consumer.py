"""The consumer agent: every TCP connection that is made to it becomes an SPN connection (R-1.3).

Counterparts: :mod:`spnhub.transport.agent.provider` at the other end, :mod:`spnhub.transport.agent.bridge` moves the
bytes, :mod:`spnhub.transport.agent.session_manager` has the endpoint.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections import Counter
from collections.abc import Hashable, Iterable
from typing import Final, Protocol

from spnhub.dataclass import dataclass
from spnhub.events.codes import code_name
from spnhub.events.spare import OUT_OF_RESOURCES
from spnhub.transport.agent.bridges import Bridges, Traffic
from spnhub.transport.agent.keep_alive import TCP_KEEP_ALIVE, TcpKeepAlive
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.agent.sockets import is_unix, prepare_socket, reset_socket, waiting
from spnhub.transport.agent.tasks import Tasks
from spnhub.transport.agent.tcp import address_of, close_listener
from spnhub.transport.endpoint.connection.stream import Stream
from spnhub.transport.endpoint.session.session import CONNECT_BOUND
from spnhub.transport.errors import SessionLost, SpnError
from spnhub.transport.log import get_logger
from spnhub.transport.repeats import Repeats, repeated
from spnhub.transport.system.descriptors import room
from spnhub.transport.system.socket_address import SocketAddress

__all__ = ["ConsumerAgent", "ConsumerLimits", "StreamSource", "StreamSources"]

_log = get_logger()

_ACCEPTS_PER_TURN: Final = 64
"""So that many new clients at once leave time for the connections that are established."""
_AGAIN: Final = 0.05
"""Seconds before another attempt when a session turned out to be lost."""


class StreamSource(Protocol):
    """A consumer endpoint."""

    async def connect_stream(self) -> Stream:
        """Open an SPN connection; returns once it is Connected. Cancelled: the connection is aborted.

        :raises SessionLost: there is no session that it could be tried on.
        :raises SpnError: it was refused.
        """


class StreamSources(Protocol):
    """Where the endpoint is found (:class:`spnhub.transport.agent.session_manager.SessionManager`)."""

    @property
    def established(self) -> bool:
        """There is a session that takes new connections."""

    async def wait_established(self) -> StreamSource:
        """The endpoint, once it has one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerLimits:
    """Counts, and times in seconds."""

    connections: int = 10_000
    """TCP connections open at once, as far as this process has descriptors for them (D-25); at the bound the agent
    stops accepting until one has ended."""
    held: int = 1_000
    """Of these, how many may wait for a session; one more is reset at once (D-27)."""
    hold: float = 10.0
    """How long each of them waits before it is reset (D-27)."""
    connect: float = CONNECT_BOUND
    """How long an SPN connection may take to become Connected: the hub may be starting the service."""
    pause: float = 1.0
    """How long accepting pauses when this host is out of descriptors or memory (D-25)."""


class ConsumerAgent:
    """Listens on TCP. Use from one event loop."""

    def __init__(
        self,
        listeners: list[socket.socket],
        sources: StreamSources,
        limits: ConsumerLimits | None = None,
        keep_alive: TcpKeepAlive | None = TCP_KEEP_ALIVE,
    ) -> None:
        """:param listeners: listening sockets (:func:`spnhub.transport.agent.tcp.listen_at`); the agent closes them.
        :param keep_alive: of clients; None: off.
        """
        self._loop = asyncio.get_running_loop()
        self._listeners = listeners
        self._sources = sources
        self._limits = limits or ConsumerLimits()
        self._bound = min(self._limits.connections, room())
        self._watcher = ResetWatcher(self._loop, keep_alive)
        self._opening = Tasks("a connection failed while it was opened")
        self._repeats = Repeats(self._loop.call_later)
        self._waiting: dict[asyncio.Task[Stream | None], socket.socket] = {}
        self._bridges = Bridges(self._watcher, self._ended)
        self._refusals: Counter[str] = Counter()
        self._held = 0
        """How many wait for a session."""
        self._accepting = False
        self._limit_told = False
        self._resume_timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._handed: set[socket.socket] = set()
        """Listeners that another agent has, too."""
        self._idle = asyncio.Event()
        self._idle.set()
        for listener in listeners:
            listener.setblocking(False)

    @property
    def addresses(self) -> list[SocketAddress]:
        """Of every listening socket."""
        return [address_of(listener) for listener in self._listeners]

    @property
    def connections(self) -> int:
        """Open TCP connections, those that wait for their SPN connection included."""
        return len(self._waiting) + len(self._bridges)

    def traffic(self) -> Traffic:
        """So far. Costs time for each open connection."""
        return Traffic(self._bridges.opened, dict(self._refusals), *self._bridges.moved())

    def keep_files(self, listeners: Iterable[socket.socket]) -> None:
        """These go on elsewhere: what they are in the file system stays when this agent stops."""
        self._handed.update(listeners)

    def start(self) -> None:
        """Begin to accept."""
        self._resume_accepting()

    def stop_accepting(self) -> None:
        """Take what has already connected, then listen no more."""
        if self._stopped:
            return
        self._stopped = True
        self._pause_accepting()
        if self._resume_timer is not None:
            self._resume_timer.cancel()
        for listener in self._listeners:
            while self._accept(listener):
                pass
            close_listener(listener, last=listener not in self._handed)

    async def wait_idle(self) -> None:
        """Wait until no connection is open."""
        await self._idle.wait()

    async def drain(self) -> None:
        """Take no new connections, and wait until no connection is open. Unbounded: the caller has a timeout."""
        self.stop_accepting()
        await self.wait_idle()

    async def close(self) -> None:
        """Stop at once: what is still open is reset, after the bytes that were taken."""
        self._stopped = True
        self._pause_accepting()
        if self._resume_timer is not None:
            self._resume_timer.cancel()
        for listener in self._listeners:
            close_listener(listener, last=listener not in self._handed)
        await self._opening.cancel()
        # The callbacks of the tasks that were just cancelled reset their sockets in this turn.
        await asyncio.sleep(0)
        await self._bridges.stop(self.wait_idle())
        self._watcher.close()
        self._repeats.close()

    # ---- accepting ----

    def _resume_accepting(self) -> None:
        self._resume_timer = None
        if not self._accepting and not self._stopped:
            self._accepting = True
            for listener in self._listeners:
                self._loop.add_reader(listener.fileno(), self._on_acceptable, listener)

    def _pause_accepting(self) -> None:
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._loop.remove_reader(listener.fileno())

    def _on_acceptable(self, listener: socket.socket) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            if not self._accepting or not self._accept(listener):
                return

    def _accept(self, listener: socket.socket) -> bool:
        """Take one connection; False when there is none, or when no more can be taken."""
        if self.connections >= self._bound:
            if not self._limit_told:
                self._limit_told = True
                _log.warning("agent.connection_limit", connections=self.connections)
            self._pause_accepting()
            return False
        try:
            sock, address = listener.accept()
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as exc:
            if exc.errno in OUT_OF_RESOURCES:
                self._out_of_resources(exc)
                return False
            # The client went away between its connect and our accept: the next one may be there.
            return True
        try:
            prepare_socket(sock)
        except OSError:
            # Reset by the client already.
            sock.close()
            return True
        self._open(sock, str(address_of(listener)) if is_unix(sock) else f"{address[0]} {address[1]}")
        return True

    def _out_of_resources(self, exc: OSError) -> None:
        _log.warning(
            "agent.out_of_resources", reason=exc.strerror, connections=self.connections, pause=self._limits.pause
        )
        if not self._stopped:
            self._pause_accepting()
            self._resume_timer = self._loop.call_later(self._limits.pause, self._resume_accepting)

    # ---- one connection ----

    def _open(self, sock: socket.socket, client: str) -> None:
        opening = self._opening.spawn(self._connect(client))
        self._waiting[opening] = sock
        self._idle.clear()
        opening.add_done_callback(functools.partial(self._opened, client))
        # Reading begins when there is somewhere to write to; until then only a reset is of interest. What was sent
        # before it has a right to be delivered. Nothing is read to see that, not even in advance: it would take the
        # error off the socket, and a bridge that begins in this turn would find a FIN.
        try:
            self._watcher.watch(sock, lambda: waiting(sock) or opening.cancel())
        except OSError as exc:
            _log.debug("connection.refused", client=client, reason=exc.strerror)
            opening.cancel()

    async def _connect(self, client: str) -> Stream | None:
        """The SPN connection, or None when there will be none (said in the log)."""
        until = self._loop.time() + self._limits.hold
        try:
            while True:
                endpoint = await self._wait_established(until)
                try:
                    async with asyncio.timeout(self._limits.connect):
                        return await endpoint.connect_stream()
                except SessionLost:
                    # Not a byte has been read: another session will do, if one comes in time.
                    if self._loop.time() >= until:
                        raise
                    await asyncio.sleep(_AGAIN)
        except SpnError as exc:
            code = getattr(exc, "code", None)
            self._refusals[type(exc).__name__ if code is None else code_name(code)] += 1
            self._refused(client, (type(exc), code), str(exc), getattr(exc, "connection_uid", ""))
        except TimeoutError:
            self._refusals[TimeoutError.__name__] += 1
            self._refused(client, TimeoutError, "no session, or no answer, in time")
        return None

    def _refused(self, client: str, kind: Hashable, reason: str, uid: str = "") -> None:
        """A server that is down refuses a whole crowd: their lines are joined."""
        facts = {"client": client, **({"connectionUid": uid} if uid else {}), "reason": reason}
        self._repeats.say(kind, lambda count: _log.warning("connection.refused", **facts, **repeated(count)))

    async def _wait_established(self, until: float) -> StreamSource:
        """The endpoint, once it has a session; until then the client waits (D-27).

        :raises SessionLost: too many clients wait.
        :raises TimeoutError: there is none in time.
        """
        if self._sources.established:
            return await self._sources.wait_established()
        if self._held >= self._limits.held:
            raise SessionLost("no session, and too many wait for one")
        self._held += 1
        try:
            async with asyncio.timeout_at(until):
                return await self._sources.wait_established()
        finally:
            self._held -= 1

    def _opened(self, client: str, opening: asyncio.Task[Stream | None]) -> None:
        sock = self._waiting.pop(opening)
        stream = None
        if opening.cancelled():
            _log.debug("connection.refused", client=client, reason="the client went away, or the agent is stopping")
        elif opening.exception() is None:
            stream = opening.result()
        if stream is None:
            self._watcher.forget(sock)
            reset_socket(sock)
            self._ended()
        else:
            self._bridges.begin(sock, stream, client=client)

    def _ended(self) -> None:
        if not self.connections:
            self._idle.set()
        # Told again only when half of them went in between, not each time that one goes and one comes.
        if self.connections < self._bound / 2:
            self._limit_told = False
        # A pause for want of descriptors has its own time.
        if not self._accepting and self._resume_timer is None:
            self._resume_accepting()
