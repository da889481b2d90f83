"""Listening and connecting."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys

import pytest

from spnhub.actors.codes import Code
from spnhub.transport.agent.tcp import ConnectError, connect, listen
from tests.support.tcp import Ending, TcpPeer, TcpServer, no_descriptors

_HOLDER = """
import socket, sys
from spnhub.transport.agent.bridge import disarm_reset, prepare_socket
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
        sock = await connect("localhost", server.address[1], timeout=5)
        peer = await server.accept()
        sock.close()
        assert await peer.receive_all() == (b"", Ending.RST)
        peer.close()


async def test_connect_is_refused() -> None:
    """CONNECT_FAILED at once, with the reason."""
    with TcpServer() as server:
        address = server.address
    with pytest.raises(ConnectError, match="refused") as failure:
        await connect(*address, timeout=5)
    assert failure.value.code is Code.CONNECT_FAILED


async def test_connect_to_silence() -> None:
    """CONNECT_TIMEOUT: nobody answers, here because the backlog of the server is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        filling = []
        with pytest.raises(ConnectError) as failure:
            while True:
                filling.append(await connect("127.0.0.1", server.getsockname()[1], 0.2))
        assert failure.value.code is Code.CONNECT_TIMEOUT
        for sock in filling:
            sock.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 300])
async def test_connect_to_an_unknown_name(host: str) -> None:
    """CONNECT_FAILED, or CONNECT_TIMEOUT when the resolver doesn't answer."""
    with pytest.raises(ConnectError) as failure:
        await connect(host, 80, timeout=1)
    assert failure.value.code in {Code.CONNECT_FAILED, Code.CONNECT_TIMEOUT}


async def test_connect_without_descriptors() -> None:
    """LIMIT: it isn't the server's fault."""
    with TcpServer() as server, no_descriptors(), pytest.raises(ConnectError, match="Too many open files") as failure:
        await connect(*server.address, 1)
    assert failure.value.code is Code.LIMIT
