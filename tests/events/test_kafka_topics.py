"""Topics that lose what they get, on a real broker: told, and nothing goes into them that could be lost there.

And topics that are made anew: who writes and who reads notices within seconds, and begins again.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from spnhub.events.journal.journal import Journal
from spnhub.events.kafka import source as kafka_source
from spnhub.events.kafka.settings import KafkaSettings, ShipperSettings, ShipperStatus
from spnhub.events.kafka.source import KafkaSource
from spnhub.events.kafka.topic import client_arguments, ensure_topic, look_at_topic
from spnhub.events.model import Recorded
from spnhub.events.source import SourceError
from tests.analytics.test_serve_kafka import Site, expected, samples
from tests.events.histories import History
from tests.support.command import Command
from tests.support.kafka import JarBroker, KafkaBroker
from tests.support.kafka_jars import JarRuntime
from tests.support.kafka_journal import (
    Statuses,
    alter_topic,
    create_topic,
    delete_topic,
    events,
    open_journal,
    read_topic,
    settings_for,
    shipping,
    unique,
    write,
)

pytestmark = [pytest.mark.kafka, pytest.mark.system]

COMPACTS = "cleanup.policy is compact: Kafka keeps only the last event of each key; it has to be delete"


@pytest.fixture
def settings(kafka: KafkaBroker, topic: str, journal: Journal) -> ShipperSettings:
    """From that journal to a topic of this test's own."""
    return settings_for(kafka, topic, journal.folder)


async def configs(settings: KafkaSettings) -> dict[str, str]:
    """What a topic has."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, settings.topic)])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}
    finally:
        await admin.close()


@pytest.fixture(scope="module")
def careless() -> Iterator[JarBroker]:
    """A broker whose defaults compact, and that creates whatever is asked for."""
    settings = {
        "auto.create.topics.enable": "true",
        "log.cleanup.policy": "compact",
        "log.cleaner.backoff.ms": "100",
        "log.message.timestamp.type": "CreateTime",
    }
    with JarBroker(JarRuntime.prepare(), settings=settings) as broker:
        yield broker


async def test_a_topic_is_made_so_that_it_keeps_events(careless: JarBroker, topic: str) -> None:
    """Whatever the broker's defaults are, and though it would make one of its own for whoever asks."""
    wanted = KafkaSettings(bootstrap_servers=careless.bootstrap, topic=topic)
    assert await look_at_topic(wanted) is None
    with pytest.raises(SourceError, match="there is no such topic"):
        async with KafkaSource(wanted):
            pass
    assert await look_at_topic(wanted) is None
    state = await ensure_topic(wanted)
    made = await configs(wanted)
    assert (made["cleanup.policy"], made["message.timestamp.type"]) == ("delete", "LogAppendTime")
    assert state.faults == ()
    assert state.topic_id


async def test_nothing_is_shipped_into_a_topic_that_compacts(settings: ShipperSettings, journal: Journal) -> None:
    """It is said why; the journal keeps the events, and they go out when the setting is right."""
    await create_topic(settings.kafka, cleanup_policy="compact", message_timestamp_type="LogAppendTime")
    written = write(journal, events(300))
    async with shipping(settings) as (_, statuses):
        held = await statuses.state("held")
        assert (held.reason, held.lasting, held.topic_faults) == (COMPACTS, True, (COMPACTS,))
        assert await read_topic(settings.kafka) == []
        await alter_topic(settings.kafka, cleanup_policy="delete", message_timestamp_type="LogAppendTime")
        shipped = await statuses.position(journal.appended)
    assert shipped.topic_faults == ()
    assert statuses.states() == ["held", "connected", "left"]
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written


