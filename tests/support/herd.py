"""Many consumers that come at the same moment, as a program whose one argument is :class:`Herd` as JSON.

It says ``herd.ready``, comes at SIGUSR1, says ``herd.in`` when all have their session, and leaves at SIGINT.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass

from spnhub import create_consumer_endpoint
from spnhub.transport.endpoint.api.config import Runtime

__all__ = ["Herd"]


@dataclass(frozen=True, slots=True)
class Herd:
    """What the program is told. PEM as text."""

    host: str
    url: str
    service_urn: str
    certificate: str
    key: str
    trust: str
    endpoints: int

    def arguments(self) -> list[str]:
        """The command line behind the interpreter."""
        return [__file__, json.dumps(asdict(self))]


async def _main(herd: Herd) -> None:
    # Other machines' CPU in life.
    os.nice(15)
    logging.getLogger("quic").setLevel(logging.CRITICAL)
    # Of so many on a machine that is too busy some come twice: the hub has given up the first handshake.
    logging.getLogger("spnhub").setLevel(logging.ERROR)
    come, leave = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, come.set)
    loop.add_signal_handler(signal.SIGINT, leave.set)

    async def resolve(_: str, port: int) -> list[tuple[str, int]]:
        return [(herd.host, port)]

    print(json.dumps({"event": "herd.ready"}), flush=True)
    await come.wait()
    began = time.monotonic()
    endpoints = await asyncio.gather(
        *(
            create_consumer_endpoint(
                herd.url,
                herd.service_urn,
                herd.certificate,
                herd.key,
                herd.trust,
                wait_for_hub=True,
                runtime=Runtime(resolve=resolve),
            )
            for _ in range(herd.endpoints)
        )
    )
    print(json.dumps({"event": "herd.in", "seconds": time.monotonic() - began}), flush=True)
    await leave.wait()
    await asyncio.gather(*(endpoint.close() for endpoint in endpoints))


if __name__ == "__main__":
    asyncio.run(_main(Herd(**json.loads(sys.argv[1]))))
