"""Judges one object of the inventory: everything that is wrong with it, or its model.

An object of a file (:class:`spnhub.inventory.document.Object`) has to mean what it says: unknown keys, keys that stand
twice and values that YAML takes for something else are faults. What comes over HTTP may have fields that are unknown
here, since the API grows. Counterparts: :mod:`spnhub.inventory.model`, :mod:`spnhub.inventory.build`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Final, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from spnhub.inventory import pem
from spnhub.inventory.document import Array, Note, Object, notes
from spnhub.inventory.model import AvailabilityManagement, Hub, MountPoint, Realm, Service
from spnhub.inventory.source import InventoryFault
from spnhub.transport.text import meant, quoted

__all__ = ["CHILDREN", "document_faults", "judged", "null_fields", "unknown_fields"]

_Model = TypeVar("_Model", bound=BaseModel)
Place = tuple[str | int, ...]

CHILDREN: Final[dict[type[BaseModel], str]] = {Realm: "hubs", Hub: "services"}
"""Where a file has the objects below."""
READ_ONLY: Final[dict[type[BaseModel], tuple[str, ...]]] = {
    Realm: ("urn",),
    Hub: ("urn", "realm"),
    Service: ("urn", "realm", "hub"),
}
"""Fields that follow from the names: the API shows them."""
_KINDS: Final[dict[type[BaseModel], str]] = {
    Realm: "realm",
    Hub: "hub",
    Service: "service",
    AvailabilityManagement: "availabilityManagement",
    MountPoint: "mountPoint",
}
_SECRETS: Final = frozenset({"deviceIDSigningKey", "deviceIDVerificationKey", "serverCertKey", "env"})
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_DECIMAL: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?")


def judged(
    kind: type[_Model],
    data: Any,
    where: str,
    faults: list[InventoryFault],
    follows: Mapping[str, str | None] | None = None,
) -> _Model | None:
    """The model of an object; None, and its faults, if there are any.

    :param follows: what its read-only fields are.
    """
    if not isinstance(data, dict):
        faults.append(InventoryFault(where, "", "is not an object"))
        return None
    found = list(_of_document(kind, data, where, follows or {}))
    try:
        valid = kind.model_validate(data)
    except ValidationError as error:
        wrong = [
            _fault(data, where, detail["loc"], _message(detail["type"], detail))
            for detail in error.errors(include_url=False, include_input=False)
        ]
        # How a value is written says more than what it isn't.
        found += [one for one in wrong if one.field not in {fault.field for fault in found}]
    else:
        if isinstance(valid, Hub) and not pem.matches(valid.server_cert_key, valid.server_cert):
            found.append(_fault(data, where, ("serverCertKey",), "does not belong to serverCert"))
    if not found:
        return valid
    faults += found
    return None


def unknown_fields(kind: type[BaseModel], data: Any) -> Iterator[str]:
    """Paths (``service.availabilityManagement.x``) of fields that an object from HTTP has and this version doesn't
    know."""
    if isinstance(data, dict) and not isinstance(data, Object):
        for place, _ in _unknown(kind, data):
            names = [_shown(key) for key in place if isinstance(key, str)]
            yield ".".join([_KINDS[kind], *names])


def null_fields(kind: type[BaseModel], data: Any, where: str) -> Iterator[InventoryFault]:
    """What a file says to be null: it counts as absent, as in the API."""
    for place, note in notes(data, without=frozenset({CHILDREN.get(kind, "")})):
        if _is_absent(place, note):
            yield _fault(data, where, place, note.message)


def document_faults(document: Any, known: Sequence[str]) -> Iterator[InventoryFault]:
    """The faults of the outermost object of a file; its keys ``x-…`` are the author's own, and ignored."""
    where = "inventory"
    for key in document:
        if key not in known and not key.startswith("x-"):
            yield _fault(document, where, (key,), _unknown_message(key, frozenset(known)))
    for key, note in document.notes if isinstance(document, Object) else ():
        if not str(key).startswith("x-"):
            yield _fault(document, where, (key,), note.message, note.line)


# ---- what a file says ------------------------------------------------------------------------------------------------


def _of_document(
    kind: type[BaseModel], data: dict[str, Any], where: str, follows: Mapping[str, str | None]
) -> Iterator[InventoryFault]:
    if not isinstance(data, Object):
        return
    for place, inner in _unknown(kind, data):
        yield _fault(data, where, place, _unknown_message(str(place[-1]), _keys(inner)[0]))
    for name in READ_ONLY.get(kind, ()):
        stated, is_so = data.get(name), follows.get(name)
        if stated is not None and is_so is not None and stated != is_so:
            shown = quoted(stated) if isinstance(stated, str) else json.dumps(stated)[:80]
            yield _fault(data, where, (name,), f"is {shown}, and follows from the names: {is_so}")
    for place, note in notes(data, without=frozenset({CHILDREN.get(kind, "")})):
        if _is_absent(place, note):
            continue  # a warning
        if not note.message and _is_meant(_type_of(kind, place), note):
            continue
        message = "is null, and nothing is absent there" if note.null else note.message or _misread(place, note)
        yield _fault(data, where, place, message, note.line)


