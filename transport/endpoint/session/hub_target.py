"""One address of the hub and what has become of it: R-2.6's states, over all its QUIC connections. Sans-I/O.

Counterparts: :mod:`spnhub.transport.endpoint.core.endpoint` has one for every address,
:mod:`spnhub.transport.endpoint.session.session` is one established session or the attempt at one.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.backoff import backoff
from spnhub.dataclass import dataclass
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.endpoint.connection.context import EndpointContext, SessionStreams
from spnhub.transport.endpoint.connection.registry import ConnectionRegistry
from spnhub.transport.endpoint.session.session import Session
from spnhub.transport.endpoint.session.states import SessionState, SessionTrigger, session_machine
from spnhub.transport.engine import Address
from spnhub.transport.errors import EndpointClosed, HandshakeRejected, SessionLost, SessionRejected, SpnError

__all__ = ["BACKOFF_BASE", "BACKOFF_CAP", "RETURN_BASE", "HubTarget", "IpAddress", "SessionChange", "Why"]

BACKOFF_BASE: Final = 0.25
"""Seconds before the first retry, doubled for each that follows, less up to half of it at random: a restarted hub meets
all its endpoints at once (D-33)."""
RETURN_BASE: Final = 0.1
"""The same for an endpoint that has connections to resume."""
RETURN_CAP: Final = 0.2
"""Programs on both sides stand still meanwhile, for as long as their connections may be resumed. Each attempt at a
closed port costs the hub's host one packet; with what an attempt takes by itself there is one every 0.25 s."""
FIRST_PAUSE: Final = 0.1
"""Seconds, less up to half of it at random, between the attempts of an endpoint that has had no session yet, for
:data:`FIRST_TIME`: it was started together with its hub, and costs that host one packet each time. One that has a
number of retries keeps to the usual pauses, or they would be over at once."""
FIRST_TIME: Final = 3.0
"""Seconds since the first of them failed."""
REFUSED_CAP: Final = 2.0
"""The same where a hub is there and refuses: that costs it a handshake each time."""
REPEAT: Final = 0.2
"""Seconds, less up to half of it at random, after which such an endpoint repeats what nobody has answered: not every
closed port is reported, and the hub may be back."""
BACKOFF_CAP: Final = 8.0
"""Below the time for which a consumer agent holds its clients (D-27), so that a hub that is back serves them."""

TIME_CAP: Final = 30.0
"""For an endpoint that is refused because of a date.

That may last, a whole fleet is in it, and each attempt costs the hub a handshake; renewed files are tried at once.
"""

CONTEST_CAP: Final = 30.0
"""For an endpoint that another process with its instance id has superseded: each attempt ends the other's session."""
_CONTEST_OVER: Final = 60.0
"""Seconds that a session lasts when there is no such process any more."""

PROVEN: Final = 10.0
"""Seconds after which a session that no hub acknowledges counts as one that was taken."""

LAST_PACKETS: Final = 0.5
"""Seconds between the last connection's end and that of a session that is Closing: a QUIC connection that is closed
repeats nothing, and how its connections have left must arrive."""

DELIVERY_ROUNDS: Final = 40
"""So often that is put off for what QUIC hasn't delivered, where no CloseAck has waited for it."""

IpAddress = tuple[str, int]
"""IP address and UDP port."""

_S = SessionState
_UNBORN: Final = frozenset({_S.IP_FOUND, _S.SESSION_CONNECTING, _S.WAITING})


@dataclass(frozen=True, slots=True)
class SessionChange:
    """A session's state has changed."""

    address: IpAddress
    old: SessionState
    new: SessionState
    spn_session_id: str
    """Of the current or last session at this address; empty before the first."""
    hub_id: str
    error: SpnError | None
    """Why, where something went wrong."""


class Why(enum.Enum):
    """Why a session is Closing."""

    SIGNAL = "the endpoint is being closed"
    """Connections may still be resumed in it."""
    SHUTDOWN = "the hub is shutting down"
    IP_LOST = "its address has vanished"
    RENEWED = "renewed with other credentials"


