"""State tables and what walks along them: (state, what happened) leads to the next state; what isn't there is illegal.

Entries marked ``OURS`` fill what the specification's diagrams (R-2.6, R-4.11) are silent about (D-21); all others are
the diagrams, arrow by arrow.
Counterparts: :mod:`spnhub.transport.endpoint.session.states`, :mod:`spnhub.transport.endpoint.connection.states`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from spnhub.transport.errors import LocalProtocolError

__all__ = ["OURS", "Arrow", "Machine"]

S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)


class Arrow(NamedTuple, Generic[S]):
    """Where an event leads, and whether we added it (D-21)."""

    to: S
    ours: bool = False


OURS: Final = True


class Machine(Generic[S, E]):
    """Where something is in its table."""

    def __init__(self, table: Mapping[tuple[S, E], Arrow[S]], start: S) -> None:
        self._table = table
        self.state = start

    def fire(self, event: E) -> S:
        """Let ``event`` happen; the new state.

        :raises LocalProtocolError: it can't happen in this state, which stays.
        """
        arrow = self._table.get((self.state, event))
        if arrow is None:
            raise LocalProtocolError(f"{event.value!r} can't happen in {self.state.value}")
        self.state = arrow.to
        return arrow.to
