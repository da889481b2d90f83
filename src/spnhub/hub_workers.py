"""``spnhub --workers N``: several hubs that share the load of one host, each a process; this one watches over them.

A worker is a hub like any other, with an address, a hub id, a folder of the journal and a port of ``--ops`` of its own.
Workers share nothing: endpoints have a session with each of them, as with hubs on several hosts, and one that dies is
started again while connections go on at the others. No traffic passes here. Counterparts: :mod:`spnhub.cli.worker` is
where a worker begins, :mod:`spnhub.hub_process` what it does; :mod:`spnhub.service_manager` is how it says that it is
ready.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from spnhub import signals
from spnhub.backoff import Backoff
from spnhub.hub_settings import HubSettings
from spnhub.options import parse_address
from spnhub.plain_text import SECRETS
from spnhub.service_manager import service_manager
from spnhub.transport.system.ip import host_port
from spnhub.transport.system.loop import run as run_loop

__all__ = ["run", "settings_of_worker"]

_log = structlog.get_logger("spnhub.hub")

# Not from the working folder: it may be anybody's.
_COMMAND: Final = (sys.executable, "-P", "-c", "import sys; from spnhub.cli.start import worker; sys.exit(worker())")
_UNUSABLE: Final = 2
"""A worker's exit status for what starting it again doesn't mend: settings, inventory, addresses, journal."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
"""Between restarts, in seconds."""
_STABLE: Final = 30.0
"""Seconds of life after which an end is not counted with those before."""
_MESSAGE: Final = 4096
"""Bytes of the longest message of a worker."""


