"""Application error codes of spn/1: refusals, connection closes and stream resets share one table.

``transport/PROTOCOL.md`` prints the same table; a test compares the two.
"""

from __future__ import annotations

import enum

__all__ = ["Code", "is_providers_own", "is_retryable"]


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


_RETRYABLE = frozenset(
    {
        Code.INTERNAL,
        Code.TIMEOUT,
        Code.SHUTDOWN,
        Code.LIMIT,
        Code.NO_PROVIDER,
        Code.SINGLETON,
        Code.SUPERSEDED,
        Code.START_FAILED,
        Code.EXPIRED,
        Code.NOT_HERE,
        Code.STALE,
    }
)


_PROVIDERS_OWN = frozenset(
    {
        Code.INTERNAL,
        Code.PROTOCOL,
        Code.TIMEOUT,
        Code.SHUTDOWN,
        Code.LIMIT,
        Code.CONNECT_FAILED,
        Code.CONNECT_TIMEOUT,
        Code.PEER_RESET,
        Code.PEER_LOST,
        Code.MOVED,
        Code.LEFT,
    }
)


def is_providers_own(code: int) -> bool:
    """Whether a provider that says no with this code can't take an opening now, whoever asks (D-35).

    Then another provider of the service may. Every other code is a verdict of the application, and final.
    """
    return code in _PROVIDERS_OWN


def is_retryable(code: int) -> bool:
    """Whether the same request may succeed later without anyone changing it."""
    return code in _RETRYABLE
