"""What ``spnlog serve`` tells of a hub is what the hub tells of itself, run by run, however it is ended."""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.hub.reloading import ReloadWorld
from tests.support.command import Command
from tests.support.kafka import KafkaBroker
from tests.support.tcp import Ending, TcpPeer, TcpServer
from tests.support.world import Consumer

pytestmark = [pytest.mark.kafka, pytest.mark.system]

Sample = tuple[str, ...]
Samples = dict[str, dict[Sample, float]]
"""By family, without its prefix; each sample by its name and labels."""

ONLY_THE_HUB = {
    "certificate_expiry_days": "of its own certificates, which the log has no dates of",
    "session_certificate_expiry_days": "of certificates, which the log doesn't hold",
    "crl_age_seconds": "likewise",
    "crl_next_update_seconds": "likewise",
    "crl_revoked_certificates": "likewise",
    "ready": "of the process, which its log doesn't tell",
    "faults": "likewise",
    "actors": "likewise",
    "tasks": "likewise",
    "journal_failing": "likewise",
    "journal_lag_events": "likewise: what isn't in the log yet",
    "journal_bytes": "of its own disk",
    "journal_limit_bytes": "of its own settings",
    "output_dropped_lines": "of this process's own output",
    "shipper_lag_events": "likewise: serve has lag_events, of its own reading",
    "shipper_topic_faults": "of the topic, which says nothing of itself",
    "shipper_up": "likewise",
    "clock_steps": "of this process's own clock",
    "clock_behind_seconds": "likewise",
}
ONLY_SERVE = {
    "bytes_replayed": "takes the legs of all hubs",
    "bytes_unreported": "takes the legs of all hubs",
    "pause_duration_seconds": "takes the legs of all hubs",
    "session_duration_seconds": "a scrape of the hub holds up its traffic, so it has no histograms",
    "connection_duration_seconds": "likewise",
    "service_start_seconds": "likewise",
    "hub_events": "the hub has its sequence, journal_sequence",
    "hub_events_lost": "of the whole log, over all runs",
    "hub_last_event_timestamp_seconds": "a hub that answers is alive",
    "partition_ready": "how far the reader is",
    "partition_offset": "likewise",
    "lag_events": "likewise",
    "event_delay_seconds": "likewise",
    "redelivered": "likewise",
    "unreadable": "likewise",
}


def parsed(exposition: str, prefix: str) -> Samples:
    """Families, without the prefix of their names and the label of the one hub there is."""
    found: Samples = {}
    for family in text_string_to_metric_families(exposition):
        # Those of the process itself, which every Prometheus client has.
        if family.name.startswith("process_"):
            continue
        assert family.name.startswith(prefix)
        values = found[family.name.removeprefix(prefix)] = {}
        for sample in family.samples:
            labels = [f"{name}={value}" for name, value in sorted(sample.labels.items()) if name != "hub"]
            values[sample.name.removeprefix(prefix), *labels] = sample.value
    return found


def added(parts: Sequence[Samples]) -> Samples:
    """What the members of a group tell together."""
    total: Samples = {}
    for name, samples in itertools.chain.from_iterable(part.items() for part in parts):
        values = total.setdefault(name, {})
        for sample, value in samples.items():
            known = values.get(sample, 0.0)
            values[sample] = max(known, value) if name == "journal_sequence" else known + value
    return total


