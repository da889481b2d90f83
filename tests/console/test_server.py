"""The console over HTTP: pages now and then, stories, who may see what, and what is in texts is no markup."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import html
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from starlette.types import ASGIApp

from spnhub.console.hubs import RunningHubs, certificates_of
from spnhub.console.server import application
from spnhub.console.sight import Sight
from spnhub.console.tokens import Tokens, read_realm_tokens
from spnhub.events.analysis import index_making
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.journal.files import segments
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionResumed,
    ConnectionStarted,
    EndPointType,
    Event,
    from_datetime,
)
from spnhub.settings import SettingsError
from tests.cli.processes import Program
from tests.cli.test_terminal import PLANT, planted
from tests.console import worlds
from tests.console.test_page import UID, two_realms
from tests.console.worlds import defined, leg, session, start
from tests.events.samples import EACH, NOON, RUNS, write_journal

SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
ALL, ACME, GLOBEX = "all-" + "a" * 20, "acme-" + "b" * 20, "globex-" + "c" * 20


OURS = {
    "html",
    "head",
    "meta",
    "title",
    "link",
    "script",
    "body",
    "a",
    "header",
    "main",
    "div",
    "h1",
    "h2",
    "span",
    "form",
    "input",
    "button",
    "b",
    "label",
    "select",
    "option",
    "output",
    "svg",
    "rect",
    "line",
    "path",
    "text",
    "circle",
    "noscript",
    "p",
    "ul",
    "ol",
    "li",
    "section",
    "table",
    "thead",
    "tbody",
    "tr",
    "th",
    "td",
    "wbr",
    "code",
    "br",
}


class Tags(HTMLParser):
    """What a browser would take for markup."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.scripts: set[str | None] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag == "script":
            self.scripts.add(dict(attrs).get("src"))


@asynccontextmanager
async def console(
    *folders: Path, cache: Path, tokens: Tokens | None = None
) -> AsyncIterator[tuple[httpx2.AsyncClient, Sight]]:
    """A client of a console that has read what there is, without a socket."""
    sight = Sight([str(folder) for folder in folders], cache, RunningHubs((), None))
    made: ASGIApp = application(sight, tokens or Tokens(None, {}))
    following = asyncio.create_task(sight.run())
    try:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(made), base_url="http://localhost") as client:
            while not sight.ready or sight.note:
                assert not following.done(), following.exception()
                await asyncio.sleep(0)
            yield client, sight
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two realms on one hub: an event each millisecond."""
    write_journal(tmp_path / "journal", two_realms())
    return tmp_path / "journal"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_now_and_then(folder: Path, tmp_path: Path) -> None:
    """The page is of now, or of the moment that its address says; the same for programs; all of it may be framed by
    nobody, and loads nothing from elsewhere."""
    async with console(folder, cache=tmp_path / "cache") as (client, _):
        answer = await client.get("/")
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cache-control"] == "no-store"
        assert not re.search(r"(?:src|href)=\"(?:https?:)?//", answer.text)
        assert "urn:<wbr>net:<wbr>globex:" in answer.text
        page = (await client.get("/page.json")).json()
        assert (page["sessions"], page["connections"]) == (4, 2)
        counts = []
        for event in range(len(two_realms())):
            at = format_time(NOON + event * 1000)
            then = (await client.get("/page.json", params={"at": at})).json()
            assert then["time"] == at
            counts.append((len(then["services"]["rows"]), then["sessions"], then["connections"]))
        assert counts[1] == (0, 0, 0)
        assert counts[-4:] == [(3, 4, 0), (3, 4, 1), (3, 4, 2), (3, 4, 2)]
        part = (await client.get("/part", params={"at": format_time(NOON + 9_000)})).text
        assert part.startswith("<div data-first=") and "<html" not in part
        for asset in ("console.css", "console.js"):
            assert (await client.get(f"/static/{asset}")).status_code == 200
        for path in ("/static/..%2f__init__.py", "/static/server.py", "/nothing"):
            assert (await client.get(path)).status_code == 404
        for method in ("POST", "PUT", "DELETE"):
            assert (await client.request(method, "/")).status_code == 405


@pytest.mark.parametrize("at", ["yesterday", "12", SCRIPT, "2026-13-01", "9" * 5_000])
async def test_a_moment_that_is_none(folder: Path, tmp_path: Path, at: str) -> None:
    """400, with a sentence that is no markup."""
    async with console(folder, cache=tmp_path / "cache") as (client, _):
        answer = await client.get("/", params={"at": at})
        assert answer.status_code == 400
        assert "<script>alert" not in answer.text and "<img" not in answer.text


async def test_search_and_story(folder: Path, tmp_path: Path) -> None:
    """By subject; a link leads to the story, which says who, and how many bytes; what isn't there is said."""
    async with console(folder, cache=tmp_path / "cache") as (client, _):
        found = (await client.get("/", params={"q": "alice"})).text
        assert "CN=Alice," in found and "CN=Bob," not in found
        address = (await client.get("/page.json", params={"q": "203.0.113.9"})).json()
        assert [row["subject"] for row in address["endpoints"]["rows"]] == ["CN=Alice,O=Acme"]
        assert f'href="/story/{UID}"' in (await client.get("/", params={"q": UID})).text
        story = (await client.get(f"/story/{UID}")).text
        assert "<svg" in story and "CN=Alice" in story and "6,000" in story
        assert "CN=web provider,O=Acme" in html.unescape((await client.get("/story/p1")).text)
        missing = await client.get(f"/story/{SCRIPT.replace('/', '%2F')}")
        assert missing.status_code == 404 and "<img" not in missing.text


