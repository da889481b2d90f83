"""What the hub does at its edge for services: results of cluster managers and moments of schedules become inputs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spnhub.actors.contract import commands, inputs
from spnhub.actors.contract.definitions import Availability
from spnhub.events.model import from_datetime
from spnhub.hub_process.services import ScheduledMoment, ScheduleTable, Services
from spnhub.inventory import Inventory, build
from spnhub.inventory.source import read_file
from tests.inventory.documents import hub, realm, service, written

pytestmark = pytest.mark.outside

URN = "urn:chip-in:service:acme:tokyo:cold"
NOON = datetime(2030, 6, 1, 12, tzinfo=UTC)
WALL = from_datetime(NOON)


def inventory(folder: Path, **availability: object) -> Inventory:
    """One service with availability management."""
    management = {"clusterManagerUrn": "process:", "serviceId": "cold", "command": ["true"]} | availability
    cold = service("cold", availabilityManagement=management)
    return build(read_file(written({"realms": [realm("acme", hub("tokyo", "t.test", cold))]}, folder)))


def definition(of: Inventory) -> Availability:
    """What the actors know of it."""
    availability = of.realms[0].networks[0].services[0].availability
    assert availability is not None
    return availability


class Told:
    """Takes inputs; they can be waited for."""

    def __init__(self) -> None:
        self.inputs: list[inputs.ServiceInput] = []
        self._news = asyncio.Condition()

    def __call__(self, message: inputs.ServiceInput) -> None:
        self.inputs.append(message)
        self._waking = asyncio.ensure_future(self._wake())

    async def _wake(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(condition)


async def test_a_start_and_a_stop(tmp_path: Path) -> None:
    """Carried out by the definition that the command names, also when that has gone from the inventory."""
    told = Told()
    services = Services(told, lambda: WALL)
    first, second = inventory(tmp_path, command=["sleep", "60"]), inventory(tmp_path, command=["sleep", "61"])
    none = build([])
    try:
        services.load(first.tasks, ScheduleTable.of(first, WALL))
        services.carry_out(commands.StartService(URN, "load", definition(first)))
        await told.until(lambda: told.inputs == [inputs.StartSucceeded(URN)])
        for later in (second, none, none):
            services.load(later.tasks, ScheduleTable.of(later, WALL))
        services.carry_out(commands.StopService(URN, "removed", definition(first)))
        await told.until(lambda: told.inputs[1:] == [inputs.StopSucceeded(URN)])
        services.load(none.tasks, ScheduleTable.of(none, WALL))
        services.carry_out(commands.StartService(URN, "load", definition(first)))
        await told.until(lambda: len(told.inputs) == 3)
        assert told.inputs[2] == inputs.StartFailed(
            URN, "the definition it was started by is no longer known", retryable=False
        )
    finally:
        await services.close()


async def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """What is due is searched anew: not after the 20 days that the clock was ahead."""
    told, moments = Told(), [WALL]
    services = Services(told, lambda: moments[-1])
    daily = inventory(tmp_path, startAt="0 13 ? * * *")
    try:
        services.load(daily.tasks, ScheduleTable.of(daily, WALL))
        moments.append(WALL + 20 * 86_400_000_000)
        services.look()
        moments.append(WALL + 1)
        services.look()
        assert told.inputs == [inputs.ScheduleDue(URN, start=True)]
        moments.append(WALL + 3_600_000_000)
        services.look()
        assert told.inputs == [inputs.ScheduleDue(URN, start=True)] * 2
    finally:
        await services.close()


async def test_a_start_that_fails(tmp_path: Path) -> None:
    """With the manager's own words, and whether another attempt helps."""
    told = Told()
    services = Services(told, lambda: WALL)
    broken = inventory(tmp_path, command=["/nowhere/to/be/found"])
    try:
        services.load(broken.tasks, ScheduleTable.of(broken, WALL))
        services.carry_out(commands.StartService(URN, "payload", definition(broken)))
        await told.until(lambda: bool(told.inputs))
        (failed,) = told.inputs
        assert isinstance(failed, inputs.StartFailed)
        assert (failed.service_urn, failed.retryable) == (URN, False)
        assert "/nowhere/to/be/found" in failed.reason
    finally:
        await services.close()


def test_a_table_of_schedules(tmp_path: Path) -> None:
    """The next moments in order, and whether the last one was a start."""
    hours = inventory(tmp_path, startAt="0 8 ? * * *", stopAt="0 22 ? * * *")
    table = ScheduleTable.of(hours, WALL)
    evening, morning = NOON.replace(hour=22), NOON.replace(hour=8) + timedelta(days=1)
    assert sorted(table.due) == [
        ScheduledMoment(from_datetime(evening), URN, False),
        ScheduledMoment(from_datetime(morning), URN, True),
    ]
    assert table.on == {URN}
    assert ScheduleTable.of(hours, from_datetime(evening)).on == set()
    assert ScheduleTable.of(inventory(tmp_path, stopAt="0 22 ? * * *"), WALL).on == set()
    assert not definition(hours).start_on_load
    assert definition(inventory(tmp_path, stopAt="0 22 ? * * *")).start_on_load


async def test_a_moment_that_comes_and_one_that_is_made_up_for(tmp_path: Path) -> None:
    """A start that was before the hub is told once the actors know the service; a stop when its time comes."""
    told = Told()
    clock = [from_datetime(NOON.replace(hour=21, minute=59, second=59)) + 900_000]
    services = Services(told, lambda: clock[0])
    hours = inventory(tmp_path, startAt="0 8 ? * * *", stopAt="0 22 ? * * *")
    try:
        services.load(hours.tasks, ScheduleTable.of(hours, clock[0]))
        services.defined(URN)
        services.defined(URN)
        clock[0] += 200_000
        await told.until(lambda: len(told.inputs) == 2)
        assert told.inputs == [inputs.ScheduleDue(URN, start=True), inputs.ScheduleDue(URN, start=False)]
        services.load(hours.tasks, ScheduleTable.of(hours, clock[0]))
        services.defined(URN)
        await asyncio.sleep(0)
        assert len(told.inputs) == 2
    finally:
        await services.close()
