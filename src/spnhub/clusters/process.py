"""``process:``: a service is a command on the hub's own host, for demos, tests and small installations.

``command`` runs with ``env``, one process per service, and what it writes goes to the log line by line. It is in a
session of its own, so that Ctrl-C reaches the hub alone, and ends with the hub, however that ends: see
:mod:`spnhub.clusters.supervise`, the counterpart. Of the hub's own environment it gets what any program needs and
nothing else, since that holds the hub's secrets. ``image``, ``options`` and ``mountPoints`` mean nothing here.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from io import FileIO
from pathlib import Path
from typing import Final

import structlog

from spnhub.clusters.task import ClusterError, OnExit, ServiceTask
from spnhub.dataclass import dataclass

__all__ = ["ProcessManager"]

_PASSED_ON: Final = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER")
_SUPERVISOR: Final = str(Path(__file__).with_name("supervise.py"))
_LONGEST_LINE: Final = 4096
_LINE_RATE: Final = 1000
"""Lines of one service that are logged in a second."""
_READ_RATE: Final = 16 << 20
"""Bytes of its output that are read in a second."""
_CHUNK: Final = 8192
"""Bytes of it at a time: what is made of them holds up the loop."""
_SECOND: Final = 1.0
_START_TIMEOUT: Final = 10.0
"""Seconds until a command must have been executed."""
_LAST_WORDS: Final = 0.5
"""Seconds that output is still read after the end."""

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Running:
    process: asyncio.subprocess.Process
    watch: asyncio.Task[None]
    pid: int
    stopping: bool = False


class ProcessManager:
    """Runs commands on this host."""

    def __init__(self, *, on_exit: OnExit | None = None, grace: float = 10.0) -> None:
        """Nothing runs yet.

        :param on_exit: called with services that ended without a stop.
        :param grace: seconds between SIGTERM and SIGKILL, and after SIGKILL until it counts as failed.
        """
        self._on_exit = on_exit
        self._grace = grace
        self._running: dict[str, _Running] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    def pid(self, urn: str) -> int | None:
        """The process id of the service's command, which is its process group's too; None: it doesn't run."""
        running = self._running.get(urn)
        return None if running is None else running.pid

    async def start(self, task: ServiceTask) -> None:
        if not task.command:
            raise ClusterError("process: needs a command", retryable=False)
        async with self._turns.setdefault(task.urn, asyncio.Lock()):
            if task.urn not in self._running:
                self._running[task.urn] = await self._spawn(task)

    async def stop(self, task: ServiceTask) -> None:
        async with self._turns.setdefault(task.urn, asyncio.Lock()):
            await self._end(task.urn)

    async def close(self) -> None:
        results = await asyncio.gather(*(self._end(urn) for urn in list(self._running)), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                _log.warning("service.left_running", reason=str(result))

    async def _spawn(self, task: ServiceTask) -> _Running:
        with contextlib.ExitStack() as ours:
            status_read, status_write = os.pipe()
            ours.callback(os.close, status_read)
            output_read, output_write = os.pipe()
            # A file must be closed once: from here on the reader below owns it.
            output = FileIO(output_read, "rb")
            with contextlib.ExitStack() as theirs:
                theirs.callback(os.close, status_write)
                theirs.callback(os.close, output_write)
                try:
                    process = await self._execute(task, status_write, output_write)
                except BaseException:
                    output.close()
                    raise
            try:
                async with asyncio.timeout(_START_TIMEOUT):
                    status = await _read_line(status_read)
                word, _, rest = status.partition(" ")
                if word != "started":
                    raise ClusterError(f"{task.command[0]}: {rest or 'did not start'}", retryable=False)
            except BaseException as error:
                # Also when cancelled: nothing may be left behind.
                output.close()
                _close_stdin(process)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                if isinstance(error, TimeoutError):
                    text = f"{task.command[0]}: not executed within {_START_TIMEOUT:g} s"
                    raise ClusterError(text, retryable=True) from None
                raise
        pid = int(rest)
        _log.info("service.process_started", service=task.urn, pid=pid)
        watch = asyncio.create_task(self._watch(task.urn, process, output), name=f"watch {task.urn}")
        return _Running(process, watch, pid)

    async def _execute(self, task: ServiceTask, status: int, output: int) -> asyncio.subprocess.Process:
        env = {name: os.environ[name] for name in _PASSED_ON if name in os.environ} | dict(task.env)
        try:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", _SUPERVISOR, str(status), str(self._grace), *task.command),
                stdin=asyncio.subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=env,
                pass_fds=(status,),
                start_new_session=True,
            )
        except OSError as error:
            raise ClusterError(f"{task.command[0]}: {error}", retryable=True) from error
        # A null byte in the command or the environment.
        except ValueError as error:
            raise ClusterError(f"{task.command[0]}: {error}", retryable=False) from error

    async def _watch(self, urn: str, process: asyncio.subprocess.Process, output: FileIO) -> None:
        """Log what the service writes, until it has ended."""
        reading = asyncio.create_task(_log_lines(urn, output), name=f"output of {urn}")
        status = await process.wait()
        # What was written last is still in the pipe; but a process that got away may keep that open for ever.
        await asyncio.wait({reading}, timeout=_LAST_WORDS)
        reading.cancel()
        await asyncio.wait({reading})
        if not reading.cancelled() and (error := reading.exception()) is not None:
            _log.warning("service.output_lost", service=urn, reason=str(error))
        _close_stdin(process)
        running = self._running.pop(urn, None)
        if running is not None and running.stopping:
            _log.info("service.process_stopped", service=urn, status=status)
            return
        _log.warning("service.process_ended", service=urn, status=status)
        if self._on_exit is not None:
            reason = f"ended by signal {status - 128}" if status > 128 else f"exited with status {status}"
            self._on_exit(urn, reason)

    async def _end(self, urn: str) -> None:
        running = self._running.get(urn)
        if running is None:
            return
        running.stopping = True
        _close_stdin(running.process)
        # The supervisor needs two graces at most.
        done, _ = await asyncio.wait({running.watch}, timeout=2 * self._grace + 5)
        if not done:
            running.stopping = False
            raise ClusterError(f"process group {running.pid} does not end", retryable=True)
        await running.watch


