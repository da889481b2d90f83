"""The shipper against a real broker: everything arrives, in order per key, and can be read back."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from spnhub.events import model
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.shipped_position import shipped_sequence
from spnhub.events.kafka.settings import KafkaSettings, ShipperSettings
from spnhub.events.model import EventsLost, HubStarted, Recorded
from tests.events.samples import happened, killed
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import (
    events,
    open_journal,
    read_raw,
    read_topic,
    settings_for,
    shipping,
    unique,
    write,
)

pytestmark = [pytest.mark.kafka, pytest.mark.system]


@pytest.fixture
def settings(kafka: KafkaBroker, topic: str, journal: Journal) -> ShipperSettings:
    """From that journal to a topic of this test's own."""
    return settings_for(kafka, topic, journal.folder)


async def test_everything_arrives(journal: Journal, settings: ShipperSettings) -> None:
    """Frames, keys and headers are the journal's, order holds per key, and nothing comes twice."""
    written = write(journal, events(3000))
    async with shipping(settings) as (_, statuses):
        written += write(journal, events(500, seed=1))
        await statuses.position(journal.appended)
    raw = await read_raw(settings.kafka)
    expected: dict[bytes, list[tuple[bytes, dict[str, bytes]]]] = defaultdict(list)
    for recorded in written:
        key = getattr(recorded.event, "service_urn", None) or recorded.event.realm or recorded.hub_id
        headers = {"eventId": str(recorded.event_id).encode(), "eventType": recorded.event.event_type.encode()}
        expected[key.encode()].append((model.encode(recorded), headers))
    found: dict[bytes, list[tuple[bytes, dict[str, bytes]]]] = defaultdict(list)
    for _, _, key_bytes, value, record_headers in raw:
        found[key_bytes].append((value, record_headers))
    assert found == expected
    assert len({partition for partition, *_ in raw}) > 1
    assert statuses.states() == ["connected", "left"]
    assert shipped_sequence(journal.folder) == journal.appended


async def test_a_start_is_in_every_partition(journal: Journal, settings: ShipperSettings) -> None:
    """Once, between what came before and after; for a reader of all of them it is one event."""
    start = HubStarted(realm=None, network_urn=None, version="1", addresses=())
    written = write(journal, [start, *events(300), start, *events(300, seed=1)])
    async with shipping(settings) as (_, statuses):
        await statuses.position(journal.appended)
    starts = [recorded.sequence for recorded in written if recorded.event == start]
    sequences: dict[int, list[int]] = defaultdict(list)
    for partition, _, _, value, _ in await read_raw(settings.kafka):
        sequences[partition].append(model.decode(value).sequence)
    assert len(sequences) == settings.kafka.partitions
    for found in sequences.values():
        assert found == sorted(set(found))
        assert set(starts) <= set(found)
    assert unique(await read_topic(settings.kafka)) == written


async def test_read_back_in_order(journal: Journal, settings: ShipperSettings) -> None:
    """From six partitions the hub's events come back as one sequence."""
    written = write(journal, events(4000))
    async with shipping(settings) as (_, statuses):
        await statuses.position(journal.appended)
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written


async def test_drains_what_is_there(journal: Journal, settings: ShipperSettings) -> None:
    """Told to go while it has hardly begun, the shipper ships the rest first."""
    async with shipping(settings) as (_, statuses):
        await statuses.state("connected")
        written = write(journal, events(5000))
    assert statuses.seen[-1].position == journal.appended
    assert unique(await read_topic(settings.kafka)) == written


async def test_goes_on_where_it_was(journal: Journal, settings: ShipperSettings) -> None:
    """A second shipper sends nothing again that the first has seen acknowledged."""
    written = write(journal, events(300))
    async with shipping(settings) as (_, statuses):
        await statuses.position(journal.appended)
    written += write(journal, events(300, seed=1))
    async with shipping(settings) as (_, statuses):
        await statuses.position(journal.appended)
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written


async def test_one_shipper_at_a_time(journal: Journal, settings: ShipperSettings) -> None:
    """A second shipper of the same journal waits until the first has left."""
    written = write(journal, events(200))
    async with shipping(settings) as (one, first):
        await first.position(journal.appended)
        async with shipping(settings) as (_, second):
            await second.state("waiting")
            await one.stop()
            await second.state("connected")
            written += write(journal, events(200, seed=1))
            await second.position(journal.appended)
    assert second.states() == ["waiting", "connected", "left"]
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written


