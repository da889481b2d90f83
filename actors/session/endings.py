"""How sessions end: the fields of the end event, and what their legs end with, for each of the reasons.

Counterpart: :mod:`spnhub.actors.connection.endings`, the ends of legs.
"""

from __future__ import annotations

from typing import NamedTuple

from spnhub.actors.connection.state import Ending
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import CloseSession
from spnhub.actors.contract.inputs import SessionClosed
from spnhub.actors.kernel.environment import Decision
from spnhub.events.model import DisconnectReason, EndPointEvent, SessionEnded, TerminateReason, shared
from spnhub.events.state.entities import OpenSession

__all__ = [
    "SessionEnding",
    "by_close",
    "by_fault",
    "by_hub",
    "decide_end",
    "expired",
    "leaving",
    "superseded",
]


class SessionEnding(NamedTuple):
    """How a session ends: the fields of its end event, and how its legs end."""

    terminate_reason: TerminateReason
    code: int
    reason: str
    leg: Ending
    close: bool
    """Whether the QUIC connection is still to be closed."""


def by_hub(code: Code, reason: str) -> SessionEnding:
    """The hub ends the session in order: a planned stop, or its permission was withdrawn (R-4.4)."""
    leg = Ending(DisconnectReason.CLOSED, code, reason)
    return SessionEnding(TerminateReason.SHUTDOWN, code, reason, leg, close=True)


def by_fault(code: Code, reason: str) -> SessionEnding:
    """The hub ends the session because something is wrong with it."""
    leg = Ending(DisconnectReason.ERROR, code, reason)
    return SessionEnding(TerminateReason.ERROR, code, reason, leg, close=True)


def superseded() -> SessionEnding:
    """The endpoint has a newer session, and resumes there the connections that this one had."""
    reason = "the same instance has a new session"
    return by_fault(Code.SUPERSEDED, reason)._replace(leg=_lost(reason))


def leaving() -> SessionEnding:
    """The hub is being stopped."""
    return by_hub(Code.SHUTDOWN, "the hub is being stopped")


def expired(reason: str) -> SessionEnding:
    """The endpoint may come back with another certificate and resume its connections then (D-36)."""
    leg = Ending(DisconnectReason.CLOSED, Code.PEER_LOST, reason, suspended=True)
    return by_hub(Code.EXPIRED, reason)._replace(leg=leg)


def _lost(reason: str) -> Ending:
    return Ending(DisconnectReason.ERROR, Code.PEER_LOST, reason, suspended=True)


def by_close(message: SessionClosed) -> SessionEnding:
    """The QUIC connection is closed already: by the endpoint, in order or not, or because it was lost."""
    if message.by_peer and message.code == Code.OK:
        leg = Ending(DisconnectReason.CLOSED_BY_PEER, Code.OK, "the endpoint closed its session", suspended=True)
        return SessionEnding(TerminateReason.TERMINATED_BY_PEER, Code.OK, message.reason, leg, close=False)
    leg = _lost(message.reason or "an endpoint was lost")
    # A session that was lost in silence has no code of its own.
    code = Code.GONE if message.process_gone else message.code or Code.PEER_LOST
    return SessionEnding(TerminateReason.ERROR, code, message.reason, leg, close=False)


def decide_end(session: int, state: OpenSession, ending: SessionEnding, wall_us: int) -> Decision:
    """The end event of a session (R-2.5), and its close if that is still due. ``wall_us``: microseconds since 1970."""
    event = SessionEnded(
        **shared(EndPointEvent, state),
        total_connection_count=state.total_connection_count,
        elapsed_time=state.elapsed(wall_us),
        terminate_reason=ending.terminate_reason,
        code=ending.code,
        reason=ending.reason,
    )
    close = CloseSession(session, _code(ending.code), ending.reason)
    return Decision((event,), (close,) if ending.close else ())


def _code(code: int) -> Code:
    try:
        return Code(code)
    except ValueError:
        return Code.INTERNAL
