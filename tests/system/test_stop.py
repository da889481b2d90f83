"""The planned stop of a hub (R-4.10), and a consumer that waits for its provider (D-27)."""

from __future__ import annotations

import asyncio
import signal

from tests.support.tcp import Ending
from tests.support.world import World


async def test_planned_stop(world: World) -> None:
    """Consumers first, then providers, then the hub, with status 0; TCP programs see a reset, never a clean end."""
    server = world.serve()
    hub, provider, consumer = await world.start(server.address)
    client, served = await world.join(consumer, server)
    await client.send(b"before")
    assert await served.receive(6) == b"before"
    assert await hub.stop(signal.SIGINT) == 0
    assert [(await peer.receive_all())[1] for peer in (client, served)] == [Ending.RST, Ending.RST]
    for agent in (provider, consumer.command):
        assert "SHUTDOWN" in (await agent.line("session.lost"))["reason"]
        assert agent.running
    ends = [line for line in await world.end() if line["eventType"].startswith("end")]
    assert [(line["eventType"], line.get("endPointType")) for line in ends] == [
        ("endSpnConnection", None),
        ("endSpnSession", "serviceConsumer"),
        ("endSpnSession", "serviceProvider"),
    ]
    assert (ends[0]["disconnectReason"], ends[0]["totalSentBytes"]) == ("closed", 6)
    assert {line["terminateReason"] for line in ends[1:]} == {"shutdown"}


async def test_consumer_waits_for_a_provider(world: World) -> None:
    """Refused for now, the agent tries again and holds its client meanwhile; when a provider comes, all works."""
    server = world.serve()
    hub = await world.start_hub()
    consumer = await world.start_consumer(wait=False)
    refused = await consumer.command.line("session.failed")
    assert "NO_PROVIDER" in refused["reason"]
    accepting = asyncio.ensure_future(world.accept(server))
    client = await world.connect(consumer)
    await client.send(b"anyone there?")
    await world.start_provider(server.address)
    served = await accepting
    assert await served.receive(13) == b"anyone there?"
    served.finish()
    client.finish()
    assert await client.receive_all() == (b"", Ending.FIN)
    await hub.line("endSpnConnection", disconnectReason="closedByPeer")
    await world.end()
    refusals = [event for event in await world.events() if event["eventType"] == "sessionRefused"]
    assert refusals
    assert {(event["serviceUrn"], event["spnEndPoint"]) for event in refusals} == {(world.urn(), "CN=consumer")}
