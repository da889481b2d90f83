"""An asyncio loop whose time is virtual: when nothing is ready it jumps to the next timer.

Use by the hook ``pytest_asyncio_loop_factories``, see ``tests/transport/endpoint/conftest.py``. Only for tests without
real sockets and threads.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

__all__ = ["VirtualLoop"]


class _JumpingSelector(selectors.DefaultSelector):
    """Never waits: what it was asked to wait is added to the clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("deadlock: nothing is ready and no timer is set")
            # A little more than asked: the loop runs timers up to its clock's resolution too early, and who then
            # looks at the clock would wait for a moment that never comes.
            self.now += max(timeout, 0.0) + 1e-8
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now
