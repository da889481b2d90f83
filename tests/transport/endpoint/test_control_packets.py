"""Which control packets an endpoint takes from its hub; every other one ends the session, and another is made."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import Packet, own_kinds
from spnhub.events.model import EndPointType
from spnhub.transport.protocol import encode
from tests.schemas.samples import PACKETS
from tests.transport.endpoint.conftest import World

FOR_BOTH: Final = {
    "CloseRequest",
    "CloseAck",
    "PauseRequest",
    "DataAck",
    "ResumeAck",
    "PeerGone",
    "PeerHere",
    "ShutdownRequest",
    "AllConnectionsClosed",
}
TAKEN: Final = {EndPointType.CONSUMER: FOR_BOTH, EndPointType.PROVIDER: FOR_BOTH | {"ResumeInvite"}}


@pytest.mark.parametrize("role", EndPointType)
@pytest.mark.parametrize("packet", PACKETS, ids=lambda packet: type(packet).__name__)
async def test_packet_in_a_session(world: World, packet: Packet, role: EndPointType) -> None:
    """Those that the protocol has for this direction are taken, also about connections that are gone."""
    await world.provider()
    await world.consumer()
    session = world.hub.session(role)
    world.hub.send(session, encode(packet, own_kinds()))
    await asyncio.sleep(0.1)
    broken = [connection_id for connection_id, code in world.hub.closed if code == Code.PROTOCOL]
    assert broken == ([] if type(packet).__name__ in TAKEN[role] else [session])
