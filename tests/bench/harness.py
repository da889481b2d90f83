"""What measurements have in common: a hub as a process, endpoints of the library here, a broker, printed figures."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import spnhub
from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint, ProviderEndpoint
from spnhub.transport.engine import Limits
from tests.support.command import Command
from tests.support.kafka import KafkaBroker, NoBroker, find_broker
from tests.support.world import World

__all__ = ["Bench", "Result", "bench", "broker", "echo", "open_and_close"]


@dataclass(frozen=True)
class Result:
    """One figure. ``aim``: at least this, or, with ``at_most``, at most; None: just told."""

    name: str
    value: float
    unit: str
    aim: float | None = None
    detail: str = ""
    at_most: bool = False

    @property
    def missed(self) -> bool:
        """Whether it is on the wrong side of its aim."""
        return self.aim is not None and (self.value > self.aim if self.at_most else self.value < self.aim)

    def line(self) -> str:
        """For people."""
        bound = "at most" if self.at_most else "at least"
        verdict = "" if self.aim is None else f"  (aim: {bound} {self.aim:g})"
        return f"{self.name:<58} {self.value:>10.2f} {self.unit}{verdict}{'  ' + self.detail if self.detail else ''}"


class Bench:
    """A hub as a process, endpoints of the library here."""

    def __init__(self, world: World, hub: Command, limits: Limits) -> None:
        self.world = world
        self.hub = hub
        self.limits = limits
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()

    async def provider(self, serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        """A provider that handles each connection with ``serve``."""
        mine = self.world.authority.client("provider")
        endpoint = await spnhub.create_provider_endpoint(
            self._url,
            self.world.urn(),
            mine.certificate,
            mine.key,
            self.world.authority.certificate,
            limits=self.limits,
            engine=self.world.engine,
        )
        self._stack.push_async_callback(endpoint.aclose, 0.0)
        self._keep(self._listen(endpoint, serve))

    async def consumer(self) -> ConsumerEndpoint:
        """A consumer with its session."""
        mine = self.world.authority.client("consumer")
        endpoint = await spnhub.create_consumer_endpoint(
            self._url,
            self.world.urn(),
            mine.certificate,
            mine.key,
            self.world.authority.certificate,
            limits=self.limits,
            engine=self.world.engine,
        )
        self._stack.push_async_callback(endpoint.aclose, 0.0)
        return endpoint

    @property
    def _url(self) -> str:
        return f"https://localhost:{self.world.port}"

    async def _listen(
        self,
        endpoint: ProviderEndpoint,
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> None:
        with contextlib.suppress(spnhub.SpnError):
            while True:
                request = await endpoint.listen()
                self._keep(self._serve(request.accept, serve))

    async def _serve(
        self,
        accept: Callable[[], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]],
        serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    ) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await serve(*await accept())

    def _keep(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop everything."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()


@asynccontextmanager
async def bench(
    *options: str, datagram_size: int = 1200, program: Sequence[str] = ("spnhub",), engine: str = "auto"
) -> AsyncIterator[Bench]:
    """A fresh hub with its own folder. ``options``: its command line's; ``program``: another one to run."""
    with tempfile.TemporaryDirectory() as folder:
        async with World(Path(folder), engine=engine, fork=False) as world:
            hub = await world.start_hub("--datagram-size", str(datagram_size), *options, program=program)
            one = Bench(world, hub, Limits(datagram_size=datagram_size))
            try:
                yield one
            finally:
                await one.close()
                await hub.stop()  # in order: a shipper goes with it, and no longer writes where the folder is removed


@asynccontextmanager
async def broker() -> AsyncIterator[KafkaBroker | None]:
    """A real broker that runs; None, and a line that says why, where there is none to be had."""
    try:
        kafka = await asyncio.to_thread(find_broker)
    except NoBroker as exc:
        print(f"without Kafka: {exc}", file=sys.stderr)
        yield None
        return
    try:
        await asyncio.to_thread(kafka.start)
        yield kafka
    finally:
        await asyncio.to_thread(kafka.close)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Provider: sends a few bytes back, and ends in order."""
    writer.write(await reader.read(100))
    writer.write_eof()
    await reader.read()
    writer.close()


async def open_and_close(consumer: ConsumerEndpoint) -> None:
    """Consumer: a connection to :func:`echo`, from its opening to its end."""
    reader, writer = await consumer.connect()
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()
