"""One agent of a process, with its endpoint, from its start to its end.

Counterparts: :mod:`spnhub.transport.agent.consumer` and :mod:`spnhub.transport.agent.provider` do the work,
:mod:`spnhub.agent_process.host` has all that are there.
"""

from __future__ import annotations

import asyncio
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any

from spnhub.agent_settings import OPTION_NAMES, AgentSettings, ConsumerSettings, ProviderSettings
from spnhub.settings import SettingsError
from spnhub.transport.agent.consumer import ConsumerAgent
from spnhub.transport.agent.provider import ProviderAgent
from spnhub.transport.agent.session_manager import SessionManager
from spnhub.transport.agent.tcp import listen_at
from spnhub.transport.endpoint.api.config import Runtime
from spnhub.transport.endpoint.api.consumer import (
    ConnectionChange,
    ConsumerEndpoint,
    ProviderEndpoint,
    SessionChange,
    create_consumer_endpoint,
    create_provider_endpoint,
)
from spnhub.transport.endpoint.api.endpoint import Endpoint
from spnhub.transport.engines import select_engine
from spnhub.transport.log import get_logger
from spnhub.transport.system.socket_address import SocketAddress

__all__ = ["RunningAgent", "RunningConsumer", "RunningProvider", "Stop", "start_agent"]

_log = get_logger()

Listeners = dict[SocketAddress, list[socket.socket]]


class Stop:
    """What an agent is asked for: an orderly stop, one at once, or what was asked first and then this."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()

    def stop(self, *, at_once: bool = False) -> None:
        """Ask for it."""
        if at_once:
            self.at_once.set()
        self.asked.set()


class RunningAgent(ABC):
    """One agent. Use from one event loop."""

    role: str

    def __init__(self, settings: AgentSettings) -> None:
        self.endpoint: Endpoint | None = None
        """Once there is one, whether or not it has had a session."""
        self.ready = asyncio.Event()
        """Traffic has been able to pass: there was a session, and a server that is checked was healthy."""
        self.stopping = False
        self._given = settings
        self._stop = Stop()

    @property
    @abstractmethod
    def settings(self) -> AgentSettings:
        """What it was made of."""

    @property
    @abstractmethod
    def agent(self) -> ConsumerAgent | ProviderAgent:
        """What does the work."""

    @property
    @abstractmethod
    def manager(self) -> SessionManager[Any]:
        """What has its endpoint."""

    @property
    @abstractmethod
    def where(self) -> dict[str, object]:
        """Where it meets its programs, for the log and for ``/status``."""

    @property
    def fault(self) -> str | None:
        """Why traffic can't pass now; None: it can."""
        if self.stopping:
            return "it is being stopped"
        if not self.manager.established:
            return f"no session{f': {why}' if (why := self.manager.last_error) else ''}"
        return None

    def stop(self, *, at_once: bool = False) -> None:
        """Ask for its end: :meth:`run` returns when it has come."""
        self._stop.stop(at_once=at_once)

    async def run(self) -> None:
        """Run until it has failed for good, or was asked to stop.

        :raises SpnError: a refusal, or an end, that no retry changes.
        :raises ValueError: arguments that can't be used.
        """
        selected = select_engine(self._given.endpoint.engine)
        _log.info("engine.selected", engine=selected.name, reason=selected.reason)
        await self._supervise([*self._parts(), self._announce()])

    @abstractmethod
    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        """What runs as long as it does."""

    @abstractmethod
    async def _wait_usable(self) -> None:
        """Wait until what is behind it can be used."""

    def _made(self, endpoint: Any) -> None:
        self.endpoint = endpoint
        self.manager.made(endpoint)

    def _hooks(
        self, on_session: Callable[[SessionChange], None], on_connection: Callable[[ConnectionChange], None]
    ) -> dict[str, Any]:
        """The arguments by which an endpoint of either role reports to its session manager."""
        return {
            "on_session": on_session,
            "on_connection": on_connection,
            "on_credentials": self.manager.on_credentials,
            "runtime": Runtime(made=self._made, names=OPTION_NAMES),
        }

    async def _announce(self) -> None:
        """Say that traffic can pass, once it can."""
        await self.manager.wait_established()
        await self._wait_usable()
        _log.info("agent.ready", role=self.role, **self.where)
        self.ready.set()

    async def _supervise(self, parts: list[Coroutine[Any, Any, None]]) -> None:
        """Run the parts until one fails or a stop is asked for; then end everything.

        Connections that are open then, those included that wait for a hub, have the drain timeout; those that are left
        are reset. That is no failure: the bound was set on purpose, and ``agent.connections_cut`` says how many.
        """
        running = [asyncio.create_task(part) for part in parts]
        loop = asyncio.get_running_loop()
        agent, stop = self.agent, self._stop
        try:
            await _wait_for(running, [stop.asked.wait()])
            self.stopping = True
            if isinstance(agent, ConsumerAgent):
                # Before the line: a client that has read it must be refused already.
                agent.stop_accepting()
            _log.info("agent.stopping", connections=agent.connections, atOnce=stop.at_once.is_set())
            began = loop.time()
            if not stop.at_once.is_set():
                await _wait_for(running, [agent.drain(), stop.at_once.wait()], self._given.drain_timeout)
            if agent.connections:
                after = round(loop.time() - began, 3)
                _log.warning("agent.connections_cut", connections=agent.connections, after=after)
        finally:
            self.stopping = True
            await agent.close()
            await _end(running)
        _log.info("agent.stopped")


