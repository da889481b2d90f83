"""An HTTP server in the running loop, which leaves signals to the program around it, and descriptors to the rest of it.

Counterparts: :mod:`spnhub.ops.server` (of a hub), :mod:`spnhub.analytics.serve` (of ``spnlog serve``),
:mod:`spnhub.inventory.server` (of ``spnhub inventory``).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, Final

import anyio
import anyio.lowlevel
import h11
import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from spnhub.http_guard import Guard
from spnhub.settings import SettingsError
from spnhub.transport.system.descriptors import room
from spnhub.transport.system.ip import host_port

__all__ = ["CONNECTIONS", "HEAD_LIMIT", "HEAD_TIME", "REQUEST_TIME", "HttpServer"]

_log = structlog.get_logger("spnhub.http")


CONNECTIONS: Final = 256
"""Open at once, as far as there are descriptors; one more takes the place of the oldest that asks for nothing."""
HEAD_LIMIT: Final = 16_384
"""Bytes of a request's head."""
HEAD_TIME: Final = 10.0
"""Seconds for a request's head to come, from the connection's beginning or the answer before it."""
REQUEST_TIME: Final = 120.0
"""Seconds from there until the answer has been read."""
_ACCEPTS_PER_TURN: Final = 16
PAUSE: Final = 1.0
"""Seconds without accepting when this host is out of descriptors or memory."""


class _Connection(H11Protocol):
    """A connection that is cut when its client takes too long, whatever it does.

    uvicorn has a limit for idle connections between requests only: not for a head or a body that comes byte by byte,
    nor for an answer that isn't read.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._timer: asyncio.TimerHandle | None = None
        self.is_answering = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base has it
        super().connection_made(transport)
        self._give(HEAD_TIME)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def send_400_response(self, msg: str) -> None:
        """What has come is no HTTP, maybe in the middle of what is being answered: then that has nobody any more."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            # An answer has begun, and another one can't be put into it.
            self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """Whether another part of the exchange has begun: then it has a time of its own."""
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering is not self.is_answering:
            self.is_answering = answering
            self._give(REQUEST_TIME if answering else HEAD_TIME)

    def _give(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, self.transport.abort)


class _Embedded(uvicorn.Server):
    """A server that leaves signals to the program around it, and accepts by itself.

    asyncio, once it has no descriptor left, writes an error for each place in the backlog, two thousand a second, and
    it has no bound: clients that say nothing would take every descriptor that the process has.
    """

    def __init__(self, config: uvicorn.Config, listener: socket.socket) -> None:
        super().__init__(config)
        self._loop = asyncio.get_running_loop()
        self._listener = listener
        self._bound = max(1, min(CONNECTIONS, room() // 2))
        self._open: dict[asyncio.BaseTransport, _Connection] = {}
        """The oldest first."""
        self._joining: set[asyncio.Task[None]] = set()
        self._again: asyncio.TimerHandle | None = None

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override] # the base makes a generator
        return nullcontext()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([] if sockets is None else sockets)
        self._resume()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop.remove_reader(self._listener)
        if self._again is not None:
            self._again.cancel()
        self._listener.close()
        await super().shutdown(sockets)

    def _resume(self) -> None:
        self._again = None
        self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(_ACCEPTS_PER_TURN):
            try:
                sock, _address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as exc:
                _log.warning("http.out_of_resources", reason=exc.strerror or str(exc), connections=len(self._open))
                self._loop.remove_reader(self._listener)
                self._again = self._loop.call_later(PAUSE, self._resume)
                return
            sock.setblocking(False)
            joining = self._loop.create_task(self._join(sock))
            self._joining.add(joining)
            joining.add_done_callback(self._joining.discard)

    async def _join(self, sock: socket.socket) -> None:
        for transport in [one for one in self._open if one.is_closing()]:
            del self._open[transport]
        while len(self._open) >= self._bound:
            idle = (transport for transport, connection in self._open.items() if not connection.is_answering)
            oldest = next(idle, None) or next(iter(self._open))
            del self._open[oldest]
            oldest.abort()  # type: ignore[attr-defined] # of a socket
        try:
            transport, connection = await self._loop.connect_accepted_socket(self._protocol, sock)
        except OSError as exc:
            _log.debug("http.connection_lost", reason=exc.strerror or str(exc))
            sock.close()
            return
        self._open[transport] = connection

    def _protocol(self) -> _Connection:
        return _Connection(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=self._loop
        )


class HttpServer:
    """Serves an application.

    :param option: what its address is called on the command line.
    :param names: by which it is called, beside the host of its address and the loopback's.
    :param names_option: how they are given.
    :param token: that all but probes must bring; None: none.
    """

    def __init__(
        self,
        application: Starlette,
        option: str,
        *,
        names: Iterable[str] = (),
        names_option: str = "",
        token: str | None = None,
    ) -> None:
        self._guard = Guard(application, (socket.gethostname(), *names), names_option or option, token)
        # Without a log configuration of its own uvicorn speaks through the program's logging. A request that is none
        # isn't worth a line: whoever reaches the port could write the log full.
        self._config = uvicorn.Config(
            self._answer,
            interface="asgi3",
            log_config=None,
            log_level="error",
            access_log=False,
            lifespan="off",
            http="h11",
            ws="none",
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=HEAD_LIMIT,
            timeout_graceful_shutdown=1,
        )
        # Loaded now: what it is made of is imported, and that takes descriptors.
        self._config.load()
        self._server: _Embedded | None = None
        self._option = option
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Whoever has gone before the end of what it asked for is no fault of ours.
        with suppress(ClientDisconnect):
            await self._guard(scope, receive, send)

    async def start(self, host: str, port: int) -> str:
        """Listen; the URL that reaches it.

        :raises SettingsError: the address can't be had.
        """
        try:
            infos = await asyncio.get_running_loop().getaddrinfo(
                host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, kind, protocol, _, address = infos[0]
            self._socket = sock = socket.socket(family, kind, protocol)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(128)
            sock.setblocking(False)
        except OSError as exc:
            await self.close()
            raise SettingsError(
                f"{self._option}: can't listen at {host_port(host, port)}: {exc.strerror or exc}"
            ) from exc
        self._guard.also(host)
        # Its asyncio part is loaded at first use, which takes a while: not beside traffic.
        await anyio.lowlevel.checkpoint()
        self._server = _Embedded(self._config, sock)
        self._task = asyncio.create_task(self._server.serve(), name=f"http {self._option}")
        return f"http://{host_port(host or 'localhost', sock.getsockname()[1])}"

    async def answer_while(
        self,
        host: str,
        port: int,
        run: Callable[[], Coroutine[Any, Any, None]],
        stop: asyncio.Event,
        ready: Callable[[str], object],
    ) -> None:
        """Listen, and answer while ``run`` runs, until ``stop``.

        :param ready: called with the URL that reaches it.
        :raises SettingsError: the address can't be had.
        """
        ready(await self.start(host, port))
        running = asyncio.create_task(run(), name="follow")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        try:
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
        finally:
            for task in (running, stopping):
                task.cancel()
            await asyncio.gather(running, stopping, return_exceptions=True)
            await self.close()

    async def close(self) -> None:
        """Answer what was asked, for a second at most, and stop."""
        if self._server is not None:
            self._server.should_exit = True
        try:
            if self._task is not None:
                await self._task
        finally:
            if self._socket is not None:
                self._socket.close()
