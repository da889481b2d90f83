"""The lifecycle of the hub's process in its log: its start, its heartbeats, its orderly end.

A log that stops without HubStopped is that of a hub that has died or lost its disk; the last HubAlive shows when.
Counterparts: :mod:`spnhub.actors.hub.actor` calls this, :class:`spnhub.events.state.hub_state.RunState` is what a
reader of the log knows of the process.
"""

from __future__ import annotations

from spnhub.actors.contract.inputs import StartHub
from spnhub.actors.kernel.environment import Environment
from spnhub.events.model import Event, HubAlive, HubStarted, HubStopped

__all__ = ["ProcessLifecycle"]


class ProcessLifecycle:
    """The lifecycle events of one process."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._started_at: float | None = None
        """Monotonic seconds; None before the start and after the end."""

    @property
    def running(self) -> bool:
        """Started, and not at its end."""
        return self._started_at is not None

    def start(self, message: StartHub) -> tuple[Event, ...]:
        """The event of the start; none if the process has been started already."""
        if self._started_at is not None:
            return ()
        self._started_at = self._env.now
        started = HubStarted(
            realm=None,
            network_urn=None,
            version=message.version,
            addresses=message.addresses,
            orderly=message.orderly,
        )
        return (started,)

    def alive(self) -> tuple[Event, ...]:
        """A heartbeat; none before the start and after the end."""
        if self._started_at is None:
            return ()
        state = self._env.state
        heartbeat = HubAlive(
            realm=None,
            network_urn=None,
            sessions=len(state.sessions),
            connections=len(state.connections),
            elapsed_time=self._env.now - self._started_at,
        )
        return (heartbeat,)

    def stop(self, reason: str) -> tuple[Event, ...]:
        """The event of the end; none without a start."""
        if self._started_at is None:
            return ()
        stopped = HubStopped(realm=None, network_urn=None, reason=reason, elapsed_time=self._env.now - self._started_at)
        self._started_at = None
        return (stopped,)
