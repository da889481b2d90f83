"""An agent's endpoint: made in the background, held for as long as a retry can help, its news in the log.

The endpoint itself lives through the loss of its sessions (:mod:`spnhub.transport.endpoint.api` makes it). Here is what
an agent needs beside it: an answer to "is there a session now?" before the endpoint exists, and the log lines.
Counterparts: :mod:`spnhub.transport.agent.consumer` and :mod:`spnhub.transport.agent.provider`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, Protocol, TypeVar

import structlog

from spnhub.transport.agent.tcp import address_text
from spnhub.transport.endpoint.owner import ConnectionChange
from spnhub.transport.endpoint.slot import SessionChange
from spnhub.transport.endpoint.states import SessionState

__all__ = ["Create", "Endpoint", "EndpointKeeper"]

_log = structlog.get_logger()

LAST_PACKETS: Final = 2.0
"""Seconds for the last packets of connections that have ended; by then the agent has none open."""

_UP: Final = (SessionState.ESTABLISHED, SessionState.CLOSING)


class Endpoint(Protocol):
    """What the keeper needs of an endpoint."""

    async def wait_closed(self) -> None:
        """Wait until it is Closed, or has Failed for good.

        :raises SpnError: why it has failed.
        """

    async def aclose(self, drain_timeout: float) -> None:
        """End its sessions; open connections have ``drain_timeout`` seconds to end, then they are aborted."""


E = TypeVar("E", bound=Endpoint)

Create = Callable[[Callable[[SessionChange], None], Callable[[ConnectionChange], None]], Awaitable[E]]
"""Makes an endpoint that tells these two its news; returns with the first session (D-19)."""


class EndpointKeeper(Generic[E]):
    """One endpoint for the agent's whole life."""

    def __init__(self, create: Create[E]) -> None:
        self._create = create
        self._endpoint: E | None = None
        self._sessions: set[tuple[str, int]] = set()
        """Addresses whose session is established."""
        self._changed = asyncio.Event()
        """Set, and then replaced, with each change of the two."""

    @property
    def current(self) -> E | None:
        """The endpoint, once it has had a session."""
        return self._endpoint

    @property
    def established(self) -> bool:
        """There is a session that takes new connections."""
        return self._endpoint is not None and bool(self._sessions)

    async def wait_established(self) -> E:
        """The endpoint, once it has a session that takes new connections."""
        while self._endpoint is None or not self._sessions:
            await self._changed.wait()
        return self._endpoint

    async def wait_lost(self) -> None:
        """Wait until there is no session that takes new connections."""
        while self.established:
            await self._changed.wait()

    async def run(self) -> None:
        """Make the endpoint and hold it until cancelled; then it is closed.

        :raises SpnError: a refusal, or an end, that no retry changes.
        :raises ValueError: arguments that can't be used.
        """
        endpoint = await self._create(self._on_session, self._on_connection)
        self._endpoint = endpoint
        self._notify()
        try:
            await endpoint.wait_closed()
        finally:
            await endpoint.aclose(LAST_PACKETS)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_session(self, change: SessionChange) -> None:
        if change.new is SessionState.ESTABLISHED:
            self._sessions.add(change.address)
        elif change.old is SessionState.ESTABLISHED:
            # Only then: an address that came back has a new session while the old one is Closing.
            self._sessions.discard(change.address)
        self._notify()
        _tell_session(change)

    def _on_connection(self, change: ConnectionChange) -> None:
        _log.info(
            f"connection.{change.kind}",
            connectionUid=change.connection_uid.hex(),
            epoch=change.epoch,
            seconds=round(change.seconds, 3),
            **({"reason": change.reason} if change.reason else {}),
        )


def _tell_session(change: SessionChange) -> None:
    """Established, closing, closed and lost are told once each; a session that doesn't come up, at each attempt."""
    address = address_text(*change.address)
    reason = {} if change.error is None else {"reason": str(change.error)}
    was_up = change.old in _UP
    ids = {"spnSessionId": change.spn_session_id, "hubId": change.hub_id}
    if change.new in _UP:
        _log.info(f"session.{change.new.value.lower()}", address=address, **ids, **reason)
    elif was_up and change.new is SessionState.CLOSED and change.error is None:
        _log.info("session.closed", address=address, **ids)
    elif was_up:
        _log.warning("session.lost", address=address, **ids, **reason)
    elif change.error is not None:
        _log.warning("session.failed", address=address, **reason)
