"""The states of an endpoint's session to one address of its hub, as one table (R-2.6).

Counterpart: :mod:`spnhub.transport.endpoint.session.hub_target`, which goes along it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from spnhub.transport.endpoint.kernel.state_machine import OURS, Arrow, Machine

__all__ = ["SESSION_TABLE", "SessionState", "SessionTrigger", "session_machine"]


class SessionState(enum.Enum):
    """R-2.6. Closed and Failed are final."""

    IP_FOUND = "IPFound"
    SESSION_CONNECTING = "SessionConnecting"
    ESTABLISHED = "Established"
    WAITING = "Waiting"
    FAILED = "Failed"
    CLOSING = "Closing"
    CLOSED = "Closed"


class SessionTrigger(enum.Enum):
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


_S = SessionState
_SE = SessionTrigger

SESSION_TABLE: Final[Mapping[tuple[SessionState, SessionTrigger], Arrow[SessionState]]] = {
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


def session_machine() -> Machine[SessionState, SessionTrigger]:
    """A session at its beginning: its address was found."""
    return Machine(SESSION_TABLE, SessionState.IP_FOUND)
