"""``spnlog incidents``: what went wrong, one line for each fault.

Counterpart: :mod:`spnhub.events.analysis.incidents`.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from spnhub.cli.log_index import Indexes
from spnhub.cli.log_reading import entries, run
from spnhub.cli.log_settings import LogSettings, selection_of, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.incidents import Incident, Incidents
from spnhub.events.analysis.narrative import seconds_text
from spnhub.events.model import to_datetime
from spnhub.settings import SettingsError
from spnhub.streams import say, say_json

__all__ = ["incidents"]


_Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="A journal folder, kafka://host:port/topic, or a running hub's HTTP: http://host:port (its --ops).",
        show_default=False,
    ),
]


@takes_log_options("since", "until", "service", "realm", "hub_token", "index")
def incidents(_: typer.Context, settings_of: Reader[LogSettings], sources: _Sources) -> int:
    """Show what went wrong: who and what, why, since when and how long, how often, and who or what ended it."""
    settings = settings_of()
    wanted = selection_of(settings)
    fold = Incidents()
    hubs = [name for name in sources if name.startswith(("http://", "https://"))]
    logs = [name for name in sources if name not in hubs]
    told: list[Incident] = []
    omitted = 0

    async def read() -> None:
        nonlocal omitted
        for hub in hubs:
            of_hub, more = await _of_hub(hub, settings.hub_token)
            told.extend(of_hub)
            omitted += more
        async with entries(logs, incidents_of=Indexes(logs, settings.index).by_name) as found:
            async for _, recorded in found:
                # Those before --since, too: an incident that goes on had its beginning there.
                if not wanted.after(recorded):
                    fold.take(recorded)

    status = run(read)
    if status:
        return status
    now = time.time_ns() // 1000
    first = 0 if wanted.since is None else wanted.since.time or 0
    last = None if wanted.until is None else wanted.until.time
    told = [one for one in told if last is None or one.since <= last]
    omitted += fold.omitted
    found = [
        one
        for one in sorted((*fold.finish(now if wanted.until is None else None), *told), key=lambda one: one.since)
        if wanted.names(one.realm, one.service_urn) and (one.state == "open" or (one.over or one.last) >= first)
    ]
    if settings.as_json:
        report = {"incidents": [one.to_json() for one in found], "omitted": omitted}
        say_json(report)
        return 0
    for one in found:
        for line in _lines(one, now):
            say(line)
    if not found:
        say("no incidents")
    if omitted:
        say(f"… and {omitted:,} older ones")
    return 0


async def _of_hub(url: str, token: str | None) -> tuple[list[Incident], int]:
    """A running hub's incidents since its start, and how many older ones it has no room for.

    :raises SettingsError: it doesn't tell.
    """
    from spnhub.ops.client import ask_hub  # noqa: PLC0415 - it takes a while to load

    path = f"{url.rstrip('/')}/incidents"
    found = await ask_hub(path, token, option=f"source {url}")
    try:
        return [Incident.from_json(one) for one in found["incidents"]], int(found["omitted"])
    except (KeyError, TypeError, ValueError) as error:
        raise SettingsError(f"source {url}: {path} isn't a hub's") from error


def _lines(one: Incident, now: int) -> Iterator[str]:
    text = _text(one, now)
    if not sys.stdout.isatty():
        yield text
        return
    width = shutil.get_terminal_size().columns
    yield from textwrap.wrap(text, max(width, 40), subsequent_indent="    ", break_on_hyphens=False)


def _text(one: Incident, now: int) -> str:
    begun = to_datetime(one.since).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")
    end = one.over if one.over is not None else now if one.state == "open" else one.last
    lasted = seconds_text(max(0, end - one.since) / 1_000_000)
    who = one.who if one.service_urn is None or one.service_urn in one.who else f"{one.who} of {one.service_urn}"
    words = [f"{begun}  {one.state:4}  {lasted}  ×{one.count:,}  {one.kind}: {who}"]
    if one.why:
        words.append(f"  {one.why}")
    if one.connections:
        words.append(f"; {one.connections:,} connection{'s' * (one.connections > 1)} ({', '.join(one.uids)})")
    if one.recovered:
        words.append(f"; over: {one.recovered}")
    if one.hubs and one.who not in one.hubs:
        words.append(f"; on {', '.join(one.hubs)}")
    return "".join(words)
