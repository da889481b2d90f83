"""An opening that a provider doesn't take goes to the next one, before its consumer hears of it (D-35)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AbortConnection,
    ForgetConnection,
    JoinStreams,
    OpenProviderStream,
    RefuseConnection,
    SendPacket,
    StartService,
)
from spnhub.actors.contract.definitions import Availability
from spnhub.actors.contract.inputs import (
    ConsumerAborted,
    Key,
    ProviderAccepted,
    ProviderBusy,
    ProviderRejected,
    ProviderStreamOpened,
    ResumeRequested,
    SessionAnswered,
    SessionUnresponsive,
)
from spnhub.actors.contract.packets import AllConnectionsClosed, CloseRequest, SetWeight
from spnhub.actors.service.pending import PendingConnections
from spnhub.actors.system import ActorOptions
from spnhub.events.model import ConnectionEnded, ConnectionStarted, ProviderFailed, ProviderRecovered
from tests.actors.harness import (
    ERROR,
    LEFT,
    LOST,
    SINGLE_SERVICE,
    WALL,
    Bench,
    ended,
    failed,
    open_request,
    recovered,
    refused,
    service,
    started,
    uid,
)
from tests.actors.test_histories import Poison

KEY = Key(9, 0)
REFUSED = ProviderRejected(Code.CONNECT_FAILED, "connection refused")
FULL = ProviderRejected(Code.LIMIT, "as many as it may")


def at(key: Key, provider: int) -> OpenProviderStream:
    """The opening goes to this provider."""
    return OpenProviderStream(key, provider, "CN=client")


@pytest.fixture
def bench() -> Bench:
    """Providers 1 and 2, of which 1 comes first, and consumer 9."""
    made = Bench()
    made.provider(1)
    made.provider(2)
    made.consumer(9)
    return made


def rejected(bench: Bench, key: Key = KEY, message: ProviderRejected = REFUSED, stream: int = 1) -> Any:
    """The provider that has the opening doesn't take it."""
    bench.connection(key, ProviderStreamOpened(stream))
    return bench.connection(key, message)


@pytest.mark.parametrize("message", [REFUSED, FULL, ProviderRejected(0, "reset"), ProviderRejected(Code.SHUTDOWN, "")])
def test_the_next_one_takes_it(bench: Bench, message: ProviderRejected) -> None:
    """A leg at each; the consumer is told of the second only. The first is passed over, then tried, then as before."""
    assert bench.session(9, open_request())[1] == [at(KEY, 1)]
    code = Code(message.code or Code.CONNECT_FAILED)
    assert rejected(bench, message=message) == (
        [
            failed(code, message.reason),
            ended(ERROR, code, message.reason, sent=0, received=0, consumer=9, rejected=True),
        ],
        [at(KEY, 2)],
    )
    assert bench.connection(KEY, ProviderStreamOpened(5)) == ([started(0, 5, consumer=9, provider=2)], [])
    assert bench.connection(KEY, ProviderAccepted()) == ([], [JoinStreams(KEY, "CN=server", "i2")])
    assert bench.fold.sessions["s1"].failures == 1
    # The other has one, and is chosen all the same.
    assert bench.session(9, open_request(4))[1] == [at(Key(9, 4), 2)]
    bench.step(1.0)
    assert bench.session(9, open_request(8))[1] == [at(Key(9, 8), 1)]
    assert bench.session(9, open_request(12))[1] == [at(Key(9, 12), 2)]  # 1 is on trial
    bench.connection(Key(9, 8), ProviderStreamOpened(9))
    assert bench.connection(Key(9, 8), ProviderAccepted())[0] == [recovered()]
    assert bench.fold.sessions["s1"].failures == 0
    assert [bench.session(9, open_request(stream))[1][0] for stream in (16, 20)] == [
        at(Key(9, 16), 1),
        at(Key(9, 20), 1),
    ]


