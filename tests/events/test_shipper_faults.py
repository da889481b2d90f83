"""What can go wrong on the way into Kafka, against a real broker: nothing is lost, and what comes twice is known by its
event id."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import string
import time
from dataclasses import replace

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.partitioner import DefaultPartitioner

from spnhub.events import model
from spnhub.events.analysis.verify import verify
from spnhub.events.journal.envelope import read_envelope
from spnhub.events.journal.journal import Journal
from spnhub.events.kafka.settings import ShipperSettings
from spnhub.events.kafka.source import KafkaSource
from spnhub.events.model import HubStarted, Recorded, SessionRefused
from tests.events.samples import events_lost
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import (
    create_topic,
    events,
    read_topic,
    settings_for,
    shipping,
    unique,
    write,
)

pytestmark = [pytest.mark.kafka, pytest.mark.system]


@pytest.fixture
def settings(killable_kafka: KafkaBroker, topic: str, journal: Journal) -> ShipperSettings:
    """From that journal to a topic of this test's own."""
    return settings_for(killable_kafka, topic, journal.folder)


@pytest.fixture
def nowhere(dead_kafka: KafkaBroker, topic: str, journal: Journal) -> ShipperSettings:
    """The same while nobody is there."""
    return settings_for(dead_kafka, topic, journal.folder)


async def test_drain_of_nothing(killable_kafka: KafkaBroker, journal: Journal, settings: ShipperSettings) -> None:
    """With everything shipped, the shipper doesn't wait for a broker that is gone."""
    write(journal, events(100))
    async with shipping(settings) as (shipper, statuses):
        await statuses.position(journal.appended)
        killable_kafka.kill()
        began = time.monotonic()
        await shipper.stop()
        assert time.monotonic() - began < 9
    assert (statuses.seen[-1].state, statuses.seen[-1].reason) == ("left", "")


async def test_drain_is_bounded(journal: Journal, nowhere: ShipperSettings) -> None:
    """With events left and no broker, the shipper goes when its time is over, and says so."""
    write(journal, events(100))
    async with shipping(replace(nowhere, drain=1.0)) as (shipper, statuses):
        await statuses.state("unreachable")
        began = time.monotonic()
        await shipper.stop()
        assert time.monotonic() - began < 9
    assert (statuses.seen[-1].state, statuses.seen[-1].reason) == ("left", "the time to drain was over")


async def test_broker_down_at_start(dead_kafka: KafkaBroker, journal: Journal, nowhere: ShipperSettings) -> None:
    """The shipper says that nobody is there, and ships everything when somebody is."""
    written = write(journal, events(500))
    async with shipping(nowhere) as (_, statuses):
        unreachable = await statuses.state("unreachable")
        await asyncio.to_thread(dead_kafka.start)
        await statuses.position(journal.appended)
    assert unreachable.reason == f"cannot connect to {nowhere.kafka.bootstrap_servers}: connection refused"
    assert statuses.states() == ["unreachable", "connected", "left"]
    assert [recorded for _, recorded in await read_topic(nowhere.kafka)] == written


@pytest.mark.parametrize("rounds", [1, pytest.param(3, marks=pytest.mark.prove)])
async def test_broker_killed(
    killable_kafka: KafkaBroker, journal: Journal, settings: ShipperSettings, rounds: int
) -> None:
    """Killed under load and started again on its data: everything is there, in order."""
    written: list[Recorded] = []
    async with shipping(settings) as (_, statuses):
        await statuses.state("connected")
        for round_ in range(rounds):
            written += write(journal, events(3000, seed=round_))
            await statuses.wait(lambda status: status.behind > 0 or status.position > 0)
            killable_kafka.kill()
            written += write(journal, events(1000, seed=10 + round_))
            await asyncio.to_thread(killable_kafka.start)
        await statuses.position(journal.appended)
    assert unique(await read_topic(settings.kafka)) == written


@pytest.mark.parametrize("seconds", [1, pytest.param(5, marks=pytest.mark.prove)])
async def test_broker_paused(
    killable_kafka: KafkaBroker, journal: Journal, settings: ShipperSettings, seconds: float
) -> None:
    """A broker that stands still for a while is reported; afterwards everything is there, and once."""
    async with shipping(settings) as (_, statuses):
        written = write(journal, events(500))
        await statuses.position(journal.appended)
        killable_kafka.pause()
        written += write(journal, events(500, seed=1))
        stalled = await statuses.state("unreachable")
        await asyncio.sleep(seconds)  # how long it stands still is what is tested
        killable_kafka.unpause()
        await statuses.position(journal.appended)
    assert stalled.position == 500
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written


@pytest.mark.parametrize("rounds", [1, pytest.param(4, marks=pytest.mark.prove)])
async def test_shipper_killed(journal: Journal, settings: ShipperSettings, rounds: int) -> None:
    """Killed in mid-run, it is started again; a redelivery has the id and the bytes of the original."""
    written: list[Recorded] = []
    async with shipping(settings) as (shipper, statuses):
        for round_ in range(rounds):
            written += write(journal, events(4000, seed=round_))
            await statuses.wait(lambda status: status.position > 4000 * round_)  # noqa: B023 - awaited right here
            pid = shipper.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await statuses.wait(lambda status: status.state == "died" and statuses.states().count("died") > round_)  # noqa: B023
        await statuses.position(journal.appended)
    assert statuses.states().count("died") == rounds
    assert unique(await read_topic(settings.kafka)) == written


