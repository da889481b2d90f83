"""Serves a file as the inventory API, for development, the demo and the tests.

What GET returns is what the file holds, faults and all (the log names them); what POST and PUT bring is judged first.
Changes made through the API live in memory: they end with the server, or when the file changes and is read anew.
Counterpart: :mod:`spnhub.inventory.source`, the client.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import structlog
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spnhub import bounded_json, signals
from spnhub.http_server import HttpServer
from spnhub.inventory.build import build, faults_of
from spnhub.inventory.model import Hub, Realm, Service
from spnhub.inventory.source import InventoryError, load_document, name_of, of_document

__all__ = ["create_app", "serve_until_signalled", "serving"]

_log = structlog.get_logger(__name__)

_LARGEST_BODY: Final = 4 * 1024 * 1024
_CHILDREN: Final = {"realms": "hubs", "hubs": "services", "services": None}
_KINDS: Final[dict[str, type[BaseModel]]] = {"realms": Realm, "hubs": Hub, "services": Service}
_Object = dict[str, Any]


class _Document:
    """The file's objects, read anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, ...] | None = None
        self._realms: list[Any] = []

    def realms(self) -> list[Any]:
        """The list of realms as it is now.

        :raises InventoryError: the file can't be read or isn't an inventory.
        """
        try:
            status = self._path.stat()
        except OSError as error:
            raise InventoryError(f"{self._path}: can't be read: {error.strerror}") from error
        # A file that is replaced in the same instant has another inode.
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._read_at:
            document = load_document(self._path)
            for fault in build(of_document(document)).faults:
                _log.error(
                    "inventory.fault", where=fault.where, field=fault.field, reason=fault.message, place=fault.place
                )
            self._realms = document["realms"]
            self._read_at = stamp
        return self._realms


class _Api:
    """The handlers: every collection has the same four."""

    def __init__(self, path: Path, token: str | None) -> None:
        self._document = _Document(path)
        self._document.realms()
        self._token = token

    def routes(self) -> list[Route]:
        """One route per collection and one per object in it."""
        realms, hubs = "/realms", "/realms/{realm}/hubs"
        services = hubs + "/{hub}/services"
        routes = []
        for kind, path in (("realms", realms), ("hubs", hubs), ("services", services)):
            routes.append(Route(path, self._guarded(self._collection, kind), methods=["GET", "POST", "PUT"]))
            routes.append(Route(path + "/{name}", self._guarded(self._one, kind), methods=["GET", "DELETE"]))
        return routes

    def _guarded(
        self, handler: Callable[[Request, str], Awaitable[Response]], kind: str
    ) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            if self._token is not None:
                given = request.headers.get("authorization", "").encode()
                if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
                    raise HTTPException(401, "a bearer token is needed", {"WWW-Authenticate": "Bearer"})
            return await handler(request, kind)

        return handle

    async def _collection(self, request: Request, kind: str) -> Response:
        if request.method == "GET":
            objects = self._objects(request)
            return JSONResponse([_shown(one, request, kind) for one in objects])
        given = await _body(request)
        # Looked up after the body has arrived: nothing may change between the look and the change.
        objects = self._objects(request)
        _judge(kind, given, objects)
        given = {name: value for name, value in given.items() if name != _CHILDREN[kind]}
        old = _find(objects, given["name"])
        if request.method == "POST":
            if old is not None:
                raise HTTPException(400, f"{_one_of(kind)} {given['name']} exists")
            objects.append(given)
            return JSONResponse(_shown(given, request, kind), 201)
        if old is None:
            raise HTTPException(404, f"no {_one_of(kind)} {given['name']}")
        children = _CHILDREN[kind]
        if children in old:
            given[children] = old[children]
        objects[objects.index(old)] = given
        return JSONResponse(_shown(given, request, kind))

    async def _one(self, request: Request, kind: str) -> Response:
        objects = self._objects(request)
        name = request.path_params["name"]
        one = _find(objects, name)
        if one is None:
            raise HTTPException(404, f"no {_one_of(kind)} {name}")
        if request.method == "GET":
            return JSONResponse(_shown(one, request, kind))
        objects.remove(one)
        return Response(status_code=204)

    def _objects(self, request: Request) -> list[Any]:
        """The list that the path names."""
        try:
            objects = self._document.realms()
        except InventoryError as error:
            raise HTTPException(500, str(error)) from error
        for parent, child in (("realm", "hubs"), ("hub", "services")):
            if parent not in request.path_params:
                break
            name = request.path_params[parent]
            owner = _find(objects, name)
            if owner is None:
                raise HTTPException(404, f"no {parent} {name}")
            if owner.get(child) is None:
                owner[child] = []
            objects = owner[child]
            if not isinstance(objects, list):
                raise HTTPException(500, f"{parent} {name}: {child} is not an array")
        return objects


