"""Clocks that are wrong and processes that are stopped: traffic goes on, and nobody's end is for good.

The wall clock is libfaketime's (Debian: faketime), which a file steps; time that has passed stays the kernel's.
"""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest

from tests.support.tcp import TcpPeer
from tests.support.world import World
from tests.system.sizes import sizes

pytestmark = pytest.mark.system

_LIBRARY: Final = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))), None)


class WallClock:
    """Of the processes that are started with :attr:`env`."""

    def __init__(self, folder: Path) -> None:
        if _LIBRARY is None:
            pytest.skip("libfaketime isn't installed (Debian: faketime)")
        self._file = folder / "clock"
        self.set(0)
        self.env = {
            "LD_PRELOAD": str(_LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, days: int) -> None:
        """So many days ahead of the true time."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{days:+d}d\n")
        new.rename(self._file)


@pytest.mark.prove
@pytest.mark.timeout(300)
async def test_a_wall_clock_that_jumps(world: World, tmp_path: Path) -> None:
    """20 days ahead, right, 20 days back, right: of the hub and of both agents. The realm has expired meanwhile."""
    clock = WallClock(tmp_path)
    end = datetime.now(UTC) + timedelta(days=10)
    world.realms[0]["expiredAt"] = f"{end:%Y-%m-%dT%H:%M:%SZ}"
    world.write_inventory()
    server = world.serve()
    hub = await world.start_hub("--ops", "127.0.0.1:0", env=clock.env)
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=clock.env), world.start_consumer(env=clock.env)
    )
    client, served = await world.join(consumer, server)

    async def talk() -> None:
        await client.send(b"request")
        assert await served.receive(7) == b"request"
        await served.send(b"answer")
        assert await client.receive(6) == b"answer"

    await talk()
    await client.send(b"before")
    clock.set(20)
    line = await hub.line("clock.stepped")
    assert abs(line["seconds"] - 20 * 86_400) < 60
    await provider.line("session.lost")
    await consumer.command.line("session.lost")
    # Its inventory is read again while the clock is wrong: nobody is told that the name isn't known.
    hub.send_signal(signal.SIGUSR1)
    await hub.line("reload.decided")
    await provider.line("session.failed")
    clock.set(0)
    await hub.wait_lines("clock.stepped", 2)
    assert hub.said("clock.stepped")[1]["eventsAhead"] == pytest.approx(20 * 86_400, abs=120)
    assert await served.receive(6) == b"before"
    await talk()
    clock.set(-20)
    await hub.wait_lines("clock.stepped", 3)
    await talk()
    clock.set(0)
    await hub.wait_lines("clock.stepped", 4)
    await talk()
    assert provider.running
    assert consumer.command.running
    client.close()
    served.close()


@sizes("seconds", 3.0, 30.0)
@pytest.mark.timeout(300)
async def test_a_process_that_is_stopped(world: World, seconds: float) -> None:
    """SIGSTOP, one after the other, in full longer than sessions live: what is open goes on, and no byte is lost."""
    server = world.serve()
    hub, provider, consumer = await world.start(server.address)

    async def established() -> tuple[TcpPeer, TcpPeer]:
        # Its server has it before the consumer's agent knows: what isn't established by then ends with its session.
        client, served = await world.join(consumer, server)
        await served.send(b"welcome")
        assert await client.receive(7) == b"welcome"
        return client, served

    pairs = [await established()]
    for process in (hub, provider, consumer.command):
        process.send_signal(signal.SIGSTOP)
        for client, served in pairs:
            await client.send(b"request")
            await served.send(b"answer")
        await asyncio.sleep(seconds)
        process.send_signal(signal.SIGCONT)
        for client, served in pairs:
            assert (await served.receive(7), await client.receive(6)) == (b"request", b"answer")
        pairs.append(await established())
    for client, served in pairs:
        client.close()
        served.close()
    await world.end()
