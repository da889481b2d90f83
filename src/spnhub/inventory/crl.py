"""Gets the revocation lists that realms name by URL, and keeps the last good copy of each.

A CA publishes the next list before the last is stale (nextUpdate of RFC 5280): that is when they are read again. Lists
are public, so no token is sent. Counterpart: :mod:`spnhub.inventory.build` judges what is got here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import httpx2

from spnhub.bounded_http import AnswerError, AnswerTooLong, ask
from spnhub.inventory.model import is_crl_url
from spnhub.inventory.source import file_of
from spnhub.transport.revocation import crl_pem, lists_of

__all__ = ["LARGEST", "CrlCopy", "CrlStore", "crl_urls"]

_TIMEOUT: Final = httpx2.Timeout(10.0, connect=5.0)
_WHOLE: Final = 20.0
"""Seconds for one list: its server may be slow, a reload has to go on."""
LARGEST: Final = 16 * 1024 * 1024
"""Bytes: some 400,000 revoked certificates."""
_MOST: Final = 1000
"""URLs of one inventory."""
_REDIRECTS: Final = 5
_AT_ONCE: Final = 8
_RETRY: Final = timedelta(minutes=5)
_LONGEST: Final = timedelta(hours=24)
"""A CA that is asked more often than it promises may have something newer."""


@dataclass(frozen=True, slots=True)
class CrlCopy:
    """What is known of one URL."""

    pem: bytes | None = None
    """The last good copy."""
    failure: str | None = None
    """Why there is no newer one; goes on after the URL."""

    def due(self, now: datetime) -> datetime:
        """When it is to be read again."""
        if self.pem is None or self.failure is not None:
            return now + _RETRY
        ends = [one.next_update for one in lists_of(self.pem) if one.next_update is not None]
        return max(now + _RETRY, min([*ends, now + _LONGEST]))


def crl_urls(realms: Iterable[Any]) -> list[str]:
    """The URLs that realm objects name, whatever else may be wrong with these."""
    found: dict[str, None] = {}
    for realm in realms:
        lists = realm.get("crl") if isinstance(realm, dict) else None
        for one in lists if isinstance(lists, list) else [lists]:
            if isinstance(one, str) and is_crl_url(one):
                found[one] = None
    return list(found)[:_MOST]


class CrlStore:
    """The lists of one hub process.

    :param inventory: its URL; if that is a file, lists may be files, too.
    """

    def __init__(self, inventory: str) -> None:
        self._files = urlsplit(inventory).scheme == "file"
        self._copies: dict[str, CrlCopy] = {}

    def due(self, now: datetime) -> datetime | None:
        """When one of them is to be read again; None: there are none."""
        return min((copy.due(now) for copy in self._copies.values()), default=None)

    async def fetch(self, urls: Iterable[str]) -> Mapping[str, CrlCopy]:
        """Read all of them anew; of one that can't be had the last copy counts, with the failure."""
        wanted = list(urls)
        if not wanted:
            # A client of its own would be made, and what it is made of loaded, beside traffic.
            self._copies = {}
            return self._copies
        room = asyncio.Semaphore(_AT_ONCE)
        async with httpx2.AsyncClient(timeout=_TIMEOUT) as client:

            async def one(url: str) -> CrlCopy:
                async with room:
                    return await self._fetch(client, url)

            copies = dict(zip(wanted, await asyncio.gather(*map(one, wanted)), strict=True))
        # What no realm names any more is forgotten.
        self._copies = copies
        return copies

    async def _fetch(self, client: httpx2.AsyncClient, url: str) -> CrlCopy:
        before = self._copies.get(url, CrlCopy())
        try:
            async with asyncio.timeout(_WHOLE):
                data = await self._read(client, url)
            return CrlCopy(await asyncio.to_thread(crl_pem, data))
        except TimeoutError:
            failure = f"could not be read within {_WHOLE:g} s"
        except AnswerTooLong:
            failure = _too_large()
        except (OSError, ValueError, httpx2.HTTPError, httpx2.InvalidURL, AnswerError) as error:
            failure = " ".join(str(error).split())[:200] or type(error).__name__
        return replace(before, failure=failure)

    async def _read(self, client: httpx2.AsyncClient, url: str) -> bytes:
        if urlsplit(url).scheme == "file":
            if not self._files:
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
