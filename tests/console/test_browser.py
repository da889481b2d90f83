"""The console in a real Chromium: in light and dark, 400 and 1,600 pixels wide, by keyboard; and its pictures.

With ``SPNHUB_SCREENSHOTS=1`` the pictures of the documents (``docs/images``) are made anew.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from rich.console import Console

from spnhub.cli.top_picture import picture
from spnhub.console.page import page_of
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionResumed,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    Event,
)
from tests.cli.processes import Program
from tests.console.worlds import SECOND, at, defined, failing, leg, refused, seen_of, service, session, start
from tests.events.samples import NOON
from tests.support.chromium import Tab, browser, needs_chromium

# With `make prove`: a browser takes half a minute.
pytestmark = [pytest.mark.prove, pytest.mark.system, pytest.mark.outside, needs_chromium]

UID = "5a" * 16
IMAGES = Path(__file__).parents[2] / "docs" / "images"
_SHOWN = {"console-live-1600-light.png", "console-past-1600-dark.png", "console-story-1600-light.png", "top.svg"}
_SHOWN |= {"console-live-400-dark.png"}
PLANTED = "<img src=x onerror=alert(1)><script>alert(2)</script>"
PROVIDER = EndPointType.PROVIDER
_SIDES = ("acme", "web", "c1", "p1")


def _busy(count: int) -> list[Event]:
    """Connections of a shop's services."""
    events: list[Event] = []
    for number in range(count):
        uid = f"{number:032x}"
        facts: dict[str, Any] = {"total_sent_bytes": 900, "total_receive_bytes": 70_000 + 997 * number}
        facts |= {"delta_sent_bytes": 900, "delta_receive_bytes": 70_000 + 997 * number}
        if number % 17 == 5:
            facts |= {"disconnect_reason": DisconnectReason.ERROR, "code": 32, "rejected": True}
            facts |= {"reason": "10.0.0.1 port 80: refused"}
        events += [leg(ConnectionStarted, uid, *_SIDES), leg(ConnectionEnded, uid, *_SIDES, **facts)]
    return events


def _write(folder: Path, events: list[Event], hub_id: str, begun: int) -> list[int]:
    """A journal with an event each second; the times."""
    with Journal.open(folder, hub_id, options=JournalOptions(sync_interval=None)) as journal:
        for place, event in enumerate(events):
            journal.append(event, begun + place * SECOND)
        assert journal.flush(10)
    return [begun + place * SECOND for place in range(len(events))]


def journals(folder: Path) -> tuple[list[str], int]:
    """Two hubs: one is updated, and a conversation goes on at the other; and the moment between."""
    common = [
        *defined("acme", "web", "database", "mail"),
        *defined("globex", "billing", "archive"),
        session("p1", "acme", "web", PROVIDER, "CN=web-1,O=Acme"),
        session("p2", "acme", "database", PROVIDER, "CN=db-1,O=Acme"),
        session("p3", "globex", "billing", PROVIDER, "CN=billing-1,O=Globex"),
        session("c1", "acme", "web", who="CN=alice,O=Acme", address="203.0.113.9:50123"),
        session("c2", "acme", "mail", who=f"CN={PLANTED}", address="203.0.113.10:50124"),
        session("c3", "globex", "billing", who="CN=bob,O=Globex", address="198.51.100.4:40000"),
    ]
    count: dict[str, Any] = {"total_sent_bytes": 40_000, "total_receive_bytes": 8_000_000}
    now = time.time_ns() // 1000
    first = [
        *start(),
        *common,
        *_busy(150),
        leg(ConnectionStarted, UID, *_SIDES),
        *_busy(40),
        leg(ConnectionProgress, UID, *_SIDES, **count, delta_sent_bytes=40_000, delta_receive_bytes=8_000_000),
        failing("p1", "acme", "web", NOON),
        refused("acme", "mail", "c2"),
        leg(
            ConnectionPaused,
            UID,
            *_SIDES,
            sent_offset=40_000,
            receive_offset=8_000_000,
            planned=True,
            code=None,
            reason="the hub is updated",
        ),
        leg(ConnectionEnded, UID, *_SIDES, suspended=True, code=None, **count),
        *_busy(30),
    ]
    second = [
        *start("0.2.1"),
        *common,
        leg(ConnectionStarted, UID, *_SIDES, epoch=1, start_sent_offset=40_000, start_receive_offset=8_000_000),
        leg(ConnectionResumed, UID, *_SIDES, epoch=1, sent_offset=40_000, receive_offset=8_000_000),
        *_busy(60),
    ]
    times = _write(folder / "one", first, "hub-1", now - (len(first) + 40) * SECOND)
    # Its consumer goes on at the other hub twelve seconds after the pause.
    resumed = times[-61] + 12 * SECOND
    _write(folder / "two", second, "hub-2", resumed - (len(second) - 122) * SECOND)
    return [str(folder / "one"), str(folder / "two")], times[200]


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[tuple[str, str]]:
    """A console's URL, and a moment of its past."""
    folders, moment = journals(tmp_path)
    options = ("--listen", "127.0.0.1:0", "--index", str(tmp_path / "index"))
    program = await Program.start("spnlog", "console", *folders, *options)
    try:
        url = str((await program.line("console.ready"))["url"])
        async with httpx2.AsyncClient(verify=False) as client:
            while (await client.get(f"{url}/readyz")).status_code != 200:
                await asyncio.sleep(0.05)
        yield url, format_time(moment)
        program.send(signal.SIGINT)
        assert await program.end() == 0
    finally:
        await program.kill()


