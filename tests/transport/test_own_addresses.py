"""A hub that has several addresses answers each peer from the one that was called: engines, then real sockets."""

from __future__ import annotations

import asyncio
import pathlib
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import Address, Closed, CloseKind, Limits, Transmit
from spnhub.transport.system.pktinfo import OwnAddresses
from tests.support.engine_pair import SECOND, SERVER, EnginePair, Kit
from tests.support.engines import ENGINES, each
from tests.support.fake_network import FakeNode, SocketAddress
from tests.support.path import Path
from tests.transport.test_udp import Side, new_client, new_server, pair, transfer

pytestmark = pytest.mark.outside

RESET_KEY = bytes(32)


# ----------------------------------------------------------------------------------------------------------- engines


@pytest.fixture(params=each(ENGINES))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine in turn."""
    made: Kit = request.param()
    return made


class Wire:
    """Sees what is sent on a pair's network, and may send it elsewhere."""

    def __init__(self, pair: EnginePair) -> None:
        self._server = pair.server.node
        self.sources: list[SocketAddress] = []
        """Where the server's datagrams have left from."""
        self.translate: dict[SocketAddress, SocketAddress] = {}
        """A NAT in front of the server: what the client calls, and where that goes."""
        self._send = pair.network.send
        pair.network.send = self.send  # type: ignore[method-assign]

    def send(
        self, node: FakeNode, source: SocketAddress, target: SocketAddress, data: bytes, segment_size: int
    ) -> None:
        if node is self._server:
            self.sources.append(source)
            source = next((outer for outer, inner in self.translate.items() if inner == source), source)
        self._send(node, source, self.translate.get(target, target), data, segment_size)


@pytest.mark.parametrize("called", [SERVER, SECOND])
def test_answers_leave_from_the_address_that_was_called(kit: Kit, called: tuple[str, int]) -> None:
    """Handshake, streams, probes, the close packet; and after a restart the stateless reset."""
    pair = EnginePair(kit, reset_key=RESET_KEY, second=True)
    wire = Wire(pair)
    pair.connect(at=called)
    stream_id = pair.open(b"question")
    pair.server.engine.write(pair.server.connection_id, stream_id, b"answer")
    pair.server.node.flush()
    assert pair.read_all(pair.client, stream_id, 6) == (b"answer", False)
    info = pair.server.engine.info(pair.server.connection_id)
    assert info is not None
    pair.server.engine.unreachable(info.address, pair.clock.now())
    pair.run_for(1)
    pair.server.node.crash()
    pair.restart_server()
    pair.client.engine.write(pair.client.connection_id, stream_id, b"are you there?")
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert pair.client.of(Closed)[0].kind is CloseKind.RESET
    pair.client.events.clear()
    pair.connect(at=called)
    pair.server.engine.close(pair.server.connection_id, 7, "over")
    pair.run_until(lambda: bool(pair.client.of(Closed)))
    assert set(wire.sources) == {called}


def test_who_reaches_another_address_of_ours_has_moved(kit: Kit) -> None:
    """From the same socket, through a NAT that leads elsewhere from now on: a new path; answers leave from there."""
    pair = EnginePair(kit, second=True)
    wire = Wire(pair)
    pair.connect()
    stream_id = pair.open()
    before = pair.server.engine.info(pair.server.connection_id)
    assert before is not None
    wire.translate[SERVER] = SECOND
    pair.client.engine.write(pair.client.connection_id, stream_id, b"from here")
    assert pair.read_all(pair.server, stream_id, 9) == (b"from here", False)
    pair.run_for(1)
    after = pair.server.engine.info(pair.server.connection_id)
    assert after is not None
    assert (after.address.remote, after.address.own != before.address.own) == (before.address.remote, True)
    assert wire.sources[-1] == SECOND
    # What is said about the old path says nothing about the new one.
    pair.server.engine.unreachable(before.address, pair.clock.now())
    pair.network.cut(pair.client.node, pair.server.node, seconds=3)
    pair.run_for(10)
    assert (pair.client.of(Closed), pair.server.of(Closed)) == ([], [])


# ------------------------------------------------------------------------------------------------------ real sockets

