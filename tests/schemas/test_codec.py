"""Bytes to and from Avro: everything survives a round trip, nothing foreign is taken for ours."""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import subprocess
import sys
import types
import typing
from typing import Any
from uuid import UUID, uuid5

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spnhub.actors.contract import packets
from spnhub.actors.contract.packets import SessionRefusal
from spnhub.events import model
from spnhub.events.model import EVENT_CLASSES, Event, Recorded
from spnhub.schemas import codec
from spnhub.schemas.codec import SchemaError
from spnhub.transport import protocol
from spnhub.transport.protocol import PacketReader, ProtocolError
from tests.schemas.catalogue import SCHEMAS
from tests.schemas.samples import PACKETS, frames

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
LONG = st.integers(-(1 << 63), (1 << 63) - 1)
TIME = st.integers(0, 4_000_000_000_000_000)
STRATEGIES: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXT,
    bool: st.booleans(),
    float: st.floats(allow_nan=False),
    types.NoneType: st.none(),
}


def values(kind: Any, integers: st.SearchStrategy[int]) -> st.SearchStrategy[Any]:
    if kind is int:
        return integers
    if kind in STRATEGIES:
        return STRATEGIES[kind]
    if isinstance(kind, enum.EnumType):
        return st.sampled_from(list(kind))
    if typing.get_origin(kind) is tuple:
        return st.lists(values(typing.get_args(kind)[0], integers), max_size=5).map(tuple)
    return st.one_of([values(one, integers) for one in typing.get_args(kind)])


def integers(name: str) -> st.SearchStrategy[int]:
    """Any long, but for times: those are such that a datetime can hold them."""
    return TIME if name.endswith(("_timestamp", "_at", "_until")) or name == "since" else LONG


def instances(cls: type[Event]) -> st.SearchStrategy[Event]:
    hints = typing.get_type_hints(cls)
    return st.builds(
        cls, **{field.name: values(hints[field.name], integers(field.name)) for field in dataclasses.fields(cls)}
    )


@given(
    st.one_of([instances(cls) for cls in EVENT_CLASSES.values()]), TEXT, st.uuids(), st.integers(1, (1 << 63) - 1), TIME
)
def test_events_survive(event: Event, hub_id: str, journal_id: Any, sequence: int, timestamp: int) -> None:
    """Any event of any class, with any place and time, to the microsecond."""
    recorded = Recorded(hub_id, journal_id, sequence, timestamp, event)
    frame = model.encode(recorded)
    assert model.decode(frame) == recorded
    schema = json.loads(codec.event_schema_text(codec.event_schema_id(frame)))
    assert frame[5:] == written_by_fastavro(schema, model.to_record(recorded))


def written_by_fastavro(schema: Any, record: dict[str, Any]) -> bytes:
    """What a library writes that knows all of Avro."""
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(plain(schema)), record)
    return data.getvalue()


def plain(schema: Any) -> Any:
    """Without logical types: times are integers here, and UUIDs text."""
    if isinstance(schema, dict):
        return {name: plain(value) for name, value in schema.items() if name != "logicalType"}
    return [plain(one) for one in schema] if isinstance(schema, list) else schema


@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
def test_packets_are_written_as_fastavro_does(packet: packets.Packet) -> None:
    """Each kind, in its newest version."""
    name = type(packet).__name__
    kind = codec.PACKET_KINDS[name]
    data = protocol.encode(packet, codec.packet_versions())
    _, version, _ = codec.packet_header(data)
    _, record = codec.decode_packet(kind, version, data[codec.PACKET_HEADER_SIZE :])
    schema = json.loads((SCHEMAS / "protocol" / f"{name}.v{version}.avsc").read_text())
    assert data[codec.PACKET_HEADER_SIZE :] == written_by_fastavro(schema, record)


@pytest.mark.parametrize(
    ("name", "value"),
    [("epoch", "1"), ("connectionUid", b"short"), ("connectionUid", None), ("receivedOffset", 1 << 63)],
)
def test_what_is_not_of_its_type_is_not_written(name: str, value: object) -> None:
    """No bytes that nobody could read."""
    record = {"connectionUid": bytes(16), "epoch": 1, "receivedOffset": 1}
    assert codec.encode_packet("PauseAck", record)
    with pytest.raises((TypeError, ValueError, OverflowError, AttributeError)):
        codec.encode_packet("PauseAck", record | {name: value})


@given(TEXT, st.uuids(), st.integers(1, (1 << 63) - 1))
def test_event_ids_are_uuid5(hub_id: str, journal_id: UUID, sequence: int) -> None:
    """The ids that are published: of the hub and the sequence, in the journal as their namespace (D-4)."""
    expected = uuid5(journal_id, f"{hub_id}/{sequence}")
    assert model.event_id(hub_id, journal_id, sequence) == expected
    event = model.HubAlive(realm=None, network_urn=None, sessions=0, connections=0, elapsed_time=0.0)
    assert model.to_record(Recorded(hub_id, journal_id, sequence, 0, event))["eventId"] == str(expected)


def test_the_event_id_depends_on_all_three() -> None:
    """Hub, journal and sequence; and it is the same each time (D-4)."""
    ids = {
        model.event_id(hub, UUID(int=journal), sequence)
        for hub in ("a", "b")
        for journal in (1, 2)
        for sequence in (1, 2)
    }
    assert len(ids) == 8
    assert model.event_id("hub-1", UUID(int=1), 1) == UUID("2ab2bf1e-2b02-577e-aa5f-3ba2aac819cf")


