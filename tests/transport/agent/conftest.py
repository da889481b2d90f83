"""Bridges between real TCP sockets over connections in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from spnhub.transport.agent.bridge import Bridge, BridgeResult
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.agent.sockets import prepare_socket
from tests.support.pipe_stream import PipeStream
from tests.support.tcp import TcpPeer


class Bridged:
    """A TCP program, a bridge, and the stream the bridge was given."""

    def __init__(
        self, program: TcpPeer, bridge: Bridge, stream: PipeStream, done: asyncio.Future[BridgeResult]
    ) -> None:
        self.program = program
        self.bridge = bridge
        self.stream = stream
        self.done = done
        self.on_done: Callable[[BridgeResult], object] = done.set_result
        """What the bridge calls at its end."""


class Rig:
    """Makes what a test needs and takes it away again."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.watcher = ResetWatcher(self.loop)
        self.made: list[Bridged] = []

    def bridge(self, stream: PipeStream) -> Bridged:
        """A TCP program whose connection is bridged to ``stream``."""
        program, sock = TcpPeer.pair()
        prepare_socket(sock)
        done: asyncio.Future[BridgeResult] = self.loop.create_future()

        def on_done(result: BridgeResult) -> None:
            bridged.on_done(result)

        bridge = Bridge(self.loop, sock, stream, self.watcher, on_done)
        bridged = Bridged(program, bridge, stream, done)
        self.made.append(bridged)
        bridge.start()
        return self.made[-1]

    def two(self, capacity: int = 32 * 1024) -> tuple[Bridged, Bridged]:
        """Client and server, each with its bridge, joined."""
        here, there = PipeStream.pair(capacity)
        return self.bridge(here), self.bridge(there)

    def close(self) -> None:
        for bridged in self.made:
            bridged.program.close()
            bridged.bridge.abort(0, "test is over")
        assert len(self.watcher) == 0
        self.watcher.close()


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()
