"""Services that are started and stopped (D-27, D-29): on load, for a consumer, at first payload, by the clock, idle."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AbortConnection,
    AcceptSession,
    CloseSession,
    ForgetConnection,
    OpenProviderStream,
    RefuseConnection,
    RefuseSession,
    ReportHubStopped,
    SendPacket,
    StartService,
    StopService,
)
from spnhub.actors.contract.definitions import Availability
from spnhub.actors.contract.inputs import (
    ConsumerAborted,
    Key,
    LoadInventory,
    ScheduleDue,
    ServiceExited,
    SessionAnswered,
    SessionUnresponsive,
    StartFailed,
    StartSucceeded,
    StopFailed,
    StopHub,
    StopSucceeded,
)
from spnhub.actors.contract.packets import CloseAck, SetWeight
from spnhub.actors.system import ActorOptions
from spnhub.events import model
from spnhub.events.state.definitions import InstancePhase
from tests.actors.harness import (
    LEFT,
    NETWORK,
    PROVIDER,
    REALM,
    SERVICE,
    SHUTDOWN,
    Bench,
    answer,
    ask,
    fins,
    inventory,
    open_request,
    refused,
    request,
    service,
    session_ended,
    session_refused,
    session_started,
)

WHERE: dict[str, Any] = {"realm": REALM, "network_urn": NETWORK, "service_urn": SERVICE}
ON_LOAD = Availability("docker:", "web", start_on_load=True)
ON_CONSUMER = Availability("docker:", "web", start_on_consumer=True, idle_timeout=60.0)
ON_PAYLOAD = Availability("docker:", "web", start_on_payload=True, idle_timeout=60.0)
KEY = Key(2, 0)


def wanted(reason: str, attempt: int = 1) -> model.Event:
    return model.ServiceStartRequested(**WHERE, reason=reason, attempt=attempt)


def failed(reason: str, attempt: int = 1, *, will_retry: bool) -> model.Event:
    return model.ServiceStartFailed(**WHERE, reason=reason, attempt=attempt, will_retry=will_retry)


def bench_of(availability: Availability | None, **options: Any) -> Bench:
    return Bench(ActorOptions(**options), services=(service(availability=availability),))


def phase(bench: Bench) -> InstancePhase | None:
    found = bench.fold.definitions.instances.get(SERVICE)
    return None if found is None else found.phase


@pytest.fixture
def bench() -> Bench:
    """Started at first payload, stopped after a minute; a consumer's session 2 is there already."""
    bench = bench_of(ON_PAYLOAD)
    bench.consumer(2)
    return bench


def waiting(bench: Bench, stream: int = 0) -> Key:
    """An opening that waits."""
    events, commands = bench.session(2, open_request(stream))
    assert not [event for event in events if isinstance(event, model.ConnectionRefused)]
    assert all(isinstance(command, StartService) for command in commands)
    return Key(2, stream)


def running(bench: Bench, provider: int = 1) -> None:
    """It has been started and its provider has come; a connection is joined and over again."""
    key = waiting(bench)
    bench.hub(StartSucceeded(SERVICE))
    bench.provider(provider)
    bench.connection(key, ConsumerAborted(0))


# Starts ---------------------------------------------------------------------------------------------------------------


def test_started_at_load() -> None:
    """Without an on-demand start (R-6.2): at once, once; a consumer is refused until the provider is there."""
    bench = Bench(services=())
    events, commands = bench.hub(inventory(service(availability=ON_LOAD)))
    assert (events[-1], commands) == (wanted("load"), [StartService(SERVICE, "load", ON_LOAD)])
    asked = request(2)
    reason = f"{SERVICE} has no provider now"
    assert bench.hub(asked) == (
        [session_refused(asked, Code.NO_PROVIDER, reason)],
        [RefuseSession(2, Code.NO_PROVIDER, reason)],
    )
    bench.step(2.5)
    assert bench.hub(StartSucceeded(SERVICE)) == ([model.ServiceStarted(**WHERE, latency=2.5)], [])
    assert phase(bench) is InstancePhase.RUNNING
    assert bench.hub(inventory(service(availability=ON_LOAD))) == (
        [model.InventoryLoaded(realm=None, network_urn=None, initial=False)],
        [],
    )
    bench.provider(1)
    bench.session(1, LEFT)
    assert bench.step(600.0) == ([], [])


