"""An endpoint written by hand on real sockets: it sends what a test says, also what no endpoint of ours would."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

from spnhub.actors.contract.packets import Packet, SessionAck, SessionRequest
from spnhub.events.model import EndPointType
from spnhub.pki import IssuedCredentials
from spnhub.transport import protocol
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import ClientPolicy, Closed, Connected, EngineEvent, Limits, Opened, Readable
from spnhub.transport.udp import UdpEndpoint

__all__ = ["RawPeer", "raw_peer"]


class RawPeer:
    """See :func:`raw_peer`."""

    def __init__(self, role: EndPointType, service_urn: str, instance_id: str) -> None:
        self.engine = AioquicEngine(Limits())
        self.udp = UdpEndpoint(self.engine, self._on_events)
        self.connection_id = 0
        self.control: list[Packet] = []
        self.closed: Closed | None = None
        self.received: dict[int, bytes] = defaultdict(bytes)
        """What has come on each data stream."""
        self.reads = True
        """Whether it reads these."""
        self._request = SessionRequest(role, service_urn, instance_id)
        self._reader = protocol.PacketReader()
        self._news = asyncio.Event()

    def _on_events(self, events: list[EngineEvent]) -> None:
        for event in events:
            match event:
                case Connected():
                    assert self.engine.open_bidi(self.connection_id) == 0
                    self.engine.write(self.connection_id, 0, protocol.encode(self._request))
                case Closed():
                    self.closed = event
                case Opened() | Readable() if self.reads or not event.stream_id:
                    self._read(event.stream_id)
        self._news.set()

    def _read(self, stream_id: int) -> None:
        while got := self.engine.read(self.connection_id, stream_id, 65536):
            if stream_id == 0:
                self.control += self._reader.feed(got[0])
            else:
                self.received[stream_id] += got[0]
            if not got[0] or got[1]:
                return

    async def until(self, found: Callable[[], bool]) -> None:
        """Wait for what comes."""
        async with asyncio.timeout(60):
            while not found():
                self._news.clear()
                await self._news.wait()

    async def send(self, data: bytes) -> None:
        """Bytes on the control stream, as fast as they are taken, as long as there is a session."""
        while data and self.closed is None:
            data = data[self.engine.write(self.connection_id, 0, data[:8192]) :]
            self.udp.flush()
            await asyncio.sleep(0)

    def open(self, data: bytes) -> int:
        """A data stream that begins so."""
        stream_id = self.engine.open_bidi(self.connection_id)
        assert stream_id is not None
        self.write(stream_id, data)
        return stream_id

    def write(self, stream_id: int, data: bytes) -> None:
        """Bytes on a data stream."""
        self.engine.write(self.connection_id, stream_id, data)
        self.udp.flush()


@contextlib.asynccontextmanager
async def raw_peer(
    address: tuple[str, int],
    server_name: str,
    trust: bytes,
    credentials: IssuedCredentials,
    request: tuple[EndPointType, str, str],
) -> AsyncIterator[RawPeer]:
    """One that has its session, or was refused: :attr:`RawPeer.closed`.

    :param request: role, service URN and instance id.
    """
    peer = RawPeer(*request)
    try:
        remote = await peer.udp.open_client_socket(address)
        policy = ClientPolicy(server_name, (protocol.ALPN,), credentials.certificate, credentials.key, trust)
        peer.connection_id = peer.engine.connect(remote, policy, peer.udp.now())
        peer.udp.flush()
        await peer.until(lambda: peer.closed is not None or any(isinstance(one, SessionAck) for one in peer.control))
        yield peer
    finally:
        peer.engine.close(peer.connection_id, 0, "bye")
        await peer.udp.close()
