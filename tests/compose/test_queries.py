"""ClickHouse's table and queries: their names are the schemas', and a ClickHouse answers right."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spnhub.events.analysis.metrics import HOUR, LogMetrics
from spnhub.events.model import Recorded, encode
from spnhub.http_server import HttpServer
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress
from spnhub.schemas.codec import EVENT_IDS, event_schema_text
from tests.compose.exposed import history, resumption
from tests.compose.files import COMPOSE, SERVICES
from tests.events.samples import EACH, NOON, SERVICE, record

pytestmark = pytest.mark.outside

FOLDER = COMPOSE / "clickhouse"
TABLES = (FOLDER / "tables.sql").read_text(encoding="utf-8")
QUERIES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((FOLDER / "queries").glob("*.sql"))}
COLUMNS = dict(re.findall(r"^    (\w+) +(\S.*?),?$", TABLES.split("ENGINE", 1)[0], re.MULTILINE))

TYPES = {
    "string": {"String", "LowCardinality(String)"},
    "enum": {"String"},
    "long": {"Int64"},
    "double": {"Float64"},
    "boolean": {"Bool"},
    "timestamp-micros": {"DateTime64(6, 'UTC')"},
}
"""ClickHouse's types that take an Avro type."""


def _fields() -> dict[str, list[Any]]:
    """The types of a field, by its name, in every version of every record."""
    found: dict[str, list[Any]] = {}
    for versions in EVENT_IDS.values():
        for number in versions.values():
            for field in json.loads(event_schema_text(number))["fields"]:
                found.setdefault(field["name"], []).append(field["type"])
    return found


def _plain(avro: Any) -> str:
    """The name of a type that isn't null."""
    if isinstance(avro, list):
        (avro,) = [one for one in avro if one != "null"]
    if isinstance(avro, dict):
        logical = avro.get("logicalType")
        return str(logical if logical == "timestamp-micros" else avro["type"])
    # A type that was named before, which only enumerations are.
    return "enum" if "." in avro else str(avro)


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_are_fields(name: str) -> None:
    """Each column is a field of some event, and takes it as every event has it; what not all have may be null."""
    types = _fields()[name]
    optional = re.fullmatch(r"Nullable\((.*)\)", COLUMNS[name])
    for one in types:
        assert (optional[1] if optional else COLUMNS[name]) in TYPES[_plain(one)], one
    always = len(types) == sum(map(len, EVENT_IDS.values())) and not any(isinstance(one, list) for one in types)
    assert always is (optional is None)


@pytest.mark.parametrize("name", QUERIES)
def test_queries_name_what_there_is(name: str) -> None:
    """Columns, tables and event types, each in its exact spelling."""
    text = re.sub(r"--.*", "", QUERIES[name])
    types = {event.event_type for event in (*EACH, *history())}
    assert set(re.findall(r"'(\w+)'", text)) <= types | {"refused", "microsecond"}
    text = re.sub(r"'[^']*'", "", text)
    named = set(re.findall(r"\bAS (\w+)", text)) | set(re.findall(r"(\w+) AS\b", text))
    used = set(re.findall(r"\b([a-z]\w*)\b(?!\s*\()(?!\.)", text))
    assert used - named <= COLUMNS.keys() | {"events"}
    assert set(re.findall(r"\b([a-z]\w*)\.\w+", text)) <= {"spn"}


def test_where_it_reads_from() -> None:
    """Broker, topic and registry are those of the environment."""
    settings = dict(re.findall(r"(\w+) = '(.*?)'", TABLES.split("ENGINE = Kafka", 1)[1]))
    assert settings["kafka_broker_list"] == SERVICES["hub"]["environment"]["SPNHUB_KAFKA"]
    assert SERVICES["serve"]["command"][2] == f"kafka://{settings['kafka_broker_list']}/{settings['kafka_topic_list']}"
    assert settings["format_avro_schema_registry_url"] == "http://hub:9600"


# ---- an engine of that family --------------------------------------------------------------------------------------


