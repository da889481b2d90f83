"""A lone hub that comes back: who has something to resume is there at once, and nobody waits for a retry timer."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import PeerHere, ResumeRequest, SessionRefusal, own_kinds
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint, Pair, ProviderEndpoint
from spnhub.transport.endpoint.core.opening import RETURN
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.errors import ConnectionRejected, HubUnreachable
from spnhub.transport.protocol import encode
from tests.support.fake_engine import FakeEngine
from tests.transport.endpoint.conftest import SECOND, World
from tests.transport.endpoint.hub_script import HUB, ScriptedHub
from tests.transport.endpoint.test_resume import both, now

CONSUMER = EndPointType.CONSUMER
EVERY = 0.25
"""Seconds between two attempts at a closed port, at most."""
ABSENCES = [0.3, 3.1, 25.0]


class Attempts:
    """When an endpoint has begun to connect, by the order of its states."""

    def __init__(self, world: World) -> None:
        self.at: list[float] = []
        self.states: list[SessionState] = []
        world.on_session = self._on_session

    def _on_session(self, change: SessionChange) -> None:
        if change.new is SessionState.SESSION_CONNECTING:
            self.at.append(now())
        self.states.append(change.new)


def _asked(hub: ScriptedHub) -> list[ResumeRequest]:
    return [packet for who, packet in hub.packets if who is CONSUMER and isinstance(packet, ResumeRequest)]


def _lose(hub: ScriptedHub, *pairs: Pair, host_lives: bool = True) -> None:
    """The hub crashes while both sides send, and so they notice."""
    hub.node.crash(host_lives=host_lives)
    for _, writer in pairs:
        writer.write(b"into the void")


async def _goes_on(*pairs: Pair) -> float:
    """Seconds until both sides have what was sent meanwhile."""
    began = now()
    for reader, _ in pairs:
        assert await reader.readexactly(13) == b"into the void"
    return now() - began


def _tell(hub: ScriptedHub, packet: PeerHere) -> None:
    for session in hub.sessions.values():
        if session.request is not None and session.request.end_point_type is CONSUMER:
            hub.send(session.connection_id, encode(packet, own_kinds()))
    hub.node.flush()


@pytest.mark.parametrize("absence", ABSENCES)
async def test_a_closed_port_is_tried_all_the_time(world: World, absence: float) -> None:
    """Both endpoints, jittered; and bytes pass as soon as the hub is there."""
    attempts = Attempts(world)
    consumer, provider, ours, theirs = await both(world, hubs=1)
    _lose(world.hub, ours, theirs)
    while consumer.paused + provider.paused < 2:
        await asyncio.sleep(0.01)
    attempts.at.clear()
    await asyncio.sleep(absence)
    tried = attempts.at
    # Of two endpoints.
    assert len(tried) >= 2 * (absence - EVERY) / EVERY
    assert len(tried) <= 2 * (absence / 0.05 + 1), "a closed port is no reason to spin"
    pauses = [later - sooner for sooner, later in pairwise(tried)]
    assert all(pause <= EVERY for pause in pauses)
    assert len({round(pause, 3) for pause in pauses}) > len(pauses) / 4, "no jitter"
    world.new_hub()
    assert await _goes_on(ours, theirs) < 0.4


async def test_nothing_to_resume_is_no_reason_to_hammer(world: World) -> None:
    """The pauses of endpoints without connections grow."""
    attempts = Attempts(world)
    await world.provider()
    world.hub.node.crash()
    attempts.at.clear()
    await asyncio.sleep(60)
    assert len(attempts.at) < 20


@pytest.mark.parametrize("absence", [0.0, 0.4, 1.1, 2.6])
async def test_all_that_is_started_together_finds_itself_at_once(world: World, absence: float) -> None:
    """Endpoints that are ready before their hub; a consumer that is there before its provider is refused, and soon
    back. For three seconds a closed port is tried about every tenth of a second."""
    attempts = Attempts(world)
    world.hub.node.crash()
    consuming = asyncio.ensure_future(world.consumer(wait_for_hub=True))
    await asyncio.sleep(absence)
    hub = world.new_hub()
    hub.refusal = SessionRefusal(Code.NO_PROVIDER, "none yet", retryable=True)
    await asyncio.sleep(0.15)
    assert not consuming.done()
    hub.refusal = None
    began = now()
    assert (await consuming).state is SessionState.ESTABLISHED
    assert now() - began < 0.2
    pauses = [later - sooner for sooner, later in pairwise(attempts.at)]
    assert all(0.04 < pause < 0.21 for pause in pauses)


@pytest.mark.parametrize(("retries", "least"), [(None, 20), (3, 0)])
async def test_a_hub_that_does_not_come_is_tried_less_often(world: World, retries: int | None, least: int) -> None:
    """After three seconds; who has a number of retries spends them over the usual pauses."""
    attempts = Attempts(world)
    world.hub.node.crash()
    began = now()
    consuming = asyncio.ensure_future(world.consumer(wait_for_hub=True, retries=retries))
    await asyncio.sleep(63)
    early = [at for at in attempts.at if at < began + 3]
    assert least <= len(early) <= 60
    assert len(attempts.at) - len(early) < 20
    if retries:
        assert attempts.at[-1] - began > 0.7
        with pytest.raises(HubUnreachable):
            await consuming
    else:
        consuming.cancel()


@pytest.mark.parametrize("absence", [40.0, 41.3, 55.7])
async def test_a_host_that_says_nothing(world: World, absence: float) -> None:
    """No port is reported as closed, and an attempt is under way when the hub comes back: it is repeated."""
    _, _, ours, theirs = await both(world, hubs=1)
    _lose(world.hub, ours, theirs, host_lives=False)
    await asyncio.sleep(absence)
    world.new_hub()
    assert await _goes_on(ours, theirs) < 0.5


async def test_something_to_resume_at_a_hub_that_is_long_away(world: World) -> None:
    """Another hub's target had nothing to hurry for until the one that was used has gone, too."""
    _, _, ours, theirs = await both(world, hubs=1)
    world.add_hub()
    await asyncio.sleep(70)
    world.hubs[SECOND].node.crash()
    await asyncio.sleep(60)
    _lose(world.hub, ours, theirs)
    await asyncio.sleep(2)
    world.add_hub()
    assert await _goes_on(ours, theirs) < 0.5


