"""The packets of spn/1, one class each: from the wire to the actor that decides, and on to the endpoint, as they are.

``transport/PROTOCOL.md`` says what each means, ``schemas/protocol/*.avsc`` how it is written. Counterpart:
:mod:`spnhub.transport.protocol`, to bytes and back, and the one place that turns a connectionUid into text.
"""

from __future__ import annotations

import enum
from dataclasses import field
from typing import Annotated, Final, NamedTuple

from spnhub.events.foreign_text import REASON_LIMIT
from spnhub.events.frozen import dataclass
from spnhub.events.model import EndPointType
from spnhub.schemas import codec

__all__ = [
    "ACK_LIMIT",
    "LARGEST_VARINT",
    "Accept",
    "Ack",
    "AllConnectionsClosed",
    "CloseAck",
    "CloseRequest",
    "DataAck",
    "Epoch",
    "ErrorCode",
    "FromEndpoint",
    "InstanceId",
    "LegPacket",
    "LocalAddress",
    "Longest",
    "Offset",
    "Opening",
    "OpeningKind",
    "Packet",
    "PauseAck",
    "PauseRequest",
    "PeerGone",
    "PeerHere",
    "Reason",
    "ResumeAck",
    "ResumeInvite",
    "ResumeRequest",
    "SessionAck",
    "SessionPacket",
    "SessionRefusal",
    "SessionRenewal",
    "SessionRequest",
    "SetWeight",
    "ShutdownRequest",
    "Subject",
    "ToEndpoint",
    "ToLeg",
    "Urn",
    "Weight",
    "Within",
    "own_kinds",
]

ACK_LIMIT: Final = 1024
"""The most connections in one DataAck; more go into another packet."""


LARGEST_VARINT: Final = 2**62 - 1
"""The largest integer that QUIC writes (RFC 9000 section 16)."""


class Within(NamedTuple):
    """What a number may be. A packet with another one breaks the rules of the protocol."""

    least: int
    most: int


class Longest(NamedTuple):
    """How many characters a text may have, all of which show."""

    characters: int
    clip: bool = False
    """A longer one is cut, and what doesn't show is escaped; otherwise it breaks the rules of the protocol."""


# What a field may hold is part of its type; :mod:`spnhub.transport.protocol` checks it where packets are read, and so
# nothing further in has to.
ErrorCode = Annotated[int, Within(0, LARGEST_VARINT)]
"""It may go into a frame of QUIC."""
Offset = Annotated[int, Within(0, LARGEST_VARINT)]
"""Bytes of one direction. With what a stream may carry added to it, it still fits into an event (a signed 64 bits)."""
Epoch = Annotated[int, Within(0, 2**31 - 1)]
Weight = Annotated[int, Within(0, 1_000_000)]
Port = Annotated[int, Within(0, 65_535)]
Milliseconds = Annotated[int, Within(0, 2**31 - 1)]
Reason = Annotated[str, Longest(REASON_LIMIT, clip=True)]
InstanceId = Annotated[str, Longest(256)]
Urn = Annotated[str, Longest(1024)]
Subject = Annotated[str, Longest(2048)]
"""More than :data:`spnhub.events.foreign_text.SUBJECT_BYTES`: so much came from hubs before that bound."""
ShortText = Annotated[str, Longest(256, clip=True)]
HostText = Annotated[str, Longest(64)]


def own_kinds() -> dict[int, int]:
    """Highest version of each packet kind that this implementation reads."""
    return dict(codec.packet_versions())


class OpeningKind(enum.StrEnum):
    """Whether a data stream begins a connection or goes on with one."""

    OPEN = "open"
    RESUME = "resume"


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of spn/1."""


@dataclass(frozen=True, slots=True)
class LegPacket(Packet):
    """A control packet about one leg: on either side it goes to the connection that it names."""

    connection_uid: str
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class SessionRequest(Packet):
    end_point_type: EndPointType
    service_urn: Urn
    instance_id: InstanceId
    weight: Weight = 100
    brings_connections: bool = False
    software: ShortText = ""
    kinds: dict[int, int] = field(default_factory=own_kinds)


@dataclass(frozen=True, slots=True)
class SessionAck(Packet):
    spn_session_id: ShortText
    hub_id: ShortText = ""
    kinds: dict[int, int] = field(default_factory=own_kinds)


@dataclass(frozen=True, slots=True)
class SessionRefusal(Packet):
    code: ErrorCode
    reason: Reason
    retryable: bool


@dataclass(frozen=True, slots=True)
class CloseRequest(LegPacket):
    """The sender's program is through with the connection (R-4.5)."""

    sent_offset: Offset
    receive_offset: Offset
    finished: bool
    """Both directions have ended with FIN, as the sender knows."""


