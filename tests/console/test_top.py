"""``spnlog top``: a picture that fits, once where no terminal is, anew each second where one is."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from spnhub.cli.command_line import run_command_line
from spnhub.cli.log import app
from spnhub.cli.top_picture import picture
from spnhub.console.page import page_of
from spnhub.console.text import size_text
from spnhub.events.analysis import index_making
from spnhub.events.analysis.journal_index import JournalIndex
from spnhub.events.analysis.point_in_time import HubAt, Moment
from spnhub.events.journal.files import segments
from spnhub.events.model import EndPointType, Recorded
from tests.cli.test_terminal import PLANT, assert_harmless, planted_journal
from tests.console.test_page import two_realms
from tests.console.worlds import at, defined, refused, seen_of, session, start
from tests.events.samples import NOON, write_journal
from tests.support.large_journal import Size, write_large_journal
from tests.support.terminal import run_on_terminal


def drawn(width: int, height: int, services: int = 200) -> list[str]:
    """A picture's lines."""
    events = [
        *start(),
        *defined("acme", *(f"service-with-a-long-name-{number}" for number in range(services))),
        session("p", "acme", "service-with-a-long-name-1", EndPointType.PROVIDER),
        refused("acme", "service-with-a-long-name-2", "c"),
    ]
    out = Console(file=StringIO(), width=width, height=height, color_system=None)
    out.print(picture(page_of(seen_of(at(events))), width, height))
    assert isinstance(out.file, StringIO)
    return out.file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 50), (60, 12)])
def test_it_fits(width: int, height: int) -> None:
    """Into the terminal, however many services there are; hub, services and the incident are on it."""
    lines = drawn(width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "hub-1" in text and "more" in text and "connections refused" in text


def test_sizes() -> None:
    """Three digits."""
    numbers = (0, 999, 1_000, 99_940, 123_456, 1_500_000, 10**15)
    assert [size_text(one) for one in numbers] == ["0 B", "999 B", "1.0 kB", "99.9 kB", "123 kB", "1.5 MB", "1.0 PB"]


def test_once_where_no_terminal_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For people and for programs, of one realm or all."""
    write_journal(tmp_path, two_realms())
    assert run_command_line(app, "spnlog", ["top", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "3 services, 4 sessions, 2 connections" in text and "urn:net:globex:main:mail" in text
    assert run_command_line(app, "spnlog", ["top", "--json", "--realm", "acme", str(tmp_path)]) == 0
    page = json.loads(capsys.readouterr().out)
    assert (page["sessions"], [row["name"] for row in page["certificates"]["rows"]]) == (2, [])
    assert "globex" not in json.dumps(page)


def test_of_a_large_journal_it_reads_what_follows_the_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an index has it that is there; what went wrong before its last state is shown, too."""
    monkeypatch.setattr(index_making, "APART", 64 << 10)
    monkeypatch.setattr(index_making, "BATCH", 16 << 10)
    folder, cache = tmp_path / "journal", tmp_path / "cache"
    size = Size(3_000, services=10, sessions=100, open=40)
    write_large_journal(folder, size, start=NOON, segment_size=192 << 10)
    read: list[int] = []
    take = HubAt.take

    def counted(self: HubAt, recorded: Recorded, moment: Moment) -> bool:
        read.append(recorded.sequence)
        return take(self, recorded, moment)

    monkeypatch.setattr(HubAt, "take", counted)

    def shown() -> Any:
        read.clear()
        assert run_command_line(app, "spnlog", ["top", "--json", "--index", str(cache), str(folder)]) == 0
        return json.loads(capsys.readouterr().out)

    without = shown()
    assert read[0] == segments(folder)[-1][0] and not cache.exists()
    index = JournalIndex(folder, cache)
    index.complete()
    mark = index.segments[-1].marks[-1]
    page = shown()
    assert all(one > mark.sequence for one in read)
    assert page["sessions"] == without["sessions"] == 100 and page["connections"] == without["connections"]
    assert page["services"] == without["services"]
    assert len(page["incidents"]["rows"]) > len(without["incidents"]["rows"])


def test_what_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, and status 2."""
    assert run_command_line(app, "spnlog", ["top", str(tmp_path / "nothing")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.system
async def test_on_a_terminal(tmp_path: Path) -> None:
    """It draws until it is interrupted; what others have written into names drives no terminal."""
    folder = planted_journal(tmp_path / "journal")
    shown = await run_on_terminal("spnlog", "top", str(folder), until="service")
    assert PLANT not in shown
    assert_harmless(shown.replace("\x1b[2J", ""), "top")
