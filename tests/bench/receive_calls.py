"""What a datagram's way out of its socket costs by ``recvmsg``, and by ``recvmsg_into`` a buffer that is kept."""

from __future__ import annotations

import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from tests.bench.harness import Result

__all__ = ["receive_calls"]

_SIZES: Final = (60, 1_200, 20_000, 60_000)
"""Bytes of a datagram; the larger ones as GRO joins them."""
_WAITING: Final = 2
"""Datagrams that wait in the socket: its buffer has room for them by any system's default."""
_LARGEST: Final = 65_535


async def receive_calls(quick: bool) -> AsyncIterator[Result]:
    """Microseconds of CPU a call, the median of rounds in turn."""
    buffer = bytearray(_LARGEST)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        sender.connect(receiver.getsockname())
        calls: dict[str, Callable[[], Any]] = {
            "recvmsg": lambda: receiver.recvmsg(_LARGEST, 64),
            "recvmsg_into": lambda: receiver.recvmsg_into((buffer,), 64),
        }
        for size in _SIZES:
            found: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(20 if quick else 1_000):
                for name, call in calls.items():
                    for _ in range(_WAITING):
                        sender.send(bytes(size))
                    before = time.process_time()
                    for _ in range(_WAITING):
                        call()
                    found[name].append((time.process_time() - before) / _WAITING * 1e6)
            for name, spent in found.items():
                yield Result(f"{name}, {size} bytes", statistics.median(spent), "µs")
