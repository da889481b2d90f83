"""Lines that repeat themselves are joined and spaced out, and none is forgotten."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from spnhub.transport.repeats import FIRST, KINDS, LONGEST, Repeats


class Clock:
    """Virtual time."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Timer]] = []
        self._number = itertools.count()

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        heapq.heappush(self._due, (self.now + delay, next(self._number), timer))
        return timer

    def advance(self, seconds: float) -> None:
        end = self.now + seconds
        while self._due and self._due[0][0] <= end:
            self.now, _, timer = heapq.heappop(self._due)
            if not timer.cancelled:
                timer.call()
        self.now = end

    @property
    def waiting(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self._due)


class Timer:
    def __init__(self, call: Callable[[], None]) -> None:
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Lines:
    """What was logged, when, and for how many."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.repeats = Repeats(self.clock.call_later)
        self.said: list[tuple[float, Any, int]] = []

    def say(self, kind: object, what: Any = "") -> None:
        self.repeats.say(kind, lambda count: self.said.append((self.clock.now, what, count)))


def test_a_storm_is_a_few_lines_that_count_all() -> None:
    """Ten a second for ten minutes: the first at once, then ever fewer, and the counts add up."""
    lines = Lines()
    for number in range(6000):
        lines.say("dead", number)
        lines.clock.advance(0.1)
    lines.repeats.close()
    assert lines.said[0] == (0.0, 0, 1)
    assert [round(moment) for moment, _, _ in lines.said[1:-1]] == [10, 30, 70, 150, 310]
    assert sum(count for _, _, count in lines.said) == 6000
    assert lines.said[-1][1] == 5999
    assert lines.clock.waiting == 0


def test_a_few_at_once_are_all_told_without_another() -> None:
    """Nothing has to come later for the count to be told."""
    lines = Lines()
    for number in range(100):
        lines.say("dead", number)
    lines.clock.advance(FIRST)
    assert lines.said == [(0.0, 0, 1), (FIRST, 99, 99)]


def test_retries_that_are_far_apart_are_spaced_out_too() -> None:
    """One every 11 seconds for an hour isn't 327 lines."""
    lines = Lines()
    for _ in range(327):
        lines.say("away")
        lines.clock.advance(11)
    lines.repeats.close()
    assert len(lines.said) <= 20
    assert sum(count for _, _, count in lines.said) == 327


def test_what_is_over_is_news_when_it_comes_back() -> None:
    """After forget, or after a long time, the next line comes at once; meanwhile other kinds are told apart."""
    lines = Lines()
    lines.say("a")
    lines.say("a")
    lines.say("b")
    lines.repeats.forget("a".__eq__)
    lines.say("a")
    assert [count for _, _, count in lines.said] == [1, 1, 1, 1]
    lines.clock.advance(FIRST + LONGEST)
    assert lines.clock.waiting == 0
    lines.say("b")
    lines.repeats.forget("never heard of".__eq__)
    assert len(lines.said) == 5


def test_kinds_are_bounded() -> None:
    """Whoever can make up kinds can't fill the memory, nor the log."""
    lines = Lines()
    for number in range(10 * KINDS):
        lines.say(number)
    assert len(lines.said) == KINDS + 1
    lines.repeats.close()
    assert sum(count for _, _, count in lines.said) == 10 * KINDS
