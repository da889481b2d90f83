"""Servers that are down cost no connection as long as one is up (D-35): real agents, real TCP programs."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator

import pytest

from spnhub import ConsumerEndpoint, EndpointClosed, ProviderEndpoint
from spnhub.actors.contract.codes import Code
from tests.support.tcp import TcpPeer, TcpServer, serve
from tests.support.world import Consumer, Place, World, free_udp_port
from tests.system.sizes import report, sizes


async def echo(peer: TcpPeer) -> None:
    """One line and its answer, as long as the client likes."""
    with contextlib.suppress(OSError, EOFError):
        while data := await peer.receive(4):
            await peer.send(data)


async def ask(consumer: Consumer) -> bool:
    """A request over a connection of its own; whether there was an answer."""
    try:
        client = await TcpPeer.connect(consumer.address)
    except OSError:
        return False
    try:
        await client.send(b"ping")
        return await client.receive(4) == b"ping"
    except (OSError, EOFError, AssertionError):
        return False
    finally:
        client.close()


@sizes("requests, idle", (200, 4), (2000, 40), minutes=5)
async def test_one_of_two_servers_is_down(world: World, requests: int, idle: int) -> None:
    """The one that fails at once attracts nobody: all get through, one after the other, four at a time, with idle ones.

    Without an idle client the one that is down has as little to do as the other; with some it has always less.
    """
    with TcpServer(up=False) as down:
        async with serve(echo) as up:
            hub = await world.start_hub()
            await world.start_provider(down.address)  # the older: it comes first
            await world.start_provider(up)
            consumer = await world.start_consumer()
            began = time.monotonic()
            alone = [await ask(consumer) for _ in range(requests // 4)]
            clients = [await world.connect(consumer) for _ in range(idle)]
            for client in clients:
                await client.send(b"ping")
                assert await client.receive(4) == b"ping"
            together = []
            for _ in range(requests // 4):
                together += await asyncio.gather(*(ask(consumer) for _ in range(3)))
            seconds = time.monotonic() - began
            assert Counter(alone + together) == {True: len(alone) + len(together)}
            for client in clients:
                client.close()
            failures = await hub.wait_lines("providerFailed", 1)
            assert (failures[0]["code"], failures[0]["failures"]) == (Code.CONNECT_FAILED, 1)
            rejected = [line for line in await world.events() if line.get("rejected")]
            # One for the first, then one for each trial: 1, 2, 4 … s.
            assert len(rejected) <= 2 + 2 * (seconds + 1) ** 0.5
            report(requests=len(alone + together), seconds=f"{seconds:.1f}", attempts_in_vain=len(rejected))
            await world.end()


async def test_a_server_that_comes_back(world: World) -> None:
    """Both are down: each request is refused with the reason; then one is back, and the next request gets it."""
    with TcpServer(up=False) as server, TcpServer(up=False) as other:
        hub = await world.start_hub()
        await asyncio.gather(world.start_provider(server.address), world.start_provider(other.address))
        consumer = await world.start_consumer()
        assert [await ask(consumer) for _ in range(5)] == [False] * 5
        await hub.wait_lines("providerFailed", 2)
        server.listen()
        async with serve(echo, server):
            assert [await ask(consumer) for _ in range(20)] == [True] * 20
            await hub.wait_lines("providerRecovered", 1)
        await world.end()


async def test_a_server_that_flaps(world: World) -> None:
    """It comes and goes while requests arrive without a pause: all get through, to the one or to the other."""
    async with serve(echo) as up:
        hub = await world.start_hub()
        # Below the ports that clients get: nobody takes it meanwhile.
        flapping = ("127.0.0.1", free_udp_port("127.0.0.1"))
        await world.start_provider(flapping)
        await world.start_provider(up)
        consumer = await world.start_consumer()
        answers: list[bool] = []
        for _ in range(5):
            async with serve(echo, TcpServer(*flapping)):
                for _ in range(8):
                    answers += await asyncio.gather(*(ask(consumer) for _ in range(3)))
            for _ in range(8):
                answers += await asyncio.gather(*(ask(consumer) for _ in range(3)))
        assert Counter(answers) == {True: 240}
        report(failed=len(hub.said("providerFailed")), recovered=len(hub.said("providerRecovered")))
        await world.end()


async def test_an_agent_that_is_full(world: World) -> None:
    """It has 64 descriptors and many idle clients: what it can't take, the other one does."""
    async with serve(echo) as server:
        hub = await world.start_hub()
        few = Place("127.0.0.1", ("sh", "-c", 'ulimit -n 64 && exec "$0" "$@"'))
        await world.start_provider(server, host=few, env={"SPN_WEIGHT": "1000"})
        await world.start_provider(server, env={"SPN_WEIGHT": "1"})
        consumer = await world.start_consumer()
        clients = [await world.connect(consumer) for _ in range(100)]
        for client in clients:
            await client.send(b"ping")
            assert await client.receive(4) == b"ping"
        failed = await hub.line("providerFailed")
        assert failed["code"] == Code.LIMIT
        for client in clients:
            client.close()
        await world.end()


