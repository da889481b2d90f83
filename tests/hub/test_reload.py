"""Reloads of a real hub under traffic: what is different takes effect, and nobody else notices (R-6.2, D-31)."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import QuicEvent
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.pki import Authority, IssuedCredentials
from tests.hub.reloading import Beat, Document, ReloadWorld, hub_of, service
from tests.inventory.documents import realm
from tests.support.aioquic_inside import peer_certificate
from tests.support.command import Command
from tests.support.crl import crl_of
from tests.support.tcp import Ending
from tests.support.world import free_udp_port

pytestmark = pytest.mark.system


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[ReloadWorld]:
    """A hub, a provider and a consumer of ``web``, with a connection."""
    async with ReloadWorld(tmp_path) as world:
        yield world


@pytest.mark.measured
async def test_services_come_and_go_beside_traffic(world: ReloadWorld) -> None:
    """1,000 added, then 1,000 removed: an established connection is never late by more than 100 ms."""
    server = world.serve()
    _, _, consumer = await world.start(server.address, "--ops", "127.0.0.1:0")
    world.write(world.document)
    beat = Beat(*await world.join(consumer, server))
    await world.state()  # what is loaded at first use, here and in the hub, is loaded
    usual = await beat.settle()

    def add(document: Document) -> None:
        hub_of(document)["services"] += [service(f"s{number}", "consumer") for number in range(1000)]

    def remove(document: Document) -> None:
        del hub_of(document)["services"][1:]

    world.change(add)
    added = await world.renew()
    while (await world.state())["sequence"] < added["sequence"] + 1000:
        await beat.settle(5)
    world.change(remove)
    removed = await world.renew()
    await beat.settle()
    longest = await beat.end()
    print(f"longest round: usually {usual * 1000:.1f} ms, with the reloads {longest * 1000:.1f} ms")
    # Other processes of this machine delay whom they like; a reload adds little to that (prove has the figure).
    assert longest < 0.4 + 3 * usual
    assert [added["servicesAdded"], removed["servicesRemoved"]] == [1000, 1000]
    assert await world.hub.stop() == 0
    kinds = [event["eventType"] for event in await world.events()]
    assert (kinds.count("serviceAdded"), kinds.count("serviceRemoved")) == (1001, 1000)


async def test_a_certificate_is_rotated_and_a_consumer_withdrawn(world: ReloadWorld) -> None:
    """The one who may no longer be there is cut with the reason; the others don't notice either change."""
    server = world.serve()
    world.change(lambda document: hub_of(document)["services"][0]["consumers"].append("guest"))
    _, _, consumer = await world.start(server.address)
    guest = await world.start_consumer(credentials=world.authority.client("guest"))
    beat = Beat(*await world.join(consumer, server))
    theirs, _ = await world.join(guest, server)
    renewed = world.authority.server("localhost")

    def change(document: Document) -> None:
        hub = hub_of(document)
        hub |= {"serverCert": renewed.certificate.decode(), "serverCertKey": renewed.key.decode()}
        hub["services"][0]["consumers"].remove("guest")

    world.change(change)
    applied = await world.renew()
    assert [applied[name] for name in ("networksChanged", "servicesChanged")] == [1, 1]
    ended = await world.hub.line("endSpnSession", spnEndPoint="CN=guest")
    assert (ended["terminateReason"], ended["totalConnectionCount"]) == ("shutdown", 1)
    assert (await theirs.receive_all())[1] is Ending.RST
    assert await guest.command.wait() == 1
    assert "WITHDRAWN: 'guest' may not be a serviceConsumer" in guest.command.errors[0]
    await beat.settle(20)
    await beat.end()
    assert await presented(world.host, world.port) == renewed.certificate
    assert len(world.hub.said("endSpnSession")) == 1
    (event,) = [one for one in await world.events() if one["eventType"] == "endSpnSession"]
    assert event["reason"] == "'guest' may not be a serviceConsumer of urn:chip-in:service:acme:main:web"


async def test_a_changed_ca_cuts_whom_it_does_not_vouch_for(world: ReloadWorld) -> None:
    """The realm trusts another CA beside the old one, then only that one."""
    server = world.serve()
    _, provider, consumer = await world.start(server.address)
    other = world.strangers

    def both(document: Document) -> None:
        document["realms"][0]["cacert"] += other.certificate.decode()

    def one(document: Document) -> None:
        document["realms"][0]["cacert"] = other.certificate.decode()

    world.change(both)
    await world.renew()
    newcomer = await world.start_provider(server.address, credentials=other.client("provider"))
    assert not world.hub.said("endSpnSession")
    world.change(one)
    await world.renew()
    await world.hub.wait_lines("endSpnSession", 2)
    assert await provider.wait() == await consumer.command.wait() == 1
    assert newcomer.running
    reasons = {event["reason"] for event in await world.events() if event["eventType"] == "endSpnSession"}
    assert len(reasons) == 1 and "client certificate" in reasons.pop()


