"""Which control packets a hub takes from whom; every other one ends the session that sent it, and no other."""

from __future__ import annotations

from typing import Final, get_args

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import FromEndpoint, Packet, SetWeight, ToEndpoint, own_kinds
from spnhub.events.model import EndPointType
from spnhub.schemas import codec
from spnhub.transport import protocol
from tests.schemas.samples import PACKETS
from tests.transport.hub.bench import Bench, Peer

OF_BOTH: Final = {
    "CloseRequest",
    "CloseAck",
    "PauseAck",
    "DataAck",
    "ResumeRequest",
    "SessionRenewal",
    "LocalAddress",
}
TAKEN: Final = {EndPointType.CONSUMER: OF_BOTH, EndPointType.PROVIDER: OF_BOTH | {"SetWeight"}}


def name_of(packet: Packet) -> str:
    """Its class."""
    return type(packet).__name__


def test_every_kind_is_tried() -> None:
    """A new kind has its sample, and so its line here."""
    assert {name_of(packet) for packet in PACKETS} == set(codec.PACKET_KINDS)


@pytest.mark.parametrize("role", EndPointType)
@pytest.mark.parametrize("packet", PACKETS, ids=name_of)
def test_packet_in_a_session(packet: Packet, role: EndPointType) -> None:
    """Those that the protocol has for this direction change nothing without a connection; a provider has a weight."""
    bench = Bench()
    provider, consumer = bench.provider(), bench.consumer()
    sender, other = (provider, consumer) if role is EndPointType.PROVIDER else (consumer, provider)
    sender.write(0, protocol.encode(packet, own_kinds()))
    bench.settle()
    if name_of(packet) in TAKEN[role]:
        assert sender.closed is None
        bench.leg(consumer, provider)
    else:
        assert sender.closed is not None
        assert sender.closed.code == Code.PROTOCOL
    assert other.closed is None


@pytest.mark.parametrize("packet", [packet for packet in PACKETS if name_of(packet) != "SessionRequest"], ids=name_of)
def test_packet_before_the_session_request(packet: Packet) -> None:
    """None is taken."""

    class Hasty(Peer):
        def connected(self) -> None:
            self.write(0, protocol.encode(packet, own_kinds()))

    bench = Bench()
    peer = Hasty(bench, EndPointType.CONSUMER, "client", "c1")
    bench.settle()
    assert peer.closed is not None
    assert (peer.closed.code, peer.closed.reason) == (
        Code.PROTOCOL,
        "the first packet was not a session request",
    )


@pytest.mark.parametrize("weight", [-1, 1_000_001])
def test_weight_out_of_bounds(weight: int) -> None:
    """The protocol's."""
    bench = Bench()
    provider = bench.provider()
    provider.send(SetWeight(weight))
    bench.settle()
    assert provider.closed is not None
    assert provider.closed.code == Code.PROTOCOL


def test_actors_see_no_secret() -> None:
    """What actors take and send is recorded and printed: nothing of it is bytes (D-16)."""
    for cls in get_args(FromEndpoint | ToEndpoint):
        assert {name: kind for name, kind in cls.__annotations__.items() if "bytes" in kind} == {}
