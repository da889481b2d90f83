"""Sockets of unix(7) beside TCP: at both agents, and what becomes of their files."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent.consumer import ConsumerAgent
from spnhub.transport.agent.health import HealthWatch, parse_health_check
from spnhub.transport.agent.provider import ProviderAgent, ProviderLimits
from spnhub.transport.agent.tcp import Connector, listen_at
from spnhub.transport.system.socket_address import TcpAddress, UnixAddress
from tests.support.pipe_stream import PipeStream
from tests.support.tcp import Ending, TcpPeer
from tests.transport.agent.fakes import FakeEndpoint, FakeRequest, FakeSources, Told

pytestmark = pytest.mark.outside


def connected(address: UnixAddress) -> TcpPeer:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(address.name)
    return TcpPeer(sock)


class Reading(Told):
    """Takes what comes, for an error comes after it."""

    def __init__(self, stream: PipeStream) -> None:
        super().__init__(stream)
        self.stream = stream

    def on_readable(self) -> None:
        self.stream.read(100)


class Pair:
    """A consumer agent at a socket of either kind, and a provider agent before a server at a socket of unix(7)."""

    def __init__(self, folder: Path) -> None:
        self.web = UnixAddress(str(folder / "web.sock"))
        self.server = UnixAddress(str(folder / "server.sock"))
        self.serving = listen_at(self.server)[0]
        self.serving.setblocking(False)
        listeners = [*listen_at(self.web), *listen_at(TcpAddress("127.0.0.1", 0))]
        self.tcp = listeners[1].getsockname()
        self.consumer_endpoint, self.provider_endpoint = FakeEndpoint(), FakeEndpoint()
        consumers, providers = FakeSources(), FakeSources()
        consumers.put(self.consumer_endpoint)
        providers.put(self.provider_endpoint)
        self.consumer = ConsumerAgent(listeners, consumers)
        self.consumer.start()
        self.provider = ProviderAgent(self.server, providers, ProviderLimits(connect=0.3))
        self.running = asyncio.ensure_future(self.provider.run())

    async def joined(self, client: TcpPeer) -> TcpPeer:
        """The server's end of a client's connection."""
        here, there = PipeStream.pair()
        request = FakeRequest(there)
        (await self.consumer_endpoint.connects.get()).set_result(here)
        self.provider_endpoint.requests.put_nowait(request)
        accepted, _ = await asyncio.get_running_loop().sock_accept(self.serving)
        assert (await request.answer)[0] is Code.OK
        return TcpPeer(accepted)

    async def close(self) -> None:
        self.running.cancel()
        await self.consumer.close()
        await self.provider.close()
        self.serving.close()


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    await pair.close()


@pytest.mark.parametrize("kind", ["unix", "tcp"])
async def test_bytes_and_half_close(pair: Pair, kind: str) -> None:
    """Both directions, and each ends for itself."""
    client = connected(pair.web) if kind == "unix" else await TcpPeer.connect(pair.tcp)
    server = await pair.joined(client)
    await client.send(b"x" * 300_000)
    client.sock.shutdown(socket.SHUT_WR)
    assert await server.receive_all() == (b"x" * 300_000, Ending.FIN)
    await server.send(b"answer")
    server.close()
    assert await client.receive_all() == (b"answer", Ending.FIN)
    client.close()
    await asyncio.wait_for(pair.consumer.wait_idle(), 30)
    await asyncio.wait_for(pair.provider.wait_idle(), 30)


async def test_client_that_went_away(pair: Pair) -> None:
    """What is sent to it fails, as with TCP."""
    client = connected(pair.web)
    here, there = PipeStream.pair()
    told = Reading(there)
    (await pair.consumer_endpoint.connects.get()).set_result(here)
    client.close()
    there.write(b"for nobody")
    assert await asyncio.wait_for(told.aborted, 30) == Code.PEER_RESET


async def test_server_that_is_away(pair: Pair) -> None:
    """The refusal names it."""
    pair.serving.close()
    _, stream = PipeStream.pair()
    request = FakeRequest(stream)
    with capture_logs() as lines:
        pair.provider_endpoint.requests.put_nowait(request)
        assert await request.answer == (Code.CONNECT_FAILED, f"{pair.server}: Connection refused")
    assert [(line["event"], line["address"]) for line in lines] == [("connection.refused", str(pair.server))]


async def test_server_that_accepts_nothing(tmp_path: Path) -> None:
    """Its backlog is full: that takes as long as a connection may take, and no longer."""
    address = UnixAddress(str(tmp_path / "full.sock"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(address.name)
        server.listen(0)
        first = connected(address)
        with pytest.raises(Exception, match=r"full\.sock did not answer within 0\.1 s") as caught:
            await Connector().connect_to(address, 0.1)
        assert caught.value.code is Code.CONNECT_TIMEOUT  # type: ignore[attr-defined] # a ConnectError
        first.close()


async def test_health(pair: Pair) -> None:
    """A check asks over it, too."""
    check = parse_health_check("http:/health", timeout=5)
    assert check is not None

    async def nothing() -> None: ...

    watch = HealthWatch(check, pair.server, Connector(), nothing)
    asking = asyncio.ensure_future(watch.check())
    accepted, _ = await asyncio.get_running_loop().sock_accept(pair.serving)
    server = TcpPeer(accepted)
    assert b"Host: localhost\r\n" in await server.receive(40)
    await server.send(b"HTTP/1.1 503 no\r\n\r\n")
    assert await asking == "GET /health: status 503"
    server.close()


async def test_files(tmp_path: Path) -> None:
    """One that a killed process has left is replaced; one that is in use, or is no socket, never."""
    address = UnixAddress(str(tmp_path / "a.sock"))
    left = listen_at(address)[0]
    with pytest.raises(OSError, match="Address already in use"):
        listen_at(address)
    left.close()
    assert Path(address.path).is_socket()
    agent = ConsumerAgent(listen_at(address), FakeSources())
    agent.start()
    assert agent.addresses == [address]
    await agent.close()
    assert not Path(address.path).exists(), "the file goes with the agent"
    Path(address.path).write_text("a document")
    with pytest.raises(OSError, match="Address already in use"):
        listen_at(address)
    assert Path(address.path).read_text() == "a document"
    abstract = UnixAddress(f"@spnhub-test-{tmp_path.name}-{id(tmp_path)}")
    (listener,) = listen_at(abstract)
    connected(abstract).close()
    listener.close()
