"""A log that a newer version has written: after a rollback, and for a ``spnlog`` that is older than the hub."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import fastavro
import pytest

from spnhub.events import model
from spnhub.events.analysis.log_lines import event_line
from spnhub.events.analysis.narrative import sentence
from spnhub.events.journal import schemas as journal_schemas
from spnhub.events.journal.files import JournalCorrupt, pack_frame, segments
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.reader import JournalReader
from spnhub.events.model import DisconnectReason, EndPointType, Recorded, Unknown, WeightChanged
from spnhub.schemas import codec
from tests.events.samples import connection_ended, connection_started, session_started
from tests.events.test_registry import settings_with
from tests.schemas.catalogue import schema
from tests.support.command import run
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import open_journal, read_topic, shipping, write
from tests.support.registry import TestRegistry

_ENDED: Final = "9001"
_TELEPORTED: Final = "9002"


def _later_end() -> dict[str, Any]:
    """A connection's end with another reason, of three, and another field."""
    made = copy.deepcopy(schema("events", "ConnectionEnded", 1))
    reason = next(one for one in made["fields"] if one["name"] == "disconnectReason")
    reason["type"]["symbols"].append("teleported")
    made["fields"].insert(9, {"name": "colour", "type": "string", "default": "", "doc": "Later."})
    return made


def _teleported() -> dict[str, Any]:
    """A kind that isn't known."""
    made = copy.deepcopy(schema("events", "WeightChanged", max(codec.EVENT_IDS["WeightChanged"])))
    return made | {"name": "SessionTeleported"}


_LATER: Final = {_ENDED: _later_end(), _TELEPORTED: _teleported()}


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    """What is learned in a test is gone after it."""
    codec.forget_newer()
    yield
    codec.forget_newer()


def _frame(number: str, record: dict[str, Any]) -> bytes:
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(_LATER[number]), record)
    return codec.with_schema_id(bytes(5) + data.getvalue(), int(number))


def _begin(folder: Path) -> list[Recorded]:
    """A connection between two sessions."""
    sessions = [session_started("p1", EndPointType.PROVIDER), session_started("c1")]
    with open_journal(folder) as journal:
        return write(journal, [*sessions, connection_started()])


def _go_on(folder: Path, written: list[Recorded]) -> list[Recorded]:
    """What a newer version writes: the connection's end, and what only that version knows. And what this one sees."""
    ended = replace(written[-1], sequence=4, event=connection_ended(reason=DisconnectReason.ERROR))
    record = model.to_record(ended)
    frames = [_frame(_ENDED, record | {"disconnectReason": "teleported", "colour": "blue"})]
    changed = WeightChanged(
        realm="realm-a", network_urn=None, spn_session_id="p1", service_urn="urn:s", old_weight=1, new_weight=2
    )
    record = model.to_record(replace(written[-1], sequence=5, event=changed)) | {"eventType": "sessionTeleported"}
    frames.append(_frame(_TELEPORTED, record))
    known = json.loads((folder / "schemas.json").read_text())
    (folder / "schemas.json").write_text(json.dumps(known | _LATER))
    with segments(folder)[-1][1].open("ab") as file:
        file.write(b"".join(pack_frame(frame) for frame in frames))
    unknown = Unknown(realm="realm-a", network_urn=None, kind="sessionTeleported", record=record)
    return [*written, ended, replace(ended, sequence=5, event=unknown)]


def _newer(folder: Path) -> list[Recorded]:
    return _go_on(folder, _begin(folder))


def test_it_is_read(tmp_path: Path) -> None:
    """A new field is dropped, a new symbol is the default, a new kind is passed on whole and has no effect."""
    expected = _newer(tmp_path)
    with JournalReader(tmp_path) as reader:
        assert [recorded for _, recorded in reader.read()] == expected
    with JournalReader(tmp_path) as reader:
        envelopes = [envelope for _, envelope in reader.read_envelopes()]
    assert [(one.sequence, one.event_type) for one in envelopes[3:]] == [
        (4, "endSpnConnection"),
        (5, "sessionTeleported"),
    ]
    line = event_line(expected[-1])
    assert (line["eventType"], line["newWeight"]) == ("sessionTeleported", 2)
    assert sentence(expected[-1]).startswith("sessionTeleported: spnSessionId p1")


