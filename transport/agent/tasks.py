"""Background tasks that are kept, reported when they fail, and ended with their owner."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from spnhub.transport.faults import report_to_loop

__all__ = ["Tasks"]

T = TypeVar("T")


class Tasks:
    """The tasks of one owner. A failure is passed to the loop's exception handler and ends that task alone."""

    def __init__(self, message: str) -> None:
        """:param message: of the report of a failure."""
        self._message = message
        self._tasks: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run ``work`` in the background."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel(self) -> None:
        """End all of them and wait until they have ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (failure := task.exception()) is not None:
            report_to_loop(task.get_loop(), self._message, failure)
