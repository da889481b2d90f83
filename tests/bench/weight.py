"""Rows: what is idle, and what it weighs and costs."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint
from tests.bench.load import Figures
from tests.bench.processes import process_cpu
from tests.bench.tunnel import Subject, Tunnel, loaded, rss
from tests.support.command import Command

__all__ = ["at_start", "beside_idle", "idle_connections", "sessions"]

_SETTLED = 1.0
"""Seconds after which what was begun has ended."""
_OF_A_SESSION = 3000
"""Connections that one session has beside others: it may have 4,096."""
_AT_ONCE = 20
"""Sessions that come together: few enough that none of them has to come again."""


async def at_start(subject: Subject) -> Figures:
    """Memory of each process with its session, before any traffic."""
    async with subject.tunnel() as tunnel:
        await asyncio.sleep(_SETTLED)
        return {f"{role}_MiB": rss(command.pid) for role, command in tunnel.roles.items()}


def _memory(tunnel: Tunnel) -> dict[str, float]:
    return {role: command.rss / 1024 for role, command in tunnel.roles.items()}


async def idle_connections(subject: Subject, count: int) -> Figures:
    """What each connection adds to each process."""
    async with subject.tunnel() as tunnel:
        await tunnel.settle()
        before = _memory(tunnel)
        async with loaded(tunnel.address, "hold", count=count):
            await tunnel.settle()
            after = _memory(tunnel)
        return {f"{role}_KiB": (after[role] - before[role]) / count for role in after}


async def beside_idle(subject: Subject, count: int, seconds: float) -> Figures:
    """A transfer alone, and beside so many idle connections: the hub's bytes per CPU second."""
    async with subject.tunnel() as tunnel:

        async def rate() -> float:
            await tunnel.settle()
            got, cpu = await tunnel.measure("bulk", seconds=seconds)
            return got["bytes"] / cpu["hub"]

        await rate()  # windows grow, caches fill
        alone = await rate()
        async with AsyncExitStack() as stack:
            addresses, commands = [tunnel.address], list[Command]()
            while len(addresses) * _OF_A_SESSION < count:
                address, agents = await tunnel.more_agents()
                addresses.append(address)
                commands += agents
            for address in addresses:
                await stack.enter_async_context(loaded(address, "hold", count=count // len(addresses)))
            beside = await rate()
        for command in commands:
            await command.stop()
        await asyncio.sleep(_SETTLED)
        last = await rate()
        return {"ratio": beside / ((alone + last) / 2), "count": count}


async def sessions(subject: Subject, count: int) -> Figures:
    """Consumers of the library that come with their sessions and stay."""
    async with subject.world() as world:
        hub = await world.start_hub(program=subject.hub)
        await world.provider_endpoint()
        # What is made once is made, and what the start left free is taken.
        held: list[ConsumerEndpoint] = await asyncio.gather(*(world.consumer_endpoint() for _ in range(_AT_ONCE)))
        await asyncio.sleep(_SETTLED)
        memory, cpu = hub.rss, process_cpu(hub.pid)
        for first in range(0, count, _AT_ONCE):
            some = min(_AT_ONCE, count - first)
            held += await asyncio.gather(*(world.consumer_endpoint() for _ in range(some)))
        await asyncio.sleep(_SETTLED)
        figures = {
            "hub_KiB": (hub.rss - memory) / 1024 / count,
            "hub_ms": (process_cpu(hub.pid) - cpu) * 1000 / count,
        }
        await asyncio.gather(*(endpoint.close() for endpoint in held))
        await hub.stop()
        return figures
