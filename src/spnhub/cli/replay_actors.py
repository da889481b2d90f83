"""``spnlog replay-actors``: what a hub recorded is done again by the same actors, and compared.

Counterparts: :mod:`spnhub.recording`, ``spnhub --record``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spnhub import logging
from spnhub.cli.log_reading import FAULTY
from spnhub.cli.log_settings import LogSettings, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.point_in_time import Moment
from spnhub.settings import SettingsError
from spnhub.streams import say, say_json

if TYPE_CHECKING:  # what they import takes a while to load, and no other command needs it
    from spnhub.recording.reader import RecordedStep, Recording
    from spnhub.recording.replayer import Cause, ReplayDifference, StateChange

__all__ = ["replay_actors"]


@takes_log_options("until", "step")
def replay_actors(
    _: typer.Context,
    settings_of: Reader[LogSettings],
    recording: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder of spnhub --record, or one file of it.", show_default=False),
    ],
) -> int:
    """Feed a recording to the actors again; status 1 and the first difference if they do otherwise than recorded."""
    from spnhub.recording.reader import Recording, RecordingError, find_recordings  # noqa: PLC0415

    settings = settings_of()
    until = _last_sequence(settings.until)
    logging.configure("warning", stream=sys.stderr)
    try:
        replayed = 0
        for path in find_recordings(recording):
            opened = Recording(path)
            if until is not None and opened.header.first_sequence > until:
                continue
            replayed += 1
            if not _replay(opened, step=settings.step, until=until, as_json=settings.as_json):
                return FAULTY
    except RecordingError as exc:
        raise SettingsError(str(exc)) from exc
    except (KeyboardInterrupt, EOFError):
        return 0
    if not replayed:
        raise SettingsError(f"--until: no recording in {recording} begins at or before sequence {until}")
    return 0


def _last_sequence(until: Moment | None) -> int | None:
    """:raises SettingsError: it is no sequence; a recording's inputs have no other place in the log."""
    if until is not None and until.sequence is None:
        raise SettingsError("--until: a recording is followed up to a sequence, not up to a time")
    return None if until is None else until.sequence


def _replay(recording: Recording, *, step: bool, until: int | None, as_json: bool) -> bool:
    """Replay one; whether everything came as recorded."""
    from spnhub.recording.replayer import Replayer, changes  # noqa: PLC0415

    replayer = Replayer(recording)
    difference = None
    before = replayer.state if step else None
    for result in replayer.run(until):
        difference = result.difference
        if before is not None:
            after = replayer.state
            _show_step(result.recorded, changes(before, after), as_json)
            before = after
            if not as_json and sys.stdin.isatty() and sys.stdout.isatty():
                input()
    state = replayer.state
    if as_json:
        counts = {name: getattr(replayer, name) for name in ("steps", "inputs", "events", "commands")}
        held = {"sessions": len(state.sessions), "connections": len(state.connections)}
        header = recording.header
        summary = {
            "recording": str(recording.path),
            "hubId": header.hub_id,
            "journalId": header.journal_id,
            "firstSequence": header.first_sequence,
            "lastSequence": replayer.last_sequence,
            "equal": difference is None,
            **counts,
            **held,
            "end": recording.end,
            "difference": None if difference is None else _difference(difference),
        }
        say_json(summary)
    elif difference is None:
        say(
            f"{recording.path}: equal: {replayer.steps:,} steps, {replayer.inputs:,} inputs, "
            f"{replayer.events:,} events, {replayer.commands:,} commands; then {len(state.sessions):,} sessions and "
            f"{len(state.connections):,} connections open, last sequence {replayer.last_sequence:,}"
        )
        if until is None:
            say(f"  end of the recording: {recording.end or 'cut off, as by a kill'}")
    else:
        for line in _render(recording, difference):
            say(line)
    return difference is None


def _render(recording: Recording, difference: ReplayDifference) -> Iterator[str]:
    at = format_time(difference.wall_us)
    header = recording.header
    yield f"{recording.path}, line {difference.line}: first difference, at {at} (recorded by spnhub {header.software})"
    yield f"  cause: {_cause(difference.cause)}"
    sequence = (
        "" if difference.sequence is None else f" (sequence {difference.sequence} of journal {header.journal_id})"
    )
    yield f"  {difference.kind} {difference.number} of it{sequence}"
    if difference.expected is not None and difference.fields:
        name = difference.expected[0]
        width = max(len(change.path) for change in difference.fields)
        for change in difference.fields:
            yield f"    {name}.{change.path:<{width}}  expected {_value(change.before)}  came {_value(change.after)}"
        return
    for word, output in (("expected", difference.expected), ("came", difference.came)):
        yield f"    {word:<8} {'nothing' if output is None else f'{output[0]} {json.dumps(output[1])}'}"


def _difference(difference: ReplayDifference) -> dict[str, Any]:
    def output(value: Any) -> Any:
        return None if value is None else {"kind": value[0], "fields": value[1]}

    return {
        "line": difference.line,
        "timestamp": format_time(difference.wall_us),
        "cause": _cause(difference.cause),
        "kind": difference.kind,
        "number": difference.number,
        "sequence": difference.sequence,
        "expected": output(difference.expected),
        "came": output(difference.came),
        "fields": {change.path: [change.before, change.after] for change in difference.fields},
    }


def _show_step(step: RecordedStep, changed: list[StateChange], as_json: bool) -> None:
    if as_json:
        parts = [
            {
                "cause": _cause(part.cause),
                "events": [
                    {"sequence": number, "kind": name, "fields": fields} for number, name, fields in part.events
                ],
                "commands": [{"kind": name, "fields": fields} for name, fields in part.commands],
            }
            for part in step.parts
        ]
        moved = {change.path: [_plain(change.before), _plain(change.after)] for change in changed}
        say_json({"line": step.line, "timestamp": format_time(step.wall_us), "parts": parts, "changes": moved})
        return
    say(f"line {step.line}, {format_time(step.wall_us)}")
    for part in step.parts:
        say(f"  {_cause(part.cause)}")
        for sequence, name, fields in part.events:
            say(f"    event {sequence} {name} {json.dumps(fields)}")
        for name, fields in part.commands:
            say(f"    command {name} {json.dumps(fields)}")
    for change in changed:
        say(f"  {change.path}: {_plain(change.before)} -> {_plain(change.after)}")


def _cause(cause: Cause) -> str:
    if isinstance(cause, str):
        return {"start": "the actors' start", "timers": "timers that were due"}[cause]
    address, message = cause
    where = "the hub"
    if isinstance(address, int):
        where = f"session {address}"
    elif address is not None:
        where = f"connection {address.session}/{address.stream}"
    return f"to {where}: {message}"


def _value(value: Any) -> str:
    return value if value == "(nothing)" else json.dumps(value)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
