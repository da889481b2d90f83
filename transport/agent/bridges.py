"""The bridges of one agent: begun, counted, stopped together; each begins and ends with a line in the log.

Counterparts: :mod:`spnhub.transport.agent.bridge` moves the bytes, :mod:`spnhub.transport.agent.consumer` and
:mod:`spnhub.transport.agent.provider` make the sockets and the streams.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.dataclass import dataclass
from spnhub.transport.agent.bridge import Bridge, BridgeResult
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.endpoint.connection.stream import Stream
from spnhub.transport.log import get_logger

__all__ = ["STOP_BOUND", "Bridges", "Traffic"]

STOP_BOUND: Final = 2.0
"""Seconds for what the bridges of an agent that stops at once have taken and not yet handed on."""
_STOPPED: Final = "the agent is being stopped"

_log = get_logger()


@dataclass(frozen=True, slots=True)
class Traffic:
    """What an agent has carried so far."""

    opened: int
    refused: Mapping[str, int]
    """By the name of the code, or of the error where there was none."""
    to_hub: int
    """Bytes."""
    from_hub: int
    """Bytes."""


class Bridges:
    """Use from one event loop.

    :param on_end: called for each bridge that has ended; it isn't counted any more.
    """

    def __init__(self, watcher: ResetWatcher, on_end: Callable[[], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._watcher = watcher
        self._on_end = on_end
        self._open: set[Bridge] = set()
        self.opened = 0
        """So far."""
        self._ended_to_stream = 0
        self._ended_to_tcp = 0

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
            self._ended_to_stream += result.to_stream
            self._ended_to_tcp += result.to_tcp
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
        self.opened += 1
        bridge.start()

    def moved(self) -> tuple[int, int]:
        """Bytes to streams and bytes to TCP so far, those of open ones included: costs time for each of these."""
        return (
            self._ended_to_stream + sum(bridge.bytes_to_stream for bridge in self._open),
            self._ended_to_tcp + sum(bridge.bytes_to_tcp for bridge in self._open),
        )

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
