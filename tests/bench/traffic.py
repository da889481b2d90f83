"""Rows: what a running tunnel carries, and what that costs its processes."""

from __future__ import annotations

import asyncio

from tests.bench.load import Figures
from tests.bench.processes import waits
from tests.bench.tunnel import Tunnel, load

__all__ = ["bulk", "echo", "echo_beside", "http", "opens"]


async def bulk(tunnel: Tunnel, seconds: float, count: int = 1, *, up: bool = False) -> Figures:
    """Transfers at once for a time."""
    got, cpu = await tunnel.measure("bulk", seconds=seconds, count=count, up=up)
    gib = got["bytes"] / 2**30
    return {
        "MB_s": got["MB_s"],
        "evenness": got["evenness"],
        **{f"{role}_s_GiB": used / gib for role, used in cpu.items()},
    }


async def echo(tunnel: Tunnel, seconds: float) -> Figures:
    """One byte there and back, again and again."""
    return await load(tunnel.address, "echo", seconds=seconds)


async def echo_beside(tunnel: Tunnel, seconds: float) -> Figures:
    """The same beside a transfer at full speed through the same agents; how long these wait for a core each time."""
    beside = asyncio.ensure_future(load(tunnel.address, "bulk", seconds=seconds + 1.5))
    try:
        await asyncio.sleep(0.7)  # it has found its speed
        before = {role: waits(command.pid) for role, command in tunnel.roles.items()}
        figures = await echo(tunnel, seconds)
        for role, command in tunnel.roles.items():
            figures[f"{role}_wait_ms"] = waits(command.pid).mean_since(before[role]) * 1000
        return {**figures, "MB_s": (await beside)["MB_s"]}
    finally:
        beside.cancel()


def _per_thousand(got: Figures, cpu: Figures) -> Figures:
    return {f"{role}_s_1000": used * 1000 / got["count"] for role, used in cpu.items()}


async def opens(tunnel: Tunnel, seconds: float, at_once: int) -> Figures:
    """Connections that echo a byte and close."""
    got, cpu = await tunnel.measure("opens", seconds=seconds, at_once=at_once)
    return got | _per_thousand(got, cpu)


async def http(tunnel: Tunnel, seconds: float, *, keep: bool) -> Figures:
    """Requests for 10 KiB, 16 at once."""
    got, cpu = await tunnel.measure("http", seconds=seconds, keep=keep)
    return got | _per_thousand(got, cpu)
