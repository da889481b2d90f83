"""The way into Kafka, in a whole world: traffic never notices the broker, and afterwards every event is there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time

import httpx2
import pytest

from spnhub.events.kafka.settings import KafkaSettings
from tests.analytics.test_serve_kafka import Site
from tests.support.command import run
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import alter_topic, create_topic
from tests.support.tcp import Ending, TcpPeer, TcpServer
from tests.support.world import Consumer, World
from tests.system.sizes import KIB, report, sizes

pytestmark = pytest.mark.kafka

COMPACTS = "cleanup.policy is compact: Kafka keeps only the last event of each key; it has to be delete"
_PAUSE = 5.0
"""Seconds that a round trip may take at most, whatever the broker does; without load it takes milliseconds."""


class Traffic:
    """Connections that come and go all the time, and how long the slowest round trip took."""

    def __init__(self, world: World, consumer: Consumer, server: TcpServer, clients: int) -> None:
        self._world = world
        self._consumer = consumer
        self._server = server
        self.slowest = 0.0
        self.connections = 0
        self._stopping = False
        self._tasks = [asyncio.ensure_future(self._client()) for _ in range(clients)]
        self._accepting = asyncio.ensure_future(self._accept())
        self._echoes: set[asyncio.Task[None]] = set()

    async def _accept(self) -> None:
        while True:
            echo = asyncio.ensure_future(self._echo(await self._world.accept(self._server)))
            self._echoes.add(echo)
            echo.add_done_callback(self._echoes.discard)

    async def _echo(self, peer: TcpPeer) -> None:
        with contextlib.suppress(EOFError):
            while True:
                await peer.send(await peer.receive(KIB))
        peer.close()

    async def _client(self) -> None:
        while not self._stopping:
            client = await self._world.connect(self._consumer)
            for _ in range(5):
                began = time.monotonic()
                await client.send(bytes(KIB))
                assert await client.receive(KIB) == bytes(KIB)
                self.slowest = max(self.slowest, time.monotonic() - began)
            client.finish()
            assert await client.receive_all() == (b"", Ending.FIN)
            client.close()
            self.connections += 1

    async def more(self, count: int) -> float:
        """Let so many connections pass; the slowest round trip of that time."""
        self.slowest = 0.0
        target = self.connections + count
        while self.connections < target:
            await asyncio.sleep(0.01)
            for task in self._tasks:
                if task.done():
                    task.result()
        return self.slowest

    async def stop(self) -> None:
        """Let the connections end in order; any that failed fails the test."""
        self._stopping = True
        await asyncio.gather(*self._tasks)
        self._accepting.cancel()
        await asyncio.gather(*self._echoes)


@sizes("clients, connections", (3, 30), (20, 1000))
async def test_broker_down_at_start_killed_and_back(
    world: World, killable_kafka: KafkaBroker, topic: str, clients: int, connections: int
) -> None:
    """Down at start, up, killed in mid-run, back: every event of the journal is in Kafka, once or with the same id."""
    kafka = killable_kafka
    await asyncio.to_thread(kafka.kill)
    server = world.serve()
    hub, _, consumer = await world.start(server.address, "--kafka", kafka.bootstrap, "--topic", topic)
    await hub.line("shipper.unreachable")
    traffic = Traffic(world, consumer, server, clients)
    slowest = {"down": await traffic.more(connections)}

    await asyncio.to_thread(kafka.start)
    await hub.line("shipper.connected")
    slowest["up"] = await traffic.more(connections)

    await asyncio.to_thread(kafka.kill)
    slowest["killed"] = await traffic.more(connections)
    await hub.line("shipper.unreachable", nth=2)

    await asyncio.to_thread(kafka.start)
    await hub.line("shipper.connected", nth=2)
    slowest["back"] = await traffic.more(connections)
    await traffic.stop()

    await world.end()
    source = f"kafka://{kafka.bootstrap}/{topic}"
    verdict = await world.verify(source)
    assert await world.events(source) == await world.events()
    assert await world.replayed(source) == world.printed()
    report(
        events=verdict["logs"][0]["events"],
        redelivered=verdict["logs"][0]["redelivered"],
        **{name: f"{seconds * 1000:.0f} ms" for name, seconds in slowest.items()},
    )
    assert max(slowest.values()) < _PAUSE


async def test_hub_killed_while_it_ships(world: World, kafka: KafkaBroker, topic: str) -> None:
    """A hub killed with -9 and started again: its log in Kafka is as whole as the journal, ends of the cut included."""
    server = world.serve()
    # The agents are idle, so they take the hub for lost only when it has been silent for long.
    options = ("--kafka", kafka.bootstrap, "--topic", topic, "--idle-timeout", "4", "--keep-alive", "1")
    hub, provider, consumer = await world.start(server.address, *options, env={"SPN_RESUME_TIMEOUT": "1"})
    await hub.line("shipper.connected")
    client, served = await world.join(consumer, server)
    await client.send(b"cut")
    assert await served.receive(3) == b"cut"
    await hub.kill()
    assert (await client.receive_all())[1] is Ending.RST
    hub = await world.start_hub(*options)
    for agent in (provider, consumer.command):
        await agent.wait_lines("session.established", 2)
    lines = await world.end()
    source = f"kafka://{kafka.bootstrap}/{topic}"
    verdict = await world.verify(source)
    assert (verdict["logs"][0]["openSessions"], verdict["logs"][0]["openConnections"]) == ([], [])
    assert await world.events(source) == await world.events()
    (end,) = [line for line in lines if line["eventType"] == "endSpnConnection"]
    assert end["disconnectReason"] == "error"


async def test_hub_and_spnlog_tell_of_a_topic_that_compacts(world: World, kafka: KafkaBroker, topic: str) -> None:
    """Log, metrics and /state of the hub; verify and serve."""
    wanted = KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic)
    await create_topic(wanted, cleanup_policy="compact")
    server = world.serve()
    hub, _, _ = await world.start(server.address, "--kafka", kafka.bootstrap, "--topic", topic, "--ops", "127.0.0.1:0")
    held = await hub.line("shipper.held", level="error")
    assert held["reason"] == COMPACTS
    unfit = await hub.line("shipper.topic_unfit", level="warning")
    assert unfit["fault"] == COMPACTS
    url = (await hub.line("ops.ready"))["url"]
    async with httpx2.AsyncClient(base_url=url, timeout=30) as client:
        metrics = (await client.get("/metrics")).text
        state = (await client.get("/state")).json()
    assert "\nspnhub_shipper_topic_faults 2.0\n" in metrics
    assert "\nspnhub_shipper_up 0.0\n" in metrics
    assert (state["shipper"]["state"], state["shipper"]["topicFaults"][0]) == ("held", COMPACTS)

    source = f"kafka://{kafka.bootstrap}/{topic}"
    status, out, _ = await run("spnlog", "verify", "--json", source)
    report = json.loads(out)
    assert (status, report["clean"]) == (1, False)
    assert [fault["kind"] for fault in report["faults"]] == ["topic"]
    assert report["faults"][0]["message"] == f"{source}: {COMPACTS}"
    assert "message.timestamp.type is CreateTime" in report["warnings"][0]
    _, _, errors = await run("spnlog", "replay", source)
    assert errors == f"spnlog: {source}: {COMPACTS}\n"
    site = Site(kafka, topic)
    try:
        member = await site.join()
        assert (await member.line("serve.topic_unfit", level="error"))["fault"] == COMPACTS
    finally:
        await site.close()

    await alter_topic(wanted, cleanup_policy="delete", message_timestamp_type="LogAppendTime")
    await hub.line("shipper.topic_fit")
    await world.end(hub_errors=("shipper.held",))
    assert (await run("spnlog", "verify", source))[0] == 0
