"""What is open and defined, as events: the head of a segment, so that older segments can go (D-8).

A snapshot is written in slices, among other events. Each record describes its object at its own place in the log, so
that a reader that folds from SnapshotStarted to SnapshotEnded has the same state as a reader of the whole log.
Counterpart: :class:`spnhub.events.state.hub_state.HubState` folds these events,
:class:`spnhub.events.journal.journal.Journal` writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from spnhub.events.model import ConnectionSnapshot, Event, SessionSnapshot, SnapshotEnded, shared
from spnhub.events.state.hub_state import HubState

__all__ = ["snapshot"]


def snapshot(state: HubState) -> Iterator[Event]:
    """The events of a snapshot, the first and the last included, each made from ``state`` when it is asked for.

    Each must be recorded and folded into ``state`` before the next is asked for; other events may come in between.
    What begins after the first isn't in the snapshot: its own event is in the log after it. Only names are kept
    meanwhile.
    """
    yield state.snapshot_head()
    names, sessions, connections = sorted(state.definitions.names()), list(state.sessions), list(state.connections)
    entries = 0
    for name in names:
        if (definition := state.definitions.get(name)) is not None:
            entries += 1
            yield definition
    for session_id in sessions:
        if (session := state.sessions.get(session_id)) is not None:
            entries += 1
            yield SessionSnapshot(**shared(SessionSnapshot, session))
    for key in connections:
        if (leg := state.connections.get(key)) is not None:
            entries += 1
            yield ConnectionSnapshot(**shared(ConnectionSnapshot, leg))
    yield SnapshotEnded(realm=None, network_urn=None, entries=entries)
