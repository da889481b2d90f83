"""Health checks: what passes and what fails, how many it takes, and the weight that follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spnhub.transport.agent.health import HealthCheck, HealthWatch, Verdict, parse_health_check
from spnhub.transport.agent.provider import ProviderAgent
from spnhub.transport.agent.tcp import Connector
from spnhub.transport.system.socket_address import TcpAddress
from tests.support.tcp import TcpPeer, TcpServer, no_descriptors, serve
from tests.transport.agent.fakes import FakeEndpoint, FakeSources

pytestmark = pytest.mark.outside

QUICK = HealthCheck(interval=0.01, timeout=0.5)


@pytest.mark.parametrize(
    ("text", "path"),
    [("tcp", None), ("http:/", "/"), ("http:/health?deep=1", "/health?deep=1")],
)
def test_what_is_checked(text: str, path: str | None) -> None:
    """As it is written."""
    check = parse_health_check(text, interval=1, timeout=2, fall=3, rise=4)
    assert check == HealthCheck(path=path, interval=1, timeout=2, fall=3, rise=4)
    assert check.name == text


@pytest.mark.parametrize("text", ["", "http", "http:", "http:health", "http:/a b", "http:/\r\nX: y", "http:/ä", "TCP"])
def test_what_is_none(text: str) -> None:
    """A path that could be another request isn't taken."""
    with pytest.raises(ValueError, match="is neither tcp nor http:/PATH nor off"):
        parse_health_check(text)
    assert parse_health_check("off") is None


def test_how_many_it_takes() -> None:
    """The first decides alone; then so many in a row."""
    verdict = Verdict(fall=3, rise=2)
    rows: list[tuple[str | None, bool | None]] = [
        ("no", False),
        (None, False),
        ("no", False),
        (None, False),
        (None, True),
        ("a", True),
        ("b", True),
        (None, True),
        ("c", True),
        ("d", True),
        ("e", False),
    ]
    before: bool | None = None
    for failure, healthy in rows:
        assert verdict.take(failure) == (healthy is not before)
        assert verdict.healthy is healthy
        before = healthy
    assert verdict.reason == "e"


@contextlib.asynccontextmanager
async def http(
    *answers: bytes, wait: asyncio.Event | None = None
) -> AsyncIterator[tuple[tuple[str, int], list[bytes]]]:
    """A server that says this to each request, piece by piece; its address, and what it was asked."""
    asked: list[bytes] = []

    async def answer(peer: TcpPeer) -> None:
        with contextlib.suppress(OSError, EOFError):
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += await peer.receive(1)
            asked.append(request)
            for piece in answers:
                await peer.send(piece)
                await asyncio.sleep(0)
            if wait is not None:
                await wait.wait()

    async with serve(answer) as address:
        yield address, asked


async def nothing() -> None:
    """Nobody cares."""


def watch(
    address: tuple[str, int], check: HealthCheck = QUICK, on_change: Callable[[], Awaitable[None]] = nothing
) -> HealthWatch:
    return HealthWatch(check, TcpAddress(*address), Connector(), on_change)


HTTP = replace(QUICK, path="/health")


@pytest.mark.parametrize(
    "answers",
    [
        [b"HTTP/1.1 200 OK\r\n\r\n"],
        [b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"],
        [b"HTTP/1.1 ", b"302 Found\r\nLocation: /x\r\n", b"\r\n"],
        [b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"],
        [b"HTTP/1.0 200 OK\r\nContent-Length: 100000000\r\n\r\n", b"x" * 100_000],
    ],
    ids=["200", "204", "302", "hints", "large"],
)
async def test_healthy(answers: list[bytes]) -> None:
    """The head of the answer is enough."""
    async with http(*answers) as (address, asked):
        assert await watch(address, HTTP).check() is None
    assert asked[0].startswith(b"GET /health HTTP/1.1\r\n")
    assert f"Host: {address[0]}:{address[1]}\r\n".encode().lower() in asked[0].lower()


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([b"HTTP/1.1 503 Service Unavailable\r\n\r\n"], "GET /health: status 503"),
        ([b"HTTP/1.1 404 Not Found\r\n\r\n"], "GET /health: status 404"),
        ([b"SSH-2.0-OpenSSH_9\r\n\r\n"], "GET /health: no HTTP answer: illegal status line"),
        ([b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000], "GET /health: no HTTP answer: Receive buffer too long"),
        ([b"HTTP/1.1 2"], "GET /health: no HTTP answer"),
        ([], "GET /health: "),
    ],
    ids=["503", "404", "ssh", "endless", "torn", "nothing"],
)
async def test_unhealthy(answers: list[bytes], reason: str) -> None:
    """By what it says, or doesn't say."""
    async with http(*answers) as (address, _):
        found = await watch(address, HTTP).check()
    assert found is not None
    assert found.startswith(reason)


