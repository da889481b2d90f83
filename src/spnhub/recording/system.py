"""The actors, with a note of every input and its results.

The same class makes a recording in a hub, and notes the results when a recording is replayed. Counterpart:
:mod:`spnhub.actors.system`, which costs nothing more without a recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Final

from spnhub.actors.contract.commands import Command
from spnhub.actors.contract.inputs import ConnectionInput, HubInput, Key, SessionInput
from spnhub.actors.contract.options import ActorOptions
from spnhub.actors.system import ActorSystem
from spnhub.dataclass import dataclass
from spnhub.events.faults import OnFault, log_fault
from spnhub.events.model import Event, Recorded
from spnhub.events.state.hub_state import HubState

__all__ = ["START", "TIMERS", "Address", "Input", "Part", "RecordingSystem", "Step"]

Address = int | Key | None
"""The receiver of an input: a session, a connection, or the hub."""
Input = HubInput | SessionInput | ConnectionInput

START: Final = "start"
"""What actors do by themselves, before the first input."""
TIMERS: Final = "timers"
"""All timers that were due."""


@dataclass(slots=True)
class Part:
    """One cause, and what came of it."""

    cause: str | tuple[Address, Input]
    """:data:`START`, :data:`TIMERS`, or an input and who it was for."""
    events: list[Recorded] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Step:
    """One run in which something happened."""

    now: float
    """Monotonic seconds."""
    wall_us: int
    """Microseconds since 1970."""
    parts: tuple[Part, ...]
    """Every input; :data:`START` and :data:`TIMERS` only if something came of them."""


class RecordingSystem(ActorSystem):
    """Actors that pass each step to ``note`` when it is done.

    Runs in which nothing can happen, most of a busy hub's, are no steps. Time is the actors' own: as it was passed to
    them; the wall clock may have been set back.
    """

    def __init__(
        self,
        record: Callable[[Event, int], Recorded],
        hub_id: str,
        options: ActorOptions | None,
        note: Callable[[Step], None],
        on_fault: OnFault = log_fault,
        state: HubState | None = None,
    ) -> None:
        self._parts: list[Part] = []
        self._mark = 0
        """Commands that the parts have already."""
        self._note = note

        def noted(event: Event, timestamp: int) -> Recorded:
            recorded = record(event, timestamp)
            self._parts[-1].events.append(recorded)
            return recorded

        super().__init__(noted, hub_id, options, on_fault, state)

    def run(self, now: float, wall_us: int) -> None:
        """As of the actors without a recording."""
        env = self._env
        due = env.timers.next()
        set_back = wall_us < env.clock_us
        if set_back:
            # Steps in which nothing happened have no record, but the latest time counts.
            self._note(Step(env.now, env.wall_us, ()))
        idle = (
            not set_back and not self._inputs and env.dispatcher.quiescent and (due is None or due > max(env.now, now))
        )
        self._parts = [Part(START)]
        self._mark = len(env.commands)
        super().run(now, wall_us)
        if idle:
            return
        self._end_part()
        parts = tuple(part for part in self._parts if part.cause not in (START, TIMERS) or part.events or part.commands)
        self._note(Step(env.now, env.clock_us, parts))

    def _handle(self, address: Address, message: Input) -> None:
        self._begin_part((address, message))
        super()._handle(address, message)

    def _fire_timers(self) -> None:
        self._begin_part(TIMERS)
        super()._fire_timers()

    def _begin_part(self, cause: str | tuple[Address, Input]) -> None:
        self._end_part()
        self._parts.append(Part(cause))

    def _end_part(self) -> None:
        commands = self._env.commands
        self._parts[-1].commands += commands[self._mark :]
        self._mark = len(commands)
