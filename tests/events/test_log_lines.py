"""The spec's lines: exactly its fields, D-14's beside them, and nothing else."""

from __future__ import annotations

import json

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from spnhub.events.analysis.log_lines import event_line, format_time, lifecycle_line
from spnhub.events.model import EVENT_CLASSES, Event, to_record
from tests.events import samples

SAMPLES = (*samples.EACH, *samples.RUNS, *samples.LATER)

COMMON = {"realm": "acme", "hubId": "hub-1", "networkUrn": samples.NETWORK, "sequence": 1}
SESSION = {
    "timestamp": "2026-01-02T12:00:00.000000Z",
    "spnSessionId": "p1",
    "spnEndPoint": "CN=p1,O=Acme",
    "endPointType": "serviceProvider",
    "serviceUrn": samples.SERVICE,
}
CONNECTION = {
    "timestamp": "2026-01-02T12:00:00.000000Z",
    "spnConnectionId": "4-1",
    "consumerSideSpnSessionId": "c1",
    "providerSideSpnSessionId": "p1",
}
LEG = {"connectionUid": "ab" * 16, "epoch": 0}
LINES = {
    "startSpnSession": SESSION | {"eventType": "startSpnSession"} | COMMON,
    "endSpnSession": SESSION
    | {
        "eventType": "endSpnSession",
        "totalConnectionCount": 2,
        "elapsedTime": 12.25,
        "terminateReason": "terminatedByPeer",
    }
    | COMMON,
    "startSpnConnection": CONNECTION | {"eventType": "startSpnConnection"} | COMMON | LEG,
    "endSpnConnection": CONNECTION
    | {
        "eventType": "endSpnConnection",
        "totalSentBytes": 100,
        "totalReceiveBytes": 2000,
        "elapsedTime": 0.5,
        "disconnectReason": "closedByPeer",
    }
    | COMMON
    | LEG,
}


@pytest.mark.parametrize("event", samples.EACH, ids=lambda event: type(event).__name__)
def test_lifecycle_line(event: Event) -> None:
    """The four kinds have their line, all others none."""
    (recorded,) = samples.record([event])
    assert lifecycle_line(recorded) == LINES.get(event.event_type)


@pytest.mark.parametrize(
    "event", (*samples.EACH, *samples.RUNS, *samples.LATER), ids=lambda event: type(event).__name__
)
def test_event_line(event: Event) -> None:
    """Every field of the event, plain JSON, times as text."""
    (recorded,) = samples.record([event])
    line = event_line(recorded)
    names = {name for name, about in (("codeName", "code"), ("alertName", "alert")) if isinstance(line.get(about), int)}
    assert line.keys() == to_record(recorded).keys() | names
    assert line["timestamp"] == "2026-01-02T12:00:00.000000Z"
    assert json.loads(json.dumps(line)) == line
    assert all(type(value) in {str, int, float, bool, list, type(None)} for value in line.values())
    assert line.get("expiredAt") in {None, "2026-01-02T12:00:00.000000Z"}


def test_every_class_has_a_sample() -> None:
    """Nothing is left out of the tests that go over the samples."""
    assert [type(event) for event in SAMPLES] == list(EVENT_CLASSES.values())


def test_structlog_takes_a_line_as_it_is() -> None:
    """None of our names is one of structlog's own."""
    with structlog.testing.capture_logs() as logged:
        for line in LINES.values():
            structlog.get_logger().info("lifecycle", **line)
    assert logged == [{"event": "lifecycle", "log_level": "info", **line} for line in LINES.values()]


@pytest.mark.parametrize(
    ("timestamp", "text"),
    [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_323_045_000_006, "2026-01-02T03:04:05.000006Z"),
        (1_767_323_045_999_999, "2026-01-02T03:04:05.999999Z"),
    ],
)
def test_format_time(timestamp: int, text: str) -> None:
    """ISO 8601, UTC, always six digits."""
    assert format_time(timestamp) == text


@given(st.integers(0, 4_000_000_000_000_000), st.integers(0, 4_000_000_000_000_000))
def test_times_sort_as_their_texts(one: int, other: int) -> None:
    """Lines can be sorted by their text, to the microsecond."""
    assert (one < other) == (format_time(one) < format_time(other))
