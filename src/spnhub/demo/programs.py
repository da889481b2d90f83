"""Our own commands as processes of the demo: started, listened to, and always ended.

Each runs in a session of its own, so that Ctrl-C reaches the demo alone, which then ends them in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

__all__ = ["DemoFailed", "Program", "Programs", "run_to_end"]

_START_TIMEOUT: Final = 60.0
"""Seconds from a program's start to the line that is waited for: a slow machine is no failure."""
_END_TIMEOUT: Final = 10.0
"""Seconds that a program has to end after its signal."""

Line = dict[str, Any]


class DemoFailed(Exception):
    """Something was not as it should be; the text is a sentence that says what."""


def _command(module: str) -> tuple[str, ...]:
    # -P: a folder named like one of the packages, in the directory of the person, must not be imported.
    return sys.executable, "-P", "-c", f"import sys; from spnhub.cli.{module} import main; sys.exit(main())"


def _environment(given: Mapping[str, str] | None) -> dict[str, str]:
    """The person's own, without settings of ours and without proxies: everything here is on the loopback."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SPN")
        and name not in {"BIND_ADDRESS", "FORWARD_ADDRESS"}
        and not name.lower().endswith("_proxy")
    }
    return inherited | dict(given or {})


class Program:
    """One of our commands, running. Its standard output is read as JSON lines.

    :param name: what it is called when it fails.
    """

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.process = process
        self.lines: list[Line] = []
        self._news = asyncio.Event()
        self._errors = ""
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, name: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None) -> Self:
        """Start ``spnhub.cli.<module>``."""
        process = await asyncio.create_subprocess_exec(
            *_command(module),
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=_environment(environment),
            start_new_session=True,
            limit=1 << 20,
        )
        return cls(name, process)

    @property
    def said(self) -> str:
        """What it said on standard error, or else its last line, as one line."""
        return " ".join(self._errors.split()) or (json.dumps(self.lines[-1]) if self.lines else "nothing")

    @property
    def done(self) -> bool:
        """Whether it has ended, and all it said was read."""
        return self._reading.done()

    async def line(self, event: str) -> Line:
        """Wait for the first log line of that name.

        :raises DemoFailed: it ended without saying it, or took too long.
        """
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                while True:
                    found = next((line for line in self.lines if line.get("event") == event), None)
                    if found is not None:
                        return found
                    if self._reading.done():
                        status = await self.process.wait()
                        raise DemoFailed(f"{self.name} ended with status {status} before {event!r}: {self.said}")
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise DemoFailed(f"{self.name} did not say {event!r} in {_START_TIMEOUT:g} s: {self.said}") from None

    async def ended(self) -> int:
        """Wait for its end; the exit status."""
        await asyncio.shield(self._reading)
        return await self.process.wait()

    async def stop(self, number: signal.Signals) -> int:
        """Send a signal and wait for the end; the exit status.

        :raises DemoFailed: it didn't end.
        """
        if self.process.returncode is None:
            self.process.send_signal(number)
        try:
            async with asyncio.timeout(_END_TIMEOUT):
                return await self.ended()
        except TimeoutError:
            raise DemoFailed(f"{self.name} did not end within {_END_TIMEOUT:g} s of {number.name}") from None

    def kill(self) -> None:
        """End it at once."""
        if self.process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()

    async def _read(self) -> None:
        assert self.process.stdout is not None and self.process.stderr is not None
        errors = asyncio.create_task(self.process.stderr.read())
        async for text in self.process.stdout:
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(text))
            self._news.set()
        self._errors = (await errors).decode(errors="replace")
        # Waiters look once more when this task is done.
        asyncio.get_running_loop().call_soon(self._news.set)


class Programs:
    """All programs of a demo: an async context manager that leaves none running, however it is left."""

    def __init__(self) -> None:
        self._starts: list[asyncio.Task[Program]] = []

    async def start(
        self, name: str, module: str, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> Program:
        """Start one of our commands."""
        # Shielded: a process that has begun must be known here, or nobody would end it.
        starting = asyncio.create_task(Program.start(name, module, *arguments, environment=environment))
        self._starts.append(starting)
        return await asyncio.shield(starting)

    async def first_end(self) -> Program:
        """Wait until one of those that run now ends by itself; which one."""
        running = [start.result() for start in self._starts]
        ends = {asyncio.create_task(program.ended()): program for program in running if not program.done}
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        return ends[done.pop()]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        started = await asyncio.gather(*self._starts, return_exceptions=True)
        programs = [one for one in started if isinstance(one, Program)]
        for program in programs:
            program.kill()
        for program in programs:
            await program.ended()


async def run_to_end(module: str, *arguments: str) -> tuple[int, str, str]:
    """Run one of our commands to its end: exit status, standard output, standard error."""
    process = await asyncio.create_subprocess_exec(
        *_command(module),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(None),
        start_new_session=True,
    )
    try:
        out, errors = await process.communicate()
    except BaseException:  # cancelled: it must not be left behind
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, out.decode(), " ".join(errors.decode(errors="replace").split())