@dataclass(frozen=True, slots=True)
class CloseAck(LegPacket):
    """The sender agrees to the other endpoint's CloseRequest (R-4.5), or the hub has ended the leg."""


@dataclass(frozen=True, slots=True)
class SetWeight(Packet):
    """From a provider: its share of new connections from now on (R-5.3)."""

    weight: Weight
    reason: Reason = ""
    """Why, if it says so."""


@dataclass(frozen=True, slots=True)
class AllConnectionsClosed(Packet):
    """From the hub: no connection of this session is open any more (R-4.8, R-5.4, D-22)."""


@dataclass(frozen=True, slots=True)
class PauseRequest(LegPacket):
    """From the hub: stop reading the leg, and answer with a PauseAck (R-4.6)."""


@dataclass(frozen=True, slots=True)
class PauseAck(LegPacket):
    """The sender has stopped reading the leg (R-4.6)."""

    received_offset: Offset
    """Bytes of the other direction that its program has taken."""


@dataclass(frozen=True, slots=True)
class ResumeRequest(Packet):
    connection_uid: str
    resume_secret: bytes = field(repr=False)
    epoch: Epoch
    received_offset: Offset
    finished: bool = False
    code: ErrorCode = 0
    peer: Subject = ""
    instance_id: InstanceId = ""


@dataclass(frozen=True, slots=True)
class ResumeInvite(Packet):
    connection_uid: str
    resume_secret: bytes = field(repr=False)
    epoch: Epoch
    received_offset: Offset
    finished: bool = False
    code: ErrorCode = 0
    peer: Subject = ""


@dataclass(frozen=True, slots=True)
class ResumeAck(Packet):
    """From the hub, about a ResumeRequest: go on, with code 0, or why not (R-4.7)."""

    connection_uid: str
    epoch: Epoch
    code: ErrorCode = 0
    reason: Reason = ""
    retryable: bool = False
    received_offset: Offset = 0
    """Bytes that the other endpoint's program has taken."""
    finished: bool = False
    """The other endpoint has taken the FIN, too."""


@dataclass(frozen=True, slots=True)
class LocalAddress(Packet):
    """What the endpoint's own socket is bound to: others may see another one, if a translator is in between."""

    host: HostText
    """IP address."""
    port: Port


@dataclass(frozen=True, slots=True)
class PeerGone(Packet):
    """An instance on the other side is gone, and what it was to resume with it; ``peer`` is its verified subject."""

    peer: Subject
    instance_id: InstanceId


@dataclass(frozen=True, slots=True)
class PeerHere(Packet):
    """A provider's instance that was asked for in vain has a session now; ``peer`` is its verified subject."""

    peer: Subject
    instance_id: InstanceId


class Ack(NamedTuple):
    """What one endpoint's program has taken of one connection: an entry of :class:`DataAck`."""

    connection_uid: str
    epoch: int
    received_offset: int


@dataclass(frozen=True, slots=True)
class DataAck(Packet):
    acks: tuple[Ack, ...]
    """At most :data:`ACK_LIMIT`."""


@dataclass(frozen=True, slots=True)
class ShutdownRequest(Packet):
    """From the hub: the session is about to end (R-4.8)."""

    resumable: bool
    spread_milliseconds: Milliseconds = 0
    """Within this time endpoints that come back are to spread themselves."""


@dataclass(frozen=True, slots=True)
class SessionRenewal(Packet):
    """Another session of this endpoint is about to take this one's place; optional (D-38)."""


@dataclass(frozen=True, slots=True)
class Opening(Packet):
    kind: OpeningKind
    connection_uid: str
    resume_secret: bytes = field(repr=False)
    epoch: Epoch = 0
    sent_offset: Offset = 0
    receive_offset: Offset = 0
    peer: Subject = ""
    instance_id: InstanceId = ""


@dataclass(frozen=True, slots=True)
class Accept(Packet):
    kind: OpeningKind
    code: ErrorCode = 0
    reason: Reason = ""
    epoch: Epoch = 0
    sent_offset: Offset = 0
    receive_offset: Offset = 0
    instance_id: InstanceId = ""
    peer: Subject = ""


FromEndpoint = CloseRequest | CloseAck | PauseAck | SetWeight | SessionRenewal
"""The packets that are inputs of a session's actor, as they came."""

ToLeg = CloseRequest | CloseAck | PauseRequest
"""Of those that actors send: what concerns one leg of a connection."""

SessionPacket = ResumeAck | PeerGone | PeerHere | ShutdownRequest | AllConnectionsClosed
"""Of those that actors send: what concerns an endpoint's session, or more than one of its connections."""

ToEndpoint = ToLeg | SessionPacket
"""The packets that actors send. Those with a secret, or with what only the transport knows, are the transport's."""
