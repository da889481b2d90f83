"""A hub's runs in its own log: who was stopped in order, who was killed, and signs of life in between."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

import spnhub
from spnhub.events.journal.reader import JournalSource
from spnhub.events.model import HubAlive, HubStarted, HubStopped
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


async def sign_of_life(journal: Path) -> None:
    """One that is yet to come."""
    after = max((recorded.sequence for recorded in read(journal)), default=0)
    async with asyncio.timeout(30), JournalSource(journal, after=after) as source:
        async for _, recorded in source.records(follow=True):
            if isinstance(recorded.event, HubAlive):
                return
