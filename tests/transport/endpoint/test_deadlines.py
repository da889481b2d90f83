"""The endpoint's queue of deadlines."""

from __future__ import annotations

from collections.abc import Callable

from spnhub.transport.endpoint.kernel.deadlines import Deadlines


class _Owner:
    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.then = then
        self.called = 0

    def on_deadline(self) -> None:
        self.called += 1
        self.then()


def _pass_time(deadlines: Deadlines, now: float) -> None:
    for owner in deadlines.due(now):
        owner.on_deadline()


def test_in_order_and_once() -> None:
    """The last time that was set is the one that counts."""
    deadlines, told = Deadlines(), list[str]()
    first, second = _Owner(lambda: told.append("first")), _Owner(lambda: told.append("second"))
    deadlines.set(second, 1.0)
    deadlines.set(first, 3.0)
    deadlines.set(first, 0.5)
    assert deadlines.next() == 0.5
    _pass_time(deadlines, 5.0)
    assert (told, deadlines.next()) == (["first", "second"], None)


def test_what_another_takes_away_is_not_due() -> None:
    """Both have come, as when a process wasn't on the processor for a while: a connection's resume timeout ends the
    search for a session, which was to go on."""
    deadlines = Deadlines()
    search = _Owner()
    connection = _Owner(lambda: deadlines.set(search, None))
    deadlines.set(connection, 1.0)
    deadlines.set(search, 2.0)
    _pass_time(deadlines, 3.0)
    assert (connection.called, search.called, deadlines.next()) == (1, 0, None)


def test_what_is_put_off_comes_then() -> None:
    """It isn't called early, and not twice."""
    deadlines = Deadlines()
    late = _Owner()
    deadlines.set(_Owner(lambda: deadlines.set(late, 9.0)), 1.0)
    deadlines.set(late, 2.0)
    _pass_time(deadlines, 3.0)
    assert (late.called, deadlines.next()) == (0, 9.0)
    _pass_time(deadlines, 9.0)
    assert late.called == 1


def test_who_is_due_again_at_once_waits_for_the_next_turn() -> None:
    """Nobody can keep a turn from its end."""
    deadlines = Deadlines()
    owner = _Owner(lambda: deadlines.set(owner, 1.0))
    deadlines.set(owner, 1.0)
    _pass_time(deadlines, 3.0)
    assert (owner.called, deadlines.next()) == (1, 1.0)


def test_those_behind_a_fault_are_due_still() -> None:
    """One that fails takes nobody's deadline with it."""
    deadlines, rest = Deadlines(), _Owner()

    def fail() -> None:
        raise ValueError

    deadlines.set(_Owner(fail), 1.0)
    deadlines.set(rest, 2.0)
    try:
        _pass_time(deadlines, 3.0)
    except ValueError:
        assert deadlines.next() == 2.0
    _pass_time(deadlines, 3.0)
    assert rest.called == 1
