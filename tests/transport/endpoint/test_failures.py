"""Ends with an error: after what was written before, FIN included, in whatever leg, and within a bound (D-34)."""

from __future__ import annotations

import asyncio

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.transport.endpoint.api.asyncio_adapter import StreamTransport
from spnhub.transport.endpoint.api.consumer import Pair
from spnhub.transport.endpoint.connection.connection import REST_GRACE, Connection
from spnhub.transport.endpoint.connection.states import ConnectionState
from spnhub.transport.endpoint.connection.transitions import CLOSE_BOUND
from spnhub.transport.endpoint.session.failures import why_closed
from spnhub.transport.engine import Closed, CloseKind, Limits
from spnhub.transport.errors import ConnectionAborted
from tests.transport.endpoint.conftest import World

DATA = bytes(range(250)) * 1200
"""Far more than a stream's first window."""


async def _join(world: World) -> tuple[Pair, Pair]:
    """The consumer's pair and the provider's."""
    provider = await world.provider()
    consumer = await world.consumer()
    connecting = asyncio.ensure_future(consumer.connect())
    theirs = await (await provider.listen()).accept()
    ours = await connecting
    world.writers += (ours[1], theirs[1])
    return ours, theirs


def _connection(writer: asyncio.StreamWriter) -> Connection:
    connection = writer.get_extra_info("spn_connection")
    assert isinstance(connection, Connection)
    return connection


def _transport(writer: asyncio.StreamWriter) -> StreamTransport:
    transport = writer.transport
    assert isinstance(transport, StreamTransport)
    return transport


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, int | None]:
    """All that comes, and the code of the error behind it; None: a clean end."""
    data = b""
    try:
        while piece := await reader.read(10_000):
            data += piece
    except ConnectionAborted as exc:
        return data, exc.code
    return data, None


async def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    while writer.transport.get_write_buffer_size():
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("side", ["consumer", "provider"])
async def test_bytes_first(world: World, side: str) -> None:
    """The other side reads everything, and then the error; what it had written is thrown away, and holds up nothing."""
    pairs = await _join(world)
    (_, writer), (reader, back) = pairs if side == "consumer" else reversed(pairs)
    back.write(DATA)
    reading = asyncio.ensure_future(_read(reader))
    await _write(writer, DATA)
    _connection(writer).fail(Code.PEER_RESET)
    assert await reading == (DATA, Code.PEER_RESET)
    assert _connection(writer).state is ConnectionState.DISCONNECTED


@pytest.mark.parametrize("side", ["consumer", "provider"])
async def test_fin_first(world: World, side: str) -> None:
    """A FIN that was written before is read, and then writing fails."""
    pairs = await _join(world)
    (_, writer), (reader, back) = pairs if side == "consumer" else reversed(pairs)
    reading = asyncio.ensure_future(_read(reader))
    await _write(writer, DATA)
    writer.write_eof()
    _connection(writer).fail(Code.PEER_RESET)
    assert await reading == (DATA, None)
    with pytest.raises(ConnectionResetError):
        while True:
            back.write(b"?")
            await back.drain()
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("side", ["consumer", "provider"])
@pytest.mark.parametrize("fin", [False, True])
async def test_in_the_next_leg(world: World, side: str, fin: bool) -> None:
    """The hub crashes with the bytes in it, before or after the failure: an ordinary resume brings them."""
    pairs = await _join(world)
    (_, writer), (reader, _) = pairs if side == "consumer" else reversed(pairs)
    reading = asyncio.ensure_future(_read(reader))
    writer.write(DATA)
    world.hub.node.crash()
    if fin:
        writer.write_eof()
    await asyncio.sleep(1)
    world.hub = world.new_hub()
    await _write(writer, b"")
    _connection(writer).fail(Code.PEER_RESET)
    assert await reading == (DATA, None if fin else Code.PEER_RESET)
    while _connection(writer).state is not ConnectionState.DISCONNECTED:
        await asyncio.sleep(0.1)


async def test_a_reader_that_does_not_read(world: World) -> None:
    """The failed side has a bound; the error reaches the other one, which had its time."""
    (reader, ours), (_, writer) = await _join(world)
    _transport(ours).pause_reading()
    writer.write(DATA[:20_000])
    began = asyncio.get_running_loop().time()
    _connection(writer).fail(Code.PEER_RESET)
    with pytest.raises(ConnectionAborted):
        await reader.read(1)
    took = asyncio.get_running_loop().time() - began
    assert CLOSE_BOUND <= took <= CLOSE_BOUND + REST_GRACE + 1


