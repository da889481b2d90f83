"""What came out of order costs what came, whatever the peer does: time, memory, and nobody else."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from aioquic.quic.packet import QuicStreamFrame
from hypothesis import given
from hypothesis import strategies as st

from spnhub.transport.aioquic_engine import reassembly
from spnhub.transport.aioquic_engine.reassembly import (
    CRYPTO_GAPS,
    CRYPTO_HELD,
    FLOOR,
    PIECE,
    STREAM_GAPS,
    Holdings,
    NoRoom,
    Pieces,
    Receiver,
)
from spnhub.transport.engine import Address, Closed, CloseKind, Connected, HandshakeRefused, Limits, Opened
from tests.support.attack import Insider, Site, Stranger, crypto_frame, packed, stream_frame
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import new_aioquic
from tests.support.lines_run import lines_run

MIB = 1024 * 1024
FIELD = bytes(range(256)) * 64


@pytest.fixture(params=[pytest.param(new_aioquic, id="aioquic")])
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


def held(site: Site) -> int:
    """Bytes that an engine holds out of order."""
    return site.engine.counts()["out_of_order"]


# ---- the collection ------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 600), st.integers(0, 90)), max_size=60), st.integers(1, 60))
def test_pieces_are_what_came(frames: list[tuple[int, int]], stride: int) -> None:
    """Against a set of offsets: in any order, overlapping, again; and read from the front wherever that fits."""
    pieces, start, model = Pieces(), 0, set[int]()
    for count, (offset, size) in enumerate(frames):
        data = FIELD[offset : offset + size]
        if offset > start:
            pieces.add(offset, data)
            model.update(range(offset, offset + size))
        elif offset + size > start or count % stride == 0:
            got = pieces.follow(start, data[start - offset :])
            model.update(range(start, offset + size))
            end = start
            while end in model:
                end += 1
            assert got == FIELD[start:end]
            start = end
            model = {place for place in model if place >= start}
        assert pieces.gaps == sum(place - 1 not in model for place in model)
        assert (pieces.size == 0) == (not model)
        assert len(model) <= pieces.size <= len(model) + PIECE * (pieces.gaps + len(model) // 1024 + 1)


@given(st.permutations(range(40)), st.integers(1, 200))
def test_a_receiver_gives_the_bytes_in_order_once(order: list[int], size: int) -> None:
    """Each frame twice, in any order."""
    holdings = Holdings(MIB)
    receiver = Receiver(0, holdings)
    whole = FIELD[: 40 * size]
    got, ends = b"", 0
    for n in [*order, *order]:
        frame = QuicStreamFrame(whole[n * size : (n + 1) * size], n == 39, n * size)
        if (event := receiver.handle_frame(frame)) is not None:
            got += event.data
            ends += event.end_stream
    assert (got, ends, receiver.is_finished) == (whole, 1, True)
    assert (holdings.held, receiver.held) == (0, 0)


@pytest.mark.parametrize("order", ["odd", "odd, from behind", "from behind", "neighbours"])
def test_work_is_linear_in_frames(order: str) -> None:
    """Four times as many frames take four times as many steps, not sixteen times."""

    def feed(count: int) -> Callable[[], None]:
        offsets = {
            "odd": range(1, 2 * count, 2),
            "odd, from behind": range(2 * count - 1, 0, -2),
            "from behind": range(count, 0, -1),
            "neighbours": range(1, count),
        }[order]

        def run() -> None:
            receiver = Receiver(0, Holdings(MIB))
            for offset in offsets:
                receiver.handle_frame(QuicStreamFrame(b"x", False, offset))

        return run

    few, many = lines_run(reassembly, feed(250)), lines_run(reassembly, feed(1000))
    assert few > 1000
    assert many < 4.5 * few


def test_small_neighbours_take_their_bytes() -> None:
    """16,383 frames of a byte behind a gap."""
    holdings = Holdings(MIB)
    receiver = Receiver(0, holdings)
    for offset in range(16_383, 0, -1):
        receiver.handle_frame(QuicStreamFrame(b"x", False, offset))
    assert holdings.held < 16_384 + 16 * PIECE
    event = receiver.handle_frame(QuicStreamFrame(b"x", False, 0))
    assert event is not None
    assert (event.data, holdings.held) == (b"x" * 16_384, 0)


def test_what_is_refused_changes_nothing() -> None:
    """The packet comes again, and then there may be room."""
    receiver = Receiver(0, Holdings(10_000))
    receiver.handle_frame(QuicStreamFrame(bytes(9000), False, 1000))
    with pytest.raises(NoRoom):
        receiver.handle_frame(QuicStreamFrame(bytes(1000), True, 10_000))
    assert receiver.highest_offset == 10_000
    # What fills the gap is always taken.
    event = receiver.handle_frame(QuicStreamFrame(bytes(1000), False, 0))
    assert event is not None
    assert len(event.data) == 10_000


def test_whoever_fills_the_whole_leaves_some_for_the_next() -> None:
    """However many do."""
    whole = Holdings(16 * MIB)
    for _ in range(200):
        mine = Holdings(16 * MIB, whole)
        with pytest.raises(NoRoom):
            while True:
                mine.require(4096)
                mine.change(4096)
    Holdings(MIB, whole).require(FLOOR)


# ---- streams -------------------------------------------------------------------------------------------------------


def test_a_byte_at_the_end_of_every_window(kit: Kit) -> None:
    """4,096 streams, a byte each: 64 MiB if the gaps were there."""
    limits = Limits()
    site = Site(kit)
    insider = Insider(site)
    insider.connect()
    frames = [stream_frame(4 * n, limits.stream_window - 1, b"x") for n in range(limits.streams)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        insider.send(*packed(frames))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held(site) <= limits.streams * (1 + PIECE)
    assert grown < 24 * MIB
    assert not any(isinstance(event, Closed) for event in site.events)
    # Who waits for headers hears of each.
    opened = [event.stream_id for event in site.events if isinstance(event, Opened)]
    assert opened == [4 * n for n in range(limits.streams)]


def test_fragments_at_odd_offsets_end_their_session(kit: Kit) -> None:
    """As soon as there are more gaps than any honest peer leaves; a neighbour is not touched."""
    site = Site(kit)
    neighbour, insider = Insider(site), Insider(site)
    neighbour.connect()
    insider.connect()
    insider.send(*packed(stream_frame(0, offset, b"x") for offset in range(1, 2 * STREAM_GAPS, 2)))
    assert held(site) == STREAM_GAPS * (1 + PIECE)
    insider.send(stream_frame(0, 2 * STREAM_GAPS + 1, b"x"))
    (closed,) = (event for event in site.events if isinstance(event, Closed))
    reason = f"{STREAM_GAPS + 1} gaps in what has come of stream 0"
    assert (closed.kind, closed.code, closed.reason) == (CloseKind.VIOLATION, 0x0A, reason)
    assert held(site) == 0
    assert site.engine.info(closed.connection_id - 1) is not None


def test_a_session_holds_no_more_than_its_part(kit: Kit) -> None:
    """Further packets count as lost: nothing ends, and nothing is acknowledged that isn't there."""
    site = Site(kit, Limits(reassembly_session=64 * 1024))
    insider = Insider(site)
    insider.connect()
    for stream in range(20):
        insider.send(*(stream_frame(4 * stream, offset, bytes(1000)) for offset in range(1000, 16_000, 1000)))
    assert held(site) <= 64 * 1024
    assert not any(isinstance(event, Closed) for event in site.events)