def test_started_for_a_consumer() -> None:
    """Its session is accepted without a provider, and starts the service; a second one starts nothing more."""
    bench = bench_of(ON_CONSUMER)
    asked = request(2)
    assert bench.hub(asked) == (
        [session_started(asked), wanted("consumer")],
        [AcceptSession(2, "s2"), StartService(SERVICE, "consumer", ON_CONSUMER)],
    )
    assert bench.hub(request(3))[1] == [AcceptSession(3, "s3")]
    assert waiting(bench) == KEY
    bench.hub(StartSucceeded(SERVICE))
    came = request(1, PROVIDER)
    assert bench.hub(came) == (
        [session_started(came)],
        [AcceptSession(1, "s1"), OpenProviderStream(KEY, 1, "CN=client")],
    )


def test_started_at_first_payload(bench: Bench) -> None:
    """A consumer's session alone starts nothing; its opening does, waits, and is served, in order with others."""
    assert bench.session(2, open_request()) == (
        [wanted("payload")],
        [StartService(SERVICE, "payload", ON_PAYLOAD)],
    )
    waiting(bench, 4)
    waiting(bench, 8)
    bench.step(20.0)
    assert bench.hub(StartSucceeded(SERVICE)) == ([model.ServiceStarted(**WHERE, latency=20.0)], [])
    assert bench.hub(request(1, PROVIDER))[1] == [
        AcceptSession(1, "s1"),
        *[OpenProviderStream(Key(2, stream), 1, "CN=client") for stream in (0, 4, 8)],
    ]
    assert bench.step(15.0)[1][0] == RefuseConnection(KEY, Code.CONNECT_TIMEOUT, "the provider did not answer in time")


def test_provider_before_the_manager_reports(bench: Bench) -> None:
    """Who is there is used, whatever the cluster manager says later."""
    waiting(bench)
    assert bench.hub(request(1, PROVIDER))[1][1:] == [OpenProviderStream(KEY, 1, "CN=client")]
    bench.hub(StartSucceeded(SERVICE))
    assert bench.session(2, open_request(4))[1] == [OpenProviderStream(Key(2, 4), 1, "CN=client")]


def test_waiting_is_bounded_in_time(bench: Bench) -> None:
    """An opening that waits for too long is refused with a reason, retryably."""
    waiting(bench)
    assert bench.step(29.9) == ([], [])
    reason = "the service was not there in time"
    assert bench.step(0.1) == (
        [refused(Code.START_FAILED, reason)],
        [RefuseConnection(KEY, Code.START_FAILED, reason)],
    )
    bench.hub(request(1, PROVIDER))
    assert bench.system.residents() == ({1, 2}, set())


def test_waiting_is_bounded_in_number() -> None:
    """More than so many are refused, naming the bound."""
    bench = bench_of(ON_PAYLOAD, waiting_openings=2)
    bench.consumer(2)
    waiting(bench, 0)
    waiting(bench, 4)
    reason = f"2 connections wait for {SERVICE} to be started"
    assert bench.session(2, open_request(8)) == (
        [refused(Code.LIMIT, reason, stream=8)],
        [RefuseConnection(Key(2, 8), Code.LIMIT, reason)],
    )


def test_consumer_gives_up(bench: Bench) -> None:
    """Its stream reset, closed, or its session gone: it doesn't wait any more."""
    first, second, third = waiting(bench, 0), waiting(bench, 4), waiting(bench, 8)
    assert bench.connection(first, ConsumerAborted(34)) == (
        [refused(Code.PEER_RESET, "the consumer gave up")],
        [AbortConnection(first, Code.PEER_RESET), ForgetConnection(first)],
    )
    assert bench.session(2, ask(4, finished=False))[1] == [
        AbortConnection(second, Code.CLOSE_REQUESTED),
        SendPacket(2, CloseAck("uid4", 0)),
        ForgetConnection(second),
    ]
    events, _ = bench.session(2, LEFT)
    assert events[0] == refused(Code.PEER_LOST, "the endpoint closed its session", stream=8)
    assert bench.hub(request(1, PROVIDER))[1] == [AcceptSession(1, "s1")]
    assert third not in bench.system.residents()[1]


