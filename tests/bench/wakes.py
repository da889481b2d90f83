"""What a process that waits costs each time that something comes: nothing but asyncio, a socket, and the machine.

Who has slept finds its code and data in no cache, and the core may have been another's: the longer the pause, the more.
It is the price of a turn, whatever is done in it. The file is also the program that is measured.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from tests.bench.harness import Result
from tests.bench.processes import cpu
from tests.support.forked import begin

__all__ = ["wakes"]

_PAUSES: Final = (0.0, 0.001, 0.005)
"""Seconds from an answer to the next datagram."""
_DATAGRAM: Final = bytes(100)


async def wakes(quick: bool) -> AsyncIterator[Result]:
    """Milliseconds of CPU for each datagram that is answered, the median of rounds in turn."""
    process = await begin(sys.executable, "-m", "tests.bench.wakes", env=os.environ, fork=False)
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        found: dict[float, list[float]] = {pause: [] for pause in _PAUSES}
        for _ in range(2 if quick else 7):
            for pause in _PAUSES:
                found[pause].append(await asyncio.to_thread(_ask, process.pid, port, pause, 0.05 if quick else 0.5))
        for pause, spent in found.items():
            yield Result(f"a datagram, {pause * 1000:g} ms after the last", statistics.median(spent) * 1000, "ms")
    finally:
        process.kill()
        await process.wait()


def _ask(pid: int, port: int, pause: float, seconds: float) -> float:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(("127.0.0.1", port))
        before, count, end = cpu(pid), 0, time.monotonic() + seconds
        while time.monotonic() < end:
            sock.send(_DATAGRAM)
            sock.recv(len(_DATAGRAM))
            count += 1
            if pause:
                time.sleep(pause)
        return (cpu(pid) - before) / count


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self._transport: asyncio.DatagramTransport = transport
        print(transport.get_extra_info("sockname")[1], flush=True)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._transport.sendto(data, addr)


async def _serve() -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(_Echo, local_addr=("127.0.0.1", 0))
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve())
