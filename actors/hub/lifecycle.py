"""The life of the hub's process in its log: its start, its signs of life, its end in order.

A log that goes silent without HubStopped is that of a hub that has died or lost its disk: the last HubAlive says since
when. Counterpart: :mod:`spnhub.actors.hub.actor` asks, :class:`spnhub.events.state.hub_state.RunState` is what a reader
knows of it.
"""

from __future__ import annotations

from spnhub.actors.contract.inputs import StartHub
from spnhub.actors.kernel.environment import Environment
from spnhub.events.model import Event, HubAlive, HubStarted, HubStopped

__all__ = ["ProcessLifecycle"]


class ProcessLifecycle:
    """One process's."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._since: float | None = None
        """Monotonic seconds; None before the start and after the end."""

    def start(self, message: StartHub) -> tuple[Event, ...]:
        """Once."""
        if self._since is not None:
            return ()
        self._since = self._env.now
        started = HubStarted(
            realm=None,
            network_urn=None,
            version=message.version,
            addresses=message.addresses,
            orderly=message.orderly,
        )
        return (started,)

    def alive(self) -> tuple[Event, ...]:
        """A sign of life."""
        if self._since is None:
            return ()
        state = self._env.state
        sign = HubAlive(
            realm=None,
            network_urn=None,
            sessions=len(state.sessions),
            connections=len(state.connections),
            elapsed_time=self._env.now - self._since,
        )
        return (sign,)

    def stop(self, reason: str) -> tuple[Event, ...]:
        """The end, if there was a start."""
        if self._since is None:
            return ()
        stopped = HubStopped(realm=None, network_urn=None, reason=reason, elapsed_time=self._env.now - self._since)
        self._since = None
        return (stopped,)