def _close_stdin(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()


async def _log_lines(urn: str, output: FileIO) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), output)
    lines = _Lines(urn)
    try:
        while chunk := await reader.read(_CHUNK):
            lines.take(chunk)
            await asyncio.sleep(lines.pause)
    finally:
        lines.close()
        transport.close()


class _Lines:
    """The output of one service as lines of the log: a bounded number in a second; further ones are counted.

    A service that writes too much takes neither the loop's time nor the room of other lines; it is itself delayed only
    where it writes faster than a disk.
    """

    def __init__(self, urn: str) -> None:
        self.pause = 0.0
        """Seconds for which nothing more is to be read."""
        self._urn = urn
        self._rest = b""
        self._begun = -_SECOND
        self._read = 0
        self._lines = 0
        self._dropped = 0
        self._loop = asyncio.get_running_loop()
        self._declaring: asyncio.TimerHandle | None = None

    def take(self, chunk: bytes) -> None:
        """What was read."""
        now = self._loop.time()
        if now - self._begun >= _SECOND:
            self._begun, self._read, self._lines = now, 0, 0
        self._read += len(chunk)
        self.pause = 0.0 if self._read < _READ_RATE else self._begun + _SECOND - now
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            lines, self._rest = [*lines, self._rest], b""
        room = max(0, _LINE_RATE - self._lines)
        self._lines += len(lines)
        for line in lines[:room]:
            self._log(line)
        if len(lines) > room:
            self._dropped += len(lines) - room
            if self._declaring is None:
                self._declaring = self._loop.call_at(self._begun + _SECOND, self._declare)

    def close(self) -> None:
        """The last line may have no end."""
        if self._rest:
            self._log(self._rest)
        if self._declaring is not None:
            self._declaring.cancel()
            self._declare()

    def _log(self, line: bytes) -> None:
        text = line[:_LONGEST_LINE].decode("utf-8", "replace").rstrip("\r")
        _log.info("service.output", service=self._urn, line=text)

    def _declare(self) -> None:
        self._declaring = None
        count, self._dropped = self._dropped, 0
        _log.warning("service.output_dropped", service=self._urn, lines=count)


async def _read_line(descriptor: int) -> str:
    """What is written to a pipe until its other end closes."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    os.set_blocking(descriptor, False)
    loop.add_reader(descriptor, readable.set)
    text = b""
    try:
        while True:
            await readable.wait()
            readable.clear()
            with contextlib.suppress(BlockingIOError):
                chunk = os.read(descriptor, 4096)
                text += chunk
                if not chunk or b"\n" in chunk:
                    return text.decode("utf-8", "replace").strip()
    finally:
        loop.remove_reader(descriptor)
