"""Carries out what the actors want of cluster managers, and watches the clock for ``startAt`` and ``stopAt``.

Nothing here decides: results and moments become inputs of the actors. Counterparts: :mod:`spnhub.clusters`,
:class:`spnhub.actors.contract.commands.StartService`, :class:`spnhub.actors.contract.inputs.ScheduleDue`.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

import structlog

from spnhub.actors.contract import commands, inputs
from spnhub.actors.contract.definitions import ServiceDefinition
from spnhub.clusters import Schedule, ServiceTask, Starter, is_on
from spnhub.dataclass import dataclass
from spnhub.events.model import from_datetime, to_datetime
from spnhub.inventory import Inventory

__all__ = ["ScheduleTable", "ScheduledMoment", "Services"]

_log = structlog.get_logger("spnhub.hub")

_LONGEST_WAIT: Final = 30.0
"""Seconds between looks at the wall clock, which may be set."""


class ScheduledMoment(NamedTuple):
    """A schedule's next moment."""

    moment: int
    """Microseconds since 1970."""
    service_urn: str
    start: bool


@dataclass(frozen=True, slots=True)
class _Scheduled:
    start_at: Schedule | None
    stop_at: Schedule | None


@dataclass(slots=True)
class ScheduleTable:
    """The schedules of one inventory, searched already: croniter takes a tenth of a millisecond for each."""

    services: dict[str, _Scheduled]
    due: list[ScheduledMoment]
    on: set[str]
    """URNs of services that run by their schedules when the table is made: ``startAt`` was later than ``stopAt``."""

    @classmethod
    def of(cls, inventory: Inventory, wall_us: int) -> ScheduleTable:
        """Search the calendar from ``wall_us`` (microseconds since 1970) on. Pure; may run in a thread."""
        table = cls({}, [], set())
        moment = to_datetime(wall_us)
        for realm in inventory.realms:
            for network in realm.networks:
                for service in network.services:
                    scheduled = _schedules(service)
                    if scheduled is None:
                        continue
                    table.services[service.urn] = scheduled
                    # Without startAt the schedule starts nothing, so it has nothing to make up for either.
                    if scheduled.start_at is not None and is_on(scheduled.start_at, scheduled.stop_at, moment):
                        table.on.add(service.urn)
                    for start in (True, False):
                        table.search(service.urn, start, wall_us)
        return table

    def search(self, service_urn: str, start: bool, after: int) -> None:
        """Find the next moment of one schedule, if there is one."""
        scheduled = self.services[service_urn]
        schedule = scheduled.start_at if start else scheduled.stop_at
        found = None if schedule is None else schedule.next_after(to_datetime(after))
        if found is not None:
            heapq.heappush(self.due, ScheduledMoment(from_datetime(found), service_urn, start))


class Services:
    """The services of one hub process that cluster managers start and stop.

    :param tell: passes an input to the actors; a turn follows.
    :param wall_us: microseconds since 1970.
    """

    def __init__(self, tell: Callable[[inputs.ServiceInput], None], wall_us: Callable[[], int]) -> None:
        self._tell = tell
        self._wall = wall_us
        self._starter = Starter(self._report)
        self._tasks: dict[str, ServiceTask] = {}
        """By fingerprint."""
        self._latest: dict[str, ServiceTask] = {}
        """Those of the inventory as it is."""
        self._in_use: dict[str, str] = {}
        """Fingerprint by URN of what was started here and not stopped since."""
        self._stopping: dict[str, str] = {}
        self._schedules = ScheduleTable({}, [], set())
        self._late: set[str] = set()
        """Services whose ``startAt`` came before they had an actor."""
        self._timer: asyncio.TimerHandle | None = None
        self._looked = 0
        """When the clock was looked at last, microseconds since 1970."""

    def load(self, tasks: Mapping[str, ServiceTask], schedules: ScheduleTable) -> None:
        """Another inventory counts from now on.

        Tasks of the one before stay at hand: its services have to be stopped as they were started, and the actors may
        still be on their way through the differences.
        """
        kept = {name: self._tasks[name] for name in self._in_use.values() if name in self._tasks}
        self._tasks = kept | self._latest | dict(tasks)
        self._latest = dict(tasks)
        before, self._schedules = self._schedules, schedules
        self._late = {urn for urn in schedules.on if before.services.get(urn) != schedules.services[urn]}
        self._arm()

    def defined(self, urn: str) -> None:
        """The service's actor knows its definition: a ``startAt`` that came before the hub did is made up for."""
        if urn in self._late:
            self._late.discard(urn)
            asyncio.get_running_loop().call_soon(self._tell, inputs.ScheduleDue(urn, start=True))

    def carry_out(self, command: commands.StartService | commands.StopService) -> None:
        """Begin; the result comes later, as an input."""
        urn, name = command.service_urn, command.availability.fingerprint
        task = self._tasks.get(name)
        starting = isinstance(command, commands.StartService)
        if task is None:
            reason = "the definition it was started by is no longer known"
            failed: inputs.ServiceInput = (
                inputs.StartFailed(urn, reason, retryable=False) if starting else inputs.StopFailed(urn, reason)
            )
            asyncio.get_running_loop().call_soon(self._tell, failed)
            return
        (self._in_use if starting else self._stopping)[urn] = name
        # The same service may be stopped by its old definition and started by its new one.
        self._starter.submit(command, task)

    async def close(self) -> None:
        """Give up what is under way; only services that live inside the hub end with it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self._starter.close()

    def _report(self, report: inputs.ServiceInput) -> None:
        match report:
            case inputs.ServiceExited(urn, reason):
                _log.warning("service.ended", service=urn, reason=reason)
            case inputs.StopSucceeded(urn):
                name = self._stopping.pop(urn, None)
                if name is not None and self._in_use.get(urn) == name:
                    del self._in_use[urn]
        self._tell(report)

    # ---- the clock ---------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._schedules.due
        if due:
            left = max(0.0, (due[0].moment - self._wall()) / 1_000_000)
            self._timer = asyncio.get_running_loop().call_later(min(left, _LONGEST_WAIT), self.look)

    def look(self) -> None:
        """Look at the wall clock now; it is looked at from time to time anyway."""
        schedules, wall_us = self._schedules, self._wall()
        if wall_us < self._looked:
            # The next moments were searched from a time that has still to come.
            schedules.due.clear()
            for urn in schedules.services:
                for start in (True, False):
                    schedules.search(urn, start, wall_us)
        self._looked = wall_us
        while schedules.due and schedules.due[0].moment <= wall_us:
            _, urn, start = heapq.heappop(schedules.due)
            # From now, not from that moment: a clock that was set forward makes up for nothing.
            schedules.search(urn, start, wall_us)
            self._tell(inputs.ScheduleDue(urn, start))
        self._arm()


def _schedules(service: ServiceDefinition) -> _Scheduled | None:
    availability = service.availability
    if availability is None or (availability.start_at is None and availability.stop_at is None):
        return None
    start_at, stop_at = availability.start_at, availability.stop_at
    return _Scheduled(
        None if start_at is None else Schedule.parse(start_at), None if stop_at is None else Schedule.parse(stop_at)
    )
