"""The library over real sockets, with the real engine and a hub process."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import spnhub
from spnhub.actors.contract.codes import Code
from spnhub.pki import IssuedCredentials
from tests.support.world import World

pytestmark = pytest.mark.system


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[World]:
    """A hub that takes packets."""
    async with World(tmp_path) as world:
        await world.start_hub()
        yield world


async def _consumer(hub: World, who: IssuedCredentials | None = None) -> spnhub.ConsumerEndpoint:
    mine = who or hub.authority.client("consumer")
    url = f"https://localhost:{hub.port}"
    return await spnhub.create_consumer_endpoint(url, hub.urn(), mine.certificate, mine.key, hub.authority.certificate)


async def _provider(hub: World) -> spnhub.ProviderEndpoint:
    mine = hub.authority.client("provider")
    url = f"https://localhost:{hub.port}"
    return await spnhub.create_provider_endpoint(url, hub.urn(), mine.certificate, mine.key, hub.authority.certificate)


async def test_echo(hub: World) -> None:
    """Eight MiB there and back through a real hub, half-close included; nothing is left at either end."""
    data = os.urandom(8 * 1024 * 1024)
    async with await _provider(hub) as provider, await _consumer(hub) as consumer:

        async def serve() -> None:
            reader, writer = await (await provider.listen()).accept()
            while chunk := await reader.read(65536):
                writer.write(chunk)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def send(writer: asyncio.StreamWriter) -> None:
            for start in range(0, len(data), 65536):
                writer.write(data[start : start + 65536])
                await writer.drain()
            writer.write_eof()

        serving = asyncio.ensure_future(serve())
        reader, writer = await consumer.connect()
        assert "CN=provider" in writer.get_extra_info("peer")
        _, echoed = await asyncio.gather(send(writer), reader.read())
        assert hashlib.sha256(echoed).digest() == hashlib.sha256(data).digest()
        writer.close()
        await writer.wait_closed()
        await serving
        assert (consumer.connections, provider.connections) == (0, 0)
    (ended,) = [line for line in await hub.replayed() if line["eventType"] == "endSpnConnection"]
    assert (ended["totalSentBytes"], ended["totalReceiveBytes"], ended["disconnectReason"]) == (
        len(data),
        len(data),
        "closedByPeer",
    )


async def test_abort_and_reject(hub: World) -> None:
    """RST as RST, a rejection with its code and reason, and the session goes on."""
    async with await _provider(hub) as provider, await _consumer(hub) as consumer:
        connecting = asyncio.ensure_future(consumer.connect())
        _, theirs = await (await provider.listen()).accept()
        reader, writer = await connecting
        theirs.write(b"half")
        assert await reader.readexactly(4) == b"half"
        theirs.transport.abort()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.transport.abort()
        connecting = asyncio.ensure_future(consumer.connect())
        await (await provider.listen()).reject(Code.CONNECT_FAILED, "port closed")
        with pytest.raises(spnhub.ConnectionRejected) as caught:
            await connecting
        assert (caught.value.code, caught.value.reason) == (Code.CONNECT_FAILED, "port closed")


async def test_request_close(hub: World) -> None:
    """A consumer that closes in the middle of a download: the provider sees an error, the log an orderly end."""
    async with await _provider(hub) as provider, await _consumer(hub) as consumer:
        connecting = asyncio.ensure_future(consumer.connect())
        _, theirs = await (await provider.listen()).accept()
        reader, writer = await connecting

        async def send() -> None:
            while True:
                theirs.write(b"z" * 10_000)
                await theirs.drain()

        sending = asyncio.ensure_future(send())
        await reader.readexactly(1000)
        writer.close()
        await writer.wait_closed()
        with pytest.raises(ConnectionResetError):
            await sending
    (ended,) = [line for line in await hub.replayed() if line["eventType"] == "endSpnConnection"]
    assert ended["disconnectReason"] == "closedByPeer"


async def test_refusals(hub: World) -> None:
    """No provider, not allowed, a stranger's certificate: each its own error, from the create function (D-19)."""
    with pytest.raises(spnhub.SessionRejected) as refused:
        await _consumer(hub)
    assert (refused.value.code, refused.value.retryable) == (Code.NO_PROVIDER, True)
    with pytest.raises(spnhub.SessionRejected) as refused:
        await _consumer(hub, hub.authority.client("somebody"))
    assert (refused.value.code, refused.value.retryable) == (Code.NOT_ALLOWED, False)
    with pytest.raises(spnhub.HandshakeRejected) as rejected:
        await _consumer(hub, hub.strangers.client("consumer"))
    assert (rejected.value.alert, rejected.value.by_hub, rejected.value.retryable) == (48, True, False)


async def test_hub_killed_and_started_again(hub: World) -> None:
    """The endpoints come back by themselves."""
    async with await _provider(hub) as provider, await _consumer(hub) as consumer:
        before = consumer.session_id
        await hub.hub.kill()
        await consumer.wait_ended()
        await provider.wait_ended()
        await hub.start_hub()
        connecting = asyncio.ensure_future(_connect(consumer))
        reader, writer = await (await provider.listen()).accept()
        ours = await connecting
        writer.close()
        assert await ours[0].read() == b""
        ours[1].close()
        await ours[1].wait_closed()
        assert await reader.read() == b""
        assert consumer.session_id != before


async def _connect(consumer: spnhub.ConsumerEndpoint) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    while True:
        try:
            return await consumer.connect()
        except spnhub.ConnectionRejected as exc:
            if not exc.retryable:
                raise
