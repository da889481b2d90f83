"""Endings: what each program sees through agents and hub is what it sees with nothing between (D-17, D-34).

Where it can't be the same, a row of the table in ``PROTOCOL.md`` says so and why; :data:`ROWS` are those rows.
"""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

from tests.support.command import Command
from tests.support.endings import Cell, How, Seen, Talk, What, cells
from tests.support.path import Path as NetworkPath
from tests.support.tcp import Ending, TcpPeer, TcpServer
from tests.support.world import World
from tests.system.sizes import report

_PROTOCOL = Path(__file__).parents[2] / "transport" / "PROTOCOL.md"
_BOUND = 60.0
"""Seconds for all cells of a run to be seen, on a machine that does much else."""


def _more(cell: Cell, direct: Seen, through: Seen) -> bool:
    """A reset drops what its own kernel has not sent: with agents the next kernel is nearer, and has taken more."""
    abrupt = cell.how in (How.RST, How.CLOSE, How.HALF_RST)
    same = (through.exact, through.ending, through.broken) == (direct.exact, direct.ending, direct.broken)
    return cell.what is What.FULL and abrupt and same and through.size >= direct.size


ROWS: Final[dict[str, Callable[[Cell, Seen, Seen], bool] | None]] = {
    "more bytes": _more,
    # Of no cell here: tests/system/test_tcp_endings.py, test_deaths.py, and the simulation's failures.
    "later": None,
    "no FIN": None,
    "agent gone": None,
    "no mark": None,
}
"""Names of the rows of the table, and what they allow in which cell."""


def _documented() -> list[str]:
    """Names of the rows of the table in the document."""
    text = _PROTOCOL.read_text(encoding="utf-8").split("<!-- endings -->\n\n", 1)[1].split("\n\n", 1)[0]
    return [match.group(1) for match in re.finditer(r"^\| `([^`]+)` \|", text, re.MULTILINE)]


def test_every_difference_is_documented() -> None:
    """The table has the rows that are allowed here, and no others."""
    assert _documented() == list(ROWS)


class Run:
    """Many cells at once over one way from client to server."""

    def __init__(self, address: tuple[str, int], server: TcpServer) -> None:
        self._address = address
        self._server = server
        self.talks: list[Talk] = []

    async def open(self, chosen: Sequence[Cell]) -> None:
        """A connection for each cell, and what has happened on it before."""
        clients = [await TcpPeer.connect(self._address) for _ in chosen]
        for number, client in enumerate(clients):
            await client.send(number.to_bytes(4, "big"))
        servers: dict[int, TcpPeer] = {}
        for _ in chosen:
            served = await self._server.accept()
            servers[int.from_bytes(await served.receive(4), "big")] = served
        self.talks = [Talk(cell, clients[n], servers[n]) for n, cell in enumerate(chosen)]
        await self._each("prepare")

    async def load(self, *whats: What) -> None:
        """Put under way what shall be."""
        await asyncio.gather(*(talk.load() for talk in self.talks if talk.cell.what in whats))

    async def end(self, *whats: What) -> dict[Cell, Seen]:
        """End those, and see."""
        talks = [talk for talk in self.talks if talk.cell.what in whats]
        seen: dict[Cell, Seen] = {}
        for talk in talks:
            talk.act()

        async def observe(talk: Talk) -> None:
            seen[talk.cell] = await talk.observe()

        try:
            async with asyncio.timeout(_BOUND):
                await asyncio.gather(*(observe(talk) for talk in talks))
        except TimeoutError:
            raise AssertionError(f"never ends: {[str(t.cell) for t in talks if t.cell not in seen]}") from None
        for talk in talks:
            talk.close()
        return seen

    async def _each(self, step: str) -> None:
        async with asyncio.timeout(_BOUND):
            await asyncio.gather(*(getattr(talk, step)() for talk in self.talks))


async def _direct(server: TcpServer, chosen: Sequence[Cell]) -> dict[Cell, Seen]:
    run = Run(server.address, server)
    await run.open(list(dict.fromkeys(cell.direct for cell in chosen)))
    await run.load(*What)
    return await run.end(*What)


