"""``spnlog explain``: the story of one session or connection. Counterpart: :mod:`spnhub.events.analysis.explain`."""

from __future__ import annotations

from typing import Annotated

import typer

from spnhub.cli.log_reading import Sources, entries, run
from spnhub.cli.log_settings import LogSettings, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.explain import Search, Story
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.narrative import seconds_text
from spnhub.settings import SettingsError
from spnhub.streams import say, say_json

__all__ = ["explain"]


@takes_log_options()
def explain(
    _: typer.Context,
    settings_of: Reader[LogSettings],
    name: Annotated[str, typer.Argument(metavar="ID", help="An spnSessionId, a connectionUid or an spnConnectionId.")],
    sources: Sources,
) -> int:
    """Tell what happened to one session or connection, over the logs of all hubs. Reads the sources twice."""
    as_json = settings_of().as_json
    search = Search(name)
    stories: list[Story] = []

    async def read() -> None:
        async with entries(sources) as found:
            async for _, recorded in found:
                search.take(recorded)
        if not search.found:
            raise SettingsError(
                f"nothing in {' '.join(sources)} is called {name}: no spnSessionId, connectionUid or spnConnectionId"
            )
        stories.extend(search.stories())
        async with entries(sources) as found:
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
    say(story.summary())
    before: int | None = None
    for time, hub_id, text in story.render():
        if time is None:
            say(f"  {text}")
            continue
        # What took long is seen at a glance.
        gap = f"+{seconds_text((time - before) / 1_000_000)}" if before is not None and time >= before else ""
        say(f"  {format_time(time)} {gap:>11}  {hub_id}  {text}")
        before = time