def _is_absent(place: Place, note: Note) -> bool:
    """Whether a null is a field that isn't there: it is no item of an array, nor a variable."""
    return note.null and isinstance(place[-1], str) and "env" not in place[:-1]


def _misread(place: Place, note: Note) -> str:
    if _SECRETS.intersection(map(str, place)):
        return "is no text to YAML, and another value than is written; put it in quotes"
    read = json.dumps(note.value)
    return f"is written {quoted(note.written)}, which YAML reads as {read}; write that, or put a text in quotes"


def _is_meant(wanted: Any, note: Note) -> bool:
    """Whether a scalar that isn't written as JSON would is no surprise where it stands."""
    if isinstance(note.value, bool):
        return wanted is bool
    return wanted in (float, int) and _DECIMAL.fullmatch(note.written) is not None


def _unknown(kind: type[BaseModel], data: Any, place: Place = ()) -> Iterator[tuple[Place, type[BaseModel]]]:
    """Keys that the model doesn't have, here and in what is in it; with the model that doesn't."""
    if not isinstance(data, dict):
        return
    known, models = _keys(kind)
    if not data.keys() <= known:
        yield from (((*place, key), kind) for key in data if key not in known)
    for key in models.keys() & data.keys():
        value = data[key]
        parts = enumerate(value) if isinstance(value, list) else [(None, value)]
        for number, part in parts:
            yield from _unknown(models[key], part, (*place, key) if number is None else (*place, key, number))


@cache
def _keys(kind: type[BaseModel]) -> tuple[frozenset[str], dict[str, type[BaseModel]]]:
    """The keys that an object may have, and the models of what is in it."""
    fields = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
    known = {*fields, *READ_ONLY.get(kind, ())} | ({CHILDREN[kind]} if kind in CHILDREN else set())
    models = {name: model for name, annotation in fields.items() if (model := _model_in(annotation)) is not None}
    return frozenset(known), models


@lru_cache(maxsize=1000)
def _unknown_message(key: str, known: frozenset[str]) -> str:
    if (name := meant(key, sorted(known))) is not None:
        return f"is unknown; did you mean {name}?"
    for kind, title in _KINDS.items():
        names = [field.alias or name for name, field in kind.model_fields.items()]
        if key in {*names, CHILDREN.get(kind)}:
            return f"is unknown here; it belongs into a {title}"
    return "is unknown"


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, one or a list of it."""
    if isinstance(annotation, type) and not get_origin(annotation) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model_in(one)) is not None), None)


def _type_of(kind: type[BaseModel], place: Place) -> Any:
    """``bool``, ``int`` or ``float``, if that is what belongs there."""
    name, *rest = place
    field = next((one for key, one in kind.model_fields.items() if (one.alias or key) == name), None)
    if field is None:
        return None
    inner = _model_in(field.annotation)
    if inner is not None:
        keys = tuple(key for key in rest if isinstance(key, str))
        return _type_of(inner, keys) if keys else None
    if rest:
        return None
    return next((one for one in (bool, int, float) if one in _types(field.annotation)), None)


def _types(annotation: Any) -> set[Any]:
    found = {annotation} if isinstance(annotation, type) else set()
    return found.union(*(_types(one) for one in get_args(annotation)))


# ---- words -----------------------------------------------------------------------------------------------------------


def _fault(data: Any, where: str, place: Place, message: str, line: int | None = None) -> InventoryFault:
    file, here, at = "", None, data
    for key in place:
        if not isinstance(at, Object | Array):
            break
        file, here = at.file, at.lines.get(key, at.line)
        at = at.part(key)
    if isinstance(data, Object) and not place:
        file, here = data.file, data.line
    line = here if line is None else line
    return InventoryFault(where, ".".join(map(_shown, place)), message, f"{file}:{line}" if file else "")


def _shown(key: str | int) -> str:
    return str(key) if isinstance(key, int) or _PLAIN_NAME.fullmatch(key) else quoted(key)


_MESSAGES: Final = {
    "missing": "is missing",
    "string_type": "is not a string",
    "string_too_short": "is empty",
    "bool_type": "is not true or false",
    "int_type": "is not a whole number",
    "float_type": "is not a number",
    "finite_number": "is not a finite number",
    "list_type": "is not an array",
    "dict_type": "is not an object",
    "model_type": "is not an object",
}


def _message(kind: str, detail: Mapping[str, Any]) -> str:
    """What is wrong. A value is quoted only where it is known not to be a private key."""
    context = detail.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "greater_than_equal":
        return f"is below {context['ge']:g}"
    if kind == "less_than_equal":
        return f"is above {context['le']:g}"
    return _MESSAGES.get(kind, f"is not valid ({kind})")
