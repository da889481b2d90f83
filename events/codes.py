"""Application error codes of spn/1, and the names of codes, ours and TLS's, for whoever reads them.

Refusals, connection closes and stream resets share one table; ``transport/PROTOCOL.md`` prints the same, and a test
compares the two. It is here, below the actors, since events and their readers have codes, too. Counterpart:
:mod:`spnhub.actors.contract.codes`, what follows from a code.
"""

from __future__ import annotations

import enum
from typing import Final

__all__ = ["Code", "alert_name", "code_name"]


class Code(enum.IntEnum):
    """What went wrong, or that nothing did. Values are on the wire and never change."""

    OK = 0
    """An orderly end."""
    INTERNAL = 1
    """A fault on our side."""
    PROTOCOL = 2
    """The peer broke the rules of spn/1; the reason says which."""
    VERSION = 3
    """No common version of a packet kind that is needed."""
    TIMEOUT = 4
    """The peer did not send what it had to send in time."""
    SHUTDOWN = 5
    """The hub is being stopped."""
    LIMIT = 6
    """A limit was reached; the reason names it."""

    NOT_ALLOWED = 16
    """The certificate's subject may not play this role for this service."""
    UNKNOWN_SERVICE = 17
    """The hub that the server name selected has no such service."""
    NO_PROVIDER = 18
    """No provider of the service is connected."""
    SINGLETON = 19
    """The service is a singleton and has its provider."""
    SUPERSEDED = 20
    """Another session with the same certificate and instance id has taken this one's place."""
    WITHDRAWN = 21
    """The hub took the permission or the service away."""
    START_FAILED = 22
    """The service is started on demand, and could not be started, or not in time."""
    EXPIRED = 23
    """A certificate of the endpoint's chain isn't valid any more, by the hub's clock (D-36)."""

    CONNECT_FAILED = 32
    """The provider's side could not be reached (its TCP server refused)."""
    CONNECT_TIMEOUT = 33
    """The provider's side did not answer in time."""
    PEER_RESET = 34
    """The other application reset the connection."""
    PEER_LOST = 35
    """The other endpoint was lost."""
    CLOSE_REQUESTED = 36
    """The other endpoint asked to close before both directions had ended."""
    ENDED = 37
    """No such connection here: it has ended or never was."""
    PAUSED = 38
    """The hub has paused the connection; it may go on in another leg."""
    MOVED = 39
    """An endpoint moves the connection to another hub, in order."""
    LEFT = 40
    """An endpoint moves the connection to another hub because this one is unresponsive or lost."""
    CLOSED = 41
    """The other end has ended in order already: every byte and both FINs were taken."""
    NOT_HERE = 42
    """The provider instance that holds the other end has no session on this hub."""
    STALE = 43
    """A later leg of the connection is known."""
    RESUME_TIMEOUT = 44
    """The connection could not be resumed in time."""
    GONE = 45
    """The process that held the other end is gone: its port is closed, and it hasn't come back."""
    PEER_SILENT = 46
    """The other application's host doesn't answer any more (TCP keep-alive)."""


def code_name(code: int) -> str:
    """The code's name; the number as text if this version doesn't know it."""
    try:
        return Code(code).name
    except ValueError:
        return str(code)


_ALERTS: Final = {
    0: "close_notify",
    10: "unexpected_message",
    20: "bad_record_mac",
    22: "record_overflow",
    40: "handshake_failure",
    42: "bad_certificate",
    43: "unsupported_certificate",
    44: "certificate_revoked",
    45: "certificate_expired",
    46: "certificate_unknown",
    47: "illegal_parameter",
    48: "unknown_ca",
    49: "access_denied",
    50: "decode_error",
    51: "decrypt_error",
    70: "protocol_version",
    71: "insufficient_security",
    80: "internal_error",
    86: "inappropriate_fallback",
    90: "user_canceled",
    109: "missing_extension",
    110: "unsupported_extension",
    112: "unrecognized_name",
    113: "bad_certificate_status_response",
    115: "unknown_psk_identity",
    116: "certificate_required",
    120: "no_application_protocol",
}
"""RFC 8446 section 6."""


def alert_name(alert: int) -> str:
    """A TLS alert in words: ``bad certificate``; the number as text if it has no name."""
    return _ALERTS.get(alert, str(alert)).replace("_", " ")
