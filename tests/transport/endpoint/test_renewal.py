"""Sessions that are renewed with other credentials, seen from the endpoint (D-38), and refusals about time (D-36)."""

from __future__ import annotations

import asyncio

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.packets import ResumeRequest, SessionRefusal, SessionRenewal, SessionRequest, SetWeight
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.api.consumer import ConsumerEndpoint, Pair, ProviderEndpoint
from spnhub.transport.endpoint.api.endpoint import Endpoint
from spnhub.transport.endpoint.session.credentials import LIBRARY_NAMES, Credentials
from spnhub.transport.endpoint.session.failures import rejected
from spnhub.transport.endpoint.session.hub_target import SessionChange
from spnhub.transport.endpoint.session.states import SessionState
from spnhub.transport.errors import HandshakeRejected, SessionRejected
from spnhub.transport.protocol import REQUIRED_KINDS
from tests.support.fake_engine import fake_certificate
from tests.transport.endpoint.conftest import CONSUMER, KEY, PROVIDER, TRUST, World, fake_judge
from tests.transport.endpoint.hub_script import HUB

S = SessionState
ROLES = {"consumer": EndPointType.CONSUMER, "provider": EndPointType.PROVIDER}


def credentials(certificate: bytes, key: bytes = b"another key", trust: bytes = TRUST) -> Credentials:
    """What is in the files now."""
    return fake_judge(certificate, key, trust, "hub.test", ("spn/1",), LIBRARY_NAMES)


def renew(endpoint: Endpoint, renewed: Credentials) -> None:
    """Have it find these."""
    endpoint.core.renew(renewed)
    endpoint.wake()


async def joined(world: World) -> tuple[ConsumerEndpoint, ProviderEndpoint, Pair, Pair]:
    """An endpoint of each role at one hub, and one connection."""
    provider, consumer = await world.provider(), await world.consumer()
    connecting = asyncio.ensure_future(consumer.connect())
    theirs = await (await provider.listen()).accept()
    ours = await connecting
    world.writers += (ours[1], theirs[1])
    return consumer, provider, ours, theirs


async def talk(ours: Pair, theirs: Pair, word: bytes) -> None:
    """One word each way."""
    for (_, writer), (reader, _) in ((ours, theirs), (theirs, ours)):
        writer.write(word)
        assert await reader.readexactly(len(word)) == word


@pytest.mark.parametrize("who", ["consumer", "provider", "both"])
@pytest.mark.parametrize("old_hub", [False, True], ids=["reads SessionRenewal", "doesn't"])
async def test_renewed(world: World, who: str, old_hub: bool) -> None:
    """A second session at the same hub, the connection in it, the first one closed; at an older hub superseded."""
    if old_hub:
        world.hub.ack_kinds = dict(REQUIRED_KINDS)
    changes: list[SessionChange] = []
    world.on_session = changes.append
    consumer, provider, ours, theirs = await joined(world)
    await asyncio.sleep(0)
    changes.clear()
    world.hub.packets.clear()
    before = set(world.hub.sessions)
    for endpoint, certificate in ((consumer, CONSUMER), (provider, PROVIDER)):
        if who in (type(endpoint).__name__.lower().removesuffix("endpoint"), "both"):
            renew(endpoint, credentials(certificate))
    ours[1].write(b"a" * 100_000)
    theirs[1].write(b"b" * 100_000)
    assert await theirs[0].readexactly(100_000) == b"a" * 100_000
    assert await ours[0].readexactly(100_000) == b"b" * 100_000
    await asyncio.sleep(5)
    renewed = 2 if who == "both" else 1
    assert (len(world.hub.sessions), len(before & set(world.hub.sessions))) == (2, 2 - renewed)
    assert world.hub.legs == 1
    assert consumer.sessions == provider.sessions == {HUB: S.ESTABLISHED}
    assert len(world.hub.control_packets(SessionRenewal)) == (0 if old_hub else renewed)
    requests = world.hub.control_packets(SessionRequest)
    assert [packet.brings_connections for _, packet in requests if isinstance(packet, SessionRequest)] == [
        True
    ] * renewed
    if not old_hub:
        assert [change.error for change in changes] == [None] * len(changes)
        codes = [one.outcome_a_to_b.code for one in world.hub.spliced]
        assert Code.MOVED in codes
        assert Code.PEER_LOST not in codes
    await talk(ours, theirs, b"after")


