"""``spnlog incidents``: what went wrong, one line for each fault.

Counterpart: :mod:`spnhub.events.analysis.incidents`.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Iterator

import typer

from spnhub.cli.log_reading import Sources, entries, run
from spnhub.cli.log_settings import LogSettings, selection_of, takes_log_options
from spnhub.cli.options import Reader
from spnhub.events.analysis.incidents import Incident, Incidents
from spnhub.events.analysis.narrative import seconds_text
from spnhub.events.model import to_datetime
from spnhub.streams import say, say_json

__all__ = ["incidents"]


@takes_log_options("since", "until", "service", "realm")
def incidents(_: typer.Context, settings_of: Reader[LogSettings], sources: Sources) -> int:
    """Show what went wrong: who and what, why, since when and how long, how often, and who or what ended it."""
    settings = settings_of()
    wanted = selection_of(settings)
    fold = Incidents()

    async def read() -> None:
        async with entries(sources) as found:
            async for _, recorded in found:
                # Those before --since, too: an incident that goes on had its beginning there.
                if not wanted.after(recorded):
                    fold.take(recorded)

    status = run(read)
    if status:
        return status
    now = time.time_ns() // 1000
    first = 0 if wanted.since is None else wanted.since.time or 0
    found = [
        one
        for one in fold.finish(now if wanted.until is None else None)
        if wanted.names(one.realm, one.service_urn) and (one.state == "open" or (one.over or one.last) >= first)
    ]
    if settings.as_json:
        report = {"incidents": [one.to_json() for one in found], "omitted": fold.omitted}
        say_json(report)
        return 0
    for one in found:
        for line in _lines(one, now):
            say(line)
    if not found:
        say("no incidents")
    if fold.omitted:
        say(f"… and {fold.omitted:,} older ones")
    return 0


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
    why = ": ".join(filter(None, (one.code, one.reason)))
    words = [f"{begun}  {one.state:4}  {lasted}  ×{one.count:,}  {one.kind}: {who}"]
    if why:
        words.append(f"  {why}")
    if one.connections:
        words.append(f"; {one.connections:,} connection{'s' * (one.connections > 1)} ({', '.join(one.uids)})")
    if one.recovered:
        words.append(f"; over: {one.recovered}")
    if one.hubs and one.who not in one.hubs:
        words.append(f"; on {', '.join(one.hubs)}")
    return "".join(words)
