"""Datagrams with many frames: whose they are waits behind its own, and nobody else; aioquic's engine."""

from __future__ import annotations

from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.aioquic_engine.connection import USUAL_FRAMES
from spnhub.transport.aioquic_engine.laggards import WAITING
from spnhub.transport.engine import Connected, DatagramsDropped, Readable, Stopped
from tests.support.aioquic_inside import connection_of, sealed
from tests.support.attack import stream_frame
from tests.support.engine_pair import EnginePair
from tests.support.engines import new_aioquic

PINGS = bytes([1]) * 1_000
STOPS = b"\x05\x00\x05" * 300


class Stage:
    """Two clients of one server."""

    def __init__(self) -> None:
        self.pair = pair = EnginePair(new_aioquic()).connect()
        self.stream_id = pair.open()
        self.hostile = pair.client.connection_id
        self.victim = pair.server.connection_id
        self.other = pair.begin()
        pair.run_until(lambda: len(pair.server.of(Connected)) == 2)
        pair.run_for(1.0)
        pair.server.events.clear()
        assert isinstance(pair.server.engine, AioquicEngine)
        self.engine = pair.server.engine
        self.handle = self.engine.handles[self.victim]
        self.bystander = next(one for number, one in self.engine.handles.items() if number != self.victim)

    def flood(self, payload: bytes, count: int) -> None:
        """As if it had come in one go."""
        client = connection_of(self.pair.client.engine, self.hostile)
        for _ in range(count):
            self.engine.receive(sealed(client, payload), self.handle.address, 0, self.pair.clock.now())

    def speak(self) -> None:
        """The bystander."""
        client = connection_of(self.pair.client.engine, self.other)
        self.engine.receive(
            sealed(client, stream_frame(0, 0, b"hello")), self.bystander.address, 0, self.pair.clock.now()
        )

    @property
    def taken(self) -> int:
        """Packets of the flood that were looked into in this batch."""
        return self.handle.quic.extra_frames // (len(PINGS) - USUAL_FRAMES)

    @property
    def waiting(self) -> int:
        """Datagrams."""
        return self.engine.counts()["late"]


def test_a_bystander_does_not_wait_for_frames_of_others() -> None:
    """Of 100,000 that came before its bytes, a thousand or two were looked into; the others follow, a few in a turn."""
    stage = Stage()
    stage.flood(PINGS, 100)
    stage.speak()
    assert stage.taken == 1
    assert Readable(stage.bystander.connection_id, 0) in stage.engine.events()
    while stage.waiting:
        now = stage.pair.clock.now()
        assert stage.engine.timer() == now
        before = stage.waiting
        stage.engine.handle_timer(now)
        assert before - stage.waiting == stage.taken == 1
        stage.engine.events()
    assert not stage.handle.closing


def test_what_finds_no_place_is_lost_and_told() -> None:
    """As in a full socket."""
    stage = Stage()
    stage.flood(PINGS, WAITING + 51)
    assert stage.waiting == WAITING
    assert DatagramsDropped(WAITING, 50) in stage.engine.events()


def test_who_is_usual_again_waits_no_more() -> None:
    """A second later its datagrams are looked into as they come."""
    stage = Stage()
    stage.flood(PINGS, 10)
    stage.pair.run_for(2.0)
    assert not stage.waiting
    stage.flood(PINGS, 1)
    assert (stage.taken, stage.waiting) == (1, 0)


def test_a_connection_that_ends_leaves_nothing_behind() -> None:
    """Nor does one that ends while its datagrams wait."""
    stage = Stage()
    stage.flood(PINGS, 50)
    stage.engine.close(stage.victim, 0, "bye")
    stage.pair.run_for(20.0)
    assert not stage.waiting
    assert stage.victim not in stage.engine.handles


def test_a_repeated_stop_is_no_second_event() -> None:
    """Nor 300 in a packet."""
    stage = Stage()
    stage.flood(STOPS, 2)
    stage.pair.run_for(0.5)
    events = [one for one in stage.pair.server.events if isinstance(one, Stopped)]
    assert events == [Stopped(stage.victim, 0, 5)]
