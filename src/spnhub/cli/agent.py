"""The ``spnagent`` command: lets ordinary TCP clients (``consumer``) and servers (``provider``) take part (R-1.3).

Options and environment are put together here; :mod:`spnhub.transport.agent` does the work.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final

import structlog
import typer

from spnhub import logging, signals
from spnhub.cli.agent_settings import (
    OLD_VARIABLES,
    OPTION_NAMES,
    AgentSettings,
    ConsumerSettings,
    ProviderSettings,
    older_hub_url,
)
from spnhub.cli.command_line import one_line, run_command_line
from spnhub.cli.options import GroupedCommand, Reader, takes
from spnhub.service_manager import service_manager
from spnhub.settings import SettingsError
from spnhub.streams import say
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
from spnhub.transport.engines import select_engine
from spnhub.transport.errors import SpnError
from spnhub.transport.faults import Faults
from spnhub.transport.system.descriptors import raise_limit
from spnhub.transport.system.loop import run as run_loop

__all__ = ["main"]

_log = structlog.get_logger()

_PREFIX: Final = "SPN_"

app = typer.Typer(
    name="spnagent",
    help="Lets ordinary TCP programs take part in an SPN, with no code.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command(cls=GroupedCommand)
@takes(ConsumerSettings, _PREFIX)
def consumer(_: typer.Context, read: Reader[ConsumerSettings]) -> int:
    """Listen on TCP; every connection becomes one to the service."""
    settings = read(**older_hub_url())
    return _start(settings, lambda stop: _run_consumer(settings, stop))


@app.command(cls=GroupedCommand)
@takes(ProviderSettings, _PREFIX)
def provider(_: typer.Context, read: Reader[ProviderSettings]) -> int:
    """Connect to a TCP server for every connection of the service's consumers."""
    settings = read(**older_hub_url())
    return _start(settings, lambda stop: _run_provider(settings, stop))


def main() -> int:
    """Entry point of ``spnagent``; returns the exit status."""
    return run_command_line(app, "spnagent", variables=OLD_VARIABLES)


def _start(settings: AgentSettings, role: Callable[[_Stop], Coroutine[Any, Any, int]]) -> int:
    logging.configure(settings.log_level, settings.log_format)
    raise_limit()
    try:
        return run_loop(_run(role))
    except ValueError as exc:
        # The endpoint's errors name the argument.
        raise SettingsError(str(exc)) from exc
    except SpnError as exc:
        # A refusal that no retry changes.
        say(f"spnagent: {one_line(str(exc))}", error=True)
        return 1


