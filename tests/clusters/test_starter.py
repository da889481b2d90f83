"""The starter: every command is answered once, one after the other for each service, in bounded time."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest
import structlog

from spnhub.actors.contract.commands import StartService, StopService
from spnhub.actors.contract.definitions import Availability
from spnhub.actors.contract.inputs import (
    ServiceExited,
    ServiceInput,
    StartFailed,
    StartSucceeded,
    StopFailed,
    StopSucceeded,
)
from spnhub.clusters import ClusterError, ClusterManager, ServiceTask, Starter, manager_for
from spnhub.clusters.task import OnExit

WEB = "urn:chip-in:service:acme:east:web"
MAIL = "urn:chip-in:service:acme:east:mail"


class Reports:
    """What the starter told, in order; a test awaits as many as it expects."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[ServiceInput] = asyncio.Queue()

    def __call__(self, report: ServiceInput) -> None:
        self._queue.put_nowait(report)

    async def take(self, count: int) -> list[ServiceInput]:
        async with asyncio.timeout(20):
            return [await self._queue.get() for _ in range(count)]

    def none_left(self) -> bool:
        return self._queue.empty()


class Scripted:
    """A manager that does what the test lets it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.failures: list[BaseException] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.closed = 0
        self.made: list[str] = []
        self.on_exit: OnExit | None = None

    def __call__(self, urn: str, on_exit: OnExit | None = None) -> ClusterManager:
        self.made.append(urn)
        self.on_exit = on_exit
        return self

    async def start(self, task: ServiceTask) -> None:
        await self._do("start", task)

    async def stop(self, task: ServiceTask) -> None:
        await self._do("stop", task)

    async def close(self) -> None:
        self.closed += 1

    async def _do(self, what: str, task: ServiceTask) -> None:
        self.log.append(f"{what} {task.service_id}")
        self.entered.set()
        await self.gate.wait()
        self.log.append(f"{what} {task.service_id} done")
        if self.failures:
            raise self.failures.pop(0)


def start(urn: str = WEB) -> StartService:
    return StartService(urn, "load", Availability("process:", "web"))


def stop(urn: str = WEB) -> StopService:
    return StopService(urn, "idle", Availability("process:", "web"))


def task(urn: str, service_id: str, command: tuple[str, ...] = ()) -> ServiceTask:
    return ServiceTask(urn, "process:", service_id, command=command)


TASK, MAIL_TASK = task(WEB, "web"), task(MAIL, "mail")


@pytest.fixture
async def reports() -> Reports:
    return Reports()


@pytest.fixture
async def manager() -> Scripted:
    return Scripted()


@pytest.fixture
async def starter(reports: Reports, manager: Scripted) -> AsyncIterator[Starter]:
    starter = Starter(reports, managers=manager, timeout=10)
    yield starter
    await starter.close()


async def test_results(starter: Starter, reports: Reports, manager: Scripted) -> None:
    """A start and a stop are carried out in order, each answered once."""
    starter.submit(start(), TASK)
    starter.submit(stop(), TASK)
    assert await reports.take(2) == [StartSucceeded(WEB), StopSucceeded(WEB)]
    assert manager.log == ["start web", "start web done", "stop web", "stop web done"]
    assert manager.made == ["process:"]


async def test_failures(starter: Starter, reports: Reports, manager: Scripted) -> None:
    """A failure is told with its reason and whether another attempt may help; the next command is carried out."""
    manager.failures = [ClusterError("no room", retryable=True), ClusterError("no image", retryable=False)]
    starter.submit(start(), TASK)
    starter.submit(stop(), TASK)
    starter.submit(start(), TASK)
    assert await reports.take(3) == [
        StartFailed(WEB, "no room", retryable=True),
        StopFailed(WEB, "no image"),
        StartSucceeded(WEB),
    ]


async def test_a_fault_of_a_library(starter: Starter, reports: Reports, manager: Scripted) -> None:
    """Whatever a client library raises is an answer too, and logged with its traceback."""
    manager.failures = [LookupError("surprise")]
    with structlog.testing.capture_logs() as logs:
        starter.submit(start(), TASK)
        told = await reports.take(1)
    assert told == [StartFailed(WEB, "process:: LookupError: surprise", retryable=True)]
    assert [entry["event"] for entry in logs] == ["service.manager_fault"]


async def test_services_do_not_wait_for_each_other(starter: Starter, reports: Reports, manager: Scripted) -> None:
    """Commands of one service wait for each other, those of another service don't."""
    manager.gate.clear()
    starter.submit(start(), TASK)
    starter.submit(stop(), TASK)
    await manager.entered.wait()
    manager.entered.clear()
    starter.submit(start(MAIL), MAIL_TASK)
    await manager.entered.wait()
    assert manager.log == ["start web", "start mail"]
    manager.gate.set()
    assert len(await reports.take(3)) == 3
    assert manager.log.index("stop web") > manager.log.index("start web done")


