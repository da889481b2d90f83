"""A provider agent whose server has a name, with a DNS server that is slow, changes its mind, and dies."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import dns.message
import dns.name
import dns.rdatatype
import pytest

from tests.support.command import Command
from tests.support.dns_server import DnsServer
from tests.support.namespaces import Files, NamespacesMissing
from tests.support.world import Consumer, World
from tests.system.sizes import report

NAME = "db.test"
SERVER = ("127.0.0.77", 53)
DELAY = 0.4


@pytest.fixture
async def resolver() -> AsyncIterator[DnsServer]:
    """Answers after 0.4 s."""
    try:
        async with DnsServer(SERVER) as server:
            server.delay = DELAY
            yield server
    except PermissionError:
        pytest.skip("only root can have DNS's port")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """A system that asks it."""
    resolv, nsswitch = tmp_path / "resolv.conf", tmp_path / "nsswitch.conf"
    resolv.write_text(f"nameserver {SERVER[0]}\n")
    nsswitch.write_text("hosts: files dns\n")
    try:
        return Files({"/etc/resolv.conf": resolv, "/etc/nsswitch.conf": nsswitch})
    except NamespacesMissing as missing:
        pytest.skip(str(missing))


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The address at which the server was called."""
    await reader.readexactly(1)
    writer.write(str(writer.get_extra_info("sockname")[0]).encode())
    writer.close()


async def _ask(world: World, consumer: Consumer) -> str:
    client = await world.connect(consumer)
    await client.send(b"?")
    data, ending = await client.receive_all()
    client.close()
    return f"{data.decode()} {ending.name}"


async def test_a_slow_resolver(world: World, resolver: DnsServer, files: Files) -> None:
    """120 clients at once get through after one look-up; a move is followed; a dead resolver stops nobody."""
    async with await asyncio.start_server(_answer, "0.0.0.0", 0, backlog=1024) as server:
        port = server.sockets[0].getsockname()[1]
        resolver.set(NAME, ["127.0.0.1", "::1"])
        resolver.ttl = 1
        await world.start_hub()
        provider, consumer = await asyncio.gather(
            world.start_provider((NAME, port), host=files), world.start_consumer()
        )
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert set(await asyncio.gather(*(_ask(world, consumer) for _ in range(120)))) == {"127.0.0.1 FIN"}
        report(seconds=round(loop.time() - began, 2), look_ups=resolver.asked[dns.rdatatype.A])
        # One each second at most, however long a busy machine takes for all of them.
        assert resolver.asked[dns.rdatatype.A] <= 2 + (loop.time() - began)

        resolver.set(NAME, ["127.0.0.3"])
        async with asyncio.timeout(30):
            while await _ask(world, consumer) != "127.0.0.3 FIN":
                pass

        resolver.silent = {dns.rdatatype.A, dns.rdatatype.AAAA}
        async with asyncio.timeout(30):
            while not provider.said("name.failed"):
                assert await _ask(world, consumer) == "127.0.0.3 FIN"
        assert [line["known"] for line in provider.said("name.failed")] == [["127.0.0.3"]]
        for _ in range(10):
            assert await _ask(world, consumer) == "127.0.0.3 FIN"
    await world.end()


async def test_a_silent_resolver_ends_no_stop_late(world: World, tmp_path: Path) -> None:
    """A hub that looks for its inventory, an agent that looks for its hub: both end when they are told to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        try:
            silent.bind(SERVER)
            resolv, nsswitch = tmp_path / "resolv.conf", tmp_path / "nsswitch.conf"
            resolv.write_text(f"nameserver {SERVER[0]}\noptions timeout:30 attempts:5\n")
            nsswitch.write_text("hosts: files dns\n")
            files = Files({"/etc/resolv.conf": resolv, "/etc/nsswitch.conf": nsswitch})
        except (PermissionError, NamespacesMissing) as missing:
            pytest.skip(str(missing))
        silent.setblocking(False)
        agent = await world.start_provider(
            ("127.0.0.1", 1), host=files, env={"SPN_HUB_URL": "https://hub.test"}, wait=False
        )
        hub = await Command.start("hub", "spnhub", "--inventory", "http://inventory.test/", within=files.within)
        try:
            asked: set[dns.name.Name] = set()
            async with asyncio.timeout(60):
                while len(asked) < 2:
                    query = dns.message.from_wire(await asyncio.get_running_loop().sock_recv(silent, 2048))
                    asked.add(query.question[0].name)
            began = asyncio.get_running_loop().time()
            assert list(await asyncio.gather(agent.stop(), hub.stop())) == [0, 0]
            assert asyncio.get_running_loop().time() - began < 20
            assert (agent.errors, hub.errors) == ([], [])
        finally:
            await hub.close()
