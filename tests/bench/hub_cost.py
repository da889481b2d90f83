"""A hub on aioquic carries bytes: how much of what aioquic alone could is left."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint
from tests.bench.harness import Result, bench

__all__ = ["throughput"]

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
    async with bench(datagram_size=datagram_size, engine="aioquic") as one:
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