def test_start_fails_for_good(bench: Bench) -> None:
    """Who waits is told why; the next opening starts it again, after the interval."""
    waiting(bench)
    reason = f"{SERVICE} could not be started: no such image"
    assert bench.hub(StartFailed(SERVICE, "no such image", retryable=False)) == (
        [failed("no such image", will_retry=False), refused(Code.START_FAILED, reason)],
        [RefuseConnection(KEY, Code.START_FAILED, reason)],
    )
    assert phase(bench) is None
    assert bench.session(2, open_request(4)) == ([], [])
    assert bench.step(9.9) == ([], [])
    assert bench.step(0.1) == ([wanted("payload")], [StartService(SERVICE, "payload", ON_PAYLOAD)])


def test_start_is_retried_while_somebody_waits(bench: Bench) -> None:
    """At the interval or later; the last failure is named when the time is over, and then it ends."""
    waiting(bench)
    start = StartService(SERVICE, "payload", ON_PAYLOAD)
    assert bench.hub(StartFailed(SERVICE, "busy", retryable=True))[0] == [failed("busy", will_retry=True)]
    assert phase(bench) is InstancePhase.STARTING
    assert bench.step(10.0) == ([wanted("payload", 2)], [start])
    bench.hub(StartFailed(SERVICE, "still busy", retryable=True))
    assert bench.step(10.0) == ([wanted("payload", 3)], [start])
    bench.hub(StartFailed(SERVICE, "still busy", retryable=True))
    reason = "the service was not there in time: still busy"
    events, commands = bench.step(10.0)
    assert events[0] == refused(Code.START_FAILED, reason)
    assert commands[0] == RefuseConnection(KEY, Code.START_FAILED, reason)
    bench.step(10.0)
    assert bench.system.timer() is None
    assert phase(bench) is None
    assert bench.log[-1].event == failed("nobody waits for it any more; still busy", 3, will_retry=False)


def test_start_at_load_is_retried_ever_later() -> None:
    """Without end, between half of the doubled time and all of it, never more often than the interval."""
    bench = bench_of(ON_LOAD)
    times = []
    for attempt in range(1, 14):
        bench.hub(StartFailed(SERVICE, "away", retryable=True))
        begin = bench.now
        while bench.log[-1].event != wanted("load", attempt + 1):
            timer = bench.system.timer()
            assert timer is not None
            bench.step(timer - bench.now)
        times.append(bench.now - begin)
    for attempt, waited in enumerate(times, 1):
        most = min(2.0 ** (attempt - 1), 300.0)
        assert max(10.0, most / 2) - 0.01 <= waited <= max(10.0, most) + 0.01


def test_manager_that_never_answers(bench: Bench) -> None:
    """That counts as a failure; its late answer counts, too."""
    waiting(bench)
    bench.step(100.0)
    waiting(bench, 4)
    assert bench.step(20.0) == ([failed("no answer of the cluster manager in 120 s", will_retry=True)], [])
    assert bench.hub(StartSucceeded(SERVICE)) == ([model.ServiceStarted(**WHERE, latency=120.0)], [])


def test_answers_that_nobody_waits_for(bench: Bench) -> None:
    """They are ignored."""
    for message in (
        StartSucceeded(SERVICE),
        StartFailed(SERVICE, "no", retryable=True),
        StopSucceeded(SERVICE),
        StopFailed(SERVICE, "no"),
        StartSucceeded("urn:x"),
    ):
        assert bench.hub(message) == ([], [])


