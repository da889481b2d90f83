"""How much memory there is, and how much of it this process has."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["available", "give_back", "resident"]

_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_CGROUPS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def available() -> int:
    """Bytes that the host has, or the container if it has fewer."""
    found = os.sysconf("SC_PHYS_PAGES") * _PAGE
    for path in _CGROUPS:
        try:
            found = min(found, int(path.read_text()))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return found


def resident() -> int:
    """Bytes of memory that this process has, mapped files left out; 0 where the system doesn't say.

    The first call opens a descriptor for all later ones: to know it matters when no other is left, too.
    """
    try:
        _, pages, shared, *_ = os.pread(_open_sizes(), 256, 0).split()
        return (int(pages) - int(shared)) * _PAGE
    except OSError:  # no descriptor is left, or there is no /proc
        return 0


@cache
def _open_sizes() -> int:
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def give_back() -> None:
    """Give memory back to the system that was freed and is kept for later, where the C library can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError):  # another C library
        return
