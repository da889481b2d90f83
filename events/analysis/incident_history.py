"""Incidents as they were known at any moment, and the events that it takes to know them: a small part of a log.

Counterparts: :mod:`spnhub.events.analysis.incidents` (the fold), :mod:`spnhub.console` (which shows them).
"""

from __future__ import annotations

import bisect
import copy
from collections import OrderedDict
from typing import Final

from spnhub.events.analysis.incidents import KEPT, Incident, Incidents
from spnhub.events.analysis.log_lines import failed
from spnhub.events.model import (
    SNAPSHOT_CLASSES,
    ConnectionEnded,
    ConnectionFinished,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionRefused,
    ConnectionStarted,
    Event,
    HubAlive,
    HubStarted,
    HubStopped,
    Recorded,
    ServiceRemoved,
    Unknown,
    WeightChanged,
)

__all__ = ["Concerning", "IncidentHistory"]

_VERSIONS: Final = 64
"""Of one incident that are kept; of more, every second goes."""
_GAPS: Final = 1_000
"""Times without heartbeats that are kept."""

_NEVER: Final = frozenset({*SNAPSHOT_CLASSES, ConnectionFinished, ConnectionProgress, Unknown, WeightChanged})


class Concerning:
    """Which events of one log concern incidents: the fold of these alone has the same result.

    Of the connections that go well only the first of each service after a refusal counts: it says that one is over.
    """

    def __init__(self) -> None:
        self._served: set[str] = set()

    def takes(self, event: Event) -> bool:
        """Whether the next event concerns incidents."""
        if isinstance(event, ConnectionStarted):
            if event.service_urn in self._served:
                return False
            self._served.add(event.service_urn)
            return True
        if type(event) in _NEVER:
            return False
        if isinstance(event, ConnectionEnded):
            return failed(event)
        if isinstance(event, ConnectionPaused):
            return not event.planned
        if isinstance(event, ConnectionRefused | ServiceRemoved):
            self._served.discard(event.service_urn)
        return True


class IncidentHistory:
    """The fold, and what it said before. Memory is bounded as the fold's is, times :data:`_VERSIONS`."""

    def __init__(self) -> None:
        self._fold = Incidents()
        self._fold.on_change = self._on_change
        self._fold.on_drop = self._on_drop
        self._changed: dict[int, Incident] = {}
        self._versions: OrderedDict[int, tuple[Incident, list[tuple[int, Incident]]]] = OrderedDict()
        """By the incident's identity: itself, and copies with the moment from which on it was so."""
        self._last = 0
        self._heard: dict[str, tuple[int, int]] = {}
        self._gaps: list[tuple[str, int, int, int]] = []
        """Hub, its last heartbeat, when its silence could be seen, and when it was over."""

    @property
    def last(self) -> int:
        """The latest time of an event that was taken in, microseconds since 1970."""
        return self._last

    def take(self, recorded: Recorded) -> None:
        """Take in the next event."""
        self._fold.take(recorded)
        # Logs of several hubs are in order of time but for their clocks' differences.
        self._last = max(self._last, recorded.timestamp)
        self._note(recorded)
        for key, incident in self._changed.items():
            if key not in self._versions:
                self._versions[key] = incident, []
                if len(self._versions) > KEPT:
                    self._versions.popitem(last=False)
            versions = self._versions[key][1]
            versions.append((self._last, _copied(incident)))
            if len(versions) > _VERSIONS:
                # The first says since when, the last what became of it.
                del versions[1:-1:2]
        self._changed.clear()

    def at(self, time: int) -> list[Incident]:
        """What was known at a moment (microseconds since 1970), in the order of their beginning."""
        if time >= self._last:
            return self._fold.finish(time)
        found = []
        for _, versions in self._versions.values():
            place = bisect.bisect_right(versions, time, key=lambda version: version[0])
            if place:
                found.append(versions[place - 1][1])
        for hub, last, seen, until in self._gaps:
            if seen < time < until:
                found.append(
                    Incident("hub is silent", hub, None, None, "", "no heartbeat is in its log", last, last, [hub], 1)
                )
        return sorted(found, key=lambda one: one.since)

    def _on_change(self, incident: Incident) -> None:
        self._changed[id(incident)] = incident

    def _on_drop(self, incident: Incident) -> None:
        self._changed.pop(id(incident), None)
        self._versions.pop(id(incident), None)

    def _note(self, recorded: Recorded) -> None:
        event, hub = recorded.event, recorded.hub_id
        if not isinstance(event, HubStarted | HubAlive | HubStopped):
            return
        last, interval = self._heard.get(hub, (0, 0))
        seen = last + 3 * interval
        if interval and recorded.timestamp > seen:
            self._gaps.append((hub, last, seen, recorded.timestamp))
            del self._gaps[:-_GAPS]
        if isinstance(event, HubStopped):
            self._heard.pop(hub, None)
        else:
            alive = isinstance(event, HubAlive) and last
            self._heard[hub] = recorded.timestamp, recorded.timestamp - last if alive else 0


def _copied(incident: Incident) -> Incident:
    made = copy.copy(incident)
    made.hubs, made.uids = list(incident.hubs), list(incident.uids)
    return made
