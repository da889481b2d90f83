"""Faults of our own code, as code that goes on after one reports them. The process decides what counts them.

In the lowest room that needs it. Counterpart: :class:`spnhub.transport.faults.Faults`, which counts and logs them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

__all__ = ["OnFault", "log_fault"]

_log = logging.getLogger("spnhub")

OnFault = Callable[[str, BaseException], None]
"""Takes a fault: what it was caught in, and what was raised. In any thread; must not raise, nor change a decision."""


def log_fault(where: str, fault: BaseException) -> None:
    """Ignore a fault: the default where nothing counts them."""
    _log.error("a fault in %s", where, exc_info=fault)
