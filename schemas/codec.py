"""Bytes to and from Avro: the frame of events (Confluent's) and the frame of protocol packets.

The only module that knows fastavro. Counterparts: :mod:`spnhub.events.model` (event classes) and
:mod:`spnhub.transport.protocol` (packet classes) turn these plain dicts into typed objects.

Event frame: ``00``, schema id (4 bytes, big-endian), datum. Packet frame: kind (1 byte), schema version (1 byte),
length of the datum (2 bytes, big-endian), datum (D-15).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Mapping, MutableMapping
from functools import cache
from importlib.resources import files
from typing import Any, Final

import fastavro
from fastavro.types import Schema

__all__ = [
    "EVENT_IDS",
    "EVENT_NAMESPACE",
    "PACKET_HEADER_SIZE",
    "PACKET_KINDS",
    "PACKET_LIMIT",
    "ForeignSchemas",
    "SchemaError",
    "decode_event",
    "decode_event_head",
    "decode_packet",
    "encode_event",
    "encode_packet",
    "event_schema",
    "event_schema_id",
    "event_schema_text",
    "packet_header",
    "packet_versions",
    "with_schema_id",
]

Record = dict[str, Any]

_ROOT = files(__package__)
_EVENT_HEADER = struct.Struct(">bI")
_PACKET_HEADER = struct.Struct(">BBH")

PACKET_HEADER_SIZE: Final = _PACKET_HEADER.size
PACKET_LIMIT: Final = 0xFFFF
"""Largest datum of a packet, in bytes."""


class SchemaError(ValueError):
    """Bytes that don't fit a schema, or a schema that isn't known. The message says which."""


def _text(folder: str, name: str, version: int) -> Any:
    return json.loads((_ROOT / folder / f"{name}.v{version}.avsc").read_text(encoding="utf-8"))


def _load(folder: str, name: str, version: int) -> Schema:
    return fastavro.parse_schema(_text(folder, name, version))


def _load_ids() -> dict[str, dict[int, int]]:
    raw = json.loads((_ROOT / "events" / "ids.json").read_text(encoding="utf-8"))
    return {name: {int(version): int(number) for version, number in versions.items()} for name, versions in raw.items()}


EVENT_NAMESPACE: Final = "spn.event"

EVENT_IDS: Final[Mapping[str, Mapping[int, int]]] = _load_ids()
"""Schema id by record name and version; fixed for ever."""

_EVENT_BY_ID: Final = {number: (name, version) for name, vs in EVENT_IDS.items() for version, number in vs.items()}
_LATEST: Final = {name: max(versions) for name, versions in EVENT_IDS.items()}

PACKET_KINDS: Final[Mapping[str, int]] = json.loads((_ROOT / "protocol" / "kinds.json").read_text(encoding="utf-8"))
"""Kind number by record name; fixed for ever."""

_PACKET_BY_KIND: Final = {number: name for name, number in PACKET_KINDS.items()}


@cache
def event_schema(schema_id: int) -> Schema:
    """The parsed schema with this id.

    :raises SchemaError: no such id.
    """
    try:
        name, version = _EVENT_BY_ID[schema_id]
    except KeyError:
        raise SchemaError(f"unknown event schema id {schema_id}") from None
    return _load("events", name, version)


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_logical_types(value) for name, value in schema.items() if name != "logicalType"}
    return [_without_logical_types(one) for one in schema] if isinstance(schema, list) else schema


@cache
def _plain_schema(schema_id: int) -> Schema:
    """The same schema without logical types: UUIDs and times stay as they are stored, which halves the time to read."""
    event_schema(schema_id)  # it is one
    name, version = _EVENT_BY_ID[schema_id]
    return fastavro.parse_schema(_without_logical_types(_text("events", name, version)))


@cache
def _head_schema(schema_id: int, names: frozenset[str]) -> Schema:
    """The plain schema as far as the last field with one of these names; what is written with the whole begins so."""
    event_schema(schema_id)  # it is one
    name, version = _EVENT_BY_ID[schema_id]
    schema = _without_logical_types(_text("events", name, version))
    end = max((place for place, field in enumerate(schema["fields"]) if field["name"] in names), default=-1) + 1
    return fastavro.parse_schema(schema | {"fields": schema["fields"][:end]})


def event_schema_text(schema_id: int) -> str:
    """The schema with this id as it is published, JSON.

    :raises SchemaError: no such id.
    """
    try:
        name, version = _EVENT_BY_ID[schema_id]
    except KeyError:
        raise SchemaError(f"unknown event schema id {schema_id}") from None
    return json.dumps(_text("events", name, version))


class ForeignSchemas:
    """What the ids of another registry mean: of schemas that we have, and of newer ones of the same records."""

    def __init__(self) -> None:
        self._known: MutableMapping[int, tuple[str, Schema] | None] = {}

    def __contains__(self, schema_id: int) -> bool:
        return schema_id in self._known

    def learn(self, schema_id: int, text: str | None) -> None:
        """Take in a schema. One that isn't of our records is known, too, as such; and that there is none (None).

        :raises SchemaError: the text isn't an Avro schema.
        """
        if text is None:
            self._known[schema_id] = None
            return
        try:
            schema = fastavro.parse_schema(_without_logical_types(json.loads(text)))
        except (ValueError, TypeError, KeyError, fastavro.schema.SchemaParseException) as exc:
            raise SchemaError(f"what is registered as {schema_id} is not a schema: {exc}") from exc
        namespace, _, name = str(schema.get("name", "") if isinstance(schema, dict) else "").rpartition(".")
        ours = namespace == EVENT_NAMESPACE and name in EVENT_IDS
        self._known[schema_id] = (name, schema) if ours else None

    def get(self, schema_id: int) -> tuple[str, Schema]:
        """Record name and schema.

        :raises SchemaError: not learned, or no record of ours.
        """
        found = self._known.get(schema_id)
        if found is None:
            raise SchemaError(f"schema id {schema_id} is of no event that is known here")
        return found


@cache
def _packet_schema(kind: int, version: int) -> Schema:
    try:
        return _load("protocol", _PACKET_BY_KIND[kind], version)
    except (KeyError, FileNotFoundError):
        raise SchemaError(f"unknown packet kind {kind} version {version}") from None


@cache
def packet_versions() -> Mapping[int, int]:
    """Highest version known here of each packet kind."""
    highest: dict[int, int] = {}
    for entry in (_ROOT / "protocol").iterdir():
        name, _, rest = entry.name.partition(".v")
        if rest.endswith(".avsc"):
            kind = PACKET_KINDS[name]
            highest[kind] = max(highest.get(kind, 0), int(rest.removesuffix(".avsc")))
    return highest


def encode_event(name: str, record: Mapping[str, Any]) -> bytes:
    """An event as a Confluent frame, with the newest schema of its record name. UUIDs are text, as when it is read."""
    schema_id = EVENT_IDS[name][_LATEST[name]]
    buffer = io.BytesIO()
    buffer.write(_EVENT_HEADER.pack(0, schema_id))
    fastavro.schemaless_writer(buffer, _plain_schema(schema_id), record)
    return buffer.getvalue()


def event_schema_id(frame: bytes) -> int:
    """The schema id of a Confluent frame.

    :raises SchemaError: not such a frame.
    """
    if len(frame) < _EVENT_HEADER.size:
        raise SchemaError(f"an event frame of {len(frame)} bytes is too short")
    magic, schema_id = _EVENT_HEADER.unpack_from(frame)
    if magic != 0:
        raise SchemaError(f"an event frame begins with 0, not {magic}")
    return int(schema_id)


def with_schema_id(frame: bytes, schema_id: int) -> bytes:
    """The same datum under another registry's id."""
    return _EVENT_HEADER.pack(0, schema_id) + frame[_EVENT_HEADER.size :]