def test_all_of_them_fail(bench: Bench) -> None:
    """The last reason is the refusal's, and the next opening is offered to both again, the longer ago first."""
    bench.session(9, open_request())
    rejected(bench)
    assert rejected(bench, message=FULL, stream=5) == (
        [
            failed(Code.LIMIT, FULL.reason, provider=2),
            ended(
                ERROR,
                Code.LIMIT,
                FULL.reason,
                sent=0,
                received=0,
                consumer=9,
                provider=2,
                provider_stream=5,
                rejected=True,
            ),
        ],
        [RefuseConnection(KEY, Code.LIMIT, FULL.reason)],
    )
    other = Key(9, 4)
    assert bench.session(9, open_request(4))[1] == [at(other, 1)]
    events, commands = rejected(bench, other, stream=9)
    assert not any(isinstance(event, ProviderFailed) for event in events)  # it is known
    assert commands == [at(other, 2)]
    bench.connection(other, ProviderStreamOpened(13))
    assert bench.connection(other, ProviderAccepted())[0] == [recovered(2)]


def test_a_lone_provider_is_asked_each_time() -> None:
    """Nothing is gained by passing it over: what comes while its server is down is refused by itself, then served."""
    bench = Bench()
    bench.provider(1)
    bench.consumer(9)
    for stream in range(0, 40, 4):
        assert bench.session(9, open_request(stream))[1] == [at(Key(9, stream), 1)]
        assert rejected(bench, Key(9, stream), stream=stream + 1)[1] == [
            RefuseConnection(Key(9, stream), Code.CONNECT_FAILED, "connection refused")
        ]
    keys = [Key(9, stream) for stream in (40, 44, 48)]
    for key in keys:
        assert bench.session(9, open_request(key.stream))[1] == [at(key, 1)]
    for key in keys:
        bench.connection(key, ProviderStreamOpened(key.stream + 1))
    assert [bench.connection(key, ProviderAccepted())[0] for key in keys] == [[recovered()], [], []]


def test_a_trial_that_fails(bench: Bench) -> None:
    """The opening goes on to the other; the one on trial is passed over for twice as long."""
    bench.session(9, open_request())
    rejected(bench)
    wall_us = WALL
    for times, seconds in ((2, 2.0), (3, 4.0), (4, 8.0)):
        bench.step(seconds / 2)
        wall_us += round(seconds * 500_000)
        key = Key(9, 4 * times)
        # The other has as many as it takes to make this one the next.
        assert bench.session(9, open_request(key.stream))[1] == [at(key, 1)]
        events, commands = rejected(bench, key, stream=key.stream + 1)
        assert events[0] == failed(
            Code.CONNECT_FAILED, REFUSED.reason, failures=times, seconds=seconds, wall_us=wall_us
        )
        assert commands == [at(key, 2)]


def test_a_trial_without_a_verdict(bench: Bench) -> None:
    """The consumer gives up: the next opening is the trial."""
    bench.session(9, open_request())
    rejected(bench)
    bench.step(1.0)
    assert bench.session(9, open_request(4))[1] == [at(Key(9, 4), 1)]
    bench.connection(Key(9, 4), ConsumerAborted(Code.PEER_RESET))
    assert bench.session(9, open_request(8))[1] == [at(Key(9, 8), 1)]


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("ending", [LOST, LEFT])
def test_its_session_ends(bench: Bench, begun: bool, ending: Any) -> None:
    """Before it has accepted, whether its stream is open or not: the next one; the session ends after its leg."""
    bench.session(9, open_request())
    if begun:
        bench.connection(KEY, ProviderStreamOpened(1))
    events, commands = bench.session(1, ending)
    assert [type(event).__name__ for event in events] == ["ConnectionEnded"] * begun + ["SessionEnded"]
    assert commands == [at(KEY, 2)]
    bench.connection(KEY, ProviderStreamOpened(5, 2))
    assert bench.connection(KEY, ProviderAccepted(2))[1] == [JoinStreams(KEY, "CN=server", "i2")]


