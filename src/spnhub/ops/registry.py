"""The hub as a schema registry that is read only: what readers of the Confluent frame ask Confluent's API for.

The ids are the repository's, the subjects are named by record (``spn.event.SessionStarted``), the versions are those of
the files. Only what a reader needs is there: nothing can be registered. Counterpart: :mod:`spnhub.schemas.codec`.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from spnhub.schemas.codec import EVENT_IDS, EVENT_NAMESPACE, SchemaError, event_schema_text

__all__ = ["registry_routes"]

_DIGITS: Final = 9


def registry_routes() -> list[Route]:
    """``/schemas/…``, ``/subjects/…`` and ``/config``."""
    return [
        Route("/schemas/types", _types),
        Route("/schemas/ids/{number}", _schema),
        Route("/schemas/ids/{number}/schema", _bare_schema),
        Route("/schemas/ids/{number}/versions", _schema_versions),
        Route("/subjects", _subjects),
        Route("/subjects/{subject}/versions", _versions),
        Route("/subjects/{subject}/versions/{version}", _version),
        Route("/subjects/{subject}/versions/{version}/schema", _bare_version),
        Route("/config", _config),
        Route("/config/{subject}", _config),
        Route("/mode", _mode),
    ]


async def _types(_request: Request) -> Response:
    return JSONResponse(["AVRO"])


async def _subjects(_request: Request) -> Response:
    return JSONResponse([f"{EVENT_NAMESPACE}.{name}" for name in EVENT_IDS])


async def _config(_request: Request) -> Response:
    return JSONResponse({"compatibilityLevel": "FULL_TRANSITIVE"})


async def _mode(_request: Request) -> Response:
    return JSONResponse({"mode": "READONLY"})


async def _schema(request: Request) -> Response:
    try:
        return JSONResponse({"schema": event_schema_text(_number(request.path_params["number"]))})
    except SchemaError as error:
        return _missing(40403, str(error))


async def _bare_schema(request: Request) -> Response:
    try:
        return Response(event_schema_text(_number(request.path_params["number"])), media_type="application/json")
    except SchemaError as error:
        return _missing(40403, str(error))


async def _schema_versions(request: Request) -> Response:
    number = _number(request.path_params["number"])
    found = [
        {"subject": f"{EVENT_NAMESPACE}.{name}", "version": version}
        for name, versions in EVENT_IDS.items()
        for version, known in versions.items()
        if known == number
    ]
    return JSONResponse(found) if found else _missing(40403, f"unknown event schema id {number}")


async def _versions(request: Request) -> Response:
    versions = _of(request)
    return _missing(40401, _no_subject(request)) if versions is None else JSONResponse(sorted(versions))


async def _version(request: Request) -> Response:
    found = _find(request)
    if isinstance(found, Response):
        return found
    version, number = found
    subject = request.path_params["subject"]
    return JSONResponse({"subject": subject, "version": version, "id": number, "schema": event_schema_text(number)})


async def _bare_version(request: Request) -> Response:
    found = _find(request)
    if isinstance(found, Response):
        return found
    return Response(event_schema_text(found[1]), media_type="application/json")


def _of(request: Request) -> dict[int, int] | None:
    namespace, _, name = request.path_params["subject"].rpartition(".")
    return dict(EVENT_IDS[name]) if namespace == EVENT_NAMESPACE and name in EVENT_IDS else None


def _find(request: Request) -> tuple[int, int] | Response:
    """Version and id."""
    versions, text = _of(request), request.path_params["version"]
    if versions is None:
        return _missing(40401, _no_subject(request))
    if text in {"latest", "-1"}:
        return max(versions.items())
    if (version := _number(text)) in versions:
        return version, versions[version]
    return _missing(40402, f"{request.path_params['subject']} has no version {text}")


def _number(text: str) -> int:
    """What a path says; -1, which nothing has, if it is no number, or a longer one than anything has."""
    return int(text) if len(text) <= _DIGITS and text.isascii() and text.isdigit() else -1


def _no_subject(request: Request) -> str:
    return f"no subject {request.path_params['subject']}"


def _missing(code: int, message: str) -> Response:
    return JSONResponse({"error_code": code, "message": message}, 404)
