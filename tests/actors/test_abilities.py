"""Endpoints whose protocol can do less: no name of a service, no resume, no second try (sc01)."""

from __future__ import annotations

from typing import Any

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AbortConnection,
    CloseSession,
    OpenProviderStream,
    RefuseConnection,
    RefuseSession,
    ReportProviderStopped,
    SendPacket,
    StartService,
)
from spnhub.actors.contract.definitions import Availability
from spnhub.actors.contract.inputs import (
    BytesCarried,
    Key,
    LoadInventory,
    ProviderAccepted,
    ProviderRejected,
    ProviderStreamOpened,
    ProviderWanted,
    SessionUnresponsive,
    StartFailed,
    StartSucceeded,
    StopHub,
    StopSucceeded,
)
from spnhub.actors.contract.inventory import NO_NAME
from spnhub.actors.contract.packets import PauseRequest
from spnhub.actors.contract.protocols import SC01, abilities, is_resumable, one_leg_instance
from spnhub.actors.system import ActorOptions
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionPaused,
    ConnectionRefused,
    EndPointType,
    ProviderFailed,
    ProviderRecovered,
    SessionEnded,
    SessionRefused,
    SessionStarted,
)
from tests.actors.harness import (
    CONSUMER,
    LOST,
    NETWORK,
    OTHER_SERVICE,
    PROVIDER,
    SERVICE,
    Bench,
    cut,
    inventory,
    open_request,
    request,
    sent,
    service,
)

BOTH = pytest.mark.parametrize("old", [CONSUMER, PROVIDER])


def old(session: int, role: EndPointType = CONSUMER, **changes: Any) -> Any:
    """A session request as the transport makes it for sc01."""
    instance = one_leg_instance(f"s{session}")
    return request(session, role, **{"protocol": SC01, "service_urn": "", "instance_id": instance} | changes)


def bench_with(old_role: EndPointType, **options: Any) -> tuple[Bench, Key]:
    """A connection whose one end is of sc01."""
    bench = Bench(options=ActorOptions(**options), services=(service(),))
    for session, role in ((1, PROVIDER), (2, CONSUMER)):
        bench.hub(old(session, role) if role is old_role else request(session, role))
    return bench, bench.joined()


def test_only_sc01_can_do_less() -> None:
    """What is unknown counts as spn/1, as in recordings of other versions."""
    assert abilities("spn/1") == abilities("spn/2") != abilities(SC01)
    assert is_resumable("") and is_resumable("sc01") and not is_resumable(one_leg_instance("x"))


@pytest.mark.parametrize("role", [CONSUMER, PROVIDER])
def test_the_common_name_says_which_service(role: EndPointType) -> None:
    """It has to be one, and only where the protocol has no word for it."""
    other = service(OTHER_SERVICE, provider="another", consumers=frozenset({"third"}))
    bench = Bench(services=(service(), other))
    events, _ = bench.hub(old(1, role))
    (started,) = events
    assert isinstance(started, SessionStarted) and (started.service_urn, started.protocol) == (SERVICE, SC01)
    events, commands = bench.hub(old(2, role, common_name="nobody"))
    reason = f"'nobody' may not be a {role} of any service of {NETWORK}"
    assert commands == [RefuseSession(2, Code.NOT_ALLOWED, reason)]
    assert isinstance(events[0], SessionRefused) and events[0].service_urn is None
    _, commands = bench.hub(old(3, role, common_name=""))
    assert commands == [RefuseSession(3, Code.NOT_ALLOWED, NO_NAME)]
    _, commands = bench.hub(request(4, role, service_urn=""))
    assert isinstance(commands[0], RefuseSession) and commands[0].code is Code.UNKNOWN_SERVICE


