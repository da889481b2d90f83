"""``spnhub.HttpxTransport``: connections are kept, and what goes wrong is what httpx has for it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from types import ModuleType

import httpx
import httpx2
import pytest

import spnhub
from spnhub.library.serving import serve
from tests.transport.endpoint.conftest import World

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, int], Awaitable[None]]
"""The last is the connection's number, from 1."""

BODY = b"x" * 200_000


@pytest.fixture(params=[httpx, httpx2], ids=lambda library: str(library.__name__))
def library(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The program's: what it raises and returns is its own."""
    yield request.param


@contextlib.asynccontextmanager
async def service(
    world: World, handler: Handler, library: ModuleType, **options: object
) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a service that answers so."""
    provider, consumer = await world.provider(), await world.consumer()
    count = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await handler(reader, writer, count)

    serving = asyncio.ensure_future(serve(handle, endpoint=provider))
    transport = spnhub.HttpxTransport(consumer)
    try:
        async with library.AsyncClient(transport=transport, base_url="http://service", **options) as client:
            yield client
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def request(reader: asyncio.StreamReader) -> bytes:
    """The next one: its first line and its body. Empty: there is none."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    first, *fields = head.split(b"\r\n")
    sizes = [int(field.partition(b":")[2]) for field in fields if field.lower().startswith(b"content-length:")]
    return first + b" " + (await reader.readexactly(sizes[0]) if sizes else b"")


def answer(body: bytes) -> bytes:
    """A good one."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


async def test_a_connection_is_kept(world: World, library: ModuleType) -> None:
    """Requests in turn take one; at once, each its own. Bodies go both ways."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while asked := await request(reader):
            writer.write(answer(b"%d %s" % (number, asked)))

    async with service(world, handle, library) as client:
        assert [(await client.get("/a?b")).text for _ in range(3)] == ["1 GET /a?b HTTP/1.1 "] * 3
        posted = await client.post("/", content=BODY)
        assert isinstance(posted, library.Response)
        assert posted.content == b"1 POST / HTTP/1.1 " + BODY
        at_once = await asyncio.gather(*(client.get("/") for _ in range(3)))
        assert {one.text.split()[0] for one in at_once} == {"1", "2", "3"}


async def test_a_kept_one_that_the_server_has_ended(world: World, library: ModuleType) -> None:
    """The next request opens another."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        await request(reader)
        writer.write(answer(b"%d" % number))

    async with service(world, handle, library) as client:
        for number in range(1, 4):
            assert (await client.get("/")).text == str(number)
            await asyncio.sleep(1)


async def test_a_service_without_a_provider(world: World, library: ModuleType) -> None:
    """The hub's reason is in the error."""
    consumer = await world.consumer()
    async with library.AsyncClient(transport=spnhub.HttpxTransport(consumer), base_url="http://service") as client:
        with pytest.raises(library.ConnectError, match="NO_PROVIDER"):
            await client.get("/")


async def test_answers_that_break_off(world: World, library: ModuleType) -> None:
    """Reset in the middle, or ended before the head is whole."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        asked = await request(reader)
        if b"/short" in asked:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-")
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf")
        await writer.drain()
        await asyncio.sleep(1)
        writer.transport.abort()

    async with service(world, handle, library) as client:
        with pytest.raises(library.RemoteProtocolError):
            await client.get("/short")
        with pytest.raises(library.ReadError):
            await client.get("/half")


async def test_times(world: World, library: ModuleType) -> None:
    """The client's own bounds: for the answer, and for a connection."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _number: int) -> None:
        await request(reader)
        await asyncio.sleep(60)
        writer.write(answer(b"late"))

    loop = asyncio.get_running_loop()
    async with service(world, handle, library, timeout=3.0) as client:
        began = loop.time()
        with pytest.raises(library.ReadTimeout, match=r"within 3\.0 s"):
            await client.get("/")
        assert 3.0 <= loop.time() - began < 3.1
        world.hub.node.crash()
        await asyncio.sleep(60)
        began = loop.time()
        with pytest.raises(library.ConnectTimeout):
            await client.get("/")
        assert 3.0 <= loop.time() - began < 3.1
