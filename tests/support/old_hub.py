"""A hub of sc01 on bare aioquic, over real sockets: written from what the old agents meet, with nothing of ours in it.

One service. A consumer's stream waits until a provider is there, then it is joined with one that the hub opens. Memory
isn't bounded: for tests of a few MiB.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.asyncio.server import QuicServer
from aioquic.quic import events as quic
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from spnhub.pki import IssuedCredentials

__all__ = ["OldHub", "old_hub"]

Place = tuple["_Peer", int]


class OldHub:
    """What a test sees of it, and does with it."""

    def __init__(self) -> None:
        self.port = 0
        self.providers: deque[_Peer] = deque()
        self.consumers: list[_Peer] = []
        self.heard: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        """The datagrams that have come, with the role of who sent them."""
        self.ended: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
        """With which code each role's connection was closed."""
        self.refuse: int | None = None
        """Close each new connection with this code."""
        self.waiting: deque[tuple[_Peer, int]] = deque()
        self.changed = asyncio.Event()

    async def until(self, providers: int, consumers: int) -> None:
        """Wait until there are so many."""
        while (len(self.providers), len(self.consumers)) != (providers, consumers):
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)

    async def word(self, role: str, word: str) -> None:
        """Wait for a datagram of an agent's."""
        async with asyncio.timeout(30):
            while await self.heard.get() != (role, word):
                pass

    def pair(self) -> None:
        """Give the streams that wait to the first provider."""
        while self.waiting and self.providers:
            consumer, stream_id = self.waiting.popleft()
            consumer.join(stream_id, self.providers[0])


class _Peer(QuicConnectionProtocol):
    def __init__(self, hub: OldHub, connection: QuicConnection) -> None:
        super().__init__(connection)
        self.role = ""
        self.joined: dict[int, Place] = {}
        self.early: dict[int, list[tuple[bytes, bool]]] = {}
        self._hub = hub

    def quic_event_received(self, event: quic.QuicEvent) -> None:
        match event:
            case quic.HandshakeCompleted(alpn_protocol=alpn):
                self.begin(alpn or "")
            case quic.StreamDataReceived(data, end_stream, stream_id):
                self.arrived(stream_id, data, end_stream)
            case quic.StreamReset(code, stream_id):
                if (other := self.joined.get(stream_id)) is not None:
                    other[0].reset(other[1], code)
            case quic.StopSendingReceived(code, stream_id):
                if (other := self.joined.get(stream_id)) is not None:
                    other[0].stop(other[1], code)
            case quic.DatagramFrameReceived(data):
                word = data.decode("ascii")
                if word == "notify_shutdown" and self in self._hub.providers:
                    self._hub.providers.remove(self)
                self._hub.heard.put_nowait((self.role, word))
            case quic.ConnectionTerminated(error_code):
                self.lost()
                self._hub.ended.put_nowait((self.role, error_code))

    def begin(self, alpn: str) -> None:
        """The session exists with the handshake."""
        self.role = alpn.removeprefix("sc01-")
        if self._hub.refuse is not None:
            self.close(self._hub.refuse, "refused")
            return
        (self._hub.providers if self.role == "provider" else self._hub.consumers).append(self)
        self._hub.changed.set()
        self._hub.pair()

    def arrived(self, stream_id: int, data: bytes, fin: bool) -> None:
        """Passed on, or kept until there is a provider."""
        if (other := self.joined.get(stream_id)) is not None:
            other[0].send(other[1], data, fin=fin)
            return
        if stream_id not in self.early:
            self.early[stream_id] = []
            self._hub.waiting.append((self, stream_id))
        self.early[stream_id].append((data, fin))
        self._hub.pair()

    def join(self, stream_id: int, provider: _Peer) -> None:
        """Open a stream to the provider; what has come goes there first."""
        other = provider.next_stream()
        self.joined[stream_id] = provider, other
        provider.joined[other] = self, stream_id
        for data, fin in self.early.pop(stream_id):
            provider.send(other, data, fin=fin)

    def next_stream(self) -> int:
        """One that isn't open yet."""
        return self._quic.get_next_available_stream_id()

    def lost(self) -> None:
        """What is joined with it is reset."""
        for peers in (self._hub.providers, self._hub.consumers):
            if self in peers:
                peers.remove(self)
        self._hub.changed.set()
        for peer, stream_id in self.joined.values():
            peer.reset(stream_id, 0)
            peer.stop(stream_id, 0)
        self.joined.clear()

    def send(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        """Bytes on a stream."""
        self._quic.send_stream_data(stream_id, data, fin)
        self.transmit()

    def reset(self, stream_id: int, code: int) -> None:
        """Reset the sending side."""
        with contextlib.suppress(AssertionError):
            self._quic.reset_stream(stream_id, code)
        self.transmit()

    def stop(self, stream_id: int, code: int) -> None:
        """Want no more."""
        with contextlib.suppress(ValueError):
            self._quic.stop_stream(stream_id, code)
        self.transmit()

    def say(self, word: bytes) -> None:
        """A datagram."""
        self._quic.send_datagram_frame(word)
        self.transmit()


@contextlib.asynccontextmanager
async def old_hub(server: IssuedCredentials, client_ca: bytes, alpn: tuple[str, ...] = ()) -> AsyncIterator[OldHub]:
    """One on a free port of 127.0.0.1.

    :param alpn: what it speaks instead.
    """
    hub = OldHub()
    configuration = QuicConfiguration(
        is_client=False,
        alpn_protocols=list(alpn) or ["sc01-provider", "sc01-consumer"],
        idle_timeout=20.0,
        max_datagram_frame_size=65535,
        verify_mode=ssl.CERT_NONE,
        cadata=client_ca,
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "c.pem").write_bytes(server.certificate)
        (Path(folder) / "k.pem").write_bytes(server.key)
        configuration.load_cert_chain(Path(folder) / "c.pem", Path(folder) / "k.pem")
    transport, running = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: QuicServer(configuration=configuration, create_protocol=lambda quic, **_: _Peer(hub, quic)),
        local_addr=("127.0.0.1", 0),
    )
    hub.port = transport.get_extra_info("sockname")[1]
    try:
        yield hub
    finally:
        running.close()
