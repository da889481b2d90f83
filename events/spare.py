"""A process without free descriptors (D-25): which errors show that, and spare ones for a writer that must go on."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable
from typing import Final

__all__ = ["OUT_OF_RESOURCES", "Spare"]

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE})
OUT_OF_RESOURCES: Final = _EXHAUSTED | {errno.ENOBUFS, errno.ENOMEM}
"""Errors that pass: this host has no descriptor or memory left. They say nothing about a peer or a file (D-25)."""


class Spare:
    """``count`` open descriptors that stand for files to come. For one thread.

    A descriptor that is freed may be taken by another thread before it is used; the writer tries again anyway.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._held: list[int] = []
        self.refill()

    def refill(self) -> None:
        """Hold as many again, as far as there are."""
        with contextlib.suppress(OSError):
            while len(self._held) < self._count:
                self._held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    def run(self, step: Callable[[], None]) -> None:
        """Do ``step``, which opens files; once more with what is kept here, if there was no descriptor for it.

        :raises OSError: it failed all the same.
        """
        try:
            step()
        except OSError as exc:
            if exc.errno not in _EXHAUSTED or not self._held:
                raise
            self.close()
            try:
                step()
            finally:
                self.refill()

    def close(self) -> None:
        """Hold none."""
        while self._held:
            os.close(self._held.pop())
