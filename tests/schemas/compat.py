"""Avro's rules of schema resolution, as far as our schemas go: what a reader's schema can't make of a writer's data.

fastavro resolves and has no checker; a sample that happens to resolve proves little. Specification: Avro 1.12, "Schema
Resolution" and "Complex Types" (defaults of unions).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

Schema = Any

_PROMOTIONS: Final = {
    "int": {"int", "long", "float", "double"},
    "long": {"long", "float", "double"},
    "float": {"float", "double"},
    "string": {"string", "bytes"},
    "bytes": {"bytes", "string"},
}
"""What a primitive may be read as; every other only as itself."""
_VALUES: Final[dict[str, tuple[type, ...]]] = {
    "null": (type(None),),
    "boolean": (bool,),
    "int": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "string": (str,),
    "bytes": (str,),
    "enum": (str,),
    "array": (list,),
    "record": (dict,),
    "fixed": (str,),
}


def problems(reader: Schema, writer: Schema, where: str = "") -> Iterator[str]:
    """Why data of ``writer`` can't be read with ``reader``, one line each; nothing: it can."""
    if isinstance(writer, list):
        for branch in writer:
            yield from problems(reader, branch, where)
        return
    if isinstance(reader, list):
        if all(any(True for _ in problems(branch, writer, where)) for branch in reader):
            yield f"{where}: {_kind(writer)} is none of {[_kind(branch) for branch in reader]}"
        return
    old, new = _kind(writer), _kind(reader)
    if new not in _PROMOTIONS.get(old, {old}):
        yield f"{where}: {old} was written, {new} is wanted"
        return
    match new:
        case "record":
            yield from _record_problems(reader, writer, where)
        case "enum":
            unknown = set(writer["symbols"]) - set(reader["symbols"])
            if unknown and "default" not in reader:
                yield f"{where}: symbols {sorted(unknown)} are unknown, and there is no default"
        case "array":
            yield from problems(reader["items"], writer["items"], f"{where}[]")
        case "fixed" if reader["size"] != writer["size"]:
            yield f"{where}: {writer['size']} bytes were written, {reader['size']} are wanted"


def _record_problems(reader: Schema, writer: Schema, where: str) -> Iterator[str]:
    if _full_name(reader) != _full_name(writer):
        yield f"{where}: {_full_name(writer)} was written, {_full_name(reader)} is wanted"
    written = {field["name"]: field for field in writer["fields"]}
    for field in reader["fields"]:
        place = f"{where}.{field['name']}"
        if field["name"] in written:
            yield from problems(field["type"], written[field["name"]]["type"], place)
        elif "default" not in field:
            yield f"{place} was not written, and has no default"


def wrong_defaults(schema: Schema, where: str = "") -> Iterator[str]:
    """Defaults that don't fit: a union's is a value of its first branch, an enumeration's one of its symbols."""
    kind = _kind(schema)
    if kind == "union":
        for branch in schema:
            yield from wrong_defaults(branch, where)
    elif kind == "array":
        yield from wrong_defaults(schema["items"], f"{where}[]")
    elif kind == "enum":
        if "default" in schema and schema["default"] not in schema["symbols"]:
            yield f"{where}: {schema['default']!r} is none of the symbols"
    elif kind == "record":
        for field in schema["fields"]:
            place = f"{where}.{field['name']}"
            yield from wrong_defaults(field["type"], place)
            if "default" in field:
                first = field["type"][0] if isinstance(field["type"], list) else field["type"]
                value = field["default"]
                fits = isinstance(value, _VALUES[_kind(first)]) and (_kind(first) == "boolean") is isinstance(
                    value, bool
                )
                if not fits:
                    yield f"{place}: {value!r} is no {_kind(first)}"


def _kind(schema: Schema) -> str:
    if isinstance(schema, list):
        return "union"
    if isinstance(schema, dict):
        inner = schema["type"]
        return _kind(inner) if isinstance(inner, dict) else str(inner)
    return str(schema)


def _full_name(schema: Schema) -> str:
    return f"{schema.get('namespace', '')}.{schema['name']}"
