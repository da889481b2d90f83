"""Journals full of generated events, and what a topic holds, for tests of the way between them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.kafka.settings import KafkaSettings, ShipperSettings, ShipperStatus
from spnhub.events.kafka.source import KafkaSource
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionStarted,
    DisconnectReason,
    Event,
    Recorded,
    SessionRefused,
)
from spnhub.events.shipper.process import ShipperProcess
from tests.support.kafka import KafkaBroker

__all__ = [
    "RawRecord",
    "Statuses",
    "alter_topic",
    "create_topic",
    "delete_topic",
    "events",
    "open_journal",
    "read_raw",
    "read_topic",
    "settings_for",
    "shipping",
    "unique",
    "write",
]

_START = 1_790_000_000_000_000

RawRecord = tuple[int, int, bytes, bytes, dict[str, bytes]]
"""Partition, offset, key, value, headers."""


def events(count: int, *, seed: int = 0, services: int = 20, reason_bytes: int = 0) -> list[Event]:
    """A mix of events over some services, a few without service and realm."""
    chance = random.Random(seed)
    made: list[Event] = []
    for number in range(count):
        kind = chance.random()
        service = f"urn:spn:service:{chance.randrange(services)}"
        if kind < 0.05:
            realm = chance.choice((None, "realm-a"))
            made.append(SessionRefused(realm=realm, network_urn=None, reason="x" * reason_bytes, alert=42))
        elif kind < 0.5:
            made.append(
                ConnectionStarted(
                    realm="realm-a",
                    network_urn="urn:spn:network:1",
                    spn_connection_id=f"{number}-{number + 4}",
                    consumer_side_spn_session_id="00112233",
                    provider_side_spn_session_id="44556677",
                    service_urn=service,
                    connection_uid=f"{chance.getrandbits(128):032x}",
                )
            )
        else:
            made.append(
                ConnectionEnded(
                    realm="realm-a",
                    network_urn="urn:spn:network:1",
                    spn_connection_id=f"{number}-{number + 4}",
                    consumer_side_spn_session_id="00112233",
                    provider_side_spn_session_id="44556677",
                    service_urn=service,
                    connection_uid=f"{chance.getrandbits(128):032x}",
                    total_sent_bytes=chance.randrange(10**9),
                    total_receive_bytes=chance.randrange(10**9),
                    elapsed_time=chance.random() * 100,
                    disconnect_reason=chance.choice(list(DisconnectReason)),
                    reason="x" * reason_bytes,
                )
            )
    return made


def write(journal: Journal, made: list[Event]) -> list[Recorded]:
    """Append events and see them written."""
    written = [journal.append(event, _START + 1000 * (journal.appended + 1)) for event in made]
    assert journal.flush(10)
    return written


def open_journal(folder: Path, hub_id: str = "hub-1") -> Journal:
    """A journal without timers."""
    return Journal.open(folder, hub_id, options=JournalOptions(sync_interval=None))


async def read_topic(settings: KafkaSettings) -> list[tuple[bytes, Recorded]]:
    """What the topic holds, in order, redeliveries included."""
    async with KafkaSource(settings) as source:
        return [item async for item in source.records()]


def unique(read: list[tuple[bytes, Recorded]]) -> list[Recorded]:
    """Without redeliveries, in the order of first appearance; a redelivery has the same bytes."""
    seen: dict[UUID, bytes] = {}
    first = []
    for frame, recorded in read:
        if recorded.event_id in seen:
            assert seen[recorded.event_id] == frame
        else:
            seen[recorded.event_id] = frame
            first.append(recorded)
    return first


async def read_raw(settings: KafkaSettings) -> list[RawRecord]:
    """Every record as Kafka has it, partition by partition."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = await _partitions(settings)
        places = [TopicPartition(settings.topic, number) for number in partitions]
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        found: list[RawRecord] = []
        for place in places:
            consumer.seek(place, 0)
            while await consumer.position(place) < ends[place]:
                for batch in (await consumer.getmany(place, timeout_ms=200)).values():
                    found += [(r.partition, r.offset, r.key, r.value, dict(r.headers)) for r in batch]
        return found
    finally:
        await consumer.stop()


async def _partitions(settings: KafkaSettings) -> list[int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        (described,) = await admin.describe_topics([settings.topic])
        return sorted(entry["partition"] for entry in described["partitions"])
    finally:
        await admin.close()


async def create_topic(settings: KafkaSettings, **configs: str) -> None:
    """With settings of one's own."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        named = {name.replace("_", "."): value for name, value in configs.items()}
        answer = await admin.create_topics([NewTopic(settings.topic, settings.partitions, 1, topic_configs=named)])
        assert [error[1] for error in answer.topic_errors] == [0]
    finally:
        await admin.close()


async def delete_topic(settings: KafkaSettings) -> None:
    """And see it gone."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        await admin.delete_topics([settings.topic])
        while settings.topic in await admin.list_topics():
            await asyncio.sleep(0.05)
    finally:
        await admin.close()


async def alter_topic(settings: KafkaSettings, **configs: str) -> None:
    """Set these, and nothing else."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        named = {name.replace("_", "."): value for name, value in configs.items()}
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, settings.topic, configs=named)])
    finally:
        await admin.close()


class Statuses:
    """Collects a shipper's statuses, and waits for one."""

    def __init__(self) -> None:
        self.seen: list[ShipperStatus] = []
        self._news = asyncio.Event()

    def __call__(self, status: ShipperStatus) -> None:
        self.seen.append(status)
        self._news.set()

    async def wait(self, wanted: Callable[[ShipperStatus], bool], timeout: float = 40.0) -> ShipperStatus:
        """The first status from now on or before that is wanted.

        :raises TimeoutError: none came; the message lists what did.
        """
        at = 0
        try:
            async with asyncio.timeout(timeout):
                while True:
                    while at < len(self.seen):
                        if wanted(self.seen[at]):
                            return self.seen[at]
                        at += 1
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"not among {self.seen}") from None

    async def state(self, state: str, timeout: float = 40.0) -> ShipperStatus:
        """The first status with this state."""
        return await self.wait(lambda status: status.state == state, timeout)

    async def position(self, sequence: int, timeout: float = 60.0) -> ShipperStatus:
        """The first status that says that everything up to ``sequence`` is acknowledged."""
        return await self.wait(lambda status: status.position >= sequence, timeout)

    def states(self) -> list[str]:
        """In the order of their coming, without the periodic ones."""
        return [status.state for status in self.seen if status.state != "shipped"]


@asynccontextmanager
async def shipping(settings: ShipperSettings) -> AsyncIterator[tuple[ShipperProcess, Statuses]]:
    """A shipper process, let go at the end."""
    statuses = Statuses()
    shipper = ShipperProcess(settings, statuses)
    shipper.start()
    try:
        yield shipper, statuses
    finally:
        await shipper.stop()


def settings_for(kafka: KafkaBroker, topic: str, folder: Path) -> ShipperSettings:
    """Settings of a shipper that loses no time."""
    return ShipperSettings(
        journal=folder,
        kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic),
        backoff=0.5,
        stall=0.5,
        look=0.5,
    )
