"""An agent's endpoint: made in the background, kept as long as a retry can help, with its changes in the log.

The endpoint itself lives through the loss of its sessions (:mod:`spnhub.transport.endpoint.api.consumer` makes it).
Here is what an agent needs beside it: an answer to "is there a session now?" before the endpoint exists, and the log
lines. Counterparts: :mod:`spnhub.transport.agent.consumer` and :mod:`spnhub.transport.agent.provider`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from spnhub.transport.endpoint.core.listener import ConnectionChange
from spnhub.transport.endpoint.session.credentials import CredentialsChange
from spnhub.transport.endpoint.session.hub_target import IpAddress, SessionChange
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.errors import HandshakeRejected
from spnhub.transport.log import get_logger
from spnhub.transport.repeats import Repeats, repeated
from spnhub.transport.system.ip import host_port

__all__ = ["Create", "ManagedEndpoint", "SessionManager"]

_log = get_logger()

LAST_PACKETS: Final = 2.0
"""Seconds for the last packets of connections that have ended; by then the agent has none open."""

_UP: Final = (SessionState.ESTABLISHED, SessionState.CLOSING)


class ManagedEndpoint(Protocol):
    """The part of an endpoint that the session manager uses."""

    async def wait_closed(self) -> None:
        """Wait until it is Closed, or has Failed for good.

        :raises SpnError: why it has failed.
        """

    async def renew(self) -> None:
        """Read certificates anew, and look the hubs up."""

    async def aclose(self, drain_timeout: float) -> None:
        """End its sessions; open connections have ``drain_timeout`` seconds to end, then they are aborted."""


E = TypeVar("E", bound=ManagedEndpoint)

Create = Callable[[Callable[[SessionChange], None], Callable[[ConnectionChange], None]], Awaitable[E]]
"""Makes an endpoint that reports its changes to these two; returns with the first session (D-19)."""


class SessionManager(Generic[E]):
    """One endpoint for the agent's whole life."""

    def __init__(self, create: Create[E]) -> None:
        self._create = create
        self._endpoint: E | None = None
        self._made: ManagedEndpoint | None = None
        """The same, also before its first session."""
        self.sessions: dict[tuple[IpAddress, str], str] = {}
        """Address and id of those that are established, and the hub's id; one that is renewed has two for a moment."""
        self.last_error = ""
        """Why the last session was lost, or could not be had; empty while there is one."""
        self._told: dict[IpAddress, tuple[object, ...]] = {}
        """What a session was refused for last, where that is a matter of time."""
        self._repeats = Repeats(asyncio.get_running_loop().call_later)
        self._changed = asyncio.Event()
        """Set, and then replaced, with each change of the two."""

    @property
    def current(self) -> E | None:
        """The endpoint, once it has had a session."""
        return self._endpoint

    @property
    def established(self) -> bool:
        """There is a session that takes new connections."""
        return self._endpoint is not None and bool(self.sessions)

    async def wait_established(self) -> E:
        """The endpoint, once it has a session that takes new connections."""
        while self._endpoint is None or not self.sessions:
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
        try:
            endpoint = await self._create(self._on_session, self._on_connection)
            self._endpoint = endpoint
            self._notify()
            try:
                await endpoint.wait_closed()
            finally:
                await endpoint.aclose(LAST_PACKETS)
        finally:
            self._repeats.close()

    def made(self, endpoint: ManagedEndpoint) -> None:
        """There is an endpoint, which may not have a session yet."""
        self._made = endpoint

    async def renew(self) -> None:
        """Read certificates anew now, and look the hubs up; nothing before there is an endpoint, which does so."""
        if self._made is not None:
            await self._made.renew()

    def on_credentials(self, change: CredentialsChange) -> None:
        """For the log."""
        if change.kind in ("renewed", "usable"):
            _log.info(f"certificate.{change.kind}", certificate=change.detail)
        else:
            _log.warning(f"certificate.{change.kind}", reason=change.detail)

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _on_session(self, change: SessionChange) -> None:
        session = change.address, change.spn_session_id
        if change.new is SessionState.ESTABLISHED:
            self.sessions[session] = change.hub_id
            self.last_error = ""
        elif change.old is SessionState.ESTABLISHED:
            self.sessions.pop(session, None)
        if change.error is not None:
            self.last_error = str(change.error)
        self._notify()
        if change.new is SessionState.ESTABLISHED:
            self._repeats.forget(lambda kind: bool(kind[0] == change.address))
        if not self._is_news(change):
            return
        told_by_change = isinstance(change.error, HandshakeRejected) and change.error.retryable
        if change.old in _UP or change.new is SessionState.FAILED or change.error is None or told_by_change:
            _log_session(change)
        else:
            # A hub that is away is tried again and again.
            kind = change.address, type(change.error), str(change.error).partition(";")[0]
            self._repeats.say(kind, partial(_log_session, change))

    def _is_news(self, change: SessionChange) -> bool:
        """Whether to log this failure: one of dates may last for hours, and is logged when it changes (D-36)."""
        error = change.error
        if not isinstance(error, HandshakeRejected) or not error.retryable:
            if change.new in _UP or error is not None:
                self._told.pop(change.address, None)
            return True
        # The reason ends with the clock, which changes; the part before it names the certificate.
        about = error.by_hub, error.alert, error.reason.partition(";")[0]
        news = self._told.get(change.address) != about
        self._told[change.address] = about
        return news

    def _on_connection(self, change: ConnectionChange) -> None:
        _log.info(
            f"connection.{change.kind}",
            connectionUid=change.connection_uid,
            epoch=change.epoch,
            seconds=round(change.seconds, 3),
            **({"reason": change.reason} if change.reason else {}),
        )


def _log_session(change: SessionChange, count: int = 1) -> None:
    """Log established, closing, closed and lost once each; a session that isn't established, for so many attempts."""
    address = host_port(*change.address)
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
        _log.warning("session.failed", address=address, **reason, **repeated(count))
