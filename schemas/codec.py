"""Bytes to and from Avro: the frame of events (Confluent's) and the frame of protocol packets.

The only module that knows fastavro, which reads; :mod:`spnhub.schemas.writing` writes. Counterparts:
:mod:`spnhub.events.model` (event classes) and :mod:`spnhub.transport.protocol` (packets) make typed objects of this.

Event frame: ``00``, schema id (4 bytes, big-endian), datum. Packet frame: kind (1 byte), schema version (1 byte),
length of the datum (2 bytes, big-endian), datum (D-15).
"""

from __future__ import annotations

import io
import json
import struct
from collections.abc import Iterable, Mapping, MutableMapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import fastavro
from fastavro.types import Schema

from spnhub import bounded_json
from spnhub.schemas.writing import Write, field_writers

__all__ = [
    "EVENT_IDS",
    "EVENT_NAMESPACE",
    "PACKET_HEADER_SIZE",
    "PACKET_KINDS",
    "PACKET_LIMIT",
    "ForeignSchemas",
    "SchemaError",
    "camel",
    "decode_event",
    "decode_event_head",
    "decode_packet",
    "encode_event",
    "encode_packet",
    "event_fields",
    "event_schema_id",
    "event_schema_text",
    "event_schemas",
    "forget_newer",
    "is_event_schema",
    "learn_event_schema",
    "packet_header",
    "packet_versions",
    "with_schema_id",
]

Record = dict[str, Any]

_ROOT: Final = Path(__file__).parent
_EVENT_HEADER = struct.Struct(">bI")
_PACKET_HEADER = struct.Struct(">BBH")

PACKET_HEADER_SIZE: Final = _PACKET_HEADER.size
PACKET_LIMIT: Final = 0xFFFF
"""Largest datum of a packet, in bytes."""


class SchemaError(ValueError):
    """Bytes that don't fit a schema, or a schema that isn't known. The message says which."""


def _load(folder: str, file: str) -> Any:
    return json.loads((_ROOT / folder / file).read_text(encoding="utf-8"))


def _load_ids() -> dict[str, dict[int, int]]:
    raw = _load("events", "ids.json")
    return {name: {int(version): int(number) for version, number in versions.items()} for name, versions in raw.items()}


def _load_packet_schemas() -> dict[tuple[int, int], Schema]:
    found: dict[tuple[int, int], Schema] = {}
    for entry in (_ROOT / "protocol").iterdir():
        name, _, rest = entry.name.partition(".v")
        if rest.endswith(".avsc"):
            version = int(rest.removesuffix(".avsc"))
            found[PACKET_KINDS[name], version] = fastavro.parse_schema(_load("protocol", entry.name))
    return found


EVENT_NAMESPACE: Final = "spn.event"

EVENT_IDS: Final[Mapping[str, Mapping[int, int]]] = _load_ids()
"""Schema id by record name and version; fixed for ever."""

_EVENT_BY_ID: Final = {number: (name, version) for name, vs in EVENT_IDS.items() for version, number in vs.items()}
_LATEST: Final = {name: max(versions) for name, versions in EVENT_IDS.items()}

PACKET_KINDS: Final[Mapping[str, int]] = _load("protocol", "kinds.json")
"""Kind number by record name; fixed for ever."""

_PACKET_BY_KIND: Final = {number: name for name, number in PACKET_KINDS.items()}

# Every file is read at import. Read at first use, a schema would be missing when the process has no descriptor left,
# and that is when a connection is refused with a packet that no connection before has needed.
_PUBLISHED: Final = {number: _load("events", f"{name}.v{v}.avsc") for number, (name, v) in _EVENT_BY_ID.items()}
"""Schema by id, of all events of this version."""

_PACKET_SCHEMAS: Final = _load_packet_schemas()
"""Parsed schema by kind and version."""

_PACKET_WRITERS: Final = {number: field_writers(schema) for number, schema in _PACKET_SCHEMAS.items()}
"""Field name and writer of each field, by kind and version."""

_PACKET_VERSIONS: Final = dict(sorted(_PACKET_SCHEMAS))  # of a kind, the highest version comes last


_ENVELOPE: Final = ("eventId", "eventType", "hubId", "journalId", "sequence", "timestamp", "realm", "networkUrn")
"""What each event begins with, in every version."""

_NEWER: Final[dict[int, tuple[str, Any]]] = {}
"""Record name and schema by id, of versions after this one, as far as their hubs have left them beside what they wrote.
Ids are fixed for ever, so it doesn't matter where one was learned. At most :data:`_NEWER_LIMIT`."""

_NEWER_LIMIT: Final = 10_000
_SCHEMA_PARTS: Final = 10_000
"""Of a schema from outside; ours have some hundred."""
_LEAST: Final = {"null": 0, "float": 4, "double": 8}
"""Bytes of a value of a primitive type; all others take one at least."""


