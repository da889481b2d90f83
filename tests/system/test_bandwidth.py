"""A bound of bandwidth with real processes: as many bytes a second, also while a connection goes on at another hub."""

from __future__ import annotations

import asyncio
import time

from tests.support.engines import on_both_engines
from tests.support.tcp import Ending, digest, pattern
from tests.support.world import World
from tests.system.sizes import KIB, report

_RATE = 512 * KIB
_SIZE = 1536 * KIB


@on_both_engines
async def test_a_service_that_may_carry_half_a_mebibyte_a_second(world: World, engine: str) -> None:
    """The hub dies in the middle: the next one has the same bound, and every byte comes once, in order."""
    world.service()["maxBandwidth"] = _RATE
    world.write_inventory()
    server = world.serve()
    hub, provider, consumer = await world.start(server.address)
    client, served = await world.join(consumer, server)
    began = time.monotonic()

    async def offer() -> None:
        await served.send_pattern(1, _SIZE)
        served.finish()

    async with asyncio.TaskGroup() as group:
        group.create_task(offer())
        first = await client.receive(_SIZE // 3)
        assert time.monotonic() - began > 0.7 * len(first) / _RATE
        await hub.line("limitReached", limit="serviceBandwidth", bound=_RATE)
        await hub.kill()
        await provider.wait_lines("session.lost", 1)
        second = await world.start_hub()
        client.finish()
        left = await client.receive_digest()
    seconds = time.monotonic() - began
    report(seconds=f"{seconds:.1f}", at_least=f"{_SIZE / _RATE:.1f}")
    whole = b"".join(pattern(1, _SIZE))
    assert first == whole[: _SIZE // 3]
    assert left == (_SIZE - len(first), digest(iter([whole[len(first) :]])), Ending.FIN)
    # What waits in windows and buffers when a hub begins has passed no meter of it.
    assert seconds > 0.8 * _SIZE / _RATE
    await second.line("limitReached", limit="serviceBandwidth", bound=_RATE)
