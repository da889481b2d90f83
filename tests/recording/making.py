"""Recordings made of random histories of the actors (:mod:`tests.actors.test_histories`), without a hub."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

from spnhub.actors.contract.inputs import Key
from spnhub.actors.system import ActorOptions
from spnhub.events.model import Event, Recorded
from spnhub.recording.format import Header
from spnhub.recording.reader import Recording
from spnhub.recording.replayer import ReplayDifference, Replayer
from spnhub.recording.system import RecordingSystem
from spnhub.recording.writer import DEFAULT_SIZE, RecordingWriter
from tests.actors import test_histories
from tests.actors.harness import JOURNAL, WALL, inventory, service

OPTIONS = ActorOptions(session_connections=5, waiting_openings=3, slice_size=3, slice_pause=0.05)
FIRST_SEQUENCE = 41


def header(**changes: Any) -> Header:
    """Of a recording by hub-1."""
    made = Header(
        hub_id="hub-1",
        journal_id=str(JOURNAL),
        first_sequence=FIRST_SEQUENCE,
        started=WALL,
        software="0.1.0",
        options=OPTIONS,
    )
    return dataclasses.replace(made, **changes)


def script(numbers: list[int]) -> list[tuple[str, Any, Any]]:
    """What a random history does, up to its planned stop."""
    return test_histories.run(numbers, poison=False).script


def record(folder: Path, numbers: list[int], *, batch: int = 1, limit: int = DEFAULT_SIZE) -> RecordingWriter:
    """Record a random history; ``batch`` inputs are handled together. The journal has events of its own between."""
    writer = RecordingWriter(folder, header(), limit)
    sequence = FIRST_SEQUENCE - 1

    def append(event: Event, timestamp: int) -> Recorded:
        nonlocal sequence
        sequence += 1 + (sequence % 7 == 0)
        return Recorded("hub-1", JOURNAL, sequence, timestamp, event)

    system = RecordingSystem(append, "hub-1", OPTIONS, writer.put)
    now = 100.0

    def run() -> None:
        system.run(now, WALL + round((now - 100.0) * 1_000_000))
        system.take_commands()

    system.tell_hub(inventory(service()))
    run()
    for number, (what, first, second) in enumerate(script(numbers), start=1):
        if what == "time":
            run()
            now += first
        elif first is None:
            system.tell_hub(second)
        elif isinstance(first, Key):
            system.tell_connection(first, second)
        else:
            system.tell_session(first, second)
        if number % batch == 0:
            run()
    run()
    writer.close()
    return writer


def replay(path: Path, until: int | None = None) -> tuple[Replayer, ReplayDifference | None]:
    """Replay a recording; the replayer at its end, and the difference."""
    replayer = Replayer(Recording(path))
    difference = None
    for result in replayer.run(until):
        difference = result.difference
    return replayer, difference


def numbers(seed: int, count: int) -> list[int]:
    """For a history."""
    rng = random.Random(seed)
    return [rng.randrange(2**32) for _ in range(count)]


def lines(path: Path) -> list[Any]:
    """All lines of a recording."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def rewrite(path: Path, records: list[Any]) -> None:
    """Replace them."""
    path.write_text("".join(f"{json.dumps(record)}\n" for record in records))
