"""Processes that run out of descriptors: a crowd that comes and goes, a while without any. All recover by themselves.

D-25. The limits are the kernel's (RLIMIT_NOFILE), set when a process begins or while it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.command import Command
from tests.support.tcp import TcpPeer, serve
from tests.support.world import Consumer, Place, World
from tests.system.sizes import report

_CROWD = 120
_FEW = 64
"""Descriptors of a process that a crowd comes to."""


def few(count: int) -> Place:
    """A process that begins with so many descriptors, and can't have more."""
    return Place("127.0.0.1", ("sh", "-c", f'ulimit -n {count} && exec "$0" "$@"'))


def descriptors(command: Command) -> int:
    """How many a process has open."""
    return sum(1 for _ in Path(f"/proc/{command.pid}/fd").iterdir())


@contextlib.contextmanager
def none_left(command: Command) -> Iterator[None]:
    """Meanwhile the process can open nothing more."""
    soft, hard = resource.prlimit(command.pid, resource.RLIMIT_NOFILE)
    open_now = max(int(entry.name) for entry in Path(f"/proc/{command.pid}/fd").iterdir()) + 1
    lowest = next(fd for fd in range(open_now + 1) if not Path(f"/proc/{command.pid}/fd/{fd}").exists())
    resource.prlimit(command.pid, resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        yield
    finally:
        resource.prlimit(command.pid, resource.RLIMIT_NOFILE, (soft, hard))


async def echo(peer: TcpPeer) -> None:
    """What a server does here."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            await peer.send(await peer.receive(5))


async def ask(consumer: Consumer, leave: asyncio.Event | None = None, patience: float = 20.0) -> str:
    """A client: how it fared; it stays until it is to leave."""
    try:
        peer = await TcpPeer.connect(consumer.address)
    except OSError as exc:
        return type(exc).__name__
    try:
        async with asyncio.timeout(patience):
            await peer.send(b"hello")
            assert await peer.receive(5) == b"hello"
        if leave is not None:
            await leave.wait()
    except TimeoutError:
        return "no answer"
    except (OSError, EOFError) as exc:
        return type(exc).__name__
    finally:
        peer.close()
    return "ok"


async def twenty(consumer: Consumer) -> Counter[str]:
    """Clients one after the other."""
    return Counter([await ask(consumer) for _ in range(20)])


async def settled(command: Command, most: int) -> None:
    """The process has let go of what it held."""
    async with asyncio.timeout(30):
        while descriptors(command) > most:
            await asyncio.sleep(0.1)


@pytest.fixture
async def server() -> AsyncIterator[tuple[str, int]]:
    """An echo server's address."""
    async with serve(echo) as address:
        yield address


@pytest.mark.parametrize("role", ["provider", "consumer"])
async def test_a_crowd_comes_and_leaves(world: World, server: tuple[str, int], role: str) -> None:
    """More clients than an agent has descriptors: some are served, and all who come afterwards."""
    await world.start_hub()
    place = few(_FEW)
    provider = await world.start_provider(server, host=place if role == "provider" else None)
    consumer = await world.start_consumer(host=place if role == "consumer" else None)
    agent = provider if role == "provider" else consumer.command
    before = descriptors(agent)
    leave = asyncio.Event()
    began = time.monotonic()
    crowd = [asyncio.ensure_future(ask(consumer, leave, 3.0)) for _ in range(_CROWD)]
    await asyncio.sleep(4.0)
    leave.set()
    fared = Counter(await asyncio.gather(*crowd))
    await settled(agent, before + 2)
    # A provider that failed is passed over for a while, and then tried with one connection.
    async with asyncio.timeout(40):
        while await ask(consumer) != "ok":
            await asyncio.sleep(0.1)
    afterwards = await twenty(consumer)
    report(crowd=dict(fared), afterwards=dict(afterwards), descriptors=before)
    assert fared["ok"] >= 20
    assert afterwards == {"ok": 20}
    warnings = [line for line in agent.lines if line.get("level") == "warning"]
    assert len(warnings) <= time.monotonic() - began + 3, warnings
    await world.end()


@pytest.mark.parametrize("role", [pytest.param("provider", marks=pytest.mark.prove), "consumer"])
async def test_an_agent_loses_its_hub_meanwhile(world: World, server: tuple[str, int], role: str) -> None:
    """It has no descriptor for another socket when its hub is started again; later it has, and goes on."""
    await world.start_hub()
    provider = await world.start_provider(server)
    consumer = await world.start_consumer()
    agent = provider if role == "provider" else consumer.command
    before = descriptors(agent)
    assert await ask(consumer) == "ok"
    await settled(agent, before)
    sessions = len(agent.said("session.established"))
    with none_left(agent):
        # Nothing at all can be opened: no file, no socket.
        refused = await ask(consumer, patience=2.0)
        assert refused in ("ConnectionResetError", "no answer", "EOFError"), refused
        await world.hub.stop(signal.SIGTERM)
        await world.start_hub()
        await asyncio.sleep(1.0)
    restored = time.monotonic()
    await agent.line("session.established", nth=sessions + 1)
    report(session_after=f"{time.monotonic() - restored:.1f} s")
    fared = await twenty(consumer)
    assert fared == {"ok": 20}
    assert not agent.said("fault")
    await world.end()


async def test_a_hub_without_descriptors(world: World, server: tuple[str, int]) -> None:
    """Traffic goes on and is logged, HTTP pauses, a reload is refused; then all is as before. No flood of lines."""
    hub = await world.start_hub("--ops", "127.0.0.1:0", "--journal-sync", "0.05")
    ops = str((await hub.line("ops.ready"))["url"])
    await world.start_provider(server)
    consumer = await world.start_consumer()
    assert await ask(consumer) == "ok"
    options: Any = {"verify": False, "timeout": 30.0}
    async with httpx2.AsyncClient(**options) as client, httpx2.AsyncClient(**options) as another:
        assert (await client.get(f"{ops}/readyz")).status_code == 200
        before, lines = descriptors(hub), len(hub.lines)
        began = time.monotonic()
        with none_left(hub):
            waiting = asyncio.ensure_future(another.get(f"{ops}/readyz"))
            assert await twenty(consumer) == {"ok": 20}
            faults = await world.reload_refused()
            assert len(faults) == 1 and "Too many open files" in faults[0]
            await asyncio.sleep(2.0)
            assert await twenty(consumer) == {"ok": 20}
            # The connection that is there already is answered.
            assert (await client.get(f"{ops}/readyz")).status_code == 200
        assert (await waiting).status_code == 200
        assert await twenty(consumer) == {"ok": 20}
        await world.reload()
        metrics = (await client.get(f"{ops}/metrics")).text
    assert "spnhub_journal_failing 0.0" in metrics
    assert "spnhub_faults_total{" not in metrics
    said = [line for line in hub.lines[lines:] if "eventType" not in line]
    assert len(said) <= time.monotonic() - began + 10, said
    await settled(hub, before + 2)
    assert not [line for line in hub.lines if line.get("event") == "journalStalled"]
    await world.end(hub_errors=("reload.rejected", "reload.fault"))


async def test_a_hub_that_begins_with_few(world: World, server: tuple[str, int]) -> None:
    """Clients of its HTTP that say nothing take none that it needs."""
    hub = await world.start_hub("--ops", "127.0.0.1:0", within=few(_FEW).within)
    ops = httpx2.URL(str((await hub.line("ops.ready"))["url"]))
    await world.start_provider(server)
    consumer = await world.start_consumer()
    assert ops.port is not None
    silent = [world.keep(await TcpPeer.connect((ops.host, ops.port))) for _ in range(_CROWD)]
    assert await twenty(consumer) == {"ok": 20}
    await world.reload()
    async with httpx2.AsyncClient(verify=False, timeout=30.0) as client:
        assert (await client.get(f"{ops}/readyz")).status_code == 200
    assert descriptors(hub) < _FEW - 8
    assert (await silent[0].receive_all())[0] == b""
    await world.end()


async def test_the_reader_of_a_log_without_descriptors(world: World, server: tuple[str, int]) -> None:
    """``spnlog serve`` follows again when it has some, and has missed nothing."""
    await world.start_hub()
    await world.start_provider(server)
    consumer = await world.start_consumer()
    reader = await Command.start("serve", "spnlog", "serve", str(world.journal), "--listen", "127.0.0.1:0", "--json")
    try:
        url = str((await reader.line("serve.ready"))["url"])
        await reader.line("serve.caught_up")
        before = descriptors(reader)
        began = time.monotonic()
        with none_left(reader):
            waiting = world.keep(
                await TcpPeer.connect((url.split("/")[2].split(":", maxsplit=1)[0], int(url.split(":")[2][:-8])))
            )
            assert await twenty(consumer) == {"ok": 20}
            await asyncio.sleep(1.5)
        lasted = time.monotonic() - began
        waiting.close()
        async with httpx2.AsyncClient(verify=False, timeout=30.0) as client, asyncio.timeout(30):
            while "spnlog_connections_ended_total" not in (text := (await client.get(url)).text) or _ended(text) < 20:
                await asyncio.sleep(0.2)
        await settled(reader, before + 2)
        # Two subjects, each said once a second.
        assert len([line for line in reader.lines if line["level"] != "info"]) <= 6 + 2 * lasted
        assert await reader.stop() == 0
    finally:
        await reader.close()
    assert reader.errors == []
    await world.end()


def _ended(text: str) -> float:
    """How many connections have ended, by the reader's account."""
    lines = [line for line in text.splitlines() if line.startswith("spnlog_connections_ended_total{")]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