def place(tmp_path: Path, name: str) -> Path:
    """Where a picture goes."""
    if os.environ.get("SPNHUB_SCREENSHOTS") == "1" and name in _SHOWN:
        IMAGES.mkdir(exist_ok=True)
        return IMAGES / name
    return tmp_path / name


async def looks_right(tab: Tab, width: int, dark: bool) -> None:
    """Nothing is cut off or beside the page, the scheme is followed, and text can be told from what is behind it."""
    assert await tab.value("document.documentElement.scrollWidth") <= width
    colours = (
        "['backgroundColor', 'color'].map((one) => getComputedStyle(document.body)[one].match(/\\d+/g).map(Number))"
    )
    back, ink = (sum(one[:3]) for one in await tab.value(colours))
    assert (back < 200 and ink > 600) if dark else (back > 700 and ink < 150)


@pytest.mark.timeout(400)
async def test_in_a_browser(console: tuple[str, str], tmp_path: Path) -> None:
    """Each page in light and dark, narrow and wide; by keyboard alone; nothing that peers wrote is run."""
    url, moment = console
    async with browser(tmp_path / "profile") as tab:
        pages = {"live": "/", "past": f"/?at={moment}", "story": f"/story/{UID}"}
        for name, path in pages.items():
            for width in (400, 1600):
                for dark in (False, True):
                    await tab.show(url + path, width, dark=dark)
                    await looks_right(tab, width, dark)
                    data = await tab.picture(
                        place(tmp_path, f"console-{name}-{width}-{'dark' if dark else 'light'}.png")
                    )
                    assert data.startswith(b"\x89PNG") and len(data) > 10_000
        assert await tab.value("document.querySelectorAll('rect.leg').length") == 2
        assert await tab.value("document.querySelectorAll('path.pause').length") == 1

        # By keyboard: the first Tab offers to skip to what is shown, and Enter does it.
        await tab.show(url)
        await tab.press("Tab")
        assert await tab.value("document.activeElement.className") == "skip"
        await tab.press("Enter")
        await tab.until("document.activeElement.id === 'main'")
        # The slider: its beginning is before there was anything, its end is now.
        await tab.value("document.getElementById('slider').focus()")
        await tab.press("Home")
        await tab.until("document.querySelector('.tiles b').textContent === '0'")
        assert await tab.value("document.body.classList.contains('past')")
        address = str(await tab.value("location.search"))
        assert address.startswith("?at=20")
        assert await tab.value("document.activeElement.id") == "slider"
        # What its address is, can be sent: it shows the same.
        await tab.show(url + "/" + address)
        assert await tab.value("document.querySelector('.tiles b').textContent") == "0"
        # Back to now, by a key; playing, too.
        await tab.press_letter("l")
        await tab.until("document.querySelector('.tiles b').textContent !== '0'")
        await tab.press_letter("p")
        await tab.until("document.getElementById('play').textContent === 'Pause'")
        await tab.until("document.querySelector('.tiles b').textContent !== '0'")
        await tab.press_letter("p")
        await tab.until("document.getElementById('play').textContent === 'Play'")
        # Search: / goes there; what is found is shown, with its story.
        await tab.show(url)
        await tab.press("/")
        assert await tab.value("document.activeElement.name") == "q"
        await tab.write("alice")
        await tab.load(tab.press("Enter"))
        text = str(await tab.value("document.getElementById('t-endpoints').textContent"))
        assert "CN=alice" in text and "bob" not in text
        await tab.value("document.querySelector('#t-connections a').focus()")
        await tab.load(tab.press("Enter"))
        assert await tab.value("location.pathname") == f"/story/{UID}"
        assert "the hub is updated" in str(await tab.value("document.body.textContent"))
        # What a peer calls itself is letters.
        await tab.show(f"{url}/?q=onerror")
        assert PLANTED in str(await tab.value("document.getElementById('t-endpoints').textContent"))
        assert await tab.value("document.images.length") == 0
        assert tab.faults == []


def test_the_picture_of_top(tmp_path: Path) -> None:
    """``spnlog top`` as the documents show it."""
    events = [
        *start(),
        *defined("acme", "web", "database", "mail"),
        *defined("globex", "billing"),
        session("p1", "acme", "web", PROVIDER, "CN=web-1"),
        session("c1", "acme", "web", who="CN=alice"),
        session("c2", "acme", "mail", who="CN=carol"),
        *_busy(20),
        refused("acme", "mail", "c2"),
    ]
    out = Console(record=True, width=110, file=(tmp_path / "out").open("w"), force_terminal=True)
    with out.file:
        out.print(picture(page_of(seen_of(at(events))), 110, 26))
        path = place(tmp_path, "top.svg")
        out.save_svg(str(path), title="spnlog top")
    assert service("acme", "mail") in path.read_text(encoding="utf-8").replace("&#160;", " ")
