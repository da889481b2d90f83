"""``spnagent`` as a command, with a real hub: TCP from end to end, signals and exit statuses."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from spnhub import signals
from spnhub.cli import agent as command
from tests.cli.processes import Program, Site, address_of
from tests.support.tcp import Ending, TcpPeer, TcpServer, digest, pattern, smtp_mail, smtp_server

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="module")]

MIB = 1024 * 1024
D24 = 5.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    """With its hub, which serves all tests of this module."""
    site = Site(tmp_path_factory.mktemp("site"))
    await site.hub()
    yield site
    await site.close()


class Way:
    """A TCP server behind hub and agents, and the address at which clients reach it."""

    def __init__(self, hub: Program, server: TcpServer, provider: Program, consumer: Program) -> None:
        self.hub = hub
        self.server = server
        self.provider = provider
        self.consumer = consumer
        self.address = ("", 0)

    @classmethod
    async def make(cls, site: Site, server: TcpServer) -> Way:
        """Agents for a service of their own."""
        site.service += 1
        provider = await site.provider(server.address)
        await provider.line("session.established")
        consumer = await site.consumer()
        await consumer.line("session.established")
        way = cls(site.programs[0], server, provider, consumer)
        way.address = await address_of(consumer)
        return way

    async def pair(self) -> tuple[TcpPeer, TcpPeer]:
        """A client and the server's end of its connection."""
        client = await TcpPeer.connect(self.address)
        return client, await self.server.accept()

    async def ended(self, port: int) -> dict[str, object]:
        """What the hub says of the end of the connection whose client has that port."""
        opened = await self.consumer.line("connection.opened", client=f"127.0.0.1 {port}")
        line = await self.hub.line("endSpnConnection", connectionUid=opened["connectionUid"])
        return {name: line[name] for name in ("totalSentBytes", "totalReceiveBytes", "disconnectReason")}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def way(site: Site) -> AsyncIterator[Way]:
    """For tests that leave the agents as they were."""
    with TcpServer() as server:
        yield await Way.make(site, server)


@pytest_asyncio.fixture(loop_scope="module")
async def own_way(site: Site) -> AsyncIterator[Way]:
    """For tests that end one of the agents."""
    with TcpServer() as server:
        yield await Way.make(site, server)


def port_of(peer: TcpPeer) -> int:
    """The local port."""
    return int(peer.sock.getsockname()[1])


async def test_bulk_both_ways(way: Way) -> None:
    """Both directions at once, every byte, and the hub's counters are those of the sockets."""
    size = 4 * MIB
    client, server = await way.pair()

    async def program(peer: TcpPeer, seed: int) -> None:
        await peer.send_pattern(seed, size + seed)
        peer.finish()

    _, _, at_server, at_client = await asyncio.gather(
        program(client, 1), program(server, 2), server.receive_digest(), client.receive_digest()
    )
    assert at_server == (size + 1, digest(pattern(1, size + 1)), Ending.FIN)
    assert at_client == (size + 2, digest(pattern(2, size + 2)), Ending.FIN)
    assert await way.ended(port_of(client)) == {
        "totalSentBytes": size + 1,
        "totalReceiveBytes": size + 2,
        "disconnectReason": "closedByPeer",
    }
    client.close()
    server.close()


async def test_mail(site: Site) -> None:
    """SMTP, in which the server speaks first."""
    site.service += 1
    async with smtp_server() as (address, mailbox):
        await (await site.provider(address)).line("session.established")
        consumer = await site.consumer()
        await consumer.line("session.established")
        await asyncio.to_thread(smtp_mail, await address_of(consumer), "through the hub")
    ((sender, recipients, content),) = mailbox.messages
    assert (sender, recipients, b"through the hub" in content) == ("a@example.org", ["b@example.org"], True)


async def test_half_close(way: Way) -> None:
    """A client that sends, shuts down writing, and then reads the answer."""
    client, server = await way.pair()
    await client.send(b"question")
    client.finish()
    assert await server.receive_all() == (b"question", Ending.FIN)
    await server.send(b"answer")
    server.close()
    assert await client.receive_all() == (b"answer", Ending.FIN)
    client.close()


@pytest.mark.parametrize("who", ["client", "server"])
async def test_reset(way: Way, who: str) -> None:
    """A RST of one program is a RST to the other, and an error in the log."""
    client, server = await way.pair()
    await client.send(b"hello")
    assert await server.receive(5) == b"hello"
    port = port_of(client)
    one, other = (client, server) if who == "client" else (server, client)
    one.reset()
    assert await other.receive_all() == (b"", Ending.RST)
    other.close()
    assert await way.ended(port) == {"totalSentBytes": 5, "totalReceiveBytes": 0, "disconnectReason": "error"}


