"""``/incidents`` of a running hub: what went wrong since its start, kept as events are recorded.

With what no event can tell, as it must not depend on Kafka and isn't the journal's: that Kafka takes no events.

Counterparts: :mod:`spnhub.events.analysis.incidents` (the fold), ``spnlog incidents`` (which shows it).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Final

from spnhub.events.analysis.incident_history import Concerning
from spnhub.events.analysis.incidents import Incident, Incidents
from spnhub.events.analysis.log_lines import format_time
from spnhub.events.kafka.settings import ShipperStatus
from spnhub.events.model import Recorded

__all__ = ["HubIncidents"]

_PIECE = 50
"""Incidents made into text between two looks at the loop: about a millisecond."""
_NOT_SHIPPED: Final = frozenset({"unreachable", "refused", "held", "unreadable", "died"})
"""States of a shipper in which events, some or all, don't come to Kafka."""
_OUTAGES: Final = 1_000
"""Of the shipper's incidents, so many are kept."""


class HubIncidents:
    """The fold of a hub's own events."""

    def __init__(self) -> None:
        self._concerning = Concerning()
        self._fold = Incidents()
        self._outages: deque[Incident] = deque(maxlen=_OUTAGES)
        self._position = 0
        """The shipper's, when the last outage was told of."""

    def take(self, recorded: Recorded) -> None:
        """Look at the next event; most concern no incident, which costs little."""
        if self._concerning.takes(recorded.event):
            self._fold.take(recorded)

    def take_shipper(self, hub: str, status: ShipperStatus, now: int) -> None:
        """Look at what the shipper says of itself: an outage is one incident, until Kafka takes events again.

        :param now: microseconds since 1970.
        """
        last = self._outages[-1] if self._outages else None
        is_open = last is not None and last.over is None
        if status.state in _NOT_SHIPPED:
            if last is None or not is_open:
                last = Incident("events not shipped", f"the shipper of {hub}", None, None, "", "", now, now, [hub])
                self._outages.append(last)
            last.count += 1
            last.last = now
            last.reason = f"{status.state}: {status.reason}" if status.reason else status.state
            self._position = status.position
        elif last is not None and is_open:
            # "shipped" says that numbers moved, that of the events that wait, too.
            shipped = status.state == "shipped" and status.position > self._position
            if shipped or status.state == "connected":
                last.over, last.recovered = now, f"Kafka takes events; shipped up to {status.position}"

    async def stream(self, *, of_log: bool = True) -> AsyncIterator[bytes]:
        """As JSON, a piece at a time: an object with ``time``, ``omitted`` and ``incidents``, in order.

        :param of_log: those that the log tells of, too.
        """
        head = {"time": format_time(time.time_ns() // 1000), "omitted": self._fold.omitted if of_log else 0}
        yield json.dumps(head)[:-1].encode() + b', "incidents": ['
        found = sorted([*(self._fold.finish() if of_log else ()), *self._outages], key=lambda one: one.since)
        for place in range(0, len(found), _PIECE):
            piece = ", ".join(json.dumps(one.to_json()) for one in found[place : place + _PIECE])
            yield (", " if place else "").encode() + piece.encode()
            await asyncio.sleep(0)
        yield b"]}\n"