def decode_event(frame: bytes, foreign: ForeignSchemas | None = None) -> tuple[str, Record]:
    """Record name and record of a Confluent frame, read with the schema it was written with.

    UUIDs are text, times are microseconds since 1970.

    :param foreign: what its id means, where that isn't the repository's.
    :raises SchemaError: not such a frame.
    """
    schema_id = event_schema_id(frame)
    if foreign is None:
        schema = _plain_schema(schema_id)
        name = _EVENT_BY_ID[schema_id][0]
    else:
        name, schema = foreign.get(schema_id)
    return name, _read_all(frame, _EVENT_HEADER.size, schema, f"event schema {schema_id}")


def decode_event_head(frame: bytes, names: frozenset[str]) -> Record:
    """The record of a Confluent frame as :func:`decode_event` gives it, read no further than the last of these fields.

    A name that the record doesn't have is none of its fields. What comes behind isn't looked at, so it isn't judged.

    :raises SchemaError: not such a frame.
    """
    schema_id = event_schema_id(frame)
    return _read(io.BytesIO(frame), _EVENT_HEADER.size, _head_schema(schema_id, names), f"event schema {schema_id}")


def encode_packet(name: str, record: Mapping[str, Any], version: int = 1) -> bytes:
    """A protocol packet with its header.

    :raises SchemaError: the datum is longer than :data:`PACKET_LIMIT`.
    """
    kind = PACKET_KINDS[name]
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, _packet_schema(kind, version), record)
    datum = buffer.getvalue()
    if len(datum) > PACKET_LIMIT:
        raise SchemaError(f"a {name} of {len(datum)} bytes is longer than {PACKET_LIMIT}")
    return _PACKET_HEADER.pack(kind, version, len(datum)) + datum


def packet_header(data: bytes) -> tuple[int, int, int]:
    """Kind, version and datum length of a packet header (:data:`PACKET_HEADER_SIZE` bytes)."""
    kind, version, length = _PACKET_HEADER.unpack(data)
    return kind, version, length


def decode_packet(kind: int, version: int, datum: bytes) -> tuple[str, Record]:
    """Record name and record of a packet.

    :raises SchemaError: unknown kind or version, or bytes that don't fit.
    """
    schema = _packet_schema(kind, version)
    return _PACKET_BY_KIND[kind], _read_all(datum, 0, schema, f"packet kind {kind} version {version}")


def _read_all(data: bytes, start: int, schema: Schema, what: str) -> Record:
    buffer = io.BytesIO(data)
    record = _read(buffer, start, schema, what)
    if buffer.tell() != len(data):
        raise SchemaError(f"{len(data) - buffer.tell()} bytes too many for {what}")
    return record


def _read(buffer: io.BytesIO, start: int, schema: Schema, what: str) -> Record:
    buffer.seek(start)
    try:
        record = fastavro.schemaless_reader(buffer, schema, None)
    except (EOFError, IndexError, ValueError, TypeError, OverflowError, struct.error) as exc:
        raise SchemaError(f"bytes do not fit {what}: {exc}") from exc
    assert isinstance(record, dict)
    return record
