"""Our transport under asyncio's rules, as servers and clients of others rely on them."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
from pathlib import Path

from spnhub.pki import Authority
from tests.transport.endpoint.conftest import URN, World


class Echo(asyncio.Protocol):
    """What a server has."""

    def __init__(self, *, keep_open: bool = False) -> None:
        self.keep_open = keep_open
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data.upper())

    def eof_received(self) -> bool:
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Buffered(asyncio.BufferedProtocol):
    """A small buffer, filled again and again."""

    def __init__(self) -> None:
        self.buffer = bytearray(4)
        self.found = b""

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.found += bytes(self.buffer[:nbytes])


async def streams(
    world: World,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter, asyncio.StreamReader, asyncio.StreamWriter]:
    provider = await world.provider()
    consumer = await world.consumer()
    connecting = asyncio.ensure_future(consumer.connect())
    theirs = await (await provider.listen()).accept()
    return *await connecting, *theirs


def hand_over(writer: asyncio.StreamWriter, protocol: asyncio.BaseProtocol) -> None:
    """As a server does that has protocols of its own."""
    writer.transport.set_protocol(protocol)
    protocol.connection_made(writer.transport)


async def test_a_transport_outlives_its_first_streams(world: World) -> None:
    """Reader and writer are thrown away when another protocol has the transport: that closes nothing."""
    reader, writer, theirs_in, theirs_out = await streams(world)
    echo = Echo()
    hand_over(theirs_out, echo)
    del theirs_in, theirs_out
    gc.collect()
    writer.write(b"still there")
    assert await reader.readexactly(11) == b"STILL THERE"
    writer.write_eof()
    assert await reader.read() == b"", "a protocol that says no more at the end of input closes"
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(1)
    assert echo.lost == [None]


async def test_a_protocol_may_keep_its_side_open(world: World) -> None:
    """After the other's end it may say more."""
    reader, writer, _, theirs_out = await streams(world)
    echo = Echo(keep_open=True)
    hand_over(theirs_out, echo)
    writer.write_eof()
    await asyncio.sleep(1)
    echo.transport.write(b"late")
    assert await reader.readexactly(4) == b"late"
    echo.transport.close()
    assert await reader.read() == b""
    writer.close()


async def test_buffered_protocols(world: World) -> None:
    """They get every byte."""
    reader, writer, _, theirs_out = await streams(world)
    buffered = Buffered()
    hand_over(theirs_out, buffered)
    writer.write(b"more than four bytes")
    writer.write_eof()
    assert await reader.read() == b""
    assert buffered.found == b"more than four bytes"
    writer.close()


async def test_extra_info(world: World) -> None:
    """Tuples where servers take tuples apart, and a socket that takes every option and is none."""
    _, writer, _, theirs_out = await streams(world)
    for one, peer in ((writer, "CN=provider"), (theirs_out, "CN=consumer")):
        assert one.get_extra_info("peername") == (peer, 0)
        assert one.get_extra_info("sockname") == (URN, 0)
        sock = one.get_extra_info("socket")
        assert (sock.family, sock.type, sock.fileno()) == (socket.AF_INET, socket.SOCK_STREAM, -1)
        assert (sock.getpeername(), sock.getsockname()) == ((peer, 0), (URN, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        assert one.get_extra_info("sslcontext") is None
        one.close()


async def test_tls_inside(world: World, tmp_path: Path) -> None:
    """A program may begin TLS of its own on a connection."""
    authority = Authority.create()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    identity = authority.server("db.test")
    (tmp_path / "both.pem").write_bytes(identity.certificate + identity.key)
    server.load_cert_chain(tmp_path / "both.pem")
    client.load_verify_locations(cadata=authority.certificate.decode())
    _, writer, _, theirs_out = await streams(world)
    loop = asyncio.get_running_loop()
    echo = Echo()
    serving = asyncio.ensure_future(loop.start_tls(theirs_out.transport, echo, server, server_side=True))
    buffered = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(buffered)
    inside = await loop.start_tls(writer.transport, protocol, client, server_hostname="db.test")
    outside = await serving
    assert inside is not None and outside is not None
    echo.connection_made(outside)
    protocol.connection_made(inside)
    inside.write(b"secret")
    assert await buffered.readexactly(6) == b"SECRET"
    inside.close()
    outside.close()
    await asyncio.sleep(1)
