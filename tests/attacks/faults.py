"""What happens around a hub: descriptors run out, its journal can't be written, its inventory is nonsense, odd HTTP.

Each returns how often a second it asked or wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import httpx2
import psutil

from tests.attacks.stage import Stage

__all__ = ["CAN_FREEZE", "descriptors", "documents", "http", "journal_full", "journal_gone", "journal_read_only"]

CAN_FREEZE: Final = os.geteuid() == 0 and shutil.which("chattr") is not None
"""Whether :func:`journal_read_only` can be done: root ignores modes, but nobody writes what is immutable."""

_DOCUMENTS: Final = ("[" * 100_000, '{"a":' * 50_000, f'{{"realms": {"5" * 5000}}}', "- " * 100_000)


async def descriptors(stage: Stage, seconds: float) -> float:
    """7: the hub can open nothing more."""
    process = psutil.Process(stage.world.hub.pid)
    old = process.rlimit(psutil.RLIMIT_NOFILE)
    process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds(), old[1]))
    try:
        return await _get(stage, seconds, "/healthz", "/metrics")
    finally:
        process.rlimit(psutil.RLIMIT_NOFILE, old)


async def documents(stage: Stage, seconds: float) -> float:
    """12: SIGUSR1 while the inventory is deep or endless: each is refused by name, and the sound one is taken."""
    world, hub = stage.world, stage.world.hub
    sound = world.inventory_file.read_text()
    began, count = time.monotonic(), 0
    try:
        while count < len(_DOCUMENTS) or time.monotonic() - began < seconds:
            refused = len(hub.said("reload.rejected"))
            world.inventory_file.write_text(_DOCUMENTS[count % len(_DOCUMENTS)])
            hub.send_signal(signal.SIGUSR1)
            line = (await hub.wait_lines("reload.rejected", refused + 1))[-1]
            assert line["faults"] == 1, line
            count += 1
    finally:
        world.inventory_file.write_text(sound)
    taken = len(hub.said("reload.decided"))
    hub.send_signal(signal.SIGUSR1)
    await hub.wait_lines("reload.decided", taken + 1)
    assert not hub.said("reload.failed")
    return count / (time.monotonic() - began)


async def http(stage: Stage, seconds: float) -> float:
    """14: slow and idle clients, other names, paths of thousands of digits."""
    url = httpx2.URL((await stage.world.hub.line("ops.ready"))["url"])
    writers = []
    for number in range(300):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"GET /state HTTP/1.1\r\n" if number % 2 else b"")
            writers.append(writer)
    rate = await _get(stage, seconds, f"/subjects/x/versions/{'5' * 5000}", f"/schemas/ids/{'5' * 5000}", "/metrics")
    for writer in writers:
        writer.transport.abort()
    return rate


async def journal_gone(stage: Stage, seconds: float) -> float:
    """15: the journal's folder is another's for a while."""
    folder = stage.world.journal
    away = folder.with_name("away")
    folder.rename(away)
    try:
        return await _unwritten(stage, seconds)
    finally:
        away.rename(folder)
        await _written(stage)


async def journal_full(stage: Stage, seconds: float) -> float:
    """15: the disk takes nothing more for a while."""
    process = psutil.Process(stage.world.hub.pid)
    old = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, old[1]))
    try:
        return await _unwritten(stage, seconds)
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, old)
        await _written(stage)


async def journal_read_only(stage: Stage, seconds: float) -> float:
    """15: nothing of the journal's folder can be written or made for a while, as after an error of its file system."""
    folder = stage.world.journal
    frozen = [folder, *folder.iterdir()]
    _freeze("+i", *frozen)
    try:
        return await _unwritten(stage, seconds)
    finally:
        _freeze("-i", *frozen)
        await _written(stage)


def _freeze(mode: str, *paths: Path) -> None:
    subprocess.run(("chattr", mode, *map(str, paths)), check=True, capture_output=True)


async def _unwritten(stage: Stage, seconds: float) -> float:
    """Log, ``/readyz`` and ``/metrics`` say it while it lasts."""
    hub = stage.world.hub
    await hub.wait_lines("journal.failing", len(hub.said("journal.writing")) + 1)
    rate = await _get(stage, seconds, "/readyz")
    assert await _answers(stage) == (503, 1.0)
    return rate


async def _written(stage: Stage) -> None:
    """And that it is over; openings that are being recorded need it."""
    hub = stage.world.hub
    await hub.wait_lines("journal.writing", len(hub.said("journal.writing")) + 1)
    async with asyncio.timeout(10):
        while await _answers(stage) != (200, 0.0):
            await asyncio.sleep(0.1)


async def _answers(stage: Stage) -> tuple[int, float]:
    """The status of ``/readyz``, and ``spnhub_journal_failing``."""
    url = str((await stage.world.hub.line("ops.ready"))["url"])
    async with httpx2.AsyncClient(timeout=10) as client:
        ready, metrics = await client.get(url + "/readyz"), await client.get(url + "/metrics")
    (line,) = [one for one in metrics.text.splitlines() if one.startswith("spnhub_journal_failing ")]
    return ready.status_code, float(line.split()[1])


async def _get(stage: Stage, seconds: float, *paths: str) -> float:
    """Ask, again and again; whatever is answered is no fault. How often a second."""
    url = str((await stage.world.hub.line("ops.ready"))["url"])
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        async with httpx2.AsyncClient(timeout=2, verify=False) as client:
            for path in paths:
                with contextlib.suppress(httpx2.HTTPError):
                    for host in ("localhost", "evil.test"):
                        count += 1
                        answer = await client.get(url + path, headers={"Host": host})
                        assert answer.status_code != 500, path
        await asyncio.sleep(0.1)
    return count / seconds