def test_provider_that_never_comes(bench: Bench) -> None:
    """A service that was started takes its time; then it is started again."""
    waiting(bench)
    bench.hub(StartSucceeded(SERVICE))
    bench.step(29.0)
    waiting(bench, 4)
    bench.step(1.0)
    assert bench.session(2, open_request(8)) == ([wanted("payload")], [StartService(SERVICE, "payload", ON_PAYLOAD)])


def test_service_that_exits_before_its_provider_came(bench: Bench) -> None:
    """The start has failed, with that reason, and is tried again while somebody waits; the last reason is told."""
    key = waiting(bench)
    bench.hub(StartSucceeded(SERVICE))
    events, commands = bench.hub(ServiceExited(SERVICE, "exited with status 1"))
    assert (events, commands) == ([failed("exited with status 1", will_retry=True)], [])
    assert bench.step(10.0) == ([wanted("payload", 2)], [StartService(SERVICE, "payload", ON_PAYLOAD)])
    bench.hub(StartSucceeded(SERVICE))
    bench.hub(ServiceExited(SERVICE, "exited with status 1"))
    _, commands = bench.step(20.0)
    refusals = [command for command in commands if isinstance(command, RefuseConnection)]
    assert [(refusal.connection, refusal.code) for refusal in refusals] == [(key, Code.START_FAILED)]
    assert "exited with status 1" in refusals[0].reason


def test_service_that_exits_later(bench: Bench) -> None:
    """It has stopped; the next connection starts it again."""
    running(bench)
    events, commands = bench.hub(ServiceExited(SERVICE, "exited with status 0"))
    assert (events, commands) == ([model.ServiceStopped(**WHERE, reason="exited with status 0")], [])
    assert phase(bench) is None


def test_provider_that_is_lost(bench: Bench) -> None:
    """The next opening starts the service again, not more often than the interval."""
    running(bench)
    bench.session(1, LEFT)
    assert bench.session(2, open_request(4)) == ([], [])
    assert bench.step(10.0) == ([wanted("payload")], [StartService(SERVICE, "payload", ON_PAYLOAD)])


def test_provider_that_is_lost_while_openings_wait(bench: Bench) -> None:
    """They wait for the next one, which is started."""
    running(bench)
    bench.step(20.0)
    bench.session(1, SetWeight(0))
    key = waiting(bench, 4)
    assert bench.session(1, LEFT)[1] == [StartService(SERVICE, "payload", ON_PAYLOAD)]
    assert bench.hub(request(3, PROVIDER))[1][1:] == [OpenProviderStream(key, 3, "CN=client")]


@pytest.mark.parametrize("unresponsive", [True, False])
def test_provider_that_takes_nothing_now(bench: Bench, unresponsive: bool) -> None:
    """Unresponsive, or of weight 0: openings wait for it, and nothing is started."""
    running(bench)
    bench.session(1, SessionUnresponsive() if unresponsive else SetWeight(0))
    key = waiting(bench, 4)
    if unresponsive:
        assert bench.session(1, SessionAnswered())[1] == [OpenProviderStream(key, 1, "CN=client")]
    else:
        assert bench.session(1, SetWeight(1))[1] == [OpenProviderStream(key, 1, "CN=client")]


# Stops ----------------------------------------------------------------------------------------------------------------


def test_idle(bench: Bench) -> None:
    """Without a connection for the timeout it is stopped; its sessions end; the next opening starts it again."""
    running(bench)
    bench.step(30.0)
    key = bench.joined(2, 4, 5)
    bench.step(100.0)
    bench.connection(key, fins())
    bench.step(10.0)
    bench.session(2, ask(4))
    bench.session(1, answer(4))
    assert bench.step(59.9) == ([], [])
    assert bench.step(0.1) == (
        [model.ServiceStopRequested(**WHERE, reason="idle")],
        [StopService(SERVICE, "idle", ON_PAYLOAD)],
    )
    assert phase(bench) is InstancePhase.STOPPING
    assert bench.session(2, open_request(8)) == ([], [])
    stopped = model.ServiceStopped(**WHERE, reason="idle")
    assert bench.hub(StopSucceeded(SERVICE)) == (
        [
            stopped,
            wanted("payload"),
            session_ended(1, PROVIDER, SHUTDOWN, Code.SHUTDOWN, "the service was stopped", legs=1, elapsed=200.0),
        ],
        [
            StartService(SERVICE, "payload", ON_PAYLOAD),
            CloseSession(1, Code.SHUTDOWN, "the service was stopped"),
        ],
    )
    bench.hub(StartSucceeded(SERVICE))
    assert bench.hub(request(3, PROVIDER))[1][1:] == [OpenProviderStream(Key(2, 8), 3, "CN=client")]


