"""The bridge over real sockets: every byte, FIN as FIN, RST as RST, and bounded memory."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent import bridge
from spnhub.transport.agent.bridge import CHUNK, BridgeResult
from tests.support.pipe_stream import PipeStream
from tests.support.tcp import Ending, TcpPeer, digest, pattern
from tests.transport.agent.conftest import Rig
from tests.transport.agent.fakes import Told

pytestmark = pytest.mark.outside

MIB = 1024 * 1024
OK_ENDING = (Code.OK, "")
RESET = BridgeResult(0, 0, Code.PEER_RESET, "TCP connection reset")
D24 = 5.0
"""Within this many seconds a RST must have been noticed."""


@pytest.fixture
def short_stall(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody takes is kept for half a second."""
    monkeypatch.setattr(bridge, "STALL", 0.5)


async def test_bulk_both_ways_at_once(rig: Rig) -> None:
    """Different random data in both directions arrives exactly, with small stream buffers in between."""
    client, server = rig.two(capacity=5000)
    size = 8 * MIB

    async def program(peer: TcpPeer, seed: int) -> None:
        await peer.send_pattern(seed, size)
        peer.finish()

    _, _, at_server, at_client = await asyncio.gather(
        program(client.program, 1),
        program(server.program, 2),
        server.program.receive_digest(),
        client.program.receive_digest(),
    )
    assert at_server == (size, digest(pattern(1, size)), Ending.FIN)
    assert at_client == (size, digest(pattern(2, size)), Ending.FIN)
    assert await client.done == BridgeResult(size, size, Code.OK, "")
    assert await server.done == BridgeResult(size, size, Code.OK, "")


