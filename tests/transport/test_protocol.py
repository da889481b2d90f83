"""The packets of spn/1: round trips, cut anywhere, unknown kinds skipped; and PROTOCOL.md is true."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

import spnhub.transport
from spnhub.actors.contract import packets
from spnhub.actors.contract.codes import Code, is_providers_own, is_retryable
from spnhub.actors.contract.packets import Accept, CloseAck, CloseRequest, Opening, OpeningKind, Packet
from spnhub.events.model import EndPointType
from spnhub.schemas import codec
from spnhub.transport import protocol
from spnhub.transport.protocol import PacketReader

secrets = st.binary(min_size=16, max_size=16)
uids = secrets.map(bytes.hex)
offsets = st.integers(0, 2**62 - 1)
epochs = st.integers(0, 2**31 - 1)
texts = st.text(st.characters(categories=("L", "N", "P", "S")), max_size=40)
kinds = st.dictionaries(st.integers(0, 255), st.integers(0, 255), max_size=5)
anything: st.SearchStrategy[Packet] = st.one_of(
    st.builds(
        packets.SessionRequest,
        st.sampled_from(EndPointType),
        texts,
        texts,
        st.integers(0, 1000),
        st.booleans(),
        texts,
        kinds,
    ),
    st.builds(packets.SessionAck, texts, texts, kinds),
    st.builds(packets.SessionRefusal, st.integers(0, 99), texts, st.booleans()),
    st.builds(CloseRequest, uids, epochs, offsets, offsets, st.booleans()),
    st.builds(CloseAck, uids, epochs),
    st.builds(Opening, st.sampled_from(OpeningKind), uids, secrets, epochs, offsets, offsets, texts),
    st.builds(Accept, st.sampled_from(OpeningKind), st.integers(0, 99), texts, epochs, offsets, offsets, texts, texts),
)


@given(st.lists(anything, max_size=5), st.integers(1, 50))
def test_packets_survive_the_wire_however_it_cuts_them(sent: list[Packet], size: int) -> None:
    """What is encoded comes out again, in order, from any pieces."""
    data = b"".join(protocol.encode(packet) for packet in sent)
    reader = PacketReader()
    got = [packet for i in range(0, len(data), size) for packet in reader.feed(data[i : i + size])]
    assert got == sent
    assert reader.empty


@given(anything, st.binary(min_size=1, max_size=20))
def test_wanted_never_takes_a_byte_of_the_application(packet: Packet, application: bytes) -> None:
    """Reading as much as is wanted ends exactly at the header's end."""
    data = protocol.encode(packet) + application
    reader = PacketReader()
    got: list[Packet] = []
    position = 0
    while not got:
        wanted = reader.wanted
        assert wanted >= 1
        got = reader.feed(data[position : position + wanted])
        position += wanted
    assert got == [packet]
    assert data[position:] == application


def test_unknown_kinds_are_skipped() -> None:
    """A later version's packet doesn't end the session (D-15)."""
    known = protocol.encode(CloseAck(bytes(16).hex(), 3))
    assert PacketReader().feed(bytes([200, 9, 0, 3]) + b"abc" + known) == [CloseAck(bytes(16).hex(), 3)]


def test_required_kinds_are_frozen() -> None:
    """What spn/1 requires never grows: later kinds and versions are optional (D-37)."""
    assert dict(protocol.REQUIRED_KINDS) == dict.fromkeys([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 32, 33], 1)
    assert protocol.missing_kinds(protocol.REQUIRED_KINDS) == ()
    assert protocol.missing_kinds({**packets.own_kinds(), 8: 0}) == ("PauseRequest",)


def test_common_kinds() -> None:
    """A peer is sent what both sides read, in the version that both read; strangers' kinds are forgotten."""
    announced = {**protocol.REQUIRED_KINDS, 4: 99, 200: 7}
    assert protocol.common_kinds(announced) == {**protocol.REQUIRED_KINDS, 4: packets.own_kinds()[4]}
    assert protocol.common_kinds({}) == {}


@pytest.mark.parametrize("datum", [b"", b"\x00" * 40, b"\xff" * 17], ids=["short", "long", "garbage"])
def test_bytes_that_do_not_fit_are_an_error_that_names_the_kind(datum: bytes) -> None:
    """The peer is told what was wrong."""
    with pytest.raises(protocol.ProtocolError, match="packet kind 5 version 1") as caught:
        PacketReader().feed(bytes([5, 1, 0, len(datum)]) + datum)
    assert caught.value.code is Code.PROTOCOL


def test_versions_that_were_not_announced_are_an_error() -> None:
    """Each side sends only what the other announced (D-15)."""
    with pytest.raises(protocol.ProtocolError, match="kind 5 version 9"):
        PacketReader().feed(bytes([5, 9, 0, 0]))


_REQUEST = packets.ResumeRequest(bytes(16).hex(), bytes(16), 1, 0)
_OPENING = Opening(OpeningKind.OPEN, bytes(16).hex(), bytes(16))
_SESSION = packets.SessionRequest(EndPointType.PROVIDER, "urn:x", "one")


