"""Keeps an agent's session: gets one, says so, waits for its end, and gets the next, for as long as that can help.

Counterpart: :mod:`spnhub.transport.endpoint.api` makes the endpoints.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

import structlog

from spnhub.transport.errors import SessionRefused, SpnError

__all__ = ["Endpoint", "SessionKeeper"]

_log = structlog.get_logger()

FIRST_PAUSE: Final = 0.25
"""Seconds before the first retry; doubled for each that follows."""
LONGEST_PAUSE: Final = 8.0
"""Below the time for which a consumer agent holds its clients (D-27), so that a hub that is back serves them."""
LAST_PACKETS: Final = 2.0
"""Seconds for the last packets of connections that have ended; by then the agent has none open."""


class Endpoint(Protocol):
    """What the keeper needs of an endpoint with a session."""

    @property
    def session_id(self) -> str:
        """The spnSessionId (D-2)."""

    async def wait_ended(self) -> SpnError | None:
        """Wait until the session is over; why, or None after an orderly end."""

    async def aclose(self, drain_timeout: float) -> None:
        """End the session; open connections have ``drain_timeout`` seconds to end, then they are aborted."""


E = TypeVar("E", bound=Endpoint)


class SessionKeeper(Generic[E]):
    """One endpoint at a time. Gives up only on what a retry can't change (:attr:`SpnError.retryable`)."""

    def __init__(
        self,
        create: Callable[[], Awaitable[E]],
        *,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
    ) -> None:
        """:param create: returns after the session ACK (D-19).
        :param first_pause: seconds; ``longest_pause`` as well.
        """
        self._create = create
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._pause = first_pause
        self._current: E | None = None
        self._making: asyncio.Task[E] | None = None
        self._last = False
        """There shall be no other session."""
        self._established = asyncio.Event()
        """Set with the next session, and then replaced."""

    @property
    def current(self) -> E | None:
        """The endpoint, while its session is up."""
        return self._current

    async def wait(self, other_than: E | None = None) -> E:
        """The endpoint, once there is one that isn't ``other_than``."""
        while (current := self._current) is None or current is other_than:
            await self._established.wait()
        return current

    def stop_renewing(self) -> None:
        """The session that is up, if any, is the last; :meth:`run` returns with its end."""
        self._last = True
        if self._making is not None:
            self._making.cancel()

    async def run(self) -> None:
        """Keep a session until cancelled; the endpoint is closed then.

        :raises SpnError: a refusal or an end that a retry can't change.
        :raises ValueError: arguments that can't be used.
        """
        loop = asyncio.get_running_loop()
        pause = False
        while (endpoint := await self._next(pause)) is not None:
            began = loop.time()
            session_id = endpoint.session_id
            _log.info("session.established", spnSessionId=session_id)
            self._current = endpoint
            self._established.set()
            self._established = asyncio.Event()
            try:
                failure = await endpoint.wait_ended()
            finally:
                self._current = None
                await endpoint.aclose(LAST_PACKETS)
            if loop.time() - began > self._longest_pause:
                self._pause = self._first_pause
            reason = "an orderly end" if failure is None else str(failure)
            _log.warning("session.lost", spnSessionId=session_id, reason=reason)
            if failure is not None and not failure.retryable:
                raise failure
            pause = True

    async def _next(self, pause: bool) -> E | None:
        """The next session, or None when there shall be none."""
        if self._last:
            return None
        self._making = asyncio.create_task(self._establish(pause))
        try:
            return await self._making
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return None
        finally:
            self._making = None

    async def _establish(self, pause: bool) -> E:
        if pause:
            await self._back_off()
        answered = False
        while True:
            try:
                return await self._create()
            except SpnError as exc:
                if not exc.retryable:
                    raise
                if isinstance(exc, SessionRefused) and not answered:
                    # The hub is there; how long it was away says nothing about what it waits for.
                    answered = True
                    self._pause = self._first_pause
                _log.warning("session.failed", reason=str(exc), retryWithin=self._pause)
            await self._back_off()

    async def _back_off(self) -> None:
        # Jitter: a restarted hub meets all its endpoints at once (D-33).
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        self._pause = min(self._pause * 2, self._longest_pause)
