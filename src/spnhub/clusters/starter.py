"""Carries out starts and stops of services, and reports the results; it decides nothing.

Commands of one service are carried out one after the other, those of several side by side; each is bounded in time and
answered exactly once. The service actor decides whether to start, how often, and how soon again. Counterparts: the
service actor, and :mod:`spnhub.clusters.managers`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import field
from typing import Final

import structlog

from spnhub.actors.contract.commands import StartService, StopService
from spnhub.actors.contract.inputs import (
    ServiceExited,
    ServiceInput,
    StartFailed,
    StartSucceeded,
    StopFailed,
    StopSucceeded,
)
from spnhub.clusters.managers import manager_for
from spnhub.clusters.task import ClusterError, ClusterManager, OnExit, ServiceTask
from spnhub.dataclass import dataclass

__all__ = ["Starter"]

_log = structlog.get_logger(__name__)

_Command = StartService | StopService


@dataclass(slots=True)
class _Lane:
    """The commands of one service, with the definition each was given under."""

    waiting: deque[tuple[_Command, ServiceTask]] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None


_CLOSE_TIMEOUT: Final = 30.0


class Starter:
    """The edge between the actors and the cluster managers; lives on one event loop."""

    def __init__(
        self,
        report: Callable[[ServiceInput], None],
        *,
        timeout: float = 60.0,
        managers: Callable[[str, OnExit], ClusterManager] = manager_for,
    ) -> None:
        """Nothing is connected yet.

        :param report: called on the loop, never from within :meth:`submit`.
        :param timeout: seconds for a start or stop, whatever the manager's own bounds.
        """
        self._report = report
        self._timeout = timeout
        self._manager_for = managers
        self._managers: dict[str, ClusterManager] = {}
        self._lanes: dict[str, _Lane] = {}
        self._closed = False

    def submit(self, command: StartService | StopService, task: ServiceTask) -> None:
        """Carry out ``command`` after those given before for the same service; its result is reported later.

        :param task: the definition to carry it out by. To move a service to another manager, stop it first.
        """
        if self._closed:
            return
        lane = self._lanes.setdefault(task.urn, _Lane())
        lane.waiting.append((command, task))
        if lane.worker is None:
            lane.worker = asyncio.create_task(self._work(task.urn, lane), name=f"starter {task.urn}")

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

    async def _carry_out(self, command: _Command, task: ServiceTask) -> ClusterError | None:
        try:
            async with asyncio.timeout(self._timeout):
                manager = await self._manager(task.cluster_manager_urn)
                if isinstance(command, StartService):
                    await manager.start(task)
                else:
                    await manager.stop(task)
        except ClusterError as error:
            return error
        except TimeoutError:
            return ClusterError(f"{task.cluster_manager_urn} took longer than {self._timeout:g} s", retryable=True)
        # Client libraries may raise anything, and consumers wait for an answer: every end is reported.
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
            self._tell(ServiceExited(urn, reason))

    def _answer(self, command: _Command, error: ClusterError | None) -> None:
        if self._closed:
            return
        urn = command.service_urn
        if isinstance(command, StartService):
            self._tell(StartSucceeded(urn) if error is None else StartFailed(urn, error.message, error.retryable))
        else:
            self._tell(StopSucceeded(urn) if error is None else StopFailed(urn, error.message))

    def _tell(self, report: ServiceInput) -> None:
        try:
            self._report(report)
        # A fault of the receiver must not end the work on this service's next commands.
        except Exception:
            _log.exception("service.report_failed", report=report)