class Site:
    """A hub that ships, traffic of two services, and those who count it."""

    def __init__(self, world: ReloadWorld, *options: str) -> None:
        self.world = world
        self.options = ("--ops", "127.0.0.1:0", "--allow-process", "--progress-interval", "0.2", *options)
        self.serves: dict[str, list[Command]] = {}
        self.agents: dict[str, tuple[Consumer, TcpServer]] = {}

    async def start_hub(self) -> None:
        """One more run."""
        await self.world.start_hub(*self.options)

    async def serve(self, name: str, source: str, count: int = 1) -> None:
        """Some who read this source."""
        arguments = ("serve", "--json", "--listen", "127.0.0.1:0", "--group", name, source)
        self.serves[name] = [await Command.start(f"{name} {number}", "spnlog", *arguments) for number in range(count)]

    async def start_agents(self, service: str) -> None:
        """A provider and a consumer that outlive the hub's runs."""
        server = self.world.serve()
        env = {"SPN_RESUME_TIMEOUT": "20"}
        await self.world.start_provider(server.address, service=service, env=env)
        self.agents[service] = await self.world.start_consumer(service=service, env=env), server

    async def exchange(self, service: str, number: int) -> tuple[TcpPeer, TcpPeer]:
        """A connection that has carried bytes, and stays open."""
        ours, theirs = await self.world.join(*self.agents[service])
        await ours.send(b"x" * number)
        assert await theirs.receive(number) == b"x" * number
        await theirs.send(b"y" * 2 * number)
        assert await ours.receive(2 * number) == b"y" * 2 * number
        return ours, theirs

    async def finish(self, peers: tuple[TcpPeer, TcpPeer]) -> None:
        """End it in order."""
        for peer in peers:
            peer.finish()
        for peer in peers:
            assert (await peer.receive_all())[1] is Ending.FIN

    async def churn(self) -> None:
        """Ends and a reload."""
        for number, service in enumerate(self.agents, 1):
            for times in range(1, 4):
                await self.finish(await self.exchange(service, 100 * number + times))
        await self.world.renew()

    async def refuse(self) -> None:
        """Refusals: of who may not, and of a service that there isn't."""
        stranger = await self.world.start_consumer(credentials=self.world.authority.client("nobody"), wait=False)
        nothing = await self.world.start_consumer(service="nothing", wait=False)
        assert [await one.command.wait() for one in (stranger, nothing)] == [1, 1]

    async def told(self) -> tuple[Samples, dict[str, Samples]]:
        """By the hub, and by those who count."""
        async with httpx2.AsyncClient(verify=False, timeout=30) as client:
            hub = parsed((await client.get(f"{await self.world.ops()}/metrics")).text, "spnhub_")
            found: dict[str, Samples] = {}
            for name, members in self.serves.items():
                urls = [(await member.line("serve.ready"))["url"] for member in members]
                found[name] = added([parsed((await client.get(url)).text, "spnlog_") for url in urls])
        return hub, found

    async def equal(self, **sums: int) -> None:
        """Once the hub's families have these sums, and its last event is read: what both have is the same."""
        try:
            async with asyncio.timeout(30):
                while True:
                    before = await self.told()
                    hub, found = await self.told()
                    last = hub["journal_sequence"]
                    read = all(one["journal_sequence"] == last for one in found.values())
                    same = all(
                        one[family] == hub[family] for one in found.values() for family in hub.keys() & one.keys()
                    )
                    # A partition that changes hands is counted by both members, or by neither, for a moment.
                    if read and same and hub == before[0] and sums == {name: sum(hub[name].values()) for name in sums}:
                        break
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{sums}, read up to {last}\nhub: {hub}\nserve: {found}") from None
        for one in found.values():
            assert hub.keys() - one.keys() == ONLY_THE_HUB.keys()
            assert one.keys() - hub.keys() == ONLY_SERVE.keys()

    async def end(self) -> None:
        """Those who count have nothing to complain of."""
        for member in itertools.chain.from_iterable(self.serves.values()):
            assert await member.stop(signal.SIGTERM) == 0
            assert (member.errors, member.said("serve.unreadable")) == ([], [])

    async def close(self) -> None:
        """Leave nothing behind."""
        for member in itertools.chain.from_iterable(self.serves.values()):
            await member.close()


async def test_every_run(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """While things are open and after, from the journal and from Kafka by two members; killed, stopped, begun anew."""
    async with ReloadWorld(tmp_path, services=("web", "mail")) as world:
        site = Site(world, "--kafka", kafka.bootstrap, "--topic", topic)
        try:
            await site.start_hub()
            await site.serve("journal", str(world.journal))
            await site.serve(topic, f"kafka://{kafka.bootstrap}/{topic}", 2)
            await asyncio.gather(*(site.start_agents(service) for service in world.services))
            kept = await site.exchange("web", 5000)
            await site.equal(sessions=4, connections=1, bytes=15_000)
            await site.churn()
            await site.refuse()
            await site.equal(connections=1, connections_ended=6, sessions_refused=2, reloads=1)

            for end in (signal.SIGKILL, signal.SIGTERM):
                await world.hub.stop(end)
                await site.start_hub()
                # It goes on in another leg.
                await kept[0].send(b"more")
                assert await kept[1].receive(4) == b"more"
                await site.equal(
                    sessions=4, connections_started=1, connections_resumed=1, connections_ended=0, reloads=0
                )
            await site.churn()
            await site.finish(kept)
            await site.equal(connections=0, connections_ended=7, reloads=1)
            await site.end()
        finally:
            await site.close()
