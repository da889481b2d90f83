"""Signals and exit status of a hub process. Counterpart: :mod:`spnhub.hub_process.process`."""

from __future__ import annotations

import asyncio
import contextlib
import signal

import structlog

from spnhub import signals
from spnhub.events.journal.journal import JournalError
from spnhub.hub_process.process import HubProcess
from spnhub.hub_settings import HubSettings
from spnhub.service_manager import service_manager
from spnhub.settings import SettingsError
from spnhub.streams import say
from spnhub.transport.faults import Faults
from spnhub.transport.system.descriptors import raise_limit
from spnhub.transport.system.loop import run as run_loop

__all__ = ["run"]

_log = structlog.get_logger("spnhub.hub")


def run(settings: HubSettings) -> int:
    """Run a hub until it is asked to stop.

    :returns: the exit status (0, 1 or 2).
    """
    raise_limit()
    return run_loop(_main(settings))


async def _main(settings: HubSettings) -> int:
    faults = Faults()
    asyncio.get_running_loop().set_exception_handler(faults.on_loop_error)
    hub = HubProcess(settings, faults)
    asked = asyncio.Event()
    at_once = asyncio.Event()
    planned = False

    def stop(number: signal.Signals) -> None:
        """SIGTERM and SIGQUIT: connections go on elsewhere (R-4.8); SIGINT ends them (R-4.10), a second one at once."""
        nonlocal planned
        if planned and number is signal.SIGINT:
            at_once.set()
        if planned or (asked.is_set() and number is not signal.SIGINT):
            return
        service_manager.stopping()
        _log.info("hub.stopping", hubId=settings.hub_id, signal=number.name)
        planned = number is signal.SIGINT
        if asked.is_set():
            hub.stop()
        asked.set()

    with service_manager.served(), signals.taken(stop, hub.reload):
        try:
            starting = asyncio.ensure_future(hub.start())
            asking = asyncio.ensure_future(asked.wait())
            await asyncio.wait({starting, asking}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                starting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await starting
                return 0
            starting.result()
            failing = asyncio.ensure_future(hub.failed.wait())
            await asyncio.wait({asking, failing}, return_when=asyncio.FIRST_COMPLETED)
            failing.cancel()
            if not hub.failed.is_set():
                hub.stop(resumable=not planned)
            waits = {asyncio.ensure_future(hub.stopped.wait()), asyncio.ensure_future(at_once.wait())}
            _, rest = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for wait in rest:
                wait.cancel()
            if not hub.stopped.is_set():
                _log.warning("hub.stopped-at-once", hubId=settings.hub_id)
                return 1
            return 1 if hub.failed.is_set() else 0
        except (SettingsError, JournalError) as exc:
            say(f"spnhub: {exc}", error=True)  # the one line of exit status 2 (spec: interface)
            return 2
        finally:
            await hub.close()
            if hub.addresses:
                _log.info("hub.stopped", hubId=settings.hub_id)
