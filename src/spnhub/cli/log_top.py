"""``spnlog top``: what there is and what flows, on a terminal, as it changes. Counterpart: :mod:`spnhub.console`."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import typer

from spnhub.cli.log_reading import Sources, run
from spnhub.cli.log_settings import LogSettings, takes_log_options
from spnhub.cli.options import Reader
from spnhub.streams import say_json

if TYPE_CHECKING:
    from spnhub.console.live import Live
    from spnhub.console.page import Page

__all__ = ["top"]

_EVERY: Final = 1.0
"""Seconds between two pictures."""
_LINES: Final = 1_000
"""Of a picture that isn't for a terminal."""


@takes_log_options("realm", "service")
def top(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Show services, hubs, rates and incidents as they change, until interrupted; once where no terminal is."""
    settings = settings_of()

    async def watch() -> None:
        from spnhub.console.live import Live  # noqa: PLC0415 - it takes a while to load
        from spnhub.console.page import page_of  # noqa: PLC0415

        live = Live(sources)
        following = asyncio.create_task(live.run(), name="follow")
        try:
            await _caught_up(live, following)

            def page() -> Page:
                return page_of(live.seen(time.time_ns() // 1000), settings.realm, settings.service or "")

            if settings.as_json:
                say_json(page().to_json())
            elif sys.stdout.isatty():
                await _redraw(page, following)
            else:
                _print(page())
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)

    return run(watch)


async def _caught_up(live: Live, following: asyncio.Task[None]) -> None:
    while not live.ready:
        live.changed.clear()
        changed = asyncio.create_task(live.changed.wait())
        await asyncio.wait([following, changed], return_when=asyncio.FIRST_COMPLETED)
        changed.cancel()
        if following.done():
            following.result()


def _print(page: Page) -> None:
    from spnhub.cli.log_tables import console  # noqa: PLC0415 - rich takes a while to load
    from spnhub.cli.top_picture import picture  # noqa: PLC0415

    out = console()
    out.print(picture(page, out.width, _LINES))


async def _redraw(page: Callable[[], Page], following: asyncio.Task[None]) -> None:
    from rich.live import Live as Screen  # noqa: PLC0415 - rich takes a while to load

    from spnhub.cli.log_tables import console  # noqa: PLC0415
    from spnhub.cli.top_picture import picture  # noqa: PLC0415

    out = console()
    with Screen(console=out, screen=True, auto_refresh=False) as screen:
        while not following.done():
            # The terminal's size now: it may change.
            out.size = out.size.__class__(*_size())
            screen.update(picture(page(), out.width, out.height), refresh=True)
            await asyncio.wait([following], timeout=_EVERY)
    following.result()


def _size() -> tuple[int, int]:
    import shutil  # noqa: PLC0415 - beside rich

    return shutil.get_terminal_size()
