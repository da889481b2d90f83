"""One packet of each kind, and what the golden files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from spnhub.events import model
from spnhub.events.model import EndPointType
from spnhub.transport import protocol
from spnhub.transport.protocol import (
    Accept,
    Ack,
    AllConnectionsClosed,
    CloseAck,
    CloseRequest,
    DataAck,
    Opening,
    OpeningKind,
    Packet,
    PauseAck,
    PauseRequest,
    ResumeAck,
    ResumeInvite,
    ResumeRequest,
    SessionAck,
    SessionRefusal,
    SessionRequest,
    SetWeight,
    ShutdownRequest,
)
from tests.events.samples import published

GOLDEN: Final = Path(__file__).parent / "golden"
UID: Final = bytes(range(16))
SECRET: Final = bytes(range(16, 32))

PACKETS: Final[tuple[Packet, ...]] = (
    SessionRequest(
        EndPointType.PROVIDER, "urn:chip-in:service:acme:main:web", "one", 50, True, "spnhub 0.1", {1: 1, 32: 1}
    ),
    SessionAck("0011223344556677", "hub-1", {1: 1, 32: 1}),
    SessionRefusal(18, "no provider", True),
    CloseRequest(UID, 1, 1 << 40, 7, True),
    CloseAck(UID, 1),
    SetWeight(1_000_000),
    AllConnectionsClosed(),
    PauseRequest(UID, 1),
    PauseAck(UID, 1, 1 << 40),
    ResumeRequest(UID, SECRET, 2, 100, True, 44, "CN=provider", "one"),
    ResumeInvite(UID, SECRET, 2, 100, True, 44, "CN=consumer"),
    ResumeAck(UID, 2, 42, "not here", True, 200, True),
    DataAck((Ack(UID, 1, 32_768), Ack(SECRET, 0, 1 << 40))),
    ShutdownRequest(True, 2000),
    Opening(OpeningKind.RESUME, UID, SECRET, 2, 100, 200, "CN=consumer"),
    Accept(OpeningKind.OPEN, 32, "connection refused", 0, 0, 0, "one", "CN=provider"),
)


def version_1() -> dict[str, bytes]:
    """The bytes of everything that version 1 has, by record name."""
    events = {type(r.event).__name__: model.encode(r) for r in published()}
    packets = {type(packet).__name__: protocol.encode(packet) for packet in PACKETS}
    return events | packets


if __name__ == "__main__":
    for name, data in version_1().items():
        path = GOLDEN / f"{name}.v1.hex"
        if not path.exists():  # what is published never changes
            text = data.hex()
            path.write_text("\n".join(text[place : place + 96] for place in range(0, len(text), 96)) + "\n")
