"""Where the lines of endpoints and agents go: to structlog where the program has configured it, as our commands do.

In a program that uses the library and hasn't, to the standard library's logger ``spnhub``, for it to decide; structlog
would print them. Imports nothing of ours, nor structlog: who has configured it has imported it, and it takes a while.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any, Final

__all__ = ["NAME", "Lines", "get_logger"]

NAME: Final = "spnhub"


class Lines:
    """A logger with structlog's methods."""

    def __getattr__(self, level: str) -> Any:
        structlog = sys.modules.get("structlog")
        if structlog is not None and structlog.is_configured():
            return getattr(structlog.get_logger(), level)
        return partial(_log, logging.getLevelNamesMapping()[level.upper()])


def get_logger() -> Any:
    """As :func:`structlog.get_logger`."""
    return Lines()


def _log(level: int, event: str, **facts: object) -> None:
    logger = logging.getLogger(NAME)
    if logger.isEnabledFor(level):
        words = " ".join(f"{name}={value!r}" for name, value in facts.items())
        logger.log(level, "%s %s", event, words, extra={"spn": {"event": event, **facts}})
