"""An engine without our code decodes what is in the topic, with the schemas of a hub's ``--ops``, and answers the same.

ClickHouse (chDB) with the table and the query of ``compose``; its own Kafka engine doesn't run inside of chDB, so the
messages' values come to it as a file, just as they are.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from spnhub.events.model import ConnectionEnded, ConnectionFinished, Recorded
from spnhub.http_server import HttpServer
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress
from tests.compose.test_queries import QUERIES, Engine
from tests.events.histories import History
from tests.support.command import run
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import open_journal, read_raw, settings_for, shipping

pytestmark = [pytest.mark.kafka, pytest.mark.system]


def never() -> Any:
    """What a registry's readers don't ask for."""
    raise AssertionError("the state isn't asked for")


async def ship(kafka: KafkaBroker, topic: str, folder: Path, made: list[Recorded]) -> None:
    """A journal for each hub, all to one topic; the last of them twice, as after a lost position."""
    for hub_id, events in itertools.groupby(sorted(made, key=lambda one: one.hub_id), lambda one: one.hub_id):
        journal_folder = folder / hub_id
        with open_journal(journal_folder, hub_id) as journal:
            for recorded in events:
                journal.append(recorded.event, recorded.timestamp)
            assert journal.flush(10)
            settings = settings_for(kafka, topic, journal_folder)
            async with shipping(settings) as (_, statuses):
                await statuses.position(journal.appended)
            appended = journal.appended
    (journal_folder / f"shipped-{topic}.json").unlink()
    async with shipping(settings) as (_, statuses):
        await statuses.position(appended)


def engine_rows(folder: Path, frames: list[bytes], registry: str) -> list[dict[str, Any]]:
    """What the engine answers."""
    engine = Engine(folder, frames, registry)
    try:
        return engine.rows(QUERIES["bytes_by_service_and_hour"])
    finally:
        engine.close()


async def test_bytes_by_service_and_hour(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """Equal to ``spnlog metrics --by hour --json`` of the topic, row by row: resumed legs, crashes, redeliveries."""
    made = History(random.Random(11), hubs=3, services=3).run(2500).events
    resumed = [one.event for one in made if isinstance(one.event, ConnectionEnded) and one.event.epoch]
    finished = [one for one in made if isinstance(one.event, ConnectionFinished)]
    assert len(resumed) > 20 and len(finished) > 5
    await ship(kafka, topic, tmp_path, made)
    ops = Ops(lambda: True, never, lambda: Progress(0, 0, None), HubMetrics(), lambda: 0)
    server = HttpServer(ops.application(), "--ops")
    registry = await server.start("127.0.0.1", 0)
    try:
        frames = [value for *_, value, _ in await read_raw(settings_for(kafka, topic, tmp_path).kafka)]
        assert len(frames) > len(made)
        rows = await asyncio.to_thread(engine_rows, tmp_path, frames, registry)
    finally:
        await server.close()
    found = [
        {
            "hour": row["hour"].replace(" ", "T") + ".000000Z",
            "realm": row["realm"],
            "serviceUrn": row["service"],
            "totalSentBytes": int(row["sentBytes"]),
            "totalReceiveBytes": int(row["receivedBytes"]),
        }
        for row in rows
    ]
    status, out, err = await run("spnlog", "metrics", "--by", "hour", "--json", f"kafka://{kafka.bootstrap}/{topic}")
    assert (status, err) == (0, "")
    assert found == json.loads(out)["hours"]
    assert len({row["hour"] for row in found}) > 5
    assert len({row["serviceUrn"] for row in found}) == 3
