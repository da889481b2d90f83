"""An HTTP server in the running loop, which leaves signals to the program around it, and descriptors to the rest of it.

Counterparts: :mod:`spnhub.ops.server` (of a hub), :mod:`spnhub.analytics.serve` (of ``spnlog serve``),
:mod:`spnhub.inventory.server` (of ``spnhub inventory``).
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import Final

import anyio
import anyio.lowlevel
import structlog
import uvicorn
from starlette.applications import Starlette

from spnhub.settings import SettingsError
from spnhub.transport.system.descriptors import room
from spnhub.transport.system.ip import host_port

__all__ = ["CONNECTIONS", "HttpServer"]

_log = structlog.get_logger("spnhub.http")


CONNECTIONS: Final = 256
"""Open at once, as far as there are descriptors; one more takes the place of the oldest."""
_ACCEPTS_PER_TURN: Final = 16
PAUSE: Final = 1.0
"""Seconds without accepting when this host is out of descriptors or memory."""


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
        self._open: dict[asyncio.BaseTransport, None] = {}
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
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.abort()  # type: ignore[attr-defined] # of a socket
        try:
            transport, _ = await self._loop.connect_accepted_socket(self._protocol, sock)
        except OSError as exc:
            _log.debug("http.connection_lost", reason=exc.strerror or str(exc))
            sock.close()
            return
        self._open[transport] = None

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg] # uvicorn's own call
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state, _loop=self._loop
        )
        return made


class HttpServer:
    """Serves an application.

    :param option: what its address is called on the command line.
    """

    def __init__(self, application: Starlette, option: str) -> None:
        # Without a log configuration of its own uvicorn speaks through the program's logging.
        self._config = uvicorn.Config(
            application, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
        )
        # Loaded now: what it is made of is imported, and that takes descriptors.
        self._config.load()
        self._server: _Embedded | None = None
        self._option = option
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

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
        # Its asyncio part is loaded at first use, which takes a while: not beside traffic.
        await anyio.lowlevel.checkpoint()
        self._server = _Embedded(self._config, sock)
        self._task = asyncio.create_task(self._server.serve(), name=f"http {self._option}")
        return f"http://{host_port(host or 'localhost', sock.getsockname()[1])}"

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
