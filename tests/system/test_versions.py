"""Hubs and endpoints of different versions work together, in both directions (D-15, D-37)."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
from typing import Any

import pytest

from spnhub import ConsumerEndpoint
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import SessionRequest, own_kinds
from spnhub.transport.endpoint.core import hub_targets
from spnhub.transport.errors import SessionRejected
from spnhub.transport.protocol import REQUIRED_KINDS
from tests.support.command import BIN, run
from tests.support.kafka import KafkaBroker
from tests.support.talk import Talk
from tests.support.tcp import Ending, TcpPeer
from tests.support.versions import EARLIER, Version
from tests.support.world import World
from tests.system.test_hub_update import BOTH, sessions

_NEW: dict[str, str] = {}


@pytest.fixture(scope="session")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """The version before kinds of packets were negotiated."""
    return Version(EARLIER, tmp_path_factory.mktemp("earlier"))


def _env(version: Version, which: str) -> dict[str, str]:
    return version.env if which == "earlier" else _NEW


async def test_it_is_an_earlier_version(earlier: Version) -> None:
    """Not this one by another path."""
    program = (
        "import spnhub.transport.protocol as p; print(p.__file__, hasattr(p, 'REQUIRED_KINDS'), len(p.own_kinds()))"
    )
    process = await asyncio.create_subprocess_exec(
        str(BIN / "python"), "-c", program, env=earlier.env, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    file, negotiates, kinds = out.decode().split()
    assert file.startswith(str(earlier.folder))
    assert (negotiates, int(kinds)) == ("False", len(REQUIRED_KINDS))


_LATER = ("code", "codeName", "reason")
"""What lines have that the earlier hub's lack."""


@pytest.mark.parametrize(
    ("hub", "provider", "consumer"),
    [
        ("earlier", "new", "new"),
        pytest.param("new", "earlier", "new", marks=pytest.mark.prove),
        pytest.param("new", "new", "earlier", marks=pytest.mark.prove),
        ("new", "earlier", "earlier"),
    ],
)
async def test_traffic(world: World, earlier: Version, hub: str, provider: str, consumer: str) -> None:
    """Bytes both ways, ends in order and resets, and the books are right."""
    server = world.serve()
    await world.start_hub(env=_env(earlier, hub))
    _, client_agent = await asyncio.gather(
        world.start_provider(server.address, env=_env(earlier, provider)),
        world.start_consumer(env=_env(earlier, consumer)),
    )
    client, served = await world.join(client_agent, server)
    await asyncio.gather(client.send_pattern(1, 300_000), served.receive(300_000))
    await asyncio.gather(served.send_pattern(2, 300_000), client.receive(300_000))
    client.finish()
    assert await served.receive_all() == (b"", Ending.FIN)
    served.finish()
    assert await client.receive_all() == (b"", Ending.FIN)
    for one, other in ((0, 1), (1, 0)):
        pair = await world.join(client_agent, server)
        await pair[one].send(b"x")
        assert await pair[other].receive(1) == b"x"
        pair[one].reset()
        assert await pair[other].receive_all() == (b"", Ending.RST)
    lines = await world.end(lacking=_LATER)
    ends = [line["disconnectReason"] for line in lines if line["eventType"] == "endSpnConnection"]
    assert ends == ["closedByPeer", "error", "error"]


@pytest.mark.parametrize(
    ("first", "second", "provider", "consumer", "how"),
    [
        ("earlier", "new", "new", "earlier", signal.SIGTERM),
        ("new", "earlier", "earlier", "new", signal.SIGKILL),
        pytest.param("earlier", "new", "earlier", "new", signal.SIGKILL, marks=pytest.mark.prove),
        pytest.param("new", "earlier", "new", "earlier", signal.SIGTERM, marks=pytest.mark.prove),
        pytest.param("earlier", "new", "earlier", "earlier", signal.SIGTERM, marks=pytest.mark.prove),
        pytest.param("new", "earlier", "new", "new", signal.SIGTERM, marks=pytest.mark.prove),
    ],
)
async def test_resume(
    world: World,
    earlier: Version,
    first: str,
    second: str,
    provider: str,
    consumer: str,
    how: signal.Signals,
) -> None:
    """Connections go on at a hub of another version, between endpoints of different ones: not a byte is lost."""
    server = world.serve()
    hub = await world.start_hub(host="127.0.0.1", hub_id="hub-1", env=_env(earlier, first))
    provider_agent, client_agent = await asyncio.gather(
        world.start_provider(server.address, env=BOTH | _env(earlier, provider)),
        world.start_consumer(env=BOTH | _env(earlier, consumer)),
    )
    talk = await Talk.begin(world, client_agent, server, 3)
    await talk.goes_on()
    await world.start_hub(host="127.0.0.2", hub_id="hub-2", env=_env(earlier, second))
    await sessions([provider_agent, client_agent.command], 2)
    await talk.goes_on()
    if how is signal.SIGTERM:
        assert await hub.stop(how) == 0
    else:
        await hub.kill()
    await talk.goes_on()
    if how is signal.SIGKILL:
        # Its next start ends in the log what it has left open.
        await world.start_hub(host="127.0.0.1", hub_id="hub-1", env=_env(earlier, first))
    await talk.end()
    await world.end(lacking=_LATER)


