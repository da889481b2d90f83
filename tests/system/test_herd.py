"""Handshakes beside everything else (D-33): a herd that comes at one moment, as endpoints do that have lost their hub
together, and single endpoints that come to a hub that has no time.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.support.command import Command
from tests.support.herd import Herd
from tests.support.world import World
from tests.system.sizes import report, sizes
from tests.system.test_churn import SERVICES, churn_programs

pytestmark = pytest.mark.measured


async def start_herd(world: World, processes: int, endpoints: int) -> list[Command]:
    """Programs of so many consumers each, which come at SIGUSR1."""
    mine = world.authority.client("consumer")
    herd = Herd(
        host=world.host,
        url=world.url,
        service_urn=world.urn(),
        certificate=mine.certificate.decode(),
        key=mine.key.decode(),
        trust=world.authority.certificate.decode(),
        endpoints=endpoints,
    )
    programs = [await world.start_program(f"herd {n}", *herd.arguments()) for n in range(processes)]
    await asyncio.gather(*(program.line("herd.ready") for program in programs))
    return programs


async def until_in(hub: Command, sessions: int) -> float:
    """Seconds until so many sessions have started there."""
    began = time.monotonic()
    while len(hub.said("startSpnSession")) < sessions:
        assert hub.running
        await asyncio.sleep(0.1)
    return time.monotonic() - began


@sizes("processes, endpoints", (2, 40), (4, 500), minutes=15)
async def test_all_return_to_a_hub_that_was_killed(world: World, processes: int, endpoints: int) -> None:
    """They come together and, when it is killed, they come back together; no work is done twice."""
    hub = await world.start_hub("--identity-sessions", "10000")
    await world.provider_endpoint()
    programs = await start_herd(world, processes, endpoints)
    many = processes * endpoints
    figures = {}
    for what in ("came", "returned"):
        before = [program.cpu for program in programs]
        for program in programs:
            program.send_signal(signal.SIGUSR1)
        took = await until_in(hub, 1 + many)
        refused = sum(e["count"] for e in await world.events() if e["eventType"] == "sessionRefused")
        figures[what] = (
            f"{took:.1f} s, hub {hub.cpu:.1f} s, "
            f"herd {sum(program.cpu for program in programs) - sum(before):.1f} s, {refused} refused"
        )
        if what == "came":
            await hub.kill()
            hub = await world.start_hub()
    report(sessions=many, **figures)


@sizes("processes, sessions, at_once", (2, 100, 60), (4, 1000, 400), minutes=5)
async def test_endpoints_get_in_while_the_hub_is_busy(
    tmp_path: Path, processes: int, sessions: int, at_once: int
) -> None:
    """Connections that come and go as fast as the hub can handle them don't keep new endpoints out."""
    async with World(tmp_path, services=SERVICES) as world:
        await world.start_hub("--identity-sessions", "10000")
        told = churn_programs(world, processes, sessions, 10**9, at_once)
        programs = [await world.start_program(f"churn {n}", *churn.arguments()) for n, (churn, _) in enumerate(told)]
        began = time.monotonic()
        for program in programs:
            await program.line("churn.ready", timeout=120)
        ready = time.monotonic() - began
        times = []
        for _ in range(4):
            began = time.monotonic()
            endpoints = await asyncio.gather(*(world.consumer_endpoint(service=SERVICES[0]) for _ in range(8)))
            times.append(time.monotonic() - began)
            await asyncio.gather(*(endpoint.aclose() for endpoint in endpoints))
        report(
            sessions=sessions,
            all_ready=f"{ready:.1f} s",
            eight_more=", ".join(f"{seconds:.2f} s" for seconds in times),
            closed=sum(program.said("churn.progress")[-1]["closed"] for program in programs),
        )
        for program in programs:
            await program.kill()
        assert max(times) < 5
