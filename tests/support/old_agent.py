"""An agent of sc01 on bare aioquic, over real sockets: written from what the old agents do, with nothing of ours in it.

A consumer opens a stream with the first byte of each TCP connection, a provider connects to its TCP server with the
first byte of each stream; a FIN ends its direction alone. Memory isn't bounded: for tests of a few MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import tempfile
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic import events as quic
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from spnhub.pki import IssuedCredentials

__all__ = ["OldAgent", "old_consumer", "old_provider"]

_KEEP_ALIVE = 5.0
_UNREACHABLE = 1


class _Stream:
    """A QUIC stream and the TCP connection that is bridged with it."""

    def __init__(self, agent: OldAgent, stream_id: int) -> None:
        self.stream_id = stream_id
        self._agent = agent
        self._incoming: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None
        self._aborted = False

    def take(self, data: bytes, fin: bool) -> None:
        """Bytes have come on the stream."""
        if data:
            self._incoming.put_nowait(data)
        if fin:
            self._incoming.put_nowait(None)

    def abort(self) -> None:
        """The other side has reset or stopped it: so is the TCP connection."""
        self._aborted = True
        self._incoming.put_nowait(None)
        if self._writer is not None:
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._writer.transport.abort()

    async def bridge(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b"") -> None:
        """Copy both ways until both have ended."""
        self._writer = writer
        if first:
            self._agent.send(self.stream_id, first)
        try:
            await asyncio.gather(self._to_quic(reader), self._to_tcp(writer))
        except OSError:
            if not self._aborted:
                self._agent.reset(self.stream_id, 0)
        finally:
            writer.close()

    async def provide(self, forward: tuple[str, int]) -> None:
        """Connect to the TCP server with the first byte."""
        first = await self._incoming.get()
        if first is None:
            self._agent.send(self.stream_id, b"", fin=True)
            return
        try:
            reader, writer = await asyncio.open_connection(*forward)
        except OSError:
            self._agent.reset(self.stream_id, _UNREACHABLE)
            return
        writer.write(first)
        await self.bridge(reader, writer)

    async def _to_quic(self, reader: asyncio.StreamReader) -> None:
        while (data := await reader.read(65536)) and not self._aborted:
            self._agent.send(self.stream_id, data)
        if not self._aborted:
            self._agent.send(self.stream_id, b"", fin=True)

    async def _to_tcp(self, writer: asyncio.StreamWriter) -> None:
        while (data := await self._incoming.get()) is not None:
            writer.write(data)
            await writer.drain()
        if not self._aborted:
            writer.write_eof()


class OldAgent(QuicConnectionProtocol):
    """One connection to one hub."""

    def __init__(self, connection: QuicConnection, forward: tuple[str, int] | None) -> None:
        super().__init__(connection)
        self.words: asyncio.Queue[str] = asyncio.Queue()
        """The datagrams that have come."""
        self.ended: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()
        """With which code and reason the connection was closed."""
        self.open_streams = 0
        self._forward = forward
        self._streams: dict[int, _Stream] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving = False
        self._start(self._keep_alive())

    def quic_event_received(self, event: quic.QuicEvent) -> None:
        match event:
            case quic.StreamDataReceived(data, end_stream, stream_id):
                stream = self._streams.get(stream_id)
                if stream is None and self._forward is not None and stream_id % 4 == 1:
                    stream = self._streams[stream_id] = _Stream(self, stream_id)
                    self._start(self._run(stream, stream.provide(self._forward)))
                if stream is not None:
                    stream.take(data, end_stream)
            case quic.StreamReset(_, stream_id) | quic.StopSendingReceived(_, stream_id):
                if stream_id in self._streams:
                    self._streams[stream_id].abort()
            case quic.DatagramFrameReceived(data):
                word = data.decode("ascii")
                self.words.put_nowait(word)
                self._leaving = self._leaving or word == "notify_shutdown"
                self._leave_when_empty()
            case quic.ConnectionTerminated(error_code, _, reason):
                if not self.ended.done():
                    self.ended.set_result((error_code, reason))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A TCP client has come: its first byte opens a stream."""
        first = await reader.read(65536)
        if not first or self._leaving:
            writer.close()
            return
        stream = _Stream(self, self._quic.get_next_available_stream_id())
        self._streams[stream.stream_id] = stream
        await self._run(stream, stream.bridge(reader, writer, first))

    def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        """Bytes on a stream."""
        self._quic.send_stream_data(stream_id, data, fin)
        self.transmit()

    def reset(self, stream_id: int, code: int) -> None:
        """Reset the sending side."""
        self._quic.reset_stream(stream_id, code)
        self.transmit()

    def say(self, word: str) -> None:
        """A datagram."""
        self._quic.send_datagram_frame(word.encode("ascii"))
        self.transmit()

    async def word(self, expected: str) -> None:
        """Wait for a datagram; whatever came before is passed over."""
        while await self.words.get() != expected:
            pass

    def cancel(self) -> None:
        """Leave nothing running."""
        for task in self._tasks:
            task.cancel()

    def _start(self, what: Awaitable[None]) -> None:
        task = asyncio.ensure_future(what)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, stream: _Stream, what: Awaitable[None]) -> None:
        self.open_streams += 1
        try:
            await what
        finally:
            self.open_streams -= 1
            del self._streams[stream.stream_id]
            self._leave_when_empty()

    def _leave_when_empty(self) -> None:
        if self._leaving and not self._streams:
            self.close()

    async def _keep_alive(self) -> None:
        while True:
            await asyncio.sleep(_KEEP_ALIVE)
            with contextlib.suppress(ConnectionError):
                await self.ping()


