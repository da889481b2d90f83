"""Hub and agents on either engine: whoever meets whom, bytes and ends arrive, and each says what it runs on."""

from __future__ import annotations

import asyncio
import hashlib
import os

import pytest

from spnhub.transport.native_engine import why_not
from tests.support.world import World

pytestmark = [pytest.mark.system, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


@pytest.mark.parametrize(
    ("hub", "agents"), [("native", "aioquic"), ("aioquic", "native"), ("native", "native"), ("aioquic", "aioquic")]
)
async def test_whoever_meets_whom(world: World, hub: str, agents: str) -> None:
    """A mebibyte each way, and the end of both."""
    env = {"SPN_ENGINE": agents}
    server = world.serve()
    await world.start_hub("--engine", hub)
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=env), world.start_consumer(env=env)
    )
    client, served = await world.join(consumer, server)
    data = os.urandom(1 << 20)
    for sender, receiver in ((client, served), (served, client)):
        _, got = await asyncio.gather(sender.send(data), receiver.receive(len(data)))
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()
    for process, engine in ((world.hub, hub), (provider, agents)):
        assert [line["engine"] for line in process.said("engine.selected")] == [engine]
    await world.end()
