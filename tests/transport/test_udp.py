"""Real UDP sockets around an engine: joined datagrams, full sockets, ports where nobody listens."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from spnhub.pki import Authority
from spnhub.transport import udp
from spnhub.transport.engine import (
    Address,
    ClientPolicy,
    Closed,
    CloseKind,
    Connected,
    DatagramsDropped,
    Engine,
    EngineEvent,
    Limits,
    Opened,
    Readable,
    ServerIdentity,
    ServerPolicy,
    Transmit,
    Unresponsive,
)
from spnhub.transport.udp import UdpEndpoint
from tests.support.engines import REAL, class_of, each_name, make_real

pytestmark = pytest.mark.outside

AUTHORITY = Authority.create()
KEY = bytes(range(32))


class Side:
    """An engine on real sockets, and everything it said."""

    engine_name = "aioquic"

    def __init__(self, limits: Limits, reset_key: bytes | None = None) -> None:
        self.engine = make_real(self.engine_name, limits, reset_key=reset_key)
        self.events: list[EngineEvent] = []
        self.turns = 0
        """How often it was asked what to do, with or without events."""
        self.on_event: Callable[[EngineEvent], None] = lambda _event: None
        self._news = asyncio.Event()
        self.faults: list[BaseException] = []
        self.endpoint = UdpEndpoint(self.engine, self._on_events, on_fault=lambda _, fault: self.faults.append(fault))

    def _on_events(self, events: list[EngineEvent]) -> None:
        self.turns += 1
        for event in events:
            self.events.append(event)
            self.on_event(event)
        self._news.set()

    async def until(self, found: Callable[[EngineEvent], bool]) -> EngineEvent:
        """The first event that ``found`` is true for."""
        async with asyncio.timeout(30):
            while True:
                for event in self.events:
                    if found(event):
                        return event
                self._news.clear()
                await self._news.wait()


@pytest.fixture(params=each_name(REAL), autouse=True)
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each real engine in turn, for all sides."""
    monkeypatch.setattr(Side, "engine_name", request.param)
    return str(request.param)


def new_server(limits: Limits) -> Side:
    """A server that has a name and a reset key."""
    server = Side(limits, KEY)
    site = AUTHORITY.server("hub.test")
    server.engine.set_policy(
        ServerPolicy({"hub.test": ServerIdentity(site.certificate, site.key, AUTHORITY.certificate, ("spn/1",))})
    )
    return server


async def new_client(host: str, port: int, limits: Limits | None = None) -> tuple[Side, int]:
    """A client with a connection that is up, and its number."""
    client = Side(limits or Limits())
    mine = AUTHORITY.client("someone")
    remote = await client.endpoint.open_client_socket((host, port))
    policy = ClientPolicy("hub.test", ("spn/1",), mine.certificate, mine.key, AUTHORITY.certificate)
    connection_id = client.engine.connect(remote, policy, client.endpoint.now())
    client.endpoint.flush()
    ended = await client.until(lambda event: isinstance(event, (Connected, Closed)))
    assert isinstance(ended, Connected)
    return client, connection_id


@asynccontextmanager
async def pair(
    host: str = "127.0.0.1", limits: Limits | None = None, bound: str | None = None
) -> AsyncIterator[tuple[Side, Side, int, int]]:
    """A server, a client and the two ends of a connection between them.

    :param bound: what the server is bound to, if it isn't ``host`` that the client calls.
    """
    server = new_server(limits or Limits())
    address = await server.endpoint.open_server_socket((bound or host, 0))
    server.endpoint.start()
    client = None
    try:
        client, connection_id = await new_client(host, address.remote[1], limits)
        connected = await server.until(lambda event: isinstance(event, Connected))
        assert isinstance(connected, Connected)
        yield server, client, connected.connection_id, connection_id
    finally:
        if client is not None:
            await client.endpoint.close()
        await server.endpoint.close()