def test_two_services_are_no_answer() -> None:
    """To guess would send bytes to a wrong server. When one is left, there is nothing to guess."""
    bench = Bench(services=(service(), service(OTHER_SERVICE)))
    _, commands = bench.hub(old(1, PROVIDER))
    assert isinstance(commands[0], RefuseSession)
    assert commands[0].reason.endswith(f"of 2 services, and sc01 doesn't say which: {SERVICE}, {OTHER_SERVICE}")
    bench.hub(inventory(service()))
    bench.step(1.0)
    assert isinstance(bench.hub(old(2, PROVIDER))[0][0], SessionStarted)


@BOTH
def test_the_loss_of_an_end_is_the_end(old: EndPointType) -> None:
    """Nothing is suspended, and no code is said that would make the other end wait."""
    for lost in (1, 2):
        bench, key = bench_with(old)
        _, commands = bench.session(lost, LOST)
        assert commands == [AbortConnection(key, Code.PEER_RESET)]
        events, _ = bench.connection(key, cut(code=Code.PEER_LOST))
        assert not [one for one in events if isinstance(one, ConnectionPaused)]
        (end,) = [one for one in events if isinstance(one, ConnectionEnded)]
        assert (end.suspended, end.code) == (False, Code.PEER_LOST)


@BOTH
def test_a_stall_is_survived(old: EndPointType) -> None:
    """An unresponsive provider gets nothing new, and keeps what can't go on elsewhere (D-20)."""
    bench, _ = bench_with(old)
    _, commands = bench.session(1, SessionUnresponsive())
    assert commands == []
    assert not [one for one in bench.log if isinstance(one.event, ConnectionEnded)]


@BOTH
def test_no_pause(old: EndPointType) -> None:
    """A resumable shutdown leaves it alone until its time is over."""
    bench, key = bench_with(old)
    _, commands = bench.hub(StopHub(resumable=True))
    assert sent(commands, PauseRequest) == []
    _, commands = bench.step(19.0)
    assert [one for one in commands if isinstance(one, AbortConnection)] == []
    _, commands = bench.step(2.0)
    assert AbortConnection(key, Code.SHUTDOWN) in commands


def test_an_opening_waits_as_long_as_it_may() -> None:
    """Whatever becomes of the attempts to start the service meanwhile."""
    availability = Availability("urn:cluster", "web", start_on_payload=True)
    bench = Bench(services=(service(availability=availability),))
    bench.hub(old(2))
    bench.hub(request(3))
    _, commands = bench.session(2, open_request(0))
    assert isinstance(commands[0], StartService)
    bench.session(3, open_request(4))
    _, commands = bench.hub(StartFailed(SERVICE, "no such image", retryable=False))
    assert [one.connection for one in commands if isinstance(one, RefuseConnection)] == [Key(3, 4)]
    _, commands = bench.step(599.0)
    assert not [one for one in commands if isinstance(one, RefuseConnection)]
    _, commands = bench.step(2.0)
    (refusal,) = [one for one in commands if isinstance(one, RefuseConnection)]
    assert (refusal.connection, refusal.code) == (Key(2, 0), Code.NO_PROVIDER)


def test_a_session_ends_when_nobody_comes() -> None:
    """The time counts from the last provider; with a connection, or a service that may be started, it goes on."""
    bench = Bench(services=(service(),), options=ActorOptions(provider_patience=100.0))
    bench.hub(old(2))
    bench.step(99.0)
    bench.provider(1)
    bench.step(500.0)
    events, _ = bench.session(1, LOST)
    assert isinstance(events[0], SessionEnded)
    assert bench.step(99.0)[1] == []
    events, commands = bench.step(1.0)
    assert commands == [CloseSession(2, Code.NO_PROVIDER, "no provider has come within 100 s")]
    bench.assert_empty()


def test_a_startable_service_keeps_its_consumers() -> None:
    """There is always a provider for those who want one."""
    availability = Availability("urn:cluster", "web", start_on_payload=True)
    bench = Bench(services=(service(availability=availability),), options=ActorOptions(provider_patience=100.0))
    bench.hub(old(2))
    assert bench.step(1000.0) == ([], [])
    bench.hub(LoadInventory(inventory(service()).realms))
    bench.step(1.0)
    assert [one for one in bench.step(201.0)[1] if isinstance(one, CloseSession)]


