"""Carries out starts and stops of services, and tells the results back; it decides nothing.

Commands of one service are carried out one after the other, those of several side by side; each is bounded in time and
answered exactly once. Whether to start, how often and how soon again is the service actor's affair. Counterparts: the
service actor, and :mod:`spnhub.clusters.managers`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from spnhub.clusters.managers import manager_for
from spnhub.clusters.task import ClusterError, ClusterManager, OnExit, ServiceTask

__all__ = [
    "Report",
    "ServiceEnded",
    "ServiceStartResult",
    "ServiceStopResult",
    "StartTask",
    "Starter",
    "StopTask",
]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StartTask:
    """Start a service; ServiceStartResult comes back."""

    urn: str
    attempt: int = 1
    """Told back in the result, so that a late one is known as such."""


@dataclass(frozen=True, slots=True)
class StopTask:
    """Stop a service; ServiceStopResult comes back."""

    urn: str


@dataclass(frozen=True, slots=True)
class ServiceStartResult:
    """A start was carried out: the cluster manager has taken it on, or has not."""

    urn: str
    attempt: int
    ok: bool
    reason: str = ""
    """Why not; empty if ok."""
    retryable: bool = False
    """Whether another attempt may succeed."""


@dataclass(frozen=True, slots=True)
class ServiceStopResult:
    """A stop was carried out."""

    urn: str
    ok: bool
    reason: str = ""
    retryable: bool = False


@dataclass(frozen=True, slots=True)
class ServiceEnded:
    """A service ended without having been stopped; only some managers can tell."""

    urn: str
    reason: str


Command = StartTask | StopTask
Report = ServiceStartResult | ServiceStopResult | ServiceEnded


class ManagerFor(Protocol):
    """As :func:`spnhub.clusters.managers.manager_for`."""

    def __call__(self, urn: str, on_exit: OnExit | None = None) -> ClusterManager: ...


@dataclass(slots=True)
class _Lane:
    """The commands of one service, with the definition each was given under."""

    waiting: deque[tuple[Command, ServiceTask]] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None


_CLOSE_TIMEOUT: Final = 30.0


class Starter:
    """The edge between the actors and the cluster managers; lives on one event loop."""

    def __init__(
        self,
        report: Callable[[Report], None],
        *,
        start_timeout: float = 60.0,
        stop_timeout: float = 60.0,
        managers: ManagerFor = manager_for,
    ) -> None:
        """Nothing is connected yet.

        :param report: called on the loop, never from within :meth:`submit`.
        :param start_timeout: seconds, whatever the manager's own bounds; likewise ``stop_timeout``.
        """
        self._report = report
        self._timeouts = {StartTask: start_timeout, StopTask: stop_timeout}
        self._manager_for = managers
        self._tasks: dict[str, ServiceTask] = {}
        self._managers: dict[str, ClusterManager] = {}
        self._lanes: dict[str, _Lane] = {}
        self._closed = False

    def define(self, tasks: Iterable[ServiceTask]) -> None:
        """Add or replace the definitions of services.

        A command is carried out by the definition that was in force when it was given: to move a service to another
        manager, stop it first.
        """
        self._tasks |= {task.urn: task for task in tasks}

    async def prepare(self) -> None:
        """Load what the defined services' managers need.

        The import of a client library takes up to a second and holds up the loop for some 0.1 s, so this is better
        done before anything is served. What cannot be had is told when it is asked for.
        """
        for urn in {task.cluster_manager_urn for task in self._tasks.values()}:
            with contextlib.suppress(ClusterError):
                await self._manager(urn)

    def forget(self, urn: str) -> None:
        """Drop a definition; commands already given are still carried out, a running service is left as it is."""
        self._tasks.pop(urn, None)

    def submit(self, command: Command) -> None:
        """Carry out ``command`` after those given before for the same service; its result is reported later."""
        if self._closed:
            return
        task = self._tasks.get(command.urn)
        if task is None:
            error = ClusterError("the service has no availabilityManagement", retryable=False)
            asyncio.get_running_loop().call_soon(self._answer, command, error)
            return
        lane = self._lanes.setdefault(command.urn, _Lane())
        lane.waiting.append((command, task))
        if lane.worker is None:
            lane.worker = asyncio.create_task(self._work(command.urn, lane), name=f"starter {command.urn}")

    async def close(self) -> None:
        """Give up what is being carried out, without reports, and close the managers."""
        self._closed = True
        workers = [lane.worker for lane in self._lanes.values() if lane.worker is not None]
        for worker in workers:
            worker.cancel()
        managers = list(self._managers.items())
        self._managers.clear()
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT):
                await asyncio.gather(*workers, return_exceptions=True)
                results = await asyncio.gather(*(manager.close() for _, manager in managers), return_exceptions=True)
        except TimeoutError:
            _log.warning("service.managers_left", after=_CLOSE_TIMEOUT)
            return
        for (urn, _), result in zip(managers, results, strict=True):
            if isinstance(result, BaseException):
                _log.warning("service.manager_close_failed", manager=urn, reason=str(result))

    async def _work(self, urn: str, lane: _Lane) -> None:
        while lane.waiting:
            command, task = lane.waiting.popleft()
            self._answer(command, await self._carry_out(command, task))
        lane.worker = None
        self._lanes.pop(urn, None)

    async def _carry_out(self, command: Command, task: ServiceTask) -> ClusterError | None:
        timeout = self._timeouts[type(command)]
        try:
            async with asyncio.timeout(timeout):
                manager = await self._manager(task.cluster_manager_urn)
                if isinstance(command, StartTask):
                    await manager.start(task)
                else:
                    await manager.stop(task)
        except ClusterError as error:
            return error
        except TimeoutError:
            return ClusterError(f"{task.cluster_manager_urn} took longer than {timeout:g} s", retryable=True)
        # Client libraries raise what they like, and consumers wait for an answer: every end is told.
        except Exception as error:
            _log.exception("service.manager_fault", service=task.urn, manager=task.cluster_manager_urn)
            return ClusterError(f"{task.cluster_manager_urn}: {type(error).__name__}: {error}", retryable=True)
        return None

    async def _manager(self, urn: str) -> ClusterManager:
        if urn not in self._managers:
            # The first use imports a client library, which takes a while: not on the loop.
            made = await asyncio.to_thread(self._manager_for, urn, self._ended)
            # Another service's command may have been faster.
            self._managers.setdefault(urn, made)
        return self._managers[urn]

    def _ended(self, urn: str, reason: str) -> None:
        if not self._closed:
            self._tell(ServiceEnded(urn, reason))

    def _answer(self, command: Command, error: ClusterError | None) -> None:
        if self._closed:
            return
        ok, reason, retryable = (True, "", False) if error is None else (False, error.message, error.retryable)
        if isinstance(command, StartTask):
            self._tell(ServiceStartResult(command.urn, command.attempt, ok, reason, retryable))
        else:
            self._tell(ServiceStopResult(command.urn, ok, reason, retryable))

    def _tell(self, report: Report) -> None:
        try:
            self._report(report)
        # A fault of the receiver must not end the work on this service's next commands.
        except Exception:
            _log.exception("service.report_failed", report=report)
