"""Nothing is loaded beside traffic: a process that is out of descriptors refuses, reports and goes on with what it has.

What happens in these tests happens for the first time in their processes.
"""

from __future__ import annotations

import asyncio
import re
import signal
import time
from pathlib import Path

import httpx2

from tests.support.audited import audited, opened
from tests.support.tcp import Ending
from tests.support.world import Place, World

_ASKED = (
    r"open '[^']*/inventory\.yaml'",  # the reload
    r"(open|os\.listdir|os\.scandir) '[^']*/journal(/[^']*)?'",
    # What /metrics says of the process; without a descriptor it leaves that out.
    r"(open|os\.listdir) '/proc/self/(fd|limits|stat)'",
    r"open '[^']*\.(pem|key)'",  # read anew before each handshake (D-38)
    r"open '/etc/[^']*'",  # the system's resolver
    r"open \d+",  # a descriptor that is there
)


def _loaded(notes: Path, since: float) -> set[str]:
    return {what for what in opened(notes, since) if not any(re.fullmatch(one, what) for one in _ASKED)}


async def test_nothing_is_loaded_beside_traffic(world: World) -> None:
    """Ends in order and resets, refusals of each kind, HTTP, a reload, a hub that is started again."""
    notes = {name: world.folder / f"{name}.notes" for name in ("hub", "provider", "consumer")}
    server = world.serve()
    hub = await world.start_hub("--ops", "127.0.0.1:0", within=audited(notes["hub"]))
    ops = str((await hub.line("ops.ready"))["url"])
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, host=Place("127.0.0.1", audited(notes["provider"]))),
        world.start_consumer(host=Place("127.0.0.1", audited(notes["consumer"]))),
    )
    began = time.monotonic()

    client, served = await world.join(consumer, server)
    await client.send(b"hello")
    assert await served.receive(5) == b"hello"
    client.finish()
    served.finish()
    assert await client.receive_all() == (b"", Ending.FIN)
    client, served = await world.join(consumer, server)
    client.reset()
    assert await served.receive_all() == (b"", Ending.RST)
    # A server that is down, a stranger's handshake, a certificate without rights.
    server.close()
    client = await world.connect(consumer)
    assert await client.receive_all() == (b"", Ending.RST)
    stranger = await world.start_provider(("127.0.0.1", 9), credentials=world.strangers.client("provider"), wait=False)
    assert await stranger.wait() == 1
    nobody = await world.start_provider(("127.0.0.1", 9), credentials=world.authority.client("nobody"), wait=False)
    assert await nobody.wait() == 1
    async with httpx2.AsyncClient(verify=False, timeout=30.0) as http:
        for path in ("/readyz", "/metrics", "/state?certificates=1", "/schemas/ids/1", "/subjects", "/nothing"):
            await http.get(f"{ops}{path}")
    world.service()["title"] = "Another"
    await world.reload()
    assert _loaded(notes["hub"], began) == set()

    # The hub is killed, both find the next one; then the provider leaves.
    await hub.kill()
    await world.start_hub()
    await asyncio.gather(
        *(agent.wait_lines("session.established", 2) for agent in (provider, consumer.command)),
    )
    assert await provider.stop(signal.SIGTERM) == 0
    client = await world.connect(consumer)
    assert await client.receive_all() == (b"", Ending.RST)
    assert _loaded(notes["provider"], began) == set()
    assert _loaded(notes["consumer"], began) == set()
    for process in (stranger, nobody):
        world.processes.remove(process)
    await world.end()
