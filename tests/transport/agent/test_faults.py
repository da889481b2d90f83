"""A fault of ours in one connection: it ends and leaves nothing behind, it is told, and the others go on."""

from __future__ import annotations

import asyncio
import functools
import gc
import resource
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent.bridge import BridgeResult
from spnhub.transport.agent.consumer import ConsumerAgent
from spnhub.transport.agent.provider import ProviderAgent
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.agent.tcp import listen
from spnhub.transport.faults import Faults
from spnhub.transport.system import descriptors
from spnhub.transport.system.socket_address import TcpAddress
from tests.support.pipe_stream import PipeStream
from tests.support.tcp import Ending, TcpPeer, TcpServer
from tests.transport.agent.conftest import Rig
from tests.transport.agent.fakes import FakeEndpoint, FakeRequest, FakeSources

pytestmark = pytest.mark.outside


class Injected(Exception):
    """Not an error of the system: a fault of ours."""


def _fail(*_: object, **__: object) -> Any:
    raise Injected


@pytest.fixture
async def told() -> list[str]:
    """What the loop's exception handler was told."""
    messages: list[str] = []
    loop = asyncio.get_running_loop()

    def handler(_: object, context: dict[str, Any]) -> None:
        assert isinstance(context["exception"], Injected | OSError)
        messages.append(context["message"])

    loop.set_exception_handler(handler)
    return messages


def _descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    gc.collect()
    before = _descriptors()
    yield
    gc.collect()
    assert _descriptors() <= before


async def _unwatched(rig: Rig) -> None:
    """No socket of a bridge that has ended is anybody's any more; those of the pair that goes on are left."""
    selector: Any = rig.loop._selector  # type: ignore[attr-defined]
    assert len(rig.watcher) == 2
    # The loop's own, the watcher, and the two sockets that read.
    assert len(selector.get_map()) == 4


@pytest.mark.parametrize("where", ["read", "write", "finish", "fail", "on_done", "add_writer"])
async def test_a_bridge_fails(rig: Rig, told: list[str], monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """RST to its program, INTERNAL to its stream; its owner hears of it; the bridge beside it notices nothing."""
    bystander, other = rig.two()
    client, server = rig.two()
    if where == "on_done":
        client.on_done = _fail
        server.program.reset()
    elif where == "add_writer":
        monkeypatch.setattr(rig.loop, "add_writer", _fail)
        server.stream.write(bytes(1))
        filling = asyncio.ensure_future(server.program.send(bytes(64 << 20)))
    else:
        monkeypatch.setattr(client.stream, where, _fail)
        if where == "read":
            await server.program.send(b"x")
        elif where == "write":
            await client.program.send(b"x")
        elif where == "finish":
            client.program.finish()
        else:
            monkeypatch.setattr(client.stream, "abort", _fail)
            client.program.reset()
    if where == "fail":
        # Whoever can't be told isn't; the other side has the resume timeout. Here it is told by the test.
        assert (await client.done).code == Code.INTERNAL
        server.stream.lose(Code.PEER_LOST)
    else:
        if where != "on_done":
            assert await client.done == BridgeResult(
                0, (await client.done).to_tcp, Code.INTERNAL, "a fault in the agent"
            )
        _, ending = await client.program.receive_all()
        assert ending is Ending.RST
    assert (await server.done).code != Code.OK
    if where == "add_writer":
        await asyncio.gather(filling, return_exceptions=True)
    assert told == ["a bridge failed"]
    monkeypatch.undo()
    await _unwatched(rig)
    await bystander.program.send(b"alive")
    assert await other.program.receive(5) == b"alive"


async def test_a_callback_of_the_watcher_fails(rig: Rig, told: list[str]) -> None:
    """The resets of the others, seen in the same turn, are told all the same: their edge isn't seen again."""
    pairs = [TcpPeer.pair() for _ in range(3)]
    heard: list[int] = []
    watcher = ResetWatcher(rig.loop)

    def on_reset(number: int) -> None:
        heard.append(number)
        raise Injected

    for number, (_, sock) in enumerate(pairs):
        watcher.watch(sock, functools.partial(on_reset, number))
    for program, _ in pairs:
        program.reset()
    async with asyncio.timeout(5):
        while len(heard) < 3:
            await asyncio.sleep(0)
    assert told == ["the callback of a reset failed"] * 3
    for _, sock in pairs:
        watcher.forget(sock)
        sock.close()
    watcher.close()


class Kernel:
    """An epoll that may be full, and what is registered with it."""

    def __init__(self, epoll: select.epoll) -> None:
        self._epoll = epoll
        self.full = False
        self.registered: set[int] = set()

    def register(self, fd: int, events: int) -> None:
        if self.full:
            raise OSError(28, "No space left on device")
        self._epoll.register(fd, events)
        self.registered.add(fd)

    def unregister(self, fd: int) -> None:
        self.registered.discard(fd)
        self._epoll.unregister(fd)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._epoll, name)


