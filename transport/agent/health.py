"""Whether the TCP server behind a provider agent is there, asked at intervals (``--health-check``).

A check connects; with a path it asks for it over HTTP/1.1, and 2xx or 3xx is healthy. It reads no more than the head of
an answer, and is over within its timeout, socket and all. So many in a row decide: ``fall`` that failed, ``rise`` that
passed; the first one decides alone, so that a session begins with what is so. Counterpart:
:mod:`spnhub.transport.agent.provider` has the weight that follows from it.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from spnhub.actors.contract.codes import Code
from spnhub.dataclass import dataclass
from spnhub.transport.agent.sockets import disarm_reset
from spnhub.transport.agent.tcp import ConnectError, Connector
from spnhub.transport.log import get_logger
from spnhub.transport.system.socket_address import SocketAddress, TcpAddress

__all__ = ["HEALTH_CHECK", "HealthCheck", "HealthWatch", "Verdict", "parse_health_check"]

_log = get_logger()

HEAD_LIMIT: Final = 16 * 1024
"""Bytes of an answer's head that are read."""
_CHUNK: Final = 4096
_OFF: Final = "off"
_TCP: Final = "tcp"
_HTTP: Final = "http:"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """What is checked, and how. Times in seconds."""

    path: str | None = None
    """What is asked for over HTTP, with a query if need be; None: to be connected is enough."""
    interval: float = 2.0
    """From the beginning of one check to that of the next."""
    timeout: float = 2.0
    """For all of one check, looking up the name included."""
    fall: int = 3
    """Checks in a row that failed, from which on the server is unhealthy."""
    rise: int = 2
    """Checks in a row that passed, from which on it is healthy again."""

    @property
    def name(self) -> str:
        """As it is written."""
        return _TCP if self.path is None else f"{_HTTP}{self.path}"


HEALTH_CHECK: Final = HealthCheck()
"""If nothing else is said of its times and counts."""


def parse_health_check(
    text: str,
    *,
    interval: float = HEALTH_CHECK.interval,
    timeout: float = HEALTH_CHECK.timeout,
    fall: int = HEALTH_CHECK.fall,
    rise: int = HEALTH_CHECK.rise,
) -> HealthCheck | None:
    """``tcp``, ``http:PATH`` or ``off``: None.

    :raises ValueError: neither.
    """
    if text == _OFF:
        return None
    path: str | None = None
    if text != _TCP:
        path = text.removeprefix(_HTTP)
        printable = path.isascii() and path.isprintable() and " " not in path
        if not text.startswith(_HTTP) or not path.startswith("/") or not printable:
            raise ValueError(f"{text!r} is neither tcp nor http:/PATH nor off")
    return HealthCheck(path=path, interval=interval, timeout=timeout, fall=fall, rise=rise)


class Verdict:
    """What a row of checks says. Pure."""

    def __init__(self, fall: int, rise: int) -> None:
        self.healthy: bool | None = None
        """None: nothing has been checked yet."""
        self.reason = ""
        """Why it is unhealthy: what the last check failed at that made it so."""
        self._fall = fall
        self._rise = rise
        self._against = 0
        """Checks in a row that say the opposite."""

    def take(self, failure: str | None) -> bool:
        """The result of a check; None: it passed. Whether the verdict is another now."""
        passed = failure is None
        if passed is self.healthy:
            self._against = 0
            return False
        self._against += 1
        needed = 1 if self.healthy is None else self._rise if passed else self._fall
        if self._against < needed:
            return False
        self.healthy, self.reason, self._against = passed, failure or "", 0
        return True


class HealthWatch:
    """Checks one server. Use from one event loop.

    :param connector: connects; its names are shared with the connections to the same server.
    :param on_change: awaited after each change of :attr:`healthy`, the first verdict included.
    """

    def __init__(
        self,
        check: HealthCheck,
        server: SocketAddress,
        connector: Connector,
        on_change: Callable[[], Awaitable[None]],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._check = check
        self._server = server
        self._connector = connector
        self._on_change = on_change
        self._verdict = Verdict(check.fall, check.rise)
        self._known = asyncio.Event()
        self._up = asyncio.Event()
        """Set while it is healthy."""

    @property
    def healthy(self) -> bool:
        """Whether it is; False before the first check."""
        return bool(self._verdict.healthy)

    @property
    def reason(self) -> str:
        """Why it isn't, for people; empty when it is."""
        return f"health check {self._check.name} failed: {self._verdict.reason}" if self._verdict.reason else ""

    async def wait_known(self) -> None:
        """Wait for the first verdict: at most the timeout of a check."""
        await self._known.wait()

    async def wait_healthy(self) -> None:
        """Wait until it is."""
        await self._up.wait()

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            began = self._loop.time()
            try:
                failure = await self.check()
            except _NoVerdict as exc:
                _log.debug("health.skipped", reason=str(exc))
            else:
                await self._take(failure)
            # A server that takes its time isn't asked by two at once.
            await asyncio.sleep(max(0.0, began + self._check.interval - self._loop.time()))

    async def check(self) -> str | None:
        """One check; what it failed at, or None.

        :raises _NoVerdict: it says nothing about the server.
        """
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(self._check.timeout):
                sock = await self._connector.connect_to(self._server, self._check.timeout)
                return None if self._check.path is None else await self._get(sock, self._check.path)
        except TimeoutError:
            return f"no answer within {self._check.timeout:g} s"
        except ConnectError as exc:
            if exc.code is Code.LIMIT:  # this host has no descriptor left
                raise _NoVerdict(str(exc)) from exc
            return str(exc)
        except OSError as exc:
            return f"{self._server}: {exc.strerror or exc}"
        finally:
            if sock is not None:
                sock.close()

    async def _get(self, sock: socket.socket, path: str) -> str | None:
        # Imported late: most agents ask no server over HTTP; those that do have asked before they are ready.
        import h11  # noqa: PLC0415

        disarm_reset(sock)
        http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_LIMIT)
        headers = [
            ("Host", str(self._server) if isinstance(self._server, TcpAddress) else "localhost"),
            ("User-Agent", "spnagent"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ]
        try:
            request = http.send(h11.Request(method="GET", target=path, headers=headers)) or b""
            await self._loop.sock_sendall(sock, request + (http.send(h11.EndOfMessage()) or b""))
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await self._loop.sock_recv(sock, _CHUNK))
                elif isinstance(event, h11.Response):
                    return None if 200 <= event.status_code < 400 else f"GET {path}: status {event.status_code}"
                elif not isinstance(event, h11.InformationalResponse):
                    return f"GET {path}: the connection was closed without an answer"
        except (h11.ProtocolError, UnicodeError) as exc:
            return f"GET {path}: no HTTP answer: {exc}"

    async def _take(self, failure: str | None) -> None:
        if not self._verdict.take(failure):
            return
        self._known.set()
        address = str(self._server)
        if self._verdict.healthy:
            self._up.set()
            _log.info("health.up", address=address, check=self._check.name)
        else:
            self._up.clear()
            _log.warning("health.down", address=address, check=self._check.name, reason=self._verdict.reason)
        await self._on_change()


class _NoVerdict(Exception):
    """Nothing was learned about the server."""
