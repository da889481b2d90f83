"""What a look-up of a name's addresses comes to. Counterpart: :mod:`spnhub.transport.system.name_lookup`."""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["SYSTEM_TTL", "LookupFailed", "NameAnswer", "NoAddress"]

SYSTEM_TTL: Final = 5.0
"""Seconds that an answer of ``getaddrinfo`` holds, which doesn't say."""


class LookupFailed(Exception):
    """A name's addresses couldn't be looked up; the text has the reason."""


class NoAddress(LookupFailed):
    """It is known that there are none."""


class NameAnswer(NamedTuple):
    """The addresses of a name, at least one."""

    addresses: tuple[str, ...]
    """IP addresses, a link-local one with its scope; IPv6 first where that says nothing."""
    ttl: float
    """Seconds."""
    ordered: bool
    """The system prefers those that come first; a record set of DNS has no order."""
