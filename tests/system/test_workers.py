"""Several hubs of one host behind one name: ``spnhub --workers``, as real processes with agents and traffic."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cli.processes import Program, Site, address_of
from tests.support.command import run
from tests.support.tcp import TcpPeer, TcpServer

ADDRESSES = "127.0.0.1,127.0.0.2"


class Workers:
    """Two of them, and who watches over them."""

    def __init__(self, site: Site, program: Program) -> None:
        self.site = site
        self.program = program

    def of(self, number: int) -> psutil.Process:
        """A worker's process, by its hub id's number."""
        started = [line for line in self.program.lines if line["event"] == "worker.started"]
        return psutil.Process([line["pid"] for line in started if line["hubId"] == f"h-{number}"][-1])


@asynccontextmanager
async def started(folder: Path) -> AsyncIterator[Workers]:
    site = Site(folder)
    program = await Program.start("spnhub", *arguments(site))
    site.programs.append(program)
    try:
        await program.line("workers.ready")
        yield Workers(site, program)
    finally:
        await site.close()


def arguments(site: Site, **other: str) -> list[str]:
    """Of ``spnhub``."""
    given = {
        "inventory": f"file:{site.folder}/inventory.yaml",
        "journal": f"{site.folder}/journal",
        "hub-id": "h",
        "log-format": "json",
        "workers": "2",
        "bind": ADDRESSES,
    } | {name.replace("_", "-"): value for name, value in other.items()}
    return [word for name, value in given.items() for word in (f"--{name}", value)]


async def both_agents(workers: Workers, server: TcpServer) -> Program:
    """A provider and a consumer that have sessions with both; the consumer."""
    site = workers.site
    given: dict[str, str] = {"SPN_HUB_ADDRESSES": ADDRESSES}
    forward = {"FORWARD_ADDRESS": "{}:{}".format(*server.address)}
    provider = await Program.start("spnagent", "provider", environment=site.environment("provider") | given | forward)
    site.programs.append(provider)
    bind = {"BIND_ADDRESS": "127.0.0.1:0"}
    consumer = await Program.start("spnagent", "consumer", environment=site.environment("consumer") | given | bind)
    site.programs.append(consumer)
    for agent in (provider, consumer):
        seen: set[str] = set()
        while len(seen) < 2:
            line = await agent.line("session.established", after=_after(agent, seen))
            seen.add(line["hubId"])
    return consumer


def _after(agent: Program, seen: set[str]) -> int:
    """Behind the lines of the sessions that were seen."""
    at = [n for n, line in enumerate(agent.lines) if line.get("event") == "session.established"]
    return at[len(seen) - 1] + 1 if seen and len(at) >= len(seen) else 0


async def test_load_is_shared_and_a_worker_that_dies_is_replaced(tmp_path: Path) -> None:
    """Connections go on at the other one, without a byte lost; another process takes the dead one's place."""
    async with started(tmp_path) as workers:
        with TcpServer() as server:
            consumer = await both_agents(workers, server)
            pairs = []
            for _ in range(4):
                client = await TcpPeer.connect(await address_of(consumer))
                pairs.append((client, await server.accept()))
                await client.send(b"before")
                assert await pairs[-1][1].receive(6) == b"before"
            used = {line["hubId"] for line in workers.program.lines if "connectionUid" in line}
            assert used == {"h-1", "h-2"}
            dead = workers.of(1)
            dead.kill()
            for client, other in pairs:
                await client.send(b"after")
                assert await other.receive(5) == b"after"
                client.close()
                other.close()
            line = await workers.program.line("worker.ended", hubId="h-1")
            assert line["reason"] == "signal SIGKILL"
            await workers.program.line("hub.ready", after=workers.program.lines.index(line), hubId="h-1")
            assert workers.of(1).pid != dead.pid
        workers.program.send(signal.SIGTERM)
        assert await workers.program.end() == 0
        stopped = [line["hubId"] for line in workers.program.lines if line["event"] == "hub.stopped"]
        assert sorted(stopped) == ["h-1", "h-2"]
    status, out, _ = await run("spnlog", "verify", *(str(tmp_path / "journal" / number) for number in "12"))
    assert status == 0, out


async def test_a_worker_ends_with_who_watches_over_it(tmp_path: Path) -> None:
    """Killed, it can't stop them: they notice, and end in order."""
    async with started(tmp_path) as workers:
        both = [workers.of(1), workers.of(2)]
        workers.program.process.kill()
        await asyncio.to_thread(psutil.wait_procs, both, timeout=20)
        assert not any(one.is_running() for one in both)


async def test_signals_are_passed_on(tmp_path: Path) -> None:
    """SIGHUP: each reads the inventory again. SIGINT: each ends in order."""
    async with started(tmp_path) as workers:
        program = workers.program
        before = len(program.lines)
        program.send(signal.SIGHUP)
        for hub_id in ("h-1", "h-2"):
            await program.line("reload.applied", after=before, hubId=hub_id)
        program.send(signal.SIGINT)
        assert await program.end() == 0
        assert {line["hubId"] for line in program.lines if line["event"] == "hub.stopped"} == {"h-1", "h-2"}


async def test_what_starting_again_does_not_mend_ends_all(tmp_path: Path) -> None:
    """An address that the host doesn't have: the line of the one that can't listen, and its status."""
    site = Site(tmp_path)
    status, _, errors = await run("spnhub", *arguments(site, bind="127.0.0.1,192.0.2.1"))
    assert status == 2
    assert "192.0.2.1" in errors and errors.count("\n") == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": "2", "bind": "127.0.0.1"}, "--workers: 2 of them need as many addresses in --bind"),
        ({"workers": "2", "bind": "127.0.0.1,127.0.0.1"}, "--workers: 2 of them need as many addresses in --bind"),
        ({"workers": "2", "bind": "127.0.0.1,0.0.0.0"}, "--workers: 2 of them need as many addresses in --bind"),
        ({"workers": "1"}, "--bind has 2 addresses (one each for --workers 2)"),
        ({"bind": "127.0.0.1,localhost"}, "'localhost' is not an IP address"),
        ({"workers": "0"}, "--workers: 0 is not between 1 and 256"),
    ],
)
async def test_what_does_not_fit_is_said(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    """In one line, before anything is started."""
    status, _, errors = await run("spnhub", *arguments(Site(tmp_path), **given))
    assert (status, errors.count("\n")) == (2, 1)
    assert said in errors


async def test_a_service_manager_hears_of_all(tmp_path: Path) -> None:
    """READY when each is ready; and that they are alive."""
    site = Site(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind(str(tmp_path / "notify"))
        told.setblocking(False)
        manager = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        program = await Program.start("spnhub", *arguments(site), environment=manager)
        site.programs.append(program)
        loop = asyncio.get_running_loop()
        try:
            messages: list[str] = []
            while not any("READY=1" in one for one in messages):
                messages.append((await loop.sock_recv(told, 4096)).decode())
            assert messages[-1] == "READY=1\nSTATUS=2 of 2 workers are ready"
            # One that hangs is ended and replaced, and the whole stays alive.
            workers = Workers(site, program)
            workers.of(1).suspend()
            silent = await program.line("worker.silent", hubId="h-1")
            await program.line("hub.ready", after=program.lines.index(silent), hubId="h-1")
        finally:
            await site.close()
