"""What running hubs say beside their log, in the console and in ``spnlog top``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from spnhub.console.hubs import RunningHubs
from spnhub.console.page import page_of
from spnhub.console.server import application
from spnhub.console.sight import Sight
from spnhub.console.tokens import Tokens
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.kafka.settings import ShipperStatus
from spnhub.events.state.hub_state import HubState
from spnhub.http_server import HttpServer
from spnhub.ops.incidents import HubIncidents
from spnhub.ops.metrics import HubMetrics
from spnhub.ops.server import Ops
from spnhub.ops.state import Progress, Snapshot
from tests.console.test_page import two_realms
from tests.console.worlds import at, refused, seen_of
from tests.events.samples import NOON, write_journal
from tests.support.command import run

pytestmark = pytest.mark.outside

SECOND = 1_000_000
DOWN = NOON + 60 * SECOND
LOG = [*two_realms(), refused("acme", "web", "c1")]


@asynccontextmanager
async def hub() -> AsyncIterator[tuple[str, HubIncidents]]:
    """The HTTP of a hub whose shipper is down since then."""
    incidents = HubIncidents()
    for recorded in at(LOG):
        incidents.take(recorded)
    incidents.take_shipper("hub-1", ShipperStatus(state="unreachable", reason="127.0.0.1:9092: refused"), DOWN)
    progress = Progress(1, 1, None)
    ops = Ops(
        lambda: True,
        lambda: Snapshot("hub-1", None, NOON, progress, (), HubState(), (), lambda _: ()),
        lambda: progress,
        HubMetrics(),
        lambda: 0,
        incidents=lambda: incidents,
    )
    server = HttpServer(ops.application(), "--ops")
    url = await server.start("127.0.0.1", 0)
    try:
        yield url, incidents
    finally:
        await server.close()


def kinds(page: dict[str, Any]) -> list[tuple[str, str]]:
    """Of its incidents, those that the log has none of."""
    return [(one["kind"], one["state"]) for one in page["incidents"]["rows"] if one["kind"] == "events not shipped"]


async def test_what_no_event_tells_is_an_incident_like_others(tmp_path: Path) -> None:
    """Once, as it was known at any moment, and for those who see all realms only; those of the log aren't doubled."""
    write_journal(tmp_path / "journal", LOG)
    async with hub() as (url, incidents):
        hubs = RunningHubs((url,), None)
        await hubs.ask_once()
        assert hubs.silent == {}
        seen = seen_of(at(LOG), time=DOWN + 30 * SECOND)

        def told(time: int, scope: str | None = None) -> list[tuple[str, str]]:
            return kinds(page_of(hubs.completed(seen.__class__(time, seen.hubs)), scope).to_json())

        assert told(DOWN - 1) == [] == told(DOWN, "acme")
        assert told(DOWN) == [("events not shipped", "open")]
        incidents.take_shipper("hub-1", ShipperStatus(state="connected"), DOWN + 9 * SECOND)
        await hubs.ask_once(state=False)
        assert told(DOWN + 8 * SECOND) == [("events not shipped", "open")]
        assert told(DOWN + 9 * SECOND) == [("events not shipped", "over")]
        assert len(hubs.completed(seen).incidents) == len(seen.incidents) + 1 == 2
        sight = Sight([str(tmp_path / "journal")], tmp_path / "cache", hubs)
        following = asyncio.create_task(sight.run())
        try:
            transport = httpx2.ASGITransport(application(sight, Tokens(None, {})))
            async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
                while not sight.ready:
                    await asyncio.sleep(0)
                then = format_time(DOWN + SECOND)
                assert kinds((await client.get("/page.json", params={"at": then})).json()) == [
                    ("events not shipped", "open")
                ]
                assert kinds((await client.get("/page.json")).json()) == [("events not shipped", "over")]
                assert "events not shipped" in (await client.get("/")).text
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def test_a_hub_that_goes_is_told_of_once() -> None:
    """With its reason; what it had said stays."""
    told: list[str] = []
    async with hub() as (url, _):
        hubs = RunningHubs((url,), None, lambda url, reason: told.append(f"{url} {reason}"))
        await hubs.ask_once()
    await hubs.ask_once()
    await hubs.ask_once(state=False)
    assert len(told) == 1 and told[0].startswith(url) and url in hubs.silent
    assert [one.kind for one in hubs.completed(seen_of(at(LOG), time=DOWN)).incidents][-1] == ("events not shipped")


@pytest.mark.system
async def test_top(tmp_path: Path) -> None:
    """The same in the terminal; a hub that doesn't answer is named."""
    write_journal(tmp_path, LOG)
    async with hub() as (url, _):
        status, out, errors = await run("spnlog", "top", "--json", str(tmp_path), "--hub", url)
        assert (status, errors) == (0, "")
        assert kinds(json.loads(out)) == [("events not shipped", "open")]
        status, out, _ = await run("spnlog", "top", str(tmp_path), "--hub", url)
        assert status == 0 and "events not shipped" in out
    status, out, errors = await run("spnlog", "top", "--json", str(tmp_path), "--hub", url)
    assert status == 0 and kinds(json.loads(out)) == []
    assert errors.count("\n") == 1 and f"the hub at {url} doesn't answer" in errors
