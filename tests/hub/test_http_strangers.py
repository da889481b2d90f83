"""HTTP from strangers: slow, endless, by another name, without the token; in the end nobody else notices."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from structlog.testing import capture_logs

from spnhub import http_server
from spnhub.events.state.hub_state import HubState
from spnhub.http_server import HttpServer
from spnhub.ops import server as ops_server
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress, Snapshot
from tests.support.tcp import TcpPeer

pytestmark = pytest.mark.outside


async def _hello(_: Request) -> Response:
    return PlainTextResponse("hello")


async def _body(request: Request) -> Response:
    return PlainTextResponse(str(len(await request.body())))


def _endless(_: Request) -> Response:
    def pieces() -> Iterator[bytes]:
        while True:
            yield bytes(65_536)

    return StreamingResponse(pieces())


@asynccontextmanager
async def listening(application: Starlette | None = None, **named: object) -> AsyncIterator[tuple[str, int]]:
    """A server's address."""
    routes = [Route("/", _hello), Route("/body", _body, methods=["POST"]), Route("/endless", _endless)]
    server = HttpServer(application or Starlette(routes=routes), "--ops", **named)  # type: ignore[arg-type] # named
    url = httpx2.URL(await server.start("127.0.0.1", 0))
    assert url.port is not None
    try:
        yield url.host, url.port
    finally:
        await server.close()