def test_a_silent_provider(bench: Bench) -> None:
    """What it hasn't accepted goes to another that answers; while there is none, it has its time."""
    bench.session(9, open_request())
    bench.connection(KEY, ProviderStreamOpened(1))
    bench.session(2, SessionUnresponsive())
    assert bench.session(1, SessionUnresponsive())[1] == []
    bench.session(2, SessionAnswered())
    events, commands = bench.session(1, SessionUnresponsive())
    assert [type(event).__name__ for event in events] == ["ProviderSilent", "ConnectionEnded"]
    assert commands == [at(KEY, 2)]
    # What the first may still say is about something that it hasn't got any more.
    assert bench.connection(KEY, ProviderAccepted(1)) == ([], [])
    assert bench.connection(KEY, ProviderRejected(Code.LIMIT, "", 1)) == ([], [])
    assert bench.session(1, LOST)[1] == []
    bench.connection(KEY, ProviderStreamOpened(5, 2))
    assert bench.connection(KEY, ProviderAccepted(2))[1] == [JoinStreams(KEY, "CN=server", "i2")]


def test_a_provider_that_is_full(bench: Bench) -> None:
    """Its session has all the streams it allows: another one takes it, if none is known to fail; else it waits here."""
    bench.session(9, open_request())
    assert bench.connection(KEY, ProviderBusy(1)) == ([], [at(KEY, 2)])
    assert bench.connection(KEY, ProviderBusy(2)) == ([], [])
    assert bench.connection(KEY, ProviderStreamOpened(1, 1)) == ([], [])
    assert bench.connection(KEY, ProviderStreamOpened(5, 2))[0] == [started(0, 5, consumer=9, provider=2)]
    bench.connection(KEY, ProviderAccepted(2))
    other = Key(9, 4)
    bench.session(9, open_request(4))
    assert rejected(bench, other, stream=9)[1] == [at(other, 2)]
    assert bench.connection(other, ProviderBusy(2)) == ([], [])
    third = Key(9, 8)
    assert bench.session(9, open_request(8))[1] == [at(third, 2)]
    assert bench.connection(third, ProviderBusy(2)) == ([], [])


def test_a_provider_that_does_not_answer(bench: Bench) -> None:
    """It has 6 s; then another one gets the opening, if there is a sound one, and it is passed over. Else it has 15."""
    bench.session(9, open_request())
    bench.connection(KEY, ProviderStreamOpened(1))
    assert bench.step(5.9) == ([], [])
    reason = "the provider did not answer in time"
    events, commands = bench.step(0.1)
    assert events[0] == failed(Code.CONNECT_TIMEOUT, reason, wall_us=bench.wall_us)
    assert commands == [at(KEY, 2)]
    bench.connection(KEY, ProviderStreamOpened(5, 2))
    assert bench.step(8.9) == ([], [])
    assert bench.connection(KEY, ProviderAccepted(2))[1] == [JoinStreams(KEY, "CN=server", "i2")]


def test_time_to_answer_is_each_ones_own(bench: Bench) -> None:
    """Who gets it from another has all of it; and a third that comes later is looked for again."""
    bench.session(9, open_request())
    bench.step(5.0)
    rejected(bench)
    bench.connection(KEY, ProviderStreamOpened(5, 2))
    bench.provider(3)
    assert bench.step(1.0) == ([], [])
    assert bench.step(4.9) == ([], [])
    assert bench.step(0.1)[1] == [at(KEY, 3)]
    bench.connection(KEY, ProviderStreamOpened(9, 3))
    assert bench.step(3.9) == ([], [])
    assert [type(command) for command in bench.step(0.1)[1]] == [RefuseConnection]


def test_all_within_the_accept_timeout(bench: Bench) -> None:
    """The time of the opening is one, however many are asked; who has let it pass is passed over."""
    bench.session(9, open_request())
    bench.step(5.0)
    assert rejected(bench)[1] == [at(KEY, 2)]
    bench.connection(KEY, ProviderStreamOpened(5))
    assert bench.step(9.9) == ([], [])
    reason = "the provider did not answer in time"
    events, commands = bench.step(0.1)
    assert events[0] == failed(Code.CONNECT_TIMEOUT, reason, provider=2, wall_us=bench.wall_us)
    assert commands == [RefuseConnection(KEY, Code.CONNECT_TIMEOUT, reason)]


@pytest.mark.parametrize("code", [Code.NOT_ALLOWED, 4711])
def test_the_application_says_no(bench: Bench, code: int) -> None:
    """That is final, and no fault of the provider's."""
    bench.session(9, open_request())
    events, commands = rejected(bench, message=ProviderRejected(code, "not you"))
    assert [type(event) for event in events] == [ConnectionEnded]
    assert [type(command) for command in commands] == [RefuseConnection]
    assert bench.session(9, open_request(4))[1] == [at(Key(9, 4), 1)]


