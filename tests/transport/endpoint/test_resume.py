"""Two hubs: how connections pause, move and go on, and what each side hears when they can't."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import CloseRequest, PauseAck, ResumeInvite, ResumeRequest, SessionRequest
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.asyncio_adapter import LINGER
from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint, Pair, ProviderEndpoint
from spnhub.transport.endpoint.connection.replay import REPLAY_BASE
from spnhub.transport.endpoint.core.listener import ConnectionChange
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.errors import ConnectionAborted, ConnectionRejected, EndpointClosed, SessionLost
from tests.transport.endpoint.conftest import SECOND, World
from tests.transport.endpoint.hub_script import HUB, ScriptedHub

CONSUMER, PROVIDER = EndPointType.CONSUMER, EndPointType.PROVIDER


def now() -> float:
    return asyncio.get_running_loop().time()


async def _settle(seconds: float = 0.2) -> None:
    await asyncio.sleep(seconds)


async def both(world: World, *, hubs: int = 2) -> tuple[ConsumerEndpoint, ProviderEndpoint, Pair, Pair]:
    """A consumer and a provider with sessions everywhere, and one connection."""
    if hubs == 2:
        world.add_hub()
    provider, consumer = await world.provider(), await world.consumer()
    await _settle()
    connecting = asyncio.ensure_future(consumer.connect())
    theirs = await (await provider.listen()).accept()
    ours = await connecting
    world.writers += (ours[1], theirs[1])
    return consumer, provider, ours, theirs


def _used(world: World) -> tuple[ScriptedHub, ScriptedHub]:
    """The hub with the leg, and the other."""
    one, two = world.hubs.values()
    return (one, two) if one.legs else (two, one)


async def _talk(ours: Pair, theirs: Pair, word: bytes) -> None:
    """One word each way."""
    for (_, writer), (reader, _) in ((ours, theirs), (theirs, ours)):
        writer.write(word)
        assert await reader.readexactly(len(word)) == word


def _resumes(hub: ScriptedHub, role: EndPointType) -> list[ResumeRequest]:
    return [packet for who, packet in hub.packets if who is role and isinstance(packet, ResumeRequest)]


async def test_a_session_with_every_hub(world: World) -> None:
    """R-3.2; new connections go where this endpoint has fewest (R-3.4)."""
    consumer, provider, ours, theirs = await both(world)
    assert consumer.sessions == provider.sessions == dict.fromkeys([HUB, SECOND], SessionState.ESTABLISHED)
    for _ in range(3):
        connecting = asyncio.ensure_future(consumer.connect())
        pair = await (await provider.listen()).accept()
        world.writers += (pair[1], (await connecting)[1])
    assert [hub.legs for hub in world.hubs.values()] == [2, 2]
    await _talk(ours, theirs, b"x")


async def test_resumable_shutdown(world: World) -> None:
    """R-4.8: paused, resumed at the other hub at once, the session closed; back after the spread, with nothing lost."""
    consumer, provider, ours, theirs = await both(world)
    await _talk(ours, theirs, b"before")
    ours[1].write(b"z" * 100_000)
    old, new = _used(world)
    old.shut_down(spread=1.0)
    began = now()
    assert await theirs[0].readexactly(100_000) == b"z" * 100_000
    assert now() - began < 0.5
    await _settle(1)
    assert [type(packet) for _, packet in old.packets if isinstance(packet, PauseAck)] == [PauseAck] * 2
    assert ({1, 2} & set(old.sessions), old.legs, new.legs) == (set(), 0, 1)
    await _talk(ours, theirs, b"after")
    (request,) = _resumes(new, CONSUMER)
    assert (request.epoch, request.code, request.peer) == (1, 0, "CN=provider")
    await asyncio.sleep(3)
    assert set(consumer.sessions.values()) == {SessionState.ESTABLISHED}
    assert (consumer.paused, provider.paused) == (0, 0)


async def test_rolling_update_of_both_hubs(world: World) -> None:
    """One after the other is stopped and comes back; the connection sees neither."""
    _, _, ours, theirs = await both(world)
    for number in range(4):
        old, _ = _used(world)
        address = next(one for one, hub in world.hubs.items() if hub is old)
        old.shut_down()
        await _talk(ours, theirs, b"%d" % number)
        old.node.crash()
        world.add_hub(address)
        await asyncio.sleep(20)
    assert sum(hub.legs for hub in world.hubs.values()) == 1


async def test_vanished_address(world: World) -> None:
    """R-3.3: after two answers without it, connections move in order (MOVED), and the session ends."""
    consumer, provider, ours, theirs = await both(world)
    old, new = _used(world)
    gone = next(one for one, hub in world.hubs.items() if hub is old)
    world.addresses.remove(gone)
    await asyncio.sleep(31)
    assert gone in consumer.sessions
    await asyncio.sleep(31)
    assert list(consumer.sessions) == list(provider.sessions) == [one for one in world.hubs if one != gone]
    await _talk(ours, theirs, b"moved")
    assert (old.sessions, new.legs) == ({}, 1)
    outcomes = [code for spliced in old.spliced for code in (spliced.outcome_a_to_b.code, spliced.outcome_b_to_a.code)]
    assert Code.MOVED in outcomes


async def test_vanished_address_without_another(world: World) -> None:
    """Connections stay where they are until there is somewhere to go."""
    consumer, _, ours, theirs = await both(world, hubs=1)
    world.addresses[:] = [SECOND]
    await asyncio.sleep(62)
    assert consumer.sessions[HUB] is SessionState.CLOSING
    await _talk(ours, theirs, b"still here")
    new = world.add_hub(SECOND)
    await asyncio.sleep(12)
    assert (consumer.sessions, new.legs) == ({SECOND: SessionState.ESTABLISHED}, 1)
    await _talk(ours, theirs, b"moved")


async def test_suspect_hub(world: World) -> None:
    """Silence while data is under way: the connection goes on at the other hub long before the idle timeout (D-20)."""
    _, _, ours, theirs = await both(world)
    await _talk(ours, theirs, b"before")
    old, new = _used(world)
    world.network.cut(old.node, world.nodes[0])
    world.network.cut(old.node, world.nodes[1])
    began = now()
    await _talk(ours, theirs, b"after")
    assert 1.5 <= now() - began < 3
    assert new.legs == 1


@pytest.mark.parametrize("code", [Code.SHUTDOWN, Code.CONNECT_FAILED, Code.CONNECT_TIMEOUT])
async def test_opening_is_tried_at_the_next_hub(world: World, code: Code) -> None:
    """Nothing was seen of it: a refusal that can be retried, or a lost session, is not the program's business.

    Nor is that all providers at one hub have failed, which may not be all that there are (D-35).
    """
    consumer, provider, _, _ = await both(world)
    for hub in world.hubs.values():
        hub.refuse_openings = [code]
    next(iter(world.hubs.values())).refuse_openings = []
    connecting = asyncio.ensure_future(consumer.connect())
    world.writers.append((await (await provider.listen()).accept())[1])
    world.writers.append((await connecting)[1])
    final = Code.NO_PROVIDER if code is Code.SHUTDOWN else code
    for hub in world.hubs.values():
        hub.refuse_openings = [final]
    with pytest.raises(ConnectionRejected) as caught:
        await consumer.connect()
    assert caught.value.code == final
    assert [hub.refuse_openings for hub in world.hubs.values()] == [[], []]


async def test_connect_stream_without_a_session(world: World) -> None:
    """An error at once: agents hold their clients themselves. ``wait_established`` is for them."""
    consumer = await world.consumer()
    world.hub.node.crash()
    await consumer.wait_ended()
    began = now()
    with pytest.raises(SessionLost):
        await consumer.connect_stream()
    assert now() - began < 0.001
    waiting = asyncio.ensure_future(consumer.wait_established())
    await asyncio.sleep(5)
    assert not waiting.done()
    world.hub = world.new_hub()
    await waiting
    await consumer.close()
    with pytest.raises(EndpointClosed):
        await consumer.connect_stream()


@pytest.mark.parametrize("role", [CONSUMER, PROVIDER])
async def test_reset_while_paused(world: World, role: EndPointType) -> None:
    """It reaches the other side as soon as there is a hub again, never as a clean end."""
    consumer, provider, ours, theirs = await both(world, hubs=1)
    world.hub.node.crash()
    await asyncio.gather(consumer.wait_ended(), provider.wait_ended())
    mine, other = (ours, theirs) if role is CONSUMER else (theirs, ours)
    mine[1].transport.abort()
    await _settle()
    world.hub = world.new_hub()
    began = now()
    with pytest.raises(ConnectionAborted) as caught:
        await other[0].read()
    assert (caught.value.code, now() - began < 10) == (Code.PEER_RESET, True)
    assert (consumer.connections, provider.connections) == (0, 0)


async def test_reset_that_the_hub_takes_with_it(world: World) -> None:
    """Reset on the stream, and the hub dies before it has passed that on: said again at the next (section 5)."""
    consumer, provider, ours, theirs = await both(world, hubs=1)
    ours[1].transport.abort()
    world.hub.node.crash()
    await asyncio.gather(consumer.wait_ended(), provider.wait_ended())
    world.hub = world.new_hub()
    began = now()
    with pytest.raises(ConnectionAborted) as caught:
        await theirs[0].read()
    assert (caught.value.code, now() - began < 10) == (Code.PEER_RESET, True)


async def test_end_in_order_that_the_hub_takes_with_it(world: World) -> None:
    """The consumer has acknowledged the Close and the CloseAck is lost: the provider's end is a clean one."""
    consumer, provider, ours, theirs = await both(world, hubs=1)
    ours[1].write(b"question")
    ours[1].write_eof()
    assert await theirs[0].read() == b"question"
    world.hub.engine.cork(world.hub.session(PROVIDER))
    theirs[1].write(b"answer")
    theirs[1].close()
    assert await ours[0].read() == b"answer"
    ours[1].close()
    await ours[1].wait_closed()
    world.hub.node.crash()
    await asyncio.gather(consumer.wait_ended(), provider.wait_ended())
    world.hub = world.new_hub()
    await theirs[1].wait_closed()
    assert (consumer.connections, provider.connections) == (0, 0)
    await _settle()
    # What the log is completed with (D-10).
    told = [_resumes(world.hub, role)[-1] for role in (CONSUMER, PROVIDER)]
    assert [(one.received_offset, one.finished, one.code) for one in told] == [
        (len(b"answer"), True, Code.CLOSED),
        (len(b"question"), True, Code.CLOSED),
    ]


