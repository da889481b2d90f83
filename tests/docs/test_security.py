"""SECURITY.md names tests and documents that are there, and every promise has one."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT

TEXT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")


def test_what_it_names_is_there() -> None:
    """Tests by their paths, documents by their links."""
    named = re.findall(r"`(tests/[\w./]+)`", TEXT) + re.findall(r"\]\(([\w./-]+)\)", TEXT)
    assert len(named) > 20
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_promise_is_shown() -> None:
    """By at least one test."""
    promises = TEXT.partition("## What is promised")[2].partition("\n## ")[0]
    rows = [line for line in promises.splitlines() if line.startswith("| ") and "shown by" not in line]
    assert len(rows) > 10
    assert all("`tests/" in row for row in rows)