async def test_a_reader_that_is_slow(world: World) -> None:
    """Each byte taken is a reason to wait for the next."""
    (reader, _), (_, writer) = await _join(world)
    writer.write(DATA[:200_000])
    await asyncio.sleep(1)
    assert not _transport(writer).get_write_buffer_size()
    _connection(writer).fail(Code.PEER_RESET)
    data = b""
    with pytest.raises(ConnectionAborted):
        while True:
            data += await reader.read(20_000)
            await asyncio.sleep(CLOSE_BOUND / 5)
    assert data == DATA[:200_000]


async def test_a_reset_that_does_not_wait(world: World) -> None:
    """An abort is one at once; what had arrived before it is read all the same."""
    (reader, ours), (_, writer) = await _join(world)
    _transport(ours).pause_reading()
    writer.write(DATA[:5000])
    await asyncio.sleep(1)
    writer.transport.abort()
    await asyncio.sleep(1)
    _transport(ours).resume_reading()
    assert await _read(reader) == (DATA[:5000], Code.PEER_RESET)


@pytest.mark.parametrize("when", ["paused", "after the resume timeout", "never"])
@pytest.mark.parametrize("fin", [False, True])
async def test_what_a_lost_leg_had_brought(world: World, when: str, fin: bool) -> None:
    """The other endpoint is gone for good; what had arrived from it is read, at once or before the error."""
    (reader, ours), (_, writer) = await _join(world)
    _transport(ours).pause_reading()
    writer.write(DATA[:5000])
    if fin:
        writer.write_eof()
    await asyncio.sleep(1)
    world.nodes[0].crash()
    while _connection(ours).state is not ConnectionState.PAUSED:
        await asyncio.sleep(0.1)
    if when == "paused":
        _transport(ours).resume_reading()
        assert await reader.readexactly(5000) == DATA[:5000]
        assert _connection(ours).state in (ConnectionState.PAUSED, ConnectionState.RESUMING)
    while _connection(ours).state is not ConnectionState.DISCONNECTED:
        await asyncio.sleep(0.1)
    if when == "after the resume timeout":
        _transport(ours).resume_reading()
        assert await reader.readexactly(5000) == DATA[:5000]
    if fin and when != "never":
        assert await reader.read() == b""
        with pytest.raises(ConnectionResetError):
            while True:
                ours.write(b"?")
                await ours.drain()
                await asyncio.sleep(0.1)
    else:
        began = asyncio.get_running_loop().time()
        with pytest.raises(ConnectionAborted):
            await reader.read(1)
        assert asyncio.get_running_loop().time() - began < REST_GRACE + 1


async def test_what_a_lost_leg_had_brought_comes_once(world: World) -> None:
    """And where the other endpoint comes back, the next leg goes on behind it."""
    (reader, ours), (_, writer) = await _join(world)
    _transport(ours).pause_reading()
    writer.write(DATA)
    await asyncio.sleep(1)
    world.hub.node.crash()
    await asyncio.sleep(1)
    world.hub = world.new_hub()
    writer.write_eof()
    await asyncio.sleep(5)
    _transport(ours).resume_reading()
    assert await _read(reader) == (DATA, None)


async def test_what_lost_legs_had_brought_is_bounded(world: World) -> None:
    """A reader that has stopped is kept one window, however many legs are lost meanwhile."""
    (reader, ours), (_, writer) = await _join(world)
    _transport(ours).pause_reading()
    writer.write(DATA)
    for _ in range(5):
        await asyncio.sleep(2)
        world.hub.node.crash()
        await asyncio.sleep(1)
        world.hub = world.new_hub()
    await asyncio.sleep(2)
    # It counts as taken.
    assert 0 < _connection(ours).read_offset <= Limits().stream_window
    writer.write_eof()
    _transport(ours).resume_reading()
    assert await _read(reader) == (DATA, None)


@pytest.mark.parametrize(
    ("kind", "code", "reason", "told"),
    [
        (CloseKind.UNREACHABLE, 0, "unreachable, as its host says", "unreachable, as its host says"),
        (CloseKind.IDLE, 0, "nothing was heard for 30 s", "idle: nothing was heard for 30 s"),
        (CloseKind.RESET, 0, "", "reset"),
        (CloseKind.PEER_TRANSPORT, 0x0A, "too early", "peer-transport, PROTOCOL_VIOLATION: too early"),
        (CloseKind.VIOLATION, 0x77, "", "violation, code 0x77"),
    ],
)
def test_how_a_session_is_said_to_have_ended(kind: CloseKind, code: int, reason: str, told: str) -> None:
    """Once, with the code's name, and without a code where there was none."""
    assert str(why_closed(Closed(1, kind, code, reason), "", near_its_dates=False, established=False)) == told
