"""What all actors of one hub share: time, the log and the state folded from it, commands, timers and addresses.

An actor decides (a pure function returns a :class:`Decision`), then applies: :meth:`Environment.carry_out` records the
events, folds them into :attr:`Environment.state` with the function that a replay uses
(:class:`spnhub.events.state.hub_state.HubState`), and queues the commands. So the state cannot differ from the log, and
what happened survives the failure of the actor it happened to.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from pykka import ActorRef

from spnhub.actors.contract.commands import Command
from spnhub.actors.contract.inputs import Key
from spnhub.actors.contract.inventory import Table
from spnhub.actors.kernel.pauses import Pauses
from spnhub.actors.kernel.runtime import Dispatcher
from spnhub.actors.kernel.timers import Timer, Timers
from spnhub.actors.kernel.work_queue import WorkQueue
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.model import Event, Recorded
from spnhub.events.state.hub_state import HubState
from spnhub.options import option

__all__ = ["ActorOptions", "ConnectionEntry", "Decision", "Directory", "Environment", "SessionEntry"]

logger = logging.getLogger("spnhub.actors")

# An hour at most, and a day: anything above is a wrong unit, not a wish.
_times = partial(option, group="Connections", metavar="SECONDS", unit="seconds")
_intervals = partial(option, group="Event journal", metavar="SECONDS", unit="seconds", above=0, at_most=86_400)


@dataclass(frozen=True, slots=True)
class ActorOptions:
    """Bounds (seconds, counts) of the actors."""

    accept_timeout: float = 15.0
    """From the opening of a connection until its provider has accepted."""
    answer_timeout: float = 6.0
    """Of that, for one provider to answer while another one is sound (D-35); an agent answers within 5 s."""
    opening_attempts: int = 16
    """Providers that one opening is offered to, at most, one after the other (D-35)."""
    last_resorts: int = 3
    """Of them, those that are passed over, and asked for want of another."""
    failure_base: float = 1.0
    """For which a provider that fails for the first time is passed over; doubled each time (D-35)."""
    failure_limit: float = 30.0
    """For which one is passed over at most."""
    close_timeout: float = 10.0
    """For the Close exchange: after both FINs, or after a Close Request that doesn't wait for them (R-4.5)."""
    abort_timeout: float = 2.0
    """For the transport to say how many bytes an aborted connection has carried."""
    step_timeout: float = 5.0
    """For each step of a pause and of a resume that an endpoint has to take, and for it to close an empty session."""
    resume_timeout: float = _times(
        60.0,
        "For this long a suspended connection counts in its provider's load.",
        at_least=0,
        at_most=3600,
    )
    """For which a suspended connection counts in its provider's load."""
    gone_timeout: float = _times(
        1.0,
        "An endpoint whose port is closed may come back for this long; then its connections end with an error.",
        above=0,
        at_most=3600,
    )
    """For an instance whose port is closed to come back in another session; then its connections are over (D-20)."""
    suspended_connections: int = 65_536
    """Of one service that count like that."""
    shutdown_timeout: float = 20.0
    """For a resumable shutdown; then what is left is stopped as planned."""
    stop_timeout: float = 15.0
    """For each half of a planned stop, consumers and providers; more than the other bounds need."""
    session_connections: int = 4096
    """Connections open at once on one consumer's session."""
    realm_sessions: int = 20_000
    """Sessions open at once in a realm whose definition doesn't say."""
    start_timeout: float = 30.0
    """For an opening to wait for a provider of a service that is started on demand (D-29)."""
    waiting_openings: int = 1024
    """Openings of one service that wait like that."""
    start_interval: float = 10.0
    """Between two starts of one service, at least."""
    retry_base: float = 1.0
    """Before the first retry of a start or stop that failed; doubled each time."""
    retry_limit: float = 300.0
    """Between two retries, at most."""
    cluster_timeout: float = 120.0
    """For a cluster manager to report; then the command counts as failed."""
    stop_attempts: int = 3
    """To stop a service; then it counts as running."""
    slice_size: int = 64
    """Pieces of a reload, of a session's end, or of a look at all connections, at one moment (D-31)."""
    slice_pause: float = 0.004
    """Before the next such slice."""
    pauses_at_once: int = 4
    """Connections that a resumable shutdown pauses at a time, at least; more if that would take more than 64 rounds."""
    pause_patience: float = 0.1
    """For which one of them may hold up the next."""
    expiry_check: float = 60.0
    """Between two looks at the wall clock, which may be set, while a realm's expiry is ahead."""
    alive_interval: float = _intervals(60.0, "Between two heartbeats in the events.")
    """Between two signs of life in the log."""
    progress_interval: float = _intervals(
        60.0, "Between two events in which an open connection reports what it has carried."
    )
    """From one look at the bytes of open connections to the next; what has moved is told (D-10)."""
    refusal_window: float = 1.0
    """Identical refused handshakes within it share an event (D-13)."""
    refusal_kinds: int = 64
    """Different ones told apart within a window; what comes beyond shares one event."""


