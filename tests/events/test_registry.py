"""A schema registry: its ids in the topic, nothing shipped before they are known, versions that meet on real data."""

from __future__ import annotations

import asyncio
import io
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import fastavro
import httpx2
import pytest
from aiokafka import AIOKafkaProducer
from starlette.applications import Starlette

from spnhub.events import model
from spnhub.events.analysis.metrics import LogMetrics
from spnhub.events.kafka.group import KafkaGroup
from spnhub.events.kafka.registry import RegistryUnavailable, fetch, register
from spnhub.events.kafka.settings import KafkaSettings, ShipperSettings
from spnhub.events.kafka.source import KafkaSource
from spnhub.events.model import ConnectionEnded, WeightChanged
from spnhub.ops.registry import registry_routes
from spnhub.schemas import codec
from tests.events.samples import published
from tests.schemas.samples import as_told_by
from tests.support.command import run
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import create_topic, events, open_journal, read_raw, read_topic, shipping, write
from tests.support.registry import TestRegistry

pytestmark = pytest.mark.outside


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
    assert json.loads(await fetch(registry.url, ids[number]) or "") == json.loads(codec.event_schema_text(number))


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
    transport = httpx2.ASGITransport(Starlette(routes=registry_routes()))
    async with httpx2.AsyncClient(transport=transport, base_url="http://hub") as client:

        async def get(path: str) -> Any:
            return (await client.get(path)).json()

        assert await get("/schemas/types") == ["AVRO"]
        for subject in await get("/subjects"):
            versions = await get(f"/subjects/{subject}/versions")
            latest = await get(f"/subjects/{subject}/versions/latest")
            assert versions == list(range(1, latest["version"] + 1))
            for version in versions:
                found = await get(f"/subjects/{subject}/versions/{version}")
                assert (found["subject"], found["version"]) == (subject, version)
                assert (found == latest) == (version == versions[-1])
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


class Version(NamedTuple):
    """A schema of a record, published or as a later release may have it."""

    record: str
    schema: dict[str, Any]
    values: dict[str, Any]
    """Of the fields that are not yet published, as their writers fill them."""


def versions(name: str) -> list[Version]:
    """All that are published, and two of later releases, each with a field more than the one before."""
    found = [
        Version(name, json.loads(codec.event_schema_text(number)), {})
        for _, number in sorted(codec.EVENT_IDS[name].items())
    ]
    for field, value in (
        ({"name": "laterThing", "type": ["null", "string"], "default": None}, "x"),
        ({"name": "laterCount", "type": "long", "default": 7}, 8),
    ):
        before = found[-1]
        schema = before.schema | {"fields": [*before.schema["fields"], field]}
        found.append(Version(name, schema, before.values | {str(field["name"]): value}))
    return found


def datum(version: Version, record: dict[str, Any]) -> bytes:
    """Written with this version."""
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(version.schema), record | version.values)
    return data.getvalue()


def read_as(reader: Version, writer: dict[str, Any], frame: bytes) -> dict[str, Any]:
    """As a program has it that knows one version, and gets the writer's from the registry."""
    schemas = fastavro.parse_schema(writer), fastavro.parse_schema(reader.schema)
    found = fastavro.schemaless_reader(io.BytesIO(frame[5:]), schemas[0], schemas[1])
    assert isinstance(found, dict)
    return found


async def send(kafka: KafkaBroker, topic: str, frames: Iterable[bytes]) -> None:
    """To one partition, in order."""
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:
        for frame in frames:
            await producer.send(topic, frame, partition=0)


