"""HTTP to a service: a transport for httpx (and httpx2), whose connections are those of a consumer endpoint.

Which of the two the program uses shows in its requests. Counterpart: httpcore2 has HTTP and the pool of connections; it
is given a network.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self

import httpcore2

from spnhub.transport.endpoint.api.consumer import CONNECT_TIMEOUT, ConsumerEndpoint
from spnhub.transport.errors import SpnError

__all__ = ["HttpxTransport"]

_ERRORS: Final = (
    "ConnectTimeout",
    "ReadTimeout",
    "WriteTimeout",
    "PoolTimeout",
    "ConnectError",
    "ReadError",
    "WriteError",
    "LocalProtocolError",
    "RemoteProtocolError",
    "UnsupportedProtocol",
)
"""They have the same names in httpcore and httpx."""


class HttpxTransport:
    """What an ``httpx.AsyncClient`` asks the service of an endpoint through.

    ::

        async with httpx.AsyncClient(transport=spnhub.HttpxTransport(endpoint), base_url="http://service") as client:
            answer = await client.get("/")

    The host of a URL is what the server is told, and no address. The endpoint stays open.

    :param connections: open at once, at most.
    """

    def __init__(self, endpoint: ConsumerEndpoint, *, connections: int = 100) -> None:
        self._pool = httpcore2.AsyncConnectionPool(network_backend=_Network(endpoint), max_connections=connections)

    async def handle_async_request(self, request: Any) -> Any:
        """As httpx calls it."""
        library = sys.modules[type(request).__module__.partition(".")[0]]
        asked = httpcore2.Request(
            method=request.method,
            url=httpcore2.URL(
                scheme=request.url.raw_scheme,
                host=request.url.raw_host,
                port=request.url.port,
                target=request.url.raw_path,
            ),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        with _errors_of(library, request):
            answer = await self._pool.handle_async_request(asked)
        # httpx asks whether it is one of its own.
        body = type("Body", (_Body, library.AsyncByteStream), {})(answer.stream, library, request)
        return library.Response(answer.status, headers=answer.headers, stream=body, extensions=answer.extensions)

    async def aclose(self) -> None:
        """Close the connections that are kept."""
        await self._pool.aclose()

    async def __aenter__(self) -> Self:
        await self._pool.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self._pool.__aexit__(kind, error, trace)


@contextmanager
def _errors_of(library: Any, request: Any) -> Iterator[None]:
    """What httpcore raises, as httpx has it."""
    try:
        yield
    except tuple(getattr(httpcore2, name) for name in _ERRORS) as exc:
        raise getattr(library, type(exc).__name__)(str(exc), request=request) from exc


class _Body:
    def __init__(self, stream: Any, library: Any, request: Any) -> None:
        self._stream = stream
        self._library = library
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _errors_of(self._library, self._request):
            async for piece in self._stream:
                yield piece

    async def aclose(self) -> None:
        await self._stream.aclose()


class _Network(httpcore2.AsyncNetworkBackend):
    def __init__(self, endpoint: ConsumerEndpoint) -> None:
        self._endpoint = endpoint

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - the service is the endpoint's
        port: int,  # noqa: ARG002
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Any = None,  # noqa: ARG002
    ) -> httpcore2.AsyncNetworkStream:
        loop = asyncio.get_running_loop()
        within = CONNECT_TIMEOUT if timeout is None else timeout
        end = loop.time() + within
        try:
            return _Stream(*await self._endpoint.connect(timeout=within))
        except SpnError as exc:
            late = loop.time() >= end
            raise (httpcore2.ConnectTimeout if late else httpcore2.ConnectError)(str(exc)) from exc

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class _Stream(httpcore2.AsyncNetworkStream):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        try:
            async with asyncio.timeout(timeout):
                return await self._reader.read(max_bytes)
        except TimeoutError as exc:
            raise httpcore2.ReadTimeout(f"no answer within {timeout} s") from exc
        except OSError as exc:
            raise httpcore2.ReadError(str(exc)) from exc

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        try:
            async with asyncio.timeout(timeout):
                self._writer.write(buffer)
                await self._writer.drain()
        except TimeoutError as exc:
            raise httpcore2.WriteTimeout(f"not taken within {timeout} s") from exc
        except OSError as exc:
            raise httpcore2.WriteError(str(exc)) from exc

    async def aclose(self) -> None:
        self._writer.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.AsyncNetworkStream:
        try:
            async with asyncio.timeout(timeout):
                await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        except TimeoutError as exc:
            raise httpcore2.ConnectTimeout(f"no TLS within {timeout} s") from exc
        except OSError as exc:
            raise httpcore2.ConnectError(str(exc)) from exc
        return self

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            # The pool asks whether an idle connection has been ended by the other side.
            return self._reader.at_eof() or self._reader.exception() is not None
        return self._writer.get_extra_info({"client_addr": "sockname", "server_addr": "peername"}.get(info, info))
