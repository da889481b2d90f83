"""Writes Avro by functions that are made once from a schema: a hub writes several data for each connection.

fastavro looks a schema through for each datum that it writes, which takes five times as long. It still reads whatever
comes from elsewhere, and the tests hold that both write the same. Knows what our own schemas consist of, no more.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

__all__ = ["Write", "field_writers"]

Write = Callable[[Any], bytes]
"""The bytes of a value. What isn't of the schema's type raises (any exception), as it does in fastavro."""

_LEAST: Final = -(1 << 63)
_MOST: Final = (1 << 63) - 1
_ONE_BYTE: Final = tuple(bytes((number,)) for number in range(128))
_DOUBLE: Final = struct.Struct("<d")


def field_writers(schema: Any) -> tuple[tuple[str, Write], ...]:
    """Name and writer of each field of a record, in order.

    :param schema: parsed, without logical types.
    :raises ValueError: it has a type that no schema of ours has.
    """
    return tuple((field["name"], _writer(field["type"], {})) for field in schema["fields"])


def _writer(schema: Any, named: dict[str, Write]) -> Write:
    if isinstance(schema, list):
        return _nullable(schema, named)
    if isinstance(schema, str):
        return _SIMPLE[schema] if schema in _SIMPLE else named[schema]
    match schema["type"]:
        case "record":
            fields = tuple((field["name"], _writer(field["type"], named)) for field in schema["fields"])
            write = named[schema["name"]] = _record(fields)
        case "enum":
            write = named[schema["name"]] = _enum(schema["symbols"])
        case "fixed":
            write = named[schema["name"]] = _fixed(schema["size"])
        case "array":
            return _array(_writer(schema["items"], named))
        case simple:
            return _writer(simple, named)
    return write


def _varint(number: int) -> bytes:
    """Of a number that isn't negative."""
    if number < 128:
        return _ONE_BYTE[number]
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    written.append(number)
    return bytes(written)


def _long(value: int) -> bytes:
    if 0 <= value < 64:
        return _ONE_BYTE[value << 1]
    if not _LEAST <= value <= _MOST:
        raise OverflowError(f"{value} has more than 64 bits")
    return _varint(value << 1 ^ value >> 63)


@lru_cache(maxsize=1024)  # names and ids come again in most events
def _string(value: str) -> bytes:
    data = value.encode()
    return _varint(len(data) << 1) + data


def _boolean(value: bool) -> bytes:
    return b"\x01" if value else b"\x00"


def _null(value: None) -> bytes:
    if value is not None:
        raise TypeError(f"{value!r} is not null")
    return b""


_SIMPLE: Final[dict[str, Write]] = {
    "string": _string,
    "long": _long,
    "int": _long,
    "boolean": _boolean,
    "double": _DOUBLE.pack,
    "null": _null,
}


def _nullable(schema: list[Any], named: dict[str, Write]) -> Write:
    null, *others = schema
    if null != "null" or len(others) != 1:
        raise ValueError(f"a union that isn't of null and another type: {schema}")
    write = _writer(others[0], named)

    def write_nullable(value: Any) -> bytes:
        return b"\x00" if value is None else b"\x02" + write(value)

    return write_nullable


def _record(fields: Iterable[tuple[str, Write]]) -> Write:
    def write_record(value: Any) -> bytes:
        return b"".join([write(value[name]) for name, write in fields])

    return write_record


def _enum(symbols: list[str]) -> Write:
    places = {symbol: _long(place) for place, symbol in enumerate(symbols)}

    def write_enum(value: str) -> bytes:
        return places[value]

    return write_enum


def _fixed(size: int) -> Write:
    def write_fixed(value: bytes) -> bytes:
        if len(value) != size:
            raise ValueError(f"{len(value)} bytes are not {size}")
        return bytes(value)

    return write_fixed


def _array(write: Write) -> Write:
    def write_array(values: Any) -> bytes:
        return b"".join((_long(len(values)), *map(write, values), b"\x00")) if values else b"\x00"

    return write_array
