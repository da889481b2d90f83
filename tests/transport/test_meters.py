"""How many bytes a second pass joined streams, in virtual time, on both engines."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spnhub.transport.engine import Connected, Limits, Opened, Spliced, Throttled
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import REAL, each

RATE = 320_000
"""Bytes a second; four times as many are written of what nothing holds back."""
STEP = 0.01


@pytest.fixture(params=each(REAL))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine that has meters in turn."""
    made: Kit = request.param()
    return made


class Site:
    """A client with two connections to a server that joins streams of the one with streams of the other."""

    def __init__(self, kit: Kit) -> None:
        self.pair = pair = EnginePair(kit).connect()
        self.client, self.server = pair.client.engine, pair.server.engine
        self.ca, self.a = pair.client.connection_id, pair.server.connection_id
        self.cb = pair.begin()
        pair.run_until(lambda: len(pair.server.of(Connected)) == 2)
        self.b = pair.server.of(Connected)[-1].connection_id
        self.passed: dict[int, int] = {}
        """Bytes that have come to the reader, by splice."""
        self.goes_on: list[Callable[[], None]] = []
        self.written: dict[int, int] = {}

    def join(self, *meters: int, back: bool = False) -> int:
        """Streams with these meters; whoever writes never stops (``back``: against the way that they were opened)."""
        source = self.pair.open()
        sink = self.server.open_bidi(self.b)
        assert sink is not None
        self.server.write(self.b, sink, b"h")
        token = self.server.splice(self.a, source, self.b, sink, meters=meters)
        self.pair.run_until(lambda: Opened(self.cb, sink) in self.pair.client.events)
        assert self.client.read(self.cb, sink, 1) == (b"h", False)
        here, there = ((self.cb, sink), (self.ca, source)) if back else ((self.ca, source), (self.cb, sink))
        self.passed[token] = self.written[token] = 0

        def go_on() -> None:
            self.written[token] += self.client.write(*here, bytes(round(4 * RATE * STEP)))
            while (got := self.client.read(*there, 65_536)) and got[0]:
                self.passed[token] += len(got[0])

        self.goes_on.append(go_on)
        return token

    def run(self, seconds: float) -> dict[int, int]:
        """Let them write and read; how many bytes of each have come meanwhile."""
        before = dict(self.passed)
        for _ in range(round(seconds / STEP)):
            for go_on in self.goes_on:
                go_on()
            self.pair.run_for(STEP)
        return {token: count - before.get(token, 0) for token, count in self.passed.items()}

    def waits(self) -> dict[int, int]:
        """How often something waited, by meter."""
        told: dict[int, int] = {}
        for event in self.pair.server.take(Throttled):
            told[event.meter] = told.get(event.meter, 0) + event.count
        return told


def test_as_many_bytes_as_the_rate(kit: Kit) -> None:
    """Within 5 % over each second, and who has no meter that is there isn't held back."""
    site = Site(kit)
    site.server.set_meters({7: RATE})
    metered, other = site.join(7), site.join(8)
    site.run(0.5)
    for _ in range(2):
        passed = site.run(1.0)
        assert passed[metered] == pytest.approx(RATE, rel=0.05)
        assert passed[other] > 2 * RATE
    assert set(site.waits()) == {7}


def test_both_ways_count_together(kit: Kit) -> None:
    """And several splices take turns, whoever began first."""
    site = Site(kit)
    site.server.set_meters({7: RATE})
    tokens = [site.join(7)]
    site.run(0.3)
    tokens += [site.join(7), site.join(7, back=True)]
    site.run(0.3)
    passed = site.run(1.0)
    assert sum(passed.values()) == pytest.approx(RATE, rel=0.05)
    assert [passed[token] for token in tokens] == pytest.approx([RATE / 3] * 3, rel=0.2)


def test_a_realm_and_its_service(kit: Kit) -> None:
    """The one that has less holds back; what it leaves of the other goes to others."""
    site = Site(kit)
    site.server.set_meters({1: RATE, 2: RATE // 4})
    both, realm = site.join(1, 2), site.join(1)
    site.run(0.5)
    passed = site.run(1.0)
    assert passed[both] == pytest.approx(RATE / 4, rel=0.05)
    assert passed[both] + passed[realm] == pytest.approx(RATE, rel=0.05)


def test_rates_that_are_changed(kit: Kit) -> None:
    """Of what is joined already; without a rate it passes on as it comes."""
    site = Site(kit)
    token = site.join(7)
    assert site.run(0.5)[token] > RATE
    site.server.set_meters({7: RATE // 2})
    site.run(0.5)
    assert site.run(1.0)[token] == pytest.approx(RATE // 2, rel=0.05)
    site.server.set_meters({7: RATE})
    site.run(0.2)
    assert site.run(1.0)[token] == pytest.approx(RATE, rel=0.05)
    site.server.set_meters({})
    site.waits()
    site.run(0.2)
    assert site.run(1.0)[token] > 2 * RATE
    assert site.waits() == {}


def test_who_waits_is_held_back_by_credit(kit: Kit) -> None:
    """What the writer got rid of is what has passed, and a window that little was read of."""
    site = Site(kit)
    site.server.set_meters({7: 20_000})
    token = site.join(7)
    site.run(2.0)
    limits = Limits()
    assert site.passed[token] <= 1.05 * 40_000 + 2_400
    assert site.written[token] - site.passed[token] <= 2 * limits.stream_window + 3 * limits.send_buffer
    info = site.server.info(site.a)
    assert info is not None
    assert info.buffered <= 2 * limits.stream_window


def test_ends_pass_a_meter(kit: Kit) -> None:
    """A FIN after all bytes; a reset at once; and nothing of what has ended waits any more."""
    site = Site(kit)
    site.server.set_meters({7: 50_000})
    source = site.pair.open()
    sink = site.server.open_bidi(site.b)
    assert sink is not None
    site.server.splice(site.a, source, site.b, sink, meters=(7,))
    data = bytes(range(250)) * 60
    assert site.client.write(site.ca, source, data) == len(data)
    site.client.finish(site.ca, source)
    site.client.finish(site.cb, sink)
    got, fin = b"", False
    while not fin:
        site.pair.run_for(0.02)
        while (read := site.client.read(site.cb, sink, 65_536)) and (read[0] or read[1]):
            got, fin = got + read[0], read[1]
    assert got == data
    token = site.join(7)
    site.run(0.5)
    site.server.unsplice(token, 20)
    site.pair.run_for(2.0)
    assert {event.token for event in site.pair.server.of(Spliced)} >= {token}
    site.waits()
    site.pair.run_for(2.0)
    assert site.waits() == {}
    assert site.server.timer() is None or site.server.timer() > site.pair.clock.now()  # type: ignore[operator]
