"""Rows: from a program's start until the first byte comes back through everything."""

from __future__ import annotations

import asyncio
import socket
import time

from tests.bench.load import Address, Figures
from tests.bench.tunnel import Subject, load, stop, target

__all__ = ["agents", "together"]

_LONGEST = 60.0


def _free_address() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        host, port = sock.getsockname()
        return str(host), int(port)


async def _first(address: Address) -> float:
    """When the first byte came, of the monotonic clock; tried from now on."""
    return (await load(address, "first", seconds=_LONGEST))["at"]


async def together(subject: Subject) -> Figures:
    """Hub, provider's agent and consumer's agent at the same moment."""
    async with target() as server, subject.world() as world:
        address = _free_address()
        trying = asyncio.ensure_future(_first(address))
        await asyncio.sleep(0.3)  # it runs
        began = time.monotonic()
        _, provider, consumer = await asyncio.gather(
            world.start_hub(),
            world.start_provider(server),
            world.start_consumer(env={"BIND_ADDRESS": f"{address[0]}:{address[1]}"}),
        )
        figures = {"seconds": await trying - began}
        await stop(world, consumer, provider)
        return figures


async def agents(subject: Subject) -> Figures:
    """One agent after the other while all else runs and waits for it."""
    async with target() as server, subject.world() as world:
        address = _free_address()
        bind = {"BIND_ADDRESS": f"{address[0]}:{address[1]}"}
        _, provider = await world.start_hub(), await world.start_provider(server)
        trying = asyncio.ensure_future(_first(address))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        consumer = await world.start_consumer(env=bind)
        consumer_s = await trying - began
        await provider.stop()
        trying = asyncio.ensure_future(_first(address))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        provider = await world.start_provider(server)
        provider_s = await trying - began
        await stop(world, consumer, provider)
        return {"consumer_s": consumer_s, "provider_s": provider_s}
