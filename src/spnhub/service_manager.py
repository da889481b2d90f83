"""What a service tells systemd, where it is started by it (sd_notify(3)): ready, reloading, stopping, status, alive.

Datagrams to the socket that the environment names; without one nothing is done, and nothing here ever fails or waits.
The variables are taken out of the environment, so that programs that a service starts don't speak for it.
Counterparts: :mod:`spnhub.hub_process`, :mod:`spnhub.agent_process`; units are written by ``spnhub init --systemd``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Iterator
from typing import Final

__all__ = ["ServiceManager", "service_manager"]


class ServiceManager:
    """The one that started this process, if there is one."""

    def __init__(self) -> None:
        self._address: str | None = None
        self._socket: socket.socket | None = None
        self.watchdog: float | None = None
        """Seconds after which it takes a service for dead that doesn't say that it is alive; None: it never does."""
        self._every: float | None = None

    def speak_to(self, sock: socket.socket) -> None:
        """Tell it to this socket, of a process of ours that watches over this one: the environment is not looked at.

        :param sock: connected.
        """
        sock.setblocking(False)
        self._socket = sock

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """Speak to it from here on, and say in the running loop that it turns, as often as it asks for."""
        address = os.environ.pop("NOTIFY_SOCKET", "")
        interval, pid = os.environ.pop("WATCHDOG_USEC", ""), os.environ.pop("WATCHDOG_PID", "")
        if address.startswith(("/", "@")):
            self._address = "\0" + address[1:] if address.startswith("@") else address
        if interval.isdecimal() and pid in ("", str(os.getpid())):
            # Twice as often as it asks for, as its documentation says.
            self.watchdog = int(interval) / 1_000_000
            self._every = max(self.watchdog / 2, 0.01)
        speaks = self._address or self._socket
        task = asyncio.get_running_loop().create_task(self._turn()) if speaks and self._every else None
        try:
            yield
        finally:
            if task is not None:
                task.cancel()
            self._address = self._socket = self.watchdog = None

    def ready(self, status: str = "") -> None:
        """The service does what it is there for; after a reload, again."""
        self._tell("READY=1", *([f"STATUS={status}"] if status else []))

    def reloading(self) -> None:
        """A reload begins; :meth:`ready` ends it."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The end has begun."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """One line for ``systemctl status``."""
        self._tell(f"STATUS={text}")

    async def _turn(self) -> None:
        assert self._every is not None
        while True:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self._every)

    def _tell(self, *facts: str) -> None:
        if self._address is None and self._socket is None:
            return
        message = "\n".join(fact.replace("\n", " ") for fact in facts).encode(errors="replace")
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.send(message)
            return
        assert self._address is not None
        # That the manager is gone, or doesn't read, is no reason to stop.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(message, self._address)


service_manager: Final = ServiceManager()
"""That of this process."""
