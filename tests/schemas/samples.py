"""One packet of each kind, and what the golden files hold."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Final

from spnhub.actors.contract import packets
from spnhub.actors.contract.packets import (
    Accept,
    Ack,
    AllConnectionsClosed,
    CloseAck,
    CloseRequest,
    DataAck,
    LocalAddress,
    Opening,
    OpeningKind,
    Packet,
    PauseAck,
    PauseRequest,
    PeerGone,
    PeerHere,
    ResumeAck,
    ResumeInvite,
    ResumeRequest,
    SessionAck,
    SessionRefusal,
    SessionRenewal,
    SessionRequest,
    SetWeight,
    ShutdownRequest,
)
from spnhub.events import model
from spnhub.events.model import EndPointType
from spnhub.schemas import codec
from spnhub.schemas.codec import camel
from spnhub.transport import protocol
from tests.events.samples import published
from tests.schemas.catalogue import schema

GOLDEN: Final = Path(__file__).parent / "golden"
UID: Final = bytes(range(16)).hex()
SECRET: Final = bytes(range(16, 32))

PACKETS: Final[tuple[Packet, ...]] = (
    SessionRequest(
        EndPointType.PROVIDER, "urn:chip-in:service:acme:main:web", "one", 50, True, "spnhub 0.1", {1: 1, 32: 1}
    ),
    SessionAck("0011223344556677", "hub-1", {1: 1, 32: 1}),
    SessionRefusal(18, "no provider", True),
    CloseRequest(UID, 1, 1 << 40, 7, True),
    CloseAck(UID, 1),
    SetWeight(1_000_000, "10.0.0.7:80: Connection refused"),
    AllConnectionsClosed(),
    SessionRenewal(),
    PauseRequest(UID, 1),
    PauseAck(UID, 1, 1 << 40),
    ResumeRequest(UID, SECRET, 2, 100, True, 44, "CN=provider", "one"),
    ResumeInvite(UID, SECRET, 2, 100, True, 44, "CN=consumer"),
    ResumeAck(UID, 2, 42, "not here", True, 200, True),
    DataAck((Ack(UID, 1, 32_768), Ack(SECRET.hex(), 0, 1 << 40))),
    ShutdownRequest(True, 2000),
    PeerGone("CN=consumer", "two"),
    LocalAddress("192.0.2.1", 40_000),
    PeerHere("CN=provider", "one"),
    Opening(OpeningKind.RESUME, UID, SECRET, 2, 100, 200, "CN=consumer", "two"),
    Accept(OpeningKind.OPEN, 32, "connection refused", 0, 0, 0, "one", "CN=provider"),
)


def as_told_by(recorded: model.Recorded, version: int) -> model.Recorded:
    """What is left of it in this version: of what an old one can't say, the default."""
    event = recorded.event
    told = {field["name"] for field in schema("events", type(event).__name__, version)["fields"]}
    silent = {field.name: field.default for field in fields(event) if camel(field.name) not in told}
    return replace(recorded, event=replace(event, **silent))  # type: ignore[arg-type]


def packet_versions(packet: Packet) -> range:
    """Those that its kind has been published in."""
    return range(1, codec.packet_versions()[protocol.kind_of(packet)] + 1)


def packet_as_told_by(packet: Packet, version: int) -> Packet:
    """The same of a packet."""
    told = {field["name"] for field in schema("protocol", type(packet).__name__, version)["fields"]}
    silent = {field.name: field.default for field in fields(packet) if camel(field.name) not in told}
    return replace(packet, **silent)


def frames() -> dict[str, bytes]:
    """The bytes of everything, as it is written now, by record name."""
    events = {type(r.event).__name__: model.encode(r) for r in published()}
    control = {type(packet).__name__: protocol.encode(packet, packets.own_kinds()) for packet in PACKETS}
    return events | control


def newest() -> dict[str, bytes]:
    """The same by the name of the file that publishes it."""
    versions = {name: max(versions) for name, versions in codec.EVENT_IDS.items()}
    versions |= {type(packet).__name__: max(packet_versions(packet)) for packet in PACKETS}
    return {f"{name}.v{versions[name]}": data for name, data in frames().items()}


if __name__ == "__main__":
    for name, data in newest().items():
        path = GOLDEN / f"{name}.hex"
        if not path.exists():  # what is published never changes
            text = data.hex()
            path.write_text("\n".join(text[place : place + 96] for place in range(0, len(text), 96)) + "\n")
