"""Gets the inventory's objects, as they are, over HTTP or from a file.

Over HTTP in the order of R-6.2: all realms, then every realm's hubs, then every hub's services. Counterparts:
:mod:`spnhub.inventory.build` judges what is got here, :mod:`spnhub.inventory.server` serves the same API from a file.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

import httpx2
import structlog

from spnhub import bounded_http, bounded_json
from spnhub.backoff import Backoff
from spnhub.bounded_http import AnswerError
from spnhub.bounded_json import PARTS
from spnhub.inventory.document import DocumentError, read_document
from spnhub.plain_text import remember_secret, without_secrets
from spnhub.settings import SettingsError, check_inventory_url
from spnhub.transport.text import meant, quoted

__all__ = [
    "InventoryError",
    "InventoryFault",
    "RawFile",
    "RawHub",
    "RawRealm",
    "check_url",
    "fetch",
    "file_of",
    "load_document",
    "name_of",
    "of_document",
    "read_file",
]

_log = structlog.get_logger(__name__)

CONCURRENCY: Final = 16
"""Requests under way at once: enough to hide the distance, few enough for any server."""
PART_ATTEMPTS: Final = 4
"""Attempts at the hubs of one realm or the services of one hub: the others must not wait for it forever."""
TOTAL_LIMIT: Final = 64 << 20
"""Bytes of all answers of one reading together."""
_TIMEOUT: Final = httpx2.Timeout(30.0, connect=5.0)
_FIRST_DELAY, _LONGEST_DELAY = 0.2, 10.0


class InventoryError(SettingsError):
    """The inventory as a whole can't be had; the text is one line and names URL or file, and what happened."""


@dataclass(frozen=True, slots=True)
class InventoryFault:
    """A part of the inventory that is left out, and why."""

    where: str
    """``realm R``, ``hub R/H`` or ``service R/H/S``; ``#2`` stands for the second of a list that has no usable name."""
    field: str
    """The API's name of the field, with dots into objects; ``""`` is the whole object."""
    message: str
    """Goes on after the field's name: ``is missing``."""
    place: str = dataclasses.field(default="", compare=False)
    """``FILE:LINE``, where it is of a file. Not a part of what is wrong."""

    def __str__(self) -> str:
        place = f"{self.place}: " if self.place else ""
        what = f"{self.field} {self.message}" if self.field else self.message
        return f"{place}{self.where}: {what}"

    def facts(self) -> dict[str, str]:
        """For a log line."""
        place = {"place": self.place} if self.place else {}
        return {"where": self.where, "field": self.field, "reason": self.message, **place}


@dataclass(frozen=True, slots=True)
class RawHub:
    """A hub object with its services, or why they couldn't be got."""

    data: Any = field(repr=False)
    services: list[Any] = field(default_factory=list, repr=False)
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class RawRealm:
    """A realm object with its hubs, or why they couldn't be got."""

    data: Any = field(repr=False)
    hubs: list[RawHub] = field(default_factory=list)
    failure: str | None = None


def name_of(data: Any) -> str | None:
    """The name of an object, where it has one that can stand in a URL."""
    name = data.get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) and name and name not in {".", ".."} and "/" not in name else None


# --------------------------------------------------------------------------------------------------------------------
# A file
# --------------------------------------------------------------------------------------------------------------------


def file_of(url: str) -> Path:
    """The path that a ``file:`` URL names; ``file:name`` is relative to the current folder."""
    return Path(unquote(urlsplit(url).path))


class RawFile(list[RawRealm]):
    """The realms of a file, and the file."""

    def __init__(self, document: dict[str, Any], realms: Iterable[RawRealm]) -> None:
        super().__init__(realms)
        self.document = document


def read_file(path: Path) -> RawFile:
    """Read a YAML or JSON document ``realms: [ {…realm, hubs: [ {…hub, services: […]} ]} ]``.

    :raises InventoryError: it can't be read, or isn't such a document.
    """
    return of_document(load_document(path))


def of_document(document: dict[str, Any]) -> RawFile:
    """What :func:`load_document` has read, as what comes over HTTP."""
    realms = (
        RawRealm(
            data=realm,
            hubs=[
                RawHub(data=hub, services=services, failure=failure)
                for hub in hubs
                for services, failure in [_children(hub, "services")]
            ],
            failure=failure,
        )
        for realm in document["realms"]
        for hubs, failure in [_children(realm, "hubs")]
    )
    return RawFile(document, realms)


def load_document(path: Path) -> dict[str, Any]:
    """Read a document and check its outermost shape only: an object with the array ``realms``.

    :raises InventoryError: it can't be read or has another shape.
    """
    try:
        document = read_document(path)
    except DocumentError as error:
        raise InventoryError(str(error)) from error
    if not isinstance(document, dict) or not isinstance(document.get("realms"), list):
        near = meant("realms", document) if isinstance(document, dict) and "realms" not in document else None
        hint = f"; {quoted(near)} is unknown" if near is not None else ""
        raise InventoryError(f"{path}: realms is missing or not an array{hint}")
    return document


def _children(parent: Any, kind: str) -> tuple[list[Any], str | None]:
    # Over HTTP there is no way to the children of an object without a usable name; the two are to agree.
    children = parent.get(kind) if name_of(parent) is not None else None
    if children is None:
        return [], None
    return (children, None) if isinstance(children, list) else ([], "is not an array")


# --------------------------------------------------------------------------------------------------------------------
# HTTP
# --------------------------------------------------------------------------------------------------------------------


class _FailedError(Exception):
    """A request failed; the text goes on after a subject. ``transient``: the same request may succeed later."""

    def __init__(self, message: str, *, transient: bool) -> None:
        super().__init__(without_secrets(message))
        self.transient = transient


def check_url(url: str) -> None:
    """Whether an inventory can be at ``url``.

    :raises SettingsError: it is no http, https or file URL.
    """
    try:
        check_inventory_url(url)
    except ValueError as error:
        raise SettingsError(f"--inventory: {error}") from error


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
