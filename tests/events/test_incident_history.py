"""Incidents of a part of the log are those of the whole, and what was known at a moment is what it said then."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.events.analysis.incident_history import Concerning, IncidentHistory
from spnhub.events.analysis.incidents import Incident, Incidents
from spnhub.events.analysis.merge import log_key
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionRefused,
    ConnectionStarted,
    HubAlive,
    HubStarted,
    Recorded,
)
from tests.events import samples
from tests.events.histories import History

SAMPLES = {type(event): event for event in (*samples.EACH, *samples.RUNS, *samples.LATER)}


def folded(events: Iterable[Recorded]) -> Incidents:
    fold = Incidents()
    for recorded in events:
        fold.take(recorded)
    return fold


def told(found: Iterable[Incident]) -> list[dict[str, Any]]:
    return [one.to_json() for one in found]


def concerning(events: Iterable[Recorded]) -> list[Recorded]:
    """Those that concern incidents, each log by itself."""
    logs: dict[object, Concerning] = {}
    return [one for one in events if logs.setdefault(log_key(one), Concerning()).takes(one.event)]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_a_part_of_the_log_says_all(seed: int) -> None:
    """Whatever happens to several hubs, no incident differs for what is left out."""
    events = History(random.Random(seed), hubs=2, services=3).run(300).events
    part = concerning(events)
    assert len(part) <= len(events)
    assert told(folded(part).finish()) == told(folded(events).finish())


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32))
def test_at_every_moment_it_is_what_was_known_then(seed: int) -> None:
    """The history says of each moment what a fold up to it says; but for those that turned out to be part of others."""
    chance = random.Random(seed)
    events = History(chance, hubs=2, services=3).run(200).events
    # Hubs' clocks agree here, so that there is a moment "up to" which all is known.
    events.sort(key=lambda one: one.timestamp)
    history = IncidentHistory()
    for recorded in events:
        history.take(recorded)
    for place in sorted(chance.sample(range(len(events)), 8)):
        moment = events[place].timestamp
        then = told(folded(one for one in events if one.timestamp <= moment).finish(moment))
        found = told(history.at(moment))
        missing = [one for one in then if one not in found]
        assert all(one in then for one in found)
        assert all(one["kind"] in {"connections failed", "connections interrupted"} for one in missing)
    assert told(history.at(events[-1].timestamp)) == told(folded(events).finish(events[-1].timestamp))


def test_connections_that_go_well_are_left_out_until_one_is_refused() -> None:
    """Ten thousand of them are one event; the first after a refusal says that it is over."""
    started = dataclasses.replace(SAMPLES[ConnectionStarted], service_urn="urn:s")  # type: ignore[call-arg] # it has one
    refused = dataclasses.replace(SAMPLES[ConnectionRefused], service_urn="urn:s", code=17)  # type: ignore[call-arg]
    ended = SAMPLES[ConnectionEnded]
    log = Concerning()
    assert [log.takes(event) for event in (started, ended, started, refused, started, started)] == [
        True,
        False,
        False,
        True,
        True,
        False,
    ]


def test_a_silent_hub_in_the_past() -> None:
    """Between its last heartbeat and the next it is silent, in the eyes of who looks at a moment in between."""
    second = 1_000_000
    beats = [0, 10, 20, 30, 300, 310]
    events = [SAMPLES[HubStarted], *[SAMPLES[HubAlive]] * (len(beats) - 1)]
    log = [
        dataclasses.replace(recorded, timestamp=samples.NOON + beat * second)
        for recorded, beat in zip(samples.record(events), beats, strict=True)
    ]
    history = IncidentHistory()
    for recorded in log:
        history.take(recorded)
    silent = [bool(history.at(samples.NOON + moment * second)) for moment in (35, 59, 61, 299, 301, 310)]
    assert silent == [False, False, True, True, False, False]


def test_memory_of_one_that_goes_on() -> None:
    """However often it happens: since when, what is known now, and a bounded number of moments between."""
    refused = dataclasses.replace(SAMPLES[ConnectionRefused], service_urn="urn:s")  # type: ignore[call-arg] # it has one
    history = IncidentHistory()
    log = samples.record([refused] * 5_000)
    for recorded in log:
        history.take(recorded)
    counts = [history.at(recorded.timestamp)[0].count for recorded in log]
    assert counts[0] == 1 and counts[-1] == 5_000
    assert counts == sorted(counts)
    assert len(set(counts)) <= 70