async def _with_kinds(world: World, patch: pytest.MonkeyPatch, kinds: dict[int, int]) -> ConsumerEndpoint:
    """A consumer that announces these."""

    def request(*arguments: Any) -> SessionRequest:
        return dataclasses.replace(SessionRequest(*arguments), kinds=kinds)

    with patch.context() as one:
        one.setattr(hub_targets, "SessionRequest", request)
        return await world.consumer_endpoint()


@pytest.mark.parametrize("hub", ["new", "earlier"])
async def test_other_kinds(world: World, earlier: Version, monkeypatch: pytest.MonkeyPatch, hub: str) -> None:
    """An endpoint may know more, and do without what came later; what spn/1 requires it must read."""
    server = world.serve()
    await world.start_hub(env=_env(earlier, hub))
    await world.start_provider(server.address)
    own = own_kinds()
    optional = own.keys() - REQUIRED_KINDS.keys()
    assert optional, "this version knows kinds that came later"
    more = {**own, max(own) + 1: 1, 4: own[4] + 1}
    for kinds in (more, *({kind: v for kind, v in own.items() if kind != less} for less in sorted(optional))):
        endpoint = await _with_kinds(world, monkeypatch, kinds)
        reader, writer = await endpoint.connect()
        served = await world.accept(server)
        writer.write(b"hello")
        writer.write_eof()
        assert await served.receive_all() == (b"hello", Ending.FIN)
        await served.send(b"answer")
        served.close()
        assert await reader.read() == b"answer"
        writer.close()
        await writer.wait_closed()
        await endpoint.close()
    for less in (4, 13, 33):
        with pytest.raises(SessionRejected) as refused:
            await _with_kinds(world, monkeypatch, {kind: version for kind, version in own.items() if kind != less})
        assert refused.value.code == Code.VERSION
    await world.end(lacking=_LATER)


_READINGS = (("replay", "--all"), ("replay",), ("state", "--at", "15"), ("metrics",), ("verify",))
"""What analysts and scripts read of a log, as commands of ``spnlog``."""


def _parsed(text: str) -> list[Any]:
    """JSON lines, or one document."""
    try:
        return [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return [json.loads(text)]


def _without_more(new: Any, earlier: Any) -> Any:
    """A version may say more than the one before: without the fields that the earlier one didn't have."""
    if isinstance(new, dict) and isinstance(earlier, dict):
        # The earlier one estimates the quantiles of few values, which are exact now.
        quantiles = {key: earlier[key] for key in ("median", "p95") if key in earlier}
        return {key: _without_more(value, earlier[key]) for key, value in new.items() if key in earlier} | quantiles
    if isinstance(new, list) and isinstance(earlier, list) and len(new) == len(earlier):
        return [_without_more(*both) for both in zip(new, earlier, strict=True)]
    return new


@pytest.mark.kafka
@pytest.mark.parametrize("of_topic", [1, pytest.param(len(_READINGS), marks=pytest.mark.prove)])
async def test_logs_of_the_earlier_version_read_the_same(
    world: World, earlier: Version, kafka: KafkaBroker, topic: str, of_topic: int
) -> None:
    """Its journal and its topic: each reading of this version says all that the earlier version's own reading says."""
    server = world.serve()
    hub = await world.start_hub("--kafka", kafka.bootstrap, "--topic", topic, env=earlier.env)
    await hub.line("shipper.connected")
    provider, consumer = await asyncio.gather(
        world.start_provider(server.address, env=earlier.env), world.start_consumer(env=earlier.env)
    )
    for how in (TcpPeer.finish, TcpPeer.reset, TcpPeer.finish):
        client, served = await world.join(consumer, server)
        await client.send(b"asks")
        assert await served.receive(4) == b"asks"
        how(client)
        await served.receive_all()
        served.close()
    await provider.stop()
    refused = await world.connect(consumer)
    assert (await refused.receive_all())[0] == b""
    # Not SIGTERM: what is open at the hub's death is in the log, too.
    await hub.kill()
    await world.start_hub("--kafka", kafka.bootstrap, "--topic", topic, env=earlier.env)
    await world.end(lacking=_LATER)
    # Each is a process of the earlier version, which takes a second to start.
    for source, count in ((str(world.journal), len(_READINGS)), (f"kafka://{kafka.bootstrap}/{topic}", of_topic)):
        for reading in _READINGS[:count]:
            texts = []
            for env in (earlier.env, _NEW):
                status, text, faults = await run("spnlog", *reading, "--json", source, env=env)
                assert (status, faults) == (0, ""), (reading, source)
                texts.append(_parsed(text))
            before, now = texts
            assert len(before) > 0
            assert _without_more(now, before) == before, (reading, source)
