"""Rows: how long conversations stand still when a hub goes. Every byte is checked: one that is lost is an error."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from tests.bench.load import Figures, share
from tests.bench.tunnel import Subject, stop
from tests.support.command import Command
from tests.support.talk import Talk
from tests.support.world import World

__all__ = ["kill", "restart", "update"]

_HOSTS = ("127.0.0.1", "127.0.0.2")
_INTERVAL = 0.2
"""Seconds between two blocks of one direction."""
_ABSENCE = 3.0
"""Seconds that a lone hub is away."""


def _quantiles(seconds: Sequence[float]) -> Figures:
    return {"p50_s": share(seconds, 0.5), "p99_s": share(seconds, 0.99), "longest_s": max(seconds)}


@asynccontextmanager
async def _talk(subject: Subject, conversations: int, hosts: Sequence[str]) -> AsyncIterator[tuple[World, Talk]]:
    """Conversations through agents that know hubs at these addresses, of which the first runs."""
    async with subject.world() as world:
        server = world.serve()
        env = {"SPN_HUB_ADDRESSES": ",".join(hosts)}
        await world.start_hub(host=hosts[0])
        provider = await world.start_provider(server.address, env=env)
        consumer = await world.start_consumer(env=env)
        talk = await Talk.begin(world, consumer, server, conversations, interval=_INTERVAL)
        await talk.goes_on()
        yield world, talk
        await talk.end()
        await stop(world, consumer, provider)


async def restart(subject: Subject, conversations: int) -> Figures:
    """A lone hub is stopped in order, is away, and comes back: from its ``hub.ready`` until each direction flows."""
    async with _talk(subject, conversations, _HOSTS[:1]) as (world, talk):
        await world.hub.stop(signal.SIGTERM)
        await asyncio.sleep(_ABSENCE)
        began = time.monotonic()
        hub = await world.start_hub(host=_HOSTS[0])
        ready = _when(hub, "hub.ready")
        await talk.goes_on()
        return {**_quantiles(talk.stood_still(ready)), "ready_s": ready - began}


def _when(hub: Command, event: str) -> float:
    """When a line was written, of the monotonic clock."""
    said = datetime.fromisoformat(hub.said(event)[0]["timestamp"]).timestamp()
    return said - time.time() + time.monotonic()


async def _second_hub(world: World, talk: Talk) -> Command:
    """Start it, and wait for the agents' sessions; the first hub."""
    first = world.hub
    second = await world.start_hub(host=_HOSTS[1], hub_id="hub-2")
    while len(second.said("startSpnSession")) < 2:
        await asyncio.sleep(0.05)
    await talk.goes_on()
    await asyncio.sleep(1.0)  # what its coming brought is over
    return first


async def update(subject: Subject, conversations: int) -> Figures:
    """A second hub comes, the first is stopped in order: the longest that a block took, of each direction."""
    async with _talk(subject, conversations, _HOSTS) as (world, talk):
        first = await _second_hub(world, talk)
        began = time.monotonic()
        await first.stop(signal.SIGTERM)
        await talk.goes_on()
        return _quantiles(talk.slowest(began - _INTERVAL))


async def kill(subject: Subject, conversations: int) -> Figures:
    """The same when the first is killed."""
    async with _talk(subject, conversations, _HOSTS) as (world, talk):
        first = await _second_hub(world, talk)
        began = time.monotonic()
        await first.kill()
        await talk.goes_on()
        return _quantiles(talk.slowest(began - _INTERVAL))
