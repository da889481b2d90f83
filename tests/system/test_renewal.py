"""Certificates that are renewed while agents run (D-38), and clocks that are wrong for a while (D-36)."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from spnhub.pki import IssuedCredentials
from tests.support.command import Command, Line
from tests.support.tcp import Ending, TcpPeer
from tests.support.world import World

pytestmark = pytest.mark.system

EAGER = {"SPN_CERTIFICATE_INTERVAL": "0.2"}


def files(command: Command, world: World) -> tuple[Path, Path]:
    """Certificate and key of an agent."""
    return world.folder / f"{command.name}.pem", world.folder / f"{command.name}.key"


def replace(file: Path, content: bytes) -> None:
    """As certificate managers do."""
    (file.parent / "next").write_bytes(content)
    (file.parent / "next").replace(file)


def takes_hangup(command: Command) -> bool:
    """The interpreter itself has begun to run the agent: a SIGHUP waits, or is caught."""
    status = Path(f"/proc/{command.pid}/status").read_text()
    taken = [int(status.partition(name)[2].split()[0], 16) for name in ("SigBlk:", "SigCgt:")]
    return bool((taken[0] | taken[1]) & 1 << signal.SIGHUP - 1)


def warnings(command: Command) -> list[Line]:
    """But for a consumer that was quicker than its provider at the beginning."""
    found = [line for line in command.lines if line.get("level") == "warning"]
    return [line for line in found if "NO_PROVIDER" not in str(line.get("reason"))]


async def echo(client: TcpPeer, served: TcpPeer) -> None:
    """A connection works."""
    await client.send(b"there")
    assert await served.receive(5) == b"there"
    await served.send(b"back")
    assert await client.receive(4) == b"back"


def renew(command: Command, world: World, credentials: IssuedCredentials) -> None:
    """Another pair of files, key first."""
    certificate, key = files(command, world)
    replace(key, credentials.key)
    replace(certificate, credentials.certificate)


@pytest.mark.parametrize(
    "both", [pytest.param(False, marks=pytest.mark.prove), True], ids=["one after the other", "both at once"]
)
async def test_a_connection_goes_on_in_a_renewed_session(world: World, both: bool) -> None:
    """Single hub, bytes under way both ways: none is lost, and all ends in order, the old sessions and each leg."""
    server = world.serve()
    _, provider, consumer = await world.start(server.address, env=EAGER)
    agents = {"provider": provider, "consumer": consumer.command}
    client, served = await world.join(consumer, server)
    running = True

    async def talk(one: TcpPeer, other: TcpPeer, seed: int) -> None:
        source = random.Random(seed)
        while running:
            data = source.randbytes(100_000)
            await one.send(data)
            assert await other.receive(len(data)) == data

    talks = [asyncio.ensure_future(talk(client, served, 1)), asyncio.ensure_future(talk(served, client, 2))]
    if both:
        for role, command in agents.items():
            renew(command, world, world.authority.client(role))
    for role, command in agents.items():
        if not both:
            renew(command, world, world.authority.client(role))
        await command.line("certificate.renewed")
        await command.line("session.established", nth=2)
        await command.line("session.closed")
    running = False
    await asyncio.gather(*talks)
    client.finish()
    assert await served.receive_all() == (b"", Ending.FIN)
    served.finish()
    assert await client.receive_all() == (b"", Ending.FIN)
    for command in agents.values():
        assert warnings(command) == []
    lines = await world.end()
    legs = [line["disconnectReason"] for line in lines if line["eventType"] == "endSpnConnection"]
    assert len(legs) >= 2
    # Where both move, one's request in its new session may overtake the end of its leg in the old one: the other leaves
    # that leg because it is invited.
    assert set(legs) <= ({"closedByPeer", "error"} if both else {"closedByPeer"})
    assert legs[-1] == "closedByPeer"
    sessions = [line["terminateReason"] for line in lines if line["eventType"] == "endSpnSession"]
    assert len(sessions) == 4
    assert set(sessions) == {"terminatedByPeer"}


async def test_what_is_half_written_is_waited_for(world: World) -> None:
    """Told once each; the old stays in use, also for new sessions, until certificate and key belong together."""
    server = world.serve()
    hub, provider, consumer = await world.start(server.address, env=EAGER)
    client, served = await world.join(consumer, server)
    certificate, _ = files(provider, world)
    old, new = certificate.read_bytes(), world.authority.client("provider")

    replace(certificate, new.certificate)
    line = await provider.line("certificate.unusable")
    assert line["reason"] == "--certificate-key doesn't belong to the certificate of --certificate"
    replace(certificate, new.certificate[:300])
    await provider.line("certificate.unusable", reason="--certificate holds a PEM block that is cut short")
    replace(certificate, b"")
    await provider.line("certificate.unusable", reason=f"--certificate: {str(certificate)!r} holds no PEM")
    certificate.unlink()
    missing = f"--certificate: {str(certificate)!r} is neither PEM text nor a readable file: No such file or directory"
    await provider.line("certificate.unusable", reason=missing)
    os.mkfifo(certificate)
    reason = f"--certificate: {str(certificate)!r} is no regular file any more"
    await provider.line("certificate.unusable", reason=reason)
    await echo(client, served)
    certificate.unlink()
    await provider.line("certificate.unusable", nth=2, reason=missing)

    await hub.kill()
    await world.start_hub()
    await provider.line("session.established", nth=2)
    await consumer.command.line("session.established", nth=2)
    await echo(client, served)
    assert provider.said("certificate.renewed") == []
    assert len(provider.said("certificate.unusable")) == 6
    replace(certificate, old)
    await provider.line("certificate.usable")
    renew(provider, world, new)
    await provider.line("certificate.renewed")
    await provider.line("session.established", nth=3)
    await echo(client, served)
    client.close()
    await world.end()


async def test_a_folder_that_is_swapped(world: World) -> None:
    """As Kubernetes does: the files are links through a link, which is replaced."""
    folder = world.folder / "secret"
    for number, who in enumerate((world.authority.client("provider"), world.authority.client("provider"))):
        version = folder / f"..{number}"
        version.mkdir(parents=True)
        (version / "tls.crt").write_bytes(who.certificate)
        (version / "tls.key").write_bytes(who.key)
    (folder / "..data").symlink_to("..0")
    for name in ("tls.crt", "tls.key"):
        (folder / name).symlink_to(f"..data/{name}")
    server = world.serve()
    await world.start_hub()
    paths = {"SPN_CERTIFICATE": str(folder / "tls.crt"), "SPN_CERTIFICATE_KEY": str(folder / "tls.key")}
    provider = await world.start_provider(server.address, env=EAGER | paths)
    (folder / "next").symlink_to("..1")
    (folder / "next").replace(folder / "..data")
    await provider.line("session.established", nth=2)
    await provider.line("session.closed")
    assert warnings(provider) == []
    await world.end()


async def test_hangup_reads_at_once(world: World) -> None:
    """Long before the files would be looked at by themselves; and as often as anybody likes, from the start on."""
    server = world.serve()
    await world.start_hub()
    starting, sent = asyncio.ensure_future(world.start_provider(server.address)), 0
    while not starting.done():
        await asyncio.sleep(0.01)
        for process in world.processes[1:]:
            if takes_hangup(process):
                process.send_signal(signal.SIGHUP)
                sent += 1
    provider = await starting
    assert sent > 1, "from before its session on"
    provider.send_signal(signal.SIGHUP)
    await provider.line("agent.reloading")
    renew(provider, world, world.authority.client("provider"))
    provider.send_signal(signal.SIGHUP)
    await provider.line("certificate.renewed", timeout=5.0)
    await provider.line("session.established", nth=2, timeout=5.0)
    await world.end()


@pytest.mark.prove
async def test_a_singleton_is_renewed(world: World) -> None:
    """It takes its own place; somebody else would be refused."""
    world.service()["singleton"] = True
    world.write_inventory()
    server = world.serve()
    _, provider, consumer = await world.start(server.address, env=EAGER)
    client, served = await world.join(consumer, server)
    renew(provider, world, world.authority.client("provider"))
    await provider.line("session.closed")
    assert warnings(provider) == []
    await echo(client, served)
    other, other_served = await world.join(consumer, server)
    await echo(other, other_served)
    client.close()
    other.close()
    await world.end()


@pytest.mark.prove
async def test_another_subject_is_somebody_else(world: World) -> None:
    """What is open stays with the old certificate, what is new comes with the new one."""
    server = world.serve()
    _, provider, consumer = await world.start(server.address, env=EAGER)
    client, served = await world.join(consumer, server)
    renew(provider, world, world.authority.client("provider", organization="Another"))
    await provider.line("session.established", nth=2)
    await provider.line("session.closing")
    for _ in range(3):
        other, other_served = await world.join(consumer, server)
        await echo(other, other_served)
        other.close()
    await echo(client, served)
    assert provider.said("session.closed") == []
    client.finish()
    served.finish()
    await provider.line("session.closed")
    await world.end()


async def test_a_certificate_that_expires_and_its_successor_late(world: World) -> None:
    """The session ends at its end, the agent tries on, and the connection goes on as soon as there is another."""
    server = world.serve()
    await world.start_hub()
    provider = await world.start_provider(server.address)
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=6)
    short = world.authority.client("consumer", begin=end - timedelta(seconds=30), end=end)
    consumer = await world.start_consumer(credentials=short, env=EAGER)
    command = consumer.command
    client, served = await world.join(consumer, server)
    await echo(client, served)
    await command.line("certificate.expiring")
    lost = await command.line("session.lost")
    assert "EXPIRED: client certificate has expired at" in lost["reason"]
    refused = await command.line("session.failed", nth=len(command.said("session.failed")) + 1)
    assert "the hub refused us (TLS alert 45): client certificate has expired" in refused["reason"]
    assert "the hub's clock says" in refused["reason"]
    assert "what was presented: CN=consumer, valid from" in refused["reason"]
    renew(command, world, world.authority.client("consumer"))
    await command.line("session.established", nth=2)
    await echo(client, served)
    assert command.said("certificate.expiring")[-1]["reason"].endswith("has expired by the clock here")
    assert provider.running
    client.close()
    await world.end()


@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
async def test_a_clock_that_is_wrong_for_a_while(world: World, late: bool) -> None:
    """The hub's certificate and the agent's are an hour off: tried again and told once, until they aren't."""
    now = datetime.now(UTC)
    begin, end = (now - timedelta(days=1), now - timedelta(hours=1)) if late else (now + timedelta(hours=1), None)
    wrong = world.authority.server("localhost", begin=begin, end=end)
    right = world.network()["serverCert"], world.network()["serverCertKey"]
    world.network().update(serverCert=wrong.certificate.decode(), serverCertKey=wrong.key.decode())
    world.write_inventory()
    server = world.serve()
    await world.start_hub()
    mine = world.authority.client("provider", begin=begin, end=end)
    provider = await world.start_provider(server.address, credentials=mine, wait=False, env=EAGER)
    said = "has expired at" if late else "is not valid before"
    failed = await provider.line("session.failed")
    assert failed["reason"].startswith(f"we refused the hub's certificate (TLS alert 45): hub certificate {said}")
    world.network().update(serverCert=right[0], serverCertKey=right[1])
    await world.reload()
    failed = await provider.line("session.failed", nth=2)
    assert failed["reason"].startswith(f"the hub refused us (TLS alert 45): client certificate {said}")
    renew(provider, world, world.authority.client("provider"))
    await provider.line("session.established")
    assert len(provider.said("session.failed")) == 2
    await world.end()