def test_idle_without_a_wish(bench: Bench) -> None:
    """Stopped, and nothing more; an instance that another hub process had started is stopped, too."""
    bench.provider(1)
    assert bench.step(60.0)[1] == [StopService(SERVICE, "idle", ON_PAYLOAD)]
    bench.session(1, LEFT)
    assert bench.hub(StopSucceeded(SERVICE)) == ([model.ServiceStopped(**WHERE, reason="idle")], [])
    assert phase(bench) is None
    assert bench.step(1000.0) == ([], [])


def test_stop_fails(bench: Bench) -> None:
    """It is tried again some times; then the service counts as running, and its provider is used again."""
    running(bench)
    bench.step(60.0)
    for attempt in (1, 2, 3):
        events, _ = bench.hub(StopFailed(SERVICE, "busy"))
        assert events == [model.ServiceStopFailed(**WHERE, reason="busy", attempt=attempt, will_retry=attempt < 3)]
        if attempt < 3:
            assert bench.step(5.0)[1] == [StopService(SERVICE, "idle", ON_PAYLOAD)]
    assert phase(bench) is InstancePhase.RUNNING
    assert bench.session(2, open_request(4))[1] == [OpenProviderStream(Key(2, 4), 1, "CN=client")]


def test_stop_fails_while_an_opening_waits(bench: Bench) -> None:
    """Then it isn't tried again: the provider is there."""
    running(bench)
    bench.step(60.0)
    waiting(bench, 4)
    assert bench.hub(StopFailed(SERVICE, "busy")) == (
        [model.ServiceStopFailed(**WHERE, reason="busy", will_retry=False)],
        [OpenProviderStream(Key(2, 4), 1, "CN=client")],
    )


def test_session_that_comes_during_a_stop() -> None:
    """It belongs to what is being stopped; a singleton's next provider comes when that is through."""
    single = service(availability=ON_PAYLOAD, singleton=True)
    bench = Bench(services=(single,))
    bench.consumer(2)
    running(bench)
    bench.step(60.0)
    asked = request(3, PROVIDER)
    assert bench.hub(asked)[1] == [RefuseSession(3, Code.SINGLETON, f"{SERVICE} has its one provider")]
    bench.provider(4, instance_id="i1")
    waiting(bench, 4)
    _, commands = bench.hub(StopSucceeded(SERVICE))
    assert CloseSession(4, Code.SHUTDOWN, "the service was stopped") in commands
    bench.hub(StartSucceeded(SERVICE))
    assert bench.hub(request(5, PROVIDER))[1] == [
        AcceptSession(5, "s5"),
        OpenProviderStream(Key(2, 4), 5, "CN=client"),
    ]


# The clock ------------------------------------------------------------------------------------------------------------


def test_schedule(bench: Bench) -> None:
    """startAt starts, stopAt stops, with connections or without; who waits is told."""
    assert bench.hub(ScheduleDue(SERVICE, start=True)) == (
        [wanted("schedule")],
        [StartService(SERVICE, "schedule", ON_PAYLOAD)],
    )
    bench.hub(StartSucceeded(SERVICE))
    bench.provider(1)
    assert bench.hub(ScheduleDue(SERVICE, start=True)) == ([], [])
    bench.joined(2, 4, 5)
    bench.session(1, SetWeight(0))
    key = waiting(bench, 8)
    reason = f"{SERVICE} is being stopped"
    assert bench.hub(ScheduleDue(SERVICE, start=False)) == (
        [model.ServiceStopRequested(**WHERE, reason="schedule"), refused(Code.START_FAILED, reason, stream=8)],
        [
            StopService(SERVICE, "schedule", ON_PAYLOAD),
            RefuseConnection(key, Code.START_FAILED, reason),
        ],
    )
    assert bench.hub(ScheduleDue(SERVICE, start=False)) == ([], [])


