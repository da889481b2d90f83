"""A provider's weight, and its way out that cuts nothing (R-5.3, R-5.4), against a scripted hub."""

from __future__ import annotations

import asyncio

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import AllConnectionsClosed, SessionRequest, SetWeight
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint, Pair, ProviderEndpoint
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.errors import (
    ConfigurationError,
    ConnectionAborted,
    ConnectionRejected,
    EndpointClosed,
)
from tests.transport.endpoint.conftest import World

PROVIDER = EndPointType.PROVIDER


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _settle() -> None:
    """Longer than packets take, shorter than any bound."""
    await asyncio.sleep(0.1)


def _weights(world: World) -> list[int]:
    return [packet.weight for _, packet in world.hub.control_packets(SetWeight) if isinstance(packet, SetWeight)]


async def _join(world: World, consumer: ConsumerEndpoint, provider: ProviderEndpoint) -> tuple[Pair, Pair]:
    """A connection: the consumer's pair and the provider's."""
    connecting = asyncio.ensure_future(consumer.connect())
    theirs = await (await provider.listen()).accept()
    ours = await connecting
    world.writers += (ours[1], theirs[1])
    return ours, theirs


async def _hang_up(*pairs: Pair) -> None:
    """Both ends end in order."""
    for _, writer in pairs:
        writer.write_eof()
    for reader, writer in pairs:
        assert await reader.read() == b""
        writer.close()


async def test_set_weight(world: World) -> None:
    """It leaves at once, and a weight of 0 keeps new connections away."""
    provider = await world.provider(weight=7)
    consumer = await world.consumer()
    await provider.set_weight(300)
    await provider.set_weight(0)
    await _settle()
    assert (_weights(world), provider.weight) == ([300, 0], 0)
    with pytest.raises(ConnectionRejected) as caught:
        await consumer.connect()
    assert caught.value.code == Code.NO_PROVIDER


@pytest.mark.parametrize("weight", [-1, 1_000_001])
async def test_bounds(world: World, weight: int) -> None:
    """The protocol's; nothing is sent and nothing changes."""
    provider = await world.provider()
    with pytest.raises(ConfigurationError, match=f"weight is {weight}"):
        await provider.set_weight(weight)
    await _settle()
    assert (_weights(world), provider.weight) == ([], 100)


async def test_weight_is_kept_over_reconnects(world: World) -> None:
    """The next session request carries what was set last, also while there was no session."""
    provider = await world.provider()
    await provider.set_weight(5)
    world.hub.node.crash()
    await provider.wait_ended()
    await provider.set_weight(6)
    world.hub = world.new_hub()
    while provider.state is not SessionState.ESTABLISHED:
        await asyncio.sleep(1)
    requests = [packet for _, packet in world.hub.packets if isinstance(packet, SessionRequest)]
    assert ([request.weight for request in requests], _weights(world)) == ([6], [])


async def test_weight_set_while_the_request_is_on_its_way(world: World) -> None:
    """It follows the session ACK."""
    provider = await world.provider()
    world.hub.close(world.hub.session(PROVIDER), Code.SHUTDOWN, "maintenance")
    await provider.wait_ended()
    world.hub.packets.clear()
    while not world.hub.packets:
        await asyncio.sleep(0.001)
    assert provider.state is SessionState.SESSION_CONNECTING
    await provider.set_weight(8)
    await _settle()
    assert [packet for _, packet in world.hub.packets[1:]] == [SetWeight(8)]


async def test_closed_endpoint(world: World) -> None:
    """It has no weight to set."""
    provider = await world.provider()
    await provider.aclose()
    with pytest.raises(EndpointClosed):
        await provider.set_weight(1)
    with pytest.raises(EndpointClosed):
        await provider.wait_all_connections_closed()


async def test_all_connections_closed(world: World) -> None:
    """The hub says so after the last connection, not before; a new weight makes it untrue."""
    provider = await world.provider()
    consumer = await world.consumer()
    pairs = await _join(world, consumer, provider)
    await provider.set_weight(0)
    waiting = asyncio.ensure_future(provider.wait_all_connections_closed())
    await _settle()
    assert not waiting.done()
    await _hang_up(*pairs)
    await waiting
    assert provider.state is SessionState.ESTABLISHED
    await provider.set_weight(100)
    # Late news about the earlier weight.
    world.hub.send(world.hub.session(PROVIDER), AllConnectionsClosed())
    await _settle()
    waiting = asyncio.ensure_future(provider.wait_all_connections_closed())
    await _settle()
    assert not waiting.done()
    await provider.set_weight(0)
    await waiting