async def test_the_timeout_comes_between_streams_and_accept(world: World) -> None:
    """Ended in order, as far as each knows, and nobody agrees in time: the leg that was to be isn't left to the hub."""
    world.resume_timeout = 5
    consumer, provider, ours, theirs = await both(world, hubs=1)
    await _talk(ours, theirs, b"word")
    await _settle(2)  # acknowledged
    for _, writer in (ours, theirs):
        writer.write_eof()
    assert [await reader.read() for reader, _ in (ours, theirs)] == [b"", b""]
    world.hub.mute_resumes = True
    world.hub.drop_legs(Code.LEFT)
    await _settle(4)
    sessions = {world.hub.session(role) for role in (CONSUMER, PROVIDER)}
    assert (world.hub.broken, consumer.connections, provider.connections) == ([], 1, 1)
    for _, writer in (ours, theirs):
        writer.close()
        await writer.wait_closed()
    await _settle()
    assert (consumer.connections, provider.connections) == (0, 0)
    assert {code for _, code in world.hub.broken} == {Code.LEFT}
    assert {connection_id for connection_id, _ in world.hub.broken} & sessions
    assert _resumes(world.hub, CONSUMER)[-1].code == Code.CLOSED


async def test_who_may_invite(world: World) -> None:
    """Wrong secret, another consumer, an old epoch: refused with the right code, and the healthy leg stays."""
    _, provider, ours, theirs = await both(world)
    await _talk(ours, theirs, b"x")
    used, other = _used(world)
    opening = next(hub for hub in world.hubs.values() if hub.openings).openings[0]
    uid, secret = opening.connection_uid, opening.resume_secret
    good = ResumeInvite(uid, secret, 1, 0, peer="CN=consumer")
    for invite, code, told in (
        (dataclasses.replace(good, resume_secret=bytes(16)), Code.NOT_ALLOWED, 0),
        (dataclasses.replace(good, peer="CN=mallory"), Code.NOT_ALLOWED, 0),
        (dataclasses.replace(good, peer="CN=mallory", code=Code.PEER_RESET), Code.NOT_ALLOWED, 0),
        (dataclasses.replace(good, epoch=0), Code.STALE, 1),
        (dataclasses.replace(good, connection_uid=bytes(16).hex()), Code.ENDED, 0),
    ):
        other.packets.clear()
        other.send(other.session(PROVIDER), invite)
        await _settle()
        assert [(one.code, one.received_offset) for one in _resumes(other, PROVIDER)] == [(code, told)]
    await _talk(ours, theirs, b"x")
    assert (used.legs, provider.paused) == (1, 0)