async def transfer(server: Side, client: Side, connection_id: int, size: int) -> bytes:
    """Send ``size`` bytes from the client; what the server got."""
    got = bytearray()
    done = asyncio.get_running_loop().create_future()

    def on_server(event: EngineEvent) -> None:
        if isinstance(event, (Readable, Opened)):
            while True:
                answer = server.engine.read(event.connection_id, event.stream_id, 1 << 20)
                if answer is None or answer == (b"", False):
                    break
                got.extend(answer[0])
                if answer[1]:
                    done.set_result(None)
                    break

    server.on_event = on_server
    stream_id = client.engine.open_bidi(connection_id)
    assert stream_id is not None
    data = bytes(i % 251 for i in range(size))
    position = 0

    def push(_event: EngineEvent | None = None) -> None:
        nonlocal position
        while position < size:
            taken = client.engine.write(connection_id, stream_id, data[position : position + 65_536])
            position += taken
            if taken < 65_536 and position < size:
                return
        client.engine.finish(connection_id, stream_id)

    client.on_event = push
    push()
    client.endpoint.flush()
    async with asyncio.timeout(60):
        await done
    assert bytes(got) == data
    return bytes(got)


@pytest.mark.parametrize("datagram_size", [1200, 8952])
async def test_bytes_arrive_whole_through_joined_datagrams(
    engine: str, datagram_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """UDP_SEGMENT and UDP_GRO move several datagrams at once, and cut them where they were joined."""
    joined: list[int] = []
    made = class_of(engine)
    original = made.receive

    def spy(self: Engine, data: bytes, address: object, segment_size: int, now: float) -> None:
        if segment_size and len(data) > segment_size:
            joined.append(-(-len(data) // segment_size))
        original(self, data, address, segment_size, now)

    monkeypatch.setattr(made, "receive", spy)
    async with pair(limits=Limits(datagram_size=datagram_size)) as (server, client, _, connection_id):
        await transfer(server, client, connection_id, 2_000_000)
    assert max(joined, default=0) > 1


async def test_without_segmentation_every_datagram_goes_alone() -> None:
    """A kernel or device that can't do it costs speed, not bytes."""
    async with pair() as (server, client, _, connection_id):
        for side in (server, client):
            for entry in side.endpoint.sockets:
                entry.segments = False
        await transfer(server, client, connection_id, 500_000)


_UDP_SEGMENT = 103
"""Of Linux."""


class NarrowPath:
    """A socket to one of whose peers no joined datagrams go: what the kernel says of a path (here: ``error``)."""

    def __init__(self, sock: socket.socket, peer: tuple[str, int], error: int) -> None:
        self._sock = sock
        self._peer = peer
        self._error = error
        self.joined: list[tuple[str, int]] = []
        """Whom joined datagrams were sent to."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def sendmsg(self, buffers: Any, ancillary: Any, flags: int, peer: tuple[str, int]) -> int:
        if any((level, kind) == (socket.SOL_UDP, _UDP_SEGMENT) for level, kind, _ in ancillary):
            if peer == self._peer:
                raise OSError(self._error, os.strerror(self._error))
            self.joined.append(peer)
        return self._sock.sendmsg(buffers, ancillary, flags, peer)


@pytest.mark.parametrize("error", [errno.EMSGSIZE, errno.EIO, errno.EINVAL])
async def test_a_path_without_segmentation_costs_others_nothing(error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One peer behind a small MTU (also one that it claims by ICMP): its datagrams go alone, the others' joined."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as narrow,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as wide,
    ):
        for sock in (narrow, wide):
            sock.bind(("127.0.0.1", 0))
            sock.settimeout(30)
        async with pair(bound="0.0.0.0") as (server, client, _, connection_id):
            (entry,) = server.endpoint.sockets
            path = NarrowPath(entry.sock, narrow.getsockname(), error)
            monkeypatch.setattr(entry, "sock", path)
            for _ in range(3):
                for sock in (narrow, wide):
                    server.endpoint.send(Transmit(bytes(900), Address(entry.index, sock.getsockname()), 300))
                    assert [len(sock.recv(2000)) for _ in range(3)] == [300, 300, 300]
            assert path.joined == [wide.getsockname()] * 3
            await transfer(server, client, connection_id, 100_000)


async def test_a_full_socket_keeps_what_it_does_not_take() -> None:
    """Datagrams wait for the socket, bounded; nothing is lost for long."""
    async with pair() as (server, client, _, connection_id):
        for side in (server, client):
            for entry in side.endpoint.sockets:
                entry.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        await transfer(server, client, connection_id, 500_000)


class FullSocket:
    """A connected socket that has no room, so many times."""

    def __init__(self, sock: socket.socket, times: int) -> None:
        self._sock = sock
        self._times = times

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def _take(self) -> None:
        self._times -= 1
        if self._times >= 0:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def send(self, data: bytes) -> int:
        self._take()
        return self._sock.send(data)

    def sendmsg(self, buffers: Any, ancillary: Any) -> int:
        self._take()
        return self._sock.sendmsg(buffers, ancillary)


async def test_what_finds_no_place_behind_a_full_socket_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A limit that is exceeded is visible, and what it costs is sent again."""
    monkeypatch.setattr(udp, "BACKLOG", 2)
    async with pair() as (server, client, _, connection_id):
        (entry,) = client.endpoint.sockets
        monkeypatch.setattr(entry, "sock", FullSocket(entry.sock, times=5))
        # Three more than there is room for: nothing but the socket itself says when it takes something again.
        for _ in range(5):
            client.endpoint.send(Transmit(b"lost", Address(entry.index, ()), 0))
        await transfer(server, client, connection_id, 500_000)
        told = [event for event in client.events if isinstance(event, DatagramsDropped)]
        assert (told[0].bound, sum(event.count for event in told) >= 3) == (2, True)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_client_that_is_gone_is_known_within_the_probe_timeout(host: str) -> None:
    """Port unreachable (the error queue of an unconnected socket), then an unanswered probe: PORT_CLOSED (D-20)."""
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with pair(host, Limits(keep_alive=0.5)) as (server, client, sc, _):
        for entry in client.endpoint.sockets:
            client.endpoint.release(Address(entry.index, ()))
        loop = asyncio.get_running_loop()
        began = loop.time()
        closed = await server.until(lambda event: isinstance(event, Closed))
        assert isinstance(closed, Closed)
        assert (closed.connection_id, closed.kind) == (sc, CloseKind.PORT_CLOSED)
        # Keep-alive, then the probe timeout, and some for a busy machine.
        assert loop.time() - began < 0.5 + 1.0 + 3.0


async def test_a_hub_that_is_gone_is_known_within_the_probe_timeout() -> None:
    """On a connected socket the kernel says so itself."""
    async with pair(limits=Limits(keep_alive=0.5)) as (server, client, _, connection_id):
        for entry in server.endpoint.sockets:
            server.endpoint.release(Address(entry.index, ()))
        closed = await client.until(lambda event: isinstance(event, Closed))
        assert isinstance(closed, Closed)
        assert (closed.connection_id, closed.kind) == (connection_id, CloseKind.UNREACHABLE)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_hub_that_starts_again_resets_what_it_does_not_know(host: str) -> None:
    """The reset comes to a connected socket, at the endpoint's first packet (RFC 9000 section 10.3)."""
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    async with pair(host) as (server, client, _, connection_id):
        (bound,) = server.endpoint.sockets
        port = bound.sock.getsockname()[1]
        server.endpoint.release(Address(bound.index, ()))
        again = new_server(Limits())
        try:
            await again.endpoint.open_server_socket((host, port))
            again.endpoint.start()
            stream_id = client.engine.open_bidi(connection_id)
            assert stream_id is not None
            client.engine.write(connection_id, stream_id, b"are you there?")
            began = time.monotonic()
            client.endpoint.flush()
            closed = await client.until(lambda event: isinstance(event, Closed))
            assert closed == Closed(connection_id, CloseKind.RESET, 0, "stateless reset")
            # Before the probe timeout, let alone the idle timeout.
            assert time.monotonic() - began < Limits().probe_timeout
        finally:
            await again.endpoint.close()


async def test_answers_that_wait_in_the_socket_come_before_timers() -> None:
    """A process that was stopped finds the answer before it finds the other silent."""
    async with pair(limits=Limits(suspect_after=0.2)) as (server, client, _, connection_id):
        stream_id = client.engine.open_bidi(connection_id)
        assert stream_id is not None
        client.engine.write(connection_id, stream_id, b"are you there?")
        client.endpoint.turn()
        for _ in range(3):
            # Beyond the server's delay of acknowledgements; nobody but the server runs meanwhile.
            time.sleep(0.1)
            for entry in server.endpoint.sockets:
                server.endpoint.on_readable(entry)
        client.endpoint.turn()
        assert not [event for event in client.events if isinstance(event, Unresponsive)]


async def test_what_waits_in_the_socket_is_read_over_several_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before timers run, but not in one go: in between others are answered."""
    async with pair() as (server, _, _, _):
        (entry,) = server.endpoint.sockets
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for _ in range(300):
                stranger.sendto(bytes(20), entry.sock.getsockname())
        # It was away.
        time.sleep(0.1)
        done: list[str] = []
        with monkeypatch.context() as patch:
            patch.setattr(server.engine, "receive", lambda *_: done.append("datagram"))
            patch.setattr(server.engine, "handle_timer", lambda _: done.append("timer"))
            patch.setattr(server.engine, "timer", lambda: 0.0)
            for expected in (128, 256, 300):
                assert "timer" not in done
                server.endpoint.turn()
                assert done.count("datagram") == expected
            assert done[-1] == "timer"


V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.mark.parametrize(
    ("kind", "icmp", "offender", "host", "closed"),
    [
        (11, (2, 3, 3), (V4, "192.0.2.1"), "192.0.2.1", True),
        (25, (3, 1, 4), (V6, "2001:db8::1"), "2001:db8::1", True),
        (25, (3, 1, 4), (V6, "fe80::1"), "fe80::1%eth0", True),
        (25, (2, 3, 3), (V6, "::ffff:192.0.2.1"), "::ffff:192.0.2.1", True),
        # A router or firewall in its place, on either side of it; an unreachable host or network; not allowed; our own.
        (11, (2, 3, 3), (V4, "192.0.2.254"), "192.0.2.1", False),
        (11, (2, 3, 1), (V4, "192.0.2.1"), "192.0.2.1", False),
        (11, (2, 3, 0), (V4, "192.0.2.254"), "192.0.2.1", False),
        (11, (2, 3, 13), (V4, "192.0.2.1"), "192.0.2.1", False),
        (11, (1, 3, 3), (V4, "192.0.2.1"), "192.0.2.1", False),
        (11, (2, 3, 3), (socket.AF_UNSPEC, "0.0.0.0"), "192.0.2.1", False),
        (8, (2, 3, 3), (V4, "192.0.2.1"), "192.0.2.1", False),
    ],
)
def test_whose_word_a_closed_port_is(
    kind: int, icmp: tuple[int, int, int], offender: tuple[int, str], host: str, closed: bool
) -> None:
    """Only the host's own: ``struct sock_extended_err`` with what follows it, as the error queue has it."""
    family, address = offender
    packed = socket.inet_pton(family or V4, address)
    error = struct.pack("=IBBBBII", errno.ECONNREFUSED, *icmp, 0, 0, 0) + struct.pack("=HH", family, 0)
    error += packed if family != V6 else bytes(4) + packed + bytes(4)
    assert udp.is_port_closed(kind, error.ljust(32, b"\0"), host) is closed
    assert udp.is_port_closed(kind, error[:10], host) is False


@pytest.mark.parametrize("name", ["receive", "events", "timer", "shake_hands", "transmit", "on_events"])
async def test_whatever_raises_in_a_turn_costs_nothing_else(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, the rest of the turn follows, and so do the next turns: every byte arrives."""

    class Injected(Exception):
        pass

    async with pair() as (server, client, _, connection_id):
        owner: Any = server.endpoint if name == "on_events" else server.engine
        attribute = "_on_events" if name == "on_events" else name
        original = getattr(owner, attribute)

        def fail(*args: Any, **kwargs: Any) -> Any:
            monkeypatch.setattr(owner, attribute, original)
            raise Injected

        monkeypatch.setattr(owner, attribute, fail)
        sent = 200_000
        if name == "on_events":
            # What it was told then is lost to it: the program's own matter.
            server.endpoint.turn()
        assert len(await transfer(server, client, connection_id, sent)) == sent
        assert [type(fault) for fault in server.faults] == [Injected]


async def test_there_is_no_turn_after_the_close() -> None:
    """Whatever is asked for then, or was due: who closes it goes on to close what a turn would use, a journal say."""
    async with pair(limits=Limits(keep_alive=0.05, idle_timeout=0.2, suspect_after=0.1, probe_timeout=0.1)) as (
        server,
        _,
        connection_id,
        _,
    ):
        server.endpoint.flush()
        await server.endpoint.close()
        turns = server.turns
        server.engine.close(connection_id, 0, "late")
        server.endpoint.flush()
        server.endpoint.turn()
        await asyncio.sleep(0.5)
        assert server.turns == turns
