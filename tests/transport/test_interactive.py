"""What is little, an echo, beside what is much, a transfer at full speed on the same connection: virtual time."""

from __future__ import annotations

import statistics
from typing import Final

import pytest

from spnhub.transport.engine import LITTLE
from spnhub.transport.native_engine import why_not
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import REAL, each, new_native
from tests.support.transfer import Transfer

_BLOCK: Final = bytes(64 * 1024)

only_native = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine in turn."""
    made: Kit = request.param()
    return made


@pytest.mark.parametrize("size", [1, LITTLE])
def test_what_is_little_goes_first(kit: Kit, size: int) -> None:
    """Of what waits on twenty streams before it, only the packet that it fills up comes with it."""
    pair = EnginePair(kit).connect()
    bulk = [pair.open() for _ in range(20)]
    small = pair.open()
    pair.network.rate = 1e6  # one packet after the other
    server, connection_id = pair.server.engine, pair.server.connection_id
    server.cork(connection_id)
    for stream_id in bulk:
        assert server.write(connection_id, stream_id, bytes(16_384)) == 16_384
    assert server.write(connection_id, small, bytes(size)) == size
    server.release(connection_id)
    got = 0

    def arrived() -> bool:
        nonlocal got
        answer = pair.client.engine.read(pair.client.connection_id, small, size)
        got += len(answer[0]) if answer else 0
        return got == size

    pair.run_until(arrived)
    info = pair.client.engine.info(pair.client.connection_id)
    assert info is not None
    assert info.buffered <= 1200


def test_what_is_much_is_not_forgotten(kit: Kit) -> None:
    """A stream that has little again and again, faster than it can be sent, lets another one through in the end."""
    pair = EnginePair(kit).connect()
    bulk, small = pair.open(), pair.open()
    server, connection_id = pair.server.engine, pair.server.connection_id
    taken = 0
    while taken < 256 * 1024:
        taken += server.write(connection_id, bulk, _BLOCK[: 256 * 1024 - taken])
        server.write(connection_id, small, bytes(64))
        pair.run_for(0.001)
        pair.read_all(pair.client, bulk, 4096)
        pair.client.engine.read(pair.client.connection_id, small, LITTLE)


@only_native
@pytest.mark.parametrize("round_trip", [0.0002, 0.002])
def test_an_echo_beside_a_transfer_on_a_short_path(round_trip: float) -> None:
    """A receiver that takes 100 MB/s, and holds 4 MB that wait for it: without a bound they are always there, 2 MiB and
    20 ms of them, since nothing gets lost."""
    transfer = Transfer(new_native(), round_trip=round_trip, rate=100e6, buffer=4e6)
    transfer.run(0.2)
    assert transfer.run(0.3) > 90e6
    assert statistics.median(transfer.times) < round_trip + 0.002
    assert max(transfer.times) < round_trip + 0.003


@only_native
def test_a_path_that_becomes_longer() -> None:
    """Its bytes in flight are bounded no more: else 128 KiB were on their way to a host 60 ms away."""
    transfer = Transfer(new_native(), round_trip=0.0002, rate=12.5e6, buffer=1e6, echo=False)
    transfer.run(0.3)
    transfer.pair.network.latency = 0.03
    transfer.run(3.0)
    assert transfer.run(1.0) > 11e6


def test_who_has_little_at_a_time_gets_its_share(kit: Kit) -> None:
    """Who never has much waiting, but more as soon as that is through, gets no more than who always has much: what a
    relay has of a transfer may be either, as its source's window and its turns have it."""
    pair = EnginePair(kit).connect()
    much, pieces = [pair.open() for _ in range(6)], [pair.open() for _ in range(2)]
    network, server, client = pair.network, pair.server, pair.client
    network.rate, network.buffer = 1e6, 20e3
    got = dict.fromkeys((*much, *pieces), 0)
    written = dict.fromkeys(pieces, 0)

    def step() -> None:
        for stream_id in much:
            server.engine.write(server.connection_id, stream_id, _BLOCK)
        for stream_id in pieces:
            if written[stream_id] - got[stream_id] <= LITTLE - 512:
                written[stream_id] += server.engine.write(server.connection_id, stream_id, bytes(512))
        pair.run_for(0.001)
        for stream_id in got:
            while (answer := client.engine.read(client.connection_id, stream_id, 1 << 16)) and answer[0]:
                got[stream_id] += len(answer[0])

    for _ in range(500):
        step()
    before = dict(got)
    for _ in range(1000):
        step()
    shares = {stream_id: got[stream_id] - before[stream_id] for stream_id in got}
    assert max(shares[stream_id] for stream_id in pieces) < 1.15 * min(shares[stream_id] for stream_id in much), shares
