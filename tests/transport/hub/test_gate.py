"""Nothing is visible before it is written, and a journal that stalls stops no traffic for long (D-6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from spnhub.events.model import JournalStalled, Recorded
from spnhub.transport.hub import Gate
from tests.events.samples import NOON, session_refused
from tests.support.memory_journal import MemoryJournal


class Holds:
    """The engine as the gate sees it."""

    def __init__(self) -> None:
        self.held: Counter[int] = Counter()

    def cork(self, connection_id: int) -> None:
        self.held[connection_id] += 1

    def release(self, connection_id: int) -> None:
        self.held[connection_id] -= 1
        if not self.held[connection_id]:
            del self.held[connection_id]


class Bench:
    """A gate over a journal that can be stalled."""

    def __init__(self) -> None:
        self.engine = Holds()
        self.written: list[Recorded] = []
        self.now = 10.0
        self.journal = MemoryJournal("hub-1", on_written=self._on_written)
        self.told: list[str] = []
        self.gate = Gate(
            self.engine,  # type: ignore[arg-type]
            self.journal,
            lambda: NOON,
            bound=0.25,
            on_stalled=self.told.append,
        )

    def _on_written(self, batch: object) -> None:
        self.written.extend(batch)  # type: ignore[arg-type]
        if hasattr(self, "gate"):
            self.gate.written(self.now)

    def turn(self, *gated: int, events: int = 1) -> None:
        for _ in range(events):
            self.journal.append(session_refused(), NOON)
        self.gate.close_turn(gated, self.now)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """One for each test."""
    yield Bench()


def test_a_written_turn_holds_nobody(bench: Bench) -> None:
    """A journal that writes at once costs no wait."""
    bench.turn(1, 2)
    assert (bench.engine.held, bench.gate.timer(), len(bench.written)) == (Counter(), None, 1)


def test_gated_connections_wait_for_the_write_and_only_they(bench: Bench) -> None:
    """Held until the event that they show is written; a turn without events waits for what came before it."""
    bench.journal.stall()
    bench.turn(1, 2)
    bench.turn(3, events=0)
    assert bench.engine.held == Counter({1: 1, 2: 1, 3: 1})
    assert bench.gate.timer() == 10.25
    bench.now += 0.1
    bench.journal.resume()
    assert (bench.engine.held, bench.gate.timer()) == (Counter(), None)
    assert [type(r.event).__name__ for r in bench.written] == ["SessionRefused"]


def test_holds_of_several_turns_are_released_one_by_one(bench: Bench) -> None:
    """A connection that two turns have gated waits for the second event."""
    bench.journal.stall()
    bench.turn(1)
    bench.turn(1)
    assert bench.engine.held == Counter({1: 2})
    bench.journal.resume()
    assert bench.engine.held == Counter()


def test_a_stalled_journal_lets_go_after_its_bound_and_the_log_says_so(bench: Bench) -> None:
    """Traffic goes on ungated; when the journal is back, an event tells what was visible before it was written."""
    bench.journal.stall()
    bench.turn(1)
    bench.now += 0.25
    bench.turn(2)
    assert bench.engine.held == Counter()
    bench.turn(3)  # ungated at once: it would only wait in vain
    assert bench.engine.held == Counter()
    bench.now += 1.0
    bench.journal.resume()
    stalled = [r.event for r in bench.written if isinstance(r.event, JournalStalled)]
    assert [(e.first_sequence, e.last_sequence, e.stalled_seconds) for e in stalled] == [(1, 3, 1.25)]
    bench.journal.stall()
    bench.turn(4)
    assert bench.engine.held == Counter({4: 1})  # gated again


@pytest.mark.parametrize("gated", [(1,), ()])
@pytest.mark.parametrize("error", ["No space left on device", None])
def test_a_stall_is_told_when_it_begins_and_why(bench: Bench, error: str | None, gated: tuple[int, ...]) -> None:
    """Not only by the event, which a disk that is full can't take: that comes when all is well again."""
    reason = error or "the disk takes nothing"
    bench.journal.stall()
    bench.journal.error = error
    bench.turn(*gated)
    assert (bench.told, bench.gate.stalled) == ([], None)
    bench.now += 0.25
    assert bench.gate.timer() == bench.now
    bench.turn(2)
    bench.turn(3)
    assert (bench.told, bench.gate.stalled) == ([reason], reason)
    bench.journal.error = None
    bench.journal.resume()
    assert bench.gate.stalled is None
    (event,) = [r.event for r in bench.written if isinstance(r.event, JournalStalled)]
    assert event.reason == f"{reason}; traffic went on ungated"