async def test_the_kernel_watches_no_more(rig: Rig, told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that can't be watched is reset, and its descriptor's next owner is watched."""
    kernel = Kernel(select.epoll())
    monkeypatch.setattr(select, "epoll", lambda: kernel)
    sources, endpoint = FakeSources(), FakeEndpoint()
    sources.put(endpoint)
    (listener,) = listen("127.0.0.1", 0)
    agent = ConsumerAgent([listener], sources)
    agent.start()
    kernel.full = True
    client = await TcpPeer.connect(listener.getsockname())
    assert await client.receive_all() == (b"", Ending.RST)
    kernel.full = False
    client.close()
    await agent.wait_idle()
    assert (agent.connections, kernel.registered, told) == (0, set(), [])
    client = await TcpPeer.connect(listener.getsockname())
    here, there = PipeStream.pair()
    while (answer := await endpoint.connects.get()).cancelled():
        pass
    answer.set_result(here)
    there.write(b"x")
    assert await client.receive(1) == b"x"
    client.reset()
    await agent.wait_idle()
    await agent.close()


async def test_a_provider_fails_to_connect(told: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The consumer is told at once, and the place is free again."""
    with TcpServer() as server:
        sources, endpoint = FakeSources(), FakeEndpoint()
        sources.put(endpoint)
        agent = ProviderAgent(TcpAddress(*server.address), sources)
        running = asyncio.ensure_future(agent.run())
        with monkeypatch.context() as patch:
            patch.setattr("spnhub.transport.agent.provider.Connector.connect", _fail)
            _, stream = PipeStream.pair()
            request = FakeRequest(stream)
            endpoint.requests.put_nowait(request)
            assert await request.answer == (Code.INTERNAL, "a fault in the agent")
        await agent.wait_idle()
        assert (agent.connections, told) == (0, ["a connection failed while it was opened"])
        running.cancel()
        await agent.close()


def _raise(depth: int) -> Exception:
    try:
        if depth:
            raise Injected("one")
        raise KeyError("two")
    except Exception as exc:
        return exc


async def test_faults_are_counted_and_told_once_a_second() -> None:
    """Each place for itself; what wasn't told is counted in the next line."""
    now = 100.0
    faults = Faults(lambda: now)
    with capture_logs() as lines:
        for _ in range(1000):
            faults.report("turn", _raise(1), c=7)
        faults.report("turn", _raise(0))
        now += 1.0
        faults.report("turn", _raise(1), c=8)
        faults.on_loop_error(asyncio.get_running_loop(), {"message": "Exception in callback f\nhandle: x"})
    said = [{name: value for name, value in line.items() if name != "exc_info"} for line in lines]
    error = {"event": "fault", "log_level": "error"}
    assert said == [
        {**error, "where": "turn", "c": 7},
        {**error, "where": "turn"},
        {**error, "where": "turn", "c": 8, "repeated": 999},
        {**error, "where": "loop", "message": "Exception in callback f"},
    ]
    assert all(isinstance(line["exc_info"], Exception) for line in lines[:3])
    assert faults.counts == {"turn": 1002, "loop": 1}


async def test_faults_of_ever_new_places_share_a_line() -> None:
    """Memory and log are bounded."""
    faults = Faults(lambda: 0.0)
    with capture_logs() as lines:
        for number in range(1000):
            faults.on_loop_error(asyncio.get_running_loop(), {"message": f"message {number}"})
    assert len(lines) == 257
    assert faults.counts == {"loop": 1000}


def test_room_leaves_a_reserve() -> None:
    """What is open counts, too."""
    used = _descriptors()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 100, hard))
    try:
        assert 70 <= descriptors.room() <= 85
        resource.setrlimit(resource.RLIMIT_NOFILE, (used + 5, hard))
        assert descriptors.room() == 1
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
