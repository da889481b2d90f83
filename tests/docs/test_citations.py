"""Ids of requirements and decisions that code, tests and documents cite are those that docs/ defines."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, name, spans

FOLDERS = ("src", "transport", "actors", "events", "schemas", "tests", "docs", "compose", ".ci")
KINDS = {".py", ".md", ".toml", ".avsc", ".json", ".yaml", ".yml", ".sql", ".sh", ""}
CITED = re.compile(r"(?<![\w-])(?:R-\d+\.\d+|D-\d+)(?![\w-]|\.\d)")
SHORT = re.compile(r"(?<![\w-])R-\d+(?![\w.-])")
"""Half an id."""


def _defined() -> set[str]:
    requirements = (ROOT / "docs" / "specification.md").read_text(encoding="utf-8")
    decisions = (ROOT / "docs" / "decisions.md").read_text(encoding="utf-8")
    found = re.findall(r"^- (R-\d+\.\d+) ", requirements, re.MULTILINE)
    found += re.findall(r"^- \*\*(D-\d+)\b", decisions, re.MULTILINE)
    assert len(found) == len(set(found)), "an id is defined twice"
    return set(found)


def _texts() -> Iterator[Path]:
    yield from ROOT.glob("*.md")
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in KINDS and not {"__pycache__", "corpus"} & set(path.parts):
                yield path


def _unknown(text: str, defined: set[str]) -> set[str]:
    return {cited for cited in CITED.findall(text) if cited not in defined} | set(SHORT.findall(text))


def test_what_is_cited_is_defined() -> None:
    """A stranger finds each of them."""
    defined = _defined()
    unknown = {
        str(path.relative_to(ROOT)): sorted(ids)
        for path in _texts()
        if path != Path(__file__) and (ids := _unknown(path.read_text(encoding="utf-8"), defined))
    }
    assert unknown == {}
    assert len(defined) > 60


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("as R-2.5 and D-1 have it", set()),
        ("R-9.9, (D-99): R-6.4.", {"R-9.9", "D-99", "R-6.4"}),
        ("R-7 is none", {"R-7"}),
        ("SHA-D-1000x, BOARD-12, R-1.2.3", set()),
    ],
)
def test_citations_are_found(text: str, unknown: set[str]) -> None:
    """In whatever stands around them."""
    assert _unknown(text, _defined()) == unknown


def test_links_between_documents() -> None:
    """Relative links lead somewhere, anchors included; Sphinx checks those between pages again."""
    dead = [
        f"{name(page)}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target and not _leads(page, target)
    ]
    assert dead == []


def _leads(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    found = page.parent / path if path else page
    return found.exists() and (not anchor or anchor in _anchors(found.read_text(encoding="utf-8")))


def _anchors(text: str) -> set[str]:
    """Of the headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths(page: Path) -> None:
    """Every file that a document names is there."""
    named = {
        span
        for span in spans(page)
        if re.fullmatch(r"(?:actors|transport|events|schemas|tests|src|compose)/[\w./]*", span)
    }
    assert [path for path in sorted(named) if not ((ROOT / path).exists() or (page.parent / path).exists())] == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_blocks_end(page: Path) -> None:
    """Every fenced block that begins ends, on a line of its own: else what follows is shown as code."""
    fences = re.findall(r"^ *```.*$", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert [fence.strip() for fence in fences[1::2]] == ["```"] * (len(fences) // 2)
    assert len(fences) % 2 == 0
    assert not re.search(r"\S ```$", page.read_text(encoding="utf-8"), re.MULTILINE)