class Decision(NamedTuple):
    """What an actor has decided: facts for the log, and what the transport shall do, each in order."""

    events: tuple[Event, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclass(slots=True)
class SessionEntry:
    """A live session: where its mail goes, and its open legs by connection uid and epoch, on either side."""

    ref: ActorRef[Any]
    spn_session_id: str
    legs: dict[tuple[str, int], Key] = field(default_factory=dict)
    ending: bool = False
    """No new legs; it waits for the end of those it has."""
    renewing_until: float | None = None
    """Its endpoint has said that another takes its place in order; monotonic seconds until which that counts."""


@dataclass(slots=True)
class ConnectionEntry:
    """A live connection: where its mail goes, and the sessions it hangs on."""

    ref: ActorRef[Any]
    provider: int | None
    """None while the opening waits for one."""
    name: tuple[str, int]
    """connectionUid and epoch."""
    asked: tuple[int, ...] = ()
    """The providers that an opening was offered to, the present one included."""
    last_resorts: int = 0
    """How many of them are passed over, and were asked for want of another."""
    on_trial: bool = False
    """The present one is on trial: the choice wants to hear what becomes of this opening (D-35)."""
    waited: bool = False
    """It waits for a provider, or has; an opening does so once (D-29)."""
    left: int | None = None
    """A provider that didn't take it, until the end of its leg there is logged."""


class Directory:
    """Addresses: which actor is meant by a session's number, a connection's key or a service's URN.

    Service actors keep the first two, realm actors the third.
    """

    def __init__(self) -> None:
        self.sessions: dict[int, SessionEntry] = {}
        self.connections: dict[Key, ConnectionEntry] = {}
        self.services: dict[str, ActorRef[Any]] = {}
        self.realm_sessions: Counter[str] = Counter()
        """How many sessions each realm has, ending ones included."""

    def tell_service(self, service_urn: str, message: object) -> bool:
        """Mail for a service; False: there is no such service."""
        ref = self.services.get(service_urn)
        return ref is not None and _tell(ref, message)

    def tell_session(self, session: int, message: object) -> bool:
        """Mail for a session; False: there is no such session."""
        entry = self.sessions.get(session)
        return entry is not None and _tell(entry.ref, message)

    def tell_connection(self, key: Key, message: object) -> bool:
        """Mail for a connection; False: there is no such connection."""
        entry = self.connections.get(key)
        return entry is not None and _tell(entry.ref, message)


def _tell(ref: ActorRef[Any], message: object) -> bool:
    if not ref.is_alive():  # it has failed just now; its parent deals with what is left of it
        return False
    ref.tell(message)
    return True


class Environment:
    """One hub's. Its actors run one at a time, so nothing here needs a lock."""

    def __init__(
        self,
        record: Callable[[Event, int], Recorded],
        hub_id: str,
        options: ActorOptions,
        on_fault: OnFault = log_fault,
        *,
        pause: object,
    ) -> None:
        """:param pause: the message by which a connection is paused."""
        self.hub_id = hub_id
        self.options = options
        self.on_fault = on_fault
        self.dispatcher = Dispatcher(on_fault=on_fault)
        self.directory = Directory()
        self.timers = Timers()
        self.state = HubState()
        self.table = Table()
        """The inventory as it counts now; replaced as a whole (D-31)."""
        self.commands: list[Command] = []
        self.now = 0.0
        """Monotonic seconds."""
        self.wall_us = 0
        """Microseconds since 1970; never runs backwards (D-11)."""
        self.work_queue = WorkQueue(options.slice_size, options.slice_pause, self.timers, lambda: self.now, on_fault)
        self.pauses = Pauses(
            options.pauses_at_once,
            options.pause_patience,
            self.timers,
            lambda: self.now,
            lambda key: self.directory.tell_connection(key, pause),
        )
        self._record = record

    def carry_out(self, decision: Decision) -> None:
        """Record and fold the events, queue the commands."""
        for event in decision.events:
            for fault in self.state.apply(self._record(event, self.wall_us)):
                logger.error("the actors recorded an event that doesn't fit the log: %s", fault.message)
        self.commands.extend(decision.commands)

    def after(self, seconds: float, ref: ActorRef[Any], message: object) -> Timer:
        """Tell an actor something when ``seconds`` have passed, if it still lives then."""

        def tell() -> None:
            _tell(ref, message)

        return self.timers.set(self.now + seconds, tell)