V6 = pytest.mark.skipif(not socket.has_ipv6, reason="this machine has no IPv6")
WAYS = [
    ("127.0.0.1", "127.0.0.1"),
    ("127.0.0.2", "127.0.0.2"),
    ("0.0.0.0", "127.0.0.1"),
    ("0.0.0.0", "127.0.0.2"),
    pytest.param("::1", "::1", marks=V6),
    pytest.param("::", "::1", marks=V6),
    pytest.param("::", "127.0.0.1", marks=V6),
    pytest.param("::", "127.0.0.2", marks=V6),
    pytest.param("::ffff:0.0.0.0", "127.0.0.2", marks=V6),
    pytest.param("::ffff:127.0.0.2", "127.0.0.2", marks=V6),
]
"""What a hub is bound to, and which address of its host is called."""


@pytest.mark.parametrize(("bound", "called"), WAYS)
async def test_whatever_address_is_called(bound: str, called: str) -> None:
    """Handshake, joined datagrams both ways, and a closed port that is heard of by the right connection."""
    async with pair(called, Limits(keep_alive=0.5), bound=bound) as (server, client, sc, connection_id):
        await transfer(server, client, connection_id, 500_000)
        assert all(entry.segments for entry in server.endpoint.sockets)
        for entry in client.endpoint.sockets:
            client.endpoint.release(Address(entry.index, ()))
        closed = await server.until(lambda event: isinstance(event, Closed))
        assert isinstance(closed, Closed)
        assert (closed.connection_id, closed.kind) == (sc, CloseKind.PORT_CLOSED)


@pytest.mark.parametrize(("bound", "called"), WAYS[3:4] + WAYS[7:8])
async def test_a_restart_is_heard_of_at_whatever_address(bound: str, called: str) -> None:
    """Stateless resets, too."""
    async with pair(called, bound=bound) as (server, client, _, connection_id):
        (entry,) = server.endpoint.sockets
        port = entry.sock.getsockname()[1]
        server.endpoint.release(Address(entry.index, ()))
        again = new_server(Limits())
        try:
            await again.endpoint.open_server_socket((bound, port))
            again.endpoint.start()
            stream_id = client.engine.open_bidi(connection_id)
            assert stream_id is not None
            client.engine.write(connection_id, stream_id, b"are you there?")
            client.endpoint.flush()
            closed = await client.until(lambda event: isinstance(event, Closed))
            assert closed == Closed(connection_id, CloseKind.RESET, 0, "stateless reset")
        finally:
            await again.endpoint.close()


@asynccontextmanager
async def wildcard(bound: str = "0.0.0.0") -> AsyncIterator[tuple[Side, int]]:
    """A server and its port."""
    server = new_server(Limits())
    address = await server.endpoint.open_server_socket((bound, 0))
    server.endpoint.start()
    try:
        yield server, address.remote[1]
    finally:
        await server.endpoint.close()


@pytest.mark.parametrize(("bound", "called"), WAYS[3:4] + WAYS[5:8])
async def test_another_version_is_answered_from_the_address_that_was_called(bound: str, called: str) -> None:
    """A connected socket hears the list of versions."""
    async with wildcard(bound) as (_, port):
        family = socket.AF_INET6 if ":" in called else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect((called, port))
            sock.send(b"\xc0" + bytes.fromhex("1a2a3a4a") + b"\x08" + bytes(8) + b"\x08" + bytes(8) + bytes(1200))
            async with asyncio.timeout(30):
                answer = await asyncio.get_running_loop().sock_recv(sock, 2048)
        assert answer[1:5] == bytes(4)


async def test_joined_datagrams_keep_their_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bursts of one socket to two of our addresses: each batch belongs to one of them."""
    got: list[tuple[bytes, bytes]] = []

    def receive(_: AioquicEngine, data: bytes, address: Address, segment_size: int, now: float) -> None:
        got.append((data, address.own))

    monkeypatch.setattr(AioquicEngine, "receive", receive)
    async with wildcard() as (_, port):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(20):
                for number in (1, 2):
                    sock.sendmsg(
                        [bytes([number]) * 1000],
                        [(socket.SOL_UDP, 103, struct.pack("H", 100))],
                        0,
                        (f"127.0.0.{number}", port),
                    )
            async with asyncio.timeout(30):
                while sum(len(data) for data, _ in got) < 40_000:
                    await asyncio.sleep(0.01)
    assert max(len(data) for data, _ in got) > 100, "nothing was joined"
    assert all(set(data) == {own[-5]} for data, own in got)


async def test_a_path_to_another_own_address() -> None:
    """A NAT that leads to the host's other address: the connection goes on, answered from there."""
    async with wildcard() as (server, port), Path(("127.0.0.1", port)) as path:
        host, _, relay = path.address.rpartition(":")
        client, connection_id = await new_client(host, int(relay))
        try:
            await transfer(server, client, connection_id, 10_000)
            path.hub = ("127.0.0.2", port)
            await transfer(server, client, connection_id, 100_000)
            assert not [event for event in client.events if isinstance(event, Closed)]
        finally:
            await client.endpoint.close()


