"""What the commands of ``spnlog`` share: sources to read from, how a command ends, and progress while it reads.

Counterparts: :mod:`spnhub.cli.log` and its companions ``log_…``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Final

import typer

from spnhub import streams
from spnhub.cli.command_line import one_line
from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.merge import Entry, merge
from spnhub.events.analysis.source import open_source
from spnhub.events.journal.files import JournalCorrupt, JournalError, segments
from spnhub.events.journal.reader import JournalPart
from spnhub.events.source import Source, SourceError
from spnhub.schemas.codec import SchemaError
from spnhub.settings import SettingsError
from spnhub.transport.system.loop import run as run_loop

__all__ = ["FAULTY", "Sources", "enter", "entries", "run", "watched"]

_SOURCE_HELP = "A journal folder, or kafka://host:port/topic. Several are merged."
Sources = Annotated[list[str], typer.Argument(metavar="SOURCE...", help=_SOURCE_HELP, show_default=False)]

FAULTY: Final = 1
"""Exit status when the log is not in order."""

PATIENCE: Final = 1.0
"""Seconds of reading before progress is shown."""
_EVERY: Final = 256
"""Events between two looks at the clock."""
_FRAME_OVERHEAD: Final = 8
"""Bytes of a journal's frame around an event."""


async def enter(
    stack: AsyncExitStack,
    names: Sequence[str],
    parts: Mapping[str, JournalPart] = MappingProxyType({}),
    incidents_of: Mapping[str, JournalIndex] = MappingProxyType({}),
) -> list[Source]:
    """Open all sources. When they are closed, what couldn't be read in them is reported on standard error.

    :param parts: by the name of a journal, what is read of it; else all.
    :param incidents_of: by the name of a journal, its index: only what concerns incidents is read.
    :raises SettingsError: one of them can't be used.
    """
    try:
        sources = [
            await stack.enter_async_context(
                open_source(name, part=parts.get(name), incidents_of=incidents_of.get(name))
            )
            for name in names
        ]
    except (SourceError, JournalError) as exc:
        raise SettingsError(str(exc)) from exc
    stack.callback(_report_unreadable, sources)
    for source in sources:
        if hasattr(source, "on_news"):
            source.on_news = partial(_print_news, source.name)
        for fault in getattr(source, "topic_faults", ()):
            if fault.loses:
                _print_news(source.name, fault.message)
    return sources


def _print_news(name: str, news: str) -> None:
    streams.say(one_line(f"spnlog: {name}: {news}"), error=True)


def _report_unreadable(sources: Sequence[Source]) -> None:
    for source in sources:
        if count := getattr(source, "unreadable_count", 0):
            unreadable: Sequence[tuple[int, int, str]] = getattr(source, "unreadable", ())
            partition, offset, reason = unreadable[0]
            first = f"the first is at partition {partition}, offset {offset}: {reason}"
            _print_news(source.name, f"{count} records passed over, no events known here; {first}")


@asynccontextmanager
async def entries(
    names: Sequence[str],
    *,
    printing: bool = False,
    parts: Mapping[str, JournalPart] = MappingProxyType({}),
    incidents_of: Mapping[str, JournalIndex] = MappingProxyType({}),
) -> AsyncIterator[AsyncIterator[Entry]]:
    """All events that the sources hold now, in order; progress is shown.

    :param printing: what is read is printed at once, which is progress enough on a terminal.
    :param parts: by the name of a journal, what is read of it; else all.
    :param incidents_of: by the name of a journal, its index: only what concerns incidents is read.
    :raises SettingsError: a source can't be used.
    """
    async with AsyncExitStack() as stack:
        read = merge(await enter(stack, names, parts, incidents_of))
        if printing and sys.stdout.isatty():
            yield read
        else:
            yield await stack.enter_async_context(aclosing(watched(read, names)))


async def watched(read: AsyncIterator[Entry], names: Sequence[str]) -> AsyncGenerator[Entry, None]:
    """The same events; on a terminal, progress is shown on standard error while reading takes more than a second."""
    if not sys.stderr.isatty():
        async for entry in read:
            yield entry
        return
    progress = _Progress(names)
    try:
        async for entry in read:
            progress.step(len(entry[0]) + _FRAME_OVERHEAD)
            yield entry
    finally:
        progress.close()


class _Progress:
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._begun = time.monotonic()
        self._events = 0
        self._bytes = 0
        self._bar: Any = None
        self._task: Any = None

    def step(self, size: int) -> None:
        self._events += 1
        self._bytes += size
        if self._events % _EVERY:
            return
        if self._bar is None:
            if time.monotonic() - self._begun < PATIENCE:
                return
            self._show()
        self._bar.update(self._task, completed=self._bytes, events=f"{self._events:,}")

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415 - only for terminals, and it takes a while to load
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn  # noqa: PLC0415

        text = TextColumn("reading: {task.fields[events]} events")
        self._bar = Progress(
            text, BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), console=Console(stderr=True), transient=True
        )
        self._task = self._bar.add_task("", total=_size(self._names), events="0")
        self._bar.start()


def _size(names: Sequence[str]) -> int | None:
    """Bytes in all journals; None: one of the sources isn't a journal, so the size isn't known."""
    if any("://" in name for name in names):
        return None
    return sum(path.stat().st_size for name in names for _, path in segments(Path(name)))


def run(main: Callable[[], Any]) -> int:
    """Run a command; its status. A reader that goes away, and an interrupt, are ordinary ends.

    :raises SettingsError: a source can't be read.
    """
    try:
        run_loop(main())
        sys.stdout.flush()
    except (streams.ReaderLeft, KeyboardInterrupt):
        streams.abandon()
    except (JournalCorrupt, SchemaError) as exc:
        sys.stdout.flush()
        streams.say(f"spnlog: {one_line(str(exc))}", error=True)
        return FAULTY
    except (SourceError, JournalError) as exc:
        raise SettingsError(str(exc)) from exc
    return 0