async def test_renewed_again_and_again(world: World) -> None:
    """Each time anew, also before the one before is through."""
    consumer, provider, ours, theirs = await joined(world)
    for number in range(6):
        renew(consumer, credentials(CONSUMER, b"%d" % number))
        renew(provider, credentials(PROVIDER, b"%d" % number))
        await asyncio.sleep(0.004 * number)
        await talk(ours, theirs, b"%d" % number)
    await asyncio.sleep(10)
    await talk(ours, theirs, b"last")
    assert len(world.hub.sessions) == 2
    for session in consumer.core.sessions():
        assert session.credentials == credentials(CONSUMER, b"5")


async def test_a_connection_that_is_being_opened(world: World) -> None:
    """It isn't begun anew: the provider's program would see two. It is finished where it was, then it moves."""
    provider, consumer = await world.provider(), await world.consumer()
    connecting = asyncio.ensure_future(consumer.connect())
    request = await provider.listen()
    renew(consumer, credentials(CONSUMER))
    await asyncio.sleep(3)
    assert len(world.hub.sessions) == 3
    theirs = await request.accept()
    ours = await connecting
    world.writers += (ours[1], theirs[1])
    assert len(world.hub.openings) == 1
    await asyncio.sleep(3)
    assert len(world.hub.sessions) == 2
    await talk(ours, theirs, b"moved")


@pytest.mark.parametrize("retryable", [False, True])
async def test_refused(world: World, retryable: bool) -> None:
    """The old session goes on, whatever the hub has against the new one; a retry is made where it can help."""
    consumer, _, ours, theirs = await joined(world)
    world.hub.refuse_renewals = SessionRefusal(Code.LIMIT if retryable else Code.NOT_ALLOWED, "no", retryable)
    renew(consumer, credentials(CONSUMER))
    await asyncio.sleep(60)
    await talk(ours, theirs, b"still")
    assert consumer.sessions == {HUB: S.ESTABLISHED}
    asked = len(world.hub.control_packets(SessionRequest)) - 2
    assert asked > 3 if retryable else asked == 1
    world.hub.refuse_renewals = None
    if not retryable:
        renew(consumer, credentials(CONSUMER, b"a third"))
    await asyncio.sleep(20)
    await talk(ours, theirs, b"renewed")
    assert len(world.hub.sessions) == 2
    assert any(isinstance(packet, ResumeRequest) for _, packet in world.hub.packets)


async def test_refused_by_tls(world: World) -> None:
    """A certificate of another CA: the old session goes on, and ends the endpoint only when it is lost."""
    consumer, _, ours, theirs = await joined(world)
    renew(consumer, credentials(fake_certificate("CN=consumer", "others")))
    await asyncio.sleep(30)
    await talk(ours, theirs, b"still")
    world.hub.close(world.hub.session(EndPointType.CONSUMER), Code.SHUTDOWN, "bye")
    with pytest.raises(HandshakeRejected):
        await consumer.wait_closed()


async def test_back_to_the_old_ones(world: World) -> None:
    """Files that were put back before anything came of it: there is nothing to do."""
    consumer, _, ours, theirs = await joined(world)
    before = set(world.hub.sessions)
    renew(consumer, credentials(CONSUMER))
    renew(consumer, credentials(CONSUMER, KEY))
    await asyncio.sleep(5)
    assert set(world.hub.sessions) == before
    await talk(ours, theirs, b"here")


