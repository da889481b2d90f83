"""The event loop of our processes: a slow or silent resolver delays only the callers that asked it.

asyncio's own loop looks names up in the few threads that it uses for all blocking work, once for each caller, and waits
for them when the program ends. Look-ups of libraries (httpx2, say) come through here as well.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import errno
import socket
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

__all__ = ["Loop", "in_own_thread", "run"]

T = TypeVar("T")

MOST_LOOK_UPS: Final = 64
"""Look-ups of different names under way at once; further ones wait."""


class Loop(asyncio.SelectorEventLoop):
    """As asyncio's, but of equal look-ups only one is under way at a time, in a thread that isn't joined at the end."""

    def __init__(self) -> None:
        super().__init__()
        self._looking_up: dict[tuple[object, ...], asyncio.Future[Any]] = {}
        self._places = asyncio.Semaphore(MOST_LOOK_UPS)

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        """See :meth:`asyncio.loop.getaddrinfo`."""
        asked = host, port, family, type, proto, flags
        found = self._looking_up.get(asked)
        if found is None:
            found = self._looking_up[asked] = asyncio.ensure_future(self._look_up(asked))
            found.add_done_callback(partial(self._looked_up, asked))
        # A caller that gives up doesn't cancel it for the others.
        return list(await asyncio.shield(found))

    async def _look_up(self, asked: tuple[Any, ...]) -> Any:
        async with self._places:
            try:
                return await in_own_thread(partial(socket.getaddrinfo, *asked))
            except RuntimeError as exc:
                # No thread is left: for the caller, one more way in which a look-up can fail.
                raise OSError(errno.EAGAIN, str(exc)) from exc

    def _looked_up(self, asked: tuple[object, ...], found: asyncio.Future[Any]) -> None:
        del self._looking_up[asked]
        if not found.cancelled():
            # All callers may have given up: then a failure isn't retrieved, which asyncio would report.
            found.exception()


def run(main: Coroutine[Any, Any, T]) -> T:
    """As :func:`asyncio.run`, on a :class:`Loop`."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)


def in_own_thread(function: Callable[[], T], name: str = "look-up") -> asyncio.Future[T]:
    """What a function returns that takes long, and can't be stopped. The process ends without waiting for it.

    :param name: the thread's.
    :raises RuntimeError: there can't be another thread.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def work() -> None:
        if future.set_running_or_notify_cancel():
            try:
                future.set_result(function())
            except BaseException as exc:
                # The callers that wait get it.
                future.set_exception(exc)

    threading.Thread(target=work, name=name, daemon=True).start()
    return asyncio.wrap_future(future)
