"""The bridge while its SPN connection is without a hub: it notices only that nothing moves for a while."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent import bridge
from spnhub.transport.agent.bridge import BridgeResult
from tests.support.pipe_stream import PipeStream
from tests.support.tcp import Ending, TcpPeer, digest, pattern
from tests.transport.agent.conftest import Rig

pytestmark = pytest.mark.outside

MIB = 1024 * 1024
D24 = 5.0
"""Within this many seconds a RST must have been noticed."""


class PausingStream(PipeStream):
    """Takes nothing and gives nothing while it is paused, as :class:`Stream` allows at any time."""

    paused = False
    starved = False
    """A write took nothing: the listener is to be told."""
    finishing = False

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        if self.paused and not self.ended:
            return b"", False
        return super().read(limit)

    def write(self, data: bytes) -> int:
        if self.paused and not self.ended:
            self.starved = True
            return 0
        return super().write(data)

    def finish(self) -> None:
        if self.paused:
            self.finishing = True
        else:
            super().finish()

    def check_failed(self) -> None:
        if not self.paused or not (self.finishing or self.out.data):
            super().check_failed()

    def resume(self) -> None:
        """Go on as if nothing had been."""
        self.paused = False
        if self.finishing:
            self.finishing = False
            super().finish()
        if self.starved:
            self.starved = False
            self._loop.call_soon(self.call_writable)
        self._in.reader_told = False
        self.tell_readable()
        self.check_failed()


def _pair(capacity: int = 32 * 1024) -> tuple[PausingStream, PausingStream]:
    here, there = PausingStream.pair(capacity)
    assert isinstance(here, PausingStream)
    assert isinstance(there, PausingStream)
    return here, there


async def _settled(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds; pytest's timeout is the bound."""
    while not condition():
        await asyncio.sleep(0)


@pytest.mark.parametrize("seed", range(5))
async def test_bulk_through_many_pauses(rig: Rig, seed: int) -> None:
    """Either end pauses again and again, at any moment: every byte once, then both FINs."""
    here, there = _pair(capacity=5000)
    client, server = rig.bridge(here), rig.bridge(there)
    size = 2 * MIB
    source = random.Random(seed)
    ends = [here, there]
    pauses = 0

    async def trouble() -> None:
        nonlocal pauses
        while True:
            end = source.choice(ends)
            end.paused = True
            pauses += 1
            for _ in range(source.randrange(30)):
                await asyncio.sleep(0)
            end.resume()
            for _ in range(source.randrange(30)):
                await asyncio.sleep(0)

    async def program(peer: TcpPeer, seed: int) -> None:
        await peer.send_pattern(seed, size)
        peer.finish()

    troubling = asyncio.ensure_future(trouble())
    _, _, at_server, at_client = await asyncio.gather(
        program(client.program, 1),
        program(server.program, 2),
        server.program.receive_digest(),
        client.program.receive_digest(),
    )
    troubling.cancel()
    assert at_server == (size, digest(pattern(1, size)), Ending.FIN)
    assert at_client == (size, digest(pattern(2, size)), Ending.FIN)
    for end in ends:
        end.resume()
    assert await client.done == await server.done == BridgeResult(size, size, Code.OK, "")
    assert pauses > 10


async def test_what_comes_while_paused_waits(rig: Rig) -> None:
    """A program that goes on sending fills the kernel's buffers, and is then not read from."""
    here, there = _pair(capacity=MIB)
    bridged = rig.bridge(here)
    here.paused = True
    sending = asyncio.ensure_future(bridged.program.send_pattern(1, 64 * MIB))
    await _settled(lambda: here.starved)
    for _ in range(1000):
        await asyncio.sleep(0)
    assert (bridged.bridge.bytes_to_stream, there.read(1), sending.done()) == (0, (b"", False), False)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    here.resume()
    first = next(pattern(1, MIB))
    received = b""
    while len(received) < len(first):
        piece = there.read(len(first) - len(received))
        assert piece is not None
        received += piece[0]
        await asyncio.sleep(0)
    assert received == first


@pytest.mark.parametrize("sent", [0, 10_000])
async def test_fin_while_paused(rig: Rig, sent: int) -> None:
    """Comes after the resume, behind all bytes."""
    here, there = _pair()
    bridged = rig.bridge(here)
    here.paused = True
    await bridged.program.send(bytes(sent))
    bridged.program.finish()
    await _settled(lambda: here.starved or here.finishing)
    assert there.read(1) == (b"", False)
    here.resume()
    received, fin = 0, False
    while not fin:
        piece = there.read(MIB)
        assert piece is not None
        received, fin = received + len(piece[0]), piece[1]
        await asyncio.sleep(0)
    assert received == sent


@pytest.mark.parametrize("sent", [0, 1, 4 * MIB])
@pytest.mark.parametrize("half_closed", [False, True])
@pytest.mark.parametrize("resumed", [False, True])
async def test_reset_while_paused(
    rig: Rig, sent: int, half_closed: bool, resumed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What had come before it goes first, when the stream goes on (D-34), however long that takes."""
    monkeypatch.setattr(bridge, "STALL", 0.1)
    here, there = _pair()
    bridged = rig.bridge(here)
    here.paused = True
    sending = asyncio.ensure_future(bridged.program.send(bytes(sent)))
    await _settled(lambda: here.starved or not sent)
    if sent < MIB:
        await sending
        await _settled(lambda: not bridged.program.unsent)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    if half_closed:
        bridged.program.finish()
        await _settled(lambda: here.finishing or sent > 0)
    bridged.program.reset()
    began = asyncio.get_running_loop().time()
    await _settled(lambda: asyncio.get_running_loop().time() - began > 0.5 or bridged.done.done())
    if not resumed:
        here.lose(Code.RESUME_TIMEOUT)
        assert await bridged.done == BridgeResult(0, 0, Code.PEER_RESET, "TCP connection reset")
        return
    assert not bridged.done.done() or not sent
    # What counts now is that it moves, and this process may be kept waiting for longer than that.
    monkeypatch.setattr(bridge, "STALL", 10.0)
    here.resume()
    received, fin = 0, False

    def rest() -> bool:
        nonlocal received, fin
        if (piece := there.read(MIB)) is not None:
            received, fin = received + len(piece[0]), fin or piece[1]
        return bridged.done.done()

    await _settled(rest)
    assert await bridged.done == BridgeResult(received, 0, Code.PEER_RESET, "TCP connection reset")
    assert received >= sent if sent < MIB else received > 0
    assert fin is (half_closed and sent < MIB)


async def test_reset_while_paused_and_not_read_by_the_client(rig: Rig) -> None:
    """The client had stalled before the pause, so that bytes for it are held here."""
    here, there = _pair()
    bridged = rig.bridge(here)
    stalled = 0
    while stalled < 100:
        stalled = 0 if there.write(bytes(32 * 1024)) else stalled + 1
        await asyncio.sleep(0)
    here.paused = True
    bridged.program.reset()
    async with asyncio.timeout(D24):
        assert (await bridged.done).code == Code.PEER_RESET


async def test_never_resumed(rig: Rig) -> None:
    """The resume timeout passes: a RST to the program, never a FIN, whatever it had sent."""
    here, _ = _pair()
    bridged = rig.bridge(here)
    here.paused = True
    await bridged.program.send(b"hello")
    await _settled(lambda: here.starved)
    here.lose(Code.RESUME_TIMEOUT)
    assert await bridged.program.receive_all() == (b"", Ending.RST)
    assert (await bridged.done).code == Code.RESUME_TIMEOUT