HEAD = b"HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET / " + HEAD,
        b"POST /body " + HEAD + b"Content-Length: 9\r\n\r\nabc",
        b"POST /body " + HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n",
        b"GET /endless " + HEAD + b"\r\n",
        b"GET / " + HEAD + b"Content-Length: 9\r\n\r\na",
    ],
    ids=("nothing", "head", "body", "chunks", "unread answer", "unread body"),
)
async def test_whoever_is_slow_is_cut(said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in an exchange it stops."""
    async with listening() as address:
        with monkeypatch.context() as hurried:
            hurried.setattr(http_server, "HEAD_TIME", 0.3)
            hurried.setattr(http_server, "REQUEST_TIME", 0.5)
            slow = await TcpPeer.connect(address)
            await slow.send(said)
            async with asyncio.timeout(60):
                await _closed(slow)
            slow.close()
        assert await _status(address) == 200


async def test_a_head_that_comes_byte_by_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte in time, the whole never."""
    monkeypatch.setattr(http_server, "HEAD_TIME", 0.3)
    async with listening() as address:
        slow = await TcpPeer.connect(address)
        ended = asyncio.create_task(_closed(slow))
        async with asyncio.timeout(30):
            while not ended.done():
                try:
                    await slow.send(b"x")
                except ConnectionError:
                    break
                await asyncio.wait([ended], timeout=0.02)
        slow.close()
        await ended


async def test_a_head_without_an_end() -> None:
    """It is bounded."""
    async with listening() as address:
        peer = await TcpPeer.connect(address)
        with capture_logs() as logged:
            await peer.send(b"GET / " + HEAD + b"X: " + b"x" * (http_server.HEAD_LIMIT + 70_000))
            async with asyncio.timeout(30):
                await _closed(peer)
        peer.close()
        assert await _status(address) == 200
    assert logged == []


async def test_whoever_asks_is_not_pushed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections that say nothing give way before one that is being answered."""
    monkeypatch.setattr(http_server, "CONNECTIONS", 3)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def wait(_: Request) -> Response:
        begun.set()
        await go_on.wait()
        return PlainTextResponse("at last")

    async with listening(Starlette(routes=[Route("/", wait)])) as address:
        async with httpx2.AsyncClient() as client:
            asked = asyncio.create_task(client.get(f"http://{address[0]}:{address[1]}/"))
            await begun.wait()
            silent = [await TcpPeer.connect(address) for _ in range(3)]

            async with asyncio.timeout(30):
                await _closed(silent[0])
            go_on.set()
            assert (await asked).text == "at last"
        for one in silent:
            one.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LOCALHOST.:9600", 200),
        ("127.0.0.1:9600", 200),
        ("[::1]:80", 200),
        ("192.0.2.7", 200),
        ("hub.example", 200),
        ("Hub.Example:9600", 200),
        ("attacker.example", 421),
        ("attacker.example:9600", 421),
        ("localhost.attacker.example", 421),
        ("127.0.0.1.attacker.example", 421),
        ("", 421),
        ("[attacker.example]", 421),
        ("hub.example@attacker.example", 421),
        ("\u0430.example".encode().decode("latin-1"), 421),
    ],
)
async def test_a_page_of_another_name(host: str, status: int) -> None:
    """Only names that are the server's, and addresses, which are no page's."""
    async with listening(names=("hub.example",)) as address:
        peer = await TcpPeer.connect(address)
        await peer.send(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode("latin-1"))
        assert await peer.receive(12) == f"HTTP/1.1 {status}".encode()
        peer.close()


async def test_a_token() -> None:
    """For everything but probes; as a password, too."""
    routes = [Route(path, _hello) for path in ("/", "/healthz", "/readyz")]
    basic = base64.b64encode(b"who:s3cret").decode()
    async with listening(Starlette(routes=routes), token="s3cret") as address:
        for headers, status in (
            ({}, 401),
            ({"Authorization": "Bearer s3cre"}, 401),
            ({"Authorization": "Bearer"}, 401),
            ({"Authorization": "Basic ???"}, 401),
            ({"Authorization": "Digest s3cret"}, 401),
            ({"Authorization": "Bearer s3cret"}, 200),
            ({"Authorization": f"Basic {basic}"}, 200),
        ):
            assert await _status(address, headers=headers) == status, headers
        assert await _status(address, "/readyz") == await _status(address, "/healthz") == 200


def _ops() -> Ops:
    def snapshot() -> Snapshot:
        return Snapshot("h", None, 0, Progress(0, 0, None), (), HubState(), (), lambda _: ())

    return Ops(lambda: True, snapshot, lambda: Progress(0, 0, None), HubMetrics(), lambda: 0)


async def test_no_path_is_a_fault() -> None:
    """Numbers of thousands of digits, none at all, and signs of all kinds, wherever a path has a part."""
    odd = ["5" * 5000, "-1", "+1", "1_0", "\u0661", "1e5", "%00", "..%2f", "%ff", " ", "latest", "a" * 9000]
    routes = [route.path for route in _ops().application().routes if isinstance(route, Route)]
    async with listening(_ops().application()) as address, httpx2.AsyncClient() as client:
        paths = {
            path.replace("{subject}", subject).replace("{version}", one).replace("{number}", one)
            for path in routes
            for one in odd
            for subject in ("spn.event.SessionStarted", one)
        }
        for path in sorted(paths):
            answer = await client.get(f"http://{address[0]}:{address[1]}{path}")
            assert answer.status_code in {200, 307, 404}, path[:100]


async def test_dear_answers_are_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that isn't read is held for some readers only; probes go on."""
    read = asyncio.Event()

    async def stream(_snapshot: Snapshot, **_: object) -> AsyncIterator[bytes]:
        yield b"{"
        await read.wait()

    monkeypatch.setattr(ops_server, "stream", stream)
    async with listening(_ops().application()) as address:
        readers = [await TcpPeer.connect(address) for _ in range(4)]
        for reader in readers:
            await reader.send(b"GET /state " + HEAD + b"\r\n")
            assert await reader.receive(12) == b"HTTP/1.1 200"
        assert await _status(address, "/state") == await _status(address, "/metrics") == 503
        assert await _status(address, "/readyz") == 200
        read.set()
        async with asyncio.timeout(60):
            while await _status(address, "/metrics") != 200:
                await asyncio.sleep(0.05)
        for reader in readers:
            reader.close()


async def _status(address: tuple[str, int], path: str = "/", headers: dict[str, str] | None = None) -> int:
    async with httpx2.AsyncClient() as client:
        return (await client.get(f"http://{address[0]}:{address[1]}{path}", headers=headers)).status_code


async def _closed(peer: TcpPeer) -> None:
    """Read until the server has ended it, one way or the other."""
    await peer.receive_all()
