"""A schema registry with Confluent's API: Confluent's own, Karapace, Apicurio, or a hub's ``--ops`` for readers.

The journal holds the repository's ids; with a registry the shipper writes the registry's instead, and readers learn
from it what an id means (D-12). Subjects are named by record (``spn.event.SessionStarted``), since several kinds stand
in one topic. Counterparts: :mod:`spnhub.events.shipper.loop` (writes), :mod:`spnhub.events.kafka.source` (reads).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from spnhub import bounded_json
from spnhub.schemas import codec

if TYPE_CHECKING:
    import httpx2

__all__ = ["RegistryUnavailable", "fetch", "learn", "register"]

_TIMEOUT: Final = 10.0
_CONTENT_TYPE: Final = "application/vnd.schemaregistry.v1+json"


_LARGEST_ID: Final = 0xFFFF_FFFF
"""What a frame has room for."""
_NO_SUCH_SCHEMA: Final = 40403
"""Confluent's error code. Any other 404 is that of something that is no registry."""


class RegistryUnavailable(Exception):
    """It can't be reached, or doesn't do what was asked; the message names it and says why. A retry may help.

    :param error_code: what a registry said; None: nothing.
    """

    def __init__(self, message: str, error_code: int | None = None) -> None:
        super().__init__(message)
        self.error_code = error_code


async def register(url: str) -> dict[int, int]:
    """Register all schemas of all versions, oldest first; the registry's id by ours. Doing it again changes nothing.

    Those of newer versions that are known here are among them.

    :param url: with user name and password, if it wants them.
    :raises RegistryUnavailable: one of them couldn't be.
    """
    found: dict[int, int] = {}
    async with _client(url) as client:
        for number, name in codec.event_schemas().items():
            path = f"/subjects/{codec.EVENT_NAMESPACE}.{name}/versions"
            answer = await _ask(client, "POST", path, {"schema": codec.event_schema_text(number)})
            schema_id = answer.get("id")
            if not isinstance(schema_id, int) or not 0 <= schema_id <= _LARGEST_ID:
                raise RegistryUnavailable(f"{_name(client)}: POST {path} was answered without a schema's id")
            found[number] = schema_id
    return found


async def fetch(url: str, schema_id: int) -> str | None:
    """The schema with this id, as JSON text; None: the registry has none.

    :raises RegistryUnavailable: it can't be had.
    """
    async with _client(url) as client:
        try:
            answer = await _ask(client, "GET", f"/schemas/ids/{schema_id}", None)
        except RegistryUnavailable as exc:
            if exc.error_code == _NO_SUCH_SCHEMA:
                return None
            raise
        schema = answer.get("schema")
        if not isinstance(schema, str):
            raise RegistryUnavailable(f"{_name(client)}: GET /schemas/ids/{schema_id} was answered without a schema")
        return schema


async def learn(known: codec.ForeignSchemas, url: str, frame: bytes) -> None:
    """Make sure that what a frame's schema id means is known.

    :raises RegistryUnavailable: the registry doesn't say.
    :raises spnhub.schemas.codec.SchemaError: it isn't a frame, or what is registered isn't a schema.
    """
    schema_id = codec.event_schema_id(frame)
    if schema_id not in known:
        known.learn(schema_id, await fetch(url, schema_id))


def _client(url: str) -> httpx2.AsyncClient:
    import httpx2  # noqa: PLC0415 - it takes a while to load, and most shippers need no registry

    # Loading the system's roots takes longer than the request, and without TLS they aren't needed.
    verify = not url.startswith("http://")
    headers = {"Content-Type": _CONTENT_TYPE}
    return httpx2.AsyncClient(base_url=url.rstrip("/"), timeout=_TIMEOUT, headers=headers, verify=verify)


def _name(client: httpx2.AsyncClient) -> str:
    shown = client.base_url.copy_with(username=None, password=None)
    return f"schema registry {str(shown).rstrip('/')}"


async def _ask(client: httpx2.AsyncClient, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
    import httpx2  # noqa: PLC0415

    from spnhub import bounded_http  # noqa: PLC0415 - with httpx2

    name = _name(client)
    try:
        content = None if body is None else json.dumps(body)
        response = await bounded_http.ask(client, path, method=method, content=content)
        answer = bounded_json.loads(response.body) if response.body else {}
    except (httpx2.HTTPError, bounded_http.AnswerError, ValueError) as exc:
        raise RegistryUnavailable(f"{name}: {str(exc) or type(exc).__name__}") from exc
    if response.status != httpx2.codes.OK or not isinstance(answer, dict):
        error = answer if isinstance(answer, dict) else {}
        message = f"{name}: {method} {path} was answered with {response.status} {error.get('message', '')}"
        raise RegistryUnavailable(message.rstrip(), error.get("error_code"))
    return answer
