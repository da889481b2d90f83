"""Tables for people, as wide as the terminal. Counterpart: the commands of ``spnlog``."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from spnhub.plain_text import printable

__all__ = ["console", "print_table"]

_PIPE_WIDTH = 250
"""Width in columns where no terminal gives it: enough for a URN, a subject and some numbers."""


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
    table = Table(title=escape(printable(title)), title_justify="left", box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(
            column.removeprefix("#"), justify="right" if column.startswith("#") else "left", overflow="fold"
        )
    more = 0
    for row in rows:
        if limit is not None and table.row_count >= limit:
            more += 1
            continue
        table.add_row(*(_cell(value) for value in row))
    if table.row_count:
        out.print(table)
        if more:
            out.print(f"… and {more:,} more (--json shows all)", markup=False)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else escape(printable(str(value)))