class _Stop:
    """What the signals ask for: an orderly stop (SIGTERM, SIGQUIT), one at once (SIGINT, or a second one), a reload."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.at_once = asyncio.Event()
        self.reload = asyncio.Event()

    def on_signal(self, number: signal.Signals) -> None:
        """One of the three."""
        if number is signal.SIGINT or self.asked.is_set():
            self.at_once.set()
        self.asked.set()


def _log_engine(settings: AgentSettings) -> None:
    selected = select_engine(settings.endpoint.engine)
    _log.info("engine.selected", engine=selected.name, reason=selected.reason)


async def _run(role: Callable[[_Stop], Coroutine[Any, Any, int]]) -> int:
    asyncio.get_running_loop().set_exception_handler(Faults().on_loop_error)
    stop = _Stop()
    with service_manager.served(), signals.taken(stop.on_signal, stop.reload.set):
        service_manager.status("waits for a session")
        return await role(stop)


async def _run_consumer(settings: ConsumerSettings, stop: _Stop) -> int:
    async def create(
        on_session: Callable[[SessionChange], None], on_connection: Callable[[ConnectionChange], None]
    ) -> ConsumerEndpoint:
        return await create_consumer_endpoint(
            **endpoint_arguments(settings), **_hooks(manager), on_session=on_session, on_connection=on_connection
        )

    listeners: list[socket.socket] = []
    for address in settings.bind_address:
        try:
            listeners += listen_at(address)
        except OSError as exc:
            # A resolver's error has its own numbers, below zero.
            reason = os.strerror(exc.errno) if exc.errno and exc.errno > 0 else str(exc)
            raise SettingsError(f"--bind-address: {address}: {reason}") from exc
    manager: SessionManager[ConsumerEndpoint] = SessionManager(create)
    agent = ConsumerAgent(listeners, manager, keep_alive=settings.tcp_keepalive, limits=settings.limits)
    agent.start()
    _log_engine(settings)
    addresses = [str(address) for address in agent.addresses]
    _log.info("agent.listening", addresses=addresses)
    parts = [manager.run(), _announce(manager, role="consumer", addresses=addresses), _reload(manager, stop)]
    return await _supervise(agent, parts, stop, settings.drain_timeout)


async def _run_provider(settings: ProviderSettings, stop: _Stop) -> int:
    async def create(
        on_session: Callable[[SessionChange], None], on_connection: Callable[[ConnectionChange], None]
    ) -> ProviderEndpoint:
        return await create_provider_endpoint(
            **endpoint_arguments(settings),
            **_hooks(manager),
            weight=await agent.weight(),
            on_session=on_session,
            on_connection=on_connection,
        )

    manager: SessionManager[ProviderEndpoint] = SessionManager(create)
    agent = ProviderAgent(
        settings.forward_address,
        manager,
        keep_alive=settings.tcp_keepalive,
        weight=settings.weight,
        limits=settings.limits,
        health_check=settings.health,
    )
    _log_engine(settings)
    ready = _announce(manager, agent.wait_healthy, role="provider", forwardAddress=str(settings.forward_address))
    parts = [manager.run(), agent.run(), agent.check_health(), ready, _reload(manager, stop)]
    return await _supervise(agent, parts, stop, settings.drain_timeout)


async def _announce(
    manager: SessionManager[Any], usable: Callable[[], Awaitable[None]] | None = None, **facts: object
) -> None:
    """Say that traffic can pass, once it can: there is a session, and a server that is checked is healthy."""
    await manager.wait_established()
    if usable is not None:
        await usable()
    _log.info("agent.ready", **facts)
    service_manager.ready("there is a session")


async def _reload(manager: SessionManager[Any], stop: _Stop) -> None:
    """What can be read anew is the files of certificate, key and trust, and where the hubs are."""
    while True:
        await stop.reload.wait()
        stop.reload.clear()
        _log.info("agent.reloading")
        # Before it is ready it has nothing to be ready for again.
        ready = manager.established
        if ready:
            service_manager.reloading()
        await manager.renew()
        if ready:
            service_manager.ready()


def endpoint_arguments(settings: AgentSettings) -> dict[str, Any]:
    """The endpoint options of both roles."""
    return {
        "hub_url": settings.hub_url,
        "service_urn": settings.service_urn,
        "certificate": settings.certificate,
        "certificate_key": settings.certificate_key,
        "trust": settings.trust,
        "options": settings.endpoint,
    }


def _hooks(manager: SessionManager[Any]) -> dict[str, Any]:
    """The arguments by which an endpoint of either role reports to its session manager."""
    return {
        "on_credentials": manager.on_credentials,
        "runtime": Runtime(made=manager.made, names=OPTION_NAMES),
    }


async def _supervise(
    agent: ConsumerAgent | ProviderAgent,
    parts: list[Coroutine[Any, Any, None]],
    stop: _Stop,
    drain_timeout: float,
) -> int:
    """Run the parts until one fails or a signal asks for the end; then end everything.

    :param drain_timeout: seconds for open connections, those included that wait for a hub; those that are left are
        reset. The exit status is 0 all the same: the bound was set on purpose, and ``agent.connections_cut`` says
        how many connections it cut.
    """
    running = [asyncio.create_task(part) for part in parts]
    loop = asyncio.get_running_loop()
    try:
        await _wait_for(running, [stop.asked.wait()])
        if isinstance(agent, ConsumerAgent):
            # Before the line: a client that has read it must be refused already.
            agent.stop_accepting()
        service_manager.stopping()
        _log.info("agent.stopping", connections=agent.connections, atOnce=stop.at_once.is_set())
        began = loop.time()
        if not stop.at_once.is_set():
            await _wait_for(running, [agent.drain(), stop.at_once.wait()], drain_timeout)
        if agent.connections:
            _log.warning("agent.connections_cut", connections=agent.connections, after=round(loop.time() - began, 3))
    finally:
        await agent.close()
        await _end(running)
    _log.info("agent.stopped")
    return 0


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
