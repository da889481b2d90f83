"""TCP peers that don't answer any more, and those that only don't read (``--tcp-keepalive``)."""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent.bridge import Bridge, BridgeResult
from spnhub.transport.agent.keep_alive import TcpKeepAlive, Unanswered, parse_keep_alive
from spnhub.transport.agent.reset_watcher import ResetWatcher
from spnhub.transport.agent.sockets import prepare_socket
from tests.support.namespaces import Host, NamespacesMissing
from tests.support.pipe_stream import PipeStream
from tests.support.tcp import TcpPeer

KEEP_ALIVE = TcpKeepAlive(1, 1, 2)
_BUSY = 10.0
"""Seconds more for a machine that has much else to do."""
_CLIENT = """
import socket, sys
socks = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(3)]
socks[2].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
for line in sys.stdin:
    if line == "read\\n":
        print(len(socks[2].recv(1000)), flush=True)
"""


@pytest.fixture
def host() -> Iterator[Host]:
    try:
        with Host(61, firewall=False) as one:
            yield one
    except NamespacesMissing as exc:
        pytest.skip(str(exc))


class _Side:
    """A bridged socket: what is written to ``stream`` goes to the program."""

    def __init__(self, sock: socket.socket, watcher: ResetWatcher) -> None:
        prepare_socket(sock)
        loop = asyncio.get_running_loop()
        self.stream, mine = PipeStream.pair(4 * 1024 * 1024)
        self.done: asyncio.Future[BridgeResult] = loop.create_future()
        self.bridge = Bridge(loop, sock, mine, watcher, self.done.set_result)
        self.bridge.start()


@pytest.mark.outside
async def test_a_host_that_is_gone(host: Host) -> None:
    """Idle, with something under way, and with a program that had stopped to read, which alone is no reason to end."""
    loop = asyncio.get_running_loop()
    watcher = ResetWatcher(loop, KEEP_ALIVE)
    with socket.create_server((host.gateways[0], 0)) as listener:
        address = [str(part) for part in listener.getsockname()]
        program = subprocess.Popen(
            [*host.within, sys.executable, "-c", _CLIENT, *address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        listener.setblocking(False)
        sides = [_Side((await loop.sock_accept(listener))[0], watcher) for _ in range(3)]
    assert program.stdin is not None and program.stdout is not None
    try:
        _, busy, stalled = sides
        stalled.stream.write(bytes(4 * 1024 * 1024))
        await asyncio.sleep(2.5 * KEEP_ALIVE.bound)
        assert not any(side.done.done() for side in sides)
        program.stdin.write("read\n")
        program.stdin.flush()
        assert await asyncio.to_thread(program.stdout.readline) == "1000\n"
        host.cut_wire()
        busy.stream.write(b"are you there?")
        began = time.monotonic()
        async with asyncio.timeout(2 * KEEP_ALIVE.bound + _BUSY):
            results = await asyncio.gather(*(side.done for side in sides))
        assert time.monotonic() - began >= KEEP_ALIVE.bound - 1.5
        for result in results:
            assert result.code == Code.PEER_SILENT, result
            assert result.reason in {"TCP: Connection timed out", "TCP: No route to host"}, result
    finally:
        program.kill()
        program.wait()
        program.stdin.close()
        program.stdout.close()
        watcher.close()
    assert len(watcher) == 0


@pytest.mark.outside
async def test_nothing_is_looked_at_that_is_acknowledged() -> None:
    """A socket is on the list from the time when something is sent until that is acknowledged."""
    loop = asyncio.get_running_loop()
    program, sock = TcpPeer.pair()
    with sock:
        unanswered = Unanswered(loop, TcpKeepAlive(1, 1, 1))
        unanswered.prepare(sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 1
        sock.send(b"hello")
        unanswered.expect(sock, lambda _: None)
        assert len(unanswered) == 1
        async with asyncio.timeout(_BUSY):
            while len(unanswered):
                await asyncio.sleep(0.05)
        assert unanswered.resting
        unanswered.close()
    program.close()


@pytest.mark.outside
async def test_off() -> None:
    """Nobody is asked."""
    program, sock = TcpPeer.pair()
    with sock:
        unanswered = Unanswered(asyncio.get_running_loop(), None)
        unanswered.prepare(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
        unanswered.expect(sock, lambda _: None)
        assert len(unanswered) == 0
    program.close()


class SilentSocket(socket.socket):
    """A socket on whose other side nobody has answered for a day."""

    def getsockopt(self, level: int, optname: int, buflen: int | None = None) -> Any:
        """``struct tcp_info``."""
        info = bytes(2) + bytes([3, 0]) + bytes(20) + b"\x01\0\0\0" + bytes(28)
        return info + (86_400_000).to_bytes(4, "little") + bytes(88)


@pytest.mark.outside
async def test_who_was_silent_before_has_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the time since something was sent, however long nobody had anything to acknowledge before."""
    loop = asyncio.get_running_loop()
    told: list[int | None] = []
    now = loop.time()
    monkeypatch.setattr(loop, "time", lambda: now)
    with SilentSocket() as sock:
        unanswered = Unanswered(loop, TcpKeepAlive(60, 15, 4))
        unanswered.expect(sock, lambda exc: told.append(exc.errno))
        unanswered.check()
        assert (told, len(unanswered)) == ([], 1)
        now += 121
        unanswered.check()
        assert (told, len(unanswered)) == ([errno.ETIMEDOUT], 0)
        unanswered.close()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60,15,4", TcpKeepAlive()),
        (" 5 , 1, 3 ", TcpKeepAlive(5, 1, 3)),
        ("off", None),
        ("1,1,1", TcpKeepAlive(1, 1, 1)),
        ("32767,32767,127", TcpKeepAlive(32_767, 32_767, 127)),
    ],
)
def test_what_is_understood(text: str, expected: TcpKeepAlive | None) -> None:
    """Three numbers, or off."""
    assert parse_keep_alive(text) == expected


@pytest.mark.parametrize(
    "text", ["", "60", "60,15", "60,15,4,1", "60,15,x", "1.5,1,1", "-1,1,1", "0,1,1", "1,0,1", "1,1,128", "OFF"]
)
def test_what_is_not(text: str) -> None:
    """Refused, quoted."""
    with pytest.raises(ValueError, match="^'" + text.replace(".", r"\.")):
        parse_keep_alive(text)
