"""One of our commands on a terminal of its own: a test sees the bytes that the terminal would be driven by."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import signal
import struct
import termios
from collections.abc import Mapping

from tests.support.forked import begin

__all__ = ["run_on_terminal"]

_WIDTH = 4000
"""Columns: nothing is folded."""


async def run_on_terminal(
    program: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    until: str | asyncio.Event = "",
    number: signal.Signals = signal.SIGINT,
) -> str:
    """Run one of our commands to its end; what it wrote to the terminal.

    :param until: once it has written this, or this is set, it is sent the signal ``number``.
    """
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, _WIDTH, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("SPN")}
    process = await begin(
        program,
        *arguments,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=inherited | {"TERM": "xterm-256color"} | dict(environment or {}),
        start_new_session=True,
    )
    os.close(slave)
    written = bytearray()
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    asked = False

    def take() -> None:
        nonlocal asked
        try:
            data = os.read(master, 65536)
        except OSError:  # the last one that had the terminal has closed it
            data = b""
        if not data:
            loop.remove_reader(master)
            ended.set()
        written.extend(data)
        if isinstance(until, str) and until and not asked and until.encode() in written:
            asked = True
            process.send_signal(number)

    async def ask() -> None:
        if isinstance(until, asyncio.Event):
            await until.wait()
            process.send_signal(number)

    loop.add_reader(master, take)
    asking = asyncio.create_task(ask())
    try:
        await asyncio.gather(process.wait(), ended.wait())
    finally:
        asking.cancel()
        loop.remove_reader(master)
        os.close(master)
        if process.returncode is None:
            process.kill()
            await process.wait()
    return written.decode(errors="surrogateescape")
