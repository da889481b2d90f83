"""An agent that is killed in mid-download: an error at both TCP programs, and in the log (D-20, D-23)."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.support.tcp import Ending
from tests.support.world import World
from tests.system.sizes import KIB, MIB, report

pytestmark = pytest.mark.measured

_RESUME = 2.0
"""Seconds that the agents give a connection to go on; the killed one's can't (D-20)."""
_NOTICED = 10.0 + _RESUME
"""Seconds. Detection takes about one (port unreachable, then an unanswered probe); a busy machine takes longer."""


@pytest.mark.parametrize("killed", ["provider", "consumer"])
async def test_agent_killed_in_mid_download(world: World, killed: str) -> None:
    """The client never gets a shorter file that looks complete, and the server doesn't go on for nobody."""
    server = world.serve()
    env = {"SPN_RESUME_TIMEOUT": str(_RESUME)}
    hub, provider, consumer = await world.start(server.address, env=env)
    agent = provider if killed == "provider" else consumer.command
    client, served = await world.join(consumer, server)

    async def offer() -> float:
        """Send until it fails; when it did."""
        try:
            await served.send_pattern(1, 256 * MIB)
        except OSError:
            return time.monotonic()
        raise AssertionError("nobody told the server")

    offering = asyncio.ensure_future(offer())
    await client.receive(256 * KIB)
    session = agent.said("session.established")[-1]["spnSessionId"]
    began = time.monotonic()
    await agent.kill()
    _, ending = await client.receive_all()
    told = time.monotonic() - began
    async with asyncio.timeout(_NOTICED):
        stopped = await offering - began
    end = await hub.line("endSpnConnection", timeout=_NOTICED)
    session_end = await hub.line("endSpnSession", spnSessionId=session, timeout=_NOTICED)

    report(client_told=f"{told:.2f} s", server_told=f"{stopped:.2f} s", session=session_end["terminateReason"])
    assert ending is Ending.RST
    assert told < _NOTICED
    assert (end["disconnectReason"], session_end["terminateReason"]) == ("error", "error")
    assert end["totalReceiveBytes"] < 256 * MIB

    # Whoever is left goes on: the killed agent's successor works with it.
    if killed == "provider":
        await world.start_provider(server.address)
    else:
        consumer = await world.start_consumer()
    client, served = await world.join(consumer, server)
    await served.send(b"alive")
    assert await client.receive(5) == b"alive"
    client.reset()
    await world.end()
