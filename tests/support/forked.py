"""Our commands as real processes, which are forked from one that has loaded them.

Python's start and the imports would be a third of what the suite costs: the same, a thousand times. Tests of a start
itself run the scripts (``tests/system/test_start.py``, ``tests/test_distribution.py``), and so does :func:`begin` where
Python would start otherwise than it did for the tests.
"""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from spnhub.cli import start

__all__ = ["BIN", "Forked", "Running", "begin", "run"]

BIN = Path(sys.executable).parent
"""The folder of our commands."""

_COMMANDS = {"spnhub": start.hub, "spnagent": start.agent, "spnlog": start.log}
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.preloaded"])
_LINE_LIMIT = 4 * 1024 * 1024


async def begin(
    program: str | Path,
    *arguments: str,
    env: Mapping[str, str],
    within: Sequence[str] = (),
    fork: bool = True,
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int = asyncio.subprocess.PIPE,
    stderr: int = asyncio.subprocess.PIPE,
    start_new_session: bool = False,
) -> Running:
    """Start one of our commands, or this Python with a program of the tests.

    :param program: its name, or a path; another installation's is started as it is.
    :param arguments: for Python: ``-m`` and a module, or a file, then those of the program; ``-c`` isn't forked.
    :param fork: if not, it is this process's child, with the costs of its start.
    :param within: a command that runs it (another network's, say).
    :param stdin: as the others, a descriptor or what :mod:`subprocess` has for it.
    """
    path = BIN / program
    known = path.name in _COMMANDS or (path == Path(sys.executable) and arguments[0] != "-c")
    if fork and known and path.parent == BIN and not within and _may_fork(env):
        return await Forked.start(path.name, arguments, env, (stdin, stdout, stderr), start_new_session)
    return await asyncio.create_subprocess_exec(
        *(*within, str(path), *arguments),
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=start_new_session,
        limit=_LINE_LIMIT,
    )


def run(
    program: str, *arguments: str, env: Mapping[str, str], timeout: float = 60.0
) -> subprocess.CompletedProcess[str]:
    """Run one of our commands to its end.

    :raises TimeoutError: it didn't end in time; it is killed.
    """
    if not _may_fork(env):
        command = [str(BIN / program), *arguments]
        return subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout, check=False)
    with Path(os.devnull).open() as nothing, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = _fork(program, arguments, env, [nothing.fileno(), out.fileno(), err.fileno()])
        process.join(timeout)
        if (status := process.exitcode) is None:
            process.kill()
            process.join()
            raise TimeoutError(f"{program} {arguments}")
        written = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
    return subprocess.CompletedProcess([program, *arguments], status, *written)


class Forked:
    """As much of :class:`asyncio.subprocess.Process` as the tests use, of a process that isn't this one's child."""

    def __init__(self, process: Any) -> None:
        self.pid: int = process.pid
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._process = process
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(process.sentinel, self._end)

    @classmethod
    async def start(
        cls, program: str, arguments: Sequence[str], env: Mapping[str, str], ends: Sequence[int], session: bool
    ) -> Forked:
        """Fork it.

        :param ends: its standard input, output and error.
        """
        taken, opened, readers = [], [], []
        for end in ends:
            if end == asyncio.subprocess.PIPE:
                ours, end = os.pipe()  # noqa: PLW2901
                readers.append(ours)
            elif end == asyncio.subprocess.DEVNULL:
                end = os.open(os.devnull, os.O_RDWR)  # noqa: PLW2901
            else:
                taken.append(end)
                continue
            taken.append(end)
            opened.append(end)
        try:
            self = cls(_fork(program, arguments, env, taken, session))
        finally:
            for end in opened:
                os.close(end)
        streams = iter([await _reader(descriptor) for descriptor in readers])
        self.stdout, self.stderr = (next(streams) if end == asyncio.subprocess.PIPE else None for end in ends[1:])
        return self

    @property
    def returncode(self) -> int | None:
        """The exit status, or −N for the signal N, once the end was seen."""
        return self._process.exitcode if self._ended.is_set() else None

    def send_signal(self, number: int) -> None:
        """Send a signal, unless its end was seen."""
        if not self._ended.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)

    async def wait(self) -> int:
        """Wait for its end; the exit status."""
        await self._ended.wait()
        return int(self._process.exitcode)

    async def communicate(self) -> tuple[bytes, bytes]:
        """All of its standard output and error, once it has ended."""
        out, err = await asyncio.gather(*(_all(stream) for stream in (self.stdout, self.stderr)))
        await self.wait()
        return out, err

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._process.sentinel)
        self._process.join()
        self._ended.set()


Running = asyncio.subprocess.Process | Forked
"""A process that :func:`begin` started."""


def _may_fork(env: Mapping[str, str]) -> bool:
    """Whether what Python and the loader read at their start is as it is for the tests."""
    read = {name for name in {*env, *os.environ} if name.startswith(("PYTHON", "LD_"))} - {"PYTHONUNBUFFERED"}
    return all(env.get(name) == os.environ.get(name) for name in read)


def _fork(
    program: str, arguments: Sequence[str], env: Mapping[str, str], ends: Sequence[int], session: bool = False
) -> Any:
    process = _CONTEXT.Process(target=_Program(program, tuple(arguments), dict(env), tuple(ends), session))
    # Else it imports what runs here, pytest.
    with patch.dict(sys.modules, __main__=ModuleType("__main__")):
        process.start()
    return process


class _Program:
    """What the forked process is to be. It goes there pickled, with the descriptors."""

    def __init__(
        self, name: str, arguments: tuple[str, ...], env: dict[str, str], ends: tuple[int, ...], session: bool
    ) -> None:
        self._name, self._arguments, self._env, self._ends, self._session = name, arguments, env, ends, session
        self._folder = Path.cwd()
        self._priority = os.getpriority(os.PRIO_PROCESS, 0)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ends": [DupFd(end) for end in self._ends]}

    def __call__(self) -> None:
        if self._session:
            os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, self._priority)
        os.chdir(self._folder)
        os.environ.clear()
        os.environ.update(self._env)
        time.tzset()
        for number, end in enumerate(self._ends):
            descriptor = end.detach()  # type: ignore[attr-defined]
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdin = sys.__stdin__ = open(0, encoding="utf-8", closefd=False)  # type: ignore[misc]  # noqa: SIM115
        sys.stdout = sys.__stdout__ = _writer(1, "strict")  # type: ignore[misc]
        sys.stderr = sys.__stderr__ = _writer(2, "backslashreplace")  # type: ignore[misc]
        if (command := _COMMANDS.get(self._name)) is not None:
            sys.argv = [str(BIN / self._name), *self._arguments]
            sys.exit(command())
        if self._arguments[0] == "-m":
            sys.argv = list(self._arguments[1:])
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        else:
            sys.argv = list(self._arguments)
            runpy.run_path(sys.argv[0], run_name="__main__")


def _writer(descriptor: int, errors: str) -> io.TextIOWrapper:
    """As Python opens a standard stream at its start."""
    unbuffered = bool(os.environ.get("PYTHONUNBUFFERED"))
    raw = open(descriptor, "wb", 0 if unbuffered else -1, closefd=False)  # noqa: SIM115
    at_once = descriptor == 2 or os.isatty(descriptor)
    return io.TextIOWrapper(raw, "utf-8", errors, line_buffering=at_once, write_through=unbuffered)


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader(_LINE_LIMIT)
    pipe = open(descriptor, "rb", 0)  # noqa: SIM115
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _all(stream: asyncio.StreamReader | None) -> bytes:
    return b"" if stream is None else await stream.read()
