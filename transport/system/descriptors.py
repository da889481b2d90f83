"""File descriptors: as many as the system allows, and some kept back for what a process needs beside its connections.

Counterparts: the agents bound their connections with it (:mod:`spnhub.transport.agent`), the hub its HTTP.
"""

from __future__ import annotations

import contextlib
import resource
from pathlib import Path
from typing import Final

__all__ = ["raise_limit", "room"]

_LEAST: Final = 16
_MOST: Final = 64
"""Descriptors kept back: for sockets to hubs and name servers, files that are read anew, the journal."""


def raise_limit() -> None:
    """The soft limit of open files becomes the hard one (D-25)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room() -> int:
    """How many connections this process can hold beside what is open now and what is kept back; at least one.

    A process that takes more has no descriptor left for the socket of a new session, and then no connection ever ends.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    kept = min(_MOST, max(_LEAST, soft // 16))
    in_use = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return max(1, soft - in_use - kept)
