"""What follows from a code of spn/1 (:mod:`spnhub.events.codes` has the table)."""

from __future__ import annotations

from spnhub.events.codes import Code

__all__ = ["Code", "is_providers_own", "is_retryable"]

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
