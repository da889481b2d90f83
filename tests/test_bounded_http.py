"""Answers of HTTP servers: bounded as they come and unpacked, and no authorisation for another origin."""

from __future__ import annotations

import asyncio
import gzip
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx2
import pytest

from spnhub import bounded_http
from spnhub.bounded_http import Answer, AnswerError, ask

pytestmark = pytest.mark.outside

Say = Callable[[str, asyncio.StreamWriter], Awaitable[None]]
LIMIT = 1 << 20


@asynccontextmanager
async def server(say: Say) -> AsyncIterator[tuple[str, list[str]]]:
    """``say`` gets the head of each request, and writes what it wants; yields the URL, and the heads."""
    heads: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        heads.append(head)
        try:
            await say(head, writer)
        except ConnectionError:
            return
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}", heads


def answering(body: bytes, *headers: str, status: str = "200 OK") -> Say:
    """A whole answer."""
    lines = "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers))

    async def say(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(f"{lines}\r\n".encode() + body)
        await writer.drain()

    return say


async def endless(_head: str, writer: asyncio.StreamWriter) -> None:
    """An answer that goes on and on."""
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"[" * 65_536)
        await writer.drain()


BOMB = gzip.compress(bytes(64 << 20), 9)
GZIP = "Content-Encoding: gzip"


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (answering(BOMB, GZIP), "larger than"),
        (answering(b"x" * (LIMIT + 1)), "larger than"),
        (endless, "larger than"),
        (answering(gzip.compress(b"[]") + bytes(2 * LIMIT), GZIP), "larger than"),
        (answering(b"[]", "Content-Encoding: br"), "packed in a way"),
        (answering(b"[]", "Content-Encoding: gzip, gzip"), "packed in a way"),
        (answering(b"[]", GZIP), "no gzip"),
        (answering(gzip.compress(b"[1, 2, 3]")[:-9], GZIP), "in the middle"),
        (answering(BOMB, GZIP, "Location: /realms", status="302 Found"), "redirected more than"),
    ],
)
async def test_what_is_refused(say: Say, message: str) -> None:
    """64 MiB of zeros (64 KiB packed) take no more memory than the bound."""
    async with server(say) as (url, _), httpx2.AsyncClient() as client:
        tracemalloc.start()
        try:
            with pytest.raises(AnswerError, match=message):
                await ask(client, url, most=LIMIT)
            assert tracemalloc.get_traced_memory()[1] < 16 * LIMIT
        finally:
            tracemalloc.stop()


async def test_what_is_taken() -> None:
    """Plain and packed."""
    for say in (answering(b"[1]"), answering(gzip.compress(b"[1]"), GZIP), answering(b"[1]", status="404 Not Found")):
        async with server(say) as (url, _), httpx2.AsyncClient() as client:
            answer = await ask(client, url)
            assert answer.body == b"[1]"
    assert answer == Answer(404, b"[1]")


async def test_an_answer_that_trickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, and the whole never."""
    monkeypatch.setattr(bounded_http, "ANSWER_TIME", 0.3)

    async def trickle(_head: str, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with server(trickle) as (url, _), httpx2.AsyncClient() as client:
        with pytest.raises(httpx2.TimeoutException):
            await ask(client, url)


async def test_the_token_stays_with_its_origin() -> None:
    """A redirect on the same server takes it along, one to another server doesn't."""
    async with server(answering(b"[]")) as (other, others):

        async def redirect(head: str, writer: asyncio.StreamWriter) -> None:
            where = "/two" if head.startswith("GET /one ") else f"{other}/three"
            await answering(b"", f"Location: {where}", status="307 Temporary Redirect")(head, writer)

        async with server(redirect) as (url, heads):
            headers = {"Authorization": "Bearer s3cret"}
            async with httpx2.AsyncClient(headers=headers) as client:
                assert (await ask(client, f"{url}/one")).body == b"[]"
            with_password = url.replace("http://", "http://user:pass@")
            async with httpx2.AsyncClient() as client:
                assert (await ask(client, f"{with_password}/one")).body == b"[]"
    assert [head.lower().count("authorization: ") for head in heads] == [1, 1, 1, 1]
    assert [head.lower().count("authorization") for head in others] == [0, 0]
    assert not any("s3cret" in head for head in others)
