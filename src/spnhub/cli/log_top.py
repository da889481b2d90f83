"""``spnlog top``: what there is and what flows, on a terminal, as it changes. Counterpart: :mod:`spnhub.console`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

import typer

from spnhub.cli.command_line import one_line
from spnhub.cli.log_reading import Sources, run
from spnhub.cli.log_settings import LogSettings, hub_urls, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.journal_index import default_index_folder
from spnhub.streams import say, say_json

if TYPE_CHECKING:
    from spnhub.console.hubs import RunningHubs
    from spnhub.console.live import Live
    from spnhub.console.page import Page
    from spnhub.console.past import Past

__all__ = ["top"]

_EVERY: Final = 1.0
"""Seconds between two pictures."""
_LINES: Final = 1_000
"""Of a picture that isn't for a terminal."""


@takes_log_options("realm", "service", "hub", "hub_token", "index")
def top(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Show services, hubs, rates and incidents as they change, until interrupted; once where no terminal is."""
    settings = settings_of()
    urls = hub_urls(settings)

    async def watch() -> None:
        from spnhub.console.hubs import RunningHubs  # noqa: PLC0415
        from spnhub.console.live import Live  # noqa: PLC0415 - it takes a while to load
        from spnhub.console.page import page_of  # noqa: PLC0415
        from spnhub.console.past import Past  # noqa: PLC0415

        past = Past([Path(name) for name in sources if "://" not in name], settings.index or default_index_folder())
        # It makes none: where the console, or another command, hasn't, the last segment says what there is.
        indexed = bool(past.indexes) and all(index.reaches_last for index in past.indexes.values())
        live = Live(sources, past.indexes if indexed else None, holding=indexed)
        hubs = RunningHubs(urls, settings.hub_token)
        following = asyncio.create_task(live.run(), name="follow")
        asking = asyncio.create_task(hubs.ask_once(), name="hubs")
        telling = asyncio.create_task(_tell_past(live, past) if indexed else asyncio.sleep(0), name="past")
        try:
            await _caught_up(live, following)
            await asking

            def page() -> Page:
                seen = hubs.completed(live.seen(time.time_ns() // 1000))
                return page_of(seen, settings.realm, settings.service or "")

            on_terminal = sys.stdout.isatty() and not settings.as_json
            if not on_terminal:
                await telling
                for url, reason in hubs.silent.items():
                    say(one_line(f"spnlog: the hub at {url} doesn't answer: {reason}"), error=True)
            if settings.as_json:
                say_json(page().to_json())
            elif on_terminal:
                # What went wrong before comes when it has been read.
                asking = asyncio.create_task(hubs.ask(), name="hubs")
                await _redraw(page, following, hubs)
            else:
                _print(page())
        finally:
            tasks = asking, following, telling
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    return run(watch)


async def _tell_past(live: Live, past: Past) -> None:
    """What the index has of before."""
    await live.until_ready()
    live.begin_with(*await asyncio.to_thread(past.before, dict(live.begun)))


async def _caught_up(live: Live, following: asyncio.Task[None]) -> None:
    caught_up = asyncio.create_task(live.until_ready())
    await asyncio.wait([following, caught_up], return_when=asyncio.FIRST_COMPLETED)
    caught_up.cancel()
    if following.done():
        following.result()


def _print(page: Page) -> None:
    from spnhub.cli.log_tables import console  # noqa: PLC0415 - rich takes a while to load
    from spnhub.cli.top_picture import picture  # noqa: PLC0415

    out = console()
    out.print(picture(page, out.width, _LINES))


async def _redraw(page: Callable[[], Page], following: asyncio.Task[None], hubs: RunningHubs) -> None:
    from rich.live import Live as Screen  # noqa: PLC0415 - rich takes a while to load

    from spnhub.cli.log_tables import console  # noqa: PLC0415
    from spnhub.cli.top_picture import picture  # noqa: PLC0415

    out = console()
    with Screen(console=out, screen=True, auto_refresh=False) as screen:
        while not following.done():
            # The terminal's size now: it may change.
            out.size = out.size.__class__(*_size())
            screen.update(picture(page(), out.width, out.height, silent=tuple(hubs.silent)), refresh=True)
            await asyncio.wait([following], timeout=_EVERY)
    following.result()


def _size() -> tuple[int, int]:
    import shutil  # noqa: PLC0415 - beside rich

    return shutil.get_terminal_size()