@pytest.mark.parametrize("ends", ["reset", "stop", "close"])
def test_what_is_held_goes_with_its_stream(kit: Kit, ends: str) -> None:
    """A header that doesn't come is answered with stop and reset: then the bytes behind it are gone, too."""
    site = Site(kit)
    insider = Insider(site)
    insider.connect()
    insider.send(stream_frame(0, 1000, bytes(1000)), stream_frame(4, 1000, bytes(1000)))
    assert held(site) == 2 * (1000 + PIECE)
    (connection,) = (event.connection_id for event in site.events if isinstance(event, Connected))
    for stream_id in (0, 4):
        if ends == "stop":
            site.engine.stop(connection, stream_id, 7)
        elif ends == "reset":
            # RESET_STREAM: code 7, final size 3,000.
            insider.send(bytes([4, stream_id, 7]) + (0x4000 | 3000).to_bytes(2))
    if ends == "close":
        site.engine.close(connection, 7, "over")
    site.step()
    assert held(site) == 0
    if ends == "stop":
        # What still comes is not kept, and its credit is the connection's again.
        insider.send(stream_frame(0, 5000, bytes(1000)))
        info = site.engine.info(connection)
        assert info is not None
        assert (held(site), info.buffered) == (0, 0)


@pytest.mark.parametrize("loss", [0.02, 0.2])
def test_little_room_slows_down_and_loses_nothing(kit: Kit, loss: float) -> None:
    """Several streams at once over a path that loses packets, where next to nothing is held."""
    limits = Limits(reassembly_session=6000, reassembly=24_000)
    pair = EnginePair(kit, limits, limits)
    pair.connect()
    pair.network.loss = loss
    data = FIELD * 12
    streams = [pair.open() for _ in range(3)]
    writers = [pair.write_all(pair.client, stream_id, data) for stream_id in streams]
    got = dict.fromkeys(streams, b"")

    def more() -> bool:
        for writer in writers:
            writer()
        for stream_id in streams:
            while (answer := pair.server.engine.read(pair.server.connection_id, stream_id, MIB)) and answer[0]:
                got[stream_id] += answer[0]
                pair.server.node.flush()
        return all(len(one) == len(data) for one in got.values())

    pair.run_until(more, 300.0)
    assert all(one == data for one in got.values())