async def test_waits_for_the_journal(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """Started before the hub has made its journal, it says so and goes on when there is one."""
    kafka_settings = KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic)
    settings = ShipperSettings(journal=tmp_path / "journal", kafka=kafka_settings, backoff=0.2)
    async with shipping(settings) as (_, statuses):
        await statuses.state("unreadable")
        with open_journal(tmp_path / "journal") as journal:
            written = write(journal, events(20))
            await statuses.position(journal.appended)
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written


async def test_unusable_settings(journal: Journal, settings: ShipperSettings) -> None:
    """A TLS file that isn't there ends the shipper with status 2 and a line that says why; it is tried again."""
    wrong = replace(settings.kafka, security_protocol="SSL", ssl_cafile=Path("/nonexistent/ca.pem"))
    async with shipping(replace(settings, kafka=wrong)) as (_, statuses):
        died = await statuses.state("died")
        await statuses.wait(lambda status: status.state == "died" and status is not died)
    assert died.reason.startswith("exit status 2: shipper: the TLS files for Kafka cannot be used")


def fail_power(journal: Journal, last: Recorded) -> None:
    """The last event is shipped, and the disk hasn't got it."""
    journal.close()
    (segment,) = journal.folder.glob("*.segment")
    os.truncate(segment, segment.stat().st_size - len(model.encode(last)) - 8)


async def test_power_failure_of_the_journal(journal: Journal, settings: ShipperSettings) -> None:
    """A journal that has lost events already shipped uses none of their numbers again: the topic has no two events
    with one number, and what it has more than the journal is declared as lost there."""
    before = write(journal, events(50))
    async with shipping(settings) as (_, statuses):
        await statuses.position(50)
    fail_power(journal, before[-1])
    with open_journal(journal.folder) as reopened:
        after = write(reopened, events(3, seed=7))
        async with shipping(settings) as (_, statuses):
            await statuses.position(reopened.appended)
    found = [recorded for _, recorded in await read_topic(settings.kafka)]
    assert happened(found) == [*before, found[50], *after]
    lost = found[50].event
    assert isinstance(lost, EventsLost)
    assert (lost.first_sequence, lost.last_sequence, found[50].sequence) == (50, 50, 51)
    assert [recorded.sequence for recorded in found] == list(range(1, len(found) + 1))


async def test_power_failure_that_took_the_reservation(journal: Journal, settings: ShipperSettings) -> None:
    """Where numbers are used again all the same, that is noticed: nothing is passed over, and both versions are there
    for `verify` to find."""
    before = write(journal, events(50))
    async with shipping(settings) as (_, statuses):
        await statuses.position(50)
    fail_power(journal, before[-1])
    killed(journal.folder)
    with open_journal(journal.folder) as reopened:
        after = write(reopened, events(3, seed=7))
        async with shipping(settings) as (_, statuses):
            await statuses.position(reopened.appended)
    assert [recorded.sequence for recorded in after] == [50, 51, 52]
    assert statuses.states() == ["rewound", "connected", "left"]
    found = {recorded for _, recorded in await read_topic(settings.kafka)}
    assert found == {*before, *after}


async def test_hub_killed(settings: ShipperSettings, journal: Journal) -> None:
    """When the hub's process is killed, its shipper ships what is there and goes."""
    written = write(journal, events(2000))
    code = (
        "import asyncio, sys\n"
        "from spnhub.events.kafka.settings import ShipperSettings\n"
        "from spnhub.events.shipper.process import ShipperProcess\n"
        "async def main():\n"
        "    told = asyncio.Event()\n"
        "    shipper = ShipperProcess(ShipperSettings.from_json(sys.argv[1]), lambda status: told.set())\n"
        "    shipper.start()\n"
        "    await told.wait()\n"
        "    print(shipper.pid, flush=True)\n"
        "    await asyncio.sleep(100)\n"
        "asyncio.run(main())\n"
    )
    hub = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, settings.to_json(), stdout=asyncio.subprocess.PIPE
    )
    assert hub.stdout is not None
    shipper = psutil.Process(int(await hub.stdout.readline()))
    hub.kill()
    await hub.wait()
    await asyncio.to_thread(shipper.wait, 20)
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written