def _refused(error: SpnError | None) -> bool:
    return isinstance(error, SessionRejected | HandshakeRejected)


class HubTarget:
    """See the module. A :class:`DeadlineOwner`: its deadline is the next attempt.

    :param connections: the endpoint's connections, some of which may wait to be resumed.
    :param dial: begins a QUIC connection; :meth:`on_dialed` follows as soon as there is one.
    :param is_reached: whether a session is up, over another address, with the hub that the last one of this was with.
    :param on_change: called with each change of the state.
    """

    def __init__(
        self,
        endpoint: EndpointContext,
        connections: ConnectionRegistry,
        remote: IpAddress,
        dial: Callable[[IpAddress], None],
        is_reached: Callable[[HubTarget], bool],
        on_change: Callable[[SessionChange], None],
    ) -> None:
        self.remote = remote
        self.session: Session | None = None
        """From the beginning of an attempt to the end of the session."""
        self.local: Address | None = None
        """Its socket."""
        self.why: Why | None = None
        """While Closing."""
        self.return_after = 0.0
        """Seconds to leave the hub alone after the end that it has asked for."""
        self.error: SpnError | None = None
        """What went wrong last."""
        self.attempts = 0
        """That failed in a row."""
        self._backoff = 0
        self._due = 0.0
        """When the deadline was to be that was set last."""
        self.spn_session_id = ""
        self.hub_id = ""
        self._rounds = 0
        self._answered = False
        self._superseded = False
        """The hub has ended the last session for another of the same instance."""
        self._contests = 0
        """Sessions in a row that ended so, for one that is none of this endpoint's."""
        self._established_at = 0.0
        """0: it has had no session."""
        self._first_failed_at: float | None = None
        """When the first attempt failed."""
        self._unproven = False
        """Nothing but its lasting will show that the hub has taken the session."""
        self._endpoint = endpoint
        self._all = connections
        self._dial = dial
        self._is_reached = is_reached
        self._on_change = on_change
        self._machine = session_machine()

    @property
    def state(self) -> SessionState:
        """R-2.6."""
        return self._machine.state

    @property
    def established(self) -> bool:
        """Whether there is a session, Closing or not."""
        return self.session is not None and self.session.established

    @property
    def streams(self) -> SessionStreams[Connection] | None:
        """Its session's, for connections."""
        return None if self.session is None else self.session.streams

    @property
    def takes_new(self) -> bool:
        """Whether new connections may begin in it."""
        return self.state is _S.ESTABLISHED

    @property
    def takes_resumes(self) -> bool:
        """Whether connections may be resumed in it."""
        return self.established and (self.state is _S.ESTABLISHED or self.why is Why.SIGNAL)

    @property
    def unborn(self) -> bool:
        """Whether there is no session, and one is sought."""
        return self.state in _UNBORN

    @property
    def _exhausted(self) -> bool:
        """Whether it was tried again as often as it may be."""
        retries = self._endpoint.options.retries
        return retries is not None and self.attempts >= retries

    @property
    def unresponsive(self) -> bool:
        """What we sent has been unanswered for a while."""
        return self.session is not None and self.session.unresponsive

    @property
    def connections(self) -> int:
        """That have a leg here, or are about to."""
        return self.session.connections if self.session is not None else 0

    def fire(self, event: SessionTrigger, error: SpnError | None = None) -> None:
        """Let ``event`` happen.

        :raises LocalProtocolError: it can't happen now.
        """
        old = self.state
        new = self._machine.fire(event)
        if self.session is not None and self.session.spn_session_id:
            self.spn_session_id, self.hub_id = self.session.spn_session_id, self.session.hub_id
        self._on_change(SessionChange(self.remote, old, new, self.spn_session_id, self.hub_id, error))

    def connect(self, after: float = 0.0) -> None:
        """Begin (again): its address is known, there is no session. ``after``: seconds to wait before."""
        if self.state in (_S.CLOSED, _S.FAILED):
            self._machine = session_machine()
            self.why = None
            self.attempts = self._backoff = 0
        if after > 0 and self._all.paused:
            after = min(after, backoff(RETURN_CAP, RETURN_CAP, 0, self._endpoint.random))
        if after > 0:
            self._due_in(after)
        else:
            self.on_deadline()

    def _due_in(self, seconds: float) -> None:
        self._due = self._endpoint.now() + seconds
        self._endpoint.arm(self, self._due)

    def on_dialed(self, session: Session) -> None:
        """The attempt has a QUIC connection."""
        self.session = session
        self._plan_repeat()

    def press(self) -> None:
        """There is something to resume, and no session for it: what this target waits for comes soon."""
        if self.state is _S.SESSION_CONNECTING:
            self._plan_repeat()
        elif self.state is _S.WAITING and not self._superseded and not _refused(self.error):
            soon = backoff(RETURN_CAP, RETURN_CAP, 0, self._endpoint.random)
            if self._due > self._endpoint.now() + soon:
                self._backoff = 0
                self._due_in(soon)

    def _plan_repeat(self) -> None:
        if self.session is not None and self.session.is_unanswered and self._all.paused:
            self._due_in(backoff(REPEAT, REPEAT, 0, self._endpoint.random))

    def on_deadline(self) -> None:
        """The next attempt; while there is one, its repetition; while Closing, the end of a session that is empty."""
        if self.state is _S.SESSION_CONNECTING:
            if self.session is not None and self.session.is_unanswered:
                self.session.repeat()
                self._plan_repeat()
            return
        if self.state is _S.CLOSING:
            if self.session is not None and not self.connections:
                if self.session.undelivered and self._rounds < DELIVERY_ROUNDS:
                    self._rounds += 1
                    self._due_in(LAST_PACKETS)
                else:
                    self.session.close(Code.OK, "no connections are left")
            return
        if self._superseded and self.state is _S.WAITING and not self._may_return():
            return
        self.fire(SessionTrigger.RETRY if self.state is _S.WAITING else SessionTrigger.CONNECT)
        self._dial(self.remote)

    def _may_return(self) -> bool:
        """Two addresses may lead to one hub, which takes one session of an instance: the one that came later stays, and
        this address waits for :meth:`wake`. If it is none of ours, another process has the same instance id."""
        if self._is_reached(self):
            self._contests = 0
            return False
        self._superseded = False
        if self._contests > 1:
            self._due_in(min(CONTEST_CAP, 2.0**self._contests))
            return False
        return True

    def wake(self, after: float = 0.0) -> None:
        """What this address has waited for isn't so any more."""
        if self.state is _S.WAITING and self._superseded:
            self._due_in(after)

    def on_established(self) -> None:
        """The session ACK is there."""
        self._unproven = self.session is not None and not self.session.acknowledged
        if not self._unproven:
            self.attempts = self._backoff = 0
        self._superseded = False
        self._established_at = self._endpoint.now()
        self._answered = False
        self._endpoint.arm(self, None)
        self.fire(SessionTrigger.ESTABLISHED)

    def on_failed(self, error: SpnError) -> None:
        """The attempt has failed, or the session is over. ``session`` is None by now."""
        self.error = error
        self._endpoint.arm(self, None)
        match self.state:
            case _S.CLOSING:
                closed = isinstance(error, EndpointClosed)
                self.fire(SessionTrigger.EMPTY if closed else SessionTrigger.LOST, None if closed else error)
            case _S.ESTABLISHED if error.retryable:
                if self._unproven and self._endpoint.now() - self._established_at >= PROVEN:
                    self.attempts = self._backoff = 0
                if isinstance(error, SessionLost) and error.code == Code.SUPERSEDED:
                    error = self._on_superseded(error)
                self.fire(SessionTrigger.LOST, error)
                self._wait(error)
            case _S.SESSION_CONNECTING if error.retryable:
                self._on_attempt_failed(error)
            case _S.ESTABLISHED | _S.SESSION_CONNECTING:
                self.fire(SessionTrigger.REFUSED_FOR_GOOD, error)
            case _:
                # Given up already: an address that vanished, or the endpoint was closed.
                pass

    def _on_superseded(self, error: SessionLost) -> SessionLost:
        lasted = self._endpoint.now() - self._established_at
        self._superseded = True
        self._contests = 1 if lasted > _CONTEST_OVER else self._contests + 1
        if self._contests == 1:
            return error
        return SessionLost(f"{error}; another process has this instance id, and each needs one of its own", error.code)

    def _on_attempt_failed(self, error: SpnError) -> None:
        if self._exhausted:
            self.fire(SessionTrigger.RETRIES_EXCEEDED, error)
            return
        refused = isinstance(error, SessionRejected)
        if refused and not self._answered:
            # The hub is there; how long it was away says nothing about what it waits for.
            self._answered = True
            self._backoff = 0
        if isinstance(error, SessionRejected) and error.code == Code.NO_PROVIDER:
            self.fire(SessionTrigger.PROVIDER_NOT_FOUND, error)
        else:
            self.fire(SessionTrigger.REFUSED if refused else SessionTrigger.CONNECT_FAILED, error)
        self._wait(error)

    def _wait(self, error: SpnError) -> None:
        if self._exhausted:
            self.fire(SessionTrigger.RETRIES_EXCEEDED, error)
            return
        base, cap, doubled = BACKOFF_BASE, BACKOFF_CAP, True
        if isinstance(error, HandshakeRejected):
            cap = TIME_CAP
        elif self._all.paused:
            base, cap = RETURN_BASE, REFUSED_CAP if _refused(error) else RETURN_CAP
        elif not self._established_at and self._endpoint.options.retries is None and self._has_just_begun():
            base, doubled = FIRST_PAUSE, _refused(error)
        if not doubled:
            # What follows these begins with the usual pauses.
            self._backoff = 0
        delay = backoff(base, cap, self._backoff, self._endpoint.random)
        self.attempts += 1
        self._backoff += doubled
        self._due_in(delay)

    def _has_just_begun(self) -> bool:
        now = self._endpoint.now()
        if self._first_failed_at is None:
            self._first_failed_at = now
        return now - self._first_failed_at < FIRST_TIME

    def on_empty(self) -> None:
        """The last connection has left. While Closing for the hub's or the address's sake the session ends with it."""
        if self.state is _S.CLOSING and self.why is not Why.SIGNAL:
            self._rounds = 0
            self._due_in(LAST_PACKETS)

    def lose_address(self, *, on_demand: bool) -> None:
        """The address has vanished from DNS. ``on_demand``: it was asked for because the hub can't be reached."""
        if self.state is _S.ESTABLISHED:
            self.why = Why.IP_LOST
            self.fire(SessionTrigger.IP_LOST)
        elif self.state in _UNBORN:
            asked = on_demand and self.state is _S.SESSION_CONNECTING
            self._give_up(SessionTrigger.IP_LOST_ON_DEMAND if asked else SessionTrigger.IP_LOST)

    def hurry(self) -> None:
        """Try again now: what it was refused for may be over."""
        if self.state is _S.WAITING:
            self._backoff = 0
            self._due_in(0.0)

    def give_way(self) -> None:
        """Another session takes its place."""
        if self.state is _S.ESTABLISHED:
            self.why = Why.RENEWED
            self.fire(SessionTrigger.RENEWED)
        elif self.state in _UNBORN:
            self._endpoint.arm(self, None)

    def shut_down(self) -> None:
        """The hub asks for the end (R-4.8)."""
        if self.state is _S.ESTABLISHED:
            self.why = Why.SHUTDOWN
            self.fire(SessionTrigger.SHUTDOWN_REQUESTED)

    def signal(self) -> None:
        """The endpoint is being closed. A session that is up is Closing now, anything less is Closed."""
        if self.state is _S.ESTABLISHED:
            self.why = Why.SIGNAL
            self.fire(SessionTrigger.SHUTDOWN_SIGNAL)
        elif self.state in _UNBORN:
            self._give_up(SessionTrigger.SHUTDOWN_SIGNAL)

    def _give_up(self, event: SessionTrigger) -> None:
        self._endpoint.arm(self, None)
        self.fire(event)
        if self.session is not None:
            self.session.close(Code.OK, "shutdown")