@pytest.mark.parametrize(
    "packet",
    [
        *(Accept(OpeningKind.OPEN, code) for code in (-1, 2**62, 2**63 - 1, -(2**63))),
        *(replace(_REQUEST, received_offset=offset) for offset in (-1, 2**62, 2**63 - 1)),
        *(replace(_REQUEST, epoch=epoch) for epoch in (-1, 2**31, 2**63 - 1)),
        *(replace(_REQUEST, code=code) for code in (-1, 2**62)),
        replace(_REQUEST, peer="x" * 2049),
        replace(_REQUEST, instance_id="\x1b[2J"),
        *(CloseRequest(bytes(16).hex(), 0, *pair, False) for pair in ((-1, 0), (0, 2**62))),
        packets.PauseAck(bytes(16).hex(), 0, 2**63 - 1),
        packets.DataAck((packets.Ack(bytes(16).hex(), 0, 5), packets.Ack(bytes(16).hex(), 0, 2**62))),
        packets.DataAck((packets.Ack(bytes(16).hex(), 0, -1),)),
        *(packets.SetWeight(weight) for weight in (-1, 1_000_001, 2**63 - 1)),
        *(replace(_SESSION, weight=weight) for weight in (-1, 1_000_001)),
        replace(_SESSION, instance_id="x" * 257),
        replace(_SESSION, service_urn="x" * 1025),
        replace(_SESSION, service_urn="urn:\u202ex"),
        replace(_OPENING, sent_offset=2**62),
        replace(_OPENING, receive_offset=2**62),
        replace(_OPENING, epoch=-1),
        packets.LocalAddress("192.0.2.1", 65_536),
        packets.LocalAddress("1" * 65, 1),
        packets.ShutdownRequest(True, -1),
    ],
    ids=repr,
)
def test_values_that_a_field_can_not_have(packet: Packet) -> None:
    """They end where packets are read, with the field's name: nothing further in has to think of them."""
    kinds = packets.own_kinds()
    with pytest.raises(protocol.ProtocolError) as caught:
        PacketReader().feed(protocol.encode(packet, kinds))
    assert caught.value.code is Code.PROTOCOL
    assert len(str(caught.value)) < 200


def test_every_number_and_text_of_a_packet_is_bounded() -> None:
    """A new field has its bounds in its type; what is exempt says why."""
    exempt = {
        "connection_uid",  # of a fixed size
        "resume_secret",
        "finished",
        "retryable",
        "brings_connections",
        "resumable",
        "kind",
        "end_point_type",
        "kinds",  # those that both sides know are kept
        "acks",
    }
    for name in codec.PACKET_KINDS:
        cls = getattr(packets, name)
        hints = get_type_hints(cls, include_extras=True)
        assert {field for field, hint in hints.items() if not hasattr(hint, "__metadata__")} <= exempt


@pytest.mark.parametrize("reason", ["x" * 100_000, "\x1b[31mred\n", "\x80\x9b2J", "\u202eright to left"])
def test_reasons_are_cut_and_show(reason: str) -> None:
    """On the way out, whatever a program says, and on the way in, whatever comes."""
    (got,) = PacketReader().feed(protocol.encode(Accept(OpeningKind.OPEN, 300, reason)))
    assert isinstance(got, Accept)
    assert got.reason.isprintable()
    assert len(got.reason) <= 256
    record = {"kind": "open", "code": 1, "reason": reason[:60_000], "epoch": 0, "sentOffset": 0, "receiveOffset": 0}
    record |= {"instanceId": "", "peer": ""}
    raw = codec.encode_packet("Accept", record)
    (came,) = PacketReader().feed(raw)
    assert isinstance(came, Accept)
    assert came.reason == got.reason


@given(st.binary(max_size=200))
def test_garbage_never_raises_anything_else(data: bytes) -> None:
    """Whatever a peer sends: packets or a ProtocolError."""
    try:
        PacketReader().feed(data)
    except protocol.ProtocolError:
        return


def test_secrets_are_not_shown() -> None:
    """The resume secret is not in any repr."""
    assert "5365637265" not in repr(Opening(OpeningKind.OPEN, bytes(16).hex(), b"SecretSecretSecr"))
    assert b"Secret" not in repr(Opening(OpeningKind.OPEN, bytes(16).hex(), b"SecretSecretSecr")).encode()


def test_the_document_lists_every_kind_and_code() -> None:
    """PROTOCOL.md prints the tables that the code has."""
    text = (Path(spnhub.transport.__path__[0]) / "PROTOCOL.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d+) \| (\w+) \| (?:control|data) stream", text, re.MULTILINE)
    assert {name: int(kind) for kind, name in listed} == codec.PACKET_KINDS
    codes = re.findall(r"^\| (\d+) \| ([A-Z_]+) \| .* \| (yes)? ?\|$", text, re.MULTILINE)
    assert [(int(code), name, bool(retry)) for code, name, retry in codes] == [
        (code.value, code.name, is_retryable(code)) for code in Code
    ]
    own = re.search(r"it can't accept any connection now: ([A-Z_,\s]+), or a reset with 0", text)
    assert own is not None
    assert re.split(r",\s+", own[1]) == [code.name for code in Code if is_providers_own(code)]
