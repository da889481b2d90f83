"""The states of a session and of a connection at its endpoint, each as one table.

A table maps (state, what happened) to the next state. Entries marked ``OURS`` fill what the specification's diagrams
(R-2.6, R-4.11) are silent about (D-21); all others are the diagrams, arrow by arrow. Whatever is not in the table is
illegal and raises. The diagrams in the documentation are drawn from here (:func:`arrows`).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, Generic, NamedTuple, TypeVar

from spnhub.transport.errors import LocalProtocolError

__all__ = [
    "CONNECTION_TABLE",
    "SESSION_TABLE",
    "Arrow",
    "ConnectionEvent",
    "ConnectionState",
    "Machine",
    "SessionEvent",
    "SessionState",
    "arrows",
    "connection_machine",
    "session_machine",
]


class SessionState(enum.Enum):
    """R-2.6. Closed and Failed are final."""

    IP_FOUND = "IPFound"
    SESSION_CONNECTING = "SessionConnecting"
    ESTABLISHED = "Established"
    WAITING = "Waiting"
    FAILED = "Failed"
    CLOSING = "Closing"
    CLOSED = "Closed"


class SessionEvent(enum.Enum):
    """What happens to a session."""

    CONNECT = "connect"
    ESTABLISHED = "session established"
    CONNECT_FAILED = "QUIC connection failed"
    PROVIDER_NOT_FOUND = "provider not found"
    RETRY = "retry"
    IP_LOST_ON_DEMAND = "IP lost by an on-demand DNS check"
    RETRIES_EXCEEDED = "retry count exceeded"
    IP_LOST = "IP lost by the periodic DNS check"
    SHUTDOWN_REQUESTED = "shutdown request from the hub"
    SHUTDOWN_SIGNAL = "shutdown signal"
    RENEWED = "renewed with other credentials"
    EMPTY = "session empty"
    REFUSED = "refused, a retry can help"
    REFUSED_FOR_GOOD = "refused, a retry can't help"
    LOST = "session lost"


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


S = TypeVar("S", bound=enum.Enum)
E = TypeVar("E", bound=enum.Enum)


class Arrow(NamedTuple, Generic[S]):
    """Where an event leads, and whether we added it (D-21)."""

    to: S
    ours: bool = False


OURS: Final = True

_S = SessionState
_SE = SessionEvent

SESSION_TABLE: Final[Mapping[tuple[SessionState, SessionEvent], Arrow[SessionState]]] = {
    (_S.IP_FOUND, _SE.CONNECT): Arrow(_S.SESSION_CONNECTING),
    (_S.SESSION_CONNECTING, _SE.ESTABLISHED): Arrow(_S.ESTABLISHED),
    (_S.SESSION_CONNECTING, _SE.CONNECT_FAILED): Arrow(_S.WAITING),
    (_S.SESSION_CONNECTING, _SE.PROVIDER_NOT_FOUND): Arrow(_S.WAITING),
    (_S.WAITING, _SE.RETRY): Arrow(_S.SESSION_CONNECTING),
    (_S.SESSION_CONNECTING, _SE.IP_LOST_ON_DEMAND): Arrow(_S.FAILED),
    (_S.SESSION_CONNECTING, _SE.RETRIES_EXCEEDED): Arrow(_S.FAILED),
    (_S.ESTABLISHED, _SE.IP_LOST): Arrow(_S.CLOSING),
    (_S.ESTABLISHED, _SE.SHUTDOWN_REQUESTED): Arrow(_S.CLOSING),
    (_S.ESTABLISHED, _SE.SHUTDOWN_SIGNAL): Arrow(_S.CLOSING),
    (_S.CLOSING, _SE.EMPTY): Arrow(_S.CLOSED),
    # Refused while connecting, for another reason than a missing provider.
    (_S.SESSION_CONNECTING, _SE.REFUSED): Arrow(_S.WAITING, OURS),
    (_S.SESSION_CONNECTING, _SE.REFUSED_FOR_GOOD): Arrow(_S.FAILED, OURS),
    # Established and lost.
    (_S.ESTABLISHED, _SE.LOST): Arrow(_S.WAITING, OURS),
    (_S.ESTABLISHED, _SE.REFUSED_FOR_GOOD): Arrow(_S.FAILED, OURS),
    (_S.CLOSING, _SE.LOST): Arrow(_S.CLOSED, OURS),
    # A renewed certificate (D-38).
    (_S.ESTABLISHED, _SE.RENEWED): Arrow(_S.CLOSING, OURS),
    # An address that vanished, or the program's end, before the session is up.
    (_S.IP_FOUND, _SE.IP_LOST): Arrow(_S.FAILED, OURS),
    (_S.SESSION_CONNECTING, _SE.IP_LOST): Arrow(_S.FAILED, OURS),
    (_S.WAITING, _SE.IP_LOST): Arrow(_S.FAILED, OURS),
    (_S.WAITING, _SE.RETRIES_EXCEEDED): Arrow(_S.FAILED, OURS),
    (_S.IP_FOUND, _SE.SHUTDOWN_SIGNAL): Arrow(_S.CLOSED, OURS),
    (_S.SESSION_CONNECTING, _SE.SHUTDOWN_SIGNAL): Arrow(_S.CLOSED, OURS),
    (_S.WAITING, _SE.SHUTDOWN_SIGNAL): Arrow(_S.CLOSED, OURS),
}

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


def session_machine() -> Machine[SessionState, SessionEvent]:
    """A session at its beginning: its address was found."""
    return Machine(SESSION_TABLE, SessionState.IP_FOUND)


def connection_machine() -> Machine[ConnectionState, ConnectionEvent]:
    """A connection at its beginning: it looks for a session."""
    return Machine(CONNECTION_TABLE, ConnectionState.LOOKING_UP_SESSION)


def arrows(table: Mapping[tuple[S, E], Arrow[S]]) -> list[str]:
    """The table as lines of a diagram, ours marked."""
    return [
        f"{state.value} -> {arrow.to.value}: {event.value}{' (ours)' if arrow.ours else ''}"
        for (state, event), arrow in table.items()
    ]
