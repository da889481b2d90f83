"""Connections over networks that lose, delay, reorder, cut, and forget addresses (D-20, R-3.3): not a byte wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import pytest

from tests.support.engines import on_both_engines
from tests.support.namespaces import Host, NamespacesMissing
from tests.support.path import Path
from tests.support.talk import Talk, quantiles
from tests.support.world import World
from tests.system.sizes import report, sizes
from tests.system.test_hub_update import sessions, start_hub

pytestmark = pytest.mark.measured

LOSS = 0.05
DELAY = 0.05
"""Seconds, each way."""
RATE = 1.22 * 1200 / (2 * DELAY * LOSS**0.5)
"""What congestion control leaves of such a path to one QUIC connection, each way, bytes a second (Mathis et al., 1997,
for datagrams of 1,200 bytes): 65,000, which all conversations of an agent share."""
BLOCK = 16
INTERVAL = 0.1
"""So 50 conversations want an eighth of it."""


@sizes("conversations, seconds", (5, 2.0), (50, 20.0), minutes=10)
async def test_bad_network(world: World, conversations: int, seconds: float) -> None:
    """5 % loss, 50 ms each way, reordering; a partition of some seconds; a new address of an endpoint: all is well."""
    server = world.serve()
    await start_hub(world, 0)
    async with Path(("127.0.0.1", world.port)) as path:
        env = {"SPN_HUB_ADDRESSES": path.address}
        provider, consumer = await asyncio.gather(
            world.start_provider(server.address, env=env), world.start_consumer(env=env)
        )
        path.loss, path.delay, path.reorder = LOSS, DELAY, 0.1
        talk = await Talk.begin(world, consumer, server, conversations, block=BLOCK, interval=INTERVAL)
        await talk.goes_on()
        quiet = time.monotonic()
        await asyncio.sleep(seconds)
        await talk.goes_on()
        lossy = talk.slowest(quiet)

        cut = time.monotonic()
        path.cut()
        await asyncio.sleep(seconds / 2)
        path.heal()
        healed = time.monotonic()
        await talk.goes_on()
        still = talk.stood_still(healed)
        partition = [slow - seconds / 2 for slow in talk.slowest(cut - 0.2)]

        moved = time.monotonic()
        path.rebind()
        await talk.goes_on()
        rebound = talk.slowest(moved - 0.2)

        path.loss = path.delay = path.reorder = 0.0
        total = await talk.end()
        report(
            bytes=total,
            datagrams_lost=f"{path.lost} of {path.lost + path.passed}",
            slowest_block=f"[{quantiles(lossy)}]",
            after_partition=f"[{quantiles(still)}], all of it [{quantiles(partition)}]",
            new_address=f"[{quantiles(rebound)}]",
        )
        load = conversations * BLOCK / INTERVAL
        # What was written meanwhile comes after it, beside what is written now, and it is what the last to be resumed
        # waits for; half, since there are two hops.
        backlog = seconds / 2 * load / (RATE / 2 - load)
        assert max(lossy) <= 3.0
        assert sorted(still)[len(still) // 2] <= 3.0
        assert max(still) <= 3.0 + backlog
        assert max(partition) <= 3.0 + backlog
        assert max(rebound) <= 3.0
        await provider.stop()
        await consumer.command.stop()
    await world.end()


@sizes("delay", 0.35, 1.0, minutes=5)
@on_both_engines
async def test_a_long_path(world: World, delay: float) -> None:
    """By satellite, or behind a full modem: nobody is suspected, and blocks take no longer than the way."""
    server = world.serve()
    hub = await start_hub(world, 0)
    async with Path(("127.0.0.1", world.port)) as path:
        path.delay = delay
        env = {"SPN_HUB_ADDRESSES": path.address}
        provider, consumer = await asyncio.gather(
            world.start_provider(server.address, env=env), world.start_consumer(env=env)
        )
        began = time.monotonic()
        talk = await Talk.begin(world, consumer, server, 3, block=BLOCK, interval=INTERVAL)
        await talk.goes_on()
        opened = time.monotonic()
        await asyncio.sleep(6 * delay)
        await talk.goes_on()
        slowest = talk.slowest(opened)
        total = await talk.end()
        report(bytes=total, begun=f"{opened - began:.1f} s", slowest_block=f"[{quantiles(slowest)}]")
        # Consumer, hub and provider, one way.
        assert max(slowest) <= 2 * delay + 1.0
        for agent in (provider, consumer.command):
            assert len(agent.said("session.established")) == 1
        assert not hub.said("connectionPaused")
        await provider.stop()
        await consumer.command.stop()
    await world.end()


@sizes("conversations", 5, 50, minutes=10)
async def test_one_sided_partition(world: World, conversations: int) -> None:
    """The consumer can't reach hub 1, its provider can: it goes on over hub 2, and nothing stale comes later."""
    server = world.serve()
    one, two = await start_hub(world, 0), await start_hub(world, 1)
    async with AsyncExitStack() as stack:
        paths = [await stack.enter_async_context(Path((host, world.port))) for host in ("127.0.0.1", "127.0.0.2")]
        consumer_env = {"SPN_HUB_ADDRESSES": ",".join(path.address for path in paths)}
        provider_env = {"SPN_HUB_ADDRESSES": "127.0.0.1,127.0.0.2"}
        provider, consumer = await asyncio.gather(
            world.start_provider(server.address, env=provider_env), world.start_consumer(env=consumer_env)
        )
        await sessions([provider, consumer.command], 2)
        talk = await Talk.begin(world, consumer, server, conversations)
        await talk.goes_on()
        on_one = len(one.said("startSpnConnection"))
        assert 0 < on_one < conversations, "both hubs have some"
        pauses = []
        for path in paths:
            cut = time.monotonic()
            path.cut()
            await talk.goes_on()
            pauses += talk.slowest(cut - 0.2)
            silent = await consumer.command.line("session.unresponsive", nth=len(pauses) // (2 * conversations))
            path.heal()
            await talk.goes_on()
            await consumer.command.line("session.answers", spnSessionId=silent["spnSessionId"])
            # The consumer's session there may have to be established again.
            await asyncio.sleep(0)
        total = await talk.end()
        report(bytes=total, on_first_hub=on_one, pause=f"[{quantiles(pauses)}]")
        assert len(two.said("startSpnConnection")) > conversations - on_one
        await provider.stop()
        await consumer.command.stop()
    await world.end()


@sizes("conversations", 3, 50, minutes=10)
async def test_one_sided_partition_of_the_provider(world: World, conversations: int) -> None:
    """The provider and one hub lose each other, both ways or one; the consumer sees both: it is called away in time."""
    server = world.serve()
    await start_hub(world, 0), await start_hub(world, 1)
    async with AsyncExitStack() as stack:
        paths = [await stack.enter_async_context(Path((host, world.port))) for host in ("127.0.0.1", "127.0.0.2")]
        provider_env = {"SPN_HUB_ADDRESSES": ",".join(path.address for path in paths)}
        consumer_env = {"SPN_HUB_ADDRESSES": "127.0.0.1,127.0.0.2"}
        provider, consumer = await asyncio.gather(
            world.start_provider(server.address, env=provider_env), world.start_consumer(env=consumer_env)
        )
        await sessions([provider, consumer.command], 2)
        talk = await Talk.begin(world, consumer, server, conversations)
        await talk.goes_on()
        pauses = {}
        for path, kind in zip([*paths, paths[0]], ("both", "up", "down"), strict=True):
            cut = time.monotonic()
            path.cut_up, path.cut_down = kind != "down", kind != "up"
            await talk.goes_on()
            slowest = talk.slowest(cut - 0.2)
            pauses[kind] = f"[{quantiles(slowest)}]"
            # The hub suspects after 3 s what it would lose after 20; the hub that was cut off before has to hear of the
            # provider first.
            assert max(slowest) < 8
            path.heal()
            await talk.goes_on()
        total = await talk.end()
        report(bytes=total, **pauses)
        await provider.stop()
        await consumer.command.stop()
    await world.end()


@pytest.fixture
def host() -> Iterator[Host]:
    """Another host on this machine."""
    try:
        with Host(1) as other:
            yield other
    except NamespacesMissing as missing:
        pytest.skip(f"network namespaces: {missing}")


@sizes("conversations, seconds", (5, 2.0), (50, 10.0), minutes=10)
async def test_kernel_networks(world: World, host: Host, conversations: int, seconds: float) -> None:
    """The consumer's host loses packets, loses sight of one hub, of both for a while, and gets another address."""
    server = world.serve()
    one = await world.start_hub(host=host.gateways[0], hub_id="hub-1")
    two = await world.start_hub(host=host.gateways[1], hub_id="hub-2")
    env = {"SPN_HUB_ADDRESSES": ",".join(host.gateways)}
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=env), world.start_consumer(env=env, host=host)
    )
    await sessions([provider, consumer.command], 2)
    talk = await Talk.begin(world, consumer, server, conversations)
    await talk.goes_on()
    slowest = {}

    began = time.monotonic()
    host.lose(0.05)
    await asyncio.sleep(seconds)
    await talk.goes_on()
    slowest["loss"] = quantiles(talk.slowest(began))
    host.heal()

    began = time.monotonic()
    host.cut(host.gateways[0])
    await talk.goes_on()
    slowest["one_hub_silent"] = quantiles(talk.slowest(began - 0.2))
    host.heal()

    began = time.monotonic()
    for gateway in host.gateways:
        host.cut(gateway)
    await asyncio.sleep(seconds)
    host.heal()
    await talk.goes_on()
    slowest["both_silent"] = quantiles([slow - seconds for slow in talk.slowest(began - 0.2)])

    began = time.monotonic()
    host.change_address()
    await talk.goes_on()
    slowest["new_address"] = quantiles(talk.slowest(began - 0.2))
    total = await talk.end()
    report(bytes=total, **{name: f"[{text}]" for name, text in slowest.items()})
    assert one.said("startSpnConnection")
    assert two.said("startSpnConnection")
    await world.end()


