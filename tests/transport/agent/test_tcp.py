"""Listening and connecting."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import psutil
import pytest

from spnhub.actors.contract.codes import Code
from spnhub.transport.agent.tcp import ConnectError, Connector, listen
from spnhub.transport.system.name_lookup import NameAnswer
from spnhub.transport.system.names import NameCache
from tests.support.tcp import Ending, TcpPeer, TcpServer, no_descriptors

pytestmark = pytest.mark.outside

_HOLDER = """
import socket, sys
from spnhub.transport.agent.sockets import disarm_reset, prepare_socket
with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    sock, _ = listener.accept()
prepare_socket(sock)
if sys.argv[1] == "disarmed":
    disarm_reset(sock)
print("accepted", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("how", "ending"), [("armed", Ending.RST), ("disarmed", Ending.FIN)])
async def test_killed_process_resets(how: str, ending: Ending) -> None:
    """D-23: the kernel closes the sockets of a process killed with -9 with RST, but only armed ones."""
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        peer = await TcpPeer.connect(("127.0.0.1", int(process.stdout.readline())))
        assert process.stdout.readline() == "accepted\n"
        process.send_signal(signal.SIGKILL)
        assert await peer.receive_all() == (b"", ending)
        peer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "", "::1"])
async def test_listen(host: str) -> None:
    """On every address of the host, all on one port, also when it is a free one."""
    sockets = listen(host, 0)
    try:
        assert len({sock.getsockname()[1] for sock in sockets}) == 1
        for sock in sockets:
            address = sock.getsockname()[0].replace("::1", "\0").replace("::", "127.0.0.1").replace("\0", "::1")
            sock.setblocking(False)
            peer = await TcpPeer.connect((address, sock.getsockname()[1]))
            accepted, _ = await asyncio.get_running_loop().sock_accept(sock)
            accepted.close()
            peer.close()
    finally:
        for sock in sockets:
            sock.close()


def test_listen_on_a_taken_port() -> None:
    """Says so."""
    with TcpServer() as server, pytest.raises(OSError, match="in use"):
        listen(*server.address)


async def test_connect() -> None:
    """A name is resolved, every address is tried, the socket is armed."""
    with TcpServer() as server:
        sock = await Connector().connect("localhost", server.address[1], timeout=5)
        peer = await server.accept()
        sock.close()
        assert await peer.receive_all() == (b"", Ending.RST)
        peer.close()


async def test_connect_is_refused() -> None:
    """CONNECT_FAILED at once, with the reason."""
    with TcpServer(up=False) as server, pytest.raises(ConnectError, match="refused") as failure:
        await Connector().connect(*server.address, timeout=5)
    assert failure.value.code is Code.CONNECT_FAILED


async def test_connect_to_silence() -> None:
    """CONNECT_TIMEOUT: nobody answers, here because the backlog of the server is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        connector, filling = Connector(), []
        with pytest.raises(ConnectError) as failure:
            while True:
                filling.append(await connector.connect("127.0.0.1", server.getsockname()[1], 0.2))
        assert failure.value.code is Code.CONNECT_TIMEOUT
        for sock in filling:
            sock.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300])
async def test_connect_to_an_unknown_name(host: str) -> None:
    """CONNECT_FAILED, or CONNECT_TIMEOUT when the resolver doesn't answer."""
    with pytest.raises(ConnectError) as failure:
        await Connector().connect(host, 80, timeout=1)
    assert failure.value.code in {Code.CONNECT_FAILED, Code.CONNECT_TIMEOUT}


async def test_connect_without_descriptors() -> None:
    """LIMIT: it isn't the server's fault."""
    with TcpServer() as server, no_descriptors(), pytest.raises(ConnectError, match="Too many open files") as failure:
        await Connector().connect(*server.address, 1)
    assert failure.value.code is Code.LIMIT


# ---- names and several addresses ----------------------------------------------------------------------------------


def _names(*addresses: str, after: float = 0.0, ttl: float = 60.0) -> NameCache:
    async def ask(_: str) -> NameAnswer:
        await asyncio.sleep(after)
        return NameAnswer(addresses, ttl, ordered=True)

    return NameCache(ask)


@contextmanager
def _silent(address: tuple[str, int]) -> Iterator[None]:
    """Nobody answers at an address, nor refuses: the backlog is full."""
    with ExitStack() as stack:
        stack.enter_context(socket.create_server(address, backlog=0))
        while True:
            sock = stack.enter_context(socket.socket())
            sock.settimeout(0.1)
            try:
                sock.connect(address)
            except TimeoutError:
                break
        yield


