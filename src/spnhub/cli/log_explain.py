"""``spnlog explain``: the story of one session or connection. Counterpart: :mod:`spnhub.events.analysis.explain`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer

from spnhub.cli.log_index import Indexes
from spnhub.cli.log_reading import Sources, entries, run
from spnhub.cli.log_settings import LogSettings, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.explain import Search, Story
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.narrative import seconds_text
from spnhub.plain_text import printable
from spnhub.settings import SettingsError
from spnhub.streams import say, say_json

__all__ = ["explain"]


@takes_log_options("index")
def explain(
    _: typer.Context,
    settings_of: Reader[LogSettings],
    name: Annotated[str, typer.Argument(metavar="ID", help="An spnSessionId, a connectionUid or an spnConnectionId.")],
    sources: Sources,
) -> int:
    """Tell what happened to one session or connection, over the logs of all hubs. Reads the sources twice."""
    settings = settings_of()
    as_json = settings.as_json
    search = Search(name)
    stories: list[Story] = []

    async def read() -> None:
        nonlocal search
        indexes = Indexes(sources, settings.index)
        for _ in range(2):
            keys, parts = search.keys(), indexes.parts(search)
            search = Search(name)
            async with entries(sources, parts=parts) as found:
                async for _, recorded in found:
                    search.take(recorded)
            if search.keys() <= keys:
                # Else an id has turned out to be of connections that other segments name by their uid only.
                break
        if not search.found:
            raise SettingsError(
                f"nothing in {' '.join(sources)} is called {name}: no spnSessionId, connectionUid or spnConnectionId"
            )
        stories.extend(search.stories())
        async with entries(sources, parts=indexes.parts(*stories)) as found:
            async for _, recorded in found:
                for story in stories:
                    story.take(recorded)

    status = run(read)
    if status:
        return status
    if as_json:
        say_json({"stories": [story.to_json() for story in stories], "more": search.more})
        return 0
    for place, story in enumerate(stories):
        if place:
            say()
        _show(story)
    if search.more:
        say()
        say(f"and {search.more} further legs called {name}: name one by its connectionUid")
    return 0


def _show(story: Story) -> None:
    if sys.stdout.isatty():
        _show_on_terminal(story)
        return
    say(story.summary())
    for time, gap, hub_id, text in _rows(story):
        say(f"  {text}" if time is None else f"  {format_time(time)} {gap:>11}  {hub_id}  {text}")


def _rows(story: Story) -> Iterator[tuple[int | None, str, str, str]]:
    before: int | None = None
    for time, hub_id, text in story.render():
        if time is None:
            yield None, "", "", text
            continue
        # What took long is seen at a glance.
        gap = f"+{seconds_text((time - before) / 1_000_000)}" if before is not None and time >= before else ""
        yield time, gap, hub_id, text
        before = time


def _show_on_terminal(story: Story) -> None:
    """With a hanging indent; the date where it changes."""
    from rich.table import Table  # noqa: PLC0415 - only for terminals, and it takes a while to load
    from rich.text import Text  # noqa: PLC0415

    from spnhub.cli.log_tables import console  # noqa: PLC0415

    out = console()
    out.print(Text(printable(story.summary()), "bold"))
    grid = Table.grid(padding=(0, 1))
    for style in ("dim", "yellow", "cyan", ""):
        grid.add_column(style=style, no_wrap=bool(style), justify="right" if style == "yellow" else "left")
    day = ""
    for time, gap, hub_id, text in _rows(story):
        today, _, clock = ("", "", "") if time is None else format_time(time).partition("T")
        if today and today != day:
            day = today
            grid.add_row(day)
        grid.add_row(clock[:12], gap, printable(hub_id), Text(printable(text)))
    out.print(grid)
