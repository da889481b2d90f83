"""The level of each event's line, and that what repeats itself is joined."""

from __future__ import annotations

import dataclasses

import pytest
from structlog.testing import capture_logs

from spnhub.events.model import (
    EVENT_CLASSES,
    ConnectionEnded,
    ConnectionRefused,
    DisconnectReason,
    Event,
    SessionEnded,
    TerminateReason,
)
from spnhub.hub_process.printing import Printer, level_of
from tests.events import samples

SAMPLES = {type(event): event for event in (*samples.EACH, *samples.RUNS, *samples.LATER)}

_WARNINGS = {
    "connectionLost",
    "connectionPaused",
    "connectionRefused",
    # One realm's oldest events gave way to its newer ones.
    "eventsTrimmed",
    "limitReached",
    "providerFailed",
    "providerSilent",
    "resumeRefused",
    "serviceStartFailed",
    "serviceStopFailed",
    "sessionRefused",
}
_ERRORS = {"eventsLost", "journalStalled"}


@pytest.mark.parametrize("kind", EVENT_CLASSES.values(), ids=lambda kind: kind.__name__)
def test_routine_is_no_warning(kind: type[Event]) -> None:
    """A heartbeat, progress or start of a hub is none; a new kind of event has to be thought about here."""
    event = SAMPLES[kind]
    if "planned" in {field.name for field in dataclasses.fields(event)}:
        assert level_of(dataclasses.replace(event, planned=True)) == "info"  # type: ignore[call-arg] # of this class
        event = dataclasses.replace(event, planned=False)  # type: ignore[call-arg] # of this class
    level, name = level_of(event), event.event_type
    assert (level == "warning", level == "error") == (name in _WARNINGS, name in _ERRORS)


def test_ends_by_an_error_are_warnings() -> None:
    """But for a leg whose connection goes on: its pause has the level."""
    connection, session = SAMPLES[ConnectionEnded], SAMPLES[SessionEnded]
    assert isinstance(connection, ConnectionEnded)
    assert isinstance(session, SessionEnded)
    failed = dataclasses.replace(connection, disconnect_reason=DisconnectReason.ERROR)
    assert level_of(failed) == "warning"
    assert level_of(dataclasses.replace(failed, suspended=True)) == "info"
    assert level_of(dataclasses.replace(session, terminate_reason=TerminateReason.ERROR)) == "warning"


async def test_alike_warnings_are_joined() -> None:
    """A server that is down is one fault; another service's is another."""
    refused = SAMPLES[ConnectionRefused]
    assert isinstance(refused, ConnectionRefused)
    other = dataclasses.replace(refused, service_urn="urn:chip-in:service:acme:main:other")
    printer = Printer()
    with capture_logs() as lines:
        printer.add(samples.record([refused] * 50 + [other]))
        printer.close()
    assert [(line["serviceUrn"], line.get("repeated")) for line in lines] == [
        (refused.service_urn, None),
        (other.service_urn, None),
        (refused.service_urn, 49),
    ]
    assert all(line["log_level"] == "warning" and line["codeName"] for line in lines)
