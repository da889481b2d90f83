"""Endpoints and connections that come and go while hub and broker are killed at random: the log is right all the same.

The programs that churn are :mod:`tests.support.churn`; :mod:`tests.support.churn_books` judges.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest

from spnhub.events.analysis.merge import merge
from spnhub.events.analysis.source import open_source
from spnhub.events.journal.files import load_identity
from spnhub.events.state.hub_state import HubState
from tests.support.churn import Churn, Ledger
from tests.support.churn_books import Books, Log, held, shown
from tests.support.command import Command
from tests.support.kafka import KafkaBroker
from tests.support.world import World, lifecycle
from tests.system.sizes import report, sizes

pytestmark = pytest.mark.kafka

SERVICES = ("web", "mail", "chat", "feed")
_LOOK = 1.0
"""Seconds between two looks at ``/state``."""
_DRAIN = 120.0
"""Seconds that the shipper may take, in the end, for what has piled up."""


class Watch:
    """Looks at the hub's ``/state`` again and again, whichever hub it is, and keeps what it sees."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._client = httpx2.AsyncClient(timeout=30)
        self._last: tuple[Command, dict[str, Any]] | None = None
        self.states: list[dict[str, Any]] = []
        """What the journal must show, too: a later look at the same hub says that it had been written."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(_LOOK)
            with contextlib.suppress(httpx2.HTTPError):
                await self.look()

    async def look(self) -> dict[str, Any]:
        """Once.

        :raises httpx2.HTTPError: the hub is gone.
        """
        hub = self._world.hub
        url = (await hub.line("ops.ready"))["url"]
        state: dict[str, Any] = (await self._client.get(f"{url}/state")).json()
        if self._last is not None and self._last[0] is hub and state["writtenSequence"] >= self._last[1]["sequence"]:
            self.states.append(self._last[1])
        # A hub that has still to start holds nothing; its journal has what the one before had.
        self._last = (hub, state) if state["run"] is not None else None
        return state

    async def until_shipped(self) -> None:
        """Wait until Kafka has all that the journal has."""
        async with asyncio.timeout(_DRAIN):
            while True:
                state = await self.look()
                if state["shipper"]["state"] in ("connected", "shipped") and not state["shipper"]["behind"]:
                    return
                await asyncio.sleep(0.1)

    async def close(self) -> None:
        """No more looks."""
        await self._client.aclose()


def churn_programs(
    world: World, processes: int, sessions: int, connections: int, at_once: int
) -> list[tuple[Churn, Path]]:
    """What each of them is told; one endpoint in eight is a provider."""
    provider, consumer = world.authority.client("provider"), world.authority.client("consumer")
    each = sessions // processes
    told = []
    for number in range(processes):
        ledger = world.folder / f"ledger-{number}.json"
        churn = Churn(
            host=world.host,
            url=world.url,
            services=tuple(world.urn(service) for service in SERVICES),
            provider=(provider.certificate.decode(), provider.key.decode()),
            consumer=(consumer.certificate.decode(), consumer.key.decode()),
            trust=world.authority.certificate.decode(),
            providers=each // 8,
            consumers=each - each // 8,
            connections=connections // processes,
            at_once=at_once // processes,
            ledger=str(ledger),
            seed=number,
        )
        told.append((churn, ledger))
    return told


async def check_states(world: World, states: list[dict[str, Any]]) -> None:
    """Each is the fold of the journal up to its sequence."""
    identity = load_identity(world.journal)
    waiting = sorted(states, key=lambda state: state["sequence"], reverse=True)
    fold = HubState()
    async with open_source(str(world.journal)) as source:
        async for _, recorded in merge([source]):
            assert fold.apply(recorded) == ()
            while waiting and waiting[-1]["sequence"] == recorded.sequence:
                assert shown(waiting.pop()) == held(fold, identity.hub_id, str(identity.journal_id))
    assert not waiting


@sizes(
    "processes, sessions, connections, at_once, kills, seed",
    (2, 100, 3_000, 60, 4, 1),
    (4, 2_000, 200_000, 400, 20, 2),
    minutes=80,
    small_minutes=5,
)
async def test_killed_at_random(
    tmp_path: Path,
    killable_kafka: KafkaBroker,
    topic: str,
    processes: int,
    sessions: int,
    connections: int,
    at_once: int,
    kills: int,
    seed: int,
) -> None:
    """All that was acknowledged is logged once, more only where a kill explains it; two readers see the same."""
    kafka, chance = killable_kafka, random.Random(seed)
    async with World(tmp_path, services=SERVICES) as world:
        options: tuple[str, ...] = (
            "--kafka",
            kafka.bootstrap,
            "--topic",
            topic,
            "--ops",
            "127.0.0.1:0",
            "--journal-size",
            "8G",
        )
        options += ("--identity-sessions", "10000")
        await world.start_hub(*options)
        told = churn_programs(world, processes, sessions, connections, at_once)
        programs = [await world.start_program(f"churn {n}", *churn.arguments()) for n, (churn, _) in enumerate(told)]
        for program in programs:
            await program.line("churn.ready", timeout=300)
        began = time.monotonic()
        watch = Watch(world)
        watching = asyncio.ensure_future(watch.run())
        await _kill_at_random(world, options, programs, kafka, chance, connections, kills)
        for program in programs:
            await program.line("churn.done", timeout=1800)
        took = time.monotonic() - began
        watching.cancel()
        cpu = {"endpoints": sum(program.cpu for program in programs), "last hub": world.hub.cpu}
        await _stop(world, programs, watch)
        stopped = time.monotonic()
        log, figures = await _read_alike(world, f"kafka://{kafka.bootstrap}/{topic}")
        books = Books([Ledger.read(path) for _, path in told], log)
        report(
            seconds=f"{took:.0f}",
            per_second=f"{len(log.leg_ends) / took:.0f}",
            cpu={name: f"{seconds:.1f} s" for name, seconds in cpu.items()},
            states=len(watch.states),
            **figures,
            **books.figures(),
        )
        books.check()
        await check_states(world, watch.states)
        assert watch.states
        printed(world, log)
        report(judged_in=f"{time.monotonic() - stopped:.0f} s")


async def _kill_at_random(
    world: World,
    options: Sequence[str],
    programs: list[Command],
    kafka: KafkaBroker,
    chance: random.Random,
    connections: int,
    kills: int,
) -> None:
    """Hub and broker by turns, each back at once or soon; returns when both run."""
    victims = (["hub"] * (kills - kills // 2)) + ["broker"] * (kills // 2)
    chance.shuffle(victims)
    moments = sorted(chance.uniform(0.05, 0.9) * connections for _ in victims)
    broker_down: asyncio.Task[None] | None = None
    for moment, victim in zip(moments, victims, strict=True):
        await churned(programs, moment)
        if broker_down is not None:
            await broker_down
            broker_down = None
        report(killed=victim, after=f"{moment:.0f} connections")
        if victim == "hub":
            await world.hub.kill()
            await world.start_hub(*options)
        else:
            await asyncio.to_thread(kafka.kill)
            broker_down = asyncio.ensure_future(bring_back(kafka, chance.uniform(0, 3)))
    if broker_down is not None:
        await broker_down


async def _stop(world: World, programs: list[Command], watch: Watch) -> None:
    """The programs, then the hub once everything is shipped; nobody has seen a fault."""
    assert set(await asyncio.gather(*(program.stop(timeout=180) for program in programs))) == {0}
    await watch.until_shipped()
    await watch.close()
    assert await world.hub.stop() == 0
    for program in programs:
        assert (program.said("churn.failed"), program.errors) == ([], [])


async def _read_alike(world: World, topic: str) -> tuple[Log, dict[str, object]]:
    """The log as journal and topic tell it, which must be the same and complete."""
    for name in (str(world.journal), topic):
        (verdict,) = (await world.verify(name))["logs"]
        assert (verdict["openSessions"], verdict["openConnections"], verdict["gaps"]) == ([], [], [])
        assert not verdict["missingHead"]
    log = Log()
    journal = await log.read(str(world.journal))
    assert await Log().read(topic) == journal
    return log, {"events": journal.events, "redelivered": verdict["redelivered"]}


def printed(world: World, log: Log) -> None:
    """What the hubs have printed is in the log."""
    for line in lifecycle([line for hub in world.hubs for line in hub.lines]):
        assert line.get("connectionUid") in log.last_epoch or line.get("spnSessionId") in log.session_starts, line


async def churned(programs: list[Command], connections: float) -> None:
    """Wait until the programs have seen so many connections end in order."""
    while True:
        done = 0
        for program in programs:
            assert program.running, program.transcript()
            progress = program.said("churn.progress")
            done += progress[-1]["closed"] if progress else 0
        if done >= connections:
            return
        await asyncio.sleep(0.05)


async def bring_back(kafka: KafkaBroker, after: float) -> None:
    """The broker is down for so many seconds."""
    await asyncio.sleep(after)
    await asyncio.to_thread(kafka.start)
