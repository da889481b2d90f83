"""The key of stateless resets in the journal folder."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from spnhub.events.journal.journal import Journal, JournalError
from spnhub.hub_process.reset_key import RESET_KEY, load_reset_key
from spnhub.transport.aioquic_engine import AioquicEngine
from spnhub.transport.engine import ClientPolicy, Closed, CloseKind, Connected, EngineEvent, Limits
from spnhub.transport.udp import UdpEndpoint
from tests.support.command import run
from tests.support.world import World


def test_it_is_made_once_and_stays(tmp_path: Path) -> None:
    """32 bytes that only the hub's user may read; the next start has the same, another folder another."""
    key = load_reset_key(tmp_path)
    assert (len(key), load_reset_key(tmp_path)) == (32, key)
    assert stat.S_IMODE((tmp_path / RESET_KEY).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [RESET_KEY]
    (tmp_path / "other").mkdir()
    assert load_reset_key(tmp_path / "other") != key


def test_a_crash_while_it_is_made_leaves_no_half(tmp_path: Path) -> None:
    """What an earlier start did not finish is made anew."""
    (tmp_path / "reset-key.new").write_bytes(b"half")
    assert len(load_reset_key(tmp_path)) == 32
    assert [path.name for path in tmp_path.iterdir()] == [RESET_KEY]


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_other_content_is_named(tmp_path: Path, content: bytes) -> None:
    """The file, what is wrong with it and what helps; nothing is overwritten."""
    path = tmp_path / RESET_KEY
    path.write_bytes(content)
    with pytest.raises(JournalError, match=f"{path} holds {len(content)} bytes, not the 32 of a key; remove"):
        load_reset_key(tmp_path)
    assert path.read_bytes() == content


def test_what_can_not_be_read_is_named(tmp_path: Path) -> None:
    """A folder in its place."""
    (tmp_path / RESET_KEY).mkdir()
    with pytest.raises(JournalError, match=f"{tmp_path / RESET_KEY}: Is a directory"):
        load_reset_key(tmp_path)


def test_a_journal_does_not_mind_it(tmp_path: Path) -> None:
    """The folder of a journal with a key opens as before."""
    Journal.open(tmp_path, "hub-1").close()
    key = load_reset_key(tmp_path)
    Journal.open(tmp_path, "hub-1").close()
    assert load_reset_key(tmp_path) == key


@pytest.mark.system
async def test_a_hub_that_was_killed_ends_its_old_sessions_when_it_is_back(tmp_path: Path) -> None:
    """Same journal folder, same port: the first packet of an old session is answered with a reset."""
    events: list[EngineEvent] = []
    async with World(tmp_path) as world:
        await world.start_hub()
        # What it sends while the port is closed must not end the session before the hub is back.
        engine = AioquicEngine(Limits(probe_timeout=20))
        endpoint = UdpEndpoint(engine, events.extend)
        try:
            connection_id = await _connect(world, engine, endpoint)
            await until(lambda: any(isinstance(event, Connected) for event in events))
            await world.hub.kill()
            await world.start_hub()
            # A probe may have met the new hub by now.
            if (stream_id := engine.open_bidi(connection_id)) is not None:
                engine.write(connection_id, stream_id, b"are you there?")
                endpoint.flush()
            await until(lambda: any(isinstance(event, Closed) for event in events))
            assert [event for event in events if isinstance(event, Closed)] == [
                Closed(connection_id, CloseKind.RESET, 0, "stateless reset")
            ]
        finally:
            await endpoint.close()


@pytest.mark.system
async def test_a_hub_with_a_damaged_key_does_not_start(tmp_path: Path) -> None:
    """Exit status 2 and one line, as for every fault of the journal folder."""
    async with World(tmp_path) as world:
        world.journal.mkdir()
        (world.journal / RESET_KEY).write_bytes(b"short")
        status, _, errors = await run(
            *("spnhub", "--inventory", world.inventory_file.as_uri(), "--journal", str(world.journal)),
        )
        assert status == 2
        assert f"spnhub: {world.journal / RESET_KEY} holds 5 bytes, not the 32 of a key" in errors


async def _connect(world: World, engine: AioquicEngine, endpoint: UdpEndpoint) -> int:
    mine = world.authority.client("consumer")
    name = urlsplit(world.url).hostname or ""
    policy = ClientPolicy(name, ("spn/1",), mine.certificate, mine.key, world.authority.certificate)
    connection_id = engine.connect(await endpoint.open_client_socket((world.host, world.port)), policy, endpoint.now())
    endpoint.flush()
    return connection_id


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)
