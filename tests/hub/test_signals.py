"""The signals of a real hub process, with an endpoint by hand that hears everything and does nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spnhub.actors.contract import packets
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import AllConnectionsClosed, Packet, SessionAck, ShutdownRequest
from spnhub.events.model import EndPointType
from spnhub.transport import protocol
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import ClientPolicy, Closed, Connected, EngineEvent, Limits, Opened, Readable
from spnhub.transport.udp import UdpEndpoint
from tests.support.world import World

pytestmark = pytest.mark.outside


class Passive:
    """A provider that takes its session and lets things happen."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.came: list[Packet] = []
        self.news = asyncio.Event()
        self.closed: Closed | None = None
        self._reader = protocol.PacketReader()
        self._engine = AioquicEngine(Limits())
        self._udp = UdpEndpoint(self._engine, self._on_events, lambda: None)
        self._c = 0

    async def start(self) -> None:
        """Take the session."""
        address = await self._udp.open_client_socket((self.world.host, self.world.port))
        mine = self.world.authority.client("provider")
        policy = ClientPolicy("localhost", ("spn/1",), mine.certificate, mine.key, self.world.authority.certificate)
        self._c = self._engine.connect(address, policy, self._udp.now())
        self._udp.start()
        self._udp.flush()
        await self.wait(SessionAck)

    async def wait(self, kind: type[Packet]) -> None:
        """Until a packet of this kind has come."""
        async with asyncio.timeout(20):
            while not any(isinstance(packet, kind) for packet in self.came):
                self.news.clear()
                await self.news.wait()

    def _on_events(self, events: list[EngineEvent]) -> None:
        for event in events:
            match event:
                case Connected():
                    assert self._engine.open_bidi(self._c) == 0
                    request = packets.SessionRequest(EndPointType.PROVIDER, self.world.urn(), "one")
                    self._engine.write(self._c, 0, protocol.encode(request))
                case Opened(stream_id=0) | Readable(stream_id=0):
                    got = self._engine.read(self._c, 0, 65536)
                    self.came += self._reader.feed(got[0]) if got else []
                case Closed():
                    self.closed = event
        self.news.set()

    async def close(self) -> None:
        """Let go of the socket."""
        await self._udp.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A world with the service ``web``."""
    async with World(tmp_path) as world:
        yield world


@pytest.fixture
async def endpoint(world: World) -> AsyncIterator[Passive]:
    """With a session at a hub that runs."""
    await world.start_hub("--return-spread", "1.5")
    endpoint = Passive(world)
    await endpoint.start()
    yield endpoint
    await endpoint.close()


async def test_sigterm(world: World, endpoint: Passive) -> None:
    """Endpoints are told, and get the time they are to have; then the hub ends the session itself, status 0."""
    began = time.monotonic()
    world.hub.send_signal(signal.SIGTERM)
    await endpoint.wait(AllConnectionsClosed)
    assert endpoint.came[1:] == [ShutdownRequest(True, 1500), AllConnectionsClosed()]
    assert await world.hub.stop(signal.SIGTERM) == 0  # a second one changes nothing
    assert time.monotonic() - began > 4.5
    assert endpoint.closed is not None
    assert endpoint.closed.code == Code.SHUTDOWN
    end = await world.hub.line("endSpnSession")
    assert end["terminateReason"] == "shutdown"


async def test_sigint_after_sigterm(world: World, endpoint: Passive) -> None:
    """The operator doesn't want to wait: a planned stop."""
    began = time.monotonic()
    world.hub.send_signal(signal.SIGTERM)
    await endpoint.wait(ShutdownRequest)
    assert await world.hub.stop(signal.SIGINT) == 0
    assert time.monotonic() - began < 4.5
    assert [line["signal"] for line in world.hub.said("hub.stopping")] == ["SIGTERM", "SIGINT"]


async def test_sigterm_without_endpoints(world: World) -> None:
    """Nobody is waited for."""
    hub = await world.start_hub()
    began = time.monotonic()
    assert await hub.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 4.5
