"""Gets the revocation lists that realms name by URL, and keeps the last good copy of each.

A CA publishes the next list before the last is stale (nextUpdate of RFC 5280): that is when they are read again. Lists
are public, so no token is sent. Counterparts: :mod:`spnhub.inventory.crl_reading` reads them,
:mod:`spnhub.inventory.build` judges what is got here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from spnhub.dataclass import dataclass
from spnhub.inventory.model import is_crl_url
from spnhub.transport.revocation import lists_of

__all__ = ["CrlCopy", "CrlStore", "crl_urls"]

ReadLists = Callable[..., Awaitable[list[bytes | str]]]
"""See :func:`spnhub.inventory.crl_reading.read_lists`."""

_MOST: Final = 1000
"""URLs of one inventory."""
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
            self._copies = {}
            return self._copies
        read_lists = await asyncio.to_thread(_load_reader)
        found = await read_lists(wanted, files=self._files)
        # What no realm names any more is forgotten.
        self._copies = {
            url: replace(self._copies.get(url, CrlCopy()), failure=one) if isinstance(one, str) else CrlCopy(one)
            for url, one in zip(wanted, found, strict=True)
        }
        return self._copies


def _load_reader() -> ReadLists:
    """Only who has lists at URLs needs an HTTP client. That may be first known to a reload, so beside traffic."""
    from spnhub.inventory.crl_reading import read_lists  # noqa: PLC0415

    return read_lists
