"""What one TCP program does at the end, the other one hears: FIN as FIN, RST as RST, and soon (D-17, D-23, D-24)."""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from spnhub.transport.agent.bridge import STALL
from spnhub.transport.endpoint.connection.transitions import CLOSE_BOUND
from tests.support.command import Command, Line
from tests.support.tcp import Ending, TcpPeer, TcpServer
from tests.support.world import Consumer, World
from tests.system.sizes import report, sizes

pytestmark = pytest.mark.asyncio(loop_scope="module")

_NOTICED = 5.0
"""Seconds in which a reset must have been heard of at the other side (D-24)."""
_UNTAKEN = max(STALL, CLOSE_BOUND) + 2 * _NOTICED
"""The same where nobody takes the bytes before it (D-34)."""


class Chain:
    """A TCP server behind agents and hub; one world for all tests here, since none of them harms it."""

    def __init__(self, world: World, hub: Command, server: TcpServer, consumer: Consumer, dead: Consumer) -> None:
        self.world = world
        self.hub = hub
        self.server = server
        self.consumer = consumer
        self.dead = dead
        """The consumer agent of a service whose TCP server is down."""
        self._ended = 0

    async def join(self) -> tuple[TcpPeer, TcpPeer]:
        """A connection: the client's end and the server's."""
        return await self.world.join(self.consumer, self.server)

    async def ended(self) -> Line:
        """The end of the one connection since this was last asked."""
        self._ended += 1
        return await self.hub.line("endSpnConnection", nth=self._ended)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chain(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Chain]:
    """Two services on one hub; when all tests are through, the books are checked."""
    folder: Path = tmp_path_factory.mktemp("endings")
    async with World(folder, services=("web", "dead")) as world:
        server = world.serve()
        with socket.create_server(("127.0.0.1", 0)) as closed:
            nobody = closed.getsockname()
        hub = await world.start_hub()
        _, consumer, _, dead = await asyncio.gather(
            world.start_provider(server.address),
            world.start_consumer(),
            world.start_provider(nobody, service="dead"),
            world.start_consumer(service="dead"),
        )
        yield Chain(world, hub, server, consumer, dead)
        await world.end()


async def hears_reset(peer: TcpPeer, timeout: float) -> float:
    """Wait until the kernel knows of a RST, without reading; how many seconds it took."""
    began = time.monotonic()
    poll = select.poll()
    poll.register(peer.sock, 0)
    ready = await asyncio.to_thread(poll.poll, timeout * 1000)
    assert ready and ready[0][1] & select.POLLERR, f"no reset within {timeout} s: {ready}"
    return time.monotonic() - began


async def test_client_reset_is_a_reset_at_the_server(chain: Chain) -> None:
    """RST, never FIN, and the reason is error."""
    client, served = await chain.join()
    await client.send(b"half a request")
    assert await served.receive(14) == b"half a request"
    client.reset()
    assert await served.receive_all() == (b"", Ending.RST)
    assert (await chain.ended())["disconnectReason"] == "error"


async def test_server_reset_is_a_reset_at_the_client(chain: Chain) -> None:
    """RST, never FIN, and the reason is error."""
    client, served = await chain.join()
    await served.send(b"half an answer")
    assert await client.receive(14) == b"half an answer"
    served.reset()
    assert await client.receive_all() == (b"", Ending.RST)
    assert (await chain.ended())["disconnectReason"] == "error"


@pytest.mark.parametrize("server_first", [False, True], ids=["client first", "server first"])
async def test_fin_is_a_fin(chain: Chain, server_first: bool) -> None:
    """Whoever ends first, the other can still send; both read an orderly end."""
    first, second = await chain.join()
    if server_first:
        first, second = second, first
    await first.send(b"one")
    first.finish()
    assert await second.receive_all() == (b"one", Ending.FIN)
    await second.send(b"three")
    second.finish()
    assert await first.receive_all() == (b"three", Ending.FIN)
    end = await chain.ended()
    sent, received = (5, 3) if server_first else (3, 5)
    assert (end["disconnectReason"], end["totalSentBytes"], end["totalReceiveBytes"]) == (
        "closedByPeer",
        sent,
        received,
    )


async def test_connection_without_a_byte(chain: Chain) -> None:
    """Opened and closed, nothing else: an orderly end with counters of zero."""
    client, served = await chain.join()
    client.finish()
    assert await served.receive_all() == (b"", Ending.FIN)
    served.finish()
    assert await client.receive_all() == (b"", Ending.FIN)
    end = await chain.ended()
    assert (end["disconnectReason"], end["totalSentBytes"], end["totalReceiveBytes"]) == ("closedByPeer", 0, 0)


