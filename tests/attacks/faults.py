"""What happens around a hub: descriptors run out, its journal's folder is gone, its inventory is nonsense, odd HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time

import httpx2
import psutil

from tests.attacks.stage import Stage

__all__ = ["descriptors", "documents", "http", "journal_gone"]


async def descriptors(stage: Stage, seconds: float) -> None:
    """7: the hub can open nothing more."""
    process = psutil.Process(stage.world.hub.pid)
    old = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), old[1]))
    try:
        await _get(stage, seconds, "/healthz", "/metrics")
    finally:
        process.rlimit(psutil.RLIMIT_NOFILE, old)


async def documents(stage: Stage, seconds: float) -> None:
    """12: SIGUSR1 while the inventory is deep, endless or packed."""
    world = stage.world
    sound = world.inventory_file.read_text()
    end = time.monotonic() + seconds
    hub = world.hub
    for text in ("[" * 100_000, '{"a":' * 50_000, f'{{"realms": {"5" * 5000}}}', "- " * 100_000):
        count = len(hub.said("reload.failed")) + len(hub.said("reload.rejected")) + len(hub.said("reload.refused"))
        world.inventory_file.write_text(text)
        hub.send_signal(signal.SIGUSR1)
        await asyncio.sleep(max(0.5, min(2.0, end - time.monotonic())))
        del count
    world.inventory_file.write_text(sound)
    assert hub.running


async def http(stage: Stage, seconds: float) -> None:
    """14: slow and idle clients, other names, paths of thousands of digits."""
    url = httpx2.URL((await stage.world.hub.line("ops.ready"))["url"])
    writers = []
    for number in range(300):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"GET /state HTTP/1.1\r\n" if number % 2 else b"")
            writers.append(writer)
    await _get(stage, seconds, f"/subjects/x/versions/{'5' * 5000}", f"/schemas/ids/{'5' * 5000}", "/metrics")
    for writer in writers:
        writer.transport.abort()


async def journal_gone(stage: Stage, seconds: float) -> None:
    """15: the journal's folder is another's for a while."""
    folder = stage.world.journal
    away = folder.with_name("away")
    folder.rename(away)
    await _get(stage, seconds, "/readyz")
    away.rename(folder)
    # Openings that are being recorded need it back.
    await asyncio.sleep(1.0)


async def _get(stage: Stage, seconds: float, *paths: str) -> None:
    """Ask, again and again; whatever is answered is no fault."""
    url = str((await stage.world.hub.line("ops.ready"))["url"])
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        async with httpx2.AsyncClient(timeout=2, verify=False) as client:
            for path in paths:
                with contextlib.suppress(httpx2.HTTPError):
                    for host in ("localhost", "evil.test"):
                        answer = await client.get(url + path, headers={"Host": host})
                        assert answer.status_code != 500, path
        await asyncio.sleep(0.1)
