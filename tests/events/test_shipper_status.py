"""What a shipper says, and what it doesn't say again."""

from __future__ import annotations

import time

import pytest

from spnhub.events.kafka.settings import ShipperStatus
from spnhub.events.shipper import status


def test_more_events_that_wait_are_no_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    """While Kafka is away "shipped" was said with each event that came, and the gauge and alert for it were clear."""
    now = 100.0
    progress = (0, 0)
    said: list[ShipperStatus] = []
    monkeypatch.setattr(time, "monotonic", lambda: now)
    voice = status.Voice(said.append, lambda: progress)
    voice.set_link("unreachable", "connection refused")
    for behind in range(1, 5):
        now += 2
        progress = (0, behind)
        voice.numbers()
    assert [one.state for one in said] == ["unreachable"]
    now += 2
    progress = (3, 1)
    voice.numbers()
    assert [(one.state, one.position) for one in said[1:]] == [("shipped", 3)]
    voice.set_link("connected", "")
    now += 2
    progress = (3, 2)
    voice.numbers()
    assert [(one.state, one.behind) for one in said[2:]] == [("connected", 1), ("shipped", 2)]
