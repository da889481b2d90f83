"""A hub's runs in its own log: who was stopped in order, who was killed, and signs of life in between."""

from __future__ import annotations

import asyncio
import resource
import signal
from pathlib import Path

import httpx2
import pytest

import spnhub
from spnhub.events.journal.reader import JournalSource
from spnhub.events.model import EventsLost, HubAlive, HubStarted, HubStopped
from tests.events.test_journal import read
from tests.hub.reloading import ReloadWorld

pytestmark = pytest.mark.system


async def test_runs(tmp_path: Path) -> None:
    """Stopped, killed, stopped again: each start says how the run before it ended."""
    async with ReloadWorld(tmp_path) as world:
        for end in (signal.SIGINT, signal.SIGKILL, signal.SIGTERM):
            hub = await world.start_hub("--alive-interval", "0.2")
            await sign_of_life(world.journal)
            assert await hub.stop(end) == (-9 if end is signal.SIGKILL else 0)
        log = read(world.journal)
    starts = [recorded.event for recorded in log if isinstance(recorded.event, HubStarted)]
    assert [start.orderly for start in starts] == [True, True, False]
    assert {start.version for start in starts} == {spnhub.__version__}
    assert all(address.startswith("127.0.0.") for start in starts for address in start.addresses)
    ends = [recorded.event for recorded in log if isinstance(recorded.event, HubStopped)]
    assert [end.reason for end in ends] == ["as planned", "after a resumable shutdown"]
    assert isinstance(log[-1].event, HubStopped)


async def test_a_full_disk_is_in_the_output_at_once(tmp_path: Path) -> None:
    """Lines of events wait for the journal. That it takes nothing doesn't wait, and nothing is lost by it."""
    async with ReloadWorld(tmp_path) as world:
        hub = await world.start_hub("--alive-interval", "0.1")
        await sign_of_life(world.journal)
        _, most = resource.prlimit(hub.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(hub.pid, resource.RLIMIT_FSIZE, (1, most))
        line = await hub.line("journal.stalled")
        assert (line["level"], line["reason"]) == ("error", "File too large")
        resource.prlimit(hub.pid, resource.RLIMIT_FSIZE, (most, most))
        line = await hub.line("journalStalled")
        assert (line["level"], line["reason"]) == ("error", "File too large; traffic went on ungated")
        assert await hub.stop(signal.SIGINT) == 0
        log = read(world.journal)
    assert [recorded.sequence for recorded in log] == list(range(1, len(log) + 1))
    assert not any(isinstance(recorded.event, EventsLost) for recorded in log)


_UNSYNCED = """
import itertools, os
from spnhub.cli.hub import main

def fdatasync(fd, sync=os.fdatasync, times=itertools.count()):
    if next(times) < 3:
        raise OSError(5, "Input/output error")
    sync(fd)

os.fdatasync = fdatasync
main()
"""


async def test_a_disk_that_keeps_nothing_is_in_the_output(tmp_path: Path) -> None:
    """The kernel took the bytes and the disk did not: the log is whole only until the power fails."""
    async with ReloadWorld(tmp_path) as world:
        program = ("python", "-c", _UNSYNCED)
        hub = await world.start_hub("--alive-interval", "0.1", "--journal-sync", "0.1", program=program)
        line = await hub.line("journal.unsynced")
        assert (line["level"], line["reason"]) == ("error", "Input/output error")
        line = await hub.line("journal.synced")
        assert line["level"] == "info"
        assert len(hub.said("journal.unsynced")) == 1


async def sign_of_life(journal: Path) -> None:
    """One that is yet to come."""
    after = max((recorded.sequence for recorded in read(journal)), default=0)
    async with asyncio.timeout(30), JournalSource(journal, after=after) as source:
        async for _, recorded in source.records(follow=True):
            if isinstance(recorded.event, HubAlive):
                return


async def test_a_journal_that_is_gone_is_told_while_it_lasts(tmp_path: Path) -> None:
    """Traffic goes on, readiness says why, and what happened meanwhile is there when the folder is back."""
    async with ReloadWorld(tmp_path) as world:
        hub = await world.start_hub("--alive-interval", "0.1", "--ops", "127.0.0.1:0")
        url = (await hub.line("ops.ready"))["url"]
        await sign_of_life(world.journal)
        away = world.journal.with_name("away")
        world.journal.rename(away)
        line = await hub.line("journal.failing")
        assert (line["level"], "No such file or directory" in line["reason"]) == ("error", True)
        async with httpx2.AsyncClient() as client:
            answer = await client.get(f"{url}/readyz")
            assert (answer.status_code, "No such file or directory" in answer.text) == (503, True)
            assert "spnhub_journal_failing 1.0" in (await client.get(f"{url}/metrics")).text
            assert len(hub.said("journal.failing")) == 1
            away.rename(world.journal)
            await hub.line("journal.writing")
            assert (await client.get(f"{url}/readyz")).status_code == 200
        assert await hub.stop(signal.SIGINT) == 0
        log = read(world.journal)
    assert [recorded.sequence for recorded in log] == list(range(1, len(log) + 1))


_DEAD_WRITER = """
import sys
from spnhub.cli.hub import main
from spnhub.events.journal.writer import WriterThread

class Fatal(BaseException):
    pass

def retain(self, batches, original=WriterThread.retain):
    if len(batches[-1].entries) and type(batches[-1].entries[-1].event).__name__ == "HubAlive":
        raise Fatal("injected")
    original(self, batches)

WriterThread.retain = retain
sys.exit(main())
"""


async def test_a_hub_whose_writer_is_dead_stops(tmp_path: Path) -> None:
    """By itself, in order, with the reason and status 1."""
    async with ReloadWorld(tmp_path) as world:
        hub = await world.start_hub("--alive-interval", "0.5", program=("python", "-c", _DEAD_WRITER))
        line = await hub.line("hub.stopping")
        assert (line["level"], line["reason"]) == ("critical", "journal: the thread that writes it has ended")
        await hub.line("hub.stopped")
        assert await hub.wait() == 1
