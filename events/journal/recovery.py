"""The end of what a crash left open, when the journal is opened again.

Counterparts: :mod:`spnhub.events.journal.journal`; :mod:`spnhub.hub_process.process` calls it before anything else is
recorded.
"""

from __future__ import annotations

from spnhub.events.journal.journal import EventJournal
from spnhub.events.model import (
    ConnectionEnded,
    DisconnectReason,
    EndPointEvent,
    Event,
    LegStartEvent,
    Recorded,
    SessionEnded,
    TerminateReason,
    shared,
)

__all__ = ["recover"]


def recover(journal: EventJournal) -> list[Recorded]:
    """End what a crash left open: connections first, then sessions, each with ``error`` and marked as recovered.

    Connections are suspended: their endpoints may go on with them elsewhere.

    Their time is that of the last event in the log, their bytes what the log knows: both lower bounds. Commits.
    """
    state = journal.state
    moment = state.last_timestamp
    ended: list[Recorded] = []
    for leg in list(state.connections.values()):
        event: Event = ConnectionEnded(
            **shared(LegStartEvent, leg),
            total_sent_bytes=leg.total_sent_bytes,
            total_receive_bytes=leg.total_receive_bytes,
            elapsed_time=leg.elapsed(moment),
            disconnect_reason=DisconnectReason.ERROR,
            reason="the hub died",
            suspended=True,
            recovered=True,
        )
        ended.append(journal.append(event, moment))
    for session in list(state.sessions.values()):
        event = SessionEnded(
            **shared(EndPointEvent, session),
            total_connection_count=session.total_connection_count,
            elapsed_time=session.elapsed(moment),
            terminate_reason=TerminateReason.ERROR,
            reason="the hub died",
            recovered=True,
        )
        ended.append(journal.append(event, moment))
    journal.commit()
    return ended
