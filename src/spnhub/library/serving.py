"""A service in one line: a handler of streams, or an ASGI application, for every connection of its consumers.

A connection that fails ends itself, and is in the log (``spnhub``). Counterparts:
:mod:`spnhub.transport.endpoint.api.provider` has the endpoint, uvicorn speaks HTTP for ASGI.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

from spnhub.agent_settings import EndpointSettings
from spnhub.library.environment import endpoint_settings
from spnhub.transport.endpoint.api.consumer import create_provider_endpoint
from spnhub.transport.endpoint.api.endpoint import DRAIN_TIMEOUT
from spnhub.transport.endpoint.api.provider import ConnectionRequest, ProviderEndpoint
from spnhub.transport.endpoint.session.credentials import Pem
from spnhub.transport.errors import ConnectionAborted, SpnError
from spnhub.transport.log import NAME

if TYPE_CHECKING:  # what it imports takes a while to load
    import uvicorn

__all__ = ["Handler", "serve"]

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]
"""What :func:`asyncio.start_server` takes, too."""

_log: Final = logging.getLogger(NAME)


class _Server(Protocol):
    """What takes connections."""

    async def take(self, request: ConnectionRequest) -> None:
        """One, to its end."""

    async def close(self) -> None:
        """No more will come."""


async def serve(
    handler_or_asgi_app: Handler | Callable[..., Awaitable[object]],
    *,
    service: str | None = None,
    hub_url: str | None = None,
    certificate: Pem | None = None,
    certificate_key: Pem | None = None,
    trust: Pem | None = None,
    weight: int = 100,
    drain_timeout: float = DRAIN_TIMEOUT,
    endpoint: ProviderEndpoint | None = None,
    **options: Any,
) -> None:
    """Provide a service until cancelled; then open connections have ``drain_timeout`` seconds to end.

    ::

        asyncio.run(spnhub.serve(handle, service="urn:chip-in:service:acme:tokyo:hello"))

    What isn't given comes from the environment (:func:`spnhub.from_environment`). A hub that is away is waited for.

    :param handler_or_asgi_app: ``async def handle(reader, writer)``, as :func:`asyncio.start_server` takes it (its
        writer is closed when it returns, and reset when it raises); or an ASGI application, whose client is the
        consumer's verified subject.
    :param endpoint: one that there is, in place of all other arguments.
    :param options: single options of an endpoint: ``idle_timeout=10.0``.
    :raises TypeError: what is to serve is neither.
    :raises ConfigurationError: something is missing or can't be used.
    :raises SpnError: the endpoint has failed for good.
    """
    is_asgi = _is_asgi(handler_or_asgi_app)
    if endpoint is None:
        given = {"service_urn": service, "hub_url": hub_url, "certificate": certificate, "trust": trust}
        given |= {"certificate_key": certificate_key, **options}
        settings: EndpointSettings = endpoint_settings(EndpointSettings, given, os.environ)
        endpoint = await create_provider_endpoint(**settings.arguments(), weight=weight)
    server: _Server = await _Asgi.start(handler_or_asgi_app) if is_asgi else _Streams(handler_or_asgi_app)
    accepting = asyncio.ensure_future(_accept(endpoint, server))
    try:
        await asyncio.shield(accepting)
    finally:
        # What is on its way is still accepted while the endpoint drains.
        await endpoint.aclose(drain_timeout)
        await server.close()
        accepting.cancel()
        await asyncio.gather(accepting, return_exceptions=True)


async def _accept(endpoint: ProviderEndpoint, server: _Server) -> None:
    """Whatever becomes of one connection, the next one is taken."""
    open_ones: set[asyncio.Task[None]] = set()
    try:
        while True:
            request = await endpoint.listen()
            task = asyncio.ensure_future(_one(request, server))
            open_ones.add(task)
            task.add_done_callback(open_ones.discard)
    finally:
        for task in open_ones:
            task.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)


async def _one(request: ConnectionRequest, server: _Server) -> None:
    try:
        await server.take(request)
    except SpnError as exc:
        _log.info("connection %s of %s ended: %s", request.connection_uid, request.peer, exc)
    except Exception:
        _log.exception("the handler of connection %s failed", request.connection_uid)


class _Streams:
    """Of a handler."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    async def take(self, request: ConnectionRequest) -> None:
        reader, writer = await request.accept()
        try:
            await self._handler(reader, writer)
        except BaseException:
            # An error never looks like a clean end.
            writer.transport.abort()
            raise
        writer.close()
        with contextlib.suppress(ConnectionAborted):  # the handler has seen all that it wanted to
            await writer.wait_closed()

    async def close(self) -> None:
        """Handlers are ended with their connections."""


class _Asgi:
    """Of an ASGI application: uvicorn without sockets."""

    def __init__(self, server: uvicorn.Server, running: asyncio.Task[None]) -> None:
        self._server = server
        self._running = running

    @classmethod
    async def start(cls, application: Callable[..., Awaitable[object]]) -> _Asgi:
        """Returns when its lifespan has begun.

        :raises RuntimeError: it failed to begin.
        """
        import uvicorn  # noqa: PLC0415 - programs without HTTP don't wait for it

        class Server(uvicorn.Server):
            def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override] # as ours elsewhere
                return nullcontext()

        config = uvicorn.Config(application, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = Server(config)
        running = asyncio.ensure_future(server.serve(sockets=[]))
        while not server.started:
            if running.done():
                running.result()
                raise RuntimeError("the application's lifespan failed to begin")
            await asyncio.sleep(0.01)
        return cls(server, running)

    async def take(self, request: ConnectionRequest) -> None:
        config, server = self._server.config, self._server
        protocol = config.http_protocol_class(  # type: ignore[call-arg] # of either implementation
            config=config, server_state=server.server_state, app_state=server.lifespan.state
        )
        await request.accept_protocol(protocol)

    async def close(self) -> None:
        self._server.should_exit = True
        await self._running


def _is_asgi(candidate: Any) -> bool:
    """By how many arguments it takes: scope, receive and send; or reader and writer.

    :raises TypeError: neither.
    """
    try:
        taken = inspect.signature(candidate).parameters.values()
    except (TypeError, ValueError):
        raise TypeError(f"{candidate!r} is neither a handler nor an ASGI application") from None
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in taken if one.kind in positional and one.default is inspect.Parameter.empty]
    if len(needed) == 3:
        return True
    if len(needed) == 2 or any(one.kind is inspect.Parameter.VAR_POSITIONAL for one in taken):
        return False
    raise TypeError(
        f"{candidate!r} takes {len(needed)} arguments: neither a handler of (reader, writer),"
        " nor an ASGI application of (scope, receive, send)"
    )
