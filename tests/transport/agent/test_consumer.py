"""The consumer agent: accepting, holding, refusing, and what happens while an SPN connection is being made."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.options import ActorOptions
from spnhub.transport.agent.consumer import ConsumerAgent, ConsumerLimits
from spnhub.transport.agent.tcp import listen
from spnhub.transport.errors import ConnectionRejected, SessionLost
from tests.support.pipe_stream import PipeStream
from tests.support.tcp import Ending, TcpPeer, no_descriptors
from tests.transport.agent.fakes import FakeEndpoint, FakeSources, Told

pytestmark = pytest.mark.outside


class Bench:
    """An agent with limits that a test can reach, its session in the test's hand."""

    def __init__(self, limits: ConsumerLimits, listeners: list[socket.socket] | None = None) -> None:
        self.sources = FakeSources()
        self.endpoint = FakeEndpoint()
        listeners = listeners or listen("127.0.0.1", 0)
        self.agent = ConsumerAgent(listeners, self.sources, limits)
        self.address = listeners[0].getsockname()
        self.programs: list[TcpPeer] = []

    async def client(self) -> TcpPeer:
        # Blocking, so that the agent can't have done anything before we look.
        self.programs.append(TcpPeer(socket.create_connection(self.address)))
        return self.programs[-1]

    async def joined(self) -> tuple[TcpPeer, PipeStream]:
        """A client, and the other end of its SPN connection."""
        client = await self.client()
        here, there = PipeStream.pair()
        (await self.endpoint.connects.get()).set_result(here)
        return client, there

    async def close(self) -> None:
        await self.agent.close()
        for program in self.programs:
            program.close()


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """With a session."""
    bench = Bench(ConsumerLimits(connections=3, held=2, hold=0.2, connect=5, pause=0.1))
    bench.sources.put(bench.endpoint)
    bench.agent.start()
    yield bench
    await bench.close()


async def test_bytes_cross(bench: Bench) -> None:
    """What the client sent before its SPN connection existed arrives, and so does the answer."""
    client = await bench.client()
    await client.send(b"early")
    answer = await bench.endpoint.connects.get()
    here, there = PipeStream.pair()
    answer.set_result(here)
    there.write(b"hello")
    assert await client.receive(5) == b"hello"
    assert there.read(100) == (b"early", False)


async def test_refused_is_reset_at_once(bench: Bench) -> None:
    """A refusal is a RST to the client, with the code and the reason in the log."""
    with capture_logs() as lines:
        client = await bench.client()
        (await bench.endpoint.connects.get()).set_exception(ConnectionRejected(Code.CONNECT_FAILED, "server is down"))
        assert await client.receive_all() == (b"", Ending.RST)
    host, port = client.sock.getsockname()
    assert lines == [
        {
            "event": "connection.refused",
            "log_level": "warning",
            "client": f"{host} {port}",
            "reason": "connection refused, CONNECT_FAILED: server is down",
        }
    ]
    await bench.agent.wait_idle()


async def test_client_resets_while_connecting(bench: Bench) -> None:
    """The connection that was being made is given up."""
    client = await bench.client()
    answer = await bench.endpoint.connects.get()
    client.reset()
    await bench.agent.wait_idle()
    assert answer.cancelled()


@pytest.mark.parametrize("turns", range(8))
@pytest.mark.parametrize("first", ["reset", "connected"])
async def test_client_resets_while_the_bridge_begins(bench: Bench, first: str, turns: int) -> None:
    """A reset is one at whichever moment it comes: never a FIN, which would make a cut stream look whole."""
    client = await bench.client()
    answer = await bench.endpoint.connects.get()
    here, there = PipeStream.pair()
    told = Told(there)

    def connected() -> None:
        if not answer.done():
            answer.set_result(here)

    steps = [client.reset, connected]
    for step in steps if first == "reset" else reversed(steps):
        step()
        for _ in range(turns):
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        await bench.agent.wait_idle()
    if here.failing is not None:
        assert await told.aborted == Code.PEER_RESET
    assert not here.out.fin


async def test_client_half_closes_while_connecting(bench: Bench) -> None:
    """A FIN is no reason to give up: the client may wait for an answer."""
    client = await bench.client()
    client.finish()
    here, there = PipeStream.pair()
    (await bench.endpoint.connects.get()).set_result(here)
    there.write(b"answer")
    there.finish()
    assert await client.receive_all() == (b"answer", Ending.FIN)
    assert there.read(1) == (b"", True)
    await bench.agent.wait_idle()


async def test_connecting_takes_too_long() -> None:
    """Bounded, and then a RST."""
    bench = Bench(ConsumerLimits(connect=0.05))
    bench.sources.put(bench.endpoint)
    bench.agent.start()
    client = await bench.client()
    assert await client.receive_all() == (b"", Ending.RST)
    await bench.close()


async def test_held_without_a_session(bench: Bench) -> None:
    """D-27: a client is held, and served when the session comes in time."""
    bench.sources.lose()
    client = await bench.client()
    await client.send(b"question")
    while not bench.agent.connections:
        await asyncio.sleep(0)
    bench.sources.put(bench.endpoint)
    here, there = PipeStream.pair()
    (await bench.endpoint.connects.get()).set_result(here)
    there.write(b"answer")
    assert await client.receive(6) == b"answer"
    assert there.read(100) == (b"question", False)