async def test_an_agent_that_is_killed_between_opening_and_accept(world: World) -> None:
    """Its server is silent, so that it has openings unanswered; the other one gets them when its process is gone."""
    silent = socket.create_server(("127.0.0.1", 0), backlog=0)
    with silent, contextlib.ExitStack() as stack:
        # A queue that is full lets nobody in, and says nothing.
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(silent.getsockname())
        async with serve(echo) as server:
            hub = await world.start_hub()
            dying = await world.start_provider(silent.getsockname())
            await world.start_provider(server)
            consumer = await world.start_consumer()
            # Some of them for each; the other's are over at once.
            requests = [asyncio.ensure_future(ask(consumer)) for _ in range(6)]
            await hub.wait_lines("startSpnConnection", 6)
            began = time.monotonic()
            await dying.kill()
            assert await asyncio.gather(*requests) == [True] * 6
            report(seconds=f"{time.monotonic() - began:.1f}")
            # Lines come after what they are about.
            await hub.wait_lines("startSpnConnection", 7)
            offers = 0
            while offers < len(hub.said("startSpnConnection")):
                offers = len(hub.said("startSpnConnection"))
                await hub.wait_lines("endSpnConnection", offers)
            ends = [line for line in await world.events() if line["eventType"] == "endSpnConnection"]
            assert sorted(line["rejected"] for line in ends) == [False] * 6 + [True] * (offers - 6)
        await world.end()


@contextlib.asynccontextmanager
async def answering(provider: ProviderEndpoint, code: Code | None) -> AsyncIterator[list[object]]:
    """A program that accepts each request, or rejects it with ``code``; yields what it was asked."""
    asked: list[object] = []

    async def answer() -> None:
        with contextlib.suppress(EndpointClosed):
            while True:
                request = await provider.listen()
                asked.append(request)
                if code is None:
                    await request.accept_stream()
                else:
                    await request.reject(code, "not now")

    task = asyncio.ensure_future(answer())
    try:
        yield asked
    finally:
        task.cancel()


@pytest.mark.parametrize("code", [Code.LIMIT, Code.SHUTDOWN, Code.CONNECT_TIMEOUT])
async def test_a_program_that_takes_no_more(world: World, code: Code) -> None:
    """By the library: whatever reason of its own a provider has, the other one is asked."""
    await world.start_hub()
    full, free = await world.provider_endpoint(), await world.provider_endpoint()
    consumer = await world.consumer_endpoint()
    async with answering(full, code) as tried, answering(free, None) as taken:
        streams = [await consumer.connect_stream() for _ in range(10)]
        assert (len(tried), len(taken)) == (1, 10)
        for stream in streams:
            stream.abort(0)
    await close(full, free, consumer)
    await world.end()