@lru_cache(maxsize=4096)
def camel(name: str) -> str:
    """The name that a field has in a schema: ``spn_session_id`` is ``spnSessionId``."""
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def learn_event_schema(schema_id: int, schema: Any) -> None:
    """Take in the schema of an id, as a newer version has it. What is known stays as it is.

    :param schema: as published, from JSON.
    :raises SchemaError: it is no schema of an event.
    """
    if is_event_schema(schema_id) or len(_NEWER) >= _NEWER_LIMIT:
        return
    _, name = _parse(schema, f"what stands for schema id {schema_id}")
    if name is None:
        raise SchemaError(f"what stands for schema id {schema_id} is no event")
    _NEWER[schema_id] = (name, schema)


def _parse(schema: Any, what: str) -> tuple[Schema, str | None]:
    """Somebody else's schema, without logical types, and the event's record name; None: it isn't of an event.

    :raises SchemaError: it isn't one, or one with which a few bytes could be read without end.
    """
    try:
        parsed = fastavro.parse_schema(_without_logical_types(schema))
        _least_size(parsed, {})
        return parsed, _event_name(parsed)
    except Exception as exc:  # the library raises whatever comes of a text that is no schema
        raise SchemaError(f"{what} is not a schema: {exc}") from exc


def _least_size(schema: Any, known: dict[str, int | None]) -> int:
    """Bytes that a value takes at least.

    :param known: of the types that have a name; None: of one that is being looked at.
    :raises ValueError: a type holds itself, or the items of an array may take none: then a count is all that is needed
        to have as many values as it says.
    """
    match schema:
        case str():
            size = known[schema] if schema in known else _LEAST.get(schema, 1)
            if size is None:
                raise ValueError(f"{schema} holds itself")
            return size
        case list():
            for one in schema:
                _least_size(one, known)
            return 1
        case {"type": "array", "items": items}:
            if _least_size(items, known) == 0:
                raise ValueError("it has an array whose items take no bytes")
            return 1
        case {"type": "map", "values": values}:
            _least_size(values, known)
            return 1
        case {"type": "fixed", "name": str(name), "size": int(size)}:
            known[name] = size
            return size
        case {"type": "enum", "name": str(name)}:
            known[name] = 1
            return 1
        case {"type": "record" | "error", "name": str(name), "fields": list(fields)}:
            known[name] = None
            size = sum(_least_size(field["type"], known) for field in fields)
            known[name] = size
            return size
        case {"type": inner}:
            return _least_size(inner, known)
    raise ValueError("it has a type that is none")


def _event_name(schema: Schema) -> str | None:
    """Record name; None: it isn't an event."""
    if not isinstance(schema, dict) or schema["type"] != "record":
        return None
    namespace, _, name = str(schema["name"]).rpartition(".")
    begins = tuple(field["name"] for field in schema["fields"][: len(_ENVELOPE)])
    return name if (namespace, begins) == (EVENT_NAMESPACE, _ENVELOPE) else None


def is_event_schema(schema_id: int) -> bool:
    """Whether the schema with this id is known."""
    return schema_id in _EVENT_BY_ID or schema_id in _NEWER


def event_schemas() -> dict[int, str]:
    """Record name by schema id, of all that are known, those of newer versions included; old ones first."""
    newer = {number: name for number, (name, _) in sorted(_NEWER.items())}
    return {number: name for number, (name, _) in sorted(_EVENT_BY_ID.items())} | newer


def event_fields(name: str) -> tuple[str, ...]:
    """Field names of an event of this version, in the order of its newest schema."""
    return tuple(field["name"] for field in _PUBLISHED[EVENT_IDS[name][_LATEST[name]]]["fields"])


def _published(schema_id: int) -> tuple[str, Any]:
    """Record name and schema.

    :raises SchemaError: no such id.
    """
    if (ours := _EVENT_BY_ID.get(schema_id)) is not None:
        return ours[0], _PUBLISHED[schema_id]
    if (newer := _NEWER.get(schema_id)) is not None:
        return newer
    raise SchemaError(f"unknown event schema id {schema_id}")


def _without_logical_types(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_logical_types(value) for name, value in schema.items() if name != "logicalType"}
    return [_without_logical_types(one) for one in schema] if isinstance(schema, list) else schema


class _Written(NamedTuple):
    """How to read what was written with a schema."""

    name: str
    """Of the record."""
    schema: Schema
    """Without logical types: UUIDs and times stay as they are stored, which halves the time to read."""
    reader: Schema | None
    """Ours, where the writer's is a newer one of the same record: Avro's rules lead from one to the other."""


@cache
def _written(schema_id: int) -> _Written:
    name, schema = _published(schema_id)
    plain = fastavro.parse_schema(_without_logical_types(schema))
    return _Written(name, plain, None if schema_id in _EVENT_BY_ID else _reader(name))


def _reader(name: str) -> Schema | None:
    versions = EVENT_IDS.get(name)
    return None if versions is None else _written(versions[_LATEST[name]]).schema


for _number in _EVENT_BY_ID:  # parsed now, beside no traffic
    _written(_number)


def forget_newer() -> None:
    """Forget the newer schemas that were taught, and what was made of any."""
    _NEWER.clear()
    _written.cache_clear()
    _head_schema.cache_clear()