def _log() -> list[Recorded]:
    """Two hubs over several hours: connections that resume on the other hub, a redelivery of everything."""
    told = resumption("1a" * 16)
    events = [*record(history(), step=HOUR // 20), *record(told[:3], hub_id="hub-2", start=NOON + HOUR, step=HOUR // 3)]
    last = max(one.timestamp for one in events)
    events += record(told[3:], hub_id="hub-3", start=last, step=HOUR)
    return events * 2


class Engine:
    """chDB with the tables of the compose file, but for the one that reads Kafka."""

    def __init__(self, folder: Path, messages: Iterable[bytes], registry: str) -> None:
        chdb = pytest.importorskip("chdb.session", reason="chDB is not installed: the queries aren't run")
        frames = folder / "frames"
        frames.write_bytes(b"".join(messages))
        self._session = chdb.Session(str(folder / "data"))
        created = TABLES.split("CREATE TABLE IF NOT EXISTS spn.topic", 1)[0]
        for statement in _statements(created):
            self._session.query(statement)
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        quoted = columns.replace("'", "\\'")
        self._session.query(
            f"INSERT INTO spn.events SELECT * FROM file('{frames}', 'AvroConfluent', '{quoted}') "
            f"SETTINGS format_avro_schema_registry_url = '{registry}', input_format_avro_allow_missing_fields = 1"
        )

    def rows(self, query: str) -> list[dict[str, Any]]:
        """What a query answers."""
        (statement,) = _statements(query)
        answer = str(self._session.query(statement, "JSONEachRow"))
        return [json.loads(line) for line in answer.splitlines()]

    def close(self) -> None:
        """Free its folder."""
        self._session.close()


def _statements(text: str) -> list[str]:
    plain = re.sub(r"--.*", "", text)
    return [one.strip() for one in plain.split(";") if one.strip()]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """It has read the log, with the schemas that a hub's ``--ops`` serves."""

    async def read() -> Engine:
        ops = Ops(lambda: True, _never, lambda: Progress(0, 0, None), HubMetrics(), lambda: 0)  # type: ignore[arg-type]
        server = HttpServer(ops.application(), "--ops")
        registry = await server.start("127.0.0.1", 0)
        try:
            return await asyncio.to_thread(Engine, tmp_path_factory.mktemp("chdb"), map(encode, _log()), registry)
        finally:
            await server.close()

    found = asyncio.run(read())
    yield found
    found.close()


def _never() -> None:
    raise AssertionError("the state isn't asked for")


@pytest.fixture(scope="module")
def folded() -> LogMetrics:
    """The same log as ``spnlog metrics`` has it."""
    metrics = LogMetrics(hours=True)
    metrics.apply_all(sorted(_log(), key=lambda one: (one.timestamp, one.sequence)))
    return metrics


def test_bytes_by_service_and_hour(engine: Engine, folded: LogMetrics) -> None:
    """Equal to ``spnlog metrics --by hour``: redelivered events and replayed bytes count once."""
    found: Counter[tuple[int, str, str]] = Counter()
    for row in engine.rows(QUERIES["bytes_by_service_and_hour"].replace("toStartOfHour(at)", _EPOCH_HOUR)):
        for direction in ("sent", "received"):
            found[int(row["hour"]), row["service"], direction] += int(row[f"{direction}Bytes"])
    assert folded.hours is not None
    expected: Counter[tuple[int, str, str]] = Counter()
    for (hour, _, service, direction), number in folded.hours.items():
        expected[hour, service, direction] += number
    assert +found == +expected
    assert any(number < 0 for number in expected.values()) is any(number < 0 for number in found.values())
    assert len({hour for hour, _, _ in expected}) > 2


_EPOCH_HOUR = f"intDiv(toUnixTimestamp64Micro(at), {HOUR}) * {HOUR}"


def test_reasons(engine: Engine, folded: LogMetrics) -> None:
    """Ends by reason and refusals by code, over all hubs."""
    found: Counter[tuple[str, str, str]] = Counter()
    for row in engine.rows(QUERIES["reasons"]):
        found[row["eventType"], row["ending"], row["code"]] += int(row["times"])
    ends: Counter[str] = Counter()
    for (*_, reason), number in folded.counters["connections_ended"].items():
        ends[reason] += number
    told: Counter[str] = Counter()
    for (kind, ending, _), number in found.items():
        if kind == "endSpnConnection":
            told[ending] += number
    assert told == ends
    handshakes = sum(folded.counters["handshakes_refused"].values())
    assert found["sessionRefused", "refused", ""] == handshakes > 1
    assert found["resumeRefused", "refused", "33"] == 1


def test_slowest_starts(engine: Engine) -> None:
    """Each start once, with its time."""
    rows = engine.rows(QUERIES["slowest_starts"])
    assert [(row["service"], row["hubId"], row["latency"]) for row in rows] == [(SERVICE, "hub-1", 1.5)]


def test_pauses(engine: Engine, folded: LogMetrics) -> None:
    """As many as the log tells, planned and unplanned, and how long those took that went on."""
    rows = {bool(row["planned"]): row for row in engine.rows(QUERIES["pauses"])}
    told: Counter[bool] = Counter()
    for (*_, planned), number in folded.counters["connections_paused"].items():
        told[planned == "true"] += number
    assert {planned: int(row["pauses"]) for planned, row in rows.items()} == told
    unplanned = rows[False]
    assert (unplanned["service"], int(unplanned["resumed"])) == (SERVICE, 3)
    assert 0 < unplanned["medianSeconds"] <= unplanned["longestSeconds"]
