"""What is open and defined, as events: the head of a segment, so that older segments can go (D-8).

A snapshot is made in slices, among the events of the day: each record says how things are at its own place in the log,
so that whoever folds from SnapshotStarted to SnapshotEnded holds what who has read everything holds. Counterpart:
:class:`spnhub.events.state.hub_state.HubState` folds these events, :class:`spnhub.events.journal.journal.Journal`
writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from spnhub.events.model import ConnectionSnapshot, Event, SessionSnapshot, SnapshotEnded, shared
from spnhub.events.state.hub_state import HubState

__all__ = ["snapshot"]


def snapshot(state: HubState) -> Iterator[Event]:
    """The events, the first and the last of a snapshot included, each made of ``state`` when it is asked for.

    Each must be recorded and folded into ``state`` before the next is asked for; other events may come in between.
    What begins after the first doesn't come in it: its own event is in the log behind. Only names are held.
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