async def test_server_that_is_down_is_a_reset_at_once(chain: Chain) -> None:
    """Where nothing listens behind the provider agent, the client gets a reset."""
    began = time.monotonic()
    client = await chain.world.connect(chain.dead)
    assert await client.receive_all() == (b"", Ending.RST)
    took = time.monotonic() - began
    report(took=f"{took:.2f} s")
    assert took < 4
    assert (await chain.ended())["disconnectReason"] == "error"


async def test_resets_while_nobody_reads(chain: Chain) -> None:
    """The other program doesn't read, so the agent doesn't either; a program's RST reaches it when the bytes before it
    have waited long enough. Of a client and of a server, each with a connection of its own."""

    async def fill(one: TcpPeer) -> None:
        while one.send_until_blocked():
            # Blocked for good only when every window and buffer on the way is full.
            await asyncio.to_thread(select.select, [], [one.sock], [], 1.0)

    client, served = await chain.join()
    other_client, other_served = await chain.join()
    await asyncio.gather(fill(client), fill(other_served))
    client.reset()
    other_served.reset()
    took = await asyncio.gather(hears_reset(served, _UNTAKEN), hears_reset(other_client, _UNTAKEN))
    report(took=f"{took} s", filled=f"{client.sent} and {other_served.sent} bytes")
    for _ in range(2):
        assert (await chain.ended())["disconnectReason"] == "error"


async def test_client_reset_after_its_half_close(chain: Chain) -> None:
    """After its FIN has gone through, a client's RST still reaches the server."""
    client, served = await chain.join()
    await client.send(b"question")
    client.finish()
    assert await served.receive_all() == (b"question", Ending.FIN)
    client.reset()
    took = await hears_reset(served, _NOTICED)
    report(took=f"{took:.2f} s")
    assert (await chain.ended())["disconnectReason"] == "error"


async def test_server_reset_after_its_half_close(chain: Chain) -> None:
    """After its FIN has gone through, a server's RST still reaches the client."""
    client, served = await chain.join()
    await served.send(b"greeting")
    served.finish()
    assert await client.receive_all() == (b"greeting", Ending.FIN)
    served.reset()
    took = await hears_reset(client, _NOTICED)
    report(took=f"{took:.2f} s")
    assert (await chain.ended())["disconnectReason"] == "error"


@sizes("rounds", 5, 20)
@pytest.mark.parametrize("size", [3_000, 10_000, 60_000])
async def test_close_without_reading_the_answer(chain: Chain, size: int, rounds: int) -> None:
    """A log shipper: all is sent, the answer is never read, and the close becomes a RST. Every byte arrives (D-34)."""
    for _ in range(rounds):
        client, served = await chain.join()
        await served.send(b"!")
        while not select.select([client.sock], [], [], 0)[0]:
            await asyncio.sleep(0.001)
        reading = asyncio.ensure_future(served.receive_all())
        await client.send(bytes(size))
        client.close()
        assert await reading == (bytes(size), Ending.RST)
        assert (await chain.ended())["totalSentBytes"] == size


@sizes("rounds", 10, 40)
async def test_early_answer_to_an_upload(chain: Chain, rounds: int) -> None:
    """A server answers before it has read the upload, and closes: the client gets the answer."""
    answer = b"HTTP/1.1 413 Content Too Large\r\n\r\n" + bytes(2000)
    for _ in range(rounds):
        client, served = await chain.join()

        async def upload(client: TcpPeer = client) -> None:
            with contextlib.suppress(ConnectionError):
                await client.send(bytes(8 << 20))

        uploading = asyncio.ensure_future(upload())
        await served.receive(1000)
        await served.send(answer)
        while served.unsent:
            await asyncio.sleep(0.001)
        served.close()
        await uploading
        assert (await client.receive_all())[0] == answer
        assert (await chain.ended())["totalReceiveBytes"] == len(answer)


async def test_urgent_data(chain: Chain) -> None:
    """MSG_OOB: every byte in its place, both ways; the mark is lost."""
    client, served = await chain.join()
    for one, other in ((client, served), (served, client)):
        await one.send(b"abc")
        one.sock.send(b"!", socket.MSG_OOB)
        await one.send(b"def")
        one.finish()
        assert await other.receive_all() == (b"abc!def", Ending.FIN)
    end = await chain.ended()
    assert (end["totalSentBytes"], end["totalReceiveBytes"]) == (7, 7)


@pytest.mark.parametrize("size", [1, 60_000])
async def test_reset_while_connecting(chain: Chain, size: int) -> None:
    """A client that has sent and reset before its connection has a server: the server gets what it would have had."""
    for _ in range(5):
        client = await chain.world.connect(chain.consumer)
        await client.send(bytes(size))
        while client.unsent:
            await asyncio.sleep(0)
        client.reset()
        served = await chain.world.accept(chain.server)
        assert await served.receive_all() == (bytes(size), Ending.RST)
        assert (await chain.ended())["totalSentBytes"] == size
