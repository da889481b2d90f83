"""What a peer's fragments cost the native engine: what came of them, however they were cut and whatever is missing."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from spnhub.transport.engine import Closed, CloseKind, Connected, Limits
from spnhub.transport.system.memory import give_back, resident
from tests.support.attack import Insider, Site, packed, stream_frame
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import each, new_native

MIB = 1 << 20
STREAMS = Limits().streams


@pytest.fixture(params=each({"native": new_native}))
def kit(request: pytest.FixtureRequest) -> Kit:
    """The engine whose reassembly is quinn's; tests/transport/test_reassembly.py has the other one's."""
    made: Kit = request.param()
    return made


def grown(site: Site, insider: Insider, payloads: Iterator[bytes]) -> int:
    """Bytes of memory that these packets take of the process until one ends the session."""
    give_back()
    before = resident()
    while (batch := list(itertools.islice(payloads, 200))) and not closed(site):
        insider.send(*batch)
    return resident() - before


def closed(site: Site) -> list[Closed]:
    """Ends of sessions."""
    return [event for event in site.events if isinstance(event, Closed)]


def test_a_few_bytes_hold_on_to_no_packet(kit: Kit) -> None:
    """4,096 streams, four packets with one byte for each: 20 MiB if each kept its packet."""
    site = Site(kit)
    insider = Insider(site)
    insider.connect()
    padding = bytes(1150)
    frames = (stream_frame(4 * n, 1 + 2 * k, b"x") + padding for k in range(4) for n in range(STREAMS))
    assert grown(site, insider, frames) < 8 * MIB
    assert not closed(site)


def test_gaps_of_all_streams_together_are_bounded(kit: Kit) -> None:
    """Every other byte of 4,096 streams: 500 for each would cost hundreds of megabytes for two of credit."""
    site = Site(kit)
    neighbour, insider = Insider(site), Insider(site)
    neighbour.connect()
    insider.connect()
    frames = (stream_frame(4 * n, 1 + 2 * k, b"x") for n in range(STREAMS) for k in range(500))
    assert grown(site, insider, iter(packed(itertools.islice(frames, 100_000)))) < 16 * MIB
    (end,) = closed(site)
    assert (end.kind, end.code) == (CloseKind.VIOLATION, 0x0A)
    assert end.reason == "too many gaps in what has come of all streams"
    (first, _) = (event.connection_id for event in site.events if isinstance(event, Connected))
    assert site.engine.info(first) is not None


def test_bytes_in_order_are_no_gaps(kit: Kit) -> None:
    """However small the frames, and though nobody reads them."""
    site = Site(kit)
    insider = Insider(site)
    insider.connect()
    frames = (stream_frame(4 * n, k, b"x") for k in range(40) for n in range(2000))
    assert grown(site, insider, iter(packed(frames))) < 16 * MIB
    assert not closed(site)
    (connection,) = (event.connection_id for event in site.events if isinstance(event, Connected))
    assert site.engine.read(connection, 4 * 1999, 100) == (b"x" * 40, False)


@pytest.mark.parametrize("missing", [400, 1000])
def test_a_window_of_which_every_other_packet_is_lost(kit: Kit, missing: int) -> None:
    """What comes after the losses is kept until they are there, too: more than 1,024 gaps are no attack."""
    site = Site(kit, Limits(stream_window=2 * MIB))
    insider = Insider(site)
    insider.connect()
    (connection,) = (event.connection_id for event in site.events if isinstance(event, Connected))
    size = 1398 - missing
    data = random.Random(1).randbytes(1500 * 1398)
    pieces = [(at, data[at : at + missing]) for at in range(0, len(data), size + missing)]
    rest = [(at + missing, data[at + missing : at + missing + size]) for at, _ in pieces]
    for group in (rest, pieces):
        for batch in range(0, len(group), 100):
            insider.send(*packed(stream_frame(0, offset, piece) for offset, piece in group[batch : batch + 100]))
    got = b""
    while more := (site.engine.read(connection, 0, 1 << 20) or (b"", False))[0]:
        got += more
    assert not closed(site)
    assert got == data


@pytest.mark.parametrize("seed", range(20))
def test_fragments_in_any_order_are_the_bytes_once(kit: Kit, seed: int) -> None:
    """Of any size, again, overlapping; read whenever."""
    chance = random.Random(seed)
    site = Site(kit)
    insider = Insider(site)
    insider.connect()
    (connection,) = (event.connection_id for event in site.events if isinstance(event, Connected))
    data = chance.randbytes(16_000)
    cuts = sorted({0, len(data), *(chance.randrange(len(data)) for _ in range(chance.choice((5, 60, 400, 1500))))})
    pieces = [(a, data[a : min(b + chance.randrange(40), len(data))][:1000]) for a, b in itertools.pairwise(cuts)]
    pieces += [(a, data[a : a + 1000]) for a in range(0, len(data), 1000)]
    chance.shuffle(pieces)
    got = b""
    for batch in range(0, len(pieces), 50):
        insider.send(*packed(stream_frame(0, offset, piece) for offset, piece in pieces[batch : batch + 50]))
        if chance.random() < 0.5:
            got += (site.engine.read(connection, 0, chance.randrange(1, 9000)) or (b"", False))[0]
    while more := (site.engine.read(connection, 0, 1 << 20) or (b"", False))[0]:
        got += more
    assert got == data
    assert not closed(site)


@pytest.mark.parametrize("loss", [0.05, 0.3])
def test_small_writes_over_a_path_that_loses(kit: Kit, loss: float) -> None:
    """A hundred streams that write a few bytes at a time are no attack."""
    pair = EnginePair(kit)
    pair.connect()
    streams = [pair.open() for _ in range(100)]
    pair.network.loss = loss
    for _ in range(40):
        for stream_id in streams:
            pair.client.engine.write(pair.client.connection_id, stream_id, b"0123456789")
        pair.run_for(0.002)
    pair.network.loss = 0.0
    for stream_id in streams:
        got, _ = pair.read_all(pair.server, stream_id, 400)
        assert got == b"0123456789" * 40