class RunningConsumer(RunningAgent):
    """Of ``spnagent consumer``.

    :param handed: sockets that listen already, of an agent whose place this one takes.
    :raises SettingsError: it can't listen where it is to.
    """

    role = "consumer"

    def __init__(self, settings: ConsumerSettings, handed: Listeners | None = None) -> None:
        super().__init__(settings)
        self._settings = settings
        self._listeners = _listen(settings.bind_address, handed or {})
        self._accepts = not handed
        self._manager: SessionManager[ConsumerEndpoint] = SessionManager(self._create)
        listeners = [sock for sockets in self._listeners.values() for sock in sockets]
        self._agent = ConsumerAgent(listeners, self._manager, settings.limits, settings.tcp_keepalive)
        self._where: dict[str, object] = {"addresses": [str(address) for address in self._agent.addresses]}

    @property
    def settings(self) -> ConsumerSettings:
        return self._settings

    @property
    def agent(self) -> ConsumerAgent:
        return self._agent

    @property
    def manager(self) -> SessionManager[ConsumerEndpoint]:
        return self._manager

    @property
    def where(self) -> dict[str, object]:
        return self._where

    def hand_over(self, addresses: tuple[SocketAddress, ...]) -> Listeners:
        """Sockets for the agent that takes its place, where it listens on: nobody is refused in between."""
        kept = {address: sockets for address, sockets in self._listeners.items() if address in addresses}
        self._agent.keep_files(sock for sockets in kept.values() for sock in sockets)
        return {address: [sock.dup() for sock in sockets] for address, sockets in kept.items()}

    def accept(self) -> None:
        """Begin to accept, where it takes another's place; else it does so by itself."""
        self._agent.start()

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        if self._accepts:
            self._agent.start()
        _log.info("agent.listening", **self._where)
        return [self._manager.run()]

    async def _wait_usable(self) -> None:
        """A consumer has nothing behind it."""

    async def _create(
        self, on_session: Callable[[SessionChange], None], on_connection: Callable[[ConnectionChange], None]
    ) -> ConsumerEndpoint:
        hooks = self._hooks(on_session, on_connection)
        return await create_consumer_endpoint(**self._settings.arguments(), **hooks)


class RunningProvider(RunningAgent):
    """Of ``spnagent provider``."""

    role = "provider"

    def __init__(self, settings: ProviderSettings) -> None:
        super().__init__(settings)
        self._settings = settings
        self._manager: SessionManager[ProviderEndpoint] = SessionManager(self._create)
        self._agent = ProviderAgent(
            settings.forward_address,
            self._manager,
            settings.limits,
            settings.tcp_keepalive,
            weight=settings.weight,
            health_check=settings.health,
        )

    @property
    def settings(self) -> ProviderSettings:
        return self._settings

    @property
    def agent(self) -> ProviderAgent:
        return self._agent

    @property
    def manager(self) -> SessionManager[ProviderEndpoint]:
        return self._manager

    @property
    def where(self) -> dict[str, object]:
        return {"forwardAddress": str(self._settings.forward_address)}

    @property
    def fault(self) -> str | None:
        return super().fault or self._agent.health_fault

    async def take_weight(self, settings: ProviderSettings) -> None:
        """Other settings that differ in the weight only."""
        self._settings = settings
        await self._agent.change_weight(settings.weight)

    def _parts(self) -> list[Coroutine[Any, Any, None]]:
        return [self._manager.run(), self._agent.run(), self._agent.check_health()]

    async def _wait_usable(self) -> None:
        await self._agent.wait_healthy()

    async def _create(
        self, on_session: Callable[[SessionChange], None], on_connection: Callable[[ConnectionChange], None]
    ) -> ProviderEndpoint:
        hooks = self._hooks(on_session, on_connection)
        return await create_provider_endpoint(**self._settings.arguments(), **hooks, weight=await self._agent.weight())


def start_agent(settings: AgentSettings, handed: Listeners | None = None) -> RunningAgent:
    """An agent of either role, which :meth:`RunningAgent.run` is still to be called of.

    :raises SettingsError: it can't listen where it is to.
    """
    if isinstance(settings, ConsumerSettings):
        return RunningConsumer(settings, handed)
    assert isinstance(settings, ProviderSettings)
    return RunningProvider(settings)


def _listen(addresses: tuple[SocketAddress, ...], handed: Listeners) -> Listeners:
    found: Listeners = {}
    for address in addresses:
        try:
            # More than once is port 0 only.
            sockets = handed.get(address) if address not in found else None
            found.setdefault(address, []).extend(sockets or listen_at(address))
        except OSError as exc:
            for sock in (sock for sockets in (*found.values(), *handed.values()) for sock in sockets):
                sock.close()
            # A resolver's error has its own numbers, below zero.
            reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc)
            raise SettingsError(f"--bind-address: {address}: {reason}") from exc
    return found


async def _wait_for(
    running: list[asyncio.Task[None]], signs: list[Coroutine[Any, Any, Any]], timeout: float | None = None
) -> None:
    """Wait for one of the ``signs``, at most ``timeout`` seconds; a failure of it or of what is running is raised."""
    waiting = [asyncio.create_task(sign) for sign in signs]
    try:
        async with asyncio.timeout(timeout) as bound:
            while not any(sign.done() for sign in waiting):
                # A part that has ended in order, as the session manager of an endpoint that was closed, is no failure.
                open_parts = [part for part in running if not part.done()]
                done, _ = await asyncio.wait([*open_parts, *waiting], return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
    except TimeoutError:
        if not bound.expired():
            raise
    finally:
        await _end(waiting)


async def _end(tasks: list[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
