"""Realms apart (D-33): two on one port, told apart by SNI, with the same names throughout; and one of them flooded."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Sequence

import pytest

from spnhub import ConsumerEndpoint, HandshakeRejected, ProviderEndpoint, SessionRejected
from spnhub.actors.contract.codes import Code
from spnhub.pki import Authority, IssuedCredentials
from spnhub.transport.endpoint.session.states import SessionState
from tests.support.command import Command, Line
from tests.support.flood import Flood
from tests.support.herd import Herd
from tests.support.tcp import TcpPeer
from tests.support.world import World, service_document
from tests.system.sizes import KIB, MIB, report, sizes

pytestmark = pytest.mark.measured

_BETA, _BETA_FQDN = "beta", "beta.test"
_UNKNOWN_CA, _DECRYPT_ERROR, _UNRECOGNIZED_NAME = 48, 51, 112


def add_beta(world: World, name: str) -> Authority:
    """A second realm on the same port that has the same names; its CA is called ``name``."""
    authority = Authority.create(name)
    world.add_realm(_BETA, _BETA_FQDN, authority)["hubs"][0]["services"].append(service_document("web"))
    world.write_inventory()
    return authority


async def refusal(attempt: Awaitable[object]) -> tuple[str, int]:
    """How an attempt to get a session was refused: by TLS with an alert, or by the hub with a code."""
    try:
        await attempt
    except HandshakeRejected as exc:
        return "hub's alert" if exc.by_hub else "our alert", exc.alert
    except SessionRejected as exc:
        return "code", exc.code
    raise AssertionError("it was let in")


async def answer_with(provider: ProviderEndpoint, name: bytes) -> None:
    """Take one connection and say who this is."""
    request = await provider.listen()
    _, writer = await request.accept()
    writer.write(name)
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("ca", ["SPN Hub development CA", "another name"], ids=["same-ca-name", "other-ca-name"])
async def test_crossed_credentials(world: World, ca: str) -> None:
    """Network, service, subjects (and the CA's name) are the same on both sides; nothing of one opens the other."""
    beta = add_beta(world, ca)
    hub = await world.start_hub()
    consumer, provider = beta.client("consumer"), beta.client("provider")
    crossed = {
        # Beta's certificate at acme's name, whatever service it asks for; and the other way round.
        "beta's at acme": world.consumer_endpoint(credentials=consumer),
        "beta's provider at acme": world.provider_endpoint(credentials=provider),
        "beta's at acme for beta's": world.consumer_endpoint(credentials=consumer, realm=_BETA),
        "acme's at beta": world.consumer_endpoint(fqdn=_BETA_FQDN, trust=beta.certificate, realm=_BETA),
        "acme's provider at beta": world.provider_endpoint(fqdn=_BETA_FQDN, trust=beta.certificate, realm=_BETA),
        # The right certificate for the name, and the service of the other realm.
        "acme's for beta's": world.provider_endpoint(realm=_BETA),
        "beta's for acme's": world.provider_endpoint(credentials=provider, fqdn=_BETA_FQDN, trust=beta.certificate),
        # Whoever trusts acme's CA only doesn't take beta's server for acme's.
        "beta's server": world.consumer_endpoint(fqdn=_BETA_FQDN, realm=_BETA),
        "nobody's name": world.consumer_endpoint(fqdn="gamma.test"),
    }
    refused = {name: await refusal(attempt) for name, attempt in crossed.items()}
    # A chain that ends at a CA of the right name and the wrong key is as good as none.
    foreign = {("hub's alert", _UNKNOWN_CA), ("hub's alert", _DECRYPT_ERROR)}
    report(ca=ca, **{name.replace(" ", "_"): value for name, value in refused.items()})
    for name in list(crossed)[:5]:
        assert refused[name] in foreign, name
    assert refused["acme's for beta's"] == refused["beta's for acme's"] == ("code", Code.UNKNOWN_SERVICE)
    assert refused["beta's server"][0] == "our alert"
    assert refused["nobody's name"] == ("hub's alert", _UNRECOGNIZED_NAME)
    assert hub.said("startSpnSession") == []

    await _serve_side_by_side(world, beta)
    lines = await world.end()
    assert {(line["realm"], line["networkUrn"], line["eventType"].startswith("start")) for line in lines} == {
        (realm, f"urn:chip-in:network:{realm}:main", start) for realm in ("acme", _BETA) for start in (True, False)
    }
    _check_refusals(world, [event for event in await world.events() if event["eventType"] == "sessionRefused"])
    assert world.authority.certificate != beta.certificate


async def _serve_side_by_side(world: World, beta: Authority) -> None:
    """Each realm's consumer gets its own provider's answer."""
    consumer, provider = beta.client("consumer"), beta.client("provider")
    ours = await world.provider_endpoint()
    theirs = await world.provider_endpoint(credentials=provider, fqdn=_BETA_FQDN, trust=beta.certificate, realm=_BETA)
    our_consumer = await world.consumer_endpoint()
    their_consumer = await world.consumer_endpoint(
        credentials=consumer, fqdn=_BETA_FQDN, trust=beta.certificate, realm=_BETA
    )
    ends: list[tuple[ConsumerEndpoint, ProviderEndpoint, bytes]] = [
        (our_consumer, ours, b"acme"),
        (their_consumer, theirs, b"beta"),
    ]
    for asking, providing, answer in ends:
        answering = asyncio.ensure_future(answer_with(providing, answer))
        reader, writer = await asking.connect()
        assert await reader.read() == answer
        await answering
        writer.close()
        await writer.wait_closed()
    for asking, providing, _ in ends:
        await asking.aclose()
        await providing.aclose()


def _check_refusals(world: World, refusals: Sequence[Line]) -> None:
    """Each is in the log of the realm whose name was called, with the reason."""
    seen = sorted(
        (event["realm"] or "", event["serverName"] or "") for event in refusals for _ in range(event["count"])
    )
    report(refusals=seen)
    by_code = sorted((event["realm"], event["serviceUrn"]) for event in refusals if event["code"] is not None)
    assert by_code == [("acme", world.urn(realm=_BETA)), (_BETA, world.urn())]
    by_alert = [event for event in refusals if event["alert"] is not None]
    assert {(event["realm"], event["serverName"]) for event in by_alert} >= {
        ("acme", "localhost"),
        (_BETA, _BETA_FQDN),
    }
    assert {event["serverName"] for event in refusals if event["realm"] is None} <= {"gamma.test", None}
    assert sum(event["count"] for event in by_alert if event["realm"] == "acme") == 3


# ---- overload --------------------------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def flooding(world: World, beta: Authority) -> AsyncIterator[Command]:
    """Meanwhile beta gets handshakes, good ones, bad ones and beginnings, as many as the sender can make."""

    def text(credentials: IssuedCredentials) -> tuple[str, str]:
        return credentials.certificate.decode(), credentials.key.decode()

    flood = Flood(
        host=world.host,
        port=world.port,
        fqdn=_BETA_FQDN,
        service_urn=world.urn(realm=_BETA),
        trust=beta.certificate.decode(),
        good=text(beta.client("consumer")),
        bad=text(world.strangers.client("consumer")),
    )
    program = await world.start_program("flood", *flood.arguments())
    await program.line("flood.begun")
    yield program
    assert await program.stop() == 0


async def echo_times(client: TcpPeer, seconds: float) -> list[float]:
    """Round trips of a small message, one after the other, about a hundred a second; sorted."""
    times = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        await client.send(b"ping")
        assert await client.receive(4) == b"ping"
        times.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    return sorted(times)


async def throughput(downloads: Sequence[TcpPeer], seconds: float) -> float:
    """Bytes that arrive at all of them, per second."""
    before, began = sum(client.received for client in downloads), time.monotonic()
    await asyncio.sleep(seconds)
    return (sum(client.received for client in downloads) - before) / (time.monotonic() - began)


async def echo(peer: TcpPeer) -> None:
    """Send back what comes."""
    with contextlib.suppress(EOFError):
        while True:
            await peer.send(await peer.receive(4))


async def pour(peer: TcpPeer) -> None:
    """Send without end."""
    with contextlib.suppress(OSError):
        while True:
            await peer.send(bytes(64 * KIB))


async def drink(client: TcpPeer) -> None:
    """Receive without end."""
    with contextlib.suppress(OSError):
        while True:
            await client.receive(64 * KIB)


@sizes("seconds, downloads, echo_bound", (2.5, 2, 1.0), (20.0, 8, 0.25), minutes=10)
async def test_flood_of_another_realm(world: World, seconds: float, downloads: int, echo_bound: float) -> None:
    """While beta is flooded with handshakes, acme's connections keep half of their throughput, and their echo."""
    beta = add_beta(world, "beta's")
    server = world.serve()
    hub, _, consumer = await world.start(server.address)
    # So that the good ones are let in.
    provider = await world.provider_endpoint(
        credentials=beta.client("provider"), fqdn=_BETA_FQDN, trust=beta.certificate, realm=_BETA
    )
    client, peer = await world.join(consumer, server)
    answering = asyncio.ensure_future(echo(peer))
    undisturbed = await echo_times(client, seconds)

    quiet, during = list[float](), list[float]()
    async with flooding(world, beta) as flood:
        flooded = await echo_times(client, seconds)
        pairs = [await world.join(consumer, server) for _ in range(downloads)]
        tasks = [asyncio.ensure_future(pour(end)) for _, end in pairs]
        tasks += [asyncio.ensure_future(drink(one)) for one, _ in pairs]
        # In turns: what else the machine does is beside both.
        for _ in range(8):
            for rates, number in ((quiet, signal.SIGSTOP), (during, signal.SIGCONT)):
                flood.send_signal(number)
                await throughput([one for one, _ in pairs], seconds / 16)
                rates.append(await throughput([one for one, _ in pairs], seconds / 4))
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one, end in pairs:
            one.reset()
            end.reset()
    sessions_before_end = [line for line in hub.said("endSpnSession") if line["realm"] == "acme"]
    did = {name: count for name, count in flood.lines[-1].items() if name != "event"}
    p99, quiet_p99 = (times[len(times) * 99 // 100] for times in (flooded, undisturbed))
    report(
        quiet=f"{statistics.mean(quiet) / MIB:.1f} MiB/s",
        during=f"{statistics.mean(during) / MIB:.1f} MiB/s",
        p99_undisturbed=f"{quiet_p99 * 1000:.1f} ms",
        p99_flooded=f"{p99 * 1000:.1f} ms",
        slowest_flooded=f"{flooded[-1] * 1000:.1f} ms",
        **{name.replace(" ", "_").replace(",", ""): count for name, count in did.items()},
    )
    assert sessions_before_end == []
    assert did["first packets"] > 100
    # Half of what the same connections have without the flood.
    assert statistics.mean(during) >= statistics.mean(quiet) / 2
    # On a machine that is busy with other things the echo has not that without the flood either.
    assert p99 < max(echo_bound, 3 * quiet_p99)
    answering.cancel()
    await provider.close()
    report(stalls=[line["stalledSeconds"] for line in hub.said("journalStalled")])
    # A disk that others keep busy may stall the journal (D-6); that is said, and costs no connection.
    await world.end(hub_errors=("journalStalled",))
    events = await world.events()
    # Handshakes; a session request may meet the hub's stop in any realm.
    refused = [event for event in events if event["eventType"] == "sessionRefused" and event["code"] is None]
    # Beyond so many kinds of refusals at once the rest share an event without a realm (D-13).
    assert {event["realm"] for event in refused} <= {_BETA, None}


@sizes("processes, endpoints", (2, 30), (5, 100), minutes=10)
async def test_herd_of_returning_endpoints(world: World, processes: int, endpoints: int) -> None:
    """All come at the same moment and all get in; meanwhile no established session is lost, busy or quiet."""
    server = world.serve()
    # A session whose keep-alives aren't answered for 6 s is lost before the herd is through.
    hub, _, consumer = await world.start(server.address, "--idle-timeout", "6", "--keep-alive", "1.5")
    quiet = [await world.consumer_endpoint() for _ in range(5)]
    client, peer = await world.join(consumer, server)
    answering = asyncio.ensure_future(echo(peer))
    established = {line["spnSessionId"] for line in await hub.wait_lines("startSpnSession", 7)}
    assert len(established) == 7
    mine = world.authority.client("consumer")
    herd = Herd(
        host=world.host,
        url=world.url,
        service_urn=world.urn(),
        certificate=mine.certificate.decode(),
        key=mine.key.decode(),
        trust=world.authority.certificate.decode(),
        endpoints=endpoints,
    )
    programs = [await world.start_program(f"herd {n}", *herd.arguments()) for n in range(processes)]
    await asyncio.gather(*(program.line("herd.ready") for program in programs))
    undisturbed = await echo_times(client, 2)
    cpu = hub.cpu
    for program in programs:
        program.send_signal(signal.SIGUSR1)
    times: list[float] = []
    while not all(program.said("herd.in") for program in programs):
        assert all(program.running for program in programs)
        times += await echo_times(client, 0.2)
    cpu = hub.cpu - cpu
    # As long again as it takes to notice a loss.
    times += await echo_times(client, 7)
    times.sort()
    report(
        endpoints=processes * endpoints,
        all_in=f"{max(program.said('herd.in')[0]['seconds'] for program in programs):.1f} s",
        hub_cpu=f"{cpu:.1f} s",
        undisturbed_p99=f"{undisturbed[len(undisturbed) * 99 // 100] * 1000:.0f} ms",
        echo_p99=f"{times[len(times) * 99 // 100] * 1000:.0f} ms",
        slowest_echo=f"{times[-1] * 1000:.0f} ms",
        sessions=len(hub.said("startSpnSession")),
    )
    lost = {line["spnSessionId"] for line in hub.said("endSpnSession")}
    assert established & lost == set()
    assert {endpoint.session_id for endpoint in quiet} <= established
    assert all(endpoint.state is SessionState.ESTABLISHED for endpoint in quiet)
    answering.cancel()
    await asyncio.gather(*(endpoint.close() for endpoint in quiet))
    await world.end()
