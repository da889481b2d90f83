"""The bytes of open connections, asked for at intervals (D-10): one timer for all of them, a slice at a moment (D-31).

Each connection's actor decides whether there is anything to tell (:mod:`spnhub.actors.connection.transitions`); an idle
one costs a message and a command in each round, and no event.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from spnhub.actors.connection.state import ProgressDue
from spnhub.actors.contract.inputs import Key
from spnhub.actors.kernel.environment import Environment

__all__ = ["ProgressRounds"]


class ProgressRounds:
    """One process's rounds over the connections that are open when a round begins."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._left: Iterator[Key] | None = None
        """Of the round that is under way."""

    def go_on(self) -> float:
        """The next slice of this round, or the first of a new one. Seconds until the next call is due."""
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
