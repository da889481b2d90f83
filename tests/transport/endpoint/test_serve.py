"""``spnhub.serve``: one connection that fails ends itself, and neither the loop nor another one."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import spnhub
from spnhub.actors.contract.codes import Code
from spnhub.library.serving import serve
from spnhub.transport.errors import ConfigurationError, ConnectionAborted
from tests.transport.endpoint.conftest import World


async def test_a_failing_peer_ends_nothing(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """A consumer that resets, one whose handler fails, and one that goes on."""
    caplog.set_level(logging.INFO, "spnhub")
    provider = await world.provider()
    consumer = await world.consumer()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            if data == b"fail":
                raise RuntimeError("a fault in the handler")
            writer.write(data.upper())

    serving = asyncio.ensure_future(serve(handle, endpoint=provider))
    pairs = [await consumer.connect() for _ in range(3)]
    pairs[0][1].transport.abort()
    pairs[1][1].write(b"fail")
    with pytest.raises(ConnectionAborted):
        await pairs[1][0].read()
    pairs[2][1].write(b"still there")
    assert await pairs[2][0].readexactly(11) == b"STILL THERE"
    reader, writer = await consumer.connect()
    writer.write(b"and new ones")
    writer.write_eof()
    assert await reader.read() == b"AND NEW ONES"
    messages = [record.getMessage() for record in caplog.records if record.name == "spnhub"]
    assert [text for text in messages if "the handler of connection" in text]
    assert [text for text in messages if "connection aborted" in text]
    serving.cancel()
    # It drains first: the third is open.
    await asyncio.sleep(1)
    assert not serving.done()
    pairs[2][1].write_eof()
    assert await pairs[2][0].read() == b""
    await asyncio.gather(serving, return_exceptions=True)
    assert serving.cancelled()


async def test_a_consumer_that_left_before(world: World) -> None:
    """Accepting it fails, and the next one is taken."""
    provider = await world.provider()
    consumer = await world.consumer()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read())

    connecting = asyncio.ensure_future(consumer.connect())
    await asyncio.sleep(0.5)
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    serving = asyncio.ensure_future(serve(handle, endpoint=provider))
    reader, writer = await consumer.connect()
    writer.write(b"here")
    writer.write_eof()
    assert await reader.read() == b"here"
    assert not serving.done()
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_what_is_served(world: World) -> None:
    """What is neither handler nor application is refused at once."""
    for candidate in (lambda: None, lambda _a, _b, _c, _d: None, "text"):
        wrong: Any = candidate
        with pytest.raises(TypeError, match="neither a handler"):
            await serve(wrong, endpoint=await world.provider())


def test_environment(tmp_path: Any) -> None:
    """The agents' variables; what is given wins, and what is wrong is named."""
    from spnhub.pki import Authority

    authority = Authority.create()
    identity = authority.client("consumer")
    (tmp_path / "key.pem").write_bytes(identity.key)
    environment = {
        "SPN_HUB_URL": "https://hub.test:4433",
        "SPN_SERVICE_URN": "urn:x",
        "SPN_AGENT_CLIENT_CERTIFICATE": identity.certificate.decode(),
        "SPN_CERTIFICATE_KEY": str(tmp_path / "key.pem"),
        "SPN_IDLE_TIMEOUT": "12.5",
        "SPN_HUB_ADDRESSES": "192.0.2.1,192.0.2.2:443",
    }
    found = spnhub.from_environment(environment, service_urn="urn:y", trust=authority.certificate)
    assert (found["hub_url"], found["service_urn"]) == ("https://hub.test:4433", "urn:y")
    assert (found["certificate_key"], found["trust"]) == (str(tmp_path / "key.pem"), authority.certificate.decode())
    assert (found["options"].limits.idle_timeout, found["options"].wait_for_hub) == (12.5, True)
    assert found["options"].hub_addresses == ("192.0.2.1", "192.0.2.2:443")
    for changed, message in (
        ({"SPN_HUB_URL": ""}, r"hub_url is missing \(environment: SPN_HUB_URL\)"),
        ({"SPN_IDLE_TIMEOUT": "soon"}, "SPN_IDLE_TIMEOUT: could not convert"),
        ({"SPN_IDLE_TIMEOUT": "-1"}, "SPN_IDLE_TIMEOUT: -1 "),
        ({"SPN_CERTIFICATE_KEY": "/nowhere"}, "SPN_CERTIFICATE_KEY: the value is neither PEM text nor a readable file"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            spnhub.from_environment(environment | changed)
    with pytest.raises(TypeError, match="there is no option idel_timeout"):
        spnhub.from_environment(environment, idel_timeout=3)


def test_names() -> None:
    """``dir`` shows what programs use, and all of it is there."""
    assert dir(spnhub) == sorted(spnhub.__all__)
    for name in spnhub.__all__:
        assert getattr(spnhub, name) is not None
    assert spnhub.Code is Code
    assert {"Code", "SessionChange", "ConnectionChange", "CredentialsChange", "serve", "forward"} <= set(dir(spnhub))


async def test_changes_reach_the_logger(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Where the program has no function for them; a hub that stays away is one warning."""
    caplog.set_level(logging.INFO, "spnhub")
    await world.consumer(wait_for_hub=True)
    world.hub.node.crash()
    await asyncio.sleep(120)
    messages = [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "spnhub"]
    assert messages[0] == ("INFO", f"session session-1 with {world.hub.hub_id} at 192.0.2.1:443")
    warnings = [text for level, text in messages if level == "WARNING"]
    assert 1 <= len(warnings) <= 3 and warnings[0].startswith("no session at 192.0.2.1:443: ")