def _one_of(kind: str) -> str:
    return kind.removesuffix("s")


def _find(objects: list[Any], name: str) -> _Object | None:
    return next((one for one in objects if name_of(one) == name), None)


def _shown(one: Any, request: Request, kind: str) -> Any:
    """An object as the API shows it: without its children, with its read-only fields."""
    if not isinstance(one, dict):
        return one
    shown = {name: value for name, value in one.items() if name != _CHILDREN[kind]}
    name = name_of(one)
    if name is None:
        return shown
    parents = request.path_params
    if kind == "realms":
        return shown | {"urn": f"urn:chip-in:realm:{name}"}
    realm = parents["realm"]
    if kind == "hubs":
        return shown | {"realm": realm, "urn": f"urn:chip-in:network:{realm}:{name}"}
    hub = parents["hub"]
    return shown | {"realm": realm, "hub": hub, "urn": f"urn:chip-in:service:{realm}:{hub}:{name}"}


def _judge(kind: str, given: _Object, objects: list[Any]) -> None:
    name = name_of(given)
    faults = faults_of(_KINDS[kind], given, f"{_one_of(kind)} {name or f'#{len(objects) + 1}'}")
    if faults:
        raise HTTPException(422, "; ".join(map(str, faults)))


async def _body(request: Request) -> _Object:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _LARGEST_BODY:
            raise HTTPException(400, f"the body is larger than {_LARGEST_BODY} bytes")
    try:
        given = bounded_json.loads(body)
    except ValueError as error:
        raise HTTPException(400, f"the body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise HTTPException(400, "the body is not an object")
    return given


async def _answer_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"code": error.status_code, "message": error.detail}, error.status_code, headers=error.headers)


def create_app(path: Path, token: str | None = None) -> Starlette:
    """Make the ASGI application that serves ``path``; ``token`` is the bearer token that every request must bring.

    :raises InventoryError: the file can't be read or isn't an inventory.
    """
    return Starlette(routes=_Api(path, token).routes(), exception_handlers={HTTPException: _answer_error})


@asynccontextmanager
async def serving(
    path: Path,
    token: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    names: Iterable[str] = (),
) -> AsyncIterator[str]:
    """Serve in the running event loop; yields the URL, which answers from then on.

    :param names: by which it may be called, beside the host's.

    :raises SettingsError: the file or the address can't be used.
    """
    server = HttpServer(create_app(path, token), "--listen", names=names, names_option="--host")
    url = await server.start(host, port)
    try:
        yield url
    finally:
        await server.close()


async def serve_until_signalled(path: Path, token: str | None, host: str, port: int, names: Iterable[str] = ()) -> None:
    """Serve until SIGINT, SIGTERM or SIGQUIT; logs ``inventory.ready`` with the URL.

    :raises SettingsError: the file or the address can't be used.
    """
    stop = asyncio.Event()
    # A changed file is read without a signal.
    with signals.taken(lambda _: stop.set()):
        async with serving(path, token, host, port, names) as url:
            _log.info("inventory.ready", url=url, file=str(path))
            await stop.wait()
    _log.info("inventory.stopped")