async def test_a_topic_that_compacts_later_is_noticed(settings: ShipperSettings, journal: Journal) -> None:
    """What may have been compacted away meanwhile is shipped again; a shipper that is let go doesn't wait for it."""
    written = write(journal, events(300))
    async with shipping(settings) as (_, statuses):
        await statuses.position(300)
        await alter_topic(settings.kafka, cleanup_policy="compact,delete", message_timestamp_type="LogAppendTime")
        held = await statuses.state("held", timeout=10)
        assert "cleanup.policy is compact,delete" in held.reason
        assert (held.position, held.lasting) == (0, True)
        written += write(journal, events(50, seed=1))
        began = time.monotonic()
    assert time.monotonic() - began < settings.drain
    assert (statuses.seen[-1].state, statuses.seen[-1].reason) == ("left", held.reason)
    assert len(await read_topic(settings.kafka)) == 300

    await alter_topic(settings.kafka, cleanup_policy="delete", message_timestamp_type="LogAppendTime")
    async with shipping(settings) as (_, statuses):
        await statuses.position(journal.appended)
    assert unique(await read_topic(settings.kafka)) == written


async def test_settings_that_do_less_harm_are_told(settings: ShipperSettings, journal: Journal) -> None:
    """With every status, and shipping goes on."""
    await create_topic(settings.kafka, retention_ms="7000", max_message_bytes="9000")
    write(journal, events(10))
    async with shipping(replace(settings, kafka=replace(settings.kafka, retention=86_400))) as (_, statuses):
        shipped = await statuses.position(10)
    assert [fault.split(" is ")[0] for fault in shipped.topic_faults] == [
        "retention.ms",
        "max.message.bytes",
        "message.timestamp.type",
        "retention.ms",
    ]
    assert "held" not in statuses.states()


async def test_a_shipper_notices_a_topic_that_is_made_anew(settings: ShipperSettings, journal: Journal) -> None:
    """While it runs, with as many records in it as before, and while it doesn't run."""
    written = write(journal, events(200))
    async with shipping(settings) as (_, statuses):
        await statuses.position(200)
        await delete_topic(settings.kafka)
        rewound = await statuses.state("rewound", timeout=15)
        await statuses.wait(lambda status: status.position == 200 and _comes_after(statuses, status, rewound))
        assert unique(await read_topic(settings.kafka)) == written
    assert "made anew" in rewound.reason or "gone" in rewound.reason or "gave offset" in rewound.reason

    await delete_topic(settings.kafka)
    async with shipping(settings_for_other(settings)) as (_, others):
        # Another hub's events: the partitions end where they ended.
        await others.position(200)
    async with shipping(settings) as (_, statuses):
        again = await statuses.state("rewound")
        await statuses.position(200)
    assert again.reason == f"the topic {settings.kafka.topic} was made anew"
    found = unique(await read_topic(settings.kafka))
    assert [recorded for recorded in found if recorded.hub_id == "hub-1"] == written


def _comes_after(statuses: Statuses, status: ShipperStatus, before: ShipperStatus) -> bool:
    order = [id(one) for one in statuses.seen]
    return order.index(id(status)) > order.index(id(before))


def settings_for_other(settings: ShipperSettings) -> ShipperSettings:
    """The same topic, from another hub's journal with as many events."""
    folder = settings.journal.parent / "other"
    if not folder.exists():
        with open_journal(folder, "hub-2") as journal:
            write(journal, events(200))
    return replace(settings, journal=folder)


