"""What the managers have in common that scale over HTTP what others have defined: one client, and a bound in time.

Counterparts: :mod:`spnhub.clusters.kubernetes`, :mod:`spnhub.clusters.nomad`.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from spnhub.clusters.task import ClusterError, ServiceTask

__all__ = ["ScalingManager"]

C = TypeVar("C")


class ScalingManager(ABC, Generic[C]):
    """Scales to 1 for a start and to 0 for a stop, with a client ``C`` that is built at the first of them."""

    NAME: ClassVar[str]
    """Of the manager, in reasons."""

    def __init__(self, timeout: float) -> None:
        """Nothing is read or connected yet.

        :param timeout: seconds for a start or stop as a whole.
        """
        self._timeout = timeout
        self._client: C | None = None
        self._opening = asyncio.Lock()

    async def start(self, task: ServiceTask) -> None:
        """See :class:`spnhub.clusters.task.ClusterManager`."""
        await self._in_time(task, running=True)

    async def stop(self, task: ServiceTask) -> None:
        """See :class:`spnhub.clusters.task.ClusterManager`."""
        await self._in_time(task, running=False)

    async def close(self) -> None:
        """See :class:`spnhub.clusters.task.ClusterManager`."""
        client, self._client = self._client, None
        if client is not None:
            await self._close(client)

    async def _in_time(self, task: ServiceTask, *, running: bool) -> None:
        where = self._where(task)
        try:
            async with asyncio.timeout(self._timeout):
                await self._scale(await self._open(), where, task, running=running)
        except TimeoutError:
            raise ClusterError(f"{where}: {self.NAME} took longer than {self._timeout:g} s", retryable=True) from None

    async def _open(self) -> C:
        async with self._opening:
            if self._client is None:
                # Reads files and builds a TLS context.
                self._client = await asyncio.to_thread(self._build)
            return self._client

    @abstractmethod
    def _where(self, task: ServiceTask) -> str:
        """What is scaled, as reasons begin.

        :raises ClusterError: the task doesn't say.
        """

    @abstractmethod
    def _build(self) -> C:
        """A client; called in a thread.

        :raises ClusterError: the configuration can't be used.
        """

    @abstractmethod
    async def _scale(self, client: C, where: str, task: ServiceTask, *, running: bool) -> None:
        """See that it runs, or that it doesn't.

        :raises ClusterError: it was not changed.
        """

    @abstractmethod
    async def _close(self, client: C) -> None: ...
