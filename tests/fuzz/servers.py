"""HTTP: what clients say to the servers of ours, and what the inventory's server answers."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import json
import logging
from collections.abc import Callable
from typing import Any, Final
from unittest import mock

import httpx2
from starlette.applications import Starlette

from spnhub.events.state.hub_state import HubState
from spnhub.http_server import HttpServer
from spnhub.inventory import InventoryError, load_inventory
from spnhub.inventory.server import create_app
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress, Snapshot
from tests.events.samples import NOON
from tests.fuzz.files import folder
from tests.fuzz.harness import Harness
from tests.fuzz.logs import streamed
from tests.inventory.documents import sound, written

__all__ = ["SERVERS"]


class _Server:
    """One of ours on a socket, in a loop that runs while an input is taken."""

    def __init__(self, application: Starlette) -> None:
        self._application = application
        self._loop: asyncio.AbstractEventLoop | None = None
        self._address = ("", 0)

    async def _exchange(self, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(*self._address)
        writer.write(data)
        writer.write_eof()
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(65_536):
                answer += piece
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
        return answer

    async def _start(self) -> None:
        server = HttpServer(self._application, "--ops")
        url = httpx2.URL(await server.start("127.0.0.1", 0))
        assert url.port is not None
        self._address = url.host, url.port
        atexit.register(self._stop, server)

    def _stop(self, server: HttpServer) -> None:
        assert self._loop is not None
        self._loop.run_until_complete(server.close())
        self._loop.close()

    def __call__(self, data: bytes) -> None:
        """Every answer is HTTP, and none is a fault of ours."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.run_until_complete(self._start())
        faults = _Faults()
        for name in _LOGS:
            logging.getLogger(name).addHandler(faults)
        try:
            answer = self._loop.run_until_complete(asyncio.wait_for(self._exchange(data), 60))
        finally:
            for name in _LOGS:
                logging.getLogger(name).removeHandler(faults)
        assert not faults.found, faults.found
        assert answer == b"" or answer.startswith(b"HTTP/1.1 "), answer[:100]
        assert not answer.startswith(b"HTTP/1.1 500"), answer


_LOGS: Final = ("uvicorn.error", "asyncio")


class _Faults(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


def _ops() -> Starlette:
    return Ops(lambda: True, _snapshot, _progress, HubMetrics(), lambda: 0).application()


def _snapshot() -> Snapshot:
    return Snapshot("hub-1", None, NOON, _progress(), (), HubState(), (), lambda _: ())


def _progress() -> Progress:
    return Progress(1, 1, None)


_PATHS: Final = (
    "/healthz", "/readyz", "/metrics", "/state", "/state?certificates=1", "/schemas/types", "/schemas/ids/1",
    "/schemas/ids/1/schema", "/schemas/ids/1/versions", "/subjects", "/subjects/spn.event.SessionStarted/versions",
    "/subjects/spn.event.SessionStarted/versions/1", "/subjects/spn.event.SessionStarted/versions/latest/schema",
    "/config/x", "/mode", "/nothing",
)  # fmt: skip


def _requests(*paths: str, extra: tuple[bytes, ...] = ()) -> list[bytes]:
    head = "HTTP/1.1\r\nHost: localhost\r\n"
    whole = [f"GET {path} {head}Connection: close\r\n\r\n".encode() for path in paths]
    posted = f"POST {paths[0]} {head}Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    chunked = f"POST {paths[0]} {head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n".encode()
    return [*whole, posted, chunked, b"".join(whole), *extra]


def _changes() -> list[bytes]:
    base = "/realms/acme/hubs/tokyo/services"
    body = json.dumps({"name": "ssh", "title": "Ssh", "provider": "gate", "consumers": ["me"]})
    made = []
    for method, path in (("POST", base), ("PUT", base), ("DELETE", f"{base}/ssh"), ("PUT", "/realms")):
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
        made.append(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    return made


_WORDS: Final = tuple(
    word.encode("latin-1")
    for word in (
        *(
            "GET ",
            "POST ",
            "DELETE ",
            "PUT ",
            "HEAD ",
            "OPTIONS * ",
            "CONNECT ",
            "HTTP/1.0",
            "HTTP/2.0",
            "\r\n",
            "\r\n\r\n",
        ),
        *("Host: ", "Host: evil.test\r\n", "Content-Length: ", "Transfer-Encoding: chunked\r\n", "Range: bytes=0-\r\n"),
        *("Expect: 100-continue\r\n", "Upgrade: websocket\r\nConnection: Upgrade\r\n", "Authorization: Bearer x\r\n"),
        *("%00", "%2f", "%ff", "/../", "//", "?", "#", ";", "5" * 5000, "\x00", "\xff"),
    )
)


@functools.cache
def _inventory_server() -> _Server:
    """Made when it is needed."""
    return _Server(create_app(written(sound(), folder(), "served.json")))


@functools.cache
def _ops_server() -> _Server:
    return _Server(_ops())


# ---- the other way -------------------------------------------------------------------------------------------------


def _answers(data: bytes) -> None:
    """An inventory's server that answers every request with this; the first byte is the status."""
    status = (200, 200, 200, 200, 404, 204, 302, 401)[(data[:1] or b"\0")[0] % 8]

    def answer(_: httpx2.Request) -> httpx2.Response:
        return streamed(status, data[1:], "/realms")

    client = functools.partial(httpx2.AsyncClient, transport=httpx2.MockTransport(answer))
    with mock.patch.object(httpx2, "AsyncClient", client):
        inventory = asyncio.run(load_inventory("http://inventory.test"))
    for fault in inventory.faults:
        assert str(fault)


def _answered() -> list[bytes]:
    realms = sound()["realms"]
    hubs = realms[0]["hubs"]
    bodies: list[Any] = [realms, hubs, hubs[0]["services"], [], {}]
    return [b"\0" + json.dumps(one).encode() for one in bodies] + [b"\4no"]


def _to(server: Callable[[], _Server], data: bytes) -> None:
    server()(data)


SERVERS: Final = (
    Harness(
        "http_ops",
        "HTTP requests to a hub's --ops",
        functools.partial(_to, _ops_server),
        lambda: _requests(*_PATHS),
        words=_WORDS,
    ),
    Harness(
        "http_inventory",
        "HTTP requests to spnhub inventory",
        functools.partial(_to, _inventory_server),
        lambda: [*_requests("/realms", "/realms/acme/hubs"), *_changes()],
        words=_WORDS,
    ),
    Harness("inventory_answer", "answers of an inventory's server", _answers, _answered, (InventoryError,)),
)
