"""``spnlog`` on a real topic: what it prints there is what it prints of the journal."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest

from tests.events.samples import day
from tests.events.test_spnlog import lines, spnlog, start
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import open_journal, settings_for, shipping, write

pytestmark = [pytest.mark.kafka, pytest.mark.system]


async def test_kafka_and_journal_tell_the_same(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """replay, verify and tail, from the journal and from Kafka, and from both at once."""
    folder = tmp_path / "journal"
    source = f"kafka://{kafka.bootstrap}/{topic}"
    with open_journal(folder) as journal:
        write(journal, day())
        async with shipping(settings_for(kafka, topic, folder)) as (_, statuses):
            await statuses.position(journal.appended)
        here, there, both = await asyncio.gather(
            spnlog("replay", "--all", str(folder)),
            spnlog("replay", "--all", source),
            spnlog("replay", "--all", str(folder), source),
        )
        assert here[0] == 0 and len(lines(here[1])) == len(day())
        assert there == here
        assert both == here  # the second copy of an event is the same event
        for command in (
            ("metrics", "--json"),
            ("metrics", "--json", "--by", "hour"),
            ("state", "--json", "--at", "4"),
            ("explain", "--json", "c1"),
        ):
            of_journal, of_topic = await asyncio.gather(spnlog(*command, str(folder)), spnlog(*command, source))
            assert of_topic == of_journal and of_journal[0] == 0
        status, out, err = await spnlog("verify", "--json", source)
        assert (status, json.loads(out)["clean"], err) == (0, True, "")
        tail = await start("tail", "--json", "--all", source)
        assert tail.stdout is not None
        async with asyncio.timeout(60):
            told = [json.loads(await tail.stdout.readline()) for _ in range(min(10, len(day())))]
        tail.send_signal(signal.SIGINT)
        await tail.communicate()
        assert told == lines(here[1])[-len(told) :]
