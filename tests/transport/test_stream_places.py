"""How many streams a peer may open again for those that are over: as many as it can use, and with aioquic no flood."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spnhub.transport.aioquic_engine.streams import PLACES_AT_ONCE, PLACES_RATE
from spnhub.transport.engine import Available, Limits, Opened, Stopped
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import REAL, each, new_aioquic

STREAMS = 256


class Hasty:
    """A client that opens what it may, and gives it up at once; a server that wants nothing of it."""

    def __init__(self, kit: Kit) -> None:
        self.pair = EnginePair(kit, server_limits=Limits(streams=STREAMS)).connect()
        self.opened = 0

    def open_all(self) -> None:
        """Until the server allows no more at this moment."""
        client, connection_id = self.pair.client.engine, self.pair.client.connection_id
        while (stream_id := client.open_bidi(connection_id)) is not None:
            client.write(connection_id, stream_id, b"x")
            client.reset(connection_id, stream_id, 40)
            client.stop(connection_id, stream_id, 40)
            self.opened += 1

    def give_up(self) -> None:
        """The server, too."""
        server = self.pair.server
        for event in server.take(Opened):
            server.engine.reset(event.connection_id, event.stream_id, 40)
            server.engine.stop(event.connection_id, event.stream_id, 40)
        server.take(Stopped)

    def rush(self, seconds: float) -> int:
        """How many it has opened in this time."""
        before, pair = self.opened, self.pair
        for _ in range(round(seconds / 0.01)):
            self.open_all()
            pair.run_for(0.01)
            self.give_up()
        return self.opened - before


def test_places_come_back_at_a_rate() -> None:
    """To whom gives up all that it opens; to the last one, though nothing more comes that would ask for them."""
    hasty = Hasty(new_aioquic())
    first = hasty.rush(1.0)
    assert PLACES_AT_ONCE < first <= STREAMS + PLACES_AT_ONCE + PLACES_RATE
    second = hasty.rush(1.0)
    assert PLACES_RATE * 0.8 <= second <= PLACES_RATE * 1.1 + STREAMS / 8
    hasty.pair.run_for(5.0)
    before = hasty.opened
    hasty.open_all()
    assert hasty.opened - before >= STREAMS * 7 // 8  # the last eighth isn't worth a frame


def test_a_usual_rate_is_not_bounded() -> None:
    """Who opens fewer gets each place back at once."""
    pair = EnginePair(new_aioquic(), server_limits=Limits(streams=4)).connect()
    began = pair.clock.now()
    for _ in range(200):
        stream_id = pair.open()
        for side in (pair.client, pair.server):
            side.engine.reset(side.connection_id, stream_id, 40)
            side.engine.stop(side.connection_id, stream_id, 40)
        pair.run_for(0.005)
    assert pair.clock.now() - began < 5.0


@pytest.mark.parametrize("kit", each(REAL))
def test_all_end_at_once(kit: Callable[[], Kit]) -> None:
    """The places come back then, too, and not only with the next packet that is sent for another reason."""
    hasty = Hasty(kit())
    pair = hasty.pair
    pair.client.take(Available)
    hasty.open_all()
    pair.run_until(lambda: len(pair.server.of(Opened)) == STREAMS)
    hasty.give_up()
    pair.run_until(lambda: bool(pair.client.of(Available)), limit=1.0)
    hasty.open_all()
    assert hasty.opened == 2 * STREAMS