def test_schedule_of_a_service_without_a_manager() -> None:
    """There is nobody to ask."""
    bench = bench_of(None)
    assert bench.hub(ScheduleDue(SERVICE, start=True)) == ([], [])
    assert bench.hub(ScheduleDue(SERVICE, start=False)) == ([], [])


# Reloads --------------------------------------------------------------------------------------------------------------


def load(bench: Bench, availability: Availability | None, **changes: Any) -> tuple[list[Any], list[Any]]:
    events, commands = bench.hub(inventory(service(availability=availability, **changes)))
    return events[2:], commands


def test_removed_service_is_stopped(bench: Bench) -> None:
    """Its sessions are withdrawn; its actor goes when the cluster manager has answered."""
    running(bench)
    _, commands = bench.hub(LoadInventory(()))
    assert commands[0] == StopService(SERVICE, "removed", ON_PAYLOAD)
    assert sorted(type(command).__name__ for command in commands[1:]) == ["CloseSession", "CloseSession"]
    assert bench.system.residents() == (set(), set())
    assert bench.hub(StopSucceeded(SERVICE)) == ([model.ServiceStopped(**WHERE, reason="removed")], [])
    assert {type(actor).__name__ for actor in bench.system.environment.dispatcher.actors} == {"HubActor"}
    assert bench.system.timer() is None
    assert phase(bench) is None


def test_removed_service_that_another_process_had_started(bench: Bench) -> None:
    """Whose provider is there is stopped, too."""
    bench.provider(1)
    assert bench.hub(LoadInventory(()))[1][0] == StopService(SERVICE, "removed", ON_PAYLOAD)


def test_removed_while_it_starts(bench: Bench) -> None:
    """Who waits is cut with its session; the start is undone."""
    waiting(bench)
    _, commands = bench.hub(LoadInventory(()))
    assert StopService(SERVICE, "removed", ON_PAYLOAD) in commands
    assert CloseSession(2, Code.WITHDRAWN, "the service is no longer defined") in commands
    for _ in range(3):
        bench.hub(StopFailed(SERVICE, "busy"))
        bench.step(5.0)
    assert {type(actor).__name__ for actor in bench.system.environment.dispatcher.actors} == {"HubActor"}


def test_removed_and_back_during_the_stop(bench: Bench) -> None:
    """It is started again when the stop is through."""
    running(bench)
    bench.hub(LoadInventory(()))
    _, commands = load(bench, ON_LOAD)
    assert StartService(SERVICE, "load", ON_LOAD) not in commands
    assert bench.hub(StopSucceeded(SERVICE))[1] == []
    assert bench.step(10.0)[1] == [StartService(SERVICE, "load", ON_LOAD)]


def test_availability_that_is_new() -> None:
    """A consumer that is there starts it; so does the load."""
    bench = bench_of(None)
    bench.provider(1)
    bench.consumer(2)
    bench.session(1, LEFT)
    assert load(bench, ON_CONSUMER)[1] == [StartService(SERVICE, "consumer", ON_CONSUMER)]
    other = bench_of(None)
    assert load(other, ON_LOAD)[1] == [StartService(SERVICE, "load", ON_LOAD)]


def test_availability_that_goes(bench: Bench) -> None:
    """What runs is left alone; who waits is refused."""
    running(bench)
    assert load(bench, None) == ([], [])
    assert bench.fold.definitions.instances == {}
    assert bench.step(600.0) == ([], [])
    assert bench.session(2, open_request(4))[1] == [OpenProviderStream(Key(2, 4), 1, "CN=client")]
    other = bench_of(ON_PAYLOAD)
    other.consumer(2)
    waiting(other)
    reason = f"{SERVICE} has no provider now"
    assert load(other, None)[1] == [RefuseConnection(KEY, Code.NO_PROVIDER, reason)]
    other.hub(StartSucceeded(SERVICE))


