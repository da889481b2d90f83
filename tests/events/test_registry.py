"""A schema registry: its ids in the topic, nothing shipped before they are known, versions that meet on real data."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastavro
import httpx
import pytest
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette

from spnhub.events import model
from spnhub.events.kafka import KafkaSource
from spnhub.events.kafka_settings import KafkaSettings, ShipperSettings
from spnhub.events.model import ConnectionEnded
from spnhub.events.registry import RegistryUnavailable, fetch, register
from spnhub.ops.registry import registry_routes
from spnhub.schemas import codec
from tests.events.samples import published
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import create_topic, events, open_journal, read_raw, read_topic, shipping, write
from tests.support.registry import TestRegistry


@pytest.fixture
def registry() -> Iterator[TestRegistry]:
    """One that answers."""
    with TestRegistry() as found:
        yield found


async def test_registering(registry: TestRegistry) -> None:
    """Each schema under its record's name; a second time changes nothing."""
    ids = await register(registry.url)
    assert await register(registry.url) == ids
    assert ids.keys() == {number for versions in codec.EVENT_IDS.values() for number in versions.values()}
    assert registry.subjects.keys() == {f"spn.event.{name}" for name in codec.EVENT_IDS}
    number = codec.EVENT_IDS["SessionStarted"][1]
    assert json.loads(await fetch(registry.url, ids[number])) == json.loads(codec.event_schema_text(number))


async def test_what_goes_wrong_is_named_without_the_password(registry: TestRegistry) -> None:
    """Refused, unknown, and nobody there."""
    registry.available = False
    secret = registry.url.replace("http://", "http://me:secret@")
    with pytest.raises(RegistryUnavailable) as caught:
        await register(secret)
    path = "/subjects/spn.event.SessionStarted/versions"
    assert str(caught.value) == (
        f"schema registry {registry.url}: POST {path} was answered with 503 it is closed today"
    )
    registry.available = True
    assert await fetch(registry.url, 1) is None
    with pytest.raises(RegistryUnavailable, match="GET /schemas/ids/1 was answered with 404 no such thing"):
        await fetch(f"{registry.url}/elsewhere", 1)
    with pytest.raises(RegistryUnavailable, match=r"schema registry http://127.0.0.1:1: "):
        await fetch("http://127.0.0.1:1", 1)


async def test_the_hub_is_one_for_readers() -> None:
    """Ids, subjects and versions lead to each other; what isn't there has Confluent's error codes."""
    transport = httpx.ASGITransport(Starlette(routes=registry_routes()))
    async with httpx.AsyncClient(transport=transport, base_url="http://hub") as client:

        async def get(path: str) -> Any:
            return (await client.get(path)).json()

        assert await get("/schemas/types") == ["AVRO"]
        for subject in await get("/subjects"):
            (version,) = await get(f"/subjects/{subject}/versions")
            found = await get(f"/subjects/{subject}/versions/latest")
            assert (found["subject"], found["version"]) == (subject, version)
            assert await get(f"/subjects/{subject}/versions/{version}") == found
            assert await get(f"/schemas/ids/{found['id']}") == {"schema": found["schema"]}
            assert await get(f"/schemas/ids/{found['id']}/schema") == json.loads(found["schema"])
            assert await get(f"/schemas/ids/{found['id']}/versions") == [{"subject": subject, "version": version}]
            assert await get(f"/subjects/{subject}/versions/{version}/schema") == json.loads(found["schema"])
            schema = json.loads(found["schema"])
            assert f"{schema['namespace']}.{schema['name']}" == subject
        assert await get("/config") == {"compatibilityLevel": "FULL_TRANSITIVE"}
        codes = {
            "/schemas/ids/9999": 40403,
            "/schemas/ids/9999/schema": 40403,
            "/schemas/ids/9999/versions": 40403,
            "/subjects/spn.event.Nothing/versions": 40401,
            "/subjects/other.SessionStarted/versions/1": 40401,
            "/subjects/spn.event.SessionStarted/versions/2": 40402,
        }
        for path, code in codes.items():
            answer = await client.get(path)
            assert (answer.status_code, answer.json()["error_code"]) == (404, code)


def settings_with(kafka: KafkaBroker, topic: str, folder: Path, registry: TestRegistry) -> ShipperSettings:
    """From a journal to a topic with that registry's ids."""
    settings = KafkaSettings(bootstrap_servers=kafka.bootstrap, topic=topic, schema_registry=registry.url)
    return ShipperSettings(journal=folder, kafka=settings, backoff=0.5, stall=0.5)