async def test_record_refused(journal: Journal, settings: ShipperSettings) -> None:
    """A record too large for the topic is named, holds its own partition only, and arrives when it may."""
    await create_topic(settings.kafka, max_message_bytes="3000", message_timestamp_type="LogAppendTime")
    chance = random.Random(5)
    large = "".join(chance.choices(string.printable, k=6000))
    written = write(journal, events(50))
    written += write(journal, [SessionRefused(realm="realm-large", network_urn=None, reason=large)])
    written += write(journal, events(400, seed=1))
    async with shipping(settings) as (_, statuses):
        refused = await statuses.state("refused")
        assert (refused.sequence, refused.position) == (51, 50)
        assert refused.reason.startswith("[Error 10] MessageSizeTooLargeError")
        held = [r.sequence for r in written if r.sequence >= 51 and partition_of(r) == partition_of(written[50])]
        await statuses.wait(lambda status: status.position == 50 and status.behind == len(held))
        meanwhile = {recorded.sequence for _, recorded in await read_topic(settings.kafka)}
        assert meanwhile == {r.sequence for r in written} - set(held)
        await alter_topic(settings, "100000")
        await statuses.position(journal.appended)
    assert unique(await read_topic(settings.kafka)) == written


@pytest.mark.parametrize("everywhere", [False, True])
async def test_record_refused_and_declared(journal: Journal, settings: ShipperSettings, *, everywhere: bool) -> None:
    """When the journal says that a refused record is lost, it is passed over at once and the rest goes on; after a
    restart it isn't tried for long; the topic's own log declares what it lacks. Also one that goes to all partitions.
    """
    await create_topic(settings.kafka, max_message_bytes="3000", message_timestamp_type="LogAppendTime")
    chance = random.Random(5)
    large = "".join(chance.choices(string.printable, k=6000))
    refusal = SessionRefused(realm=None, network_urn=None, reason=large)
    start = HubStarted(realm=None, network_urn=None, version=large, addresses=())
    written = write(journal, [start if everywhere else refusal, *events(100)])
    async with shipping(replace(settings, backoff=60.0)) as (_, statuses):
        refused = await statuses.state("refused")
        assert (refused.sequence, refused.attempts) == (1, 1)
        written += write(journal, [events_lost(1, 1)])
        await statuses.position(journal.appended)
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written[1:]
    async with KafkaSource(settings.kafka) as source:
        (log,) = (await verify([source])).logs
    assert log.gaps == ()  # what comes before the first event counts as taken by retention
    for path in journal.folder.glob("shipped-*.json"):
        path.unlink()
    async with shipping(replace(settings, backoff=60.0)) as (_, statuses):
        await statuses.position(journal.appended)
    assert "refused" not in statuses.states()


async def test_limit_lowered(journal: Journal, settings: ShipperSettings) -> None:
    """A batch that the topic no longer takes is divided."""
    written = write(journal, events(100))
    async with shipping(settings) as (_, statuses):
        await statuses.position(journal.appended)
        await alter_topic(settings, "1500")
        written += write(journal, events(1500, seed=1, services=1))
        await statuses.position(journal.appended)
    assert "refused" not in statuses.states()
    assert unique(await read_topic(settings.kafka)) == written


async def test_broker_without_its_data(
    killable_kafka: KafkaBroker, journal: Journal, settings: ShipperSettings
) -> None:
    """A broker that comes back empty gets the whole journal again."""
    written = write(journal, events(300))
    async with shipping(settings) as (_, statuses):
        await statuses.position(journal.appended)
    killable_kafka.wipe()
    await asyncio.to_thread(killable_kafka.start)
    written += write(journal, events(10, seed=1))
    async with shipping(settings) as (_, statuses):
        await statuses.position(journal.appended)
    assert statuses.states() == ["rewound", "connected", "left"]
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written


async def test_topic_deleted_under_it(journal: Journal, settings: ShipperSettings) -> None:
    """A topic deleted and made again behind a live producer: what it had acknowledged is shipped again."""
    written = write(journal, events(600))
    async with shipping(replace(settings, give_up=2.0)) as (_, statuses):
        await statuses.position(journal.appended)
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
        await admin.start()
        try:
            await admin.delete_topics([settings.kafka.topic])
        finally:
            await admin.close()
        written += write(journal, events(50, seed=1))
        await statuses.state("rewound")
        await statuses.wait(lambda status: status.position == journal.appended and status.behind == 0)
    assert unique(await read_topic(settings.kafka)) == written


def partition_of(recorded: Recorded) -> int:
    """As any Kafka client with the default partitioner has it."""
    return int(DefaultPartitioner()(read_envelope(model.encode(recorded)).key, list(range(6)), []))


async def alter_topic(settings: ShipperSettings, max_message_bytes: str) -> None:
    """Change the largest batch; the other settings are named since what isn't is reset."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka.bootstrap_servers)
    await admin.start()
    try:
        values = {"max.message.bytes": max_message_bytes, "message.timestamp.type": "LogAppendTime"}
        resource = ConfigResource(ConfigResourceType.TOPIC, settings.kafka.topic, configs=values)
        for answer in await admin.alter_configs([resource]):
            assert [entry[0] for entry in answer.resources] == [0]
    finally:
        await admin.close()