def test_other_cluster_manager(bench: Bench) -> None:
    """What the old one runs is stopped there; the new one starts it when somebody wants it."""
    running(bench)
    moved = replace(ON_PAYLOAD, cluster_manager_urn="k8s:default")
    assert load(bench, moved)[1] == [StopService(SERVICE, "replaced", ON_PAYLOAD)]
    waiting(bench, 4)
    bench.step(20.0)
    assert StartService(SERVICE, "payload", moved) in bench.hub(StopSucceeded(SERVICE))[1]


@pytest.mark.parametrize("change", [{"idle_timeout": 5.0}, {"fingerprint": "ab"}, {"start_on_consumer": True}])
def test_other_switches(bench: Bench, change: dict[str, Any]) -> None:
    """They count from now on; what runs goes on."""
    running(bench)
    changed = replace(ON_PAYLOAD, **change)
    assert load(bench, changed)[1] == []
    assert bench.step(60.0)[1] == [StopService(SERVICE, "idle", ON_PAYLOAD)]


def test_start_that_nobody_asked_for_yet(bench: Bench) -> None:
    """A start that waits for its interval is forgotten with its service, but what ran before is stopped."""
    running(bench)
    bench.session(1, LEFT)
    waiting(bench, 4)
    assert StopService(SERVICE, "removed", ON_PAYLOAD) in bench.hub(LoadInventory(()))[1]
    bench.hub(StopSucceeded(SERVICE))
    assert {type(actor).__name__ for actor in bench.system.environment.dispatcher.actors} == {"HubActor"}


def test_start_again_that_nobody_waits_for_any_more(bench: Bench) -> None:
    """What ran before the start counts as running again: its provider may come back, or it becomes idle."""
    running(bench)
    bench.session(1, LEFT)
    waiting(bench, 4)
    bench.session(2, LEFT)
    bench.step(10.0)
    assert bench.fold.definitions.instances[SERVICE].phase is model.InstancePhase.RUNNING
    commands = [command for _ in range(20) for command in bench.step(60.0)[1]]
    assert StopService(SERVICE, "idle", ON_PAYLOAD) in commands


def test_exit_while_a_start_waits_for_its_interval(bench: Bench) -> None:
    """The log says so, and there is nothing to be stopped."""
    running(bench)
    bench.session(1, LEFT)
    waiting(bench, 4)
    events, _ = bench.hub(ServiceExited(SERVICE, "exited with status 0"))
    assert events == [model.ServiceStopped(**WHERE, reason="exited with status 0")]
    assert StopService not in {type(command) for command in bench.hub(LoadInventory(()))[1]}


# The hub's stop -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["waiting", "running", "stopping", "retrying"])
def test_hub_stops(bench: Bench, when: str) -> None:
    """Services are left as they are: other hubs may use them. Nothing is started any more, no timer is left."""
    if when == "waiting":
        waiting(bench)
    else:
        running(bench)
    if when == "stopping":
        bench.step(60.0)
    if when == "retrying":
        bench.session(1, LEFT)
        waiting(bench, 4)
        bench.step(10.0)
        bench.hub(StartFailed(SERVICE, "busy", retryable=True))
    _, commands = bench.hub(StopHub())
    assert not [command for command in commands if isinstance(command, StartService | StopService)]
    assert commands[-1] == ReportHubStopped()
    bench.assert_empty()
    assert bench.hub(StartSucceeded(SERVICE)) == ([], [])


def test_stop_of_the_hub_refuses_who_waits(bench: Bench) -> None:
    """One trace in the log, as ever."""
    waiting(bench)
    bench.hub(StopHub())
    refusals = [recorded.event for recorded in bench.log if isinstance(recorded.event, model.ConnectionRefused)]
    assert refusals == [refused(Code.SHUTDOWN, "the hub is being stopped")]
