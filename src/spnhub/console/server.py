"""The console over HTTP: pages now and at any moment, stories, the same for programs. It is read-only.

Counterparts: :mod:`spnhub.console.sight` (what is known), :mod:`spnhub.console.html`, :mod:`spnhub.cli.log_console`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib import resources
from typing import Final

import structlog
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from spnhub.console import html
from spnhub.console.sight import Sight, UnknownStory
from spnhub.console.tokens import DENIED, Tokens
from spnhub.events.analysis.point_in_time import Moment, MomentError
from spnhub.events.journal.files import JournalError
from spnhub.http_server import HttpServer
from spnhub.schemas.codec import SchemaError

__all__ = ["application", "serve"]

_log = structlog.get_logger("spnhub.console")

_QUERY_LIMIT: Final = 200
"""Characters of what is looked for, and of an id."""
_AT_ONCE: Final = 8
"""Answers that are being made: further ones are refused meanwhile."""
_HEADERS: Final[Mapping[str, str]] = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Nothing from elsewhere is loaded, nothing goes elsewhere, and no other page may frame this one."""
_ASSETS: Final = {"console.css": "text/css", "console.js": "text/javascript"}

_Scope = str | None
_Answer = Callable[[Request, _Scope], Awaitable[Response]]


def application(sight: Sight, tokens: Tokens) -> Starlette:
    """The ASGI application."""
    busy = 0

    def answered(make: _Answer) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            nonlocal busy
            scope = tokens.scope(request)
            if scope is DENIED or not (scope is None or isinstance(scope, str)):
                challenge = 'Basic realm="SPN Hub console", charset="UTF-8"'
                return PlainTextResponse("a token is needed\n", 401, {"WWW-Authenticate": challenge})
            if busy >= _AT_ONCE:
                return PlainTextResponse("busy with others\n", 503, {"Retry-After": "1"})
            busy += 1
            try:
                made = await make(request, scope)
            except MomentError as exc:
                made = HTMLResponse(html.fault_page(str(exc), scope), 400)
            except (JournalError, SchemaError, OSError) as exc:
                _log.warning("console.unreadable", reason=str(exc))
                # What a file is called is nothing for a tenant.
                text = str(exc) if scope is None else "the log can't be read"
                made = HTMLResponse(html.fault_page(text, scope), 500)
            finally:
                busy -= 1
            made.headers.update(_HEADERS)
            return made

        return answer

    async def page(request: Request, scope: _Scope) -> Response:
        if not sight.ready:
            return HTMLResponse(html.waiting_page(sight.live.events), 503, {"Retry-After": "1"})
        at, query = _at(request), request.query_params.get("q", "")[:_QUERY_LIMIT]
        shown, frame = await sight.page(at, scope, query)
        if request.url.path == "/part":
            return HTMLResponse(html.main_part(shown, frame))
        return HTMLResponse(html.page(shown, frame, sight.flow(scope)))

    async def as_json(request: Request, scope: _Scope) -> Response:
        if not sight.ready:
            return JSONResponse({"ready": False}, 503)
        shown, _ = await sight.page(_at(request), scope, request.query_params.get("q", "")[:_QUERY_LIMIT])
        return JSONResponse(shown.to_json())

    async def story(request: Request, scope: _Scope) -> Response:
        name = request.path_params["name"].strip()[:_QUERY_LIMIT]
        try:
            picture, more = await sight.story(name, scope)
        except UnknownStory as exc:
            return HTMLResponse(html.fault_page(str(exc), scope), 404)
        return HTMLResponse(html.story_page(picture, scope, more, sight.note))

    async def asset(request: Request, _: _Scope) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            return PlainTextResponse("not found\n", 404)
        return Response(_read(name), media_type=_ASSETS[name])

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        if sight.ready:
            return PlainTextResponse("ready\n")
        return PlainTextResponse("still reading what is there\n", 503)

    return Starlette(
        routes=[
            Route("/", answered(page)),
            Route("/part", answered(page)),
            Route("/page.json", answered(as_json)),
            Route("/story/{name}", answered(story)),
            Route("/static/{name}", answered(asset)),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
        ]
    )


def _read(name: str) -> bytes:
    return resources.files("spnhub.console").joinpath("static", name).read_bytes()


def _at(request: Request) -> int | None:
    """The moment that is asked for, microseconds since 1970; None: now.

    :raises MomentError: it is no time.
    """
    text = request.query_params.get("at", "").strip()
    if not text:
        return None
    moment = Moment.parse(text[:100])
    if moment.time is None:
        raise MomentError(f"{text[:100]!r} is no time like 2026-01-02T03:04:05Z")
    return moment.time


async def serve(
    sight: Sight, tokens: Tokens, host: str, port: int, stop: asyncio.Event, *, names: Iterable[str] = ()
) -> None:
    """Follow and answer until ``stop``.

    :param names: by which it may be called, beside the host's.
    :raises SettingsError: the address can't be had.
    """
    server = HttpServer(application(sight, tokens), "--listen", names=names, names_option="--host")
    await server.answer_while(host, port, sight.run, stop, lambda url: _log.info("console.ready", url=url))
    _log.info("console.stopped")
