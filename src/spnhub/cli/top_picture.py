"""The picture of ``spnlog top``: as many lines as fit. Counterparts: :mod:`spnhub.console.page`, :mod:`.log_top`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from spnhub.cli.log_tables import shortened
from spnhub.console.page import Page
from spnhub.console.text import hub_numbers, service_numbers, size_text
from spnhub.events.analysis.flow import SPAN
from spnhub.events.analysis.log_lines import format_time
from spnhub.plain_text import printable

__all__ = ["picture"]

_HEADS: Final = 9
"""Lines that aren't rows: the first ones, titles, heads of columns and what separates."""
_STYLES: Final = {
    "serving": "green",
    "running": "green",
    "failing": "yellow",
    "unresponsive": "red",
    "no provider": "red",
    "removed": "yellow",
    "stopped": "yellow",
    "open": "red",
    "over": "green",
    "past": "yellow",
}
_SHORTEST: Final = 8
"""Columns of a name at least."""


def picture(page: Page, width: int, height: int, *, silent: Sequence[str] = ()) -> RenderableType:
    """What fits into so many columns and lines.

    :param silent: URLs of hubs that don't answer.
    """
    room = max(3, height - _HEADS - bool(silent))
    if page.hubs.total + page.services.total + page.incidents.total > room:
        room = max(3, room - 3)  # lines that say how many more there are
    hubs = min(len(page.hubs.rows), max(1, room // 6))
    incidents = min(len(page.incidents.rows), max(1, room // 3))
    services = max(1, room - hubs - incidents)
    parts: list[RenderableType] = [_head(page)]
    if silent:
        text = f"no answer from the hub at {', '.join(silent)}"
        parts.append(Text(printable(text), "red", overflow="ellipsis", no_wrap=True))
    parts += _hubs(page, hubs, width)
    parts += _services(page, services, width)
    parts += _incidents(page, incidents, width)
    return Group(*parts)


def _head(page: Page) -> Text:
    flow = page.totals
    realm = f"  realm {printable(page.scope)}" if page.scope is not None else ""
    return Text.assemble(
        (f"{format_time(page.time)[:19]}Z{realm}", "bold"),
        f"  {page.services.total:,} services, {page.sessions:,} sessions, {page.connections:,} connections\n",
        f"{flow.opened / SPAN:.1f} connections/s, {flow.failed} failed in the last minute;"
        f" {size_text(flow.sent / SPAN)}/s to providers, {size_text(flow.received / SPAN)}/s back",
        overflow="ellipsis",
        no_wrap=True,
    )


def _hubs(page: Page, limit: int, width: int) -> list[RenderableType]:
    rows = (
        (
            row.hub_id,
            row.condition,
            row.version,
            *hub_numbers(row, page.time),
        )
        for row in page.hubs.rows[:limit]
    )
    heads = ("~hub", "is", "version", "#sessions", "#connections", "#last event")
    return _table(heads, rows, page.hubs.total - limit, width)


def _services(page: Page, limit: int, width: int) -> list[RenderableType]:
    rows = (
        (
            row.urn,
            row.condition,
            *service_numbers(row),
        )
        for row in page.services.rows[:limit]
    )
    heads = ("~service", "is", "#prov.", "#cons.", "#conn.", "#new/s", "#failed", "#bytes/s")
    return _table(heads, rows, page.services.total - limit, width)


def _incidents(page: Page, limit: int, width: int) -> list[RenderableType]:
    if not page.incidents.rows:
        return [Text("no incidents", "dim")]
    rows = (
        (one.kind, one.state, format_time(one.since)[11:19], f"{one.count:,}", one.who, one.why)
        for one in page.incidents.rows[:limit]
    )
    return _table(("incident", "is", "since", "#count", "~who", "~why"), rows, page.incidents.total - limit, width)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], more: int, width: int) -> list[RenderableType]:
    """Columns that begin with ``#`` are numbers; those that begin with ``~`` give way where there is little room."""
    cells = [[printable(cell) for cell in row] for row in rows]
    names = [head.lstrip("#~") for head in heads]
    widths = [max(len(name), *(len(row[at]) for row in cells), 1) for at, name in enumerate(names)]
    able = [at for at, head in enumerate(heads) if head.startswith("~")]
    room = width - sum(found for at, found in enumerate(widths) if at not in able) - len(widths)
    for left, at in zip(range(len(able), 0, -1), sorted(able, key=widths.__getitem__), strict=True):
        # The shortest first: what it doesn't need is the others'.
        widths[at] = min(widths[at], max(_SHORTEST, room // left))
        room -= widths[at]
    table = Table(box=None, pad_edge=False, expand=False, padding=(0, 1, 0, 0))
    for head, name, of in zip(heads, names, widths, strict=True):
        table.add_column(
            name,
            justify="right" if head.startswith("#") else "left",
            no_wrap=True,
            overflow="ellipsis",
            header_style="bold",
            min_width=min(of, width),
        )
    for row in cells:
        # A name is told by its end: URNs begin alike.
        shown = (shortened(cell, of) for cell, of in zip(row, widths, strict=True))
        table.add_row(*(Text(text, _STYLES.get(cell, "")) for cell, text in zip(row, shown, strict=True)))
    rest: list[RenderableType] = [Text(f"… and {more:,} more", "dim")] if more > 0 else []
    return [Text(""), table, *rest]
