"""The log read from a real broker."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from spnhub.demo.site import free_port
from spnhub.events import model
from spnhub.events.analysis.source import open_source
from spnhub.events.kafka.settings import KafkaSettings
from spnhub.events.kafka.source import KafkaSource
from spnhub.events.model import Recorded
from spnhub.events.source import SourceError
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import create_topic, events, open_journal, read_topic, settings_for, shipping, write

pytestmark = [pytest.mark.kafka, pytest.mark.system]


async def ship(kafka: KafkaBroker, topic: str, folder: Path, count: int, hub_id: str = "hub-1") -> list[Recorded]:
    """Some events, shipped."""
    with open_journal(folder, hub_id) as journal:
        written = write(journal, events(count))
        async with shipping(settings_for(kafka, topic, folder)) as (_, statuses):
            await statuses.position(journal.appended)
    return written


async def test_nobody_there() -> None:
    """No broker: one line that names it."""
    url = f"kafka://127.0.0.1:{free_port(socket.SOCK_STREAM)}/spn.events"
    with pytest.raises(SourceError) as caught:
        async with KafkaSource(url):
            pass
    assert str(caught.value) == f"{url}: cannot connect to {url.split('/')[2]}: connection refused"


async def test_no_topic(kafka: KafkaBroker, topic: str) -> None:
    """No such topic: said, and none is made."""
    for _ in range(2):
        with pytest.raises(SourceError) as caught:
            async with KafkaSource(f"kafka://{kafka.bootstrap}/{topic}"):
                pass
        assert str(caught.value) == f"kafka://{kafka.bootstrap}/{topic}: there is no such topic"


async def test_empty_topic(kafka: KafkaBroker, topic: str) -> None:
    """Nothing in it: it ends at once."""
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic)
    await create_topic(settings)
    assert await read_topic(settings) == []


async def test_two_hubs(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """Two hubs in one topic: each in its order, read by the address alone."""
    one = await ship(kafka, topic, tmp_path / "1", 700)
    two = await ship(kafka, topic, tmp_path / "2", 300, "hub-2")
    async with open_source(f"kafka://{kafka.bootstrap}/{topic}") as source:
        read = [recorded async for _, recorded in source.records(follow=False)]
    assert [recorded for recorded in read if recorded.hub_id == "hub-1"] == one
    assert [recorded for recorded in read if recorded.hub_id == "hub-2"] == two
    assert len(read) == 1000


async def test_emptied_partitions(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """Partitions emptied by retention hold nobody up, and the rest comes in order."""
    written = await ship(kafka, topic, tmp_path, 400)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    try:
        gone = {TopicPartition(topic, 0): RecordsToDelete(-1), TopicPartition(topic, 3): RecordsToDelete(-1)}
        await admin.delete_records(gone)
    finally:
        await admin.close()
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic)
    read = [recorded for _, recorded in await read_topic(settings)]
    assert 0 < len(read) < 400
    assert read == [recorded for recorded in written if recorded in read]


async def test_transaction_marks(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """A partition that ends with a transaction's mark, as another producer leaves it, has an end all the same."""
    written = await ship(kafka, topic, tmp_path, 50)
    later = Recorded("hub-9", written[0].journal_id, 1, 1, written[0].event)
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=topic)
    async with producer, producer.transaction():
        for partition in range(6):
            await producer.send_and_wait(topic, model.encode(later), partition=partition)
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic)
    read = [recorded for _, recorded in await read_topic(settings)]
    assert [recorded for recorded in read if recorded.hub_id == "hub-1"] == written
    assert read.count(later) == 6


async def test_unreadable_records(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """What is no event of ours is passed over and kept for whoever asks."""
    written = await ship(kafka, topic, tmp_path, 50)
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        await producer.send_and_wait(topic, b"{}", partition=2)
    async with KafkaSource(KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic)) as source:
        assert [recorded async for _, recorded in source.records()] == written
    (found,) = source.unreadable
    assert (found[0], found[2]) == (2, "an event frame of 2 bytes is too short")


async def test_follow(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """Followed, events come as they are shipped, in order."""
    with open_journal(tmp_path) as journal:
        settings = settings_for(kafka, topic, tmp_path)
        written = write(journal, events(100))
        async with shipping(settings) as (_, statuses):
            await statuses.position(100)
            read: list[Recorded] = []
            async with asyncio.timeout(30), KafkaSource(settings.kafka) as source:
                async for _, recorded in source.records(follow=True):
                    read.append(recorded)
                    if len(read) in {100, 250}:
                        written += write(journal, events(150, seed=len(read)))
                    if len(read) == 400:
                        break
    assert read == written
