"""``spnlog``: reads events, from journal folders and from Kafka, and says what they tell.

Counterparts: :mod:`spnhub.events.source` (where from), :mod:`spnhub.events.lifecycle` (the lines),
:mod:`spnhub.events.verify` (the verdict).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Annotated, Any, Final

import typer

from spnhub.cli.command_line import one_line, run_command_line
from spnhub.events.journal_files import JournalCorrupt, JournalError
from spnhub.events.lifecycle import event_line, lifecycle_line
from spnhub.events.merge import LogKey, Missing, follow, merge
from spnhub.events.model import Recorded
from spnhub.events.source import Source, SourceError, open_source
from spnhub.events.verify import verify as verify_sources
from spnhub.schemas.codec import SchemaError
from spnhub.settings import ConfigurationError

__all__ = ["app", "main"]

app = typer.Typer(
    name="spnlog", add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=False
)

_SOURCE_HELP = "A journal folder, or kafka://host:port/topic. Several are merged."
_Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help=_SOURCE_HELP, show_default=False)]
_Json = Annotated[bool, typer.Option("--json", help="For programs: JSON, with the names of the spec.")]
_All = Annotated[bool, typer.Option("--all", help="Every event with all its fields, not only the lifecycle lines.")]

_FAULTY: Final = 1
"""Exit status when the log is not in order."""

_COLOURS: Final = {
    "startSpnSession": "green",
    "endSpnSession": "yellow",
    "startSpnConnection": "cyan",
    "endSpnConnection": "blue",
}

Line = dict[str, Any]


@app.callback()
def _callback() -> None:
    """Read the events of SPN hubs."""


@app.command()
def replay(
    sources: _Sources,
    every: _All = False,
    as_json: _Json = False,  # noqa: ARG001 - what replay prints is JSON in any case
) -> int:
    """Print the lifecycle lines, one JSON object a line, in order."""

    async def run() -> None:
        async with AsyncExitStack() as stack:
            async for _, recorded in merge(await _enter(stack, sources)):
                if (line := _line(recorded, every)) is not None:
                    print(json.dumps(line))  # noqa: T201 - what the command is for

    return _run(run)


@app.command()
def tail(
    sources: _Sources,
    every: _All = False,
    as_json: _Json = False,
    last: Annotated[int, typer.Option("--last", min=0, help="How many of the present events to begin with.")] = 10,
) -> int:
    """Print the last events and then each one as it comes, until interrupted."""
    show = _json_printer() if as_json or not sys.stdout.isatty() else _terminal_printer()

    async def run() -> None:
        async with AsyncExitStack() as stack:
            entered = await _enter(stack, sources)
            seen: dict[LogKey, Missing] = {}
            recent: deque[Line] = deque(maxlen=last)
            async for _, recorded in merge(entered, seen=seen):
                if (line := _line(recorded, every)) is not None:
                    recent.append(line)
            for line in recent:
                show(line)
            async for _, recorded in follow(entered, seen):
                if (line := _line(recorded, every)) is not None:
                    show(line)

    return _run(run)


@app.command()
def verify(sources: _Sources, as_json: _Json = False) -> int:
    """Check that nothing is missing, doubled or out of place. Status 0 only when clean."""
    status = 0

    async def run() -> None:
        nonlocal status
        async with AsyncExitStack() as stack:
            result = await verify_sources(await _enter(stack, sources))
        status = 0 if result.clean else _FAULTY
        print(json.dumps(result.to_json()) if as_json else "\n".join(result.render()))  # noqa: T201

    return _run(run) or status


def _line(recorded: Recorded, every: bool) -> Line | None:
    return event_line(recorded) if every else lifecycle_line(recorded)


async def _enter(stack: AsyncExitStack, names: Sequence[str]) -> list[Source]:
    """Open all sources.

    :raises ConfigurationError: one of them can't be used.
    """
    try:
        return [await stack.enter_async_context(open_source(name)) for name in names]
    except (SourceError, JournalError) as exc:
        raise ConfigurationError(str(exc)) from exc


def _run(main: Callable[[], Any]) -> int:
    """Run a command; its status. A reader that goes away, and an interrupt, are ordinary ends.

    :raises ConfigurationError: a source can't be read.
    """
    try:
        asyncio.run(main())
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        pass
    except (JournalCorrupt, SchemaError) as exc:
        sys.stdout.flush()
        print(f"spnlog: {one_line(str(exc))}", file=sys.stderr)  # noqa: T201
        return _FAULTY
    except (SourceError, JournalError) as exc:
        raise ConfigurationError(str(exc)) from exc
    return 0


def _json_printer() -> Callable[[Line], None]:
    def show(line: Line) -> None:
        print(json.dumps(line), flush=True)  # noqa: T201

    return show


def _terminal_printer() -> Callable[[Line], None]:
    from rich.console import Console  # noqa: PLC0415 - only for terminals, and it takes a while to load
    from rich.text import Text  # noqa: PLC0415

    console = Console(highlight=False)

    def show(line: Line) -> None:
        kind = str(line.get("eventType"))
        rest = " ".join(
            f"{name}={value}" for name, value in line.items() if name not in {"timestamp", "eventType"} and value != ""
        )
        console.print(
            Text.assemble((f"{line['timestamp']} ", "dim"), (kind, _COLOURS.get(kind, "red")), f" {rest}"),
            soft_wrap=True,
        )

    return show


def main() -> None:
    """The command ``spnlog``."""
    sys.exit(run_command_line(app, "spnlog"))
