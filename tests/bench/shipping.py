"""How many events one core ships: a journal as churn leaves it, the shipper's process, a real broker."""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.kafka.settings import KafkaSettings, ShipperSettings, ShipperStatus
from tests.bench.harness import Result, broker
from tests.bench.processes import cpu
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import events

__all__ = ["Run", "ship", "shipping", "write"]

_BATCH = 1000


@dataclass(frozen=True)
class Run:
    """One journal shipped."""

    cpu: float
    """Seconds of the shipper's process, from its connection to its end."""
    wall_us: float
    """Seconds from its connection to the last acknowledgement."""


def write(folder: Path, count: int) -> int:
    """A journal with so many events, snapshots of its segments besides; its last sequence."""
    with Journal.open(folder, "hub-1", options=JournalOptions(sync_interval=None)) as journal:
        moment = time.time_ns() // 1000
        for place, event in enumerate(events(count)):
            journal.append(event, moment + place)
            if place % _BATCH == _BATCH - 1:
                journal.flush(30)
        journal.flush(30)
        return journal.appended


def ship(folder: Path, kafka: KafkaBroker) -> Run:
    """Have a shipper of its own process ship all of it to a topic of its own, and leave."""
    topic = f"spn.bench.{uuid.uuid4().hex[:12]}"
    settings = ShipperSettings(
        journal=folder, kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic), drain=600.0
    )
    command = [sys.executable, "-P", "-m", "spnhub.events.shipper.shipper"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(settings.to_json().encode() + b"\n")
        process.stdin.close()  # ships what is there, and leaves
        began = used = end = 0.0
        last = ShipperStatus(state="starting")
        for line in process.stdout:
            last = ShipperStatus.from_json(line)
            if last.state == "connected" and not began:
                began, used = time.monotonic(), cpu(process.pid)
            end = time.monotonic()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode or last.state != "left" or last.reason:
        raise RuntimeError(f"the shipper ended with {process.returncode}, {last}")
    return Run(usage.ru_utime + usage.ru_stime - used, end - began)


async def shipping(count: int, rounds: int) -> list[Result]:
    """Events per CPU second of the shipper, and per second. Nothing without a broker."""
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder)
        async with broker() as kafka:
            if kafka is None:
                return []
            total = await asyncio.to_thread(write, journal, count)
            for _ in range(rounds + 1):
                runs.append(await asyncio.to_thread(ship, journal, kafka))
                for position in journal.glob("shipped-*"):
                    position.unlink()
    runs = runs[1:]  # the first one warms the broker
    by_core = [total / run.cpu for run in runs]
    by_clock = [total / run.wall_us for run in runs]
    detail = f"{total} events, {rounds} runs from {min(by_core):.0f} to {max(by_core):.0f}"
    return [
        Result("events shipped per CPU second of the shipper", statistics.median(by_core), "1/s", detail=detail),
        Result("events shipped per second, journal to acknowledgement", statistics.median(by_clock), "1/s"),
    ]
