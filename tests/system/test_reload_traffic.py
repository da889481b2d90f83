"""Reload under traffic (R-6.2, D-31): who isn't concerned notices nothing; a faulty inventory changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from spnhub import HandshakeRejected, SessionRejected
from spnhub.actors.contract.codes import Code
from tests.support.command import Line
from tests.support.tcp import TcpPeer, TcpServer
from tests.support.world import Consumer, Document, World, service_document
from tests.system.sizes import report, sizes

pytestmark = pytest.mark.measured

_BEAT = struct.Struct("!Qd48x")
"""Number and time of sending."""
_EVERY = 0.01
"""Seconds between two beats of one connection."""


@dataclass(slots=True)
class Pulse:
    """A steady echo on one connection: when each beat was sent, and how long it took to come back, seconds."""

    client: TcpPeer
    beats: list[tuple[float, float]] = field(default_factory=list)
    sent: int = 0
    stopped: bool = False

    async def send(self) -> None:
        due = time.monotonic()
        while not self.stopped:
            await self.client.send(_BEAT.pack(self.sent, time.monotonic()))
            self.sent += 1
            due = max(due + _EVERY, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
        self.client.finish()

    async def receive(self) -> None:
        """Take every beat; what comes is what was sent, in order, and then the end."""
        for number in range(10**9):
            try:
                data = await self.client.receive(_BEAT.size)
            except EOFError:
                assert (self.stopped, number) == (True, self.sent)
                return
            seen, sent_at = _BEAT.unpack(data)
            assert seen == number
            self.beats.append((sent_at, time.monotonic() - sent_at))

    def slowest(self, begin: float, end: float) -> float:
        """The longest that a beat of this time has taken."""
        return max(took for sent_at, took in self.beats if begin <= sent_at < end)


@contextlib.asynccontextmanager
async def pulsing(world: World, consumer: Consumer, server: TcpServer, count: int) -> AsyncIterator[list[Pulse]]:
    """So many connections with a steady echo; at the end every byte must have come back."""

    async def echo(peer: TcpPeer) -> None:
        loop = asyncio.get_running_loop()
        while piece := await loop.sock_recv(peer.sock, 65536):
            await peer.send(piece)
        peer.finish()

    async with asyncio.TaskGroup() as group:
        pulses = []
        for _ in range(count):
            client, peer = await world.join(consumer, server)
            pulses.append(Pulse(client))
            group.create_task(echo(peer))
            group.create_task(pulses[-1].send())
            group.create_task(pulses[-1].receive())
        yield pulses
        for pulse in pulses:
            pulse.stopped = True


def slowest(pulses: list[Pulse], begin: float, end: float) -> float:
    """Of all connections."""
    return max(pulse.slowest(begin, end) for pulse in pulses)


def services(prefix: str, count: int) -> list[Document]:
    """Services that nobody uses."""
    return [service_document(f"{prefix}-{n}") for n in range(count)]


# The small size shares the machine with other tests.
@sizes("count, connections, seconds, late", (200, 4, 3.0, 0.4), (1000, 8, 10.0, 0.1), minutes=10)
async def test_reload_under_traffic(world: World, count: int, connections: int, seconds: float, late: float) -> None:
    """Services added, as many removed, a certificate rotated, a consumer withdrawn: only the withdrawn one notices."""
    network = world.network()
    network["services"] += services("old", count)
    world.service()["consumers"].append("leaver")
    world.write_inventory()
    server = world.serve()
    hub, _, consumer = await world.start(server.address)
    leaver = await world.consumer_endpoint(credentials=world.authority.client("leaver"))
    leaving = await leaver.connect_stream()
    other_end = await world.accept(server)
    text = _changed(world, count)

    with pytest.raises(HandshakeRejected):
        await world.consumer_endpoint(trust=world.strangers.certificate)
    async with pulsing(world, consumer, server, connections) as pulses:
        await asyncio.sleep(0.5)
        begin = time.monotonic()
        await asyncio.sleep(seconds)
        reload = time.monotonic()
        applied = await world.reload(text)
        await leaver.wait_ended()
        applied_at = time.monotonic()
        await asyncio.sleep(max(1.0, seconds - (applied_at - reload)))
        end = time.monotonic()
    undisturbed, disturbed = slowest(pulses, begin, reload), slowest(pulses, reload, end)
    report(
        services=count,
        undisturbed=f"{undisturbed * 1000:.1f} ms",
        reload=f"{disturbed * 1000:.1f} ms",
        decided_in=f"{hub.said('reload.decided')[0]['seconds']:.2f} s",
        done_in=f"{applied_at - reload:.2f} s",
        beats=sum(pulse.sent for pulse in pulses),
    )
    assert disturbed <= max(late, 3 * undisturbed)
    differences = {name: applied[name] for name in ("servicesAdded", "servicesChanged", "servicesRemoved")}
    assert differences == {"servicesAdded": count, "servicesChanged": 1, "servicesRemoved": count}
    assert applied["networksChanged"] == 1

    # The withdrawn one: its connection and session are over, its reason is said, and it doesn't come back.
    with pytest.raises(SessionRejected) as refusal:
        await leaver.wait_closed()
    assert refusal.value.code == Code.WITHDRAWN
    assert leaving.read(1) is None
    assert (await other_end.receive_all())[0] == b""
    await _check_newcomers(world)
    assert len(hub.said("endSpnSession", spnSessionId=leaver.session_id, terminateReason="shutdown")) == 1
    await world.end()
    _check_log(await world.events(), count)


def _changed(world: World, count: int) -> str:
    """The inventory as it is read anew: other services, another certificate of the hub, one consumer less."""
    network = world.network()
    network["services"] = [world.service(), *services("new", count)]
    world.service()["consumers"].remove("leaver")
    # Signed by another authority: an endpoint that trusts only that one sees whether the new certificate is shown.
    rotated = world.strangers.server("localhost")
    network["serverCert"], network["serverCertKey"] = rotated.certificate.decode(), rotated.key.decode()
    return json.dumps({"realms": world.realms})


async def _check_newcomers(world: World) -> None:
    """New sessions are shown the new certificate, and the withdrawn consumer gets none."""
    with pytest.raises(SessionRejected) as refusal:
        await world.consumer_endpoint(credentials=world.authority.client("leaver"), trust=world.strangers.certificate)
    assert refusal.value.code == Code.NOT_ALLOWED
    with pytest.raises(HandshakeRejected):
        await world.consumer_endpoint()
    newcomer = await world.consumer_endpoint(trust=world.strangers.certificate)
    await newcomer.close()


def _check_log(events: list[Line], count: int) -> None:
    """Each difference is an event, and each end that it brought has its reason."""
    kinds = [event["eventType"] for event in events]
    assert (kinds.count("serviceRemoved"), kinds.count("serviceChanged")) == (count, 1)
    cut = [event for event in events if event.get("code") == Code.WITHDRAWN]
    assert [(event["eventType"], bool(event["reason"])) for event in cut] == [
        ("endSpnConnection", True),
        ("endSpnSession", True),
    ]


def _broken_inventories(world: World, taken_port: int) -> list[tuple[str, Callable[[Document], object], str, str]]:
    """What is wrong, how it is done to the document, and what the hub must name: where, and what."""

    def network(document: Document) -> Document:
        found: Document = document["realms"][0]["hubs"][0]
        return found

    def service(document: Document) -> Document:
        found: Document = network(document)["services"][0]
        return found

    def another_hub(document: Document, **fields: Any) -> None:
        hubs = document["realms"][0]["hubs"]
        hubs.append({**hubs[0], "services": [], **fields})

    foreign = world.authority.server("localhost").key.decode()
    management = {"clusterManagerUrn": "process:", "serviceId": "web"}
    return [
        ("field missing", lambda d: service(d).pop("provider"), "service acme/main/web", "provider"),
        ("wrong type", lambda d: service(d).update(consumers="consumer"), "service acme/main/web", "consumers"),
        ("CA is no PEM", lambda d: d["realms"][0].update(cacert="nonsense"), "realm acme", "cacert"),
        ("key of another", lambda d: network(d).update(serverCertKey=foreign), "hub acme/main", "serverCertKey"),
        ("port", lambda d: network(d).update(serverPort=70000), "hub acme/main", "serverPort"),
        ("fqdn is an address", lambda d: network(d).update(fqdn="127.0.0.1"), "hub acme/main", "fqdn"),
        ("name twice", lambda d: network(d)["services"].append(service(d)), "service acme/main/web", "name"),
        ("fqdn twice", lambda d: another_hub(d, name="other"), "hub acme/other", "fqdn"),
        ("reserved realm", lambda d: d["realms"][0].update(name="master"), "realm master", "name"),
        ("no such time", lambda d: d["realms"][0].update(expiredAt="tomorrow"), "realm acme", "expiredAt"),
        (
            "cluster manager",
            lambda d: service(d).update(availabilityManagement=management | {"clusterManagerUrn": "ships:"}),
            "service acme/main/web",
            "clusterManagerUrn",
        ),
        (
            "command that isn't allowed",
            lambda d: service(d).update(availabilityManagement=management | {"command": "true"}),
            "service acme/main/web",
            "--allow-process",
        ),
        (
            "schedule",
            lambda d: service(d).update(availabilityManagement=management | {"startAt": "0 25 ? * * *"}),
            "service acme/main/web",
            "startAt",
        ),
        (
            "port that is taken",
            lambda d: another_hub(d, name="other", serverPort=taken_port),
            "urn:chip-in:network:acme:other",
            "cannot bind",
        ),
    ]


async def test_broken_inventories_change_nothing(world: World) -> None:
    """Each has one fault, which is named; definitions, sessions and traffic stay as they were."""
    server = world.serve()
    hub, _, consumer = await world.start(server.address)
    with socket.socket(socket.AF_INET6 if ":" in world.host else socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((world.host, 0))
        broken = _broken_inventories(world, taken.getsockname()[1])
        async with pulsing(world, consumer, server, 2) as pulses:
            before = await world.events()
            for what, harm, where, named in broken:
                document = json.loads(json.dumps({"realms": world.realms}))
                harm(document)
                world.inventory_file.write_text(json.dumps(document))
                (fault,) = await world.reload_refused()
                assert where in fault, what
                assert named in fault, what
            for text, named in (("realms: [{", "not"), ('{"realms": 7}', "realms")):
                world.inventory_file.write_text(text)
                (fault,) = await world.reload_refused()
                assert named in fault
            assert all(pulse.beats[-1][0] > time.monotonic() - 1 for pulse in pulses)
            # A newcomer gets in, and what it was told after is written (D-6).
            newcomer = await world.consumer_endpoint()
            await newcomer.close()
            after = await world.events()
            # Not one thing is different, and every refusal is in the log with what was said.
            assert after[: len(before)] == before
            new = [
                event
                for event in after[len(before) :]
                if not event["eventType"].endswith(("SpnConnection", "SpnSession"))
            ]
            assert {event["eventType"] for event in new} == {"inventoryRejected"}
            said = [line["fault"] for line in hub.said("reload.fault")]
            assert [fault for event in new for fault in event["faults"]] == said
            assert len(new) == len(broken) + 2
            # As it was: the good inventory has nothing to change.
            applied = await world.reload()
            assert {
                name: value for name, value in applied.items() if name.endswith(("Added", "Changed", "Removed"))
            } == {
                f"{kind}{change}": 0
                for kind in ("realms", "networks", "services")
                for change in ("Added", "Changed", "Removed")
            }
    errors = ("reload.fault", "reload.rejected")
    await world.end(hub_errors=errors)
