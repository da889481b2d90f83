"""``spnlog explain``: the story of one session or connection. Counterpart: :mod:`spnhub.events.analysis.explain`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from spnhub.cli.log_reading import Sources, entries, run
from spnhub.cli.log_settings import LogSettings, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.explain import Search, Story
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.analysis.narrative import seconds_text
from spnhub.settings import SettingsError

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
        print(json.dumps({"stories": [story.to_json() for story in stories], "more": search.more}))  # noqa: T201
        return 0
    for place, story in enumerate(stories):
        if place:
            print()  # noqa: T201
        _show(story)
    if search.more:
        print(f"\nand {search.more} further legs called {name}: name one by its connectionUid")  # noqa: T201
    return 0


def _show(story: Story) -> None:
    print(story.summary())  # noqa: T201
    before: int | None = None
    for time, hub_id, text in story.render():
        if time is None:
            print(f"  {text}")  # noqa: T201
            continue
        # What took long is seen at a glance.
        gap = f"+{seconds_text((time - before) / 1_000_000)}" if before is not None and time >= before else ""
        print(f"  {format_time(time)} {gap:>11}  {hub_id}  {text}")  # noqa: T201
        before = time