# ---- handshakes ----------------------------------------------------------------------------------------------------


def at(port: int) -> Address:
    """Where a stranger seems to be."""
    return Address(0, (f"203.0.{port}.1", 4000))


def test_a_hello_in_pieces_at_odd_offsets_is_refused(kit: Kit) -> None:
    """In its first packet: there is no more work than that for a connection."""
    site = Site(kit)
    stranger = Stranger(site, at(1))
    stranger.send(b"".join(crypto_frame(offset, b"x") for offset in range(1, 2 * CRYPTO_GAPS + 2, 2)))
    site.step()
    (refused,) = (event for event in site.events if isinstance(event, HandshakeRefused))
    assert refused.reason == f"{CRYPTO_GAPS + 1} gaps in what has come of the handshake's messages"
    assert held(site) == 0


def test_a_byte_at_the_end_of_a_hello(kit: Kit) -> None:
    """Fifty half-open connections, a byte each."""
    site = Site(kit)
    tracemalloc.start()
    try:
        for port in range(50):
            Stranger(site, at(port)).send(crypto_frame(16_000, b"x"))
            site.step()
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert held(site) == 50 * (1 + PIECE)
    assert grown < 50 * 100 * 1024
    site.step(Limits().handshake_timeout + 1)
    assert held(site) == 0


def test_tls_messages_with_a_gap_wait_in_16_kib(kit: Kit) -> None:
    """What doesn't fit is repeated by a peer that is one."""
    receiver = Receiver(None, Holdings(MIB))
    with pytest.raises(NoRoom):
        for offset in range(1000, 73_000, 1000):
            receiver.handle_frame(QuicStreamFrame(bytes(1000), False, offset))
    assert CRYPTO_HELD - 1000 - PIECE < receiver.held <= CRYPTO_HELD


def test_each_datagram_of_a_handshake_is_a_step(kit: Kit) -> None:
    """What is read in one turn from one client isn't one piece of work."""
    site = Site(kit)
    first, second = Stranger(site, at(1)), Stranger(site, at(2))
    for _ in range(3):
        first.send(crypto_frame(3000, b"x"))
    second.send(crypto_frame(3000, b"x"))
    steps = 0
    while site.engine.shake_hands(site.now):
        steps += 1
    assert steps == 4
