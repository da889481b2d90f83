"""``spnlog``: reads events, from journal folders and from Kafka, and shows what follows from them.

Here are the commands that print and verify events; ``log_state``, ``log_explain``, ``log_metrics`` and
``log_serve`` beside it have one each. Counterparts: :mod:`spnhub.events.analysis.source` (where from),
:mod:`spnhub.events.analysis.log_lines` (the lines), :mod:`spnhub.events.analysis.verify` (the verdict).
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any, Final

import typer

from spnhub import signals
from spnhub.cli.command_line import Version, make_app, run_command_line
from spnhub.cli.log_console import console
from spnhub.cli.log_explain import explain
from spnhub.cli.log_incidents import incidents
from spnhub.cli.log_metrics import metrics
from spnhub.cli.log_reading import FAULTY, Sources, enter, entries, run, watched
from spnhub.cli.log_serve import serve
from spnhub.cli.log_settings import LogSettings, selection_of, takes_log_options
from spnhub.cli.log_state import state
from spnhub.cli.log_top import top
from spnhub.cli.options import GroupedCommand, Reader
from spnhub.cli.replay_actors import replay_actors
from spnhub.events.analysis.log_lines import event_line, lifecycle_line
from spnhub.events.analysis.merge import LogKey, Missing, follow, merge
from spnhub.events.analysis.verify import verify as verify_sources
from spnhub.events.kafka.settings import KafkaSettings
from spnhub.events.model import Recorded
from spnhub.plain_text import printable
from spnhub.streams import say, say_json

__all__ = ["app", "main"]

app = make_app("spnlog")

_COLOURS: Final = {
    "startSpnSession": "green",
    "endSpnSession": "yellow",
    "startSpnConnection": "cyan",
    "endSpnConnection": "blue",
}

Line = dict[str, Any]


@app.callback()
def _callback(context: typer.Context, _version: Version = False) -> None:
    """Read the events of SPN hubs."""
    if context.invoked_subcommand not in {"console", "serve"}:
        signals.release()


@app.command(cls=GroupedCommand)
@takes_log_options("every", "since", "until", "service", "realm", "type")
def replay(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Print the lifecycle lines, one JSON object a line, in order."""
    settings = settings_of()
    every, wanted = settings.every or bool(settings.type), selection_of(settings)

    async def read() -> None:
        async with entries(sources, printing=True) as found:
            async for _, recorded in found:
                if wanted.takes(recorded) and (line := _line(recorded, every)) is not None:
                    say_json(line)

    return run(read)


@app.command(cls=GroupedCommand)
@takes_log_options("last", "every", "since", "until", "service", "realm", "type")
def tail(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Print the last events and then each one as it comes, until interrupted."""
    settings = settings_of()
    every, wanted = settings.every or bool(settings.type), selection_of(settings)
    show = _json_printer() if settings.as_json or not sys.stdout.isatty() else _terminal_printer()

    async def read() -> None:
        async with AsyncExitStack() as stack:
            entered = await enter(stack, sources)
            seen: dict[LogKey, Missing] = {}
            recent: deque[Line] = deque(maxlen=settings.last)
            async for _, recorded in merge(entered, seen=seen):
                if wanted.takes(recorded) and (line := _line(recorded, every)) is not None:
                    recent.append(line)
            for line in recent:
                show(line)
            async for _, recorded in follow(entered, seen):
                if wanted.takes(recorded) and (line := _line(recorded, every)) is not None:
                    show(line)

    return run(read)


@app.command(cls=GroupedCommand)
@takes_log_options()
def verify(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Check that nothing is missing, doubled or out of place. Status 0 only when clean."""
    as_json = settings_of().as_json
    status = 0

    async def read() -> None:
        nonlocal status
        async with AsyncExitStack() as stack:
            result = await verify_sources(await enter(stack, sources), lambda read: watched(read, sources))
        status = 0 if result.clean else FAULTY
        if as_json:
            say_json(result.to_json())
        else:
            for line in result.render():
                say(line)

    return run(read) or status


for _command in (incidents, top, console, state, explain, metrics, serve, replay_actors):
    app.command(cls=GroupedCommand)(_command)
# Its name of before.
app.command("drive", hidden=True, cls=GroupedCommand)(replay_actors)


def _line(recorded: Recorded, every: bool) -> Line | None:
    return event_line(recorded) if every else lifecycle_line(recorded)


def _json_printer() -> Callable[[Line], None]:
    def show(line: Line) -> None:
        say_json(line, flush=True)

    return show


def _terminal_printer() -> Callable[[Line], None]:
    from rich.console import Console  # noqa: PLC0415 - only for terminals, and it takes a while to load
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)

    def show(line: Line) -> None:
        kind = str(line.get("eventType"))
        rest = " ".join(
            f"{name}={printable(str(value))}"
            for name, value in line.items()
            if name not in {"timestamp", "eventType"} and value != ""
        )
        console.print(
            Text.assemble((f"{line['timestamp']} ", "dim"), (kind, _COLOURS.get(kind, "red")), f" {rest}"),
            soft_wrap=True,
        )

    return show


def main() -> int:
    """Entry point of ``spnlog``; returns the exit status."""
    return run_command_line(app, "spnlog", variables=KafkaSettings.security_variables())
