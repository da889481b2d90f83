"""The site is built without a warning and without the network, and README stays short."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from sphinx.util.inventory import InventoryFile

import spnhub
from tests.docs.pages import PAGES, ROOT, name

# One worker builds the site, for all of its tests.
pytestmark = [pytest.mark.outside, pytest.mark.xdist_group("site")]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, as ``make docs`` builds it: a warning is an error, a reference that leads nowhere is a warning."""
    folder = tmp_path_factory.mktemp("site")
    (command,) = re.findall(
        r"\$\(BIN\)/python (-m sphinx .*) build/docs$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    built = subprocess.run(
        [sys.executable, *command.split(), str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (built.returncode, built.stderr) == (0, "")
    return folder


def test_every_document_is_a_page(site: Path) -> None:
    """And the site begins somewhere."""
    assert [name(page) for page in PAGES if not (site / page.relative_to(ROOT)).with_suffix(".html").exists()] == []
    assert (site / "index.html").exists()


def test_options_are_described(site: Path) -> None:
    """Flag, variable, default and meaning, under the heading of the help."""
    page = (site / "docs" / "reference" / "settings.html").read_text(encoding="utf-8")
    row = page[page.index(">--idle-timeout<") :].partition("</tr>")[0]
    assert all(cell in row for cell in ("SECONDS", "SPNHUB_IDLE_TIMEOUT", ">20<", "silent for this long is lost"))
    assert "<h3>Event journal" in page
    assert "in place of --inventory-token." in page


def test_public_names_are_described(site: Path) -> None:
    """Everything that ``import spnhub`` offers is in the API reference."""
    described = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    names = {found for kind in ("py:function", "py:class", "py:exception") for found in described[kind]}
    assert {f"spnhub.{public}" for public in spnhub.__all__ if not public.startswith("_")} - names == set()


def test_pages_fetch_nothing(site: Path) -> None:
    """A reader without the network sees them as everybody does."""
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=\"(?:https?:)?//")
    assert [page.name for page in site.rglob("*.html") if fetched.search(page.read_text(encoding="utf-8"))] == []


def test_readme_is_short() -> None:
    """What it is and a first service; the rest is a page of its own."""
    assert len((ROOT / "README.md").read_bytes()) <= 8_000
