"""Rows: from a program's start until the first byte comes back through everything."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tests.bench.load import Address, Figures
from tests.bench.tunnel import Subject, load, stop, target

__all__ = ["agents", "together"]

_T = TypeVar("_T")
_LONGEST = 60.0


def _free_address() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        host, port = sock.getsockname()
        return str(host), int(port)


async def _until_first(address: Address, start: Callable[[], Awaitable[_T]]) -> tuple[float, _T]:
    """Seconds from the start of something to the first byte, which is tried for all the time; and what was started."""
    trying = asyncio.ensure_future(load(address, "first", seconds=_LONGEST))
    await asyncio.sleep(0.3)  # it runs
    began = time.monotonic()
    started = await start()
    return (await trying)["at"] - began, started


async def together(subject: Subject) -> Figures:
    """Hub, provider's agent and consumer's agent at the same moment."""
    async with target() as server, subject.world() as world:
        address = _free_address()
        seconds, (_, provider, consumer) = await _until_first(
            address,
            lambda: asyncio.gather(
                world.start_hub(program=subject.hub),
                world.start_provider(server),
                world.start_consumer(env={"BIND_ADDRESS": f"{address[0]}:{address[1]}"}),
            ),
        )
        await stop(world, consumer, provider)
        return {"seconds": seconds}


async def agents(subject: Subject) -> Figures:
    """One agent after the other while all else runs and waits for it."""
    async with target() as server, subject.world() as world:
        address = _free_address()
        bind = {"BIND_ADDRESS": f"{address[0]}:{address[1]}"}
        _, provider = await world.start_hub(program=subject.hub), await world.start_provider(server)
        consumer_s, consumer = await _until_first(address, lambda: world.start_consumer(env=bind))
        await provider.stop()
        provider_s, provider = await _until_first(address, lambda: world.start_provider(server))
        await stop(world, consumer, provider)
        return {"consumer_s": consumer_s, "provider_s": provider_s}
