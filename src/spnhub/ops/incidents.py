"""``/incidents`` of a running hub: what went wrong since its start, kept as events are recorded.

Counterparts: :mod:`spnhub.events.analysis.incidents` (the fold), ``spnlog incidents`` (which shows it).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator

from spnhub.events.analysis.incident_history import Concerning
from spnhub.events.analysis.incidents import Incidents
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.model import Recorded

__all__ = ["HubIncidents"]

_PIECE = 50
"""Incidents made into text between two looks at the loop: about a millisecond."""


class HubIncidents:
    """The fold of a hub's own events."""

    def __init__(self) -> None:
        self._concerning = Concerning()
        self._fold = Incidents()

    def take(self, recorded: Recorded) -> None:
        """Look at the next event; most concern no incident, which costs little."""
        if self._concerning.takes(recorded.event):
            self._fold.take(recorded)

    async def stream(self) -> AsyncIterator[bytes]:
        """As JSON, a piece at a time: an object with ``time``, ``omitted`` and ``incidents``, in order."""
        head = {"time": format_time(time.time_ns() // 1000), "omitted": self._fold.omitted}
        yield json.dumps(head)[:-1].encode() + b', "incidents": ['
        found = self._fold.finish()
        for place in range(0, len(found), _PIECE):
            piece = ", ".join(json.dumps(one.to_json()) for one in found[place : place + _PIECE])
            yield (", " if place else "").encode() + piece.encode()
            await asyncio.sleep(0)
        yield b"]}\n"
