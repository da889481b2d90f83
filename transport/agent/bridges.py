"""The bridges of one agent: begun, counted, stopped together; each begins and ends with a line in the log.

Counterparts: :mod:`spnhub.transport.agent.bridge` moves the bytes, :mod:`spnhub.transport.agent.consumer` and
:mod:`spnhub.transport.agent.provider` make the sockets and the streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent.bridge import Bridge, BridgeResult
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.endpoint.connection.stream import Stream

__all__ = ["STOP_BOUND", "Bridges"]

STOP_BOUND: Final = 2.0
"""Seconds for what the bridges of an agent that stops at once have taken and not yet handed on."""
_STOPPED: Final = "the agent is being stopped"

_log = structlog.get_logger()


class Bridges:
    """Use from one event loop.

    :param on_end: called for each bridge that has ended; it isn't counted any more.
    """

    def __init__(self, watcher: ResetWatcher, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._watcher = watcher
        self._on_end = on_end
        self._open: set[Bridge] = set()

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, sock: socket.socket, stream: Stream, **facts: str) -> None:
        """Join the two.

        :param facts: for the log.
        """
        uid = stream.connection_uid
        _log.debug("connection.opened", connectionUid=uid, **facts, peer=stream.peer)

        def done(result: BridgeResult) -> None:
            self._open.discard(bridge)
            _log.debug(
                "connection.closed",
                connectionUid=uid,
                sentBytes=result.to_stream,
                receivedBytes=result.to_tcp,
                code=int(result.code),
                reason=result.reason,
            )
            self._on_end()

        bridge = Bridge(self._loop, sock, stream, self._watcher, done)
        self._open.add(bridge)
        bridge.start()

    async def stop(self, idle: Awaitable[object]) -> None:
        """End them with an error; what they have taken leaves first, within :data:`STOP_BOUND`.

        :param idle: comes when nothing of the agent is open.
        """
        for bridge in list(self._open):
            bridge.stop(Code.PEER_LOST, _STOPPED)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_BOUND):
                await idle
        for bridge in list(self._open):
            bridge.abort(Code.PEER_LOST, _STOPPED)
