"""Schemas as contracts: every version reads what every other one wrote, old and new, and defaults are right."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from itertools import permutations
from typing import Any

import fastavro
import pytest

from spnhub.events import model
from spnhub.schemas import codec
from tests.events.samples import published
from tests.schemas.catalogue import SCHEMAS, schema
from tests.schemas.compat import problems, wrong_defaults

EVENTS = [(name, sorted(versions)) for name, versions in codec.EVENT_IDS.items()]
FILES = sorted(str(path.relative_to(SCHEMAS)) for path in SCHEMAS.glob("*/*.avsc"))
SAMPLES = {type(recorded.event).__name__: recorded for recorded in published()}


@pytest.mark.parametrize(("name", "versions"), EVENTS)
def test_every_version_reads_every_other(name: str, versions: list[int]) -> None:
    """Transitively, both ways: who begins at offset 0 meets the oldest, who was not updated the newest."""
    for reader, writer in [*permutations(versions, 2), *((one, one) for one in versions)]:
        assert list(problems(schema("events", name, reader), schema("events", name, writer), name)) == []


@pytest.mark.parametrize(("name", "versions"), EVENTS)
def test_every_version_begins_with_the_envelope(name: str, versions: list[int]) -> None:
    """In the same order and types: what isn't known has its place in the log all the same."""
    envelope = schema("events", "SessionStarted", 1)["fields"][:8]
    for version in versions:
        begins = schema("events", name, version)["fields"][:8]
        assert [(one["name"], one["type"]) for one in begins] == [(one["name"], one["type"]) for one in envelope]


@pytest.mark.parametrize("path", FILES)
def test_defaults_fit(path: str) -> None:
    """fastavro takes wrong ones; other engines refuse the schema."""
    assert list(wrong_defaults(json.loads((SCHEMAS / path).read_text()), path)) == []


def evolved(name: str, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """A version that might come."""
    made = copy.deepcopy(schema("events", name, max(codec.EVENT_IDS[name])))
    change(made)
    return made


def resolved(data: bytes, writer: Any, reader: Any) -> dict[str, Any]:
    """The record as fastavro makes it of both schemas."""
    found = fastavro.schemaless_reader(io.BytesIO(data), fastavro.parse_schema(writer), fastavro.parse_schema(reader))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", codec.EVENT_IDS)
def test_a_field_with_a_default_may_come(name: str) -> None:
    """Both ways, by the rules and by fastavro: old readers drop it, new readers fill it in."""
    now = schema("events", name, max(codec.EVENT_IDS[name]))
    later = evolved(
        name, lambda made: made["fields"].append({"name": "later", "type": ["null", "string"], "default": None})
    )
    assert not [*problems(now, later), *problems(later, now)]
    record = model.to_record(SAMPLES[name])
    old, new = io.BytesIO(), io.BytesIO()
    fastavro.schemaless_writer(old, fastavro.parse_schema(now), record)
    fastavro.schemaless_writer(new, fastavro.parse_schema(later), record | {"later": "x"})
    same = resolved(old.getvalue(), now, now)
    assert resolved(new.getvalue(), later, now) == same
    assert resolved(old.getvalue(), now, later) == same | {"later": None}


def add_without_default(made: dict[str, Any]) -> None:
    made["fields"].append({"name": "later", "type": "string"})


def remove(made: dict[str, Any]) -> None:
    made["fields"] = [field for field in made["fields"] if field["name"] != "spnSessionId"]


def retype(made: dict[str, Any]) -> None:
    next(field for field in made["fields"] if field["name"] == "weight")["type"] = "double"


def add_symbol(made: dict[str, Any], field: str = "endPointType", symbol: str = "spnBroker") -> None:
    next(one for one in made["fields"] if one["name"] == field)["type"]["symbols"].append(symbol)


def rename(made: dict[str, Any]) -> None:
    made["name"] = "SessionBegun"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (add_without_default, ".later was not written, and has no default"),
        (remove, ".spnSessionId was not written, and has no default"),
        (retype, ".weight: double was written, long is wanted"),
        (add_symbol, ".endPointType: symbols ['spnBroker'] are unknown, and there is no default"),
        (rename, ": spn.event.SessionBegun was written, spn.event.SessionStarted is wanted"),
    ],
)
def test_what_would_break_readers(change: Callable[[dict[str, Any]], None], message: str) -> None:
    """The check that guards published schemas finds it, in one direction at least."""
    now = schema("events", "SessionStarted", 1)
    later = evolved("SessionStarted", change)
    assert message in [*problems(now, later), *problems(later, now)]


@pytest.mark.parametrize(
    ("kind", "default"),
    [
        (["null", "string"], "x"),
        (["string", "null"], None),
        ("long", "1"),
        ("long", True),
        ("boolean", 0),
        ({"type": "enum", "name": "E", "symbols": ["a"], "default": "b"}, "a"),
        ({"type": "array", "items": "string"}, None),
    ],
)
def test_a_wrong_default_is_found(kind: Any, default: Any) -> None:
    """As other engines would."""
    made = {"type": "record", "name": "R", "fields": [{"name": "f", "type": kind, "default": default}]}
    assert len(list(wrong_defaults(made))) == 1


def test_another_registrys_ids() -> None:
    """A frame under a foreign id is read by what was learned of it, and under no other; a newer version, too."""
    recorded = SAMPLES["SessionStarted"]
    frame = codec.with_schema_id(model.encode(recorded), 2)
    foreign = codec.ForeignSchemas()
    with pytest.raises(codec.SchemaError, match="schema id 2 is of no event that is known here"):
        model.decode(frame, foreign)
    foreign.learn(2, codec.event_schema_text(codec.EVENT_IDS["SessionStarted"][1]))
    assert 2 in foreign
    assert model.decode(frame, foreign) == recorded

    later = evolved(
        "SessionStarted", lambda made: made["fields"].insert(9, {"name": "later", "type": "long", "default": 0})
    )
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(later), model.to_record(recorded) | {"later": 5})
    foreign.learn(3, json.dumps(later))
    assert model.decode(b"\0\0\0\0\x03" + data.getvalue(), foreign) == recorded

    ended = SAMPLES["ConnectionEnded"]
    symbols = evolved("ConnectionEnded", lambda made: add_symbol(made, "disconnectReason", "teleported"))
    data = io.BytesIO()
    record = model.to_record(ended) | {"disconnectReason": "teleported"}
    fastavro.schemaless_writer(data, fastavro.parse_schema(symbols), record)
    foreign.learn(6, json.dumps(symbols))
    event = model.decode(b"\0\0\0\0\x06" + data.getvalue(), foreign).event
    assert isinstance(event, model.ConnectionEnded)
    assert event.disconnect_reason is model.DisconnectReason.ERROR

    foreign.learn(4, '{"type": "record", "name": "other.Thing", "fields": []}')
    assert 4 in foreign
    with pytest.raises(codec.SchemaError, match="of no event"):
        model.decode(codec.with_schema_id(frame, 4), foreign)
    with pytest.raises(codec.SchemaError, match="what is registered as 5 is not a schema"):
        foreign.learn(5, '{"type": "nothing"}')
