"""A fault of ours in an endpoint ends the connection or session that it is about; the others don't notice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.asyncio_adapter import StreamTransport
from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint, Pair, ProviderEndpoint
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.session import session as sessions
from spnhub.transport.endpoint.session.hub_target import HubTarget
from spnhub.transport.endpoint.session.session import Session
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.errors import SpnError
from tests.transport.endpoint.conftest import World


class Injected(Exception):
    """A fault of ours."""


class Rig:
    """A consumer and a provider with two connections: the bystander, and the one that fails."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.told: list[BaseException] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.told.append(context["exception"]))
        self.provider: ProviderEndpoint
        self.consumer: ConsumerEndpoint

    async def begin(self) -> tuple[Pair, Pair, Pair, Pair]:
        """The bystander's ends, then the other's; the consumer's first."""
        self.provider = await self.world.provider()
        self.consumer = await self.world.consumer()
        return (*await self.connect(), *await self.connect())

    async def connect(self) -> tuple[Pair, Pair]:
        connecting = asyncio.ensure_future(self.consumer.connect())
        request = await self.provider.listen()
        theirs = await request.accept()
        ours = await connecting
        self.world.writers += (ours[1], theirs[1])
        return ours, theirs


async def talks(ours: Pair, theirs: Pair) -> None:
    """Bytes pass both ways."""
    for (reader, _), (_, writer) in ((ours, theirs), (theirs, ours)):
        writer.write(b"alive")
        assert await reader.readexactly(5) == b"alive"


def fail_once(patch: pytest.MonkeyPatch, where: Any, name: str) -> None:
    """The next call of that method raises."""
    original = getattr(where, name)

    def fail(*args: Any, **kwargs: Any) -> Any:
        patch.setattr(where, name, original)
        raise Injected

    patch.setattr(where, name, fail)


@pytest.mark.parametrize("method", ["on_readable", "listener", "on_acknowledged", "on_reset"])
async def test_a_connection_fails(world: World, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Both of its programs see an error; told once; the other connection and the sessions stay."""
    rig = Rig(world)
    bystander, other, ours, theirs = await rig.begin()
    if method == "listener":
        fail_once(monkeypatch, StreamTransport, "on_readable")
    else:
        fail_once(monkeypatch, Connection, method)
    if method == "on_reset":
        theirs[1].transport.abort()
    else:
        theirs[1].write(b"x" * 200_000)
    with pytest.raises((SpnError, OSError)):
        while await ours[0].read(65536):
            pass
        raise AssertionError("a clean end")
    await talks(bystander, other)
    assert [type(fault) for fault in rig.told] == [Injected]
    assert rig.consumer.state is SessionState.ESTABLISHED
    await talks(*await rig.connect())
    async with asyncio.timeout(60):
        while rig.consumer.connections > 2 or rig.provider.connections > 2:
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("method", ["read", "end", "on_deadline"])
async def test_a_session_fails(world: World, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """It ends and is made anew, and its connections go on: nothing of them is lost."""
    rig = Rig(world)
    bystander, other, ours, theirs = await rig.begin()
    core = rig.consumer.core
    (session,) = core.established
    ours[1].write(b"x" * 400_000)
    where, name = {"read": (core.context.engine, "read"), "end": (sessions, "why_closed")}.get(
        method, (Session, method)
    )
    fail_once(monkeypatch, where, name)
    if method == "read":
        # The other side acknowledges, on its control stream.
        assert len(await theirs[0].readexactly(400_000)) == 400_000
    elif method == "end":
        world.hub.close(world.hub.session(EndPointType.CONSUMER), Code.SHUTDOWN, "going")
    else:
        core.context.arm(session, asyncio.get_running_loop().time())
    async with asyncio.timeout(120):
        while not rig.told:
            await asyncio.sleep(0.1)
        await rig.consumer.wait_established()
        await talks(bystander, other)
    assert [type(fault) for fault in rig.told] == [Injected]


async def test_a_slot_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deadlines of others have theirs."""
    rig = Rig(world)
    bystander, other, _, _ = await rig.begin()
    core = rig.consumer.core
    (target,) = core.targets()
    fail_once(monkeypatch, HubTarget, "on_deadline")
    core.context.arm(target, asyncio.get_running_loop().time())
    while not rig.told:
        await asyncio.sleep(0.1)
    await talks(bystander, other)
    assert [type(fault) for fault in rig.told] == [Injected]


async def test_a_program_that_raises(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that can't be handed over is rejected at once."""
    rig = Rig(world)
    bystander, other, _, _ = await rig.begin()
    fail_once(monkeypatch, ProviderEndpoint, "on_request")
    with pytest.raises(SpnError):
        async with asyncio.timeout(5):
            await rig.consumer.connect()
    assert [type(fault) for fault in rig.told] == [Injected]
    await talks(bystander, other)
    await talks(*await rig.connect())


async def test_a_look_up_and_a_call_that_raise(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are tried again: an endpoint that has had a hub isn't at its end."""
    rig = Rig(world)
    bystander, other, _, _ = await rig.begin()
    fail_once(monkeypatch, world, "resolve")
    rig.consumer.check_addresses()
    async with asyncio.timeout(10):
        while not rig.told:
            await asyncio.sleep(0.1)
    node: Any = world.nodes[-1]
    fail_once(monkeypatch, node, "open_client_socket")
    world.hub.close(world.hub.session(EndPointType.CONSUMER), Code.SHUTDOWN, "going")
    async with asyncio.timeout(60):
        while len(rig.told) < 2:
            await asyncio.sleep(0.1)
        await rig.consumer.wait_established()
        await talks(bystander, other)
    assert [type(fault) for fault in rig.told] == [Injected, Injected]
