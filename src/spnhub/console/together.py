"""Several things at once, of which the first error ends all."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any

__all__ = ["run_together"]


async def run_together(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Until each has ended, or one with an error, which is raised; the others are cancelled then."""
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