async def test_a_provider_that_dies_between_opening_and_accept(world: World) -> None:
    """Its session ends with openings that it has not answered: they go to the other one."""
    await world.start_hub()
    dying, free = await world.provider_endpoint(), await world.provider_endpoint()
    consumer = await world.consumer_endpoint()
    async with answering(free, None) as taken:
        opening = [asyncio.ensure_future(consumer.connect_stream()) for _ in range(6)]
        held = [await dying.listen() for _ in range(3)]  # every second one is its own
        assert len(held) == 3
        await dying.close()
        streams = await asyncio.gather(*opening)
        assert len(taken) == 6
        for stream in streams:
            stream.abort(0)
    await close(free, consumer)
    await world.end()


async def close(*endpoints: ProviderEndpoint | ConsumerEndpoint) -> None:
    """All of them."""
    for endpoint in endpoints:
        await endpoint.close()


class Checked:
    """A server that echoes, and answers ``GET /health`` with the status that the test says."""

    def __init__(self) -> None:
        self.status = 503
        self.checks = 0

    async def handle(self, peer: TcpPeer) -> None:
        """One connection."""
        with contextlib.suppress(OSError, EOFError):
            first = await peer.receive(4)
            if first != b"GET ":
                await peer.send(first)
                await echo(peer)
                return
            line = b""
            while not line.endswith(b"\r\n\r\n"):
                line += await peer.receive(1)
            self.checks += line.startswith(b"/health HTTP/1.1\r\n")
            await peer.send(b"HTTP/1.1 %d Whatever\r\nContent-Length: 0\r\n\r\n" % self.status)


HEALTH = {"SPN_HEALTH_CHECK": "http:/health", "SPN_HEALTH_INTERVAL": "0.2", "SPN_HEALTH_FALL": "2"}


async def test_health_checks(world: World) -> None:
    """Weight 0 from the beginning while the check fails, with the reason in the log; what is open goes on."""
    sick = Checked()
    async with serve(sick.handle) as checked, serve(echo) as well:
        hub = await world.start_hub()
        agent = await world.start_provider(checked, env=HEALTH)
        assert (await agent.line("health.down"))["reason"] == "GET /health: status 503"
        first = await hub.line("weightChanged")
        assert (first["oldWeight"], first["newWeight"]) == (0, 0)
        assert first["reason"] == "health check http:/health failed: GET /health: status 503"
        (started,) = [line for line in await world.events() if line["eventType"] == "startSpnSession"]
        assert started["weight"] == 0
        other = await world.start_provider(well)
        consumer = await world.start_consumer()
        assert [await ask(consumer) for _ in range(20)] == [True] * 20

        sick.status = 200
        await agent.line("health.up")
        second = await hub.line("weightChanged", nth=2)
        assert (second["newWeight"], second["reason"]) == (100, "")
        clients = [await world.connect(consumer) for _ in range(4)]
        for client in clients:
            await client.send(b"ping")
            assert await client.receive(4) == b"ping"

        sick.status = 500
        await hub.line("weightChanged", nth=3)
        assert [await ask(consumer) for _ in range(20)] == [True] * 20
        for client in clients:
            await client.send(b"more")
            assert await client.receive(4) == b"more"
            client.close()
        # Nothing is open there any more, and the hub says so: the agent stays all the same, and is back.
        assert agent.running
        sick.status = 200
        await hub.line("weightChanged", nth=4)
        sick.status = 503
        await hub.line("weightChanged", nth=5)
        assert await agent.stop(signal.SIGTERM) == 0
        last = await hub.line("weightChanged", nth=6)
        assert (last["newWeight"], last["reason"]) == (0, "the agent is being stopped")
        sessions = {
            line["spnSessionId"]: 0
            for line in [line for line in await world.events() if line["eventType"] == "startSpnSession"]
        }
        for line in [line for line in await world.events() if line["eventType"] == "startSpnConnection"]:
            sessions[line["providerSideSpnSessionId"]] += 1
        assert sessions[first["spnSessionId"]] == 2  # of the four that came while both were well
        assert other.running
        await world.end()
