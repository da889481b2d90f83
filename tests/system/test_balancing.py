"""Connections go to providers by weight (R-5.3), exactly as D-26 states the rule, through a real hub."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from fractions import Fraction

import pytest

from spnhub import ConnectionRejected, ConsumerEndpoint, EndpointClosed, ProviderEndpoint
from spnhub.actors.contract.codes import Code
from spnhub.transport.endpoint.connection.stream import Stream
from tests.support.world import World
from tests.system.sizes import report, sizes


def by_the_rule(weights: Sequence[int], open_now: Sequence[int], more: int) -> list[int]:
    """D-26, stated directly: so many legs of each provider after ``more`` choices; the oldest session comes first."""
    legs = list(open_now)
    for _ in range(more):
        candidates = [n for n, weight in enumerate(weights) if weight > 0]
        chosen = min(candidates, key=lambda n: (Fraction(legs[n] + 1, weights[n]), -weights[n], n))
        legs[chosen] += 1
    return legs


@contextlib.asynccontextmanager
async def accepting(providers: Sequence[ProviderEndpoint]) -> AsyncIterator[list[list[Stream]]]:
    """Each provider takes whatever comes; yields what each one has taken."""
    taken: list[list[Stream]] = [[] for _ in providers]

    async def accept(provider: ProviderEndpoint, streams: list[Stream]) -> None:
        with contextlib.suppress(EndpointClosed):
            while True:
                request = await provider.listen()
                streams.append(await request.accept_stream())

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(accept(*one)) for one in zip(providers, taken, strict=True)]
        yield taken
        for task in tasks:
            task.cancel()


async def open_streams(consumers: Sequence[ConsumerEndpoint], count: int) -> list[Stream]:
    """So many connections at once, spread over the consumers."""
    return await asyncio.gather(
        *(consumers[n % len(consumers)].connect_stream(timeout=60) for n in range(count)),
    )


@sizes("connections", 300, 3000, minutes=10)
async def test_shares_follow_the_weights(world: World, connections: int) -> None:
    """Weights 100, 200 and 0 get what the rule says; changed in mid-run, the next choices follow."""
    hub = await world.start_hub()
    weights = [100, 200, 0]
    providers = [await world.provider_endpoint(weight=weight) for weight in weights]
    consumers = [await world.consumer_endpoint() for _ in range(3)]
    async with accepting(providers) as taken:
        began = time.monotonic()
        streams = await open_streams(consumers, connections)
        seconds = time.monotonic() - began
        first = by_the_rule(weights, [0, 0, 0], connections)
        assert [len(streams) for streams in taken] == first == [connections // 3, connections * 2 // 3, 0]

        # Some end, so that the rule has something to make up for.
        for stream in streams[: connections // 3]:
            stream.abort(0)
        ends = await hub.wait_lines("endSpnConnection", connections // 3)
        ended = Counter(line["providerSideSpnSessionId"] for line in ends)
        left = [count - ended[provider.session_id] for provider, count in zip(providers, first, strict=True)]

        weights = [300, 50, 250]
        for provider, weight in zip(providers, weights, strict=True):
            await provider.set_weight(weight)
        await hub.wait_lines("weightChanged", 3)
        await open_streams(consumers, connections)
        then = by_the_rule(weights, left, connections)
        counts = [first[n] + then[n] - left[n] for n in range(3)]
        assert [len(streams) for streams in taken] == counts
        starts = await hub.wait_lines("startSpnConnection", 2 * connections)
        started = Counter(line["providerSideSpnSessionId"] for line in starts)
        assert [started[provider.session_id] for provider in providers] == counts

        # Nobody has any weight: an opening is refused, and what is open stays.
        for provider in providers:
            await provider.set_weight(0)
        await hub.wait_lines("weightChanged", 6)
        with pytest.raises(ConnectionRejected) as refusal:
            await consumers[0].connect_stream()
        assert (refusal.value.code, refusal.value.retryable) == (Code.NO_PROVIDER, True)
        assert len(hub.said("endSpnConnection")) == connections // 3
    report(opened=connections, per_second=f"{connections / seconds:.0f}", first=first, then=then, hub_cpu=hub.cpu)
    report(stalls=[line["stalledSeconds"] for line in hub.said("journalStalled")])
    for endpoint in (*consumers, *providers):
        await endpoint.close()
    # A disk that others keep busy may stall the journal (D-6); that is said, and costs no connection.
    await world.end(hub_errors=("journalStalled",))
