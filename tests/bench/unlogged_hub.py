"""A hub whose events are kept nowhere: the zero from which the cost of the event log is counted.

``python -m tests.bench.unlogged_hub OPTIONS`` is the hub's command line with everything of the product but its journal:
actors decide and fold as ever, events get their sequence and their log line, and nothing is encoded, written or waited
for. ``--silent`` before the options: not even lines are made. Not for use: no promise of the log holds.
"""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import cast
from uuid import UUID

from spnhub.cli.hub import main
from spnhub.events.journal.journal import EventJournal, Journal
from spnhub.events.model import Event, Recorded
from spnhub.events.state.hub_state import HubState
from spnhub.hub_process import main as hub_main
from spnhub.hub_process.process import HubProcess

SILENT = "--silent"


class NoJournal:
    """What a hub needs of a journal, without one.

    :param on_written: told of each batch in the next turn of the loop; None: nobody is.
    """

    lost = 0
    pending = 0
    error = sync_error = None
    is_dead = False

    def __init__(self, hub_id: str, on_written: Callable[[Iterable[Recorded]], None] | None) -> None:
        self.hub_id = hub_id
        self.journal_id = UUID(int=1)
        self.state = HubState()
        self.appended = 0
        self.logged: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        self._batch: list[Recorded] = []
        self._on_written = on_written

    @property
    def written(self) -> int:
        """Everything, always: nothing waits."""
        return self.appended

    def append(self, event: Event, timestamp: int) -> Recorded:
        """Give an event its number."""
        self.appended += 1
        recorded = Recorded(self.hub_id, self.journal_id, self.appended, timestamp, event)
        self.state.take(recorded)
        if self._on_written is not None:
            self._batch.append(recorded)
        return recorded

    def commit(self) -> int:
        """The end of a batch."""
        if self._on_written is not None and self._batch:
            batch, self._batch = self._batch, []
            asyncio.get_running_loop().call_soon(self._on_written, batch)
        return self.appended

    def flush(self, timeout: float) -> bool:
        """Nothing to do."""
        return True

    def close(self, timeout: float = 5.0) -> bool:
        """Nothing to do."""
        return True


class UnloggedHub(HubProcess):
    """A hub process with :class:`NoJournal`."""

    silent = False

    def _open_journal(self, memory_limit: int) -> Journal:
        self.settings.journal.mkdir(parents=True, exist_ok=True)
        none: EventJournal = NoJournal(self.settings.hub_id, None if self.silent else self._printer.add)
        self._journal = cast("Journal", none)
        return self._journal


if __name__ == "__main__":
    if SILENT in sys.argv:
        sys.argv.remove(SILENT)
        UnloggedHub.silent = True
    setattr(hub_main, "HubProcess", UnloggedHub)  # noqa: B010 - its own name there is no export
    main()
