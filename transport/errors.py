"""The errors for programs that use the library: each shows whose fault it was, and whether a retry can help.

Every error derives from :class:`SpnError`. Counterpart: the codes in :mod:`spnhub.actors.contract.codes`.
"""

from __future__ import annotations

from spnhub.actors.contract.codes import Code, is_retryable
from spnhub.actors.contract.packets import LARGEST_VARINT
from spnhub.events.codes import alert_name, code_name

__all__ = [
    "ConfigurationError",
    "ConnectionAborted",
    "ConnectionRejected",
    "EndpointClosed",
    "HandshakeRejected",
    "HubUnreachable",
    "LocalProtocolError",
    "SessionLost",
    "SessionRejected",
    "SpnError",
    "can_retry",
    "check_code",
    "code_name",
]


def can_retry(code: int) -> bool:
    """:func:`spnhub.actors.contract.codes.is_retryable` for codes that this version may not know (then: no)."""
    try:
        return is_retryable(Code(code))
    except ValueError:
        return False


class SpnError(Exception):
    """Base of all errors of this library. ``retryable``: the same call may succeed later, nothing changed here."""

    retryable: bool = False


class ConfigurationError(SpnError, ValueError):
    """The caller's fault: an argument that can't be used. The message names it."""


def check_code(code: int) -> None:
    """Whether QUIC can send a program's code (RFC 9000 section 16).

    :raises ConfigurationError: it can't.
    """
    if not 0 <= code <= LARGEST_VARINT:
        raise ConfigurationError(f"code is {code}; it must be between 0 and {LARGEST_VARINT}")


class LocalProtocolError(SpnError):
    """Our own fault: an event that is illegal in this state. A bug in the caller, or here."""


class HubUnreachable(SpnError, OSError):
    """The network's fault, or that of its names: the name has no address, or no hub answers there."""

    retryable = True


class HandshakeRejected(SpnError):
    """A certificate or name is wrong, here or at the hub. ``alert``: the TLS alert (RFC 8446 section 6).

    ``retryable`` where it is a matter of time: one of the two clocks may be wrong, or a certificate be renewed (D-36).
    """

    def __init__(self, alert: int, reason: str, *, by_hub: bool, about_time: bool = False) -> None:
        refusal = "the hub refused us" if by_hub else "we refused the hub's certificate"
        super().__init__(f"{refusal} (TLS alert {alert}): {reason or alert_name(alert)}")
        self.alert = alert
        self.reason = reason
        self.by_hub = by_hub
        self.retryable = about_time


class SessionRejected(SpnError):
    """The hub refused the session (R-2.2). ``code``: see :class:`spnhub.actors.contract.codes.Code`."""

    def __init__(self, code: int, reason: str, retryable: bool) -> None:
        super().__init__(f"session refused, {code_name(code)}: {reason}")
        self.code = code
        self.reason = reason
        self.retryable = retryable


class SessionLost(SpnError, ConnectionError):
    """The session ended or could not be used; the endpoint goes on trying, or has given up.

    ``code``: with which the hub closed it, a :class:`~spnhub.actors.contract.codes.Code`; None: it did not.
    """

    retryable = True

    def __init__(self, reason: str, code: int | None = None) -> None:
        super().__init__(reason)
        self.code = code


class EndpointClosed(SpnError):
    """The endpoint was closed by its own program, or has failed for good; make another."""


class ConnectionRejected(SpnError, ConnectionRefusedError):
    """The hub or the provider refused a connection (D-16). ``code``: :class:`~spnhub.actors.contract.codes.Code`.

    ``connection_uid``: by which the hub's log has it; empty if it never got one.
    """

    def __init__(self, code: int, reason: str, connection_uid: str = "") -> None:
        super().__init__(f"connection refused, {code_name(code)}: {reason}")
        self.code = code
        self.reason = reason
        self.connection_uid = connection_uid
        self.retryable = can_retry(code)


class ConnectionAborted(SpnError, ConnectionResetError):
    """The connection ended with an error: reset by the other application, an endpoint or the hub lost.

    ``connection_uid``: by which the hub's log has it, ``spnlog explain`` tells what happened to it.
    """

    def __init__(self, code: int, reason: str, connection_uid: str = "") -> None:
        which = f" (connection {connection_uid})" if connection_uid else ""
        super().__init__(f"connection aborted, {code_name(code)}: {reason}{which}")
        self.code = code
        self.reason = reason
        self.connection_uid = connection_uid
        self.retryable = True
