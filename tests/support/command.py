"""One of the product's commands as a real process: its log lines are collected and can be awaited.

Counterpart: :mod:`tests.support.world` puts them together.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.support.forked import BIN, Running, begin

__all__ = ["BIN", "Command", "Line", "environment", "run"]

Line = dict[str, Any]

_OWN = ("SPN", "BIND_ADDRESS", "FORWARD_ADDRESS")
"""Beginnings of environment names that the commands read; the tests' own environment doesn't reach them."""


def environment(more: Mapping[str, str]) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    return inherited | {"PYTHONUNBUFFERED": "1"} | dict(more)


class Command:
    """A running ``spnhub`` or ``spnagent``. :meth:`start` makes it; :meth:`close` leaves nothing behind."""

    def __init__(self, name: str, process: Running) -> None:
        self.name = name
        self.lines: list[Line] = []
        """Standard output: what was JSON, in order."""
        self.errors: list[str] = []
        """Standard error, and what was no JSON on standard output."""
        self._process = process
        self._ps = psutil.Process(process.pid)
        self._news = asyncio.Condition()
        self._over = False
        self._reading = asyncio.gather(self._read_output(), self._read_errors())

    @classmethod
    async def start(
        cls,
        name: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
        fork: bool = True,
    ) -> Command:
        """Start ``.venv/bin/{arguments[0]}``.

        :param within: a command that runs it (another network's, say).
        :param fork: see :func:`begin`.
        """
        program, *rest = arguments
        process = await begin(program, *rest, env=environment(env or {}), within=within, fork=fork)
        return cls(name, process)

    # ---- what it says ------------------------------------------------------------------------------------------

    async def _read_output(self) -> None:
        assert self._process.stdout is not None
        async for raw in self._process.stdout:
            try:
                line = json.loads(raw)
            except ValueError:
                self.errors.append(raw.decode(errors="replace").rstrip())
                continue
            async with self._news:
                self.lines.append(line)
                self._news.notify_all()
        await self._process.wait()
        async with self._news:
            self._over = True
            self._news.notify_all()

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        async for raw in self._process.stderr:
            self.errors.append(raw.decode(errors="replace").rstrip())

    def said(self, event: str, **fields: Any) -> list[Line]:
        """The lines so far with this ``event`` and these fields."""
        return [
            line
            for line in self.lines
            if line.get("event") == event and all(line.get(name) == value for name, value in fields.items())
        ]

    async def line(self, event: str, *, nth: int = 1, timeout: float = 60.0, **fields: Any) -> Line:
        """The ``nth`` line with this ``event`` and these fields; waits for it.

        :raises AssertionError: the process has ended without it, or it didn't come in time; with all that was said.
        """
        return (await self.wait_lines(event, nth, timeout=timeout, **fields))[nth - 1]

    async def wait_lines(self, event: str, count: int, *, timeout: float = 60.0, **fields: Any) -> list[Line]:
        """At least ``count`` lines with this ``event`` and these fields; waits for them."""
        await self.until(lambda: len(self.said(event, **fields)) >= count, f"{count} × {event} {fields}", timeout)
        return self.said(event, **fields)

    async def until(self, condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
        """Wait until ``condition`` holds; it is looked at with every line."""
        try:
            async with asyncio.timeout(timeout), self._news:
                await self._news.wait_for(lambda: condition() or self._over)
        except TimeoutError:
            raise AssertionError(f"{self.name}: no {what} within {timeout} s\n{self.transcript()}") from None
        assert condition(), f"{self.name} ended without {what}\n{self.transcript()}"

    def transcript(self, last: int = 40) -> str:
        """The last lines, for messages."""
        said = [json.dumps(line) for line in self.lines[-last:]]
        return "\n".join([f"--- {self.name}, exit status {self._process.returncode}", *said, *self.errors[-last:]])

    # ---- its life ----------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        await self.wait()

    async def stop(self, number: signal.Signals = signal.SIGINT, timeout: float = 60.0) -> int:
        """Send a signal and wait; the exit status."""
        if self.running:
            self.send_signal(number)
        return await self.wait(timeout)

    async def wait(self, timeout: float = 60.0) -> int:
        """Wait for its end and for all that it said; the exit status."""
        try:
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._reading)
        except TimeoutError:
            raise AssertionError(f"{self.name} did not end within {timeout} s\n{self.transcript()}") from None
        return await self._process.wait()

    async def close(self) -> None:
        """Kill it if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            if self.running:
                self._process.kill()
        await self._reading

    # ---- what it costs -----------------------------------------------------------------------------------------

    @property
    def rss(self) -> int:
        """Resident memory now, bytes, without mapped files: the system may drop those at any time."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return sum(int(size) * 1024 for size in re.findall(r"^Rss(?:Anon|Shmem):\s+(\d+) kB$", status, re.MULTILINE))

    @property
    def cpu(self) -> float:
        """CPU time so far, seconds."""
        times = self._ps.cpu_times()
        return float(times.user + times.system)


async def run(*arguments: str, env: Mapping[str, str] | None = None, fork: bool = True) -> tuple[int, str, str]:
    """Run a command to its end: exit status, standard output, standard error. ``fork``: see :func:`begin`."""
    program, *rest = arguments
    process = await begin(program, *rest, env=environment(env or {}), fork=fork)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()
