"""All actors of one hub behind one object: inputs in, commands and events out. Start here.

Sans-I/O: time is an argument of :meth:`ActorSystem.run`, events go to the ``record`` that was given, and the transport
fetches the commands. Inputs are plain values under plain addresses (the hub, a session's number, a connection's key)
and are handled one after the other, each to quiescence; so the same inputs with the same times give the same events
and commands, however they were batched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from spnhub.actors.connection.state import PauseLeg
from spnhub.actors.contract.commands import Command
from spnhub.actors.contract.inputs import ConnectionInput, HubInput, Key, SessionInput
from spnhub.actors.contract.inventory import Table
from spnhub.actors.contract.options import ActorOptions
from spnhub.actors.hub.actor import HubActor
from spnhub.actors.kernel.environment import Environment
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.model import Event, Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["ActorOptions", "ActorSystem"]

_ROUNDS: Final = 64
"""How often timers may set timers that are due at once; the others fire in the next run. Far more than an opening has
providers to be offered to; without a bound an interval of 0 would go on for ever."""


class ActorSystem:
    """The actors of one hub process.

    :param record: gives an event its sequence in the log; the int is its time, microseconds since 1970. Must not raise.
    :param hub_id: the process (D-3).
    :param on_fault: called with every exception that a handler raises, also where the actor survives it. No decision
        depends on it.
    :param state: into which ``record`` itself folds each event, as a journal does, with nothing open in it; None: the
        actors have their own.
    """

    def __init__(
        self,
        record: Callable[[Event, int], Recorded],
        hub_id: str,
        options: ActorOptions | None = None,
        on_fault: OnFault = log_fault,
        state: HubState | None = None,
    ) -> None:
        self._env = Environment(record, hub_id, options or ActorOptions(), on_fault, pause=PauseLeg(), state=state)
        self._inputs: deque[tuple[int | Key | None, HubInput | SessionInput | ConnectionInput]] = deque()
        self._hub = self._env.dispatcher.start(HubActor, self._env)

    def tell(self, address: int | Key | None, message: HubInput | SessionInput | ConnectionInput) -> None:
        """Queue an input by its address: None: the hub, a number: a session, a key: a connection."""
        self._inputs.append((address, message))

    def tell_hub(self, message: HubInput) -> None:
        """Queue an input for the hub's actor; the next :meth:`run` handles it, in order with the others."""
        self._inputs.append((None, message))

    def tell_session(self, session: int, message: SessionInput) -> None:
        """Queue an input for a session, by the engine's connection number. An input for an unknown session is late: it
        is ignored."""
        self._inputs.append((session, message))

    def tell_connection(self, key: Key, message: ConnectionInput) -> None:
        """Queue an input for a connection. An input for an unknown connection is late: it is ignored."""
        self._inputs.append((key, message))

    def run(self, now: float, wall_us: int) -> None:
        """Handle all inputs, then all timers that are due.

        :param now: monotonic seconds.
        :param wall_us: microseconds since 1970: the time of the events decided here. A clock that was set back is
            ignored by these until it has caught up, so that times in the log never decrease (D-11).
        """
        env = self._env
        env.now, env.clock_us, env.wall_us = max(env.now, now), wall_us, max(env.wall_us, wall_us)
        env.dispatcher.run()
        while self._inputs:
            self._handle(*self._inputs.popleft())
        self._fire_timers()

    def _handle(self, address: int | Key | None, message: HubInput | SessionInput | ConnectionInput) -> None:
        env = self._env
        if address is None:
            self._hub.tell(message)
        elif isinstance(address, Key):
            env.directory.tell_connection(address, message)
        else:
            env.directory.tell_session(address, message)
        env.dispatcher.run()

    def _fire_timers(self) -> None:
        env = self._env
        if (when := env.timers.next()) is None or when > env.now:
            return
        for _ in range(_ROUNDS):
            none = True
            for action in env.timers.due(env.now):
                none = False
                try:
                    action()
                except Exception as fault:  # a failed timer must not keep the other timers from firing
                    env.on_fault("timers", fault)
                env.dispatcher.run()
            if none:
                return

    @property
    def table(self) -> Table:
        """The inventory that the actors decide by now. A table is never changed, only replaced as a whole."""
        return self._env.table

    def take_commands(self) -> list[Command]:
        """Remove and return the commands that the transport must carry out, in order."""
        commands, self._env.commands = self._env.commands, []
        return commands

    def timer(self) -> float | None:
        """When :meth:`run` must be called even without inputs, monotonic seconds; None: no timer is set."""
        return self._env.timers.next()

    def state(self) -> HubState:
        """What the hub holds: the fold of all events recorded so far. A copy."""
        return self._env.state.copy()

    @property
    def environment(self) -> Environment:
        """What the actors share and who they are, to look at while none of them has a message."""
        return self._env

    @property
    def actor_count(self) -> int:
        """Sessions and connections that have an actor."""
        directory = self._env.directory
        return len(directory.sessions) + len(directory.connections)

    def residents(self) -> tuple[set[int], set[Key]]:
        """The sessions and connections that have an actor, including connections whose start isn't logged yet."""
        directory = self._env.directory
        return set(directory.sessions), set(directory.connections)
