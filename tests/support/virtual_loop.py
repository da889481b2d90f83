"""An asyncio loop whose time is virtual: when nothing is ready it jumps to the next timer.

Use in a test module: ``event_loop_policy`` fixture returning :class:`VirtualLoopPolicy`. Only for tests without real
sockets and threads.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any

__all__ = ["VirtualLoop", "VirtualLoopPolicy"]


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
            self.now += max(timeout, 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class VirtualLoopPolicy(asyncio.DefaultEventLoopPolicy):
    """Makes :class:`VirtualLoop`."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return VirtualLoop()
