"""Connections are paused a few at a time, whoever answers (R-4.8)."""

from __future__ import annotations

from spnhub.actors.contract.inputs import Key
from spnhub.actors.kernel.pauses import Pauses
from spnhub.actors.kernel.timers import Timers


class Clock:
    """Time that stands still until it is moved, and what was paused in it."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers = Timers()
        self.paused: list[Key] = []
        self.absent: set[Key] = set()
        self.pauses = Pauses(16, 0.1, self.timers, lambda: self.now, self._pause)

    def _pause(self, key: Key) -> bool:
        if key in self.absent:
            return False
        self.paused.append(key)
        return True

    def add(self, count: int) -> list[Key]:
        keys = [Key(1, 4 * number) for number in range(count)]
        for key in keys:
            self.pauses.add(key)
        return keys

    def step(self) -> None:
        """To the next timer."""
        due = self.timers.next()
        assert due is not None
        self.now = due
        for action in self.timers.due(self.now):
            action()


def test_the_next_goes_when_one_has_left() -> None:
    """In order; what is on its way is never more than a few."""
    clock = Clock()
    keys = clock.add(100)
    for number, key in enumerate(keys):
        assert clock.paused == keys[: number + 16]
        clock.pauses.gone(key)
    assert clock.paused == keys
    assert len(clock.pauses) == 0
    assert clock.timers.next() is None


def test_the_silent_hold_up_nobody() -> None:
    """Nobody answers: all are asked within 64 times the patience, so more than a few at a time if there are many."""
    clock = Clock()
    keys = clock.add(10_000)
    rounds = 0
    while len(clock.pauses):
        before = len(clock.paused)
        clock.step()
        assert 16 <= len(clock.paused) - before <= 157 or not len(clock.pauses)
        rounds += 1
    assert clock.paused == keys
    assert rounds <= 64
    assert clock.now - 100 < 6.5
    assert clock.timers.next() is None
    for key in keys:
        clock.pauses.gone(key)


def test_what_has_ended_takes_no_turn() -> None:
    """Meanwhile, by itself."""
    clock = Clock()
    clock.absent = {Key(1, 4 * number) for number in range(1, 50)}
    keys = clock.add(60)
    assert clock.paused == [keys[0], *keys[50:]]


def test_a_stop_that_is_not_resumable_clears_it() -> None:
    """Nothing is paused any more, and no timer is left."""
    clock = Clock()
    keys = clock.add(30)
    clock.pauses.clear()
    assert clock.timers.next() is None
    for key in keys:
        clock.pauses.gone(key)
    assert clock.paused == keys[:16]
    more = clock.add(20)
    assert clock.paused[16:] == more[:16]