async def test_a_manager_that_hangs(reports: Reports, manager: Scripted) -> None:
    """A manager that doesn't come back costs the bound, and the service's next command gets its turn."""
    starter = Starter(reports, managers=manager, timeout=0.1)
    manager.gate.clear()
    starter.submit(start(), TASK)
    assert await reports.take(1) == [StartFailed(WEB, "process: took longer than 0.1 s", retryable=True)]
    manager.gate.set()
    starter.submit(stop(), TASK)
    assert await reports.take(1) == [StopSucceeded(WEB)]
    await starter.close()


async def test_definition_given(starter: Starter, reports: Reports, manager: Scripted) -> None:
    """A command is carried out by the definition that was given with it."""
    starter.submit(stop(), TASK)
    starter.submit(start(), task(WEB, "renamed"))
    await reports.take(2)
    assert manager.log == ["stop web", "stop web done", "start renamed", "start renamed done"]


async def test_unusable_manager(reports: Reports) -> None:
    """A clusterManagerUrn that names no manager fails the start, naming it."""
    starter = Starter(reports)
    starter.submit(start(), ServiceTask(WEB, "podman:", "web"))
    (told,) = await reports.take(1)
    assert isinstance(told, StartFailed)
    assert (told.retryable, "'podman' is none of" in told.reason) == (False, True)
    await starter.close()


async def test_close(starter: Starter, reports: Reports, manager: Scripted) -> None:
    """Closing gives up what is under way, without an answer, and closes each manager once."""
    manager.gate.clear()
    starter.submit(start(), TASK)
    starter.submit(stop(), TASK)
    await manager.entered.wait()
    await starter.close()
    starter.submit(start(MAIL), MAIL_TASK)
    await starter.close()
    assert (reports.none_left(), manager.closed, manager.log) == (True, 1, ["start web"])


async def test_a_faulty_receiver(manager: Scripted) -> None:
    """A receiver that fails is logged, and doesn't end the work on a service's next commands."""
    told: asyncio.Queue[ServiceInput] = asyncio.Queue()

    def receive(report: ServiceInput) -> None:
        told.put_nowait(report)
        raise LookupError("receiver")

    starter = Starter(receive, managers=manager)
    with structlog.testing.capture_logs() as logs:
        starter.submit(start(), TASK)
        starter.submit(stop(), TASK)
        async with asyncio.timeout(20):
            results = [await told.get(), await told.get()]
    assert results == [StartSucceeded(WEB), StopSucceeded(WEB)]
    assert [entry["event"] for entry in logs] == ["service.report_failed"] * 2
    await starter.close()


@pytest.mark.outside
async def test_for_real(reports: Reports) -> None:
    """With real processes: started, ended by itself and told so, started again, stopped, and none left at the close."""
    starter = Starter(reports, managers=manager_for)
    web = task(WEB, "web", (sys.executable, "-I", "-S", "-c", "raise SystemExit(7)"))
    mail = task(MAIL, "mail", ("sleep", "60"))
    starter.submit(start(), web)
    assert await reports.take(2) == [
        StartSucceeded(WEB),
        ServiceExited(WEB, "exited with status 7"),
    ]
    starter.submit(start(MAIL), mail)
    starter.submit(stop(MAIL), mail)
    starter.submit(start(MAIL), mail)
    assert await reports.take(3) == [
        StartSucceeded(MAIL),
        StopSucceeded(MAIL),
        StartSucceeded(MAIL),
    ]
    await starter.close()
    assert reports.none_left()