async def test_a_story_over_two_hubs(tmp_path: Path) -> None:
    """Two lanes, a leg on each, the pause between them with its reason, and who asked to go on."""
    begin = [*defined("acme", "web"), session("p1", "acme", "web", EndPointType.PROVIDER)]
    sides = ("acme", "web", "c1", "p1")
    paused = leg(ConnectionPaused, UID, *sides, sent_offset=80, receive_offset=2000, planned=True, code=None, reason="")
    totals: dict[str, Any] = {"total_sent_bytes": 80, "total_receive_bytes": 2000}
    write_journal(
        tmp_path / "one",
        [
            *start(),
            *begin,
            session("c1", "acme", "web", who="CN=Alice"),
            leg(ConnectionStarted, UID, *sides),
            paused,
            leg(ConnectionEnded, UID, *sides, suspended=True, **totals),
        ],
    )
    resumed = leg(ConnectionResumed, UID, *sides, epoch=1, sent_offset=80, receive_offset=2000)
    write_journal(
        tmp_path / "two",
        [
            *start(),
            *begin,
            session("c1", "acme", "web", who="CN=Alice"),
            leg(ConnectionStarted, UID, *sides, epoch=1, start_sent_offset=80, start_receive_offset=2000),
            resumed,
        ],
        hub_id="hub-2",
        start=NOON + 5_000_000,
    )
    async with console(tmp_path / "one", tmp_path / "two", cache=tmp_path / "cache") as (client, sight):
        picture, more = await sight.story(UID, None)
        assert more == 0
        assert [(one.hub_id, one.epoch, one.condition, one.start_sent) for one in picture.legs] == [
            ("hub-1", 0, "suspended", 0),
            ("hub-2", 1, "open", 80),
        ]
        (pause,) = picture.pauses
        assert (pause.from_hub, pause.to_hub, pause.reason, pause.asked) == ("hub-1", "hub-2", "planned", "CN=Alice")
        assert 4_900_000 < pause.end - pause.start < 5_100_000
        text = html.unescape((await client.get(f"/story/{UID}")).text)
        assert "hub-1 → hub-2: planned" in text and "CN=Alice asked to go on" in text
        assert text.count('<rect class="leg') == 2 and text.count('class="lane"') == 2


async def test_who_may_see_what(folder: Path, tmp_path: Path) -> None:
    """Without a token nothing but probes; a realm's token shows that realm only, stories included."""
    tokens = Tokens(ALL, {ACME: "acme", GLOBEX: "globex"})
    async with console(folder, cache=tmp_path / "cache", tokens=tokens) as (client, _):
        for path in ("/", "/part", "/page.json", f"/story/{UID}", "/static/console.js"):
            for headers in ({}, bearer("wrong"), bearer(""), bearer(ACME + "x"), {"Authorization": "Basic !"}):
                refused = await client.get(path, headers=headers)
                assert (refused.status_code, refused.text) == (401, "a token is needed\n")
                assert refused.headers["www-authenticate"].startswith("Basic ")
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        password = base64.b64encode(f"anyone:{ACME}".encode()).decode()
        for headers in (bearer(ACME), {"Authorization": f"Basic {password}"}):
            for path in ("/", "/part", "/page.json", "/part?q=globex", f"/?at={format_time(NOON + 12_000)}"):
                text = (await client.get(path, headers=headers)).text.replace("q=globex", "").replace("“globex”", "")
                text = re.sub(r'"query":"globex"|value="globex"|/story/globex', "", text)
                assert not re.search("globex|Globex|Bob|203.0.113.10|192.0.2.1", text), path
        assert (await client.get(f"/story/{UID}", headers=bearer(ACME))).status_code == 200
        for name in (UID, "c1", "p1"):
            answer = await client.get(f"/story/{name}", headers=bearer(GLOBEX))
            unknown = await client.get("/story/nobody", headers=bearer(GLOBEX))
            assert answer.status_code == unknown.status_code == 404
            assert answer.text.replace(name, "nobody") == unknown.text
        assert (await client.get("/page.json", headers=bearer(ALL))).json()["sessions"] == 4


