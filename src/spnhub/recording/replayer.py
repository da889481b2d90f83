"""Feeds a recording to the actors again and holds what comes of it against what is recorded.

The actors are the hub's own code; around them there is nothing: no network, no clock, no journal. Fields that the
recording doesn't know, of events and commands that have got more since, aren't compared.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from dataclasses import field
from typing import Any, Final

from spnhub.dataclass import dataclass
from spnhub.events.model import Event, Recorded
from spnhub.events.state.hub_state import HubState
from spnhub.recording.format import plain_parts
from spnhub.recording.reader import RecordedPart, RecordedStep, Recording
from spnhub.recording.system import START, TIMERS, Address, Input, RecordingSystem, Step

__all__ = ["Cause", "ReplayDifference", "ReplayResult", "Replayer", "StateChange", "changes"]

_NOTHING: Final[Any] = "(nothing)"

Cause = str | tuple[Address, Input]
Output = tuple[str, dict[str, Any]]
"""Class and fields of an event or command."""


@dataclass(frozen=True, slots=True)
class StateChange:
    """One value that is another, by its path."""

    path: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ReplayDifference:
    """The first thing that came otherwise than recorded."""

    line: int
    """Of the recording's file."""
    wall_us: int
    """Microseconds since 1970."""
    cause: Cause
    kind: str
    """``event`` or ``command``."""
    number: int
    """Which one of the cause's, from 1."""
    sequence: int | None
    """Of the recorded event."""
    expected: Output | None
    came: Output | None
    fields: tuple[StateChange, ...]
    """Before: as recorded; after: as it came. Only if it is the same class."""


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """A step done again."""

    recorded: RecordedStep
    difference: ReplayDifference | None


@dataclass(slots=True)
class Replayer:
    """Drives one recording.

    :raises RecordingError: the recording can't be read.
    """

    recording: Recording
    steps: int = 0
    inputs: int = 0
    events: int = 0
    commands: int = 0
    last_sequence: int = 0
    """Of the last event replayed; 0 before the first."""
    _system: RecordingSystem = field(init=False)
    _sequences: list[int] = field(init=False, default_factory=list)
    """What the recorded events of this step have, from the end."""
    _noted: list[Step] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        header = self.recording.header
        journal_id = uuid.UUID(header.journal_id)

        def record(event: Event, timestamp: int) -> Recorded:
            self.last_sequence = self._sequences.pop() if self._sequences else self.last_sequence + 1
            return Recorded(header.hub_id, journal_id, self.last_sequence, timestamp, event)

        self._system = RecordingSystem(record, header.hub_id, header.options, self._noted.append)

    @property
    def state(self) -> HubState:
        """What the actors hold now."""
        return self._system.state()

    def run(self, until: int | None = None) -> Iterator[ReplayResult]:
        """Do step after step, up to the first difference.

        :param until: end with the step that holds this sequence, or before the first one beyond it.
        :raises RecordingError: a step can't be read.
        """
        for recorded in self.recording.steps():
            sequences = [sequence for part in recorded.parts for sequence, _, _ in part.events]
            if until is not None and sequences and sequences[0] > until:
                return
            difference = self._run(recorded, sequences)
            yield ReplayResult(recorded, difference)
            if difference is not None or (until is not None and sequences and sequences[-1] >= until):
                return

    def _run(self, recorded: RecordedStep, sequences: list[int]) -> ReplayDifference | None:
        self._sequences[:] = reversed(sequences)
        self._noted.clear()
        for part in recorded.parts:
            if not isinstance(part.cause, str):
                self._system.tell(*part.cause)
                self.inputs += 1
        self._system.run(recorded.now, recorded.wall_us)
        self._system.take_commands()
        came = [plain for step in self._noted for plain in plain_parts(step)]
        self.steps += 1
        self.events += sum(len(part.events) for part in recorded.parts)
        self.commands += sum(len(part.commands) for part in recorded.parts)
        return _compare(recorded, came)


def changes(before: HubState, after: HubState) -> list[StateChange]:
    """What of the state is different, by path; without the counters of the log itself."""
    skipped = {"last_sequence", "last_timestamp"}
    return [change for change in _changes("", before, after) if change.path not in skipped]


def _changes(path: str, before: Any, after: Any) -> Iterator[StateChange]:
    if before is after or before == after:
        return
    if type(before) is type(after) and dataclasses.is_dataclass(before):
        for one in dataclasses.fields(before):
            yield from _changes(_join(path, one.name), getattr(before, one.name), getattr(after, one.name))
    elif isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            name = "/".join(map(str, key)) if isinstance(key, tuple) else str(key)
            yield from _changes(_join(path, name), before.get(key, _NOTHING), after.get(key, _NOTHING))
    else:
        yield StateChange(path, before, after)


def _compare(recorded: RecordedStep, came: list[dict[str, Any]]) -> ReplayDifference | None:
    """Parts pair up: the inputs are the same, and what has none is missing on one side at most."""
    causes = {part.cause: part for part in recorded.parts if isinstance(part.cause, str)}
    plain_causes = {part["cause"]: part for part in came if isinstance(part["cause"], str)}

    def pair(cause: str) -> tuple[RecordedPart, dict[str, Any]]:
        return (
            causes.get(cause, RecordedPart(cause, (), ())),
            plain_causes.get(cause, {"events": [], "commands": []}),
        )

    given = (part for part in recorded.parts if not isinstance(part.cause, str))
    inputs = (part for part in came if not isinstance(part["cause"], str))
    pairs = [pair(START), *zip(given, inputs, strict=True), pair(TIMERS)]
    for part, plain in pairs:
        difference = _compare_part(recorded, part, plain)
        if difference is not None:
            return difference
    return None


def _compare_part(recorded: RecordedStep, part: RecordedPart, plain: dict[str, Any]) -> ReplayDifference | None:
    sequences = [sequence for sequence, _, _ in part.events]
    events = [(name, fields) for _, name, fields in part.events]
    for kind, expected, came in (
        ("event", events, [(name, fields) for _, name, fields in plain["events"]]),
        ("command", list(part.commands), [(name, fields) for name, fields in plain["commands"]]),
    ):
        for index in range(max(len(expected), len(came))):
            want = expected[index] if index < len(expected) else None
            have = came[index] if index < len(came) else None
            fields: tuple[StateChange, ...] = ()
            if want is not None and have is not None and want[0] == have[0]:
                fields = tuple(_differences("", want[1], have[1]))
                if not fields:
                    continue
            sequence = sequences[index] if kind == "event" and index < len(sequences) else None
            return ReplayDifference(
                recorded.line, recorded.wall_us, part.cause, kind, index + 1, sequence, want, have, fields
            )
    return None


def _differences(path: str, expected: Any, came: Any) -> Iterator[StateChange]:
    """What of ``expected`` is otherwise in ``came``, which may have more."""
    if isinstance(expected, dict) and isinstance(came, dict):
        for name, value in expected.items():
            yield from _differences(_join(path, name), value, came.get(name, _NOTHING))
    elif isinstance(expected, list) and isinstance(came, list) and len(expected) == len(came):
        for index, (value, other) in enumerate(zip(expected, came, strict=True)):
            yield from _differences(_join(path, str(index)), value, other)
    elif expected != came or type(expected) is not type(came):
        yield StateChange(path, expected, came)


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
