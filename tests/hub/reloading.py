"""A world whose inventory is changed while its hub runs. Counterpart: :mod:`tests.support.world`."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from typing import Any

import httpx2
import yaml

from tests.support.command import Line
from tests.support.tcp import TcpPeer
from tests.support.world import World

__all__ = ["Beat", "Document", "ReloadWorld", "hub_of", "service"]

Document = dict[str, Any]


def hub_of(document: Document) -> Document:
    """The one network of a world's inventory."""
    hub = document["realms"][0]["hubs"][0]
    assert isinstance(hub, dict)
    return hub


def service(name: str, *consumers: str, provider: str = "provider", **more: Any) -> Document:
    """A service object."""
    return {"name": name, "title": name, "provider": provider, "consumers": list(consumers)} | more


class ReloadWorld(World):
    """Changes its inventory's file and has the hub read it again."""

    @property
    def document(self) -> Document:
        """The inventory as it is in the file."""
        text = self.inventory_file.read_text()
        document = json.loads(text) if text.startswith("{") else yaml.safe_load(text)
        assert isinstance(document, dict)
        return document

    def write(self, document: Document | str) -> None:
        """Replace the file; text as it is."""
        # JSON is YAML, and made in no time: the test's own loop has traffic to watch.
        text = document if isinstance(document, str) else json.dumps(document)
        beside = self.inventory_file.with_suffix(".new")
        beside.write_text(text)
        beside.replace(self.inventory_file)

    def change(self, how: Callable[[Document], object]) -> None:
        """Change the file's document in place."""
        document = self.document
        how(document)
        self.write(document)

    async def renew(self, outcome: str = "applied") -> Line:
        """Send SIGUSR1; the line that says what became of it."""
        count = len(self.hub.said(f"reload.{outcome}"))
        self.hub.send_signal(signal.SIGUSR1)
        return await self.hub.line(f"reload.{outcome}", nth=count + 1)

    async def ops(self) -> str:
        """URL of the hub's HTTP (started with ``--ops 127.0.0.1:0``)."""
        return str((await self.hub.line("ops.ready"))["url"])

    async def state(self, **parameters: str) -> Document:
        """What the hub holds."""
        # Loading the system's roots would hold up the test's own loop.
        async with httpx2.AsyncClient(verify=False) as client:
            state = (await client.get(f"{await self.ops()}/state", params=parameters)).json()
        assert isinstance(state, dict)
        return state


class Beat:
    """Sends a few bytes there and back all the time, and measures the longest round."""

    def __init__(self, client: TcpPeer, server: TcpPeer, pause: float = 0.005) -> None:
        self._client = client
        self._server = server
        self._pause = pause
        self._over = False
        self.rounds: list[float] = []
        """Seconds each."""
        self._news = asyncio.Event()
        self._task = asyncio.ensure_future(self._run())
        self._task.add_done_callback(lambda _: self._news.set())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._over:
            began = loop.time()
            number = len(self.rounds).to_bytes(8, "big")
            await self._client.send(number)
            assert await self._server.receive(8) == number
            await self._server.send(number)
            assert await self._client.receive(8) == number
            self.rounds.append(loop.time() - began)
            self._news.set()
            await asyncio.sleep(self._pause)

    async def settle(self, rounds: int = 100) -> float:
        """Wait for so many rounds; the longest of them: what this machine does to anybody now."""
        first = len(self.rounds)
        while len(self.rounds) < first + rounds:
            if self._task.done():
                await self._task
            self._news.clear()
            await self._news.wait()
        return max(self.rounds[first:])

    async def end(self) -> float:
        """Stop after the round at hand.

        :raises Exception: what went wrong with a byte on the way.
        """
        self._over = True
        await self._task
        return max(self.rounds)
