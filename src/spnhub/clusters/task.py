"""What is asked of a cluster manager, and what may come back: one task per service, one kind of error.

Counterparts: :mod:`spnhub.clusters.managers` finds the manager for a clusterManagerUrn; the actors decide when.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from typing import Any, Protocol

from spnhub.dataclass import dataclass

__all__ = [
    "ClusterError",
    "ClusterManager",
    "OnExit",
    "ServiceTask",
    "TaskMount",
    "environment",
    "split_command",
]

OnExit = Callable[[str, str], None]
"""Called with a service's URN and a reason when it ended without having been stopped."""


class ClusterError(Exception):
    """A service was not started or stopped; the text says why, for the log and for the waiting consumers."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.message = message
        self.retryable = retryable
        """Whether the same request may succeed later without anybody changing the definition."""


@dataclass(frozen=True, slots=True)
class TaskMount:
    """A volume that outlives the container (``mountPoints``)."""

    volume_size: float
    """GiB."""
    target: str
    """Absolute path inside."""


@dataclass(frozen=True, slots=True)
class ServiceTask:
    """How a service runs (``spec: availabilityManagement``); each manager takes what it knows of it."""

    urn: str
    """``urn:chip-in:service:{realm}:{hub}:{name}``."""
    cluster_manager_urn: str
    service_id: str
    image: str | None = None
    """An image for ``docker:``, a task group for ``nomad:``."""
    command: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    mount_points: tuple[TaskMount, ...] = ()


class ClusterManager(Protocol):
    """Starts and stops services somewhere.

    Every call is bounded in time. Calls for one service come one after the other; calls for several may overlap.
    """

    async def start(self, task: ServiceTask) -> None:
        """See that the service runs; done when the manager has taken it on, not when its provider has arrived.

        :raises ClusterError: it was not started. That it runs already is no error.
        """

    async def stop(self, task: ServiceTask) -> None:
        """See that the service doesn't run.

        :raises ClusterError: it was not stopped. That it doesn't run is no error.
        """

    async def close(self) -> None:
        """Let go of what this manager holds here. Only services that live inside the hub end with it."""


def split_command(command: str | Iterable[str] | None) -> tuple[str, ...]:
    """The words of a ``command``; a string is split as a POSIX shell would, without expanding anything.

    :raises ValueError: a quotation in the string has no end.
    """
    if command is None:
        return ()
    if isinstance(command, str):
        try:
            return tuple(shlex.split(command))
        except ValueError as error:
            raise ValueError(f"is not a command line: {error}") from None
    return tuple(command)


def environment(env: Mapping[str, Any] | None) -> dict[str, str]:
    """``env`` with values as a process takes them: text as it is, anything else as JSON (so ``true``, ``8080``)."""
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in (env or {}).items()}