async def test_serve_is_not_ready_without_its_topic(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """Missing, there, gone, made anew: ready only when it is there and read; the numbers are those of what is there.

    The second topic ends where the first one did, so that offsets tell nothing.
    """
    made = History(random.Random(3), hubs=1, services=3).run(600).events
    settings = settings_for(kafka, topic, tmp_path / "journal")
    site = Site(kafka, topic)
    try:
        member = await site.join()
        missing = await member.line("serve.unavailable", level="warning")
        assert missing["reason"] == f"there is no topic {topic}"
        assert await readiness(member) == 503
        with open_journal(tmp_path / "journal", "hub-0") as journal:
            for recorded in made[:300]:
                journal.append(recorded.event, recorded.timestamp)
            assert journal.flush(10)
            async with shipping(settings) as (_, statuses):
                await statuses.position(journal.appended)
        await site.until_told(expected(made[:300]))
        assert await readiness(member) == 200

        began = time.monotonic()
        await delete_topic(settings.kafka)
        while await readiness(member) == 200:
            await asyncio.sleep(0.1)
        assert time.monotonic() - began < 10
        assert samples(await site.told(member)) == {}

        with open_journal(tmp_path / "second", "hub-0") as journal:
            for recorded in made[300:]:
                journal.append(recorded.event, recorded.timestamp)
            assert journal.flush(10)
            async with shipping(replace(settings, journal=tmp_path / "second")) as (_, statuses):
                await statuses.position(journal.appended)
        await site.until_told(expected(made[300:]))
        assert await readiness(member) == 200

        # At once: gone and there again between two looks.
        await delete_topic(settings.kafka)
        async with shipping(replace(settings, journal=tmp_path / "journal")) as (_, statuses):
            await statuses.state("rewound")
            await statuses.position(300)
        await site.until_told(expected(made[:300]))
        assert member.errors == []
    finally:
        await site.close()


async def readiness(member: Command) -> int:
    """Status of its /readyz."""
    url = (await member.line("serve.ready"))["url"].replace("/metrics", "/readyz")
    async with httpx2.AsyncClient() as client:
        return (await client.get(url, timeout=30)).status_code


async def test_tail_goes_on_with_the_topic_made_anew(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """It tells what happens on standard error, waits, and reads from the beginning."""
    settings = settings_for(kafka, topic, tmp_path / "0")
    written: list[Recorded] = []
    tail: Command | None = None
    try:
        for number in range(3):
            folder = tmp_path / str(number)
            with open_journal(folder, f"hub-{number}") as journal:
                written += write(journal, events(100 + 50 * number))
            async with shipping(replace(settings, journal=folder)) as (_, statuses):
                await statuses.position(100 + 50 * number)
            arguments = ("spnlog", "tail", "--all", "--json", "--last", "1000", f"kafka://{kafka.bootstrap}/{topic}")
            tail = tail or await Command.start("tail", *arguments)
            async with asyncio.timeout(60):
                while len(tail.lines) < len(written):
                    assert tail.running, tail.transcript()
                    await asyncio.sleep(0.05)
            assert [line["eventId"] for line in tail.lines] == [str(recorded.event_id) for recorded in written]
            await delete_topic(settings.kafka)
            if number == 0:
                # The second time it is there again before anybody looks, perhaps.
                async with asyncio.timeout(15):
                    while not tail.errors:
                        await asyncio.sleep(0.05)
                assert tail.errors == [f"spnlog: kafka://{kafka.bootstrap}/{topic}: there is no topic {topic}"]
    finally:
        if tail is not None:
            await tail.close()


async def test_a_topic_that_goes_while_it_is_read_is_an_error_soon(
    kafka: KafkaBroker, topic: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within seconds, and not after the half minute for which a silent broker is waited for."""
    settings = settings_for(kafka, topic, tmp_path)
    # Small batches, so that most of it isn't fetched yet when the first event is there.
    await create_topic(settings.kafka, max_message_bytes="3000")
    with open_journal(tmp_path) as journal:
        write(journal, events(3000))
        async with shipping(settings) as (_, statuses):
            await statuses.position(3000)

    def in_pieces(source: KafkaSettings) -> dict[str, Any]:
        return client_arguments(source) | {"max_partition_fetch_bytes": 4000}

    monkeypatch.setattr(kafka_source, "client_arguments", in_pieces)
    began = 0.0
    with pytest.raises(SourceError, match="the topic was deleted while it was read"):
        source = KafkaSource(settings.kafka)
        async with source:
            async for _ in source.records():
                if not began:
                    await delete_topic(settings.kafka)
                    began = time.monotonic()
    assert 0 < time.monotonic() - began < 20

    with open_journal(tmp_path / "again") as journal:
        write(journal, events(10))
        async with shipping(replace(settings, journal=tmp_path / "again")) as (_, statuses):
            await statuses.position(10)
    with pytest.raises(SourceError, match="the topic was deleted while it was read"):
        async with KafkaSource(settings.kafka) as source:
            await delete_topic(settings.kafka)
            began = time.monotonic()
            async for _ in source.records():
                pass
    assert time.monotonic() - began < 20