async def test_session_is_lost_meanwhile(bench: Bench) -> None:
    """A session that goes while it is used, and no other: the client is held for the next one."""
    client = await bench.client()
    answer = await bench.endpoint.connects.get()
    bench.sources.lose()
    answer.set_exception(SessionLost("gone"))
    # Not tried again before there is a session.
    await asyncio.sleep(0.1)
    assert bench.endpoint.connects.empty()
    bench.sources.put(bench.endpoint)
    here, there = PipeStream.pair()
    (await bench.endpoint.connects.get()).set_result(here)
    there.write(b"x")
    assert await client.receive(1) == b"x"


async def test_session_is_lost_unnoticed(bench: Bench) -> None:
    """A session whose end shows only when it is used: tried again for as long as a client is held, and no longer."""
    client = await bench.client()
    attempts = 0

    async def refuse() -> None:
        nonlocal attempts
        while True:
            (await bench.endpoint.connects.get()).set_exception(SessionLost("gone"))
            attempts += 1

    refusing = asyncio.ensure_future(refuse())
    assert await client.receive_all() == (b"", Ending.RST)
    refusing.cancel()
    assert 2 <= attempts <= 6


async def test_held_in_vain(bench: Bench) -> None:
    """D-27: and reset when it doesn't."""
    bench.sources.lose()
    client = await bench.client()
    assert await client.receive_all() == (b"", Ending.RST)


async def test_held_count_is_bounded(bench: Bench) -> None:
    """D-27: one more than may be held is reset at once, the others are still held."""
    bench.sources.lose()
    first, second, third = [await bench.client() for _ in range(3)]
    assert await third.receive_all() == (b"", Ending.RST)
    assert bench.agent.connections == 2
    bench.sources.put(bench.endpoint)
    for client in (first, second):
        here, there = PipeStream.pair()
        (await bench.endpoint.connects.get()).set_result(here)
        there.write(b"x")
        assert await client.receive(1) == b"x"


async def test_open_connections_are_bounded(bench: Bench) -> None:
    """At the bound nobody is accepted until one has ended; that is said once."""
    with capture_logs() as lines:
        joined = [await bench.joined() for _ in range(3)]
        fourth = await bench.client()
        while len(lines) < 4:
            await asyncio.sleep(0)
        assert bench.endpoint.connects.empty()
        joined[0][1].abort(Code.PEER_LOST)
        assert await joined[0][0].receive_all() == (b"", Ending.RST)
        here, there = PipeStream.pair()
        (await bench.endpoint.connects.get()).set_result(here)
        there.write(b"x")
        assert await fourth.receive(1) == b"x"
    assert [line for line in lines if line["log_level"] != "debug"] == [
        {"event": "agent.connection_limit", "log_level": "warning", "connections": 3}
    ]


async def test_out_of_descriptors() -> None:
    """D-25: accepting pauses, says so, and goes on; open connections don't notice."""
    bench = Bench(ConsumerLimits(pause=0.05))
    bench.sources.put(bench.endpoint)
    bench.agent.start()
    client, there = await bench.joined()
    with capture_logs() as lines:
        second = await bench.client()
        with no_descriptors():
            while sum(line["log_level"] == "warning" for line in lines) < 2:
                await asyncio.sleep(0)
            there.write(b"x")
            assert await client.receive(1) == b"x"
            assert bench.agent.connections == 1
        here, there = PipeStream.pair()
        (await bench.endpoint.connects.get()).set_result(here)
        there.write(b"y")
        assert await second.receive(1) == b"y"
    pause = {
        "event": "agent.out_of_resources",
        "log_level": "warning",
        "reason": "Too many open files",
        "connections": 1,
        "pause": 0.05,
    }
    assert [line for line in lines if line["log_level"] != "debug"][:2] == [pause, pause]
    await bench.close()


async def test_drain(bench: Bench) -> None:
    """Stopping takes who has already connected, refuses who comes later, and waits for those who are in."""
    client, there = await bench.joined()
    waiting = await bench.client()
    bench.agent.stop_accepting()
    with pytest.raises(ConnectionRefusedError):
        await bench.client()
    here, other = PipeStream.pair()
    (await bench.endpoint.connects.get()).set_result(here)
    other.write(b"x")
    assert await waiting.receive(1) == b"x"
    idle = asyncio.ensure_future(bench.agent.wait_idle())
    for program, stream in ((client, there), (waiting, other)):
        assert not idle.done()
        program.finish()
        stream.finish()
        assert await program.receive_all() == (b"", Ending.FIN)
        while stream.read(1) != (b"", True):
            await asyncio.sleep(0)
    await idle


async def test_close_resets(bench: Bench) -> None:
    """Stopping at once is a RST to everybody: to who is in and to who waits."""
    client, there = await bench.joined()
    waiting = await bench.client()
    await bench.endpoint.connects.get()
    await bench.agent.close()
    assert await client.receive_all() == (b"", Ending.RST)
    assert await waiting.receive_all() == (b"", Ending.RST)
    assert there.read(1) is None


def test_patience() -> None:
    """A client waits longer than the hub may take: to start the service, then for the provider's answer."""
    hub = ActorOptions()
    assert hub.start_timeout + hub.accept_timeout < ConsumerLimits().connect
