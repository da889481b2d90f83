"""The provider agent: TCP first, then the answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent.provider import ProviderAgent, ProviderLimits
from spnhub.transport.errors import ConnectionAborted
from spnhub.transport.system.socket_address import TcpAddress
from tests.support.pipe_stream import PipeStream
from tests.support.tcp import Ending, TcpPeer, TcpServer
from tests.transport.agent.fakes import FakeEndpoint, FakeRequest, FakeSources

pytestmark = pytest.mark.outside


class Bench:
    """An agent, its TCP server, and its session in the test's hand."""

    def __init__(self) -> None:
        self.server = TcpServer()
        self.sources = FakeSources()
        self.endpoint = FakeEndpoint()
        self.sources.put(self.endpoint)
        self.agent = ProviderAgent(
            TcpAddress(*self.server.address), self.sources, ProviderLimits(connections=2, connect=1)
        )
        self._running = asyncio.ensure_future(self.agent.run())

    def ask(self) -> tuple[FakeRequest, PipeStream]:
        """A consumer asks for a connection: the request, and the consumer's end of the stream."""
        consumer, provider = PipeStream.pair()
        request = FakeRequest(provider)
        assert self.sources.current is not None
        self.sources.current.requests.put_nowait(request)
        return request, consumer

    async def close(self) -> None:
        await self.agent.close()
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        self.server.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    bench = Bench()
    yield bench
    await bench.close()


async def test_server_speaks_first(bench: Bench) -> None:
    """The server is connected and heard before the consumer has sent a byte."""
    request, consumer = bench.ask()
    peer = await bench.server.accept()
    assert await request.answer == (Code.OK, "")
    await peer.send(b"220 hello")
    while (piece := consumer.read(100)) == (b"", False):
        await asyncio.sleep(0)
    assert piece == (b"220 hello", False)
    consumer.write(b"QUIT")
    consumer.finish()
    assert await peer.receive_all() == (b"QUIT", Ending.FIN)
    peer.close()


async def test_server_is_down(bench: Bench) -> None:
    """D-16: refused with CONNECT_FAILED, so that the client gets a reset at once."""
    bench.server.close()
    request, _ = bench.ask()
    code, reason = await request.answer
    assert (code, "refused" in reason) == (Code.CONNECT_FAILED, True)
    await bench.agent.wait_idle()


async def test_consumer_goes_away_while_connecting(bench: Bench) -> None:
    """The TCP connection that was made for it is reset."""
    request, _ = bench.ask()
    request.gone = ConnectionAborted(Code.PEER_RESET, "the consumer's client went away")
    peer = await bench.server.accept()
    assert await peer.receive_all() == (b"", Ending.RST)
    peer.close()


async def test_connections_are_bounded(bench: Bench) -> None:
    """One more is refused with LIMIT."""
    open_ones = [bench.ask() for _ in range(2)]
    third, _ = bench.ask()
    assert await third.answer == (Code.LIMIT, "the provider agent has 2 connections")
    peers = [await bench.server.accept() for _ in range(2)]
    assert [await request.answer for request, _ in open_ones] == [(Code.OK, "")] * 2
    for peer in peers:
        peer.close()


async def _hang_up(peer: TcpPeer, consumer: PipeStream) -> None:
    """Both programs end a connection in order."""
    consumer.finish()
    assert await peer.receive_all() == (b"", Ending.FIN)
    peer.close()
    while consumer.read(1) != (b"", True):
        await asyncio.sleep(0)


async def test_drain(bench: Bench) -> None:
    """R-5.4: the weight is 0, late requests are served, and it ends with the hub's word and the last connection."""
    request, consumer = bench.ask()
    peer = await bench.server.accept()
    await request.answer
    draining = asyncio.ensure_future(bench.agent.drain())
    await asyncio.sleep(0)
    assert bench.endpoint.weights == [0]
    late, later_consumer = bench.ask()
    later_peer = await bench.server.accept()
    assert await late.answer == (Code.OK, "")
    await _hang_up(peer, consumer)
    bench.endpoint.all_closed.set()
    await asyncio.sleep(0.01)
    assert (bench.agent.connections, draining.done()) == (1, False)
    await _hang_up(later_peer, later_consumer)
    await draining


async def test_drain_waits_for_the_hub(bench: Bench) -> None:
    """Nothing is open here, but something may be on its way."""
    draining = asyncio.ensure_future(bench.agent.drain())
    await asyncio.sleep(0.01)
    assert (bench.endpoint.weights, draining.done()) == ([0], False)
    bench.endpoint.all_closed.set()
    await draining


async def test_drain_without_an_endpoint(bench: Bench) -> None:
    """One that never had a session has nothing to wait for; nor has one that has failed."""
    bench.sources.current = None
    await bench.agent.drain()
    bench.sources.current = bench.endpoint
    bench.endpoint.over.set_result(None)
    await bench.agent.drain()


async def test_drain_without_a_session(bench: Bench) -> None:
    """Nobody can say that nothing comes; that nothing is open is enough, and a paused connection is open."""
    request, consumer = bench.ask()
    peer = await bench.server.accept()
    await request.answer
    bench.sources.lose()
    draining = asyncio.ensure_future(bench.agent.drain())
    await asyncio.sleep(0.01)
    assert (bench.endpoint.weights, draining.done()) == ([0], False)
    await _hang_up(peer, consumer)
    await draining


async def test_session_is_lost_while_draining(bench: Bench) -> None:
    """Then, too; and when one comes back it is asked again."""
    request, consumer = bench.ask()
    peer = await bench.server.accept()
    await request.answer
    draining = asyncio.ensure_future(bench.agent.drain())
    await asyncio.sleep(0.01)
    bench.sources.lose()
    await asyncio.sleep(0.01)
    bench.sources.put(bench.endpoint)
    await _hang_up(peer, consumer)
    await bench.agent.wait_idle()
    await asyncio.sleep(0.01)
    assert not draining.done()
    bench.sources.lose()
    await draining


async def test_endpoint_fails_for_good(bench: Bench) -> None:
    """Taking requests ends in silence: the keeper says why. Open connections are the endpoint's affair."""
    running = asyncio.ensure_future(bench.agent.run())
    bench.endpoint.over.set_result(None)
    await running


async def test_close_resets(bench: Bench) -> None:
    """Stopping at once is a RST to the server and an error to the consumer."""
    request, consumer = bench.ask()
    peer = await bench.server.accept()
    await request.answer
    while not consumer.peer or not bench.agent.connections:
        await asyncio.sleep(0)
    await bench.agent.close()
    assert await peer.receive_all() == (b"", Ending.RST)
    assert consumer.read(1) is None
    peer.close()
