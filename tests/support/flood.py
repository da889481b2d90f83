"""Handshakes without end against one server name, as a program whose one argument is :class:`Flood` as JSON.

Three kinds at once: clients that are let in and come again, clients whose certificate is refused, and first packets
whose senders never answer. Prints a line when it has begun, and what it has done when SIGINT ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from spnhub import SpnError, create_consumer_endpoint
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.endpoint.api.config import Runtime
from spnhub.transport.engine import Address, ClientPolicy, Limits
from spnhub.transport.protocol import ALPN

__all__ = ["Flood"]

_BURST = 10


@dataclass(frozen=True, slots=True)
class Flood:
    """What the program is told. PEM as text."""

    host: str
    port: int
    fqdn: str
    service_urn: str
    trust: str
    good: tuple[str, str]
    """Certificate and key that are let in."""
    bad: tuple[str, str]
    """Those that are not."""
    clients: int = 4
    """Of each of the two kinds, at once."""
    initials: int = 300
    """First packets, different ones; sent again and again."""
    per_second: int = 400
    """First packets sent."""

    def arguments(self) -> list[str]:
        """The command line behind the interpreter."""
        return [__file__, json.dumps(asdict(self))]


async def _come_and_go(flood: Flood, credentials: tuple[str, str], counts: Counter[str], kind: str) -> None:
    async def resolve(_: str, port: int) -> list[tuple[str, int]]:
        return [(flood.host, port)]

    while True:
        try:
            endpoint = await create_consumer_endpoint(
                f"https://{flood.fqdn}:{flood.port}",
                flood.service_urn,
                *credentials,
                flood.trust,
                retries=0,
                runtime=Runtime(resolve=resolve),
            )
            counts[f"{kind}, in"] += 1
            await endpoint.close()
        except SpnError as exc:
            counts[f"{kind}, {type(exc).__name__}"] += 1


def _first_packets(flood: Flood) -> list[bytes]:
    engine = AioquicEngine(Limits())
    policy = ClientPolicy(flood.fqdn, (ALPN,), flood.good[0].encode(), flood.good[1].encode(), flood.trust.encode())
    for _ in range(flood.initials):
        engine.connect(Address(0, (flood.host, flood.port)), policy, 0.0)
    engine.events()
    packets = []
    for data, _, size in engine.transmit(0.0):
        step = size or len(data)
        packets += [bytes(data[start : start + step]) for start in range(0, len(data), step)]
    return packets


async def _send(flood: Flood, packets: list[bytes], counts: Counter[str]) -> None:
    family = socket.AF_INET6 if ":" in flood.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        while True:
            for _ in range(_BURST):
                packet = packets[counts["first packets"] % len(packets)]
                with contextlib.suppress(BlockingIOError):
                    sock.sendto(packet, (flood.host, flood.port))
                counts["first packets"] += 1
            await asyncio.sleep(_BURST / flood.per_second)


async def _main(settings: dict[str, Any]) -> None:
    flood = Flood(**settings)
    counts: Counter[str] = Counter()
    # Another machine's CPU in life.
    os.nice(15)
    # What is refused is counted here.
    for name in ("quic", "spnhub"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, over.set)
    packets = _first_packets(flood)
    kinds = [("good", flood.good), ("bad", flood.bad)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_send(flood, packets, counts))]
        for kind, credentials in kinds:
            tasks += [group.create_task(_come_and_go(flood, credentials, counts, kind)) for _ in range(flood.clients)]
        print(json.dumps({"event": "flood.begun"}), flush=True)
        await over.wait()
        for task in tasks:
            task.cancel()
    print(json.dumps({"event": "flood.ended", **counts}), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(json.loads(sys.argv[1])))