@pytest.mark.parametrize(
    "message", [ConsumerAborted(Code.PEER_RESET), CloseRequest(uid(0), 0, 0, 0, False)], ids=["reset", "closed"]
)
def test_the_consumer_gives_up_at_the_second(bench: Bench, message: Any) -> None:
    """It lets go of the second; the first has gone already."""
    bench.session(9, open_request())
    rejected(bench)
    bench.connection(KEY, ProviderStreamOpened(5))
    if isinstance(message, CloseRequest):
        events, commands = bench.session(9, message)
    else:
        events, commands = bench.connection(KEY, message)
    assert [event.provider_side_spn_session_id for event in events if isinstance(event, ConnectionEnded)] == ["s2"]
    assert [type(command) for command in commands[:1]] == [AbortConnection]
    assert ForgetConnection(KEY) in commands
    assert bench.system.environment.directory.sessions[2].legs == {}


def test_a_provider_that_drains(bench: Bench) -> None:
    """With weight 0 it is told that nothing is open when its last opening has gone to another."""
    bench.session(9, open_request())
    bench.session(1, SetWeight(0))
    events, commands = rejected(bench)
    assert commands == [at(KEY, 2), SendPacket(1, AllConnectionsClosed())]
    assert [type(event).__name__ for event in events] == ["ProviderFailed", "ConnectionEnded"]
    # Nobody with weight 0 is a last resort.
    assert rejected(bench, stream=5)[1] == [RefuseConnection(KEY, Code.CONNECT_FAILED, "connection refused")]


def test_a_singleton() -> None:
    """There is nobody else to ask."""
    bench = Bench()
    bench.provider(1, service_urn=SINGLE_SERVICE)
    bench.consumer(9, service_urn=SINGLE_SERVICE)
    bench.session(9, open_request())
    assert rejected(bench)[1] == [RefuseConnection(KEY, Code.CONNECT_FAILED, "connection refused")]
    assert bench.session(9, open_request(4))[1] == [at(Key(9, 4), 1)]


def test_a_service_on_demand_waits_for_the_next_start() -> None:
    """Its provider dies with an opening: that waits for the next one, once."""
    availability = Availability("docker:", "web", start_on_payload=True)
    bench = Bench(services=(service(availability=availability),))
    bench.provider(1)
    bench.consumer(9)
    bench.session(9, open_request())
    bench.connection(KEY, ProviderStreamOpened(1))
    events, commands = bench.session(1, LOST)
    assert [type(event).__name__ for event in events] == ["ServiceStartRequested", "ConnectionEnded", "SessionEnded"]
    assert [type(command) for command in commands] == [StartService]
    bench.provider(2)
    assert bench.connection(KEY, ProviderStreamOpened(5))[0] == [started(0, 5, consumer=9, provider=2)]
    _, commands = bench.session(2, LOST)
    assert commands[0] == RefuseConnection(KEY, Code.PEER_LOST, "idle")


def test_resumes_are_not_affected(bench: Bench) -> None:
    """The other end of a conversation is at that provider, passed over or not; a resume is no trial."""
    bench.session(9, open_request())
    rejected(bench)
    resume = ResumeRequested(Key(9, -1), "uid77", 1, 0, False, 0, "CN=server", "i1")
    _, commands = bench.session(9, resume)
    assert [type(command).__name__ for command in commands] == ["InviteProvider"]


def test_attempts_are_bounded() -> None:
    """So many providers have an opening, one after the other; of those known to fail fewer."""
    bench = Bench(ActorOptions(opening_attempts=4, last_resorts=2))
    for session in range(1, 9):
        bench.provider(session)
    bench.consumer(99)

    def attempts(stream: int) -> list[int]:
        key, asked = Key(99, stream), []
        _, commands = bench.session(99, open_request(stream))
        while isinstance(commands[0], OpenProviderStream):
            asked.append(commands[0].provider)
            _, commands = rejected(bench, key, stream=1000 * stream + 4 * len(asked) + 1)
        return asked

    assert attempts(0) == [1, 2, 3, 4]
    assert attempts(4) == [5, 6, 7, 8]
    assert attempts(8) == [1, 2]
    assert attempts(12) == [3, 4]  # those that failed the longest ago


