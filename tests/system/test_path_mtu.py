"""Datagrams as large as a real wire carries, which drops larger ones without a word, and later carries less."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import httpx2
import pytest

from spnhub.transport.native_engine import why_not
from tests.support.namespaces import Host, NamespacesMissing
from tests.support.tcp import TcpPeer
from tests.support.world import World
from tests.system.sizes import KIB, MIB, report

_HEADERS = 28
"""Bytes of IPv4's and UDP's."""
_STEP = 20
"""What the search leaves open."""
_LOOPBACK = 8952
"""What is tried at most; the loopback carries more."""

pytestmark = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


async def test_a_wire_that_carries_less_than_the_interface(world: World) -> None:
    """From the hub to a host whose wire takes 1,400 bytes, and later 1,300: all arrives, and the hub says what it sends
    at most, and that the path has become narrower."""
    try:
        host = world.enter_host(Host(64, firewall=False))
    except NamespacesMissing as exc:
        pytest.skip(str(exc))
    host.set_mtu(1400)
    server = world.serve()
    hub = await world.start_hub("--ops", "127.0.0.1:0", host=host.gateways[0])
    ops = str((await hub.line("ops.ready"))["url"])
    env = {"SPN_HUB_ADDRESSES": host.gateways[0]}
    _, consumer = await asyncio.gather(
        world.start_provider(server.address, env=env), world.start_consumer(env=env, host=host)
    )
    client = await world.connect(consumer)
    served = await world.accept(server)
    async with httpx2.AsyncClient() as http:

        async def sizes() -> dict[str, Any]:
            state = (await http.get(f"{ops}/state")).json()
            return {str(one["commonName"]): one["datagramSize"] for one in state["sessions"]}

        await carry(served, client, 4 * MIB)
        await carry(client, served, 4 * MIB)
        found = await sizes()
        assert 1400 - _HEADERS - _STEP < found["consumer"] <= 1400 - _HEADERS
        assert found["provider"] == _LOOPBACK
        assert hub.said("limitReached") == []

        host.set_mtu(1300)
        began = time.monotonic()
        await carry(served, client, 256 * KIB)
        took = time.monotonic() - began
        report(black_hole=f"{took:.2f} s")
        assert took < 5.0
        await hub.line("limitReached", limit="pathMtu")
        assert (await sizes())["consumer"] == 1200
    client.finish()
    served.finish()
    await asyncio.gather(client.receive_all(), served.receive_all())
    await world.end()


async def carry(source: TcpPeer, sink: TcpPeer, size: int) -> None:
    """``size`` bytes, every one compared."""
    data = bytes(range(251)) * (size // 251 + 1)
    sending = asyncio.create_task(source.send(data[:size]))
    assert await sink.receive(size) == data[:size]
    await sending
