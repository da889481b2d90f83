"""The packets of spn/1 as typed objects, and an incremental reader for them. Written down in ``PROTOCOL.md``.

Sans-I/O: bytes in, packets out. Counterparts: ``schemas/protocol/*.avsc`` and :mod:`spnhub.schemas.codec`.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.schemas import codec

__all__ = [
    "ACK_LIMIT",
    "ALPN",
    "REQUIRED_KINDS",
    "Accept",
    "Ack",
    "AllConnectionsClosed",
    "CloseAck",
    "CloseRequest",
    "DataAck",
    "LocalAddress",
    "Opening",
    "OpeningKind",
    "Packet",
    "PacketReader",
    "PauseAck",
    "PauseRequest",
    "PeerGone",
    "ProtocolError",
    "ResumeAck",
    "ResumeInvite",
    "ResumeRequest",
    "SessionAck",
    "SessionRefusal",
    "SessionRenewal",
    "SessionRequest",
    "SetWeight",
    "ShutdownRequest",
    "common_kinds",
    "encode",
    "kind_of",
    "missing_kinds",
    "own_kinds",
]

ALPN: Final = "spn/1"
ACK_LIMIT: Final = 1024
"""Connections that one DataAck tells of, at most; more go into another packet."""


class ProtocolError(Exception):
    """The peer broke the rules of spn/1. ``code`` goes on the wire, the message says which rule."""

    def __init__(self, reason: str, code: Code = Code.PROTOCOL) -> None:
        super().__init__(reason)
        self.code = code


class OpeningKind(enum.StrEnum):
    """Whether a data stream begins a connection or goes on with one."""

    OPEN = "open"
    RESUME = "resume"


REQUIRED_KINDS: Final[Mapping[int, int]] = dict.fromkeys((*range(1, 15), 32, 33), 1)
"""Version by kind of the packets that every endpoint and hub of spn/1 reads. Frozen (D-37): whatever came later is
optional, and is sent to those only that announce it."""


def own_kinds() -> dict[int, int]:
    """Highest version of each packet kind that this implementation reads."""
    return dict(codec.packet_versions())


def missing_kinds(announced: Mapping[int, int]) -> tuple[str, ...]:
    """Names of the required kinds (D-37) that a peer has not announced."""
    return tuple(
        name for name, kind in codec.PACKET_KINDS.items() if kind in REQUIRED_KINDS and announced.get(kind, 0) < 1
    )


def common_kinds(announced: Mapping[int, int]) -> dict[int, int]:
    """Highest version that both sides read, of each kind that may be sent to the peer that announced these."""
    return {kind: min(own, announced[kind]) for kind, own in own_kinds().items() if announced.get(kind, 0) >= 1}


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of spn/1."""


@dataclass(frozen=True, slots=True)
class SessionRequest(Packet):
    end_point_type: EndPointType
    service_urn: str
    instance_id: str
    weight: int = 100
    brings_connections: bool = False
    software: str = ""
    kinds: dict[int, int] = field(default_factory=own_kinds)


@dataclass(frozen=True, slots=True)
class SessionAck(Packet):
    spn_session_id: str
    hub_id: str = ""
    kinds: dict[int, int] = field(default_factory=own_kinds)


@dataclass(frozen=True, slots=True)
class SessionRefusal(Packet):
    code: int
    reason: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class CloseRequest(Packet):
    connection_uid: bytes
    epoch: int
    sent_offset: int
    receive_offset: int
    finished: bool


@dataclass(frozen=True, slots=True)
class CloseAck(Packet):
    connection_uid: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class SetWeight(Packet):
    weight: int
    reason: str = ""


@dataclass(frozen=True, slots=True)
class AllConnectionsClosed(Packet):
    """Of this session (D-22)."""


@dataclass(frozen=True, slots=True)
class PauseRequest(Packet):
    connection_uid: bytes
    epoch: int


@dataclass(frozen=True, slots=True)
class PauseAck(Packet):
    connection_uid: bytes
    epoch: int
    received_offset: int


@dataclass(frozen=True, slots=True)
class ResumeRequest(Packet):
    connection_uid: bytes
    resume_secret: bytes = field(repr=False)
    epoch: int
    received_offset: int
    finished: bool = False
    code: int = 0
    peer: str = ""
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class ResumeInvite(Packet):
    connection_uid: bytes
    resume_secret: bytes = field(repr=False)
    epoch: int
    received_offset: int
    finished: bool = False
    code: int = 0
    peer: str = ""


@dataclass(frozen=True, slots=True)
class ResumeAck(Packet):
    connection_uid: bytes
    epoch: int
    code: int = 0
    reason: str = ""
    retryable: bool = False
    received_offset: int = 0
    finished: bool = False


@dataclass(frozen=True, slots=True)
class LocalAddress(Packet):
    """What the endpoint's own socket is bound to: others may see another one, if a translator is in between."""

    host: str
    """IP address."""
    port: int


@dataclass(frozen=True, slots=True)
class PeerGone(Packet):
    """An instance on the other side is gone, and what it was to resume with it; ``peer`` is its verified subject."""

    peer: str
    instance_id: str


class Ack(NamedTuple):
    """What one endpoint's program has taken of one connection: an entry of :class:`DataAck`."""

    connection_uid: bytes
    epoch: int
    received_offset: int