async def _through(world: World, agents: Sequence[Command], run: Run, chosen: Sequence[Cell]) -> dict[Cell, Seen]:
    """All cells; those that an update is about share one."""
    await run.open(chosen)
    still = (What.IDLE, What.SENT, What.FULL)
    await run.load(*still)
    seen = await run.end(*still)
    updated = [cell for cell in chosen if cell.what not in still]
    if updated:
        assert await world.hub.stop(signal.SIGTERM) == 0
        await asyncio.gather(*(agent.wait_lines("connection.paused", len(updated)) for agent in agents))
        await run.load(What.PAUSED)
        paused = asyncio.ensure_future(run.end(What.PAUSED))
        await asyncio.sleep(0)
        await world.start_hub()
        seen |= await paused
        await asyncio.gather(*(agent.wait_lines("connection.resumed", len(updated)) for agent in agents))
        await run.load(What.RESUMED)
        seen |= await run.end(What.RESUMED)
    return seen


@pytest.mark.parametrize(
    ("delay", "chosen"),
    [
        pytest.param(0.0, cells(What.IDLE, What.SENT, What.PAUSED, What.RESUMED), id="loopback"),
        pytest.param(0.01, cells(What.SENT), id="20 ms"),
        pytest.param(0.0, cells(*What), id="loopback, all", marks=pytest.mark.prove),
        pytest.param(0.01, cells(*What), id="20 ms, all", marks=pytest.mark.prove),
    ],
)
@pytest.mark.timeout(300)
async def test_endings(world: World, delay: float, chosen: list[Cell]) -> None:
    """Bytes and kind of end, for the one that doesn't end, and for the one that has ended its direction only."""
    server = world.serve()
    direct = await _direct(server, chosen)
    async with NetworkPath((world.host, world.port)) as path:
        path.delay = delay
        env = {"SPN_HUB_ADDRESSES": path.address} if delay else None
        _, provider, consumer = await world.start(server.address, env=env)
        run = Run(consumer.address, server)
        through = await _through(world, [provider, consumer.command], run, chosen)
        await world.end()
    rows: Counter[str] = Counter()
    wrong = []
    for cell in chosen:
        before, now = direct[cell.direct], through[cell]
        if before == now:
            rows["the same"] += 1
            continue
        allowed = [name for name, allows in ROWS.items() if allows and allows(cell, before, now)]
        rows.update(allowed)
        if not allowed:
            wrong.append(f"{cell}: {now}, direct {before}")
    report(delay=delay, cells=len(chosen), **{name.replace(" ", "_"): count for name, count in rows.items()})
    assert not wrong, "\n".join(wrong)
    assert Ending.RST in {seen.ending for seen in direct.values()}


@pytest.mark.parametrize("role", ["consumer", "provider"])
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_an_agent_that_is_stopped_hands_on_what_it_has(world: World, role: str, how: signal.Signals) -> None:
    """What its host had taken from its program, and for it, comes before the reset; soon, although all is far away."""
    server = world.serve()
    async with NetworkPath((world.host, world.port)) as path:
        env = {"SPN_HUB_ADDRESSES": path.address, "SPN_DRAIN_TIMEOUT": "0.2"}
        _, provider, consumer = await world.start(server.address, env=env)
        talks = [await world.join(consumer, server) for _ in range(5)]
        for client, served in talks:
            await served.send(b"hello")
            assert await client.receive(5) == b"hello"
        path.delay = 0.05
        near, far = (0, 1) if role == "consumer" else (1, 0)
        for talk in talks:
            await talk[near].send(bytes(60_000))
        for talk in talks:
            while talk[near].unsent:
                await asyncio.sleep(0.001)
        agent = consumer.command if role == "consumer" else provider
        began = asyncio.get_running_loop().time()
        assert await agent.stop(how) == 0
        took = asyncio.get_running_loop().time() - began
        for talk in talks:
            assert await talk[far].receive_all() == (bytes(60_000), Ending.RST)
            assert await talk[near].receive_all() == (b"", Ending.RST)
        path.delay = 0.0
        report(took=f"{took:.2f} s")
        await world.end()
