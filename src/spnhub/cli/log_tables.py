"""Tables for people, as wide as the terminal. Counterpart: the commands of ``spnlog``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spnhub.plain_text import printable

__all__ = ["console", "print_table", "shortened"]

_PIPE_WIDTH = 250
"""Width in columns where no terminal gives it: enough for a URN, a subject and some numbers."""

_GAP: Final = 2
"""Columns of a terminal between two of a table."""
_SHORTEST: Final = 8
"""Characters that are left of a name at least."""


def console() -> Console:
    """Standard output."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
    return Console(highlight=False, soft_wrap=False, width=width)


def print_table(
    out: Console, title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, limit: int | None = None
) -> None:
    """Print a table; nothing when it has no rows. Columns that begin with ``#`` are numbers.

    :param limit: rows that are shown; how many more there are is said.
    """
    shown: list[list[str]] = []
    more = 0
    for row in rows:
        if limit is not None and len(shown) >= limit:
            more += 1
            continue
        shown.append([_cell(value) for value in row])
    if not shown:
        return
    names = [column.removeprefix("#") for column in columns]
    widths = _widths(out.width, names, shown, [not column.startswith("#") for column in columns])
    table = Table(title=escape(printable(title)), title_justify="left", box=box.SIMPLE, pad_edge=False)
    for column, name in zip(columns, names, strict=True):
        table.add_column(name, justify="right" if column.startswith("#") else "left", overflow="fold")
    for cells in shown:
        table.add_row(*(escape(shortened(cell, width)) for cell, width in zip(cells, widths, strict=True)))
    out.print(table)
    if more:
        out.print(f"… and {more:,} more (--json shows all)", markup=False)


def shortened(text: str, width: int) -> str:
    """A name that is too long without its beginning: ``…acme:tokyo:web``. Several words are wrapped instead."""
    if len(text) <= width or " " in text:
        return text
    end = text[1 - width :]
    # At a colon, if that leaves most of it.
    at = end.find(":")
    return "…" + (end[at + 1 :] if 0 <= at < len(end) // 2 else end)


def _widths(width: int, names: Sequence[str], rows: Sequence[Sequence[str]], shrink: Sequence[bool]) -> list[int]:
    """Of the columns, so that all fit: the widest of those that may be shortened give way first."""
    least = [max(len(word) for word in name.split() or [""]) for name in names]
    wanted = [max(low, len(names[at]), *(len(row[at]) for row in rows)) for at, low in enumerate(least)]
    while sum(wanted) + _GAP * len(names) > width:
        able = [at for at, may in enumerate(shrink) if may and wanted[at] > max(least[at], _SHORTEST)]
        if not able:
            break
        wanted[max(able, key=wanted.__getitem__)] -= 1
    return wanted


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else printable(str(value))