async def test_a_stream_that_is_slower_than_the_program(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop isn't asked to look at the program's socket for each chunk, and not to look any more."""
    loop, asked = asyncio.get_running_loop(), 0
    add_reader = loop.add_reader

    def count(*told: Any) -> None:
        nonlocal asked
        asked += 1
        add_reader(*told)

    monkeypatch.setattr(loop, "add_reader", count)
    client, server = rig.two(capacity=CHUNK // 2)
    size = 16 * MIB
    sent = asyncio.ensure_future(client.program.send_pattern(1, size))
    assert await server.program.receive(size) == b"".join(pattern(1, size))
    await sent
    assert asked < size // CHUNK // 2
    # Nor is it forgotten: what comes after a while is read, too.
    for word in (b"and", b"more"):
        await client.program.send(word)
        assert await server.program.receive(len(word)) == word


async def test_client_half_close(rig: Rig) -> None:
    """A client that ends its direction first still gets the whole answer."""
    client, server = rig.two()
    await client.program.send(b"question")
    client.program.finish()
    assert await server.program.receive_all() == (b"question", Ending.FIN)
    await server.program.send(b"answer" * 100_000)
    server.program.close()
    assert await client.program.receive_all() == (b"answer" * 100_000, Ending.FIN)
    assert await client.done == BridgeResult(8, 600_000, Code.OK, "")
    assert await server.done == BridgeResult(600_000, 8, Code.OK, "")


async def test_server_half_close(rig: Rig) -> None:
    """A server that ends its direction first still gets the whole upload."""
    client, server = rig.two()
    server.program.finish()
    assert await client.program.receive_all() == (b"", Ending.FIN)
    await client.program.send(b"upload" * 100_000)
    client.program.close()
    assert await server.program.receive_all() == (b"upload" * 100_000, Ending.FIN)
    assert await client.done == BridgeResult(600_000, 0, Code.OK, "")
    assert await server.done == BridgeResult(0, 600_000, Code.OK, "")


async def test_server_speaks_first(rig: Rig) -> None:
    """Nothing waits for the client's first byte."""
    client, server = rig.two()
    await server.program.send(b"220 hello")
    assert await client.program.receive(9) == b"220 hello"


@pytest.mark.parametrize("who", ["client", "server"])
async def test_reset_is_a_reset(rig: Rig, who: str) -> None:
    """A RST of either program reaches the other as RST, never as a clean end."""
    client, server = rig.two()
    await client.program.send(b"hello")
    await server.program.receive(5)
    one, other = (client, server) if who == "client" else (server, client)
    one.program.reset()
    assert await other.program.receive_all() == (b"", Ending.RST)
    assert (await one.done).code == Code.PEER_RESET
    assert (await other.done).code == Code.PEER_RESET


async def test_reset_while_idle(rig: Rig) -> None:
    """D-24: nothing was ever sent."""
    here, there = PipeStream.pair()
    told = Told(there)
    bridged = rig.bridge(here)
    bridged.program.reset()
    async with asyncio.timeout(D24):
        assert await told.aborted == Code.PEER_RESET
    assert (await bridged.done).code == Code.PEER_RESET


async def test_reset_while_reading_is_paused(rig: Rig, short_stall: None) -> None:
    """D-24: the stream takes no more, so nobody reads from the socket, and what is in it has waited long enough."""
    here, there = PipeStream.pair(capacity=1000)
    told = Told(there)
    bridged = rig.bridge(here)
    await bridged.program.send(bytes(10_000))
    await _settled(lambda: here.most_buffered == 1000)
    bridged.program.reset()
    async with asyncio.timeout(D24):
        assert await told.aborted == Code.PEER_RESET
    assert await bridged.done == BridgeResult(1000, 0, Code.PEER_RESET, "TCP connection reset")


async def test_bytes_before_a_reset_come_first(rig: Rig) -> None:
    """D-34: what lay in the socket, and what the stream had no room for, is read before the reset is heard of."""
    here, there = PipeStream.pair(capacity=1000)
    told = Told(there)
    bridged = rig.bridge(here)
    data = b"".join(pattern(4, 60_000))
    await bridged.program.send(data)
    await _settled(lambda: not bridged.program.unsent)
    bridged.program.reset()
    read = bytearray()

    def rest() -> bool:
        read.extend((there.read(777) or (b"", False))[0])
        return told.aborted.done()

    await _settled(rest)
    assert bytes(read) == data
    assert await bridged.done == BridgeResult(len(data), 0, Code.PEER_RESET, "TCP connection reset")


async def test_reset_while_reading_is_paused_and_all_buffers_are_full(rig: Rig, short_stall: None) -> None:
    """D-24: the client has filled every kernel buffer, the receive window is closed."""
    here, there = PipeStream.pair(capacity=1000)
    told = Told(there)
    bridged = rig.bridge(here)
    blocked = 0
    while bridged.program.send_until_blocked() or blocked < 50:
        blocked += 1
        await asyncio.sleep(0)
    bridged.program.reset()
    async with asyncio.timeout(D24):
        assert await told.aborted == Code.PEER_RESET
    assert (await bridged.done).code == Code.PEER_RESET


async def test_reset_after_half_close(rig: Rig) -> None:
    """D-24: the client's FIN has come, so there is no reader any more."""
    here, there = PipeStream.pair()
    told = Told(there)
    bridged = rig.bridge(here)
    bridged.program.finish()
    await _settled(lambda: there.read(1) == (b"", True))
    bridged.program.reset()
    async with asyncio.timeout(D24):
        assert await told.aborted == Code.PEER_RESET
    assert await bridged.done == RESET


async def test_reset_after_half_close_while_paused(rig: Rig, short_stall: None) -> None:
    """D-24: the FIN waits behind bytes that the stream doesn't take."""
    here, there = PipeStream.pair(capacity=1000)
    told = Told(there)
    bridged = rig.bridge(here)
    await bridged.program.send(bytes(10_000))
    bridged.program.finish()
    await _settled(lambda: here.most_buffered == 1000)
    bridged.program.reset()
    async with asyncio.timeout(D24):
        assert await told.aborted == Code.PEER_RESET
    assert await bridged.done == BridgeResult(1000, 0, Code.PEER_RESET, "TCP connection reset")


async def test_reset_while_the_client_stalls(rig: Rig) -> None:
    """A client that doesn't read what is sent to it, and then resets."""
    here, there = PipeStream.pair()
    told = Told(there)
    bridged = rig.bridge(here)
    while there.write(bytes(32 * 1024)):
        await asyncio.sleep(0)
    bridged.program.reset()
    async with asyncio.timeout(D24):
        assert await told.aborted == Code.PEER_RESET


async def test_both_fins_are_no_reset(rig: Rig) -> None:
    """EPOLLHUP without an error, which a socket shows once both directions have ended, ends nothing."""
    client, server = rig.two()
    await client.program.send(b"x" * 100)
    client.program.finish()
    server.program.finish()
    assert await server.program.receive_all() == (b"x" * 100, Ending.FIN)
    assert await client.program.receive_all() == (b"", Ending.FIN)
    assert (await client.done).code == Code.OK
    assert (await server.done).code == Code.OK


async def test_aborted_stream_resets_tcp(rig: Rig) -> None:
    """D-17: what ends the connection with an error is a RST to the program, also after half of a download."""
    here, there = PipeStream.pair()
    bridged = rig.bridge(here)
    there.write(b"half of it")
    assert await bridged.program.receive(10) == b"half of it"
    there.abort(Code.PEER_LOST)
    assert await bridged.program.receive_all() == (b"", Ending.RST)
    assert await bridged.done == BridgeResult(0, 10, Code.PEER_LOST, "aborted")


async def test_aborted_after_the_clients_fin(rig: Rig) -> None:
    """A client that has half-closed and waits for its answer gets a RST too."""
    here, there = PipeStream.pair()
    bridged = rig.bridge(here)
    bridged.program.finish()
    await _settled(lambda: there.read(1) == (b"", True))
    there.abort(Code.PEER_LOST)
    assert await bridged.program.receive_all() == (b"", Ending.RST)


async def test_aborted_after_the_answers_end(rig: Rig) -> None:
    """The other program ended its direction; its loss is still an error for one that uploads."""
    here, there = PipeStream.pair()
    bridged = rig.bridge(here)
    there.finish()
    assert await bridged.program.receive_all() == (b"", Ending.FIN)
    there.abort(Code.PEER_LOST)
    await _settled(bridged.done.done)
    with pytest.raises(OSError, match=r"reset|pipe"):
        while True:
            await bridged.program.send(b"upload")


async def test_a_stalled_reader_bounds_memory(rig: Rig) -> None:
    """Who doesn't read stops the sender; then everything arrives. At most a chunk and the stream's buffer between."""
    client, server = rig.two(capacity=20_000)
    size = 32 * MIB
    sending = asyncio.ensure_future(server.program.send_pattern(3, size))
    moved = -1
    while moved != server.bridge.bytes_to_stream or server.stream.most_buffered < 20_000:
        moved = server.bridge.bytes_to_stream
        for _ in range(500):
            await asyncio.sleep(0)
    assert not sending.done()
    assert 0 < server.bridge.bytes_to_stream - client.bridge.bytes_to_tcp <= 20_000 + CHUNK
    assert server.stream.most_buffered <= 20_000
    assert await client.program.receive(size) == b"".join(pattern(3, size))
    await sending


async def test_500_at_once(rig: Rig) -> None:
    """500 conversations at once, each with its own bytes, all exact."""
    size = 20_000

    async def conversation(number: int) -> None:
        client, server = rig.two(capacity=4096)
        await client.program.send_pattern(number, size)
        client.program.finish()
        data, ending = await server.program.receive_all()
        assert ending is Ending.FIN
        await server.program.send(data[::-1])
        server.program.close()
        assert await client.program.receive_all() == (b"".join(pattern(number, size))[::-1], Ending.FIN)
        assert (await client.done).code == (await server.done).code == Code.OK

    await asyncio.gather(*(conversation(number) for number in range(500)))


async def test_bulk_bridges_share(rig: Rig) -> None:
    """Of 20 downloads at once the slowest has at least half of the fastest's bytes."""
    pairs = [rig.two() for _ in range(20)]

    async def endless(peer: TcpPeer) -> None:
        piece = bytes(CHUNK)
        while True:
            await peer.send(piece)

    async def drain(peer: TcpPeer) -> None:
        while max(client.program.received for client, _ in pairs) < 10 * MIB:
            await peer.receive(1)
            peer.received += len(await asyncio.get_running_loop().sock_recv(peer.sock, CHUNK))

    senders = [asyncio.ensure_future(endless(server.program)) for _, server in pairs]
    await asyncio.gather(*(drain(client.program) for client, _ in pairs))
    for sender in senders:
        sender.cancel()
    received = [client.program.received for client, _ in pairs]
    assert min(received) >= max(received) / 2


async def test_fin_before_a_reset_comes_first(rig: Rig) -> None:
    """D-34: bytes, FIN, and then the reset, which a program hears of when it writes."""
    client, server = rig.two()
    await client.program.send(b"question")
    client.program.finish()
    client.program.reset()
    assert await server.program.receive_all() == (b"question", Ending.FIN)
    await server.done
    with pytest.raises(OSError, match=r"reset|pipe"):
        while True:
            await server.program.send(b"answer")


async def test_no_fin_from_an_error_that_a_write_has_told_of(rig: Rig) -> None:
    """A socket whose error was raised by a send reads as if a FIN had come: that would make a cut look whole."""
    here, there = PipeStream.pair(capacity=1000)
    told = Told(there)
    bridged = rig.bridge(here)
    data = b"".join(pattern(5, 60_000))
    await bridged.program.send(data)
    await _settled(lambda: not bridged.program.unsent)
    await _settled(lambda: here.most_buffered == 1000)
    bridged.program.reset()
    # Before the watcher's turn.
    there.write(b"x")
    bridged.bridge.on_readable()
    assert await _read_to_the_error(there, told) == (data, False)


async def test_aborted_stream_resets_a_slow_reader_at_the_end(rig: Rig) -> None:
    """What the stream had brought reaches the program before the RST, although that reads slowly."""
    here, there = PipeStream.pair(capacity=1 << 20)
    bridged = rig.bridge(here)
    data = b"".join(pattern(6, 3 * MIB))
    sent = 0

    def filled() -> bool:
        nonlocal sent
        sent += there.write(data[sent : sent + 100_000])
        return sent == len(data)

    await _settled(lambda: filled() or (here.bytes_unread > 0 and there.most_buffered == 1 << 20))
    await _settled(lambda: not here.bytes_unread or bridged.bridge.bytes_to_tcp < sent)
    there.abort(Code.PEER_LOST)
    read, ending = await bridged.program.receive_all()
    result = await bridged.done
    assert (result.code, ending) == (Code.PEER_LOST, Ending.RST)
    assert len(read) == result.to_tcp > 0
    assert read == data[: len(read)]


async def test_aborted_stream_resets_a_stalled_reader(rig: Rig, short_stall: None) -> None:
    """One that reads nothing has half a second here."""
    here, there = PipeStream.pair()
    bridged = rig.bridge(here)
    stalled = 0
    while stalled < 100:
        stalled = 0 if there.write(bytes(32 * 1024)) else stalled + 1
        await asyncio.sleep(0)
    there.abort(Code.PEER_LOST)
    async with asyncio.timeout(D24):
        assert (await bridged.done).code == Code.PEER_LOST


@pytest.mark.parametrize("half_closed", [False, True])
async def test_stop(rig: Rig, half_closed: bool) -> None:
    """An agent that stops hands on what its host has taken from both sides, and what its kernel had acknowledged."""
    here, there = PipeStream.pair(capacity=1000)
    told = Told(there)
    bridged = rig.bridge(here)
    data = b"".join(pattern(7, 60_000))
    await bridged.program.send(data)
    if half_closed:
        bridged.program.finish()
    await _settled(lambda: not bridged.program.unsent)
    there.write(b"for the program")
    await _settled(lambda: bridged.bridge.bytes_to_tcp == 15)
    bridged.bridge.stop(Code.PEER_LOST, "stopping")
    if not half_closed:
        bridged.program.sock.send(b"too late")
    assert await _read_to_the_error(there, told) == (data, half_closed)
    assert await bridged.program.receive_all() == (b"for the program", Ending.RST)
    assert await bridged.done == BridgeResult(len(data), 15, Code.PEER_LOST, "stopping")


async def test_urgent_data_stays_in_its_place(rig: Rig) -> None:
    """MSG_OOB both ways: no byte is missing; where the mark was is not told."""
    client, server = rig.two()
    for one, other in ((client, server), (server, client)):
        await one.program.send(b"abc")
        one.program.sock.send(b"!", socket.MSG_OOB)
        await one.program.send(b"def")
        assert await other.program.receive(7) == b"abc!def"


async def _read_to_the_error(there: PipeStream, told: Told) -> tuple[bytes, bool]:
    """All that comes before the stream's error, and whether there was a FIN."""
    read, fin = bytearray(), False

    def rest() -> bool:
        nonlocal fin
        piece = there.read(777) or (b"", False)
        read.extend(piece[0])
        fin = fin or piece[1]
        return told.aborted.done()

    await _settled(rest)
    return bytes(read), fin


async def _settled(condition: object) -> None:
    """Let the loop run until the condition holds; pytest's timeout is the bound."""
    assert callable(condition)
    while not condition():
        await asyncio.sleep(0)
