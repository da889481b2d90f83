"""Bytes and connections per CPU second of the hub, and what idle ones weigh."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint
from tests.bench.harness import Result, bench, echo, open_and_close

__all__ = ["churn", "idle_neighbours", "idle_sessions", "throughput"]

_CHUNK = bytes(65_536)


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
    async with bench(datagram_size=datagram_size) as one:
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
    async with bench() as one:
        await one.provider(echo)
        consumer = await one.consumer()
        await open_and_close(consumer)
        before = one.hub.cpu
        left = count

        async def worker() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await open_and_close(consumer)

        await asyncio.gather(*(worker() for _ in range(at_once)))
        return Result("connections opened and closed per hub CPU second", count / (one.hub.cpu - before), "1/s")
