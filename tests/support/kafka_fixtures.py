"""The broker as pytest meets it: fixtures ``kafka``, ``killable_kafka``, ``dead_kafka``, ``topic``; and a header line.

One broker serves the whole run; tests keep apart by topic. Without a broker the tests that need one skip with a line
that says so; under ``CI=true`` they fail instead.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator

import pytest

from tests.support.kafka import ENVIRONMENT, KafkaBroker, NoBroker, find_broker
from tests.support.kafka_jars import JarRuntime

_BROKER = pytest.StashKey[KafkaBroker]()


def pytest_report_header() -> str:
    """What a Kafka test of this run would try, in order."""
    ways = []
    if named := os.environ.get(ENVIRONMENT):
        ways.append(f"{named} ({ENVIRONMENT})")
    else:
        if shutil.which("docker"):
            ways.append("Docker")
        missing = JarRuntime.available()
        ways.append("jars" if missing is None else f"no jars ({missing})")
    return f"kafka: {', else '.join(ways)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Which broker it was."""
    broker = config.stash.get(_BROKER, None)
    if broker is not None:
        terminalreporter.write_line(f"kafka: {broker.description}")


@pytest.fixture(scope="session")
def _broker(request: pytest.FixtureRequest) -> Iterator[KafkaBroker]:
    try:
        broker = find_broker()
    except NoBroker as exc:
        reason = f"no Apache Kafka broker: {exc}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    request.config.stash[_BROKER] = broker
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


@pytest.fixture
def kafka(_broker: KafkaBroker) -> KafkaBroker:
    """A real broker that runs and answers, whatever the test before did to it."""
    if _broker.controllable:
        _broker.start()
    return _broker


@pytest.fixture
def killable_kafka(kafka: KafkaBroker) -> KafkaBroker:
    """The same for tests that kill, pause or stop it: the next one that needs it starts it again."""
    return _killable(kafka)


@pytest.fixture
def dead_kafka(_broker: KafkaBroker) -> KafkaBroker:
    """The same for tests that begin without one: to start a broker takes seconds of CPU."""
    _killable(_broker).kill()
    return _broker


def _killable(broker: KafkaBroker) -> KafkaBroker:
    if not broker.controllable:
        pytest.skip(f"{broker.description} cannot be killed")
    return broker


@pytest.fixture
def topic() -> str:
    """A topic name of this test's own; the topic doesn't exist yet."""
    return f"spn.test.{uuid.uuid4().hex[:12]}"
