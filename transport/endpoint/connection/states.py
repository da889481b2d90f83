"""The states of a connection at its endpoint, as one table (R-4.11).

Counterpart: :mod:`spnhub.transport.endpoint.connection.transitions`, which decides the way.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from spnhub.transport.endpoint.kernel.state_machine import OURS, Arrow, Machine

__all__ = ["CONNECTION_TABLE", "ConnectionEvent", "ConnectionState", "connection_machine"]


class ConnectionState(enum.Enum):
    """R-4.11. Disconnected is final."""

    LOOKING_UP_SESSION = "LookingUpSession"
    CONNECTING = "Connecting"
    CONNECTED = "Connected"
    DISCONNECTING = "Disconnecting"
    PAUSING = "Pausing"
    PAUSED = "Paused"
    RESUMING = "Resuming"
    DISCONNECTED = "Disconnected"

    passes_bytes: bool
    """Application bytes pass, in the leg that there is."""
    may_pause: bool
    """There is a leg that may end without the connection."""
    waits: bool
    """No byte passes now; it is resumed, or is to be."""

    def __init__(self, _name: str) -> None:
        # Attributes, since these are asked for with each chunk.
        self.passes_bytes = _name in {"Connected", "Disconnecting"}
        self.may_pause = _name in {"Connected", "Disconnecting", "Pausing", "Resuming"}
        self.waits = _name in {"Pausing", "Paused", "Resuming"}


class ConnectionEvent(enum.Enum):
    """What happens to a connection."""

    FOUND_SESSION = "found session"
    ESTABLISHED = "connection established"
    CLOSE_REQUEST_SENT = "service side closed, and Close Request sent"
    CLOSE_REQUEST_RECEIVED = "Close Request received"
    PAUSE_ACK_SENT = "pause requested by the hub, and Pause ACK sent"
    STREAM_CLOSED = "data stream closed by the hub"
    RESUMED = "connection resumed"
    REFUSED = "connection refused"
    ABORTED = "reset, or the session lost"
    LEG_LOST = "session lost or left, or the data stream paused or left by the other side"
    RESUME_REFUSED = "resume refused here, or not answered in time"
    ENDED_ELSEWHERE = "the other end has ended already"
    RESUME_TIMEOUT = "resume timeout"


_C = ConnectionState
_CE = ConnectionEvent

CONNECTION_TABLE: Final[Mapping[tuple[ConnectionState, ConnectionEvent], Arrow[ConnectionState]]] = {
    (_C.LOOKING_UP_SESSION, _CE.FOUND_SESSION): Arrow(_C.CONNECTING),
    (_C.CONNECTING, _CE.ESTABLISHED): Arrow(_C.CONNECTED),
    (_C.CONNECTED, _CE.CLOSE_REQUEST_SENT): Arrow(_C.DISCONNECTING),
    (_C.CONNECTED, _CE.PAUSE_ACK_SENT): Arrow(_C.PAUSING),
    (_C.PAUSING, _CE.STREAM_CLOSED): Arrow(_C.PAUSED),
    (_C.PAUSED, _CE.FOUND_SESSION): Arrow(_C.RESUMING),
    (_C.RESUMING, _CE.RESUMED): Arrow(_C.CONNECTED),
    (_C.DISCONNECTING, _CE.STREAM_CLOSED): Arrow(_C.DISCONNECTED),
    # The passive side of Close, and Close Requests that cross (D-17).
    (_C.CONNECTED, _CE.CLOSE_REQUEST_RECEIVED): Arrow(_C.DISCONNECTING, OURS),
    (_C.DISCONNECTING, _CE.CLOSE_REQUEST_RECEIVED): Arrow(_C.DISCONNECTING, OURS),
    # Never established.
    (_C.CONNECTING, _CE.REFUSED): Arrow(_C.DISCONNECTED, OURS),
    # Reset by either side, or the session lost, at any time.
    (_C.LOOKING_UP_SESSION, _CE.ABORTED): Arrow(_C.DISCONNECTED, OURS),
    (_C.CONNECTING, _CE.ABORTED): Arrow(_C.DISCONNECTED, OURS),
    (_C.CONNECTED, _CE.ABORTED): Arrow(_C.DISCONNECTED, OURS),
    (_C.DISCONNECTING, _CE.ABORTED): Arrow(_C.DISCONNECTED, OURS),
    (_C.PAUSING, _CE.ABORTED): Arrow(_C.DISCONNECTED, OURS),
    (_C.PAUSED, _CE.ABORTED): Arrow(_C.DISCONNECTED, OURS),
    (_C.RESUMING, _CE.ABORTED): Arrow(_C.DISCONNECTED, OURS),
    # The leg is gone, the conversation is not: crash, partition, an address that vanished (D-21, R-3.3).
    (_C.CONNECTED, _CE.LEG_LOST): Arrow(_C.PAUSED, OURS),
    (_C.DISCONNECTING, _CE.LEG_LOST): Arrow(_C.PAUSED, OURS),
    (_C.PAUSING, _CE.LEG_LOST): Arrow(_C.PAUSED, OURS),
    (_C.RESUMING, _CE.LEG_LOST): Arrow(_C.PAUSED, OURS),
    (_C.DISCONNECTING, _CE.PAUSE_ACK_SENT): Arrow(_C.PAUSING, OURS),
    # Not here, or not now: it waits for another session.
    (_C.RESUMING, _CE.RESUME_REFUSED): Arrow(_C.PAUSED, OURS),
    # What the other end says when it is asked.
    (_C.PAUSED, _CE.ENDED_ELSEWHERE): Arrow(_C.DISCONNECTED, OURS),
    (_C.RESUMING, _CE.ENDED_ELSEWHERE): Arrow(_C.DISCONNECTED, OURS),
    # A resume that never came.
    (_C.PAUSED, _CE.RESUME_TIMEOUT): Arrow(_C.DISCONNECTED, OURS),
    (_C.RESUMING, _CE.RESUME_TIMEOUT): Arrow(_C.DISCONNECTED, OURS),
}


def connection_machine() -> Machine[ConnectionState, ConnectionEvent]:
    """A connection at its beginning: it looks for a session."""
    return Machine(CONNECTION_TABLE, ConnectionState.LOOKING_UP_SESSION)