async def test_what_is_revoked_is_cut(world: ReloadWorld) -> None:
    """A consumer's certificate by the CA's list, then the provider's by its serial number; neither comes back."""
    server = world.serve()
    world.change(lambda document: hub_of(document)["services"][0]["consumers"].append("guest"))
    revoked, mine = world.authority.client("guest"), world.authority.client("provider")
    await world.start_hub()
    provider = await world.start_provider(server.address, credentials=mine)
    guest, consumer = await world.start_consumer(credentials=revoked), await world.start_consumer()
    beat = Beat(*await world.join(consumer, server))
    theirs, _ = await world.join(guest, server)

    crl = crl_of(world.authority, {_serial(revoked): x509.ReasonFlags.key_compromise}, now=datetime.now(UTC))
    world.change(lambda document: document["realms"][0].update(crl=[crl.decode()]))
    applied = await world.renew()
    assert applied["realmsChanged"] == 1
    ended = await world.hub.line("endSpnSession", spnEndPoint="CN=guest")
    assert ended["totalConnectionCount"] == 1
    assert (await theirs.receive_all())[1] is Ending.RST
    assert await guest.command.wait() == 1
    assert "WITHDRAWN: client certificate: the certificate with serial" in guest.command.errors[0]
    again = await world.start_consumer(credentials=revoked, wait=False)
    assert await again.command.wait() == 1
    assert "TLS alert 44" in again.command.errors[0]
    await beat.settle(20)
    await beat.end()
    assert len(world.hub.said("endSpnSession")) == 1

    world.change(lambda document: document["realms"][0].update(revoked=[f"{_serial(mine):X}"]))
    await world.renew()
    await world.hub.line("endSpnSession", spnEndPoint="CN=provider")
    assert await provider.wait() == 1
    assert consumer.command.running
    reasons = [event["reason"] for event in await world.events() if event["eventType"] == "endSpnSession"]
    issuer = x509.load_pem_x509_certificate(world.authority.certificate).subject.rfc4514_string()
    assert f"serial {_serial(revoked):X} is revoked by {issuer} since" in reasons[0]
    assert reasons[1].endswith(f"serial {_serial(mine):X} is revoked by the inventory")


def _serial(credentials: IssuedCredentials) -> int:
    return x509.load_pem_x509_certificate(credentials.certificate).serial_number


