"""What was published must be readable for ever: schemas, ids and bytes of every version."""

from __future__ import annotations

import json
from typing import Any

import pytest

from spnhub.actors.contract import packets
from spnhub.events import model
from spnhub.schemas import codec
from spnhub.transport import protocol
from tests.events.samples import published
from tests.schemas import catalogue
from tests.schemas.catalogue import ENVELOPE, README, SCHEMAS, render, schema
from tests.schemas.samples import GOLDEN, PACKETS, as_told_by, newest, packet_as_told_by, packet_versions


def golden(name: str) -> bytes:
    return bytes.fromhex((GOLDEN / f"{name}.hex").read_text())


def test_every_schema_has_its_golden_bytes() -> None:
    """And there are no others; every schema has an id or a kind, used once."""
    files = {
        path.name.removesuffix(".avsc")
        for folder in ("events", "protocol")
        for path in (SCHEMAS / folder).glob("*.avsc")
    }
    assert {path.stem for path in GOLDEN.iterdir()} == files
    named = {f"{name}.v{version}" for name, versions in codec.EVENT_IDS.items() for version in versions}
    named |= {f"{type(packet).__name__}.v{version}" for packet in PACKETS for version in packet_versions(packet)}
    assert named == files
    ids = [number for versions in codec.EVENT_IDS.values() for number in versions.values()]
    assert len(set(ids)) == len(ids)
    assert len(set(codec.PACKET_KINDS.values())) == len(codec.PACKET_KINDS)


@pytest.mark.parametrize("recorded", published(), ids=lambda recorded: type(recorded.event).__name__)
def test_events_of_every_version(recorded: model.Recorded) -> None:
    """They decode to what they said; of what an old version can't say, to the default."""
    name = type(recorded.event).__name__
    for version in codec.EVENT_IDS[name]:
        assert model.decode(golden(f"{name}.v{version}")) == as_told_by(recorded, version)


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
def test_packets_of_every_version(packet: packets.Packet) -> None:
    """They decode to what they said, in one piece and byte by byte; of what an old version can't say, to the default.

    And that is what is written for a side that reads no newer one (D-37).
    """
    for version in packet_versions(packet):
        told = packet_as_told_by(packet, version)
        data = golden(f"{type(packet).__name__}.v{version}")
        assert protocol.PacketReader().feed(data) == [told]
        reader = protocol.PacketReader()
        assert [found for byte in data for found in reader.feed(bytes([byte]))] == [told]
        assert reader.empty
        assert protocol.encode(packet, {protocol.kind_of(packet): version}) == data


@pytest.mark.parametrize("name", newest())
def test_what_is_written_now_is_what_was_published(name: str) -> None:
    """Byte by byte, by the newest version."""
    assert newest()[name].hex() == golden(name).hex()


def events() -> list[tuple[str, int]]:
    return [(name, version) for name, versions in codec.EVENT_IDS.items() for version in versions]


@pytest.mark.parametrize(("name", "version"), events())
def test_every_event_begins_with_the_envelope(name: str, version: int) -> None:
    """The same fields, in the same order, of the same types; and each field is explained."""
    fields: list[dict[str, Any]] = schema("events", name, version)["fields"]
    envelope = [{key: field.get(key) for key in ("name", "type", "default")} for field in fields[: len(ENVELOPE)]]
    first = schema("events", "SessionStarted", 1)["fields"][: len(ENVELOPE)]
    assert envelope == [{key: field.get(key) for key in ("name", "type", "default")} for field in first]
    assert tuple(field["name"] for field in envelope) == ENVELOPE
    assert all(field["doc"] for field in fields)


def test_a_new_version_reads_what_older_ones_wrote() -> None:
    """Each field that an older version lacks has a default, and none that it has is of another type."""
    for name, version in events():
        fields = {field["name"]: field for field in schema("events", name, version)["fields"]}
        for older in range(1, version):
            before = {field["name"]: field for field in schema("events", name, older)["fields"]}
            assert all("default" in fields[new] for new in fields.keys() - before.keys())
            assert all(fields[old]["type"] == before[old]["type"] for old in fields.keys() & before.keys())


def test_classes_and_schemas_have_the_same_fields() -> None:
    """Every attribute of an event class is in its newest schema, and the other way round."""
    for recorded in published():
        name = type(recorded.event).__name__
        newest = schema("events", name, max(codec.EVENT_IDS[name]))
        assert list(model.to_record(recorded)) == [field["name"] for field in newest["fields"]]


def test_the_catalogue_is_drawn_from_the_schemas() -> None:
    """``python -m tests.schemas.catalogue`` brings it up to date."""
    assert render(README.read_text()) == README.read_text()


def test_other_words_are_of_fields() -> None:
    """Each of the plainer texts is for one that some schema has."""
    texts = "".join(path.read_text() for path in SCHEMAS.glob("*/*.avsc"))
    assert [text for text in catalogue.PLAINER if json.dumps(text, ensure_ascii=False) not in texts] == []


def test_the_catalogue_names_everything() -> None:
    """Each record, each eventType and each field is in it."""
    text = README.read_text()
    for name, event_type in catalogue.event_types().items():
        assert f"### {name} (`{event_type}`, id " in text
    for path in [*SCHEMAS.glob("events/*.avsc"), *SCHEMAS.glob("protocol/*.avsc")]:
        for field in json.loads(path.read_text())["fields"]:
            assert f"| {field['name']} |" in text