async def test_looking_up_is_not_connecting() -> None:
    """A slow resolver takes nothing of the time that the server has; all share what it says."""
    with TcpServer() as server:
        connector = Connector(_names("127.0.0.1", after=0.3))
        connecting = [connector.connect("db.test", server.address[1], 0.2) for _ in range(50)]
        for sock in await asyncio.gather(*connecting):
            sock.close()


async def test_the_first_address_is_dead() -> None:
    """The next one is tried beside it after a moment, and from then on first."""
    with TcpServer("127.0.0.2") as server, _silent(("127.0.0.1", server.address[1])):
        connector = Connector(_names("127.0.0.1", "127.0.0.2"))
        for _ in range(2):
            sock = await connector.connect("db.test", server.address[1], 30)
            assert sock.getpeername()[0] == "127.0.0.2"
            sock.close()
        assert connector.order(("127.0.0.1", "127.0.0.2"), server.address[1]) == ["127.0.0.2", "127.0.0.1"]


@pytest.mark.parametrize("refusing", ["127.0.0.1", "::1", "203.0.113.1%nowhere"])
async def test_the_first_address_refuses(refusing: str) -> None:
    """The next one is tried at once, of whichever family."""
    with TcpServer("127.0.0.2") as server:
        connector = Connector(_names(refusing, "127.0.0.2"))
        sock = await connector.connect("db.test", server.address[1], 30)
        assert sock.getpeername()[0] == "127.0.0.2"
        sock.close()


async def test_no_address_answers() -> None:
    """Each is named with what it did; silence is a timeout."""
    connector = Connector(_names("127.0.0.1", "127.0.0.2"))
    many = Connector(_names(*(f"127.0.1.{number}" for number in range(1, 11))))
    refused = r"127\.0\.0\.1 port \d+: .*refused; 127\.0\.0\.2 port \d+: .*refu"
    with TcpServer("0.0.0.0", up=False) as server:
        port = server.address[1]
        with pytest.raises(ConnectError, match=refused) as failure:
            await connector.connect("db.test", port, 30)
        with pytest.raises(ConnectError, match=r"127\.0\.1\.4 port \d+: .*; 6 more$"):
            await many.connect("db.test", port, 30)
    assert failure.value.code is Code.CONNECT_FAILED
    with _silent(("127.0.0.1", port)), pytest.raises(ConnectError, match=r"not answer within 0\.5 s; 127") as failure:
        await connector.connect("db.test", port, 0.5)
    assert failure.value.code is Code.CONNECT_TIMEOUT


def test_families_take_turns() -> None:
    """RFC 8305 section 4: the family of the first one begins."""

    async def order(*addresses: str) -> list[str]:
        return Connector().order(addresses, 80)

    assert asyncio.run(order("::1", "::2", "::3", "10.0.0.1")) == ["::1", "10.0.0.1", "::2", "::3"]
    assert asyncio.run(order("10.0.0.1", "10.0.0.2", "::1")) == ["10.0.0.1", "::1", "10.0.0.2"]


async def test_the_server_has_moved() -> None:
    """None of its addresses answers, and its name has another one already."""
    asked = 0
    now = 0.0

    async def ask(_: str) -> NameAnswer:
        nonlocal asked
        asked += 1
        return NameAnswer(("127.0.0.1" if asked == 1 else "127.0.0.2",), 300, ordered=True)

    with TcpServer("127.0.0.2") as server:
        connector = Connector(NameCache(ask, lambda: now))
        with pytest.raises(ConnectError, match="refused"):
            await connector.connect("db.test", server.address[1], 30)
        now = 10.0
        sock = await connector.connect("db.test", server.address[1], 30)
        assert sock.getpeername()[0] == "127.0.0.2"
        sock.close()
    assert asked == 2


async def test_who_gives_up_leaves_no_socket() -> None:
    """Whenever that is."""
    with TcpServer("127.0.0.2") as server, _silent(("127.0.0.1", server.address[1])):
        process = psutil.Process()
        before = process.num_fds()
        for wait in (0.0, 0.01, 0.249, 0.25, 0.251, 0.26):
            connector = Connector(_names("127.0.0.1", "127.0.0.2"))
            connecting = asyncio.ensure_future(connector.connect("db.test", server.address[1], 30))
            await asyncio.wait({connecting}, timeout=wait)
            if connecting.cancel():
                await asyncio.wait({connecting})
            if not connecting.cancelled():
                connecting.result().close()
        await asyncio.sleep(0)
        assert process.num_fds() <= before