def test_a_fault_while_another_is_asked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The opening has its end, with the provider's reason, and the next one is offered as before."""

    def fail(*_: object, **__: object) -> bool:
        raise RuntimeError("injected")

    bench.session(9, open_request())
    monkeypatch.setattr(PendingConnections, "rejected", fail)
    assert rejected(bench)[1] == [RefuseConnection(KEY, Code.CONNECT_FAILED, "connection refused")]
    monkeypatch.undo()
    assert bench.session(9, open_request(4))[1] == [at(Key(9, 4), 1)]
    assert rejected(bench, Key(9, 4), stream=5)[1] == [at(Key(9, 4), 2)]


@pytest.mark.parametrize("at_second", [False, True])
def test_its_actor_fails(bench: Bench, at_second: bool) -> None:
    """Nothing is left of it on any session."""
    bench.session(9, open_request())
    if at_second:
        rejected(bench)
    bench.connection(KEY, Poison())  # type: ignore[arg-type]
    assert bench.system.residents()[1] == set()
    assert [bench.system.environment.directory.sessions[session].legs for session in (1, 2, 9)] == [{}, {}, {}]


Steps = st.lists(st.tuples(st.sampled_from("oooodut"), st.integers(0, 5)), max_size=60)


@given(steps=Steps, count=st.integers(2, 6))
@settings(max_examples=150, deadline=None)
def test_no_opening_is_refused_while_a_provider_would_take_it(steps: list[tuple[str, int]], count: int) -> None:
    """Servers go down and come back as they like, time passes as it likes."""
    bench = Bench(ActorOptions(last_resorts=count))
    for session in range(1, count + 1):
        bench.provider(session)
    bench.consumer(99)
    down: set[int] = set()
    for stream, (step, number) in enumerate(steps):
        server = number % count + 1
        match step:
            case "d":
                down.add(server)
            case "u":
                down.discard(server)
            case "t":
                bench.step(number / 2)
            case "o":
                key = Key(99, 4 * stream)
                _, commands = bench.session(99, open_request(key.stream))
                asked: list[int] = []
                while isinstance(command := commands[0], OpenProviderStream):
                    asked.append(command.provider)
                    bench.connection(key, ProviderStreamOpened(100 * stream + len(asked), command.provider))
                    taken = command.provider not in down
                    answer = ProviderAccepted(command.provider) if taken else REFUSED
                    _, commands = bench.connection(key, answer)
                assert len(set(asked)) == len(asked)
                if len(down) < count:
                    assert isinstance(commands[0], JoinStreams)
                    assert not set(asked[:-1]) - down
                else:
                    assert commands == [RefuseConnection(key, Code.CONNECT_FAILED, "connection refused")]
                    assert len(asked) == count
    failures: Counter[str] = Counter()
    for one in bench.log:
        if isinstance(one.event, ProviderFailed):
            failures[one.event.spn_session_id] += 1
            assert one.event.failures == failures[one.event.spn_session_id]
        elif isinstance(one.event, ProviderRecovered):
            assert failures.pop(one.event.spn_session_id)
    assert {name: s.failures for name, s in bench.fold.sessions.items() if s.failures} == dict(failures)
    starts = [one.event for one in bench.log if isinstance(one.event, ConnectionStarted)]
    assert len({(event.connection_uid, event.provider_side_spn_session_id) for event in starts}) == len(starts)


def test_refused_once_and_for_all_by_a_stop(bench: Bench) -> None:
    """What is with a provider when the consumer's session ends goes to no other."""
    bench.session(9, open_request())
    bench.connection(KEY, ProviderStreamOpened(1))
    events, commands = bench.session(9, LOST)
    assert AbortConnection(KEY, Code.PEER_RESET) in commands
    assert not [command for command in commands if isinstance(command, OpenProviderStream)]
    assert refused(Code.PEER_LOST, "idle") not in events