async def test_an_invitation_while_a_close_request_is_pending(world: World) -> None:
    """The provider has asked for the end with a direction still open: it goes on nowhere, and says how it has ended."""
    _, provider, ours, theirs = await both(world)
    await _talk(ours, theirs, b"x")
    used, other = _used(world)
    theirs[1].close()
    await _settle(LINGER - 1)
    # The consumer doesn't hear of it, so no CloseAck comes.
    used.engine.cork(used.session(CONSUMER))
    await _settle(2)
    (asked,) = [packet for _, packet in used.control_packets(CloseRequest) if isinstance(packet, CloseRequest)]
    assert (asked.finished, provider.connections) == (False, 1)
    opening = next(hub for hub in world.hubs.values() if hub.openings).openings[0]
    other.packets.clear()
    invite = ResumeInvite(opening.connection_uid, opening.resume_secret, 1, 0, peer="CN=consumer")
    for _ in range(2):
        # The second time it is the record of it that answers.
        other.send(other.session(PROVIDER), invite)
        await _settle()
    answers = [(one.epoch, one.code, one.received_offset, one.finished) for one in _resumes(other, PROVIDER)]
    assert answers == [(1, Code.CLOSE_REQUESTED, 1, False)] * 2
    assert (provider.connections, provider.paused) == (0, 0)