async def test_silence() -> None:
    """Of a server that is connected to and never answers; over TCP that is enough."""
    with TcpServer() as server:
        began = asyncio.get_running_loop().time()
        assert await watch(server.address, replace(HTTP, timeout=0.1)).check() == "no answer within 0.1 s"
        assert asyncio.get_running_loop().time() - began < 10
        assert await watch(server.address).check() is None


async def test_nobody_listens() -> None:
    """With the address and what the system says."""
    with TcpServer(up=False) as server:
        failure = await watch(server.address).check()
    assert failure is not None
    assert "Connection refused" in failure


async def test_no_descriptor_says_nothing_of_the_server() -> None:
    """The verdict stays what it was, and comes when there are descriptors again."""
    with TcpServer() as server:
        watching = watch(server.address)
        with no_descriptors():
            running = asyncio.ensure_future(watching.run())
            known = asyncio.ensure_future(watching.wait_known())
            await asyncio.wait([known], timeout=0.2)
            assert not known.done()
        await known
        assert watching.healthy
        running.cancel()


def descriptors() -> int:
    """That this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_open() -> None:
    """Whatever becomes of a check, and also of one that is cancelled."""
    stop = asyncio.Event()
    async with http(b"HTTP/1.1 100 Continue\r\n\r\n", wait=stop) as (address, asked):
        before = descriptors()
        checks = [asyncio.ensure_future(watch(address, replace(HTTP, timeout=30)).check()) for _ in range(5)]
        while len(asked) < 5:
            await asyncio.sleep(0.001)
        for check in checks:
            check.cancel()
        await asyncio.gather(*checks, return_exceptions=True)
        assert await watch(address, replace(HTTP, timeout=0.05)).check() == "no answer within 0.05 s"
        stop.set()
        for _ in range(100):
            if descriptors() <= before:
                break
            await asyncio.sleep(0.01)
        assert descriptors() <= before


class Bench:
    """A provider agent whose server's health is checked."""

    def __init__(self, server: TcpServer) -> None:
        self.sources = FakeSources()
        self.endpoint = FakeEndpoint()
        self.agent = ProviderAgent(TcpAddress(*server.address), self.sources, weight=70, health_check=QUICK)
        self.running = [asyncio.ensure_future(work) for work in (self.agent.check_health(), self.agent.run())]

    async def weighed(self, count: int) -> tuple[int, str]:
        """What the hubs are told last, when they were told so often."""
        while len(self.endpoint.weights) < count:
            self.endpoint.weighed.clear()
            await self.endpoint.weighed.wait()
        return self.endpoint.weights[-1], self.endpoint.reasons[-1]

    async def close(self) -> None:
        await self.agent.close()
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)


async def test_the_weight_follows() -> None:
    """0 while the server is down, with the reason; then the weight that was set."""
    with TcpServer(up=False) as server:
        bench = Bench(server)
        assert await bench.agent.weight() == 0
        bench.sources.put(bench.endpoint)
        weight, reason = await bench.weighed(1)
        assert weight == 0
        assert reason.startswith("health check tcp failed: ")
        assert "Connection refused" in reason
        server.listen()
        assert await bench.weighed(2) == (70, "")
        assert await bench.agent.weight() == 70
        await bench.close()


async def test_a_stop_is_no_recovery() -> None:
    """An agent that leaves keeps weight 0, whatever the checks say; and that nothing was open before was no end."""
    with TcpServer(up=False) as server:
        bench = Bench(server)
        assert await bench.agent.weight() == 0
        bench.sources.put(bench.endpoint)
        await bench.weighed(1)
        bench.endpoint.all_closed.set()  # as hubs say with weight 0 and nothing open
        for _ in range(20):
            await asyncio.sleep(0)
        assert not any(task.done() for task in bench.running)
        draining = asyncio.ensure_future(bench.agent.drain())
        assert await bench.weighed(2) == (0, "the agent is being stopped")
        server.listen()
        while not bench.agent.healthy:
            await asyncio.sleep(0.01)
        await draining
        assert bench.endpoint.weights == [0, 0]
        await bench.close()


async def test_without_a_check() -> None:
    """The server is taken for healthy, and nobody is told anything."""
    with TcpServer() as server:
        sources, endpoint = FakeSources(), FakeEndpoint()
        agent = ProviderAgent(TcpAddress(*server.address), sources, weight=70)
        assert await agent.weight() == 70
        await agent.check_health()
        sources.put(endpoint)
        running = asyncio.ensure_future(agent.run())
        await asyncio.sleep(0)
        assert endpoint.weights == []
        await agent.close()
        running.cancel()
