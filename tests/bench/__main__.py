"""Run the measurements and print them; ``--quick`` for a look, ``--check`` fails where a ratio misses its aim."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import spnhub
from spnhub.transport.endpoint.api import ConsumerEndpoint, ProviderEndpoint
from spnhub.transport.engine import Limits
from tests.support.command import Command
from tests.support.world import World

_CHUNK = bytes(65_536)


@dataclass(frozen=True)
class Result:
    """One figure. ``aim``: at least this; None: just told."""

    name: str
    value: float
    unit: str
    aim: float | None = None
    detail: str = ""

    def line(self) -> str:
        verdict = "" if self.aim is None else f"  (aim: at least {self.aim:g})"
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
async def bench(datagram_size: int = 1200) -> AsyncIterator[Bench]:
    """A fresh hub with its own folder."""
    with tempfile.TemporaryDirectory() as folder:
        async with World(Path(folder)) as world:
            hub = await world.start_hub("--datagram-size", str(datagram_size))
            one = Bench(world, hub, Limits(datagram_size=datagram_size))
            try:
                yield one
            finally:
                await one.close()


async def push(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Provider: sends as many bytes as the first line asks for."""
    left = int(await reader.readline())
    while left:
        writer.write(_CHUNK[:left] if left < len(_CHUNK) else _CHUNK)
        left -= min(left, len(_CHUNK))
        await writer.drain()
    writer.close()


async def download(consumer: ConsumerEndpoint, size: int) -> None:
    """Consumer: take ``size`` bytes, and end in order."""
    reader, writer = await consumer.connect(limit=1 << 20)
    writer.write(b"%d\n" % size)
    got = 0
    while data := await reader.read(1 << 20):
        got += len(data)
    assert got == size
    writer.close()
    await writer.wait_closed()


async def throughput(datagram_size: int, megabytes: int) -> Result:
    """Hub bytes per CPU second over aioquic's own cost."""
    reference = await asyncio.to_thread(_reference, datagram_size, megabytes)
    async with bench(datagram_size) as one:
        await one.provider(push)
        consumer = await one.consumer()
        await download(consumer, 4_000_000)
        before = one.hub.cpu
        await download(consumer, megabytes * 1_000_000)
        rate = megabytes / (one.hub.cpu - before)
    again = await asyncio.to_thread(_reference, datagram_size, megabytes)
    reference = (reference + again) / 2
    return Result(
        f"hub over aioquic's receive + send, {datagram_size}-byte datagrams",
        rate / reference,
        "ratio",
        0.5,
        f"{rate:.1f} MB/CPU s over {reference:.1f}",
    )


def _reference(datagram_size: int, megabytes: int) -> float:
    command = [sys.executable, "-m", "tests.bench.reference", str(datagram_size), str(megabytes)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def idle_neighbours(idle: int, megabytes: int) -> list[Result]:
    """One busy connection beside idle ones on the same session; and what an idle one weighs."""
    async with bench() as one:
        await one.provider(push)
        consumer = await one.consumer()
        await download(consumer, 4_000_000)

        async def rate() -> float:
            before = one.hub.cpu
            await download(consumer, megabytes * 1_000_000)
            return megabytes / (one.hub.cpu - before)

        alone = await rate()
        small = one.hub.rss
        pairs = [await consumer.connect() for _ in range(idle)]
        weight = (one.hub.rss - small) / idle
        beside = await rate()
        for _, writer in pairs:
            writer.transport.abort()
        last = await rate()
    alone = (alone + last) / 2
    return [
        Result(
            f"one busy connection beside {idle} idle ones, over alone",
            beside / alone,
            "ratio",
            0.9,
            f"{beside:.1f} over {alone:.1f} MB/CPU s",
        ),
        Result("hub memory per idle connection", weight / 1024, "KiB"),
    ]


async def idle_sessions(count: int) -> Result:
    """What an idle session weighs in the hub."""
    async with bench() as one:
        await one.provider(push)
        for _ in range(10):
            await one.consumer()
        before = one.hub.rss
        for _ in range(count):
            await one.consumer()
        return Result("hub memory per idle session", (one.hub.rss - before) / count / 1024, "KiB")


async def churn(count: int, at_once: int) -> Result:
    """Connections opened, used for a few bytes, and closed in order."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))
        writer.write_eof()
        await reader.read()
        writer.close()

    async def once(consumer: ConsumerEndpoint) -> None:
        reader, writer = await consumer.connect()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()

    async with bench() as one:
        await one.provider(echo)
        consumer = await one.consumer()
        await once(consumer)
        before = one.hub.cpu
        left = count

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await once(consumer)

        await asyncio.gather(*(worker() for _ in range(at_once)))
        return Result("connections opened and closed per hub CPU second", count / (one.hub.cpu - before), "1/s")


async def run(quick: bool) -> list[Result]:
    """All of them, one after the other; printed as they come."""
    scale = 4 if quick else 1
    results: list[Result] = []

    def tell(*more: Result) -> None:
        for result in more:
            print(result.line(), flush=True)
        results.extend(more)

    tell(await throughput(1200, 128 // scale))
    tell(await throughput(8952, 256 // scale))
    tell(*await idle_neighbours(1000 // scale, 64 // scale))
    tell(await idle_sessions(200 // scale))
    tell(await churn(2000 // scale, 20))
    return results


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a quarter of the sizes")
    parser.add_argument("--check", action="store_true", help="exit status 1 when a ratio misses its aim")
    arguments = parser.parse_args()
    results = asyncio.run(run(arguments.quick))
    missed = [result.name for result in results if result.aim is not None and result.value < result.aim]
    for name in missed:
        print(f"below its aim: {name}", file=sys.stderr)
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
