"""The receive window of a connection: it begins small, and whoever runs the engine hears when more would be of use."""

from __future__ import annotations

import pytest

from spnhub.transport.engine import Connected, Limits, WindowLow
from tests.support.attack import Insider, Site, packed, stream_frame
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import REAL, each

KIB = 1024
LIMITS = Limits(initial_window=64 * KIB)


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


def connected(site: Site) -> int:
    """The one connection."""
    (found,) = (event.connection_id for event in site.events if isinstance(event, Connected))
    return found


def low(site: Site) -> int:
    """How often it was told."""
    return sum(isinstance(event, WindowLow) for event in site.events)


def fill(insider: Insider, streams: range) -> None:
    """The whole window of each of these streams, in order."""
    for number in streams:
        pieces = (stream_frame(4 * number, offset, bytes(KIB)) for offset in range(0, 16 * KIB, KIB))
        insider.send(*packed(pieces))


def test_who_reads_nothing_is_told_of_once_for_each_window(kit: Kit) -> None:
    """Half of it waits to be read; then half of the next one."""
    site = Site(kit, LIMITS)
    insider = Insider(site)
    insider.connect()
    connection = connected(site)
    fill(insider, range(2))
    assert low(site) == 0
    fill(insider, range(2, 4))
    info = site.engine.info(connection)
    assert info is not None
    assert (low(site), info.window, info.buffered) == (1, 64 * KIB, 64 * KIB)
    site.engine.set_window(connection, 128 * KIB)
    site.step()
    fill(insider, range(4, 8))
    info = site.engine.info(connection)
    assert info is not None
    assert (low(site), info.window, info.buffered) == (2, 128 * KIB, 128 * KIB)


def test_the_largest_window_is_never_too_small(kit: Kit) -> None:
    """Also where it is that from the beginning."""
    site = Site(kit)
    insider = Insider(site)
    insider.connect()
    fill(insider, range(64))
    assert low(site) == 0
    info = site.engine.info(connected(site))
    assert info is not None
    assert info.window == Limits().connection_window


def test_beyond_its_window_a_peer_waits(kit: Kit) -> None:
    """It may have us hold no more, on however many streams; a larger window lets it go on."""
    pair = EnginePair(kit, LIMITS, LIMITS)
    pair.connect()
    streams = [pair.open() for _ in range(10)]
    for stream_id in streams:
        pair.client.engine.write(pair.client.connection_id, stream_id, bytes(16 * KIB))
    pair.client.node.flush()

    def buffered() -> int:
        info = pair.server.engine.info(pair.server.connection_id)
        assert info is not None
        return info.buffered

    pair.run_until(lambda: buffered() > 63 * KIB, 30.0)
    pair.run_for(5.0)
    assert 63 * KIB < buffered() <= 64 * KIB
    pair.server.engine.set_window(pair.server.connection_id, 1024 * KIB)
    pair.server.node.flush()
    pair.run_until(lambda: buffered() > 158 * KIB, 30.0)


def test_a_window_that_shrinks_takes_no_credit_back(kit: Kit) -> None:
    """What the peer may still send counts until it has, and was read."""
    site = Site(kit, LIMITS)
    insider = Insider(site)
    insider.connect()
    connection = connected(site)

    def window() -> int:
        info = site.engine.info(connection)
        assert info is not None
        return info.window

    site.engine.set_window(connection, 256 * KIB)
    site.engine.set_window(connection, 64 * KIB)
    assert window() == 256 * KIB
    for number in range(14):
        fill(insider, range(number, number + 1))
        for _ in range(16):
            site.engine.read(connection, 4 * number, KIB)
    assert window() <= 96 * KIB
