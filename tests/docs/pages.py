"""The documents as the tests read them: pages, marked tables, marked examples, what stands in code spans.

A comment before a fenced block says what a test does with it; a reader of the page sees none of these:

- ``<!-- test: file NAME -->``: write it to that file;
- ``<!-- test: run -->``: run it with bash, in the same folder; its status has to be 0;
- ``<!-- test: prints -->``: what the block before has written to standard output;
- ``<!-- test: start TEXT -->``: run it and leave it running once it has written that;
- ``<!-- test: after PAGE [until TEXT] -->``, without a block: begin with the blocks of that page, up to the one that is
  started until TEXT.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["PAGES", "ROOT", "Block", "blocks", "continued", "fenced", "name", "spans", "table"]

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CHANGELOG", "schemas/README", "compose/README")),
    *sorted((ROOT / "transport").glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
"""Every document of the site."""

_MARK: Final = re.compile(
    r"<!-- test: (?P<verb>\w+)(?: (?P<argument>[^\n]+?))? -->\n(?:```\w*\n(?P<text>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
_FENCED: Final = re.compile(r"^```(?P<language>[\w{}-]*)[^\n]*\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """An example, and what is done with it."""

    page: str
    verb: str
    argument: str
    text: str


def name(page: Path) -> str:
    """As others call it: from the repository's root."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: str) -> list[Block]:
    """The marked blocks of a page, in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(page, found["verb"], found["argument"] or "", found["text"] or "")
        for found in _MARK.finditer(text)
        if found["verb"] != "after"
    ]


def continued() -> dict[str, tuple[str, str]]:
    """By page that has marked blocks: which page it goes on from, and until where ("": to its end)."""
    pages = {}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        if _MARK.search(text) is None:
            continue
        found = [found["argument"] for found in _MARK.finditer(text) if found["verb"] == "after"]
        assert len(found) <= 1, page
        before, _, until = "".join(found).partition(" until ")
        pages[name(page)] = (before, until)
    return pages


def fenced(page: Path) -> Iterator[tuple[str, str, bool]]:
    """Every fenced block: its language, its text, and whether it is marked."""
    text = page.read_text(encoding="utf-8")
    for found in _FENCED.finditer(text):
        before = text[: found.start()].rstrip("\n").rpartition("\n")[2]
        yield found["language"], found["text"], before.startswith("<!-- test: ")


def spans(page: Path) -> Iterator[str]:
    """What stands in code spans, outside of fenced blocks."""
    text = _FENCED.sub("", page.read_text(encoding="utf-8"))
    for found in re.finditer(r"(?<!`)`([^`]+)`(?!`)", text):
        yield " ".join(found[1].split())


def table(marker: str) -> list[list[str]]:
    """The cells of the one table behind ``<!-- marker -->``, in whichever page it is."""
    mark = f"<!-- {marker} -->\n\n"
    (text,) = [text for page in PAGES if mark in (text := page.read_text(encoding="utf-8"))]
    rows = text.split(mark, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]
