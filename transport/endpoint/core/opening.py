"""A consumer's new connection, from one session to the next until one gives it or time is up. Sans-I/O.

Every try is a connection of its own, with an identity of its own: the program has not seen a byte of one that failed.
Counterpart: :mod:`spnhub.transport.endpoint.core.endpoint` chooses the session.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext
from spnhub.transport.endpoint.session.hub_target import HubTarget
from spnhub.transport.errors import ConnectionAborted, ConnectionRejected, SessionLost, SpnError, can_retry

__all__ = ["OpeningAttempt", "Openings"]

RETURN: Final = 10.0
"""Seconds after a hub's return in which a provider may still come: as long as an agent holds its clients (D-27)."""
_PAUSE: Final = 0.2
"""Seconds, at most, between two tries of the connections that wait for a provider, however many there are."""
_ELSEWHERE: Final = frozenset({Code.CONNECT_FAILED, Code.CONNECT_TIMEOUT})
"""All providers at that hub have failed; another hub may have one that works (D-35)."""
_SESSION_GONE: Final = frozenset({Code.SHUTDOWN, Code.PAUSED, Code.MOVED, Code.LEFT, Code.PEER_LOST})
"""It was the session that failed, not the service: the next session may be waited for."""


class Openings:
    """The attempts of an endpoint.

    :param choose: the session for a new connection, none of those given; None: there is none.
    :param takes_new: whether a session is up that takes new connections.
    :param may_come: whether one that does is on its way.
    """

    def __init__(
        self,
        endpoint: EndpointContext,
        choose: Callable[[set[HubTarget]], HubTarget | None],
        takes_new: Callable[[], bool],
        may_come: Callable[[], bool],
    ) -> None:
        self.endpoint = endpoint
        self.choose = choose
        self.takes_new = takes_new
        self._may_come = may_come
        self._waiting: dict[OpeningAttempt, None] = {}
        self._unserved: dict[OpeningAttempt, None] = {}
        self._settled_at = 0.0

    def open(
        self,
        on_connected: Callable[[Connection], None],
        on_failed: Callable[[SpnError], None],
        timeout: float,
    ) -> OpeningAttempt:
        """Begin a connection; one of the two functions is called, later.

        :param timeout: seconds.
        """
        attempt = OpeningAttempt(self, on_connected, on_failed, self.endpoint.now() + timeout)
        attempt.advance()
        return attempt

    def wait(self, attempt: OpeningAttempt) -> bool:
        """Whether the attempt may wait: it goes on when a session has come or can't come any more."""
        if not self._may_come():
            self._waiting.pop(attempt, None)
            return False
        self._waiting[attempt] = None
        return True

    def advance(self) -> None:
        """A session has come, or can't come any more: those that wait go on."""
        waiting, self._waiting = self._waiting, {}
        for attempt in waiting:
            attempt.advance()

    # A hub that was restarted takes a consumer's session for what it brings, also before there is a provider (D-27).
    # What is new would be refused then, at random: it depends on who of the two is back first.

    def hub_returned(self) -> None:
        """A session was accepted that brings connections: providers may come back after it."""
        self._settled_at = self.endpoint.now() + RETURN

    def wait_for_provider(self, attempt: OpeningAttempt) -> bool:
        """Whether the attempt may wait for one: it goes on when another attempt has found one, or tries in its turn."""
        now = self.endpoint.now()
        if now >= self._settled_at:
            return False
        if not self._unserved:
            self._try_later()
        self._unserved[attempt] = None
        return True

    def served(self) -> None:
        """An attempt has found a provider: those that wait for one try, too."""
        if self._settled_at == 0.0:
            return
        self._settled_at = 0.0
        unserved, self._unserved = self._unserved, {}
        for attempt in unserved:
            attempt.begin_anew()

    def forget(self, attempt: OpeningAttempt) -> None:
        """It is over."""
        self._waiting.pop(attempt, None)
        self._unserved.pop(attempt, None)

    def on_deadline(self) -> None:
        """The one that has waited longest for a provider tries again; none does when providers have had their time."""
        if self.endpoint.now() >= self._settled_at:
            unserved, self._unserved = self._unserved, {}
            for attempt in unserved:
                attempt.advance()
        elif self._unserved:
            attempt = next(iter(self._unserved))
            del self._unserved[attempt]
            if self._unserved:
                self._try_later()
            attempt.begin_anew()

    def _try_later(self) -> None:
        self.endpoint.arm(self, self.endpoint.now() + _PAUSE * (1 + self.endpoint.random()) / 2)


class OpeningAttempt:
    """See the module. A :class:`DeadlineOwner`: its deadline is the program's timeout while it waits for a session."""

    def __init__(
        self,
        openings: Openings,
        on_connected: Callable[[Connection], None],
        on_failed: Callable[[SpnError], None],
        until: float,
    ) -> None:
        """:param until: when it has failed. One of the two functions is called, once, unless it is cancelled."""
        self._openings = openings
        self._endpoint = openings.endpoint
        self._connected = on_connected
        self._failed = on_failed
        self._until = until
        self._tried: set[HubTarget] = set()
        self._error: SpnError | None = None
        self._connection: Connection | None = None
        self._over = False

    def advance(self) -> None:
        """Try the next session."""
        if self._over:
            return
        target = self._openings.choose(self._tried)
        if target is None:
            gone = self._error is None or self._error_code in _SESSION_GONE
            if gone and self._openings.wait(self):
                self._tried.clear()
                self._endpoint.arm(self, self._until)
            elif self._error_code == Code.NO_PROVIDER and self._openings.wait_for_provider(self):
                self._endpoint.arm(self, self._until)
            elif gone and not self._openings.takes_new():
                self._fail(SessionLost(str(self._error or "no session is established")))
            else:
                # With a session that is up, it was the provider that is being stopped.
                self._fail(self._error or SessionLost("no session takes another connection"))
            return
        self._endpoint.arm(self, None)
        self._tried.add(target)
        assert target.session is not None
        try:
            self._connection = target.session.open(self._on_connected, self._on_failed, self._until)
        except SpnError as exc:
            self._error = exc
            self.advance()

    @property
    def _error_code(self) -> int | None:
        return self._error.code if isinstance(self._error, ConnectionAborted | ConnectionRejected) else None

    def begin_anew(self) -> None:
        """Try all sessions again."""
        self._tried.clear()
        self.advance()

    def cancel(self, code: int) -> None:
        """Nobody wants it any more."""
        self._over = True
        self._openings.forget(self)
        self._endpoint.arm(self, None)
        if self._connection is not None:
            self._connection.abort(code)

    def on_deadline(self) -> None:
        """No session in time."""
        self._fail(self._error or SessionLost("no session is established in time"))

    def _on_connected(self) -> None:
        if not self._over:
            self._over = True
            assert self._connection is not None
            self._connected(self._connection)
            self._openings.served()

    def _on_failed(self, error: ConnectionAborted | ConnectionRejected) -> None:
        self._connection = None
        self._error = error
        if self._over:
            return
        again = error.code in _SESSION_GONE | _ELSEWHERE or can_retry(error.code)
        if again and self._endpoint.now() < self._until:
            self.advance()
        else:
            self._fail(error)

    def _fail(self, error: SpnError) -> None:
        if not self._over:
            self._over = True
            self._openings.forget(self)
            self._endpoint.arm(self, None)
            self._endpoint.call(lambda: self._failed(error))
