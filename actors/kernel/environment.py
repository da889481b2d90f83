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
from typing import Any, NamedTuple

from pykka import ActorRef

from spnhub.actors.contract.commands import Command
from spnhub.actors.contract.inputs import Key
from spnhub.actors.contract.inventory import Table
from spnhub.actors.contract.options import ActorOptions
from spnhub.actors.kernel.pauses import Pauses
from spnhub.actors.kernel.runtime import Dispatcher
from spnhub.actors.kernel.timers import Timer, Timers
from spnhub.actors.kernel.work_queue import WorkQueue
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.model import Event, Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["ConnectionEntry", "Decision", "Directory", "Environment", "SessionEntry"]

logger = logging.getLogger("spnhub.actors")


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
