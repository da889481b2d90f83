"""A journal without files, for simulations and tests. Counterpart: :class:`spnhub.events.journal.journal.Journal`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final
from uuid import UUID

from spnhub.events import model
from spnhub.events.model import Event, Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["MEMORY_JOURNAL_ID", "MemoryJournal"]

MEMORY_JOURNAL_ID: Final = UUID(int=1)
"""The same in every run, so that simulations are repeatable."""


class MemoryJournal:
    """Writes when it is committed, at once, unless it is stalled. Keeps every event: it is not for long runs.

    :param notify: how ``on_written`` is reached; default: called inside :meth:`commit` and :meth:`resume`.
    """

    def __init__(
        self,
        hub_id: str = "hub",
        journal_id: UUID = MEMORY_JOURNAL_ID,
        *,
        on_written: Callable[[Sequence[Recorded]], None] | None = None,
        notify: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        self.hub_id = hub_id
        self.journal_id = journal_id
        self.state = HubState()
        self.logged: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self.appended = 0
        self.written = 0
        self.error: str | None = None
        """As :attr:`spnhub.events.journal.Journal.error`; set by tests."""
        self.records: list[Recorded] = []
        """What is written."""
        self._on_written = on_written
        self._notify = notify
        self._batch: list[Recorded] = []
        self._waiting: list[tuple[Recorded, ...]] = []
        self._stalled = False

    def append(self, event: Event, timestamp: int) -> Recorded:
        """As :meth:`.Journal.append` of the real one; an event that doesn't fit its schema raises here, too."""
        recorded = Recorded(self.hub_id, self.journal_id, self.appended + 1, timestamp, event)
        size = len(model.encode(recorded))
        self.appended += 1
        self._batch.append(recorded)
        if event.realm is not None:
            logged = self.logged[event.realm]
            logged[0] += 1
            logged[1] += size
        self.state.apply(recorded)
        return recorded

    def commit(self) -> int:
        """As :meth:`spnhub.events.journal.journal.Journal.commit`."""
        if self._batch:
            self._waiting.append(tuple(self._batch))
            self._batch.clear()
        self._write()
        return self.appended

    def stall(self) -> None:
        """From now on nothing is written."""
        self._stalled = True

    def resume(self) -> None:
        """Write what waits, and from now on everything at once."""
        self._stalled = False
        self._write()

    def close(self, timeout: float = 5.0) -> bool:
        """Commit. Whether all is written: it isn't while stalled, however long one waits."""
        self.commit()
        return not self._waiting and self.written == self.appended

    def _write(self) -> None:
        if self._stalled or not self._waiting:
            return
        if self._notify is None:
            self._tell()
        else:
            self._notify(self._tell)

    def _tell(self) -> None:
        if self._stalled:
            return
        while self._waiting:
            entries = self._waiting.pop(0)
            self.records.extend(entries)
            self.written = entries[-1].sequence
            if self._on_written is not None:
                self._on_written(entries)
