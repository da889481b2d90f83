"""What the event log costs a hub: connections at a fixed rate, with journal and Kafka, and without.

Where the machine can't keep up with the rate, connections come as fast as it can; the rate that it kept is told.

Four hubs stand side by side and get the same traffic in turns, so that what disturbs the machine disturbs all. Each is
judged by its CPU time: its process, and its shipper, which is a process of its own. What is counted begins before a
turn's first connection and ends when all its events are in Kafka (or would be: every hub gets the same time).
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from spnhub.events.journal.shipped_position import PositionFile
from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint
from tests.bench.harness import Bench, Result, bench, broker, echo, open_and_close
from tests.bench.processes import children, cpu, main_thread_cpu
from tests.bench.unlogged_hub import SILENT
from tests.support.kafka import KafkaBroker

__all__ = ["event_cost"]

_TOPIC = "spn.events"
_SETTLE = 1.5
"""Seconds after a turn in which its last events are written, synced and shipped."""
_UNLOGGED = ("python", "-m", "tests.bench.unlogged_hub")

SILENT_HUB = "no log, no lines"
OFF = "both off"
JOURNAL = "journal"
BOTH = "journal and Kafka"


@dataclass(frozen=True)
class Cost:
    """CPU seconds of one turn."""

    rate: float
    """Connections that have begun and ended in a second."""
    loop: float
    """The hub's main thread."""
    threads: float
    """The hub's other threads: the journal's."""
    shipper: float

    @property
    def hub(self) -> float:
        """The hub's process."""
        return self.loop + self.threads

    @property
    def all(self) -> float:
        """Hub and shipper."""
        return self.hub + self.shipper


class Candidate:
    """One of the hubs with its endpoints."""

    def __init__(self, one: Bench, consumer: ConsumerEndpoint, *, ships: bool) -> None:
        self._one = one
        self._consumer = consumer
        self._ships = ships

    async def turn(self, rate: float, seconds: float) -> Cost:
        """Connections at ``rate`` for so long, each a few bytes there and back."""
        pid = self._one.hub.pid
        before = self._used(pid)
        begin = time.monotonic()
        tasks = []
        for number in range(round(rate * seconds)):
            await asyncio.sleep(begin + number / rate - time.monotonic())
            tasks.append(asyncio.ensure_future(open_and_close(self._consumer)))
        await asyncio.gather(*tasks)
        kept = len(tasks) / (time.monotonic() - begin)
        await asyncio.sleep(_SETTLE)
        if self._ships:
            await self._shipped()
        loop, process, shipper = (after - then for after, then in zip(self._used(pid), before, strict=True))
        return Cost(kept, loop, max(0.0, process - loop), shipper)

    def _used(self, pid: int) -> tuple[float, float, float]:
        return main_thread_cpu(pid), cpu(pid), sum(map(cpu, children(pid)))

    async def _shipped(self) -> None:
        """All that the hub has printed is in Kafka."""
        wanted = max(int(line.get("sequence", 0)) for line in self._one.hub.lines)
        file = PositionFile(self._one.world.journal, _TOPIC)
        async with asyncio.timeout(60):
            while (saved := file.load()) is None or saved.sequence < wanted:
                await asyncio.sleep(0.05)


@asynccontextmanager
async def _candidate(kafka: KafkaBroker | None, name: str) -> AsyncIterator[Candidate]:
    options: tuple[str, ...] = ()
    program: tuple[str, ...] = ("spnhub",)
    if name == BOTH:
        assert kafka is not None
        options = ("--kafka", kafka.bootstrap, "--topic", _TOPIC)
    elif name == OFF:
        program = _UNLOGGED
    elif name == SILENT_HUB:
        program = (*_UNLOGGED, SILENT)
    async with bench(*options, program=program) as one:
        await one.provider(echo)
        consumer = await one.consumer()
        await open_and_close(consumer)
        if name == BOTH:
            await one.hub.line("shipper.connected")
        yield Candidate(one, consumer, ships=name == BOTH)


async def event_cost(rate: float, seconds: float, rounds: int) -> list[Result]:
    """CPU of the hub with journal and Kafka over its CPU with neither; and what makes it up, printed as a table."""
    async with AsyncExitStack() as stack:
        kafka = await stack.enter_async_context(broker())
        names = [SILENT_HUB, OFF, JOURNAL] + ([] if kafka is None else [BOTH])
        hubs = {name: await stack.enter_async_context(_candidate(kafka, name)) for name in names}
        for candidate in hubs.values():  # caches fill, and what is made once is made
            await candidate.turn(rate, 1.0)
        costs: dict[str, list[Cost]] = {name: [] for name in names}
        for number in range(rounds):
            for name in names if number % 2 else reversed(names):
                costs[name].append(await hubs[name].turn(rate, seconds))
    return _results(costs, round(rate * seconds), rate)


def _results(costs: dict[str, list[Cost]], count: int, rate: float) -> list[Result]:
    def middle(name: str, part: str) -> float:
        return float(statistics.median(getattr(cost, part) for cost in costs[name]))

    at = f"at {rate:g} connections/s" + (f" ({kept:.0f} kept)" if (kept := middle(OFF, "rate")) < 0.9 * rate else "")
    print(f"hub CPU {at}, ms a connection (median of {len(costs[OFF])} x {count} connections)")
    print(f"{'':<20}{'event loop':>12}{'threads':>10}{'shipper':>10}{'all':>10}{'hub / off':>12}{'all / off':>12}")
    for name in costs:
        parts = [middle(name, part) * 1000 / count for part in ("loop", "threads", "shipper", "all")]
        ratios = [middle(name, part) / middle(OFF, "hub") for part in ("hub", "all")]
        print(
            f"{name:<20}{parts[0]:>12.3f}{parts[1]:>10.3f}{parts[2]:>10.3f}{parts[3]:>10.3f}"
            f"{ratios[0]:>12.2f}{ratios[1]:>12.2f}"
        )

    def over_off(name: str, part: str, what: str, most: float | None = None) -> Result:
        each = [getattr(mine, part) / off.hub for mine, off in zip(costs[name], costs[OFF], strict=True)]
        spread = f"rounds {min(each):.2f} to {max(each):.2f}"
        return Result(f"{what}, {at}", statistics.median(each), "ratio", most, spread, at_most=True)

    found = [over_off(JOURNAL, "hub", "hub CPU, journal over both off", 1.15)]
    if BOTH in costs:
        found += [
            over_off(BOTH, "hub", "hub CPU, journal and Kafka over both off", 1.15),
            over_off(BOTH, "all", "the same with the shipper's process"),
        ]
    return found
