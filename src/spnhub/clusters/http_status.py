"""Which answers of an HTTP API another attempt may better. Counterparts: the managers that speak HTTP."""

from __future__ import annotations

from http import HTTPStatus

__all__ = ["may_pass", "named"]


def may_pass(status: int) -> bool:
    """Whether the same request may succeed later: timeouts, conflicts, too many requests, faults of the server."""
    return status in {408, 409, 425, 429} or status >= 500


def named(status: int) -> str:
    """``404 Not Found``."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)
