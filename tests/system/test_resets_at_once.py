"""Clients that reset as soon as they are connected, as port scanners and some health checks do."""

from __future__ import annotations

import asyncio

from tests.support.tcp import Ending
from tests.support.world import World
from tests.system.sizes import sizes


@sizes("rounds", 32, 300)
async def test_resets_as_the_connection_is_made(world: World, rounds: int) -> None:
    """Whatever the hub and the agents have heard by then, the server sees a reset, and soon: never a FIN, no wait."""
    server = world.serve()
    _, _, consumer = await world.start(server.address)
    for number in range(rounds):
        client, served = await world.join(consumer, server)
        for _ in range(number % 8):
            await asyncio.sleep(0)
        client.reset()
        # Far less than what a connection that is taken for lost waits for its resume.
        async with asyncio.timeout(30):
            assert await served.receive_all() == (b"", Ending.RST)
    await world.end()
