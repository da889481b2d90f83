"""What all actors of one hub share: time, the log and the state folded from it, commands, timers and addresses.

An actor first decides (a pure function returns a :class:`Decision`), then applies the decision:
:meth:`Environment.carry_out` records the events, folds them into :attr:`Environment.state` with the function that a
replay uses (:class:`spnhub.events.state.hub_state.HubState`), and queues the commands. So the state cannot differ from
the log, and it survives the failure of an actor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from pykka import ActorRef

from spnhub.actors.contract.commands import Command
from spnhub.actors.contract.inputs import Key
from spnhub.actors.contract.inventory import Table
from spnhub.actors.contract.options import ActorOptions
from spnhub.actors.kernel.pauses import Pauses
from spnhub.actors.kernel.runtime import Dispatcher, send
from spnhub.actors.kernel.timers import Timer, Timers
from spnhub.actors.kernel.work_queue import WorkQueue
from spnhub.dataclass import dataclass
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.model import Event, Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["ConnectionEntry", "Decision", "Directory", "Environment", "SessionEntry", "release"]


_Who = TypeVar("_Who", str, tuple[str, str])


class Decision(NamedTuple):
    """What an actor has decided: events for the log and commands for the transport, each in order."""

    events: tuple[Event, ...] = ()
    commands: tuple[Command, ...] = ()


@dataclass(slots=True)
class SessionEntry:
    """A live session: its actor, and its open legs (as consumer or provider) by connection uid and epoch."""

    ref: ActorRef[Any]
    spn_session_id: str
    legs: dict[tuple[str, int], Key] = field(default_factory=dict)
    identity: tuple[str, str] = ("", "")
    """Realm and verified Subject."""
    ending: bool = False
    """The session takes no new legs and waits for the end of its open ones."""
    renewing_until: float | None = None
    """Until when (monotonic seconds) the endpoint's SessionRenewal counts: its next session supersedes this one, and
    connections leave this one in order. None: none was sent."""


@dataclass(slots=True)
class ConnectionEntry:
    """A live connection: its actor, and the sessions that it belongs to."""

    ref: ActorRef[Any]
    provider: int | None
    """The provider's session; None while the opening waits for one."""
    name: tuple[str, int]
    """connectionUid and epoch."""
    asked: tuple[int, ...] = ()
    """The providers that the opening was offered to, including the present one."""
    last_resorts: int = 0
    """How many of these are being passed over, and were asked because no other was left."""
    on_trial: bool = False
    """The present provider is on trial: the outcome of this opening decides whether it is passed over (D-35)."""
    waited: bool = False
    """The opening waits for a provider, or has done so; an opening waits at most once (D-29)."""
    left: int | None = None
    """The provider that didn't take the opening, until the end of the leg there is logged."""


class Directory:
    """The actors by address: a session's number, a connection's key or a service's URN.

    Service actors maintain the first two, realm actors the third. An actor that has just failed gets nothing more; its
    parent will clean up after it.
    """

    def __init__(self) -> None:
        self.sessions: dict[int, SessionEntry] = {}
        self.connections: dict[Key, ConnectionEntry] = {}
        self.services: dict[str, ActorRef[Any]] = {}
        self.realm_sessions: Counter[str] = Counter()
        """How many sessions each realm has, including those that are ending."""
        self.realm_connections: Counter[str] = Counter()
        """How many legs each realm has. None with 0."""
        self.identity_sessions: Counter[tuple[str, str]] = Counter()
        """How many sessions each identity has, including those that are ending. None with 0."""
        self.identity_connections: Counter[tuple[str, str]] = Counter()
        """How many legs each identity has as their consumer. None with 0."""

    def tell_service(self, service_urn: str, message: object) -> bool:
        """Send a message to a service's actor; False: there is no such service."""
        ref = self.services.get(service_urn)
        return ref is not None and send(ref, message)

    def tell_session(self, session: int, message: object) -> bool:
        """Send a message to a session's actor; False: there is no such session."""
        entry = self.sessions.get(session)
        return entry is not None and send(entry.ref, message)

    def tell_connection(self, key: Key, message: object) -> bool:
        """Send a message to a connection's actor; False: there is no such connection."""
        entry = self.connections.get(key)
        return entry is not None and send(entry.ref, message)


def release(counter: Counter[_Who], who: _Who) -> None:
    """Count one less, and forget who has none."""
    counter[who] -= 1
    if not counter[who]:
        del counter[who]


class Environment:
    """The environment of one hub's actors. They run one at a time, so nothing here needs a lock."""

    def __init__(
        self,
        record: Callable[[Event, int], Recorded],
        hub_id: str,
        options: ActorOptions,
        on_fault: OnFault = log_fault,
        *,
        pause: object,
        state: HubState | None = None,
    ) -> None:
        """:param pause: the message that makes a connection's actor pause it.
        :param state: into which ``record`` folds what it is given; None: it folds nothing, so it is done here.
        """
        self.hub_id = hub_id
        self.options = options
        self.on_fault = on_fault
        self.dispatcher = Dispatcher(on_fault=on_fault)
        self.directory = Directory()
        self.timers = Timers()
        self.state = HubState() if state is None else state
        self._folds = state is None
        self.table = Table()
        """The inventory in force; replaced as a whole (D-31)."""
        self.commands: list[Command] = []
        self.now = 0.0
        """Monotonic seconds."""
        self.wall_us = 0
        """Microseconds since 1970, the time of events; never decreases (D-11)."""
        self.clock_us = 0
        """The same as the clock has it, which may be set back: whether something is over is judged by it."""
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
            recorded = self._record(event, self.wall_us)
            if self._folds:
                self.state.take(recorded)
        self.commands.extend(decision.commands)

    def after(self, seconds: float, ref: ActorRef[Any], message: object) -> Timer:
        """Send ``message`` to an actor when ``seconds`` have passed, if the actor is still alive then."""
        return self.timers.set(self.now + seconds, partial(send, ref, message))