@contextlib.asynccontextmanager
async def _connected(
    hub: tuple[str, int],
    name: str,
    role: str,
    mine: IssuedCredentials,
    trust: bytes,
    forward: tuple[str, int] | None,
) -> AsyncIterator[OldAgent]:
    configuration = QuicConfiguration(
        is_client=True,
        alpn_protocols=[f"sc01-{role}"],
        server_name=name,
        idle_timeout=20.0,
        max_datagram_frame_size=65535,
        verify_mode=ssl.CERT_REQUIRED,
        cadata=trust,
    )
    with contextlib.ExitStack() as stack:
        _load(configuration, mine, stack)
        loop = asyncio.get_running_loop()
        transport, agent = await loop.create_datagram_endpoint(
            lambda: OldAgent(QuicConnection(configuration=configuration), forward),
            local_addr=("::" if ":" in hub[0] else "0.0.0.0", 0),
        )
        agent.connect(hub)
        try:
            await agent.wait_connected()
            yield agent
        finally:
            agent.cancel()
            agent.close()
            await agent.wait_closed()
            transport.close()


def _load(configuration: QuicConfiguration, mine: IssuedCredentials, stack: contextlib.ExitStack) -> None:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    (folder / "c.pem").write_bytes(mine.certificate)
    (folder / "k.pem").write_bytes(mine.key)
    configuration.load_cert_chain(folder / "c.pem", folder / "k.pem")


@contextlib.asynccontextmanager
async def old_provider(
    hub: tuple[str, int], name: str, mine: IssuedCredentials, trust: bytes, forward: tuple[str, int]
) -> AsyncIterator[OldAgent]:
    """A provider that forwards to a TCP server."""
    async with _connected(hub, name, "provider", mine, trust, forward) as agent:
        yield agent


@contextlib.asynccontextmanager
async def old_consumer(
    hub: tuple[str, int], name: str, mine: IssuedCredentials, trust: bytes
) -> AsyncIterator[tuple[OldAgent, tuple[str, int]]]:
    """A consumer, and the TCP address that it listens on."""
    async with _connected(hub, name, "consumer", mine, trust, None) as agent:
        server = await asyncio.start_server(agent.serve, "127.0.0.1", 0)
        async with server:
            yield agent, server.sockets[0].getsockname()[:2]