async def test_aclose_is_a_rolling_update(world: World) -> None:
    """Weight 0 first; what is open and what was on its way is served to its end; then the session ends (R-5.4)."""
    provider = await world.provider()
    consumer = await world.consumer()
    first = await _join(world, consumer, provider)
    connecting = asyncio.ensure_future(consumer.connect())
    await asyncio.sleep(0.006)
    assert len(world.hub.openings) == 2
    closing = asyncio.ensure_future(provider.aclose(drain_timeout=60))
    await asyncio.sleep(0)
    assert (provider.state, provider.weight) == (SessionState.CLOSING, 0)
    theirs = await (await provider.listen()).accept()
    second = (await connecting, theirs)
    world.writers += (second[0][1], theirs[1])
    successor = await world.provider()
    third = await _join(world, consumer, successor)
    await _hang_up(*first)
    await _settle()
    assert not closing.done()
    await _hang_up(*second)
    await closing
    assert (provider.state, _weights(world), successor.connections) == (SessionState.CLOSED, [0], 1)
    assert _now() < 5
    with pytest.raises(EndpointClosed):
        await provider.listen()
    await _hang_up(*third)


async def test_aclose_with_nobody_listening(world: World) -> None:
    """A request that nobody takes while the endpoint is being closed is rejected in time to be tried elsewhere."""
    provider = await world.provider()
    consumer = await world.consumer()
    connecting = asyncio.ensure_future(consumer.connect())
    await asyncio.sleep(0.006)
    closing = asyncio.ensure_future(provider.aclose(drain_timeout=60))
    with pytest.raises(ConnectionRejected) as caught:
        await connecting
    assert (caught.value.code, caught.value.retryable) == (Code.SHUTDOWN, True)
    await closing
    assert 1 <= _now() < 2


async def test_aclose_of_a_silent_hub(world: World) -> None:
    """The hub's word is waited for no longer than the drain timeout."""
    world.hub.says_all_closed = False
    provider = await world.provider()
    await provider.aclose(drain_timeout=3)
    assert (provider.state, 3 <= _now() < 5) == (SessionState.CLOSED, True)


async def test_what_does_not_end_is_reset(world: World) -> None:
    """After the drain timeout: an error on both sides, never a clean end; the session ends in order all the same."""
    provider = await world.provider()
    consumer = await world.consumer()
    (ours, _), (theirs, _) = await _join(world, consumer, provider)
    await provider.aclose(drain_timeout=2)
    for reader in (ours, theirs):
        with pytest.raises(ConnectionAborted) as caught:
            await reader.read()
        assert caught.value.code == Code.PEER_RESET
    await _settle()
    assert [spliced.outcome_b_to_a.code for spliced in world.hub.spliced] == [Code.PEER_RESET]


async def test_close_ends_a_drain(world: World) -> None:
    """A second call with less patience counts."""
    provider = await world.provider()
    consumer = await world.consumer()
    (ours, _), _ = await _join(world, consumer, provider)
    closing = asyncio.ensure_future(provider.aclose(drain_timeout=600))
    await _settle()
    await provider.close()
    await closing
    with pytest.raises(ConnectionAborted):
        await ours.read()
    assert _now() < 5


async def test_cancelled_drain_ends_at_once(world: World) -> None:
    """Whoever loses patience with aclose leaves no half-closed endpoint behind."""
    provider = await world.provider()
    consumer = await world.consumer()
    (ours, _), _ = await _join(world, consumer, provider)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await provider.aclose(drain_timeout=600)
    assert provider.state is SessionState.CLOSED
    with pytest.raises(ConnectionAborted):
        await ours.read()


async def test_session_lost_while_draining(world: World) -> None:
    """It is renewed for as long as a connection may be resumed in it, and no longer than the drain timeout."""
    provider = await world.provider()
    consumer = await world.consumer()
    pairs = await _join(world, consumer, provider)
    closing = asyncio.ensure_future(provider.aclose(drain_timeout=600))
    await _settle()
    world.hub.node.crash()
    await _settle()
    world.hub = world.new_hub()
    await asyncio.sleep(2)
    assert (provider.connections, provider.paused, consumer.paused) == (1, 0, 0)
    await _hang_up(*pairs)
    await closing
    assert (provider.state, _now() < 30) == (SessionState.CLOSED, True)