async def test_a_port_moves_and_old_sessions_live_on(world: ReloadWorld) -> None:
    """Who is connected stays so, on the old port, where nobody new is answered; it goes with the last session."""
    server = world.serve()
    _, provider, consumer = await world.start(server.address)
    beat = Beat(*await world.join(consumer, server))
    old, world.port = world.port, free_udp_port(world.host)
    world.change(lambda document: hub_of(document).__setitem__("serverPort", world.port))
    assert (await world.renew())["networksChanged"] == 1
    newcomer = await world.start_consumer()
    again, behind = await world.join(newcomer, server)
    await again.send(b"by the new port")
    assert await behind.receive(15) == b"by the new port"
    await beat.settle(20)
    await beat.end()
    with pytest.raises(TimeoutError):
        await presented(world.host, old, timeout=1.0)
    assert not world.hub.said("endSpnSession") and not world.hub.said("listening.left")
    assert await consumer.command.stop() == await provider.stop() == 0
    await world.hub.line("listening.left")
    with socket.socket(socket.AF_INET6 if ":" in world.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((world.host, old))


async def test_a_socket_for_all_addresses_gives_way(world: ReloadWorld) -> None:
    """From one address to another on the same port and back, with a connection that lives through both."""
    server = world.serve()
    await world.start(server.address)
    # The world's hub has --bind; this one follows its inventory.
    assert await world.hub.stop() == 0
    world.hub = hub = await Command.start(
        "hub without --bind",
        *("spnhub", "-c", world.inventory_file.as_uri(), "--hub-id", "hub-1", "--journal", str(world.journal)),
    )
    world.hubs.append(hub)
    world.processes.append(hub)
    try:
        await hub.line("hub.ready")
        consumer = await world.start_consumer()
        beat = Beat(*await world.join(consumer, server))
        world.change(lambda document: hub_of(document).__setitem__("serverAddress", world.host))
        await world.renew()
        await beat.settle(20)
        world.change(lambda document: hub_of(document).pop("serverAddress"))
        await world.renew()
        await beat.settle(20)
        await beat.end()
        assert not hub.said("endSpnSession")
    finally:
        await hub.stop()


def broken() -> dict[str, Callable[[Document], object]]:
    """Ten inventories with a fault each, and a word of what must be said about it."""

    def web(document: Document) -> Document:
        one = hub_of(document)["services"][0]
        assert isinstance(one, dict)
        return one

    return {
        "realm acme: cacert is not a PEM": lambda d: d["realms"][0].update(cacert="none"),
        "realm acme: title is missing": lambda d: d["realms"][0].pop("title"),
        "realm acme: name is used more than once": lambda d: d["realms"].append(d["realms"][0]),
        "hub acme/main: fqdn is not a host name": lambda d: hub_of(d).update(fqdn="not a name"),
        "hub acme/main: serverCertKey does not belong": lambda d: hub_of(d).update(
            serverCertKey=Authority.create().server("x").key.decode()
        ),
        "hub acme/main: serverPort is above": lambda d: hub_of(d).update(serverPort=70_000),
        "service acme/main/web: provider is missing": lambda d: web(d).pop("provider"),
        "service acme/main/web: consumers is not an array": lambda d: web(d).update(consumers="consumer"),
        "service acme/main/web: availabilityManagement.startAt": lambda d: web(d).update(
            availabilityManagement={"clusterManagerUrn": "process:", "serviceId": "x", "startAt": "61 * * * ? *"}
        ),
        "realms is missing": lambda d: d.pop("realms"),
    }


async def test_ten_broken_inventories_change_nothing(world: ReloadWorld) -> None:
    """Each rejection names its fault, in the log and as an event; a connection lives through all of them."""
    server = world.serve()
    await world.start_hub("--ops", "127.0.0.1:0")
    await world.start_provider(server.address)
    consumer = await world.start_consumer()
    beat = Beat(*await world.join(consumer, server))
    sound, before = world.document, await world.state()
    for said, breaks in broken().items():
        world.write(sound)
        world.change(breaks)
        # Something sound is different too: it must not be applied.
        if "realms" in world.document:
            world.change(lambda document: document["realms"].append(realm("second")))
        rejected = await world.renew("rejected")
        assert said in rejected["reason"]
        assert world.hub.said("reload.fault")[-1]["fault"] == rejected["reason"]
    await beat.settle(20)
    await beat.end()
    after = await world.state()
    changing = ("time", "sequence", "writtenSequence", "run")
    assert {k: v for k, v in before.items() if k not in changing} == {
        k: v for k, v in after.items() if k not in changing
    }
    world.write(sound)
    applied = await world.renew()
    assert sum(value for name, value in applied.items() if name.endswith(("Added", "Changed", "Removed"))) == 0
    assert await world.hub.stop() == 0
    events = [event for event in await world.events() if event["eventType"] == "inventoryRejected"]
    assert [event["faultCount"] for event in events] == [1] * 10
    assert all(said in event["faults"][0] for said, event in zip(broken(), events, strict=True))


async def test_a_port_that_is_taken_rejects_the_reload(world: ReloadWorld) -> None:
    """Nothing of the inventory is applied when one address can't be bound."""
    await world.start_hub()
    with socket.socket(socket.AF_INET6 if ":" in world.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((world.host, 0))
        taken = sock.getsockname()[1]

        def change(document: Document) -> None:
            hub = hub_of(document)
            more = hub | {"name": "second", "fqdn": "second.test", "serverPort": taken}
            document["realms"][0]["hubs"].append(more)
            hub["services"].append(service("more", "consumer"))

        world.change(change)
        rejected = await world.renew("rejected")
        assert "urn:chip-in:network:acme:second: cannot bind" in rejected["reason"]
    applied = await world.renew()
    assert (applied["networksAdded"], applied["servicesAdded"]) == (1, 3)


async def test_an_inventory_that_is_away_rejects_the_reload(world: ReloadWorld) -> None:
    """Over HTTP: refused while it is away, applied when it is back."""
    url = await world.serve_inventory()
    inventory = world.processes[-1]
    await world.start_hub(inventory=url)
    assert await inventory.stop() == 0
    assert "/realms: " in (await world.renew("rejected"))["reason"]


async def test_signals_in_a_row_are_one_more_reload(world: ReloadWorld) -> None:
    """Those that come during a reload are done as one after it."""
    await world.start_hub()
    for _ in range(20):
        world.hub.send_signal(signal.SIGUSR1)
    await world.hub.line("reload.applied")
    assert await world.hub.stop() == 0
    assert 1 <= len(world.hub.said("reload.applied")) < 20


async def presented(host: str, port: int, timeout: float = 10.0) -> bytes:
    """The server certificate (PEM) that a hub shows to whoever asks.

    :raises TimeoutError: nobody answers.
    """
    shown: list[bytes] = []
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=["spn/1"], verify_mode=ssl.CERT_NONE, server_name="localhost"
    )

    class Client(QuicConnectionProtocol):
        def quic_event_received(self, event: QuicEvent) -> None:
            certificate = peer_certificate(self)
            if certificate is not None and not shown:
                shown.append(certificate.public_bytes(Encoding.PEM))

    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(timeout):
            async with connect(host, port, configuration=configuration, create_protocol=Client) as client:
                await client.wait_closed()
    return shown[0]
