"""Answers of HTTP servers, within bounds: how long they are as they come and unpacked, how long they take.

httpx2 by itself unpacks whatever comes, also what a redirect brings: three megabytes become four gigabytes. In the
lowest room, as :mod:`spnhub.bounded_json`, which says what such an answer may hold.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping
from typing import Final

import httpx2

from spnhub.dataclass import dataclass

__all__ = ["ANSWER_LIMIT", "ANSWER_TIME", "REDIRECTS", "Answer", "AnswerError", "AnswerTooLong", "ask"]

ANSWER_LIMIT: Final = 16 << 20
"""Bytes of an answer, packed and unpacked."""
ANSWER_TIME: Final = 120.0
"""Seconds from a request to the last byte of its answer: each byte may come in time, and the whole never."""
REDIRECTS: Final = 10


class AnswerError(Exception):
    """An answer that isn't taken; the text goes on after a subject ("the answer is larger than …")."""


class AnswerTooLong(AnswerError):
    """It has more bytes than it may have."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said."""

    status: int
    body: bytes


async def ask(
    client: httpx2.AsyncClient,
    url: httpx2.URL | str,
    *,
    method: str = "GET",
    content: str | None = None,
    params: Mapping[str, str] | None = None,
    most: int = ANSWER_LIMIT,
    redirects: int = REDIRECTS,
) -> Answer:
    """Ask a server, through redirects; what authorises the request goes to no other origin.

    :param content: the request's body.
    :param most: bytes of the answer.
    :param redirects: the most that are followed.
    :raises AnswerTooLong: the answer has more bytes.
    :raises AnswerError: the answer is too long, doesn't end, or is packed in a way that wasn't asked for.
    :raises httpx2.HTTPError: what httpx2 raises; ``TimeoutException`` also if the whole takes too long.
    """
    headers = {"Accept-Encoding": "gzip"}
    request = client.build_request(method, url, content=content, params=params, headers=headers)
    try:
        async with asyncio.timeout(ANSWER_TIME):
            for _ in range(redirects + 1):
                response = await client.send(request, stream=True, follow_redirects=False)
                try:
                    # httpx2 leaves the authorisation out of it where the origin is another one.
                    if response.next_request is None:
                        return Answer(response.status_code, await _body(response, most))
                    request = response.next_request
                finally:
                    await response.aclose()
    except TimeoutError:
        raise httpx2.ReadTimeout(f"the answer took longer than {ANSWER_TIME:g} s", request=request) from None
    raise AnswerError(f"is redirected more than {redirects} times")


async def _body(response: httpx2.Response, most: int) -> bytes:
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing not in {"identity", "gzip", "x-gzip"}:
        raise AnswerError("the answer is packed in a way that was not asked for")
    unpack = None if packing == "identity" else zlib.decompressobj(zlib.MAX_WBITS | 16)
    body = bytearray()
    packed = 0
    async for piece in response.aiter_raw():
        packed += len(piece)
        try:
            # One byte beyond the bound is enough to see that it is too long.
            body += piece if unpack is None else unpack.decompress(piece, most - len(body) + 1)
        except zlib.error:
            raise AnswerError("the answer is no gzip") from None
        if max(packed, len(body)) > most:
            raise AnswerTooLong(f"the answer is larger than {most} bytes")
    if unpack is not None and not unpack.eof:
        raise AnswerError("the answer ends in the middle")
    return bytes(body)