@pytest.mark.parametrize("asked", [1, 5])
async def test_a_consumer_that_is_back_first(world: World, asked: int) -> None:
    """It is told when its provider is there, whatever the pause is by then."""
    consumer, provider, ours, theirs = await both(world, hubs=1)
    _lose(world.hub, ours, theirs)
    await asyncio.sleep(1)
    hub = world.new_hub()
    hub.refuse_resumes = [Code.NOT_HERE] * 1000
    while len(_asked(hub)) < asked or provider.sessions[HUB] is not SessionState.ESTABLISHED:
        await asyncio.sleep(0.01)
    hub.refuse_resumes = []
    count = len(_asked(hub))
    _tell(hub, PeerHere("CN=provider", "another"))
    await asyncio.sleep(0.02)
    assert len(_asked(hub)) == count, "it isn't its provider that is there"
    _tell(hub, PeerHere("CN=provider", _asked(hub)[0].instance_id))
    assert await _goes_on(ours, theirs) < 0.05
    assert consumer.paused == 0


async def _without_provider(world: World, seconds: float) -> tuple[ConsumerEndpoint, ProviderEndpoint, ScriptedHub]:
    """A lone hub is back, and its consumer, who has something to resume; for so long the provider doesn't get there."""
    consumer, provider, ours, theirs = await both(world, hubs=1)
    _lose(world.hub, ours, theirs)
    while consumer.paused + provider.paused < 2:
        await asyncio.sleep(0.01)
    hub = world.new_hub()
    world.network.cut(world.nodes[0], hub.node, seconds=seconds)
    while consumer.sessions[HUB] is not SessionState.ESTABLISHED:
        await asyncio.sleep(0.01)
    return consumer, provider, hub


@pytest.mark.parametrize("seconds", [1.0, 9.0])
async def test_new_connections_wait_for_a_provider_that_is_back_later(world: World, seconds: float) -> None:
    """However many: one of them asks for all, and they go on together."""
    consumer, provider, hub = await _without_provider(world, seconds)
    openings = [asyncio.ensure_future(consumer.connect()) for _ in range(30)]
    await asyncio.sleep(0.5)
    asked = len(hub.openings)
    assert 30 < asked <= 30 + 0.5 / 0.1, "each once, then one after the other"
    while provider.sessions[HUB] is not SessionState.ESTABLISHED:
        await asyncio.sleep(0.01)
    began = now()
    pairs = [await (await provider.listen()).accept() for _ in openings]
    assert now() - began < 0.5
    world.writers += tuple(writer for _, writer in (*pairs, *await asyncio.gather(*openings)))


async def test_new_connections_are_refused_when_no_provider_comes(world: World) -> None:
    """As soon as it has had its time; and at once from then on, and where a hub wasn't restarted."""
    consumer, _, _ = await _without_provider(world, 60.0)
    began = now()
    openings = [asyncio.ensure_future(consumer.connect()) for _ in range(3)]
    leaving = asyncio.ensure_future(consumer.connect())
    await asyncio.sleep(1)
    leaving.cancel()
    for opening in openings:
        with pytest.raises(ConnectionRejected) as caught:
            await opening
        assert caught.value.code == Code.NO_PROVIDER
    assert RETURN - 1 < now() - began <= RETURN + 0.3
    began = now()
    with pytest.raises(ConnectionRejected):
        await consumer.connect()
    assert now() - began < 0.1


@pytest.mark.parametrize("resumes", [True, False])
async def test_what_nobody_has_answered_is_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch, resumes: bool
) -> None:
    """Not every closed port is reported. Who has nothing to resume leaves that to loss recovery, which backs off."""
    repeats: list[float] = []
    repeat = FakeEngine.repeat

    def note(engine: FakeEngine, connection_id: int, at: float) -> None:
        repeats.append(at)
        repeat(engine, connection_id, at)

    monkeypatch.setattr(FakeEngine, "repeat", note)
    consumer, provider, *pairs = await both(world, hubs=1)
    _lose(world.hub, *pairs[: 2 * resumes], host_lives=False)
    while any(one.sessions[HUB] is SessionState.ESTABLISHED for one in (consumer, provider)):
        await asyncio.sleep(0.01)
    repeats.clear()
    if not resumes:
        for _, writer in pairs:
            writer.transport.abort()
        await asyncio.sleep(1)
        repeats.clear()
    began = now()
    await asyncio.sleep(3)
    assert (len(repeats) >= 2 * 3 / EVERY) is resumes
    assert bool(repeats) is resumes
    assert len(repeats) <= 2 * (now() - began) / 0.1
