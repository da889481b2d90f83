"""Faults of our own code, as those hand them on who go on after one. Who counts them is the process's affair.

Lowest of all who need it; counterpart: :class:`spnhub.transport.faults.Faults`, which counts and writes log lines.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["OnFault", "log_fault"]

_log = logging.getLogger("spnhub")

OnFault = Callable[[str, BaseException], None]
"""Takes a fault: what it was caught in, and what was raised. In any thread; must not raise, nor change a decision."""


def log_fault(where: str, fault: BaseException) -> None:
    """What becomes of faults where nobody counts them."""
    _log.error("a fault in %s", where, exc_info=fault)