async def test_what_peers_write_is_no_markup(tmp_path: Path) -> None:
    """HTML and JavaScript in every text of every kind of event, and signs that turn or hide: letters, wherever."""
    folder = tmp_path / "journal"
    events: list[Event] = [*start(), *defined("acme", "web" + SCRIPT)]
    events += [session("s" + SCRIPT, "acme", "web" + SCRIPT, who=SCRIPT + PLANT, address=SCRIPT)]
    for event in (*EACH, *RUNS):
        changed = planted(event)
        names = [one.name for one in dataclasses.fields(changed)]
        texts = {name: value + SCRIPT for name in names if type(value := getattr(changed, name)) is str}
        events.append(dataclasses.replace(changed, **texts))
    written = write_journal(folder, events)
    uids = {uid for one in written if (uid := getattr(one.event, "connection_uid", None))}
    async with console(folder, cache=tmp_path / "cache") as (client, _):
        pages = [await client.get(path) for path in ("/", f"/?at={format_time(written[-1].timestamp)}")]
        pages += [await client.get("/", params={"q": word}) for word in (SCRIPT, "alert", "hub")]
        for name in [*uids, "s" + SCRIPT]:
            pages.append(await client.get(f"/story/{quote(name, safe='')}"))
        shown = 0
        for page in pages:
            assert page.status_code in {200, 404}
            shown += "alert(1)" in page.text
            tags = Tags(page.text)
            assert tags.names <= OURS
            assert tags.scripts <= {"/static/console.js"}
            assert not [name for name in tags.attributes if name.startswith("on") or name in {"style", "srcdoc"}]
            assert not re.search("[\u202e\u200b\x07\x1b\x9b]", page.text)
        assert shown > 3


async def test_an_index_of_the_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many segments: any moment, incidents of long ago, and the story of a conversation of long ago."""
    monkeypatch.setattr(index_making, "APART", 16 << 10)
    events = [*start(), *defined("acme", "web"), session("p1", "acme", "web", EndPointType.PROVIDER)]
    events += [session("c1", "acme", "web"), worlds.refused("acme", "web", "c1")]
    uids = [f"{number:032x}" for number in range(400)]
    for uid in uids:
        events += [leg(ConnectionStarted, uid, "acme", "web", "c1", "p1")]
        events += [leg(ConnectionEnded, uid, "acme", "web", "c1", "p1")]
    folder = tmp_path / "journal"
    written = write_journal(folder, events, segment_size=16 << 10)
    assert len(segments(folder)) > 5
    async with console(folder, cache=tmp_path / "cache") as (client, _):
        for place in (6, 100, 451, len(written) - 1):
            moment = written[place]
            page = (await client.get("/page.json", params={"at": format_time(moment.timestamp)})).json()
            opened = sum(isinstance(one.event, ConnectionStarted) for one in written[: place + 1])
            closed = sum(isinstance(one.event, ConnectionEnded) for one in written[: place + 1])
            assert (page["connections"], page["sessions"]) == (opened - closed, 2)
        now = (await client.get("/page.json")).json()
        assert [(one["kind"], one["state"]) for one in now["incidents"]["rows"]] == [("connections refused", "over")]
        story = html.unescape((await client.get(f"/story/{uids[3]}")).text)
        assert f"Connection {uids[3]}" in story and "1 leg on hub-1" in story
        assert (await client.get(f"/story/{uids[3]}x")).status_code == 404


async def test_a_moment_that_is_no_longer_kept(tmp_path: Path) -> None:
    """Retention has taken the first segments: before the rest the page says so, to tenants without the hub's name."""
    events = [*start(), *defined("acme", "web"), session("c1", "acme", "web")]
    events += [worlds.refused("acme", "web", "c1") for _ in range(400)]
    folder = tmp_path / "journal"
    written = write_journal(folder, events, segment_size=16 << 10)
    kept = segments(folder)[2:]
    for _, path in segments(folder)[:2]:
        path.unlink()
    tokens = Tokens(ALL, {ACME: "acme"})
    async with console(folder, cache=tmp_path / "cache", tokens=tokens) as (client, _):
        before = {"at": format_time(written[kept[0][0] - 3].timestamp)}
        page = html.unescape((await client.get("/", params=before, headers=bearer(ALL))).text)
        assert f"The log of hub hub-1 begins at sequence {kept[0][0]}," in page and "no longer kept." in page
        tenant = html.unescape((await client.get("/", params=before, headers=bearer(ACME))).text)
        assert "What was then is no longer kept" in tenant and "hub-1" not in tenant
        now = (await client.get("/", params={"at": format_time(written[-1].timestamp)}, headers=bearer(ALL))).text
        assert "no longer kept" not in now and "c1" in now


