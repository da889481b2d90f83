"""What is around a live hub turns on it: its inventory server answers with a bomb, its journal's folder is deleted."""

from __future__ import annotations

import asyncio
import shutil
import signal
import zlib
from pathlib import Path

import httpx2
import pytest

from tests.hub.reloading import ReloadWorld
from tests.hub.test_run import sign_of_life
from tests.test_bounded_http import GZIP, answering, server

pytestmark = pytest.mark.system

_MIB = 1 << 20


def bomb(size: int) -> bytes:
    """A gzip file that becomes so many zeros."""
    packer = zlib.compressobj(9, wbits=31)
    return b"".join(packer.compress(bytes(_MIB)) for _ in range(size // _MIB)) + packer.flush()


async def test_an_inventory_server_that_answers_with_a_bomb(tmp_path: Path) -> None:
    """It is refused by name, costs the hub nothing, and what the hub serves stays; then the sound one is taken."""
    answer = answering(bomb(256 * _MIB), GZIP)
    async with ReloadWorld(tmp_path) as world, httpx2.AsyncClient() as upstream:
        sound = await world.serve_inventory()
        bombs = False

        async def say(head: str, writer: asyncio.StreamWriter) -> None:
            if bombs:
                await answer(head, writer)
                return
            got = await upstream.get(sound + head.split()[1])
            await answering(got.content, status=f"{got.status_code} OK")(head, writer)

        async with server(say) as (url, _):
            hub = await world.start_hub(inventory=url)
            before = hub.rss
            bombs = True
            (fault,) = await world.reload_refused()
            assert fault == f"{url}/realms: the answer is larger than 16777216 bytes"
            assert hub.rss - before < 64 * _MIB
            async with asyncio.timeout(30):
                endpoint = await world.provider_endpoint()
            await endpoint.close()
            bombs = False
            hub.send_signal(signal.SIGUSR1)
            await hub.line("reload.applied")
        assert await hub.stop(signal.SIGINT) == 0


async def test_a_journal_folder_that_is_deleted(tmp_path: Path) -> None:
    """Log, readiness and metrics say so while it lasts, traffic goes on, and the hub ends in order."""
    async with ReloadWorld(tmp_path) as world:
        hub = await world.start_hub("--alive-interval", "0.1", "--ops", "127.0.0.1:0")
        url = (await hub.line("ops.ready"))["url"]
        await sign_of_life(world.journal)
        shutil.rmtree(world.journal)
        line = await hub.line("journal.failing")
        assert "No such file or directory" in line["reason"]
        async with httpx2.AsyncClient() as client:
            answer = await client.get(f"{url}/readyz")
            assert (answer.status_code, "No such file or directory" in answer.text) == (503, True)
            assert "spnhub_journal_failing 1.0" in (await client.get(f"{url}/metrics")).text
        async with asyncio.timeout(30):
            endpoint = await world.provider_endpoint()
        await endpoint.close()
        assert await hub.stop(signal.SIGINT) == 0
        assert hub.said("hub.stopped")