@cache
def _head_schema(schema_id: int, names: frozenset[str]) -> Schema:
    """The plain schema as far as the last field with one of these names; what is written with the whole begins so."""
    schema = _without_logical_types(_published(schema_id)[1])
    end = max((place for place, field in enumerate(schema["fields"]) if field["name"] in names), default=-1) + 1
    return fastavro.parse_schema(schema | {"fields": schema["fields"][:end]})


def event_schema_text(schema_id: int) -> str:
    """The schema with this id as it is published, JSON.

    :raises SchemaError: no such id.
    """
    return json.dumps(_published(schema_id)[1])


class ForeignSchemas:
    """What the ids of another registry mean: of schemas that we have, and of newer ones."""

    def __init__(self) -> None:
        self._known: MutableMapping[int, _Written | None] = {}

    def __contains__(self, schema_id: int) -> bool:
        return schema_id in self._known

    def learn(self, schema_id: int, text: str | None) -> None:
        """Take in a schema. One that isn't of an event is known, too, as such; and that there is none (None).

        :raises SchemaError: the text isn't an Avro schema.
        """
        if text is None:
            self._known[schema_id] = None
            return
        what = f"what is registered as {schema_id}"
        try:
            value = bounded_json.loads(text, parts=_SCHEMA_PARTS)
        except ValueError as exc:
            raise SchemaError(f"{what} is not a schema: {exc}") from exc
        schema, name = _parse(value, what)
        if name is None:
            self._known[schema_id] = None
            return
        ours = any(_written(number).schema == schema for number in EVENT_IDS.get(name, {}).values())
        self._known[schema_id] = _Written(name, schema, None if ours else _reader(name))

    def get(self, schema_id: int) -> _Written:
        """How to read what has this id.

        :raises SchemaError: not learned, or no event's.
        """
        found = self._known.get(schema_id)
        if found is None:
            raise SchemaError(f"schema id {schema_id} is of no event that is known here")
        return found


def _packet_schema(kind: int, version: int) -> Schema:
    try:
        return _PACKET_SCHEMAS[kind, version]
    except KeyError:
        raise SchemaError(f"unknown packet kind {kind} version {version}") from None


def packet_versions() -> Mapping[int, int]:
    """Highest version known here of each packet kind."""
    return _PACKET_VERSIONS


def _event_writers(name: str) -> tuple[bytes, tuple[Write, ...]]:
    """The header of an event's frame, and what writes its fields."""
    schema_id = EVENT_IDS[name][_LATEST[name]]
    writers = field_writers(_written(schema_id).schema)
    return _EVENT_HEADER.pack(0, schema_id), tuple(write for _, write in writers)


_EVENT_WRITERS: Final = {name: _event_writers(name) for name in EVENT_IDS}


def encode_event(name: str, values: Iterable[Any]) -> bytes:
    """An event as a Confluent frame, with our newest schema of its record name.

    :param values: of its fields (:func:`event_fields`). UUIDs are text, as when it is read.
    """
    header, writers = _EVENT_WRITERS[name]
    return b"".join((header, *[write(value) for write, value in zip(writers, values, strict=True)]))


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
    name, schema, reader = _written(schema_id) if foreign is None else foreign.get(schema_id)
    return name, _read_all(frame, _EVENT_HEADER.size, schema, f"event schema {schema_id}", reader)


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
    datum = b"".join([write(record[field]) for field, write in _PACKET_WRITERS[kind, version]])
    if len(datum) > PACKET_LIMIT:
        raise SchemaError(f"a {name} of {len(datum)} bytes is longer than {PACKET_LIMIT}")
    return _PACKET_HEADER.pack(kind, version, len(datum)) + datum


def packet_header(data: bytes | bytearray, place: int = 0) -> tuple[int, int, int]:
    """Kind, version and datum length of the packet header (:data:`PACKET_HEADER_SIZE` bytes) at this place."""
    kind, version, length = _PACKET_HEADER.unpack_from(data, place)
    return kind, version, length


def decode_packet(kind: int, version: int, datum: bytes) -> tuple[str, Record]:
    """Record name and record of a packet.

    :raises SchemaError: unknown kind or version, or bytes that don't fit.
    """
    schema = _packet_schema(kind, version)
    return _PACKET_BY_KIND[kind], _read_all(datum, 0, schema, f"packet kind {kind} version {version}")


_UNFIT: Final = (
    fastavro.read.SchemaResolutionError,
    EOFError,
    IndexError,
    ValueError,
    TypeError,
    OverflowError,
    struct.error,
)
"""What fastavro raises where bytes don't fit."""


def _read_all(data: bytes, start: int, schema: Schema, what: str, reader: Schema | None = None) -> Record:
    buffer = io.BytesIO(data)
    record = _read(buffer, start, schema, what, reader)
    if buffer.tell() != len(data):
        raise SchemaError(f"{len(data) - buffer.tell()} bytes too many for {what}")
    return record


def _read(buffer: io.BytesIO, start: int, schema: Schema, what: str, reader: Schema | None = None) -> Record:
    buffer.seek(start)
    try:
        record = fastavro.schemaless_reader(buffer, schema, reader)
    except _UNFIT as exc:
        raise SchemaError(f"bytes do not fit {what}: {exc}") from exc
    assert isinstance(record, dict)
    return record