@pytest.mark.kafka
@pytest.mark.system
async def test_nothing_is_shipped_before_the_ids_are_known(
    kafka: KafkaBroker, topic: str, tmp_path: Path, registry: TestRegistry
) -> None:
    """The shipper says why it waits; then the registry's ids are in the topic, and readers that ask it read all.

    A reader without our code that has ClickHouse's Avro gets the same bytes by service, if chDB is installed.
    """
    registry.available = False
    settings = settings_with(kafka, topic, tmp_path, registry)
    with open_journal(tmp_path) as journal:
        written = write(journal, events(400))
        async with shipping(settings) as (_, statuses):
            waiting = await statuses.state("unreachable")
            assert waiting.position == 0
            assert "it is closed today" in waiting.reason
            registry.available = True
            await statuses.position(journal.appended)
    assert [recorded for _, recorded in await read_topic(settings.kafka)] == written
    frames = [value for *_, value, _ in await read_raw(settings.kafka)]
    assert {codec.event_schema_id(frame) for frame in frames} <= set(registry.ids.values())

    expected: Counter[str] = Counter()
    for recorded in written:
        if isinstance(recorded.event, ConnectionEnded):
            expected[recorded.event.service_urn] += recorded.event.total_sent_bytes
    chdb = pytest.importorskip("chdb", reason="chDB is not installed: no foreign engine has read the topic")
    path = tmp_path / "frames"
    path.write_bytes(b"".join(frames))
    answer = chdb.query(
        "SELECT serviceUrn, sum(totalSentBytes) AS bytes"
        f" FROM file('{path}', 'AvroConfluent', 'eventType String, serviceUrn String, totalSentBytes Int64')"
        " WHERE eventType = 'endSpnConnection' GROUP BY serviceUrn"
        f" SETTINGS format_avro_schema_registry_url = '{registry.url}', input_format_avro_allow_missing_fields = 1",
        "JSONEachRow",
    )
    rows = [json.loads(line) for line in str(answer).splitlines()]
    assert {row["serviceUrn"]: int(row["bytes"]) for row in rows} == dict(expected)


def later_version(number: int) -> dict[str, Any]:
    """A schema as a later release may have it: a field more."""
    made: dict[str, Any] = json.loads(codec.event_schema_text(number))
    made["fields"].append({"name": "laterThing", "type": ["null", "string"], "default": None})
    return made


@pytest.mark.kafka
@pytest.mark.system
async def test_old_and_new_meet_in_one_topic(
    kafka: KafkaBroker, topic: str, tmp_path: Path, registry: TestRegistry
) -> None:
    """Every event of now and of a later release, in a real topic: this reader reads both, so does that release's."""
    settings = settings_with(kafka, topic, tmp_path, registry).kafka
    await create_topic(settings)
    ids = await register(registry.url)
    recorded = published()
    sent: list[bytes] = []
    for one in recorded:
        name = type(one.event).__name__
        number = codec.EVENT_IDS[name][1]
        sent.append(codec.with_schema_id(model.encode(one), ids[number]))
        later = later_version(number)
        data = io.BytesIO()
        fastavro.schemaless_writer(data, fastavro.parse_schema(later), model.to_record(one) | {"laterThing": "x"})
        foreign = registry.register(f"spn.event.{name}", json.dumps(later))
        sent.append(codec.with_schema_id(b"\0\0\0\0\0" + data.getvalue(), foreign))
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for frame in sent:
            await producer.send(topic, frame, partition=0)
    async with KafkaSource(settings) as source:
        found = [one async for _, one in source.records()]
        assert source.unreadable == []
    assert sorted(found, key=lambda one: one.sequence) == sorted([*recorded, *recorded], key=lambda one: one.sequence)

    texts = {number: text for text, number in registry.ids.items()}
    for *_, frame, _ in await read_raw(settings):
        writer = json.loads(texts[codec.event_schema_id(frame)])
        reader = later_version(codec.EVENT_IDS[writer["name"]][1])
        record = fastavro.schemaless_reader(
            io.BytesIO(frame[5:]), fastavro.parse_schema(writer), fastavro.parse_schema(reader)
        )
        assert isinstance(record, dict)
        is_later = any(field["name"] == "laterThing" for field in writer["fields"])
        assert record["laterThing"] == ("x" if is_later else None)
