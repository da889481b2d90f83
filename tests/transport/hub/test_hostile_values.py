"""Values that no honest endpoint sends: they cost who sends them, nobody else, and nothing of the log."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import (
    Accept,
    Ack,
    CloseRequest,
    DataAck,
    Opening,
    OpeningKind,
    Packet,
    PauseAck,
    ResumeRequest,
    SetWeight,
)
from spnhub.events.model import ConnectionEnded, ConnectionRefused, SessionEnded
from spnhub.transport import engine as api
from spnhub.transport import protocol
from tests.transport.hub.bench import SECRET, UID, Bench

OTHER: Final = bytes(range(16, 32)).hex()
RESUME: Final = ResumeRequest(UID, SECRET, 1, 0, peer="CN=server", instance_id="p1")


class Street:
    """A hub on real QUIC, a connection of somebody who must not notice anything, and a provider that is hostile."""

    def __init__(self, *, real: bool = True) -> None:
        self.raised: list[BaseException] = []
        self.bench = bench = Bench(on_fault=lambda _, fault: self.raised.append(fault), real=real)
        self.provider = bench.provider()
        self.bystander = bench.leg(bench.consumer("other", "bystander"), self.provider, OTHER)
        self.hostile = bench.provider("hostile")
        self.provider.send(SetWeight(0))
        bench.settle()

    def untouched(self) -> None:
        """Bytes pass on the other connection, and nothing that was sent was a fault of ours."""
        leg = self.bystander
        leg.consumer.write(leg.cs, b"alive")
        self.bench.settle()
        assert leg.provider.streams[leg.ps].data.endswith(b"alive")
        assert self.raised == []


@pytest.mark.parametrize("code", [-1, 2**62, 2**63 - 1, -(2**63)])
def test_an_accept_with_a_code_that_quic_can_not_send(code: int) -> None:
    """The opening fails with PROTOCOL, as one does whose provider broke the rules."""
    street = Street()
    bench, consumer = street.bench, street.bench.consumer()
    stream_id = consumer.open(Opening(OpeningKind.OPEN, UID, SECRET))
    bench.settle()
    (ps,) = street.hostile.streams
    street.hostile.write(ps, protocol.encode(Accept(OpeningKind.OPEN, code)))
    street.untouched()
    accept, _ = consumer.header(stream_id, Accept)
    assert accept.code == Code.PROTOCOL
    assert accept.reason == f"code {code} is not within 0 and {2**62 - 1}"
    (ended,) = bench.events(ConnectionEnded)
    assert ended.code == Code.PROTOCOL
    assert bench.events(SessionEnded) == []


@pytest.mark.parametrize("code", [0, 255, 2**62 - 1])
def test_the_largest_codes_pass(code: int) -> None:
    """From one program to the other."""
    street = Street()
    bench, consumer = street.bench, street.bench.consumer()
    leg = bench.leg(consumer, street.hostile)
    leg.provider.abort(leg.ps, code)
    bench.settle()
    assert consumer.streams[leg.cs].reset == code
    street.untouched()


CONTROL: Final[list[Packet]] = [
    *(replace(RESUME, received_offset=offset) for offset in (2**63 - 1, 2**62, -1)),
    replace(RESUME, code=2**62),
    replace(RESUME, peer="x" * 20_000),
    CloseRequest(UID, 0, 2**63 - 1, 2**63 - 1, False),
    PauseAck(UID, 0, 2**63 - 1),
    DataAck((Ack(UID, 0, 2**63 - 1),)),
]


@pytest.mark.parametrize("packet", CONTROL, ids=lambda packet: type(packet).__name__)
def test_a_control_packet_with_such_a_value(packet: Packet) -> None:
    """Its session ends with PROTOCOL and the field's name, and nothing of it is in the log but that."""
    street = Street()
    bench, consumer = street.bench, street.bench.consumer()
    before = len(bench.journal.records)
    consumer.write(0, protocol.encode(packet))
    street.untouched()
    assert consumer.closed is not None
    assert (consumer.closed.kind, consumer.closed.code) == (api.CloseKind.PEER, Code.PROTOCOL)
    (ended,) = bench.events(SessionEnded)
    assert ended.code == Code.PROTOCOL
    assert len(bench.journal.records) == before + 1


@pytest.mark.parametrize("who", ["consumer", "provider"])
def test_the_largest_offsets_in_a_resume(who: str) -> None:
    """Both endpoints want it so: it is theirs, and what it adds up to fits into every event."""
    street = Street()
    bench, consumer = street.bench, street.bench.consumer()
    huge = 2**62 - 1
    consumer.send(replace(RESUME, received_offset=huge, instance_id="hostile"))
    bench.settle()
    invite = street.hostile.control.pop()
    offset = huge if who == "consumer" else 2**63 - 1
    street.hostile.send(ResumeRequest(UID, SECRET, 1, offset, peer="CN=client", instance_id="hostile"))
    street.untouched()
    assert invite is not None
    if who == "provider":
        assert street.hostile.closed is not None
        assert street.hostile.closed.code == Code.PROTOCOL
        return
    opening = Opening(OpeningKind.RESUME, UID, SECRET, 1, huge, huge)
    for peer in (consumer, street.hostile):
        peer.open(opening, b"x" * 100)
    bench.settle()
    consumer.close()
    street.hostile.close()
    bench.settle(3.0)
    (ended,) = bench.events(ConnectionEnded)
    assert (ended.start_sent_offset, ended.total_sent_bytes) == (huge, 100)
    street.untouched()


def test_an_opening_with_offsets() -> None:
    """Refused before anything is made of it."""
    street = Street()
    bench, consumer = street.bench, street.bench.consumer()
    stream_id = consumer.open(Opening(OpeningKind.OPEN, UID, SECRET, 0, 2**63 - 1, -1))
    street.untouched()
    assert consumer.streams[stream_id].reset == Code.PROTOCOL
    assert bench.events(ConnectionRefused) == []


def test_a_session_closed_with_a_reason_of_its_own() -> None:
    """It is cut, and shows."""
    street = Street(real=False)
    street.hostile.engine.close(street.hostile.connection_id, 2**62 - 1, "\x1b[2J" + "x" * 1000)
    street.hostile.node.flush()
    street.untouched()
    (ended,) = street.bench.events(SessionEnded)
    assert ended.code == 2**62 - 1
    assert ended.reason.startswith("\\x1b[2Jxxx")
    assert len(ended.reason) == 256