@dataclass(frozen=True, slots=True)
class DataAck(Packet):
    acks: tuple[Ack, ...]
    """At most :data:`ACK_LIMIT`."""


@dataclass(frozen=True, slots=True)
class ShutdownRequest(Packet):
    resumable: bool
    spread_milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class SessionRenewal(Packet):
    """Another session of this endpoint is about to take this one's place; optional (D-38)."""


@dataclass(frozen=True, slots=True)
class Opening(Packet):
    kind: OpeningKind
    connection_uid: bytes
    resume_secret: bytes = field(repr=False)
    epoch: int = 0
    sent_offset: int = 0
    receive_offset: int = 0
    peer: str = ""
    instance_id: str = ""


@dataclass(frozen=True, slots=True)
class Accept(Packet):
    kind: OpeningKind
    code: int = 0
    reason: str = ""
    epoch: int = 0
    sent_offset: int = 0
    receive_offset: int = 0
    instance_id: str = ""
    peer: str = ""


_CLASSES: Final[dict[str, type[Packet]]] = {
    cls.__name__: cls
    for cls in (
        SessionRequest,
        SessionAck,
        SessionRefusal,
        CloseRequest,
        CloseAck,
        SetWeight,
        AllConnectionsClosed,
        PauseRequest,
        PauseAck,
        ResumeRequest,
        ResumeInvite,
        ResumeAck,
        DataAck,
        ShutdownRequest,
        PeerGone,
        SessionRenewal,
        LocalAddress,
        Opening,
        Accept,
    )
}


_FIELDS: Final = {
    cls: tuple((f.name, codec.camel(f.name)) for f in dataclasses.fields(cls)) for cls in _CLASSES.values()
}
"""Attribute and wire name of each field."""

_FROM_WIRE: Final[dict[str, Callable[[Any], Any]]] = {
    "end_point_type": EndPointType,
    "kind": OpeningKind,
    "acks": lambda entries: tuple(Ack(e["connectionUid"], e["epoch"], e["receivedOffset"]) for e in entries),
    "kinds": lambda pairs: {pair["kind"]: pair["version"] for pair in pairs},
}


def kind_of(packet: Packet) -> int:
    """The number of its kind."""
    return codec.PACKET_KINDS[type(packet).__name__]


def encode(packet: Packet, kinds: Mapping[int, int] = REQUIRED_KINDS) -> bytes:
    """The packet with its frame (D-15). An older version leaves out the fields that came later.

    :param kinds: version by kind, as both sides read it (:func:`common_kinds`); the packet's kind is among them.
    :raises spnhub.schemas.codec.SchemaError: too long.
    """
    record: dict[str, Any] = {}
    for attribute, name in _FIELDS[type(packet)]:
        value = getattr(packet, attribute)
        if attribute == "kinds":
            value = [{"kind": kind, "version": version} for kind, version in value.items()]
        elif attribute == "acks":
            value = [{"connectionUid": a[0], "epoch": a[1], "receivedOffset": a[2]} for a in value]
        record[name] = value
    return codec.encode_packet(type(packet).__name__, record, kinds[kind_of(packet)])


def _build(name: str, record: dict[str, Any]) -> Packet:
    cls = _CLASSES[name]
    values: dict[str, Any] = {}
    for attribute, wire_name in _FIELDS[cls]:
        if wire_name not in record:
            continue  # an older version: the field's default says what it meant
        convert = _FROM_WIRE.get(attribute)
        value = record[wire_name]
        values[attribute] = value if convert is None else convert(value)
    return cls(**values)


class PacketReader:
    """Packets out of the bytes of a stream, however they are cut.

    For a header on a data stream ask :attr:`wanted` for how many bytes may be read, so that none of the
    application's is taken. Holds at most one packet (:data:`spnhub.schemas.codec.PACKET_LIMIT`).
    """

    def __init__(self) -> None:
        self._buffer = bytearray()

    @property
    def wanted(self) -> int:
        """Bytes until the packet at hand is complete, as far as is known now; at least 1."""
        if len(self._buffer) < codec.PACKET_HEADER_SIZE:
            return codec.PACKET_HEADER_SIZE - len(self._buffer)
        _, _, length = codec.packet_header(bytes(self._buffer[: codec.PACKET_HEADER_SIZE]))
        return codec.PACKET_HEADER_SIZE + length - len(self._buffer)

    @property
    def empty(self) -> bool:
        """Whether no part of a packet is waiting for the rest."""
        return not self._buffer

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that ``data`` completes. Unknown kinds are skipped (D-15).

        :raises ProtocolError: a known kind that doesn't fit its schema, or in a version that wasn't announced.
        """
        self._buffer += data
        packets: list[Packet] = []
        while len(self._buffer) >= codec.PACKET_HEADER_SIZE and self.wanted <= 0:
            kind, version, length = codec.packet_header(bytes(self._buffer[: codec.PACKET_HEADER_SIZE]))
            datum = bytes(self._buffer[codec.PACKET_HEADER_SIZE : codec.PACKET_HEADER_SIZE + length])
            del self._buffer[: codec.PACKET_HEADER_SIZE + length]
            if kind not in codec.packet_versions():
                continue
            try:
                packets.append(_build(*codec.decode_packet(kind, version, datum)))
            except codec.SchemaError as exc:
                raise ProtocolError(str(exc)) from exc
        return packets
