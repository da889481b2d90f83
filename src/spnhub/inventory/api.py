"""Gets the inventory's objects, as they are, over HTTP.

In the order of R-6.2: all realms, then every realm's hubs, then every hub's services. Imported by who has such an
inventory: the HTTP client takes a while to load. Counterparts: :mod:`spnhub.inventory.source` gets the same from a
file, :mod:`spnhub.inventory.build` judges what is got here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

import httpx2
import structlog

from spnhub import bounded_http, bounded_json
from spnhub.backoff import Backoff
from spnhub.bounded_http import AnswerError
from spnhub.bounded_json import PARTS
from spnhub.inventory.source import InventoryError, RawHub, RawRealm, check_url, name_of
from spnhub.plain_text import remember_secret, without_secrets

__all__ = ["fetch"]

_log = structlog.get_logger(__name__)

CONCURRENCY: Final = 16
"""Requests under way at once: enough to hide the distance, few enough for any server."""
PART_ATTEMPTS: Final = 4
"""Attempts at the hubs of one realm or the services of one hub: the others must not wait for it forever."""
TOTAL_LIMIT: Final = 64 << 20
"""Bytes of all answers of one reading together."""
_TIMEOUT: Final = httpx2.Timeout(30.0, connect=5.0)
_FIRST_DELAY, _LONGEST_DELAY = 0.2, 10.0


class _FailedError(Exception):
    """A request failed; the text goes on after a subject. ``transient``: the same request may succeed later."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(without_secrets(message))
        self.transient = transient


async def fetch(
    url: str,
    token: str | None,
    *,
    attempts: int | None,
    wanted: Callable[[Any], bool],
) -> list[RawRealm]:
    """Get everything from the API at ``url``.

    ``attempts``: how often the list of realms is tried while the inventory is away; None: until it answers. ``wanted``
    says of a realm object whether its hubs are to be got.

    :raises InventoryError: the list of realms can't be had.
    """
    check_url(url)
    headers = {"Accept": "application/json"}
    remember_secret(token)
    remember_secret(url)
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    limits = httpx2.Limits(max_connections=CONCURRENCY, max_keepalive_connections=CONCURRENCY)
    async with httpx2.AsyncClient(headers=headers, timeout=_TIMEOUT, limits=limits) as client:
        try:
            reader = _Reader(client, url.rstrip("/"))
        except httpx2.InvalidURL as error:
            raise InventoryError(f"{url!r} is no URL: {error}") from error
        try:
            realms = await reader.array("realms", attempts=attempts)
        except _FailedError as failure:
            raise InventoryError(str(failure)) from failure.__cause__

        names: set[str] = set()
        asked = []
        for data in realms:
            name = name_of(data)
            ask = name is not None and name not in names and wanted(data)
            asked.append(name if ask else None)
            if name is not None and ask:
                names.add(name)
        hubs = await _gather(lambda realm: reader.part("realms", realm, "hubs"), asked)

        paths = [
            (realm, name_of(hub)) if realm is not None and name_of(hub) is not None else None
            for realm, (list_of_hubs, _) in zip(asked, hubs, strict=True)
            for hub in list_of_hubs
        ]
        services = iter(await _gather(lambda path: reader.part("realms", path[0], "hubs", path[1], "services"), paths))
        return [
            RawRealm(
                data=data,
                hubs=[RawHub(hub, *next(services)) for hub in list_of_hubs],
                failure=failure,
            )
            for data, (list_of_hubs, failure) in zip(realms, hubs, strict=True)
        ]


_Part = tuple[list[Any], str | None]


async def _gather(get: Callable[[Any], Awaitable[_Part]], keys: list[Any]) -> list[_Part]:
    """Get one part per key, in the order of the keys; nothing for a key that is None."""
    room = asyncio.Semaphore(CONCURRENCY)

    async def one(key: Any) -> _Part:
        if key is None:
            return [], None
        async with room:
            return await get(key)

    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(one(key)) for key in keys]
    return [task.result() for task in started]


class _Reader:
    """Requests to one inventory."""

    def __init__(self, client: httpx2.AsyncClient, base: str) -> None:
        self._client = client
        self._base = base
        # A password in the URL has no business in a message.
        self._shown = str(httpx2.URL(base).copy_with(username=None, password=None)).rstrip("/")
        self._bytes_left = TOTAL_LIMIT
        self._parts_left = PARTS

    async def part(self, *path: str) -> _Part:
        """An array below the realms, or why it can't be had."""
        try:
            return await self.array(*path, attempts=PART_ATTEMPTS), None
        except _FailedError as failure:
            return [], f"can't be had: {failure}"

    async def array(self, *path: str, attempts: int | None) -> list[Any]:
        """GET an array, again and again while the inventory is away."""
        relative = "/".join(quote(piece, safe="") for piece in path)
        pauses = Backoff(_FIRST_DELAY, _LONGEST_DELAY)
        while True:
            try:
                return await self._get(relative)
            except _FailedError as failure:
                pause, attempt = pauses.next(), pauses.failed
                if not failure.transient or (attempts is not None and attempt >= attempts):
                    raise
                _log.warning("inventory.unavailable", reason=str(failure), attempt=attempt, retry_in=round(pause, 3))
                await asyncio.sleep(pause)

    async def _get(self, relative: str) -> list[Any]:
        shown = f"{self._shown}/{relative}"
        most = min(bounded_http.ANSWER_LIMIT, self._bytes_left)
        try:
            answer = await bounded_http.ask(self._client, f"{self._base}/{relative}", most=most)
        except httpx2.TimeoutException as error:
            raise _FailedError(f"{shown}: no answer in time", transient=True) from error
        except httpx2.TransportError as error:
            raise _FailedError(f"{shown}: {_words(error)}", transient=True) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, AnswerError) as error:
            raise _FailedError(f"{shown}: {_words(error)}", transient=False) from error
        status = answer.status
        if status != HTTPStatus.OK:
            transient = status >= 500 or status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
            raise _FailedError(f"{shown}: status {status}{_said(answer.body)}", transient=transient)
        return self._array_of(answer.body, shown)

    def _array_of(self, body: bytes, shown: str) -> list[Any]:
        # Others may have come since this one was asked for.
        if len(body) > self._bytes_left:
            raise _FailedError(f"{shown}: all answers are larger than {TOTAL_LIMIT} bytes", transient=False)
        self._bytes_left -= len(body)
        try:
            data = bounded_json.loads(body, parts=self._parts_left)
        except ValueError as error:
            raise _FailedError(f"{shown}: the answer is not JSON: {error}", transient=False) from error
        self._parts_left -= bounded_json.count(body)
        if not isinstance(data, list):
            raise _FailedError(f"{shown}: the answer is not an array", transient=False)
        return data


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _said(body: bytes) -> str:
    """The message of the API's ``{code, message}``, on one line and bounded."""
    try:
        message = bounded_json.loads(body)["message"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" ({' '.join(str(message).split())[:200]})"
