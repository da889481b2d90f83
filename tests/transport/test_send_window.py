"""The send window of a connection: what waits for a peer that doesn't read is bounded, whatever credit that gives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from spnhub.transport.engine import SMALL_WRITE, Connected, ConnectionInfo, Limits, Opened, SendWindowLow, Writable
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import REAL, each

KIB = 1024
WINDOW = 64 * KIB
LIMITS = Limits(initial_send_window=WINDOW)
MANY = 32
"""Streams whose own buffers are more than the window together."""


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each real engine in turn."""
    made: Kit = request.param()
    return made


class Site:
    """A server that passes on what one connection of a client sends on many streams to another that reads nothing."""

    def __init__(self, kit: Kit, window: int = WINDOW, streams: int = MANY) -> None:
        self.pair = pair = EnginePair(kit, replace(LIMITS, initial_send_window=window)).connect()
        self.client, self.server = pair.client.engine, pair.server.engine
        self.source_c, self.source = pair.client.connection_id, pair.server.connection_id
        self.sink_c = pair.begin()
        pair.run_until(lambda: len(pair.server.of(Connected)) == 2)
        self.sink = pair.server.of(Connected)[-1].connection_id
        self.left: dict[int, int] = {}
        """What each stream of the source has still to write."""
        self.tokens: dict[int, int] = {}
        """Its splice."""
        self.sinks: dict[int, int] = {}
        """The stream of the sink that it is joined with."""
        for _ in range(streams):
            self.join()

    def join(self) -> int:
        """One more stream; its number at the source."""
        there = self.pair.open()
        here = self.server.open_bidi(self.sink)
        assert here is not None
        # A header is written whatever waits.
        assert self.server.write(self.sink, here, b"h") == 1
        self.tokens[there] = self.server.splice(self.source, there, self.sink, here)
        self.sinks[there] = here
        self.left[there] = 0
        self.pair.run_until(lambda: Opened(self.sink_c, here) in self.pair.client.events)
        assert self.client.read(self.sink_c, here, 1) == (b"h", False)
        return there

    def send(self, size: int, seconds: float = 5.0) -> None:
        """So much more is to be sent on each stream, and time passes."""
        self.left = {stream: left + size for stream, left in self.left.items()}
        for _ in range(round(seconds / 0.05)):
            for stream in self.left:
                self.left[stream] -= self.client.write(self.source_c, stream, bytes(self.left[stream]))
            self.pair.run_for(0.05)

    def read(self, stream: int) -> int:
        """Read what has come for the sink on a stream; how much."""
        size = 0
        while (got := self.client.read(self.sink_c, self.sinks[stream], 65_536)) and got[0]:
            size += len(got[0])
        return size

    def info(self) -> ConnectionInfo:
        """Of the server's connection to the sink."""
        info = self.server.info(self.sink)
        assert info is not None
        return info

    def held(self) -> int:
        """How many bytes wait for the sink."""
        return self.info().unacknowledged

    def passed(self, stream: int) -> int:
        """How many bytes of it have been passed on."""
        found = self.server.splice_progress(self.tokens[stream])
        assert found is not None
        return found[0]

    def low(self) -> int:
        """How often it was told that more would be of use, since the last time."""
        told = self.pair.server.take(SendWindowLow)
        assert {event.connection_id for event in told} <= {self.sink}
        return len(told)


def test_what_waits_is_bounded(kit: Kit) -> None:
    """However many streams there are, and told of once for each size of the window; a larger one is used."""
    site = Site(kit)
    site.send(64 * KIB)
    assert WINDOW // 2 < site.held() <= WINDOW
    assert site.low() == 1
    site.server.set_send_window(site.sink, 4 * WINDOW)
    site.send(0)
    assert 2 * WINDOW < site.held() <= 4 * WINDOW
    assert site.low() == 1


def test_nothing_is_lost_and_all_get_their_turn(kit: Kit) -> None:
    """Who waited for the window goes on as soon as the sink reads, to the last byte."""
    site = Site(kit)
    site.send(64 * KIB)
    got = dict.fromkeys(site.left, 0)
    for _ in range(400):
        for stream in got:
            got[stream] += site.read(stream)
        site.send(0, 0.05)
        if set(got.values()) == {64 * KIB}:
            break
    assert set(got.values()) == {64 * KIB}
    assert (site.held(), set(site.left.values())) == (0, {0})


def test_streams_that_stall_leave_room_for_others(kit: Kit) -> None:
    """None takes more than half of what is left: one that is read goes on beside one that isn't."""
    site = Site(kit, streams=1)
    site.send(1024 * KIB, 2.0)
    read = site.join()
    before = site.left[read]
    assert before == 0
    site.left[read] = 256 * KIB
    got = 0
    for _ in range(200):
        site.send(0, 0.05)
        got += site.read(read)
    assert got == 256 * KIB
    assert site.held() <= WINDOW


@pytest.mark.parametrize("end", ["reset", "stopped", "unspliced"])
def test_what_ends_makes_room(kit: Kit, end: str) -> None:
    """Of streams that are broken off nothing waits any more, and what waited for them goes on."""
    site = Site(kit)
    site.send(64 * KIB)
    waiting = min(site.left, key=site.passed)
    before = site.passed(waiting)
    for stream in list(site.left):
        if stream == waiting:
            continue
        if end == "reset":
            site.client.reset(site.source_c, stream, 7)
        elif end == "stopped":
            site.client.stop(site.sink_c, site.sinks[stream], 7)
        else:
            site.server.unsplice(site.tokens[stream], 7)
        del site.left[stream]
    site.send(0)
    # What a stream's window and buffer hold, and no more.
    assert before + 8 * KIB < site.passed(waiting)
    assert site.held() <= 32 * KIB


def test_small_writes_find_room(kit: Kit) -> None:
    """Headers and control packets of whoever runs the engine aren't what fills it; larger ones wait for room."""
    site = Site(kit)
    site.send(64 * KIB)
    here = site.server.open_bidi(site.sink)
    assert here is not None
    assert site.server.room(site.sink, here) == 0
    site.pair.server.take(Writable)
    assert site.server.write(site.sink, here, bytes(2 * SMALL_WRITE)) == SMALL_WRITE
    site.pair.run_for(0.1)
    assert Writable(site.sink, here) not in site.pair.server.events

    def drain() -> bool:
        for stream in site.left:
            site.read(stream)
        return Writable(site.sink, here) in site.pair.server.events and site.server.room(site.sink, here) > 0

    until(site.pair, drain)


def until(pair: EnginePair, step: Callable[[], bool]) -> None:
    """Let time pass, doing something, until that says True."""
    for _ in range(600):
        if step():
            return
        pair.run_for(0.05)
    raise AssertionError("it never came to that")


def test_without_a_bound_nothing_is_told(kit: Kit) -> None:
    """As at endpoints, whose own program bounds what it writes."""
    site = Site(kit, window=0)
    site.send(64 * KIB)
    assert site.held() > 4 * WINDOW
    assert site.low() == 0