async def test_the_old_session_is_lost_meanwhile(world: World) -> None:
    """The new one takes its place, and what was in the old one goes on there."""
    consumer, _, ours, theirs = await joined(world)
    world.hub.refuse_renewals = SessionRefusal(Code.LIMIT, "no", True)
    renew(consumer, credentials(CONSUMER))
    await asyncio.sleep(20)
    world.hub.refuse_renewals = None
    world.hub.close(world.hub.session(EndPointType.CONSUMER), Code.INTERNAL, "bye")
    await talk(ours, theirs, b"there")
    await asyncio.sleep(2)
    assert consumer.sessions == {HUB: S.ESTABLISHED}
    assert len(world.hub.sessions) == 2


async def test_another_subject(world: World) -> None:
    """Nobody else goes on with a connection: it stays, its session gets nothing new, and ends with it."""
    consumer, provider, ours, theirs = await joined(world)
    renew(provider, credentials(fake_certificate("CN=other", "clients")))
    await asyncio.sleep(20)
    assert len(world.hub.sessions) == 3
    assert [packet.weight for _, packet in world.hub.packets if isinstance(packet, SetWeight)] == [0]
    assert not world.hub.control_packets(SessionRenewal)
    await provider.set_weight(7)
    await asyncio.sleep(1)
    assert [packet.weight for _, packet in world.hub.packets if isinstance(packet, SetWeight)] == [0, 7]
    await talk(ours, theirs, b"here")
    for pair in (ours, theirs):
        pair[1].close()
    await asyncio.sleep(5)
    assert len(world.hub.sessions) == 2
    assert (consumer.connections, provider.connections) == (0, 0)


async def test_closing_meanwhile(world: World) -> None:
    """Nothing is left of either session."""
    consumer, provider, ours, theirs = await joined(world)
    world.hub.refuse_renewals = SessionRefusal(Code.LIMIT, "no", True)
    renew(consumer, credentials(CONSUMER))
    renew(provider, credentials(PROVIDER))
    await asyncio.sleep(3)
    for pair in (ours, theirs):
        pair[1].close()
    await asyncio.gather(consumer.aclose(), provider.aclose())
    await asyncio.sleep(2)
    assert world.hub.sessions == {}
    assert consumer.state is provider.state is S.CLOSED


async def test_who_waits_tries_again_at_once(world: World) -> None:
    """There is something new to be shown: the rest of the back-off is spared."""
    consumer = await world.consumer()
    world.hub.refusal = SessionRefusal(Code.LIMIT, "full", True)
    world.hub.close(world.hub.session(EndPointType.CONSUMER), Code.INTERNAL, "bye")
    await asyncio.sleep(60)
    world.hub.refusal = None
    assert consumer.sessions == {HUB: S.WAITING}
    renew(consumer, credentials(CONSUMER))
    await asyncio.sleep(0.1)
    assert consumer.sessions == {HUB: S.ESTABLISHED}


@pytest.mark.parametrize(
    ("alert", "by_hub", "reason", "near", "about_time"),
    [
        (45, True, "client certificate has expired at …", False, True),
        (45, False, "hub certificate is not valid before …", False, True),
        (42, True, "x509: certificate has expired or is not yet valid", False, True),
        (42, True, "bad certificate", True, True),
        (46, True, "", True, True),
        (42, True, "bad certificate", False, False),
        (42, False, "hub certificate does not cover x", True, False),
        (48, True, "unknown CA", True, False),
        (43, True, "", True, False),
        (116, True, "", True, False),
        (112, True, "unknown server name", True, False),
    ],
)
def test_what_is_about_time(alert: int, by_hub: bool, reason: str, near: bool, about_time: bool) -> None:
    """certificate_expired always; what other stacks say instead, where it may be; names, CAs and rights never."""
    error = rejected(alert, reason, "valid from …", near, by_hub=by_hub)
    assert (error.retryable, error.alert, error.by_hub) == (about_time, alert, by_hub)


async def test_a_first_session_without_patience(world: World) -> None:
    """The caller is told at once, and that a retry may help."""
    with pytest.raises(SessionRejected) as caught:
        world.hub.refusal = SessionRefusal(Code.EXPIRED, "has expired", True)
        await world.consumer()
    assert caught.value.retryable
