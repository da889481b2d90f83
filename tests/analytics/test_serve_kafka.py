"""``spnlog serve`` on a real topic: processes share the partitions, come and go, and together tell the whole."""

from __future__ import annotations

import asyncio
import random
import re
import signal
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from spnhub.analytics.totals import Total
from spnhub.events.analysis.metrics import LogMetrics
from spnhub.events.model import Recorded
from spnhub.exposition import text
from tests.events.histories import History
from tests.support.command import Command
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import open_journal, settings_for, shipping

pytestmark = [pytest.mark.kafka, pytest.mark.system]

Samples = dict[tuple[str, ...], float]


def samples(exposition: str) -> Samples:
    """What is told of the log, by name and labels; not how far a process is."""
    found: Samples = {}
    for family in text_string_to_metric_families(exposition):
        if family.name.startswith("process_"):
            continue
        if "partition" in str(family.samples[:1]) or family.name.endswith(("_timestamp_seconds", "_journal_sequence")):
            continue
        for sample in family.samples:
            if sample.value:
                found[sample.name, *(f"{name}={value}" for name, value in sorted(sample.labels.items()))] = sample.value
    return added(found)


def added(*parts: Samples) -> Samples:
    """The sums. Those of seconds depend on the order in which they are added."""
    total: Samples = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return {name: round(value, 3) for name, value in total.items()}


def expected(events: list[Recorded]) -> Samples:
    """As one process tells it that read everything."""
    metrics = LogMetrics(since_start=True)
    metrics.apply_all(events)
    return samples(text(Total([metrics], ()).metrics()).decode())


def ready(exposition: str) -> list[str]:
    """Partitions that a process has."""
    return re.findall(r'partition_ready\{partition="(\d+)"\} 1', exposition)


class Site:
    """Some ``spnlog serve`` of one group."""

    def __init__(self, kafka: KafkaBroker, topic: str) -> None:
        self.source = f"kafka://{kafka.bootstrap}/{topic}"
        self.group = topic
        self.members: list[Command] = []

    async def join(self) -> Command:
        """Start one more."""
        arguments = ("serve", "--json", "--listen", "127.0.0.1:0", "--group", self.group, self.source)
        member = await Command.start(f"serve {len(self.members)}", "spnlog", *arguments)
        self.members.append(member)
        await member.line("serve.ready")
        return member

    async def told(self, member: Command) -> str:
        """Its /metrics."""
        url = (await member.line("serve.ready"))["url"]
        async with httpx2.AsyncClient() as client:
            return (await client.get(url, timeout=30)).text

    async def together(self) -> Samples:
        """What all members tell."""
        return added(*[samples(await self.told(member)) for member in self.members])

    async def until_told(self, wanted: Samples, timeout: float = 60.0) -> None:
        """Wait until the members tell exactly this."""
        found: Samples = {}
        try:
            async with asyncio.timeout(timeout):
                while (found := await self.together()) != wanted:
                    await asyncio.sleep(0.1)
        except TimeoutError:
            transcripts = "\n".join(member.transcript() for member in self.members)
            wrong = {
                name: (wanted.get(name), found.get(name))
                for name in wanted | found
                if wanted.get(name) != found.get(name)
            }
            raise AssertionError(f"wanted and found: {wrong}\n{transcripts}") from None

    async def close(self) -> None:
        """End all."""
        for member in self.members:
            await member.close()


async def test_members_come_and_go(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """One, then two, then one is killed: at every rest the sums are those of the log, and every event counts once."""
    made = History(random.Random(7), hubs=1, services=12).run(3000).events
    site = Site(kafka, topic)
    try:
        with open_journal(tmp_path, "hub-0") as journal:

            def write(events: list[Recorded]) -> list[Recorded]:
                written = [journal.append(recorded.event, recorded.timestamp) for recorded in events]
                assert journal.flush(10)
                return written

            written = write(made[:1000])
            async with shipping(settings_for(kafka, topic, tmp_path)) as (_, statuses):
                await statuses.position(journal.appended)
                first = await site.join()
                await site.until_told(expected(written))
                second = await site.join()
                written += write(made[1000:])
                await second.until(lambda: bool(second.said("serve.partition_ready")), "a partition")
                await statuses.position(journal.appended)
                await site.until_told(expected(written))
                shares = [ready(await site.told(member)) for member in site.members]
                assert sorted(shares[0] + shares[1]) == [str(number) for number in range(6)]
                assert all(shares)
                await second.kill()
                site.members.remove(second)
                # Its partitions come to the one that is left, which reads them from their beginning.
                await site.until_told(expected(written))
                third = await site.join()
                await site.until_told(expected(written))
                # The leaver's go at once: it says goodbye.
                assert await first.stop(signal.SIGTERM) == 0
                site.members.remove(first)
                await site.until_told(expected(written))
                assert third.errors == []
    finally:
        await site.close()