def test_a_wish_starts_the_service() -> None:
    """It counts like an opening that waits; a provider's counts for nothing, nor one for a service that is there."""
    availability = Availability("urn:cluster", "web", start_on_payload=True, idle_timeout=60.0)
    bench = Bench(services=(service(availability=availability),))
    bench.hub(old(2))
    bench.hub(request(3))
    _, commands = bench.session(2, ProviderWanted())
    assert [one.reason for one in commands if isinstance(one, StartService)] == ["payload"]
    _, commands = bench.hub(StartFailed(SERVICE, "busy", retryable=True))
    _, commands = bench.step(12.0)
    assert [type(one) for one in commands] == [StartService]
    bench.hub(StartSucceeded(SERVICE))
    bench.hub(old(1, PROVIDER))
    assert bench.session(2, ProviderWanted()) == ([], [])
    assert bench.session(1, ProviderWanted()) == ([], [])
    bench.step(61.0)
    _, commands = bench.hub(StopSucceeded(SERVICE))
    assert [one for one in commands if not isinstance(one, CloseSession | SendPacket)] == [ReportProviderStopped(2)]


def test_a_wish_for_what_nobody_starts() -> None:
    """Nothing comes of it."""
    bench = Bench(services=(service(),))
    bench.hub(old(2))
    assert bench.session(2, ProviderWanted()) == ([], [])


def test_a_provider_whose_server_is_down_is_passed_over() -> None:
    """It can't say no, so its resets say it: it gets one connection at a time, until one of them has had an answer."""
    bench = Bench(services=(service(),))
    for session in (1, 3):
        bench.hub(old(session, PROVIDER))
    bench.hub(old(2))

    def open_one(stream: int) -> tuple[int, Key]:
        _, commands = bench.session(2, open_request(stream))
        (asked,) = [one for one in commands if isinstance(one, OpenProviderStream)]
        bench.connection(asked.connection, ProviderStreamOpened(stream + 1))
        bench.connection(asked.connection, ProviderAccepted())
        return asked.provider, asked.connection

    provider, key = open_one(0)
    events, _ = bench.connection(key, cut(0, 0, code=Code.CONNECT_FAILED))
    (failed,) = [one for one in events if isinstance(one, ProviderFailed)]
    assert (provider, failed.spn_session_id, failed.failures) == (1, "s1", 1)
    # It has the fewest connections, and would get them all.
    kept = [open_one(stream) for stream in (4, 8, 12)]
    assert {one for one, _ in kept} == {3}
    bench.step(1.1)
    provider, key = open_one(16)
    assert (provider, open_one(20)[0]) == (1, 3)
    events, _ = bench.connection(key, cut(5, 0, code=Code.CONNECT_FAILED))
    assert [one.failures for one in events if isinstance(one, ProviderFailed)] == [2]
    bench.step(1.1)
    assert open_one(24)[0] == 3
    bench.step(1.0)
    provider, key = open_one(28)
    assert provider == 1
    events, _ = bench.connection(key, BytesCarried(5, 7))
    assert [one.spn_session_id for one in events if isinstance(one, ProviderRecovered)] == ["s1"]
    assert open_one(32)[0] == 1
    # What is reset after an answer is the application's affair, and so is what the consumer resets.
    events, _ = bench.connection(key, cut(5, 7, code=Code.CONNECT_FAILED))
    assert not [one for one in events if isinstance(one, ProviderFailed)]
    assert not bench.raised


def test_a_refused_opening_is_refused() -> None:
    """A provider's own no isn't waited out."""
    bench = Bench(services=(service(),))
    bench.hub(old(2))
    bench.provider(1)
    key = bench.connecting()
    events, commands = bench.connection(key, ProviderRejected(Code.NOT_ALLOWED, "no"))
    assert [type(one) for one in commands] == [RefuseConnection]
    assert not [one for one in events if isinstance(one, ConnectionRefused)]