def settings_of_worker(settings: HubSettings, number: int) -> HubSettings:
    """Those of one worker: what can't be shared is its own.

    :param number: from 1.
    """
    own_ops = settings.ops
    if own_ops is not None:
        host, port = parse_address(own_ops)
        own_ops = host_port(host, port and port + number - 1)
    own_journal = settings.journal_options
    if own_journal.size is not None:
        own_journal = replace(own_journal, size=own_journal.size // settings.workers)
    return replace(
        settings,
        workers=1,
        hub_id=f"{settings.hub_id}-{number}",
        bind=settings.addresses[number - 1],
        journal=settings.journal / str(number),
        journal_options=own_journal,
        ops=own_ops,
        record=None if settings.record is None else settings.record / str(number),
    )


def run(settings: HubSettings) -> int:
    """Run the workers until they are asked to stop.

    :returns: the greatest of their exit statuses.
    """
    return run_loop(_Supervisor([settings_of_worker(settings, one + 1) for one in range(settings.workers)]).run())


class _Worker:
    """One worker: a process, and after its end the next one."""

    def __init__(self, settings: HubSettings) -> None:
        self.settings = settings
        self.process: Process | None = None
        """While there is one."""
        self.ready = False
        self.was_ready = False
        """Once at least."""
        self._asked: signal.Signals | None = None
        self.heard = 0.0
        """When it last said something; ``time.monotonic``."""

    async def live(self, said: asyncio.Event) -> int:
        """Run it once.

        :param said: set whenever it may be ready, or no longer.
        :returns: its exit status, negative for the signal that ended it.
        :raises OSError: it can't be started.
        """
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        loop = asyncio.get_running_loop()
        try:
            with its:
                environment = dict(os.environ)
                if service_manager.watchdog is not None:
                    environment["WATCHDOG_USEC"] = str(int(service_manager.watchdog * 1e6))
                # It is born with signals waiting: one that comes before it can take them isn't lost.
                signals.hold()
                try:
                    self.process = await asyncio.create_subprocess_exec(
                        *_COMMAND,
                        str(its.fileno()),
                        stdin=PIPE,
                        pass_fds=(its.fileno(),),
                        env=environment,
                        # Ctrl-C is for this process, which passes it on.
                        start_new_session=True,
                    )
                finally:
                    signals.release()
            _log.info("worker.started", hubId=self.settings.hub_id, pid=self.process.pid)
            if self._asked is not None:
                # It came before there was a process to send it to.
                self.stop(self._asked)
            ours.setblocking(False)
            self.heard = time.monotonic()
            loop.add_reader(ours, partial(self._hear, ours, said))
            assert self.process.stdin is not None
            # Pickled, since they are read already: the command line, variables, and files that can be read once.
            self.process.stdin.write(pickle.dumps((self.settings, tuple(SECRETS))))
            return await self.process.wait()
        finally:
            loop.remove_reader(ours)
            ours.close()
            self.process = None
            self.ready = False
            said.set()

    def stop(self, number: signal.Signals) -> None:
        """Send it what stops it, as soon as it runs."""
        self._asked = number
        self.send(number)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(number)

    def _hear(self, ours: socket.socket, said: asyncio.Event) -> None:
        try:
            facts = ours.recv(_MESSAGE).split(b"\n")
        except (BlockingIOError, ConnectionResetError):
            return
        if facts == [b""]:
            asyncio.get_running_loop().remove_reader(ours)
            return
        self.heard = time.monotonic()
        if b"READY=1" in facts:
            self.ready = self.was_ready = True
            said.set()


class _Supervisor:
    """Keeps the workers running, until it is asked to stop."""

    def __init__(self, workers: Sequence[HubSettings]) -> None:
        self._workers = [_Worker(one) for one in workers]
        self._asked: signal.Signals | None = None
        self._ending = asyncio.Event()
        self._said = asyncio.Event()

    async def run(self) -> int:
        """See :func:`run`."""
        with service_manager.served(), signals.taken(self._stop, self._reload):
            beside = [asyncio.ensure_future(self._report())]
            if service_manager.watchdog is not None:
                beside.append(asyncio.ensure_future(self._watch(service_manager.watchdog)))
            try:
                return max(await asyncio.gather(*map(self._keep, self._workers)))
            finally:
                for one in beside:
                    one.cancel()

    async def _keep(self, worker: _Worker) -> int:
        pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not self._ending.is_set():
            began = time.monotonic()
            status: int | None = None
            try:
                status = await worker.live(self._said)
                reason = f"signal {signals.name_of(-status)}" if status < 0 else f"exit status {status}"
            except OSError as exc:
                reason = f"it cannot be started: {exc.strerror or exc}"
            if self._ending.is_set():
                return _as_shell(status)
            if status == _UNUSABLE and not worker.was_ready:
                # It has said what is wrong. The others would run, but half of a hub isn't what was asked for.
                self._stop(signal.SIGTERM)
                return status
            if time.monotonic() - began > _STABLE:
                pauses.reset()
            pause = pauses.next()
            _log.error("worker.ended", hubId=worker.settings.hub_id, reason=reason, restartIn=round(pause, 2))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
        return 0

    def _stop(self, number: signal.Signals) -> None:
        if self._asked is None:
            self._asked = number
            service_manager.stopping()
        self._ending.set()
        for worker in self._workers:
            worker.stop(number)

    def _reload(self) -> None:
        for worker in self._workers:
            worker.send(signal.SIGHUP)

    async def _report(self) -> None:
        """Tell the service manager, and once the log, how many are ready."""
        before = 0
        while True:
            await self._said.wait()
            self._said.clear()
            ready = sum(worker.ready for worker in self._workers)
            if ready == before or self._ending.is_set():
                continue
            text = f"{ready} of {len(self._workers)} workers are ready"
            if ready == len(self._workers):
                _log.info("workers.ready", hubIds=[worker.settings.hub_id for worker in self._workers])
                service_manager.ready(text)
            else:
                service_manager.status(text)
            before = ready

    async def _watch(self, interval: float) -> None:
        """End a worker that says nothing for as long as the service manager would wait for this process."""
        while True:
            await asyncio.sleep(interval / 4)
            for worker in self._workers:
                if worker.ready and time.monotonic() - worker.heard > interval:
                    _log.error("worker.silent", hubId=worker.settings.hub_id, seconds=interval)
                    worker.send(signal.SIGKILL)


def _as_shell(status: int | None) -> int:
    """What a shell makes of it; 0 where there was none, or where the signal came before it could take it."""
    if status is None or status == -signal.SIGTERM:
        return 0
    return 128 - status if status < 0 else status
