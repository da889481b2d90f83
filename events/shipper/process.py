"""The hub's side of the shipper: starts it, starts it again when it dies, hears its statuses, lets it go.

Nothing here waits for Kafka, and nothing of Kafka is loaded: what goes wrong with the shipper is a status. Counterpart:
:mod:`spnhub.events.shipper.shipper`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from spnhub.backoff import Backoff
from spnhub.events.kafka.settings import ShipperSettings, ShipperStatus

__all__ = ["ShipperProcess"]

# Not from the hub's working folder: it may be anybody's.
_COMMAND: Final = (sys.executable, "-P", "-m", "spnhub.events.shipper.shipper")
_LINE_LIMIT: Final = 1 << 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 30.0
"""Between restarts, in seconds."""
_STABLE: Final = 30.0
"""Seconds of life after which a death is not counted with those before."""
_GRACE: Final = 5.0
"""Seconds beyond its drain time after which a shipper is killed: its last attempts are bounded by about this."""


class ShipperProcess:
    """Keeps one shipper running.

    :param on_status: gets each status of the shipper, and ``died`` when it ended other than by :meth:`stop`.
    """

    def __init__(self, settings: ShipperSettings, on_status: Callable[[ShipperStatus], None]) -> None:
        self._settings = settings
        self._on_status = on_status
        self._process: Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.status = ShipperStatus(state="starting")
        """The last one."""

    @property
    def pid(self) -> int | None:
        """Of the shipper, while there is one."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin; returns at once. Once only."""
        assert self._task is None
        self._task = asyncio.create_task(self._supervise(), name="shipper")
        self._task.add_done_callback(_report_failure)

    async def stop(self) -> None:
        """Let the shipper ship what is there, for its drain time at most, and see it gone."""
        if self._task is None:
            return
        self._stopping.set()
        self._ask_to_finish()
        try:
            await asyncio.wait_for(asyncio.shield(self._task), self._settings.drain + _GRACE)
        except TimeoutError:
            if self._process is not None:
                with suppress(ProcessLookupError):
                    self._process.kill()
            await self._task
        except asyncio.CancelledError:
            # The hub's own time to stop is over: the shipper goes on alone for its drain time.
            self._task.cancel()
            raise

    def _ask_to_finish(self) -> None:
        """Close the shipper's standard input, whose end asks it to finish."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()

    async def _supervise(self) -> None:
        pauses = Backoff(_FIRST_PAUSE, _LONGEST_PAUSE)
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                reason = await self._run_once()
            except OSError as exc:
                reason = f"it cannot be started: {exc.strerror or exc}"
            finally:
                self._process = None
            if self._stopping.is_set() and self.status.state == "left":
                return
            self._report(ShipperStatus(state="died", position=self.status.position, reason=reason))
            if time.monotonic() - began > _STABLE:
                pauses.reset()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pauses.next())

    async def _run_once(self) -> str:
        """One shipper's life; why it ended."""
        process = await asyncio.create_subprocess_exec(
            *_COMMAND,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LINE_LIMIT,
            # A signal to the terminal's process group is meant for the hub, which lets the shipper finish.
            start_new_session=True,
        )
        self._process = process
        assert process.stdin is not None
        complaints: deque[str] = deque(maxlen=5)
        process.stdin.write(self._settings.to_json().encode() + b"\n")
        if self._stopping.is_set():
            self._ask_to_finish()
        try:
            await asyncio.gather(self._hear(process), _listen(process, complaints))
            code = await process.wait()
        finally:
            process.stdin.close()  # without a supervisor it shall finish
        return f"exit status {code}" + (f": {' / '.join(complaints)}" if complaints else "")

    async def _hear(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            with suppress(ValueError):  # a line that is no status is of no use here
                self._report(ShipperStatus.from_json(line))

    def _report(self, status: ShipperStatus) -> None:
        self.status = status
        self._on_status(status)


async def _listen(process: Process, complaints: deque[str]) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        complaints.append(line.decode(errors="replace").rstrip())


def _report_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (exc := task.exception()) is not None:
        context = {"message": "the shipper's supervisor failed", "exception": exc, "task": task}
        task.get_loop().call_exception_handler(context)