def test_a_hub_goes_on_with_it(tmp_path: Path) -> None:
    """The version before takes over: it knows what is open, counts on, and keeps what it can't use."""
    _newer(tmp_path)
    with open_journal(tmp_path) as journal:
        assert [*journal.state.sessions] == ["p1", "c1"]
        assert not journal.state.connections
        (written,) = write(journal, [connection_started()])
        assert written.sequence == 6
    assert _LATER.keys() <= json.loads((tmp_path / "schemas.json").read_text()).keys()
    with JournalReader(tmp_path) as reader:
        assert [recorded.sequence for _, recorded in reader.read()] == [1, 2, 3, 4, 5, 6]


def test_what_nobody_has_left_a_schema_for(tmp_path: Path) -> None:
    """Without the file, or with a damaged one, the reader says which id it is; the events before it are read."""
    _newer(tmp_path)
    for spoil in (lambda path: path.write_text('{"9001": {"type": "string"}'), Path.unlink):
        spoil(tmp_path / "schemas.json")
        with JournalReader(tmp_path) as reader, pytest.raises(JournalCorrupt, match="unknown event schema id 9001"):
            reader.read()


@pytest.mark.parametrize(
    "wrong",
    ["x", 5, [], {"type": "string"}, {"type": "record", "name": "spn.event.X", "fields": []}, {"type": "record"}],
)
def test_what_is_no_schema(tmp_path: Path, wrong: Any) -> None:
    """In the folder it is passed over; it is never taken for an event's."""
    with pytest.raises(codec.SchemaError, match="what stands for schema id 9003 is"):
        codec.learn_event_schema(9003, wrong)
    (tmp_path / "schemas.json").write_text(json.dumps({"9003": wrong, "9002": _LATER[_TELEPORTED], "x": {}}))
    journal_schemas.learn(tmp_path)
    assert (codec.is_event_schema(9002), codec.is_event_schema(9003)) == (True, False)


def test_the_folder_has_all_schemas(tmp_path: Path) -> None:
    """Written once; a disk that doesn't take them is no reason not to write events."""
    with Journal.open(tmp_path, "hub-1"):
        pass
    path = tmp_path / "schemas.json"
    found = json.loads(path.read_text())
    assert found == {str(number): json.loads(codec.event_schema_text(number)) for number in codec.event_schemas()}
    before = path.stat().st_mtime_ns
    with Journal.open(tmp_path, "hub-1"):
        pass
    assert path.stat().st_mtime_ns == before
    path.unlink()
    path.with_name("schemas.json.new").mkdir()
    with Journal.open(tmp_path, "hub-1") as journal:
        write(journal, [session_started("p1", EndPointType.PROVIDER)])


@pytest.mark.outside
async def test_spnlog_reads_it(tmp_path: Path) -> None:
    """All commands; verify names the kinds that it doesn't know."""
    _newer(tmp_path)
    status, out, err = await run("spnlog", "replay", "--all", str(tmp_path))
    assert (status, err) == (0, "")
    assert [json.loads(line)["sequence"] for line in out.splitlines()] == [1, 2, 3, 4, 5]
    status, out, _ = await run("spnlog", "verify", str(tmp_path))
    assert status == 0
    assert "  of a newer version, and not looked into: sessionTeleported\n" in out
    status, out, _ = await run("spnlog", "state", "--json", "--at", "4", str(tmp_path))
    assert (status, json.loads(out)["hubs"][0]["connections"]) == (0, [])


@pytest.mark.kafka
@pytest.mark.system
async def test_it_is_shipped(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """By a shipper that began before the newer hub did, under the ids of a registry that hasn't heard of it either."""
    with TestRegistry() as registry:
        settings = settings_with(kafka, topic, tmp_path, registry)
        written = _begin(tmp_path)
        async with shipping(settings) as (_, statuses):
            await statuses.position(3)
            expected = _go_on(tmp_path, written)
            await statuses.position(5)
        assert [recorded for _, recorded in await read_topic(settings.kafka)] == expected
