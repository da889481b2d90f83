"""Reads revocation lists at URLs, each within its bounds. Counterpart: :mod:`spnhub.inventory.crl`, which keeps them.

Imported when there is such a URL: the HTTP client takes a while to load.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import httpx2

from spnhub.bounded_http import AnswerError, AnswerTooLong, ask
from spnhub.inventory.source import file_of
from spnhub.transport.revocation import crl_pem

__all__ = ["LARGEST", "read_lists"]

_TIMEOUT: Final = httpx2.Timeout(10.0, connect=5.0)
_WHOLE: Final = 20.0
"""Seconds for one list: its server may be slow, a reload has to go on."""
LARGEST: Final = 16 * 1024 * 1024
"""Bytes: some 400,000 revoked certificates."""
_REDIRECTS: Final = 5
_AT_ONCE: Final = 8


async def read_lists(urls: Sequence[str], *, files: bool) -> list[bytes | str]:
    """Of each URL the list as PEM, or why it can't be had; that goes on after the URL.

    :param files: whether URLs may name files.
    """
    room = asyncio.Semaphore(_AT_ONCE)
    async with httpx2.AsyncClient(timeout=_TIMEOUT) as client:

        async def one(url: str) -> bytes | str:
            async with room:
                return await _fetch(client, url, files)

        return await asyncio.gather(*map(one, urls))


async def _fetch(client: httpx2.AsyncClient, url: str, files: bool) -> bytes | str:
    try:
        async with asyncio.timeout(_WHOLE):
            data = await _read(client, url, files)
        return await asyncio.to_thread(crl_pem, data)
    except TimeoutError:
        return f"could not be read within {_WHOLE:g} s"
    except AnswerTooLong:
        return _too_large()
    except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL, AnswerError) as error:
        return " ".join(str(error).split())[:200] or type(error).__name__


async def _read(client: httpx2.AsyncClient, url: str, files: bool) -> bytes:
    if urlsplit(url).scheme == "file":
        if not files:
            raise ValueError("can't be read: only an inventory that is a file may name files")
        return await asyncio.to_thread(_read_file, url)
    answer = await ask(client, url, most=LARGEST, redirects=_REDIRECTS)
    if answer.status != httpx2.codes.OK:
        raise ValueError(f"has status {answer.status}")
    return answer.body


def _read_file(url: str) -> bytes:
    with file_of(url).open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(_too_large())
    return data


def _too_large() -> str:
    return f"has more than {LARGEST} bytes"