async def test_reset_under_backpressure(way: Way) -> None:
    """D-24: the agent isn't reading from the client when it resets; the server hears of it all the same."""
    client, server = await way.pair()
    sending = asyncio.ensure_future(client.send(bytes(64 * MIB)))
    # Stalled when the agent's kernel has taken no more for a while; there is no event for what doesn't happen.
    taken, before = 0, -1
    while taken != before or not taken:
        before = taken
        await asyncio.sleep(0.5)
        taken = _acknowledged(client)
    assert not sending.done()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    client.reset()
    async with asyncio.timeout(D24):
        _, _, ending = await server.receive_digest()
    assert ending is Ending.RST
    server.close()


def _acknowledged(peer: TcpPeer) -> int:
    """Bytes that the other side's kernel has taken: tcpi_bytes_acked of TCP_INFO."""
    info = peer.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return int(struct.unpack_from("<Q", info, 120)[0])


async def test_reset_after_half_close(way: Way) -> None:
    """D-24: the client has ended its direction, then resets."""
    client, server = await way.pair()
    client.finish()
    assert await server.receive_all() == (b"", Ending.FIN)
    client.reset()
    async with asyncio.timeout(D24):
        with pytest.raises(OSError, match=r"reset|pipe"):
            while True:
                await server.send(bytes(1000))
                await asyncio.sleep(0)
    server.close()


@pytest.mark.parametrize("victim", ["provider", "consumer"])
async def test_agent_is_killed_in_mid_download(own_way: Way, victim: str) -> None:
    """The client sees an error, never a short file that looks complete; the server notices."""
    way = own_way
    client, server = await way.pair()
    sending = asyncio.ensure_future(server.send(bytes(64 * MIB)))
    await client.receive(MIB)
    await (way.provider if victim == "provider" else way.consumer).kill()
    received, _, ending = await client.receive_digest()
    assert (received < 64 * MIB, ending) == (True, Ending.RST)
    with pytest.raises(OSError, match=r"reset|pipe"):
        await sending
    assert (await way.ended(port_of(client)))["disconnectReason"] == "error"
    client.close()
    server.close()


async def test_server_is_down(own_way: Way) -> None:
    """The client gets a reset at once; both agents and the hub say why, where and of which connection."""
    way = own_way
    ready = await way.provider.line("agent.ready")
    established = await way.provider.line("session.established")
    assert way.provider.lines.index(established) < way.provider.lines.index(ready)
    host, port = way.server.address
    address = f"{host} port {port}"
    way.server.close()
    client = await TcpPeer.connect(way.address)
    assert await client.receive_all() == (b"", Ending.RST)
    client.close()
    line = await way.consumer.line("connection.refused", level="warning")
    assert "CONNECT_FAILED" in line["reason"]
    assert address in line["reason"]
    uid = line["connectionUid"]
    served = await way.provider.line("connection.refused", level="warning", connectionUid=uid)
    assert (served["code"], served["address"]) == ("CONNECT_FAILED", f"{host}:{port}")
    ended = await way.hub.line("endSpnConnection", level="warning", connectionUid=uid)
    assert (ended["codeName"], address in ended["reason"]) == ("CONNECT_FAILED", True)


async def test_provider_comes_later(site: Site) -> None:
    """The consumer's session is refused until there is a provider; its client is held meanwhile (D-27)."""
    site.service += 1
    with TcpServer() as listener:
        consumer = await site.consumer()
        assert "NO_PROVIDER" in (await consumer.line("session.failed"))["reason"]
        client = await TcpPeer.connect(await address_of(consumer))
        await client.send(b"early")
        await site.provider(listener.address)
        server = await listener.accept()
        assert await server.receive(5) == b"early"
        client.close()
        server.close()


async def test_hub_comes_later_and_again(tmp_path: Path) -> None:
    """Agents wait for their hub, and take a new session after it was killed."""
    site = Site(tmp_path)
    provider = await site.provider(("127.0.0.1", 9))
    await provider.line("session.failed")
    hub = await site.hub()
    await provider.line("session.established")
    mark = len(provider.lines)
    await hub.kill()
    await provider.line("session.lost", after=mark)
    await site.hub()
    await provider.line("session.established", after=mark)
    await site.close()


@pytest.mark.parametrize("role", ["provider", "consumer"])
async def test_not_allowed(site: Site, role: str) -> None:
    """A certificate that may not: status 1, with code name and reason in one line."""
    nowhere = ("127.0.0.1", 9)
    agent = await (site.provider(nowhere, "stranger") if role == "provider" else site.consumer("stranger"))
    assert await agent.end() == 1
    assert (agent.errors.count("\n"), agent.errors.startswith("spnagent: session refused, NOT_ALLOWED: ")) == (1, True)