async def test_refusals_are_retried_until_the_timeout(world: World) -> None:
    """The other hub first, then both again, with a back-off; what was refused costs an epoch, and nothing else."""
    _, _, ours, theirs = await both(world)
    used, other = _used(world)
    for hub in (used, other):
        hub.refuse_resumes = [Code.NOT_HERE, Code.STALE]
    used.drop_legs(Code.PEER_LOST)
    await _talk(ours, theirs, b"again")
    assert _resumes(other, CONSUMER)[0].epoch == 1
    epochs = sorted(request.epoch for hub in (used, other) for request in _resumes(hub, CONSUMER))
    assert epochs == [1, 2, 3, 4, 5]


async def test_a_refused_stream_is_resumed_elsewhere_at_once(world: World) -> None:
    """The refusal comes with its FIN in one piece, which belongs to the leg that was refused."""
    _, _, ours, theirs = await both(world)
    used, other = _used(world)
    other.refuse_streams = [Code.TIMEOUT]
    began = now()
    used.drop_legs(Code.PEER_LOST)
    await _talk(ours, theirs, b"again")
    assert now() - began < 1
    assert [request.epoch for request in _resumes(used, CONSUMER)] == [2]


async def test_a_provider_that_drains_waits_for_what_comes_back(world: World) -> None:
    """What a hub said of its connections isn't true any more when one is resumed there (R-5.4)."""
    _, provider, ours, theirs = await both(world)
    used, _ = _used(world)
    await provider.set_weight(0)
    await _settle()
    used.drop_legs(Code.PEER_LOST)
    await _talk(ours, theirs, b"again")
    waiting = asyncio.ensure_future(provider.wait_all_connections_closed())
    await _settle()
    assert not waiting.done()
    for _, writer in (ours, theirs):
        writer.close()
    await waiting