@pytest.mark.kafka
@pytest.mark.system
async def test_every_version_reads_every_other_on_kafka(
    kafka: KafkaBroker, topic: str, tmp_path: Path, registry: TestRegistry
) -> None:
    """Each event, written by each version and read by each: what both have is the same, the rest has its default."""
    settings = settings_with(kafka, topic, tmp_path, registry).kafka
    await create_topic(settings)
    await register(registry.url)
    recorded = published()
    frames: list[bytes] = []
    for one in recorded:
        for version in versions(type(one.event).__name__):
            number = registry.register(f"spn.event.{version.record}", json.dumps(version.schema))
            frames.append(codec.with_schema_id(bytes(5) + datum(version, model.to_record(one)), number))
    await send(kafka, topic, frames)

    pairs = 0
    raw = [frame for *_, frame, _ in await read_raw(settings)]
    assert raw == frames
    for frame in raw:
        writer = json.loads(await fetch(registry.url, codec.event_schema_id(frame)) or "")
        names = {field["name"] for field in writer["fields"]}
        known = versions(writer["name"])
        (itself,) = (version for version in known if version.schema == writer)
        written = read_as(itself, writer, frame)
        for reader in known:
            found = read_as(reader, writer, frame)
            assert found == {
                field["name"]: written[field["name"]] if field["name"] in names else field["default"]
                for field in reader.schema["fields"]
            }
            pairs += 1
    assert pairs == sum(len(versions(name)) ** 2 for name in codec.EVENT_IDS)

    # And so does this release's own reader, of what is written now and later.
    async with KafkaSource(settings) as source:
        read = Counter([one async for _, one in source.records()])
        assert source.unreadable == []
    expected: Counter[model.Recorded] = Counter()
    for one in recorded:
        ours = codec.EVENT_IDS[type(one.event).__name__]
        expected.update(as_told_by(one, version) for version in ours)
        expected[one] += len(versions(type(one.event).__name__)) - len(ours)  # the later ones
    assert read == expected


@pytest.mark.kafka
@pytest.mark.system
async def test_what_is_not_known_is_passed_over(
    kafka: KafkaBroker, topic: str, tmp_path: Path, registry: TestRegistry
) -> None:
    """An id that nobody knows, another's record: told. All else is read, a later release's kind of event, too."""
    settings = settings_with(kafka, topic, tmp_path, registry).kafka
    await create_topic(settings)
    await register(registry.url)
    recorded = published()
    frames = []
    for one in recorded:
        version = versions(type(one.event).__name__)[-1]
        number = registry.register(f"spn.event.{version.record}", json.dumps(version.schema))
        frames.append(codec.with_schema_id(bytes(5) + datum(version, model.to_record(one)), number))
    text = json.dumps({"type": "record", "name": "Order", "namespace": "acme", "fields": []})
    frames.insert(3, codec.with_schema_id(bytes(5), registry.register("acme.Order", text)))
    frames.insert(3, codec.with_schema_id(bytes(5), 9999))
    later = Version("SessionTeleported", versions("WeightChanged")[0].schema | {"name": "SessionTeleported"}, {})
    (changed,) = (one for one in recorded if isinstance(one.event, WeightChanged))
    teleported = replace(changed, sequence=recorded[-1].sequence + 1)
    record = model.to_record(teleported) | {"eventType": "sessionTeleported"}
    number = registry.register("spn.event.SessionTeleported", json.dumps(later.schema))
    frames.append(codec.with_schema_id(bytes(5) + datum(later, record), number))
    await send(kafka, topic, frames)

    source = f"kafka://{kafka.bootstrap}/{topic}"
    said = f"spnlog: {source}: 2 records passed over, no events known here; the first is at partition 0, offset 3: "
    env = {"SPNHUB_SCHEMA_REGISTRY": registry.url}
    status, out, err = await run("spnlog", "replay", "--all", source, env=env)
    assert (status, err) == (0, f"{said}schema id 9999 is of no event that is known here\n")
    kinds = [json.loads(line)["eventType"] for line in out.splitlines()]
    assert sorted(kinds) == sorted([*(one.event.event_type for one in recorded), "sessionTeleported"])
    # Without a registry the repository's own ids are meant, and nothing there has one.
    status, out, err = await run("spnlog", "replay", "--all", source)
    assert (status, out) == (0, "")
    assert f"{len(frames)} records passed over" in err and "unknown event schema id" in err

    reports: list[tuple[str, dict[str, Any]]] = []
    group = KafkaGroup(settings, topic, LogMetrics, lambda _level, name, **facts: reports.append((name, facts)))
    following = asyncio.create_task(group.run())
    try:
        async with asyncio.timeout(30):
            while not (group.followed and group.ready):
                await asyncio.sleep(0.05)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
    partition = group.followed[0]
    assert (partition.unreadable, partition.redelivered) == (2, 0)
    assert partition.fold.hubs()["hub-1"].events == len(recorded) + 1
    assert [facts["offset"] for name, facts in reports if name == "serve.unreadable"] == [3, 4]
