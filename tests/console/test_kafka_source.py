"""The console over a topic of a real broker: now, then, a story, and who may see what."""

from __future__ import annotations

import asyncio
import html
import re
from pathlib import Path

import httpx2
import pytest

from spnhub.console.hubs import RunningHubs
from spnhub.console.server import application
from spnhub.console.sight import Sight
from spnhub.console.tokens import Tokens
from spnhub.events.analysis.log_lines import format_time
from tests.console.test_page import UID, two_realms
from tests.console.test_server import ACME, ALL, GLOBEX, bearer
from tests.console.worlds import session
from tests.support.kafka import KafkaBroker
from tests.support.kafka_journal import open_journal, settings_for, shipping, write

pytestmark = [pytest.mark.kafka, pytest.mark.system]


async def test_now_then_and_a_story(kafka: KafkaBroker, topic: str, tmp_path: Path) -> None:
    """What a topic holds is shown, what comes is shown as it comes, any kept moment is what was then, before the topic
    begins that is said, a story is told, and a realm's token shows that realm only."""
    tokens = Tokens(ALL, {ACME: "acme", GLOBEX: "globex"})
    with open_journal(tmp_path / "journal") as journal:
        written = write(journal, two_realms())
        async with shipping(settings_for(kafka, topic, tmp_path / "journal")) as (_, statuses):
            await statuses.position(journal.appended)
            sight = Sight([f"kafka://{kafka.bootstrap}/{topic}"], tmp_path / "cache", RunningHubs((), None))
            following = asyncio.create_task(sight.run())
            transport = httpx2.ASGITransport(application(sight, tokens))
            async with (
                httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client,
                asyncio.timeout(60),
            ):
                assert (await client.get("/page.json", headers=bearer(ALL))).status_code == 503
                while not sight.ready or sight.note:
                    assert not following.done(), following.exception()
                    await asyncio.sleep(0)
                now = (await client.get("/page.json", headers=bearer(ALL))).json()
                assert (len(now["services"]["rows"]), now["sessions"], now["connections"]) == (3, 4, 2)
                # Live: what is shipped from now on.
                write(journal, [session("late", "acme", "web", who="CN=Late")])
                await statuses.position(journal.appended)
                while sight.live.events < journal.appended:
                    sight.live.changed.clear()
                    await sight.live.changed.wait()
                late = (await client.get("/page.json", params={"q": "CN=Late"}, headers=bearer(ALL))).json()
                assert [row["session"] for row in late["endpoints"]["rows"]] == ["late"]
                # Then: a topic's states are kept a second apart or more; the first is of the first event.
                first = format_time(written[0].timestamp + 500_000)
                then = (await client.get("/page.json", params={"at": first}, headers=bearer(ALL))).json()
                assert (then["time"], then["sessions"]) == (format_time(written[0].timestamp), 0)
                page = (await client.get("/", params={"at": first}, headers=bearer(ALL))).text
                assert "nearest state that is kept" in page
                before = {"at": format_time(written[0].timestamp - 1)}
                assert (
                    "The topics hold nothing of that time."
                    in (await client.get("/", params=before, headers=bearer(ALL))).text
                )
                story = html.unescape((await client.get(f"/story/{UID}", headers=bearer(ACME))).text)
                assert "<svg" in story and "CN=Alice" in story
                assert (await client.get(f"/story/{UID}", headers=bearer(GLOBEX))).status_code == 404
                assert (await client.get("/", headers=bearer("nobody-" + "x" * 20))).status_code == 401
                for path in ("/", "/page.json", f"/?at={first}"):
                    tenant = await client.get(path, headers=bearer(ACME))
                    assert tenant.status_code == 200
                    assert not re.search("globex|Globex|Bob", tenant.text), path
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
