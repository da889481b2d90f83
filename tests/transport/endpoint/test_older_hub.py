"""Endpoints that speak sc01, at an older hub on bare aioquic over real sockets, with either engine (SC01.md)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import spnhub
from spnhub.actors.contract.codes import Code
from spnhub.pki import Authority
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.states import SessionState
from tests.support.old_hub import OldHub, old_hub

pytestmark = pytest.mark.system

AUTHORITY = Authority.create()
SIZE = 300_000


@pytest.fixture
async def hub() -> AsyncIterator[OldHub]:
    """One with nobody."""
    async with old_hub(AUTHORITY.server("localhost"), AUTHORITY.certificate) as hub:
        yield hub


@pytest.fixture(params=["aioquic", "native"])
def engine(request: pytest.FixtureRequest) -> str:
    """On which the endpoints run."""
    if request.param == "native":
        pytest.importorskip("spnhub_native")
    return str(request.param)


def arguments(hub: OldHub, name: str, engine: str, **more: Any) -> dict[str, Any]:
    """Of either endpoint."""
    mine = AUTHORITY.client(name)
    return {
        "hub_url": f"https://localhost:{hub.port}",
        "service_urn": "urn:any",
        "certificate": mine.certificate,
        "certificate_key": mine.key,
        "trust": AUTHORITY.certificate,
        "hub_addresses": (f"127.0.0.1:{hub.port}",),
        "protocol": "sc01",
        "engine": engine,
        **more,
    }


async def consumer(hub: OldHub, engine: str, **more: Any) -> spnhub.ConsumerEndpoint:
    """With its session."""
    return await spnhub.create_consumer_endpoint(**arguments(hub, "consumer", engine, **more))


async def provider(hub: OldHub, engine: str, **more: Any) -> spnhub.ProviderEndpoint:
    """With its session."""
    return await spnhub.create_provider_endpoint(**arguments(hub, "provider", engine, **more))


async def test_bytes_and_fins(hub: OldHub, engine: str) -> None:
    """A stream waits for its provider; every byte and both FINs pass, and the ends of both are in order, and soon."""
    one = await consumer(hub, engine)
    reader, writer = await one.connect()
    writer.write(b"first")
    await hub.word("consumer", "request_provider_start")
    async with asyncio.timeout(30):
        two = await provider(hub, engine)
        there, back = await (await two.listen()).accept()
        assert await there.readexactly(5) == b"first"
        writer.write(b"x" * SIZE)
        writer.write_eof()
        assert await there.read(-1) == b"x" * SIZE
        back.write(b"y" * SIZE)
        back.write_eof()
        assert await reader.read(-1) == b"y" * SIZE
        await asyncio.gather(writer.wait_closed(), back.wait_closed())
        await two.aclose()
        await hub.word("provider", "notify_shutdown")
        await one.aclose()
    assert {await hub.ended.get(), await hub.ended.get()} == {("provider", 0), ("consumer", 0)}


async def test_an_error_is_no_end(hub: OldHub, engine: str) -> None:
    """A refusal of the provider, a reset and a lost session are errors at the other side."""
    async with asyncio.timeout(60):
        one, two = await consumer(hub, engine), await provider(hub, engine)
        reader, writer = await one.connect()
        writer.write(b"!")
        await (await two.listen()).reject(Code.CONNECT_FAILED, "no server")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        reader, writer = await one.connect()
        writer.write(b"!")
        there, back = await (await two.listen()).accept()
        assert await there.readexactly(1) == b"!"
        writer.transport.abort()
        with pytest.raises(ConnectionResetError):
            await there.read(-1)
        reader, writer = await one.connect()
        writer.write(b"!")
        there, back = await (await two.listen()).accept()
        back.write(b"?")
        assert await reader.readexactly(1) == b"?"
        hub.consumers[0].close(0, "bye")
        with pytest.raises(ConnectionResetError):
            await reader.read(-1)
        # It comes back by itself.
        await hub.until(1, 1)
        await two.close()
        await one.close()


async def test_words_of_the_hub(hub: OldHub, engine: str) -> None:
    """Shutdown: no new streams, the open one ends by itself, then another session. Anything else is no harm."""
    async with asyncio.timeout(60):
        one, two = await consumer(hub, engine), await provider(hub, engine)
        await hub.until(1, 1)
        for word in (b"", b"notify_standby", b"notify_active", b"\xff\0" * 400, b"notify_provider_stopped"):
            hub.providers[0].say(word)
            hub.consumers[0].say(word)
        reader, writer = await one.connect()
        writer.write(b"!")
        await hub.word("consumer", "request_provider_start")
        there, back = await (await two.listen()).accept()
        old = hub.providers[0]
        old.say(b"notify_shutdown")
        hub.providers.remove(old)
        await hub.until(0, 1)
        while two.state is not SessionState.CLOSING:
            await asyncio.sleep(0.01)
        late = old.next_stream()
        old.send(late, b"late")
        back.write(b"?")
        back.write_eof()
        writer.write_eof()
        assert await there.read(-1) == b"!"
        assert await reader.read(-1) == b"?"
        assert await hub.ended.get() == ("provider", 0)
        await hub.until(1, 1)
        await two.close()
        await one.close()


async def test_weights(hub: OldHub, engine: str) -> None:
    """0 is said with the one word that there is; what takes it back is another session. No other weight can be had."""
    async with asyncio.timeout(60):
        two = await provider(hub, engine)
        await hub.until(1, 0)
        first = hub.providers[0]
        with pytest.raises(spnhub.ConfigurationError, match="sc01 has no weights"):
            await two.set_weight(50)
        await two.set_weight(0)
        await hub.word("provider", "notify_shutdown")
        await two.wait_all_connections_closed()
        await two.set_weight(100)
        await hub.until(1, 0)
        assert hub.providers[0] is not first
        assert await hub.ended.get() == ("provider", 0)
        await two.close()


async def test_what_has_no_meaning_is_refused(hub: OldHub) -> None:
    """Options that are for resuming, and weights: before anything is sent."""
    for more in ({"resume_timeout": 5.0}, {"instance_id": "a"}, {"replay_buffer": 100_000}, {"replay_budget": 0}):
        with pytest.raises(spnhub.ConfigurationError, match=f"{next(iter(more))} has no meaning with protocol sc01"):
            await consumer(hub, "aioquic", **more)
    with pytest.raises(spnhub.ConfigurationError, match="weight is 7; sc01 has no weights"):
        await provider(hub, "aioquic", weight=7)


@pytest.mark.parametrize(
    ("code", "error", "final"),
    [
        (1, "NOT_ALLOWED", True),
        (2, "NOT_ALLOWED", True),
        (100, "NO_PROVIDER", False),
        (0, "OK", False),
        (77_777, "INTERNAL", False),
    ],
)
async def test_refusals(hub: OldHub, engine: str, code: int, error: str, final: bool) -> None:
    """Each code has its name. What a retry can help against is tried again, later and later; the rest isn't."""
    hub.refuse = code
    changes: asyncio.Queue[SessionChange] = asyncio.Queue()
    async with asyncio.timeout(60):
        one = await consumer(hub, engine, on_session=changes.put_nowait)
        lost = [change async for change in _failures(changes, 1 if final else 3)]
        assert all(error in str(change.error) for change in lost)
        assert lost[0].new is (SessionState.FAILED if final else SessionState.WAITING)
        if final:
            with pytest.raises(spnhub.SessionRejected, match=error):
                await one.wait_closed()
        else:
            # As of any other that fails: so that nobody is called four times a second for ever.
            assert [target.attempts for target in one.core.targets()] == [3]
        await one.close()


async def _failures(changes: asyncio.Queue[SessionChange], count: int) -> AsyncIterator[SessionChange]:
    while count:
        change = await changes.get()
        if change.error is not None:
            count -= 1
            yield change


async def test_another_server(engine: str) -> None:
    """A server that agrees to no protocol, or to another, gets nothing of what is for a hub."""
    async with old_hub(AUTHORITY.server("localhost"), AUTHORITY.certificate, ("h3",)) as other:
        with pytest.raises((spnhub.HandshakeRejected, spnhub.SessionRejected)):
            async with asyncio.timeout(30):
                await consumer(other, engine)