@sizes("conversations", 3, 15, minutes=5)
async def test_a_hub_with_several_addresses(world: World, conversations: int) -> None:
    """Bound to all addresses of a host with two wires, it is called at any of them; one that goes stops nobody else."""
    server = world.serve()
    async with AsyncExitStack() as stack:
        try:
            near, far = (stack.enter_context(Host(number, firewall=False)) for number in (2, 3))
            near.reach(far)
        except NamespacesMissing as missing:
            pytest.skip(f"network namespaces: {missing}")
        # The second address of each wire, and one that the kernel would answer from another wire's.
        called = near.gateways[0], near.gateways[1], far.gateways[1]
        await world.start_hub(host="::")
        provider = await world.start_provider(server.address, env={"SPN_HUB_ADDRESSES": "127.0.0.2"})
        consumers = await asyncio.gather(
            *(world.start_consumer(env={"SPN_HUB_ADDRESSES": address}, host=near) for address in called)
        )
        talks = [await Talk.begin(world, consumer, server, conversations) for consumer in consumers]
        for talk in talks:
            await talk.goes_on()
        near.take_address(near.gateways[1])
        began = time.monotonic()
        for talk in (talks[0], talks[2]):
            await talk.goes_on()
        others = [max(talk.slowest(began)) for talk in (talks[0], talks[2])]
        near.give_address(near.gateways[1])
        await talks[1].goes_on()
        report(others=f"[{quantiles(others)}]", itself=f"[{quantiles(talks[1].slowest(began))}]")
        # Seconds on a busy machine; their sessions, which end after 20 s of silence, have stayed.
        assert max(others) <= 10.0
        for talk in talks:
            await talk.end()
        await provider.stop()
        await asyncio.gather(*(consumer.command.stop() for consumer in consumers))
        await world.end()
