"""The byte counts of open connections, asked for at intervals (D-10): one timer for all, in slices (D-31).

Each connection's actor decides whether there is progress to log (:mod:`spnhub.actors.connection.transitions`). An idle
connection costs a message and a command in each round, and no event.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from spnhub.actors.connection.state import ProgressDue
from spnhub.actors.contract.inputs import Key
from spnhub.actors.kernel.environment import Environment

__all__ = ["ProgressRounds"]


class ProgressRounds:
    """Rounds over all connections of the hub that are open when the round begins."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._left: Iterator[Key] | None = None
        """The connections that are left in this round; None: no round has begun."""

    def go_on(self) -> float:
        """Do the next slice of this round, or the first of a new round; returns seconds until the next call is due."""
        options, directory = self._env.options, self._env.directory
        if self._left is None:
            self._left = iter(tuple(directory.connections))
        keys = tuple(islice(self._left, options.slice_size))
        for key in keys:
            directory.tell_connection(key, ProgressDue())
        if len(keys) == options.slice_size:
            return options.slice_pause
        self._left = None
        return options.progress_interval