def test_realm_tokens(tmp_path: Path) -> None:
    """A file of realms and tokens; what can't be used is named with its line, and no token with it."""
    path = tmp_path / "tokens"
    path.write_text(f"# tenants\n\nacme {ACME}\nglobex {GLOBEX}\nacme {ALL}\n")
    assert read_realm_tokens(path) == {ACME: "acme", GLOBEX: "globex", ALL: "acme"}
    for text, fault in (
        ("acme\n", "line 1: not a realm and a token"),
        (f"acme {ACME}\nglobex {ACME}\n", "line 2: this token is another realm's, too"),
        ("acme short\n", "line 1: the token has less than 16 characters"),
    ):
        path.write_text(text)
        with pytest.raises(SettingsError) as caught:
            read_realm_tokens(path)
        assert fault in str(caught.value) and ACME not in str(caught.value) and "short" not in str(caught.value)
    with pytest.raises(SettingsError, match="No such file"):
        read_realm_tokens(tmp_path / "nothing")


def test_certificates_of_a_hub() -> None:
    """Those of its inventory and of sessions, with their days at the moment that is shown."""
    day = "2026-03-01T00:00:00Z"
    state: dict[str, Any] = {
        "hubId": "hub-1",
        "certificates": [{"kind": "ca", "realm": "acme", "name": "acme", "subject": "CN=CA", "notAfter": day}],
        "sessions": [
            {"realm": "acme", "serviceUrn": "urn:s", "spnEndPoint": "CN=p", "certificateExpiry": day}
            | {"spnSessionId": "p", "remoteAddress": "192.0.2.1:1"},
            {"realm": "acme", "serviceUrn": "urn:s", "spnEndPoint": "CN=q", "certificateExpiry": None}
            | {"spnSessionId": "q"},
        ],
    }
    found = list(certificates_of(state))
    assert [(one.kind, one.subject) for one, _ in found] == [("ca", "CN=CA"), ("session", "CN=p")]
    hubs = RunningHubs(("http://x",), None)
    hubs.take("http://x", state)
    assert hubs.addresses == {("hub-1", "p"): "192.0.2.1:1"}
    end = from_datetime(found[0][1])
    assert [one.days for one in hubs.certificates(end - 86_400_000_000 * 3)] == [3.0, 3.0]


@pytest.mark.system
async def test_a_real_process(folder: Path, tmp_path: Path) -> None:
    """On the loopback without a token, by its own names only; beyond it not without one. An interrupt ends it."""
    program = await Program.start(
        "spnlog", "console", str(folder), "--listen", "127.0.0.1:0", "--index", str(tmp_path / "i")
    )
    try:
        url = (await program.line("console.ready"))["url"]
        async with httpx2.AsyncClient(verify=False) as client:
            async with asyncio.timeout(60):
                while (await client.get(f"{url}/readyz")).status_code != 200:
                    await asyncio.sleep(0.05)
            assert "urn:<wbr>net:" in (await client.get(url)).text
            assert (await client.get(url, headers={"Host": "evil.example"})).status_code == 421
        program.send(signal.SIGINT)
        assert await program.end() == 0
    finally:
        await program.kill()
    refused = await Program.start("spnlog", "console", str(folder), "--listen", "0.0.0.0:0")
    assert await refused.end() == 2
    assert "a token is needed (--token-file)" in refused.errors