async def test_nobody_answers(world: World) -> None:
    """A hub that is up and deaf: the next attempt follows after the step's bound."""
    _, _, ours, theirs = await both(world, hubs=1)
    world.hub.deaf_to_resumes = 1
    world.hub.drop_legs(Code.LEFT)
    began = now()
    await _talk(ours, theirs, b"again")
    assert 12 <= now() - began < 14


async def test_a_full_buffer_is_the_backpressure(world: World) -> None:
    """Without acknowledgements a program is given no more than the buffer; with them it goes on."""
    _, _, (_, writer), (reader, _) = await both(world, hubs=1)
    stream = writer.get_extra_info("spn_connection")
    await _settle()
    world.hub.engine.cork(world.hub.session(CONSUMER))
    writer.write(b"z" * 2_000_000)
    await _settle(1)
    assert stream.written_offset <= REPLAY_BASE
    world.hub.engine.release(world.hub.session(CONSUMER))
    world.hub.node.flush()
    assert len(await reader.readexactly(2_000_000)) == 2_000_000
    await _settle(1)
    assert stream.replay.held == 0
    assert writer.transport.get_write_buffer_size() < 64 * 1024


async def test_idle_connections_cost_nothing(world: World) -> None:
    """After the last acknowledgement no packet and no timer belongs to a connection."""
    consumer, provider, ours, theirs = await both(world, hubs=1)
    await _talk(ours, theirs, b"x")
    await _settle()
    acks = len(world.hub.acks)
    for endpoint in (consumer, provider):
        assert endpoint.core.timer() is None
    await asyncio.sleep(100)
    assert len(world.hub.acks) == acks == 2


async def test_observers(world: World) -> None:
    """Every change of a session; every pause and resume, with how long it took."""
    sessions: list[SessionChange] = []
    connections: list[ConnectionChange] = []
    world.on_session, world.on_connection = sessions.append, connections.append
    consumer, provider, ours, theirs = await both(world, hubs=1)
    uid = world.hub.openings[0].connection_uid
    sessions.clear()
    world.hub.node.crash()
    await asyncio.gather(consumer.wait_ended(), provider.wait_ended())
    await _settle(2)
    world.hub = world.new_hub()
    await _talk(ours, theirs, b"x")
    await _settle()
    kinds = [change.kind for change in connections]
    assert sorted(kinds) == ["paused", "paused", "resumed", "resumed"]
    assert {change.connection_uid for change in connections} == {uid}
    assert all(0.5 < change.seconds < 20 for change in connections if change.kind == "resumed")
    states = [(change.address, change.old, change.new) for change in sessions]
    assert (HUB, SessionState.ESTABLISHED, SessionState.WAITING) in states
    assert states[-1][2] is SessionState.ESTABLISHED


async def test_request_says_that_it_brings_connections(world: World) -> None:
    """So that a consumer is let in before its provider is back (D-27)."""
    consumer, provider, _, _ = await both(world, hubs=1)
    world.hub.node.crash()
    await asyncio.gather(consumer.wait_ended(), provider.wait_ended())
    world.hub = world.new_hub()
    await asyncio.sleep(10)
    requests = [packet for _, packet in world.hub.packets if isinstance(packet, SessionRequest)]
    assert [request.brings_connections for request in requests] == [True, True]


async def test_a_hub_that_closes_first(world: World) -> None:
    """It asked for the end and does not wait for ours: the session begins anew all the same."""
    consumer, _, ours, theirs = await both(world)
    old, _ = _used(world)
    old.says_all_closed = False
    old.shut_down()
    await _settle(0.3)
    for connection_id in list(old.sessions):
        old.close(connection_id, Code.SHUTDOWN, "stopped")
    await asyncio.sleep(5)
    assert set(consumer.sessions.values()) == {SessionState.ESTABLISHED}
    await _talk(ours, theirs, b"x")