def _gone(family: int) -> bytes:
    """An address that this host hasn't got."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        own = OwnAddresses(sock)
    v6 = socket.inet_pton(socket.AF_INET6, "2001:db8::77" if family == 6 else "::ffff:192.0.2.77")
    return own.of(v6 + bytes(4))


@pytest.mark.parametrize("segment_size", [0, 300])
@pytest.mark.parametrize("family", [4, 6])
@V6
async def test_an_address_of_ours_that_is_gone_costs_others_nothing(family: int, segment_size: int) -> None:
    """What should leave from it is lost, as on any path that is cut; segmentation stays, nothing waits."""
    called = "127.0.0.2" if family == 4 else "::1"
    async with pair(called, bound="::") as (server, client, sc, connection_id):
        info = server.engine.info(sc)
        assert info is not None
        (entry,) = server.endpoint.sockets
        for _ in range(3):
            server.endpoint.send(Transmit(bytes(900), info.address._replace(own=_gone(family)), segment_size))
            await transfer(server, client, connection_id, 100_000)
        assert (entry.segments, len(entry.backlog)) == (True, 0)


async def test_an_error_of_one_peer_costs_no_datagram_of_another() -> None:
    """The kernel tells it with whichever call comes next; that one is made again."""
    async with wildcard() as (server, _):
        (entry,) = server.endpoint.sockets
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as alive,
        ):
            for sock in (closed, alive):
                sock.bind(("127.0.0.1", 0))
            nobody, somebody = closed.getsockname(), alive.getsockname()
            closed.close()
            for number in range(50):
                server.endpoint.send(Transmit(b"x", Address(entry.index, nobody), 0))
                server.endpoint.send(Transmit(bytes([number]), Address(entry.index, somebody), 0))
            got = [alive.recv(10)[0] for _ in range(50)]
        assert got == list(range(50))


@V6
async def test_a_link_local_address_keeps_its_interface() -> None:
    """There the address alone says nothing."""
    found = _link_local()
    if found is None:
        pytest.skip("this machine has no link-local address")
    async with pair(found, bound="::") as (server, client, sc, connection_id):
        await transfer(server, client, connection_id, 100_000)
        info = server.engine.info(sc)
        assert info is not None
        assert socket.if_indextoname(struct.unpack("i", info.address.own[16:])[0]) == found.partition("%")[2]


def _link_local() -> str | None:
    table = pathlib.Path("/proc/net/if_inet6")
    for line in table.read_text().splitlines() if table.exists() else ():
        address, _, _, scope, flags, name = line.split()
        if scope == "20" and not int(flags, 16) & 0x40:
            return socket.inet_ntop(socket.AF_INET6, bytes.fromhex(address)) + "%" + name
    return None


def test_what_an_address_is_called() -> None:
    """Neither the interface nor the source that the kernel proposes tells paths apart, save of link-local addresses."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        own = OwnAddresses(sock)
    v4 = struct.pack("i4s4s", 3, bytes([10, 0, 0, 9]), bytes([10, 0, 0, 1]))
    assert own.of(v4) == struct.pack("i4s4s", 0, bytes([10, 0, 0, 1]), bytes(4))
    for text, kept in (("2001:db8::1", 0), ("::ffff:10.0.0.1", 0), ("fe80::1", 3), ("febf::1", 3), ("fec0::1", 0)):
        address = socket.inet_pton(socket.AF_INET6, text)
        assert own.of(address + struct.pack("i", 3)) == address + struct.pack("i", kept)
    for number in range(5000):
        own.of(socket.inet_pton(socket.AF_INET6, f"2001:db8::{number:x}") + bytes(4))
    assert 0 < len(own) <= 1024