@pytest.mark.parametrize("name", EVENT_CLASSES)
def test_a_cut_or_longer_event_is_refused(name: str) -> None:
    """At every byte, by name."""
    frame = frames()[name]
    for size in range(len(frame)):
        with pytest.raises(SchemaError):
            model.decode(frame[:size])
    with pytest.raises(SchemaError, match="1 bytes too many"):
        model.decode(frame + b"\0")


@given(st.sampled_from(sorted(codec.EVENT_IDS.values(), key=str)), st.binary(max_size=200))
def test_foreign_bytes_are_no_event(ids: dict[int, int], datum: bytes) -> None:
    """Whatever follows the header: an event or a SchemaError, nothing else."""
    frame = b"\0" + next(iter(ids.values())).to_bytes(4, "big") + datum
    try:
        name, _ = codec.decode_event(frame)
    except SchemaError:
        return
    assert name in EVENT_CLASSES


def test_frames_that_are_not_ours() -> None:
    """An unknown id and another magic are named."""
    with pytest.raises(SchemaError, match="unknown event schema id 4711"):
        codec.decode_event(b"\0" + (4711).to_bytes(4, "big") + b"x")
    with pytest.raises(SchemaError, match="begins with 0, not 1"):
        codec.decode_event(b"\1\0\0\0\1")


@given(st.lists(st.sampled_from(PACKETS), max_size=6), st.data())
def test_packets_survive_however_they_are_cut(sent: list[packets.Packet], data: st.DataObject) -> None:
    """A stream of packets in pieces of any size gives the packets."""
    stream = b"".join(protocol.encode(packet, packets.own_kinds()) for packet in sent)
    reader = PacketReader()
    found: list[packets.Packet] = []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += reader.feed(stream[:size])
        stream = stream[size:]
    assert found == sent
    assert reader.empty


@given(st.sampled_from(PACKETS))
def test_a_reader_takes_no_byte_that_is_not_its_packets(packet: packets.Packet) -> None:
    """Reading ``wanted`` bytes at a time ends exactly behind the packet."""
    stream = protocol.encode(packet, packets.own_kinds()) + b"application"
    reader = PacketReader()
    place = 0
    while True:
        size = reader.wanted
        found = reader.feed(stream[place : place + size])
        place += size
        if found:
            break
    assert (found, stream[place:]) == ([packet], b"application")


def test_unknown_kinds_are_skipped() -> None:
    """A packet of a kind that isn't known yet changes nothing (D-15)."""
    unknown = bytes([200, 9]) + (5).to_bytes(2, "big") + b"12345"
    known = protocol.encode(SessionRefusal(1, "x", True))
    assert PacketReader().feed(unknown + known + unknown) == [SessionRefusal(1, "x", True)]


def test_a_version_that_was_not_announced_is_a_fault_of_the_peer() -> None:
    """A known kind can't be skipped."""
    data = bytearray(protocol.encode(SessionRefusal(1, "x", True)))
    data[1] = 2
    with pytest.raises(ProtocolError, match="version 2"):
        PacketReader().feed(bytes(data))


def test_a_packet_that_does_not_fit_is_a_fault_of_the_peer() -> None:
    """Too short a datum, and one byte too many."""
    data = protocol.encode(SessionRefusal(1, "x", True))
    longer = data[:2] + (len(data) - 3).to_bytes(2, "big") + data[4:] + b"\0"
    shorter = data[:2] + (len(data) - 5).to_bytes(2, "big") + data[4:-1]
    for wrong in (longer, shorter):
        with pytest.raises(ProtocolError):
            PacketReader().feed(wrong)


def test_a_packet_that_is_too_long_is_not_sent() -> None:
    """The limit is the header's."""
    with pytest.raises(SchemaError, match="longer than 65535"):
        protocol.encode(packets.PeerGone("x" * 65_536, "one"), packets.own_kinds())


def test_secrets_are_not_shown() -> None:
    """The resume secret is in no text that a log could hold."""
    (opening,) = (packet for packet in PACKETS if isinstance(packet, packets.Opening))
    assert opening.resume_secret.hex() not in repr(opening)
    assert repr(opening.resume_secret) not in repr(opening)


@pytest.mark.outside
def test_nothing_is_read_from_disk_once_the_codec_is_imported() -> None:
    """A process that has no descriptor left encodes and decodes whatever comes, also what none before has needed."""
    program = """
import sys
from spnhub.schemas import codec
from spnhub.actors.contract import packets
from spnhub.transport import protocol
from tests.schemas.catalogue import SCHEMAS
from tests.schemas.samples import PACKETS, frames
sys.addaudithook(lambda name, args: name in ("open", "import", "os.listdir", "os.scandir") and sys.exit(str(args)))
for name, frame in frames().items():
    if name in codec.EVENT_IDS:
        codec.decode_event(frame)
        codec.decode_event_head(frame, frozenset({"realm"}))
        codec.event_schema_text(codec.event_schema_id(frame))
    else:
        protocol.PacketReader().feed(frame)
print(len(frames()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > len(PACKETS)
