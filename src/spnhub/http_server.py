"""An HTTP server in the running loop, which leaves signals to the program around it.

Counterparts: :mod:`spnhub.ops.server` (of a hub), :mod:`spnhub.analytics.serve` (of ``spnlog serve``).
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractContextManager, nullcontext

import anyio
import anyio.lowlevel
import uvicorn
from starlette.applications import Starlette

from spnhub.settings import ConfigurationError

__all__ = ["HttpServer"]


class _Embedded(uvicorn.Server):
    """A server that leaves signals to the program around it."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override] # the base makes a generator
        return nullcontext()


class HttpServer:
    """Serves an application.

    :param option: what its address is called on the command line.
    """

    def __init__(self, application: Starlette, option: str) -> None:
        # Without a log configuration of its own uvicorn speaks through the program's logging.
        self._server = _Embedded(
            uvicorn.Config(
                application, log_config=None, access_log=False, lifespan="off", ws="none", timeout_graceful_shutdown=1
            )
        )
        self._option = option
        self._socket: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, host: str, port: int) -> str:
        """Listen; the URL that reaches it.

        :raises ConfigurationError: the address can't be had.
        """
        shown = f"[{host}]" if ":" in host else host
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
            raise ConfigurationError(f"{self._option}: can't listen at {shown}:{port}: {exc.strerror or exc}") from exc
        # Its asyncio part is loaded at first use, which takes a while: not beside traffic.
        await anyio.lowlevel.checkpoint()
        self._task = asyncio.create_task(self._server.serve(sockets=[sock]), name=f"http {self._option}")
        return f"http://{shown or 'localhost'}:{sock.getsockname()[1]}"

    async def close(self) -> None:
        """Answer what was asked, for a second at most, and stop."""
        self._server.should_exit = True
        try:
            if self._task is not None:
                await self._task
        finally:
            if self._socket is not None:
                self._socket.close()
