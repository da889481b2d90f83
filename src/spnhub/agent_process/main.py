"""Signals and exit status of a process with agents. Counterparts: :mod:`spnhub.agent_process.host`,
:mod:`spnhub.cli.agent`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog

from spnhub import logging, signals
from spnhub.agent_process.host import AgentHost
from spnhub.agent_settings import AgentSettings, ProcessSettings
from spnhub.options import parse_address
from spnhub.service_manager import service_manager
from spnhub.settings import SettingsError
from spnhub.streams import say
from spnhub.transport.errors import SpnError
from spnhub.transport.faults import Faults
from spnhub.transport.system import memory as process_memory
from spnhub.transport.system.descriptors import raise_limit
from spnhub.transport.system.loop import in_own_thread
from spnhub.transport.system.loop import run as run_loop

if TYPE_CHECKING:  # what it imports takes a while to load
    from spnhub.http_server import HttpServer

__all__ = ["Read", "Settings", "run_host", "run_one"]

_log = structlog.get_logger()

Settings = tuple[ProcessSettings, Mapping[str, AgentSettings]]
"""Of the process, and of each agent by its name."""
Read = Callable[[], Settings]
"""What is to run, read anew. Blocks; raises SettingsError."""
_SETTLED: Final = 1.0
"""Seconds for which a changed file has to stay as it is: half of it may be a sound file with fewer agents."""


def run_one(settings: AgentSettings) -> int:
    """Run one agent until it is asked to stop, or has failed for good; the exit status.

    :raises SettingsError: something can't be used.
    """
    try:
        return _run(settings.process, {"": settings}, None, None)
    except ValueError as exc:
        # The endpoint's errors name the argument.
        raise SettingsError(str(exc)) from exc
    except SpnError as exc:
        # A refusal that no retry changes.
        say(f"spnagent: {' '.join(str(exc).split())}", error=True)
        return 1


def run_host(read: Read, file: Path | None = None) -> int:
    """Run many agents until they are asked to stop; the exit status.

    :param read: called again for each reload.
    :param file: what it reads; a change of it is a reload.
    :raises SettingsError: something can't be used.
    """
    # Before it is read: what changes meanwhile is a change.
    watched = None if file is None else _WatchedFile(file)
    return _run(*read(), read, watched)


def _run(
    process: ProcessSettings, agents: Mapping[str, AgentSettings], read: Read | None, watched: _WatchedFile | None
) -> int:
    logging.configure(process.log_level, process.log_format)
    raise_limit()
    return run_loop(_AgentProcess(process, agents, read, watched).run())


class _WatchedFile:
    """What a file held when it was last looked at. Its methods block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken = self._seen = self._content()

    def take(self) -> None:
        """What is there now is going to be read."""
        self._taken = self._seen = self._content()

    def has_changed(self) -> bool:
        """Whether it holds something else than was read, and the same as at the look before."""
        before, self._seen = self._seen, self._content()
        # One that is gone, for the moment of its replacement say, tells nothing.
        return self._seen is not None and self._seen == before != self._taken

    @property
    def is_changing(self) -> bool:
        """The last look found something else than was read."""
        return self._seen is not None and self._seen != self._taken

    def _content(self) -> bytes | None:
        """None: there is none. Pipes are read once, so they aren't looked at."""
        try:
            return self._path.read_bytes() if self._path.is_file() else None
        except OSError:
            return None


class _AgentProcess:
    """From its first signal to its last.

    :param read: None: what can be read anew is certificates, and where the hubs are.
    """

    def __init__(
        self,
        process: ProcessSettings,
        agents: Mapping[str, AgentSettings],
        read: Read | None,
        watched: _WatchedFile | None,
    ) -> None:
        self._process = process
        self._agents = agents
        self._read = read
        self._watched = watched
        self._reload = asyncio.Event()
        self._asked = False
        self._told_ready = False
        self._http: HttpServer | None = None

    async def run(self) -> int:
        """See :func:`run_host`."""
        asyncio.get_running_loop().set_exception_handler(Faults().on_loop_error)
        with service_manager.served(), signals.taken(self._on_signal, self._reload.set):
            service_manager.status("waits for a session")
            self._host = AgentHost(self._agents, self._on_change, lasting=self._read is not None)
            reloading = asyncio.gather(self._reload_when_asked(), self._look_at_file())
            try:
                await self._start_ops()
                await self._host.wait_stopped()
            finally:
                reloading.cancel()
                await asyncio.gather(reloading, return_exceptions=True)
                self._host.stop(at_once=True)
                with contextlib.suppress(SpnError, SettingsError, ValueError):  # the first one is raised already
                    await self._host.wait_stopped()
                if self._http is not None:
                    await self._http.close()
        return 0

    def _on_signal(self, number: signal.Signals) -> None:
        """SIGTERM and SIGQUIT: an orderly stop. SIGINT, or a second one of any: at once."""
        at_once = self._asked or number is signal.SIGINT
        self._asked = True
        service_manager.stopping()
        self._host.stop(at_once=at_once)

    def _on_change(self) -> None:
        """An agent has become ready, or has failed."""
        slots = self._host.slots.values()
        faults = [f"{slot.name}: {slot.fault}" if slot.name else str(slot.fault) for slot in slots if slot.fault]
        status = "; ".join(faults) or ("there is a session" if len(slots) == 1 else f"{len(slots)} agents are ready")
        if self._told_ready:
            service_manager.status(status)
        elif all(slot.known.is_set() for slot in slots):
            self._told_ready = True
            service_manager.ready(status)
            # What reading modules has taken and freed: 4 MiB.
            process_memory.give_back()

    async def _reload_when_asked(self) -> None:
        while True:
            await self._reload.wait()
            self._reload.clear()
            _log.info("agent.reloading")
            # Before it is ready it has nothing to be ready for again.
            if self._told_ready:
                service_manager.reloading()
            if self._read is not None:
                await self._take_anew(self._read)
            await self._host.renew()
            if self._told_ready:
                service_manager.ready()

    async def _look_at_file(self) -> None:
        """Have it read again when it has changed, as the files of certificates are."""
        if self._watched is None:
            return
        while True:
            intervals = [one.endpoint.credentials_interval for one in self._agents.values()]
            await asyncio.sleep(_SETTLED if self._watched.is_changing else min(intervals, default=_SETTLED))
            # A system that can start no thread now can later.
            with contextlib.suppress(RuntimeError):
                if await in_own_thread(self._watched.has_changed, "spn-file"):
                    self._reload.set()

    async def _take_anew(self, read: Read) -> None:
        try:
            if self._watched is not None:
                await in_own_thread(self._watched.take, "spn-file")
            process, agents = await in_own_thread(read, "spn-settings")
        except (SettingsError, RuntimeError) as exc:
            # All that runs goes on as it is.
            _log.error("agent.reload_failed", reason=str(exc))
            return
        if process != self._process:
            _log.warning("agent.needs_restart", reason="options of the process itself are read at its start only")
        self._agents = agents
        await self._host.take(agents)

    async def _start_ops(self) -> None:
        if self._process.ops is None:
            return
        # Late: most agents serve no HTTP, and an agent has to start quickly.
        from spnhub.agent_process.ops import AgentOps  # noqa: PLC0415
        from spnhub.http_server import HttpServer  # noqa: PLC0415

        self._http = HttpServer(
            AgentOps(self._host.slots_now).application(),
            "--ops",
            names=self._process.ops_hosts,
            names_option="--ops-host",
            token=self._process.ops_token,
        )
        _log.info("ops.ready", url=await self._http.start(*parse_address(self._process.ops)))