async def test_wrong_certificate(site: Site, tmp_path: Path) -> None:
    """A certificate of another authority: status 1."""
    stranger = Site(tmp_path).environment("consumer")
    given = site.environment("consumer") | {name: stranger[name] for name in ("SPN_CERTIFICATE", "SPN_CERTIFICATE_KEY")}
    agent = await Program.start("spnagent", "consumer", environment=given | {"BIND_ADDRESS": "127.0.0.1:0"})
    assert await agent.end() == 1
    assert (agent.errors.count("\n"), "TLS alert" in agent.errors) == (1, True)


async def test_unusable_arguments(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each of them is status 2 and one line that names it."""

    async def run(environment: dict[str, str], *arguments: str) -> tuple[int, str]:
        for name in list(os.environ):
            if name.startswith("SPN") or name in {"BIND_ADDRESS", "FORWARD_ADDRESS"}:
                monkeypatch.delenv(name)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", ["spnagent", *arguments])
        # In the same process, which has everything imported; the signal handlers are those of another thread's loop.
        monkeypatch.setattr(signals, "taken", lambda *_: contextlib.nullcontext())
        status = await asyncio.to_thread(command.main)
        return status, capfd.readouterr().err

    given = site.environment("consumer") | {"BIND_ADDRESS": "127.0.0.1:0", "SPN_LOG_LEVEL": "error"}
    assert await run({}, "consumer") == (
        2,
        "spnagent: --hub-url is missing (environment: SPN_HUB_URL, or SPN_HUB_HOSTNAME)\n",
    )
    assert await run({}, "consumer", "--no-such") == (2, "spnagent: No such option: --no-such\n")
    status, line = await run({}, "provider", "--weight", "-1")
    assert (status, line.count("\n"), "--weight: -1 is not" in line) == (2, 1, True)
    status, line = await run(given | {"SPN_HUB_URL": "https://127.0.0.1:1"}, "consumer")
    assert (status, line.count("\n"), "names an address" in line) == (2, 1, True)
    older = {
        "SPN_HUB_HOSTNAME": "localhost",
        "SPN_AGENT_TRUST_CERTIFICATE_ROOT": given["SPN_TRUST"],
        "SPN_AGENT_CLIENT_CERTIFICATE": given["SPN_CERTIFICATE"],
        "SPN_AGENT_CLIENT_CERTIFICATE_KEY": given["SPN_CERTIFICATE_KEY"],
    }
    status, line = await run(older, "consumer")
    assert (status, line.count("\n"), line.startswith("spnagent: --service-urn is missing")) == (2, 1, True)
    assert await run(older | {"SPN_SERVICE_URN": "urn:x"}, "provider") == (
        2,
        "spnagent: --forward-address is missing (environment: FORWARD_ADDRESS)\n",
    )
    with TcpServer() as server:
        taken = f"127.0.0.1:{server.address[1]}"
        assert await run(given, "consumer", "--bind-address", taken) == (
            2,
            f"spnagent: --bind-address: {taken}: Address already in use\n",
        )


@pytest.mark.parametrize("role", ["provider", "consumer"])
async def test_sigterm_drains(own_way: Way, role: str) -> None:
    """Open connections end in their time, new ones are refused; then status 0."""
    way = own_way
    agent = way.provider if role == "provider" else way.consumer
    client, server = await way.pair()
    agent.send(signal.SIGTERM)
    assert (await agent.line("agent.stopping"))["connections"] == 1
    if role == "consumer":
        with pytest.raises(ConnectionRefusedError):
            await TcpPeer.connect(way.address)
    else:
        session = (await agent.line("session.established"))["spnSessionId"]
        await way.hub.line("weightChanged", spnSessionId=session)
        late = await TcpPeer.connect(way.address)
        assert await late.receive_all() == (b"", Ending.RST)
        late.close()
    await client.send(b"still here")
    client.finish()
    assert await server.receive_all() == (b"still here", Ending.FIN)
    server.close()
    assert await client.receive_all() == (b"", Ending.FIN)
    assert await agent.end() == 0
    assert await way.ended(port_of(client)) == {
        "totalSentBytes": 10,
        "totalReceiveBytes": 0,
        "disconnectReason": "closedByPeer",
    }
    client.close()


@pytest.mark.parametrize("signals", [[signal.SIGINT], [signal.SIGTERM, signal.SIGTERM]])
async def test_stops_at_once(own_way: Way, signals: list[signal.Signals]) -> None:
    """SIGINT, or a second SIGTERM: open connections are reset; status 0."""
    way = own_way
    client, server = await way.pair()
    for number in signals:
        way.consumer.send(number)
        await way.consumer.line("agent.stopping")
    assert await client.receive_all() == (b"", Ending.RST)
    assert await server.receive_all() == (b"", Ending.RST)
    assert await way.consumer.end() == 0
    client.close()
    server.close()
