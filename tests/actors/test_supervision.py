"""An actor that fails ends what it stands for, and nothing else; those that others depend on live on."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest

from spnhub.actors.connection import transitions
from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import (
    AbortConnection,
    CloseSession,
    ForgetConnection,
    RefuseConnection,
    RefuseSession,
    SendPacket,
)
from spnhub.actors.contract.inputs import ConsumerAborted, Key, ProviderAccepted, SessionUnresponsive, StopHub
from spnhub.actors.contract.packets import CloseAck
from spnhub.actors.hub.actor import HubActor
from spnhub.actors.kernel.runtime import actor_of
from spnhub.actors.realm.actor import RealmActor
from spnhub.actors.service import actor as services
from spnhub.actors.session import actor as sessions
from spnhub.actors.session.actor import SessionActor
from spnhub.actors.session.messages import LegRequested, SessionFailed
from tests.actors.harness import (
    CONSUMER,
    ERROR,
    FAILED,
    PROVIDER,
    SERVICE,
    Bench,
    answer,
    ask,
    cut,
    ended,
    fins,
    open_request,
    refused,
    request,
    session_ended,
    session_refused,
)

KEY = Key(2, 0)
FAULT = "a fault in the hub"
UNSURE = "a fault in the hub; the byte counts are lower bounds"
FAILURES = [RuntimeError("injected"), asyncio.CancelledError()]


@pytest.fixture
def bench() -> Bench:
    """A provider's session 1, a consumer's session 2, and a connection on stream 40 that must not be touched."""
    bench = Bench()
    bench.provider()
    bench.consumer()
    bench.joined(stream=40, provider_stream=41)
    return bench


def untouched(bench: Bench) -> None:
    """The bystander goes on as ever, and then everything can end."""
    other = Key(2, 40)
    assert bench.session(2, ask(40))[1] != [SendPacket(2, CloseAck("uid40", 0))]
    reason = "reset before both directions ended"
    expected = ended(ERROR, Code.PEER_RESET, reason, stream=40, provider_stream=41)
    assert bench.connection(other, cut()) == (
        [expected],
        [SendPacket(2, CloseAck("uid40", 0)), ForgetConnection(other)],
    )
    bench.hub(StopHub())
    bench.assert_empty()


def goes_on(bench: Bench) -> None:
    """The bystander ends in order, and then everything can."""
    events, _ = bench.connection(Key(2, 40), cut())
    assert len(events) == 1
    bench.hub(StopHub())
    bench.assert_empty()


def inject(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, failure: BaseException) -> None:
    """The next call of that function raises."""
    original = getattr(where, name)

    def fail(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(where, name, original)
        raise failure

    monkeypatch.setattr(where, name, fail)


@pytest.mark.parametrize("failure", FAILURES, ids=["exception", "cancelled"])
def test_connection_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, failure: BaseException) -> None:
    """It ends with error, its streams are cut."""
    bench.joined()
    inject(monkeypatch, transitions, "decide", failure)
    assert bench.connection(KEY, fins()) == (
        [ended(ERROR, Code.INTERNAL, UNSURE, sent=0, received=0)],
        [AbortConnection(KEY, Code.INTERNAL), ForgetConnection(KEY)],
    )
    assert bench.raised == [("ConnectionActor", failure)]
    untouched(bench)


def test_connection_fails_after_its_bytes_are_known(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is told, and who asked to close is answered."""
    bench.finished()
    bench.session(2, ask())
    inject(monkeypatch, transitions, "decide", RuntimeError("injected"))
    assert bench.session(1, ask()) == (
        [ended(ERROR, Code.INTERNAL, FAULT)],
        [AbortConnection(KEY, Code.INTERNAL), SendPacket(2, CloseAck("uid0", 0)), ForgetConnection(KEY)],
    )
    untouched(bench)


def test_connection_fails_before_it_has_started(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its trace is a refusal, and no timer stays."""
    key = bench.opening()
    inject(monkeypatch, transitions, "decide", RuntimeError("injected"))
    assert bench.connection(key, ConsumerAborted(0)) == (
        [refused(Code.INTERNAL, FAULT)],
        [AbortConnection(key, Code.INTERNAL), ForgetConnection(key)],
    )
    assert bench.system.timer() is None
    untouched(bench)


def test_connection_fails_at_its_start(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Already its first step may fail."""
    inject(monkeypatch, transitions, "opening", RuntimeError("injected"))
    assert bench.session(2, open_request()) == (
        [refused(Code.INTERNAL, FAULT)],
        [AbortConnection(KEY, Code.INTERNAL), ForgetConnection(KEY)],
    )
    untouched(bench)


def test_connection_fails_after_its_end(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end is in the log once."""
    bench.joined()
    entry = bench.system.environment.directory.connections[KEY]
    inject(monkeypatch, actor_of(entry.ref), "stop", RuntimeError("injected"))
    events, _ = bench.connection(KEY, cut())
    assert events == [ended(ERROR, Code.PEER_RESET, "reset before both directions ended")]
    untouched(bench)


@pytest.mark.parametrize(("session", "role"), [(1, PROVIDER), (2, CONSUMER)])
def test_session_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch, session: int, role: Any) -> None:
    """Its legs end with error and exact bytes, then the session does; the other session stays."""
    bench.connection(Key(2, 40), fins())
    bench.step(10.0)
    bench.session(2, ask(40))
    bench.session(1, answer(40))
    bench.joined()
    inject(monkeypatch, SessionActor, "on_receive", RuntimeError("injected"))
    assert bench.session(session, SessionUnresponsive()) == ([], [AbortConnection(KEY, Code.INTERNAL)])
    assert bench.connection(KEY, cut(3, 4)) == (
        [
            ended(ERROR, Code.INTERNAL, FAULT, sent=3, received=4),
            session_ended(session, role, FAILED, Code.INTERNAL, FAULT, legs=2, elapsed=10.0),
        ],
        [ForgetConnection(KEY), CloseSession(session, Code.INTERNAL, FAULT)],
    )
    assert bench.system.residents() == ({3 - session}, set())
    bench.hub(StopHub())
    bench.assert_empty()


def test_session_without_legs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing to wait for; the instance can come back."""
    bench = Bench()
    bench.provider()
    inject(monkeypatch, SessionActor, "on_receive", RuntimeError("injected"))
    assert bench.session(1, SessionUnresponsive()) == (
        [session_ended(1, PROVIDER, FAILED, Code.INTERNAL, FAULT)],
        [CloseSession(1, Code.INTERNAL, FAULT)],
    )
    bench.assert_empty()
    bench.provider(2, instance_id="i1")


def test_session_and_connection_fail(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leg of a failed session fails as well: both are ended by the service."""
    bench.connection(Key(2, 40), cut())
    bench.joined()
    inject(monkeypatch, SessionActor, "on_receive", RuntimeError("injected"))
    inject(monkeypatch, transitions, "decide", RuntimeError("injected"))
    assert bench.session(1, SessionUnresponsive()) == (
        [
            ended(ERROR, Code.INTERNAL, UNSURE, sent=0, received=0),
            session_ended(1, PROVIDER, FAILED, Code.INTERNAL, FAULT, legs=2),
        ],
        [
            AbortConnection(KEY, Code.INTERNAL),
            ForgetConnection(KEY),
            CloseSession(1, Code.INTERNAL, FAULT),
        ],
    )


def test_session_fails_while_it_ends(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last word of a leg isn't heard by the session: the service ends it."""
    bench.connection(Key(2, 40), cut())
    bench.joined()
    bench.hub(StopHub())
    inject(monkeypatch, sessions, "decide_end", RuntimeError("injected"))
    events, _ = bench.connection(KEY, cut())
    assert events[1] == session_ended(2, CONSUMER, FAILED, Code.INTERNAL, FAULT, legs=2)
    bench.assert_empty()


@pytest.mark.parametrize("actor", [HubActor, RealmActor, services.ServiceActor])
def test_root_survives(bench: Bench, monkeypatch: pytest.MonkeyPatch, actor: type) -> None:
    """A request that makes it fail is refused; it goes on, and what it raised is told with its traceback."""
    failure = RuntimeError("injected")
    inject(monkeypatch, actor, "on_receive", failure)
    asked = request(5)
    assert bench.hub(asked) == (
        [session_refused(asked, Code.INTERNAL, FAULT)],
        [RefuseSession(5, Code.INTERNAL, FAULT)],
    )
    assert bench.raised == [(actor.__name__, failure)]
    assert failure.__traceback__ is not None
    bench.consumer(5)
    untouched(bench)


def test_service_survives_an_opening(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The opening is refused; the next one is served."""
    inject(monkeypatch, services.ServiceActor, "on_receive", RuntimeError("injected"))
    assert bench.session(2, open_request()) == (
        [refused(Code.INTERNAL, FAULT)],
        [RefuseConnection(KEY, Code.INTERNAL, FAULT)],
    )
    bench.connecting()
    bench.connection(KEY, ProviderAccepted())
    bench.connection(KEY, cut())
    untouched(bench)


def test_session_fails_just_after_it_asked(bench: Bench) -> None:
    """What it asked for is not opened behind its back; with and without legs that still end."""
    env = bench.system.environment
    service = env.directory.services[SERVICE]
    service.tell(SessionFailed(2))
    service.tell(LegRequested(2, open_request(0)))
    assert bench.step() == (
        [refused(Code.SHUTDOWN, "the session is ending")],
        [RefuseConnection(KEY, Code.SHUTDOWN, "the session is ending"), AbortConnection(Key(2, 40), Code.INTERNAL)],
    )
    service.tell(LegRequested(77, open_request(0)))
    assert bench.step() == ([], [])


def test_recovery_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are told, the first one first."""
    first, second = RuntimeError("injected"), KeyError("injected")
    inject(monkeypatch, HubActor, "on_receive", first)
    inject(monkeypatch, HubActor, "recover", second)
    bench.hub(request(5))
    assert bench.raised == [("HubActor", first), ("HubActor", second)]


def test_a_piece_of_a_reload_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other pieces are done, those that come later, too; a stop doesn't wait for ever."""
    failure = RuntimeError("injected")
    calls: list[int] = []

    def piece(number: int) -> None:
        calls.append(number)
        if number % 100 == 0:
            raise failure

    work_queue = bench.system.environment.work_queue
    for number in range(300):
        work_queue.add(functools.partial(piece, number))
    bench.step(bench.options.slice_pause)
    assert len(calls) < 300
    bench.step(1.0)
    for _ in range(10):
        bench.step(bench.options.slice_pause)
    assert calls == list(range(300))
    work_queue.add(functools.partial(piece, 300))
    assert bench.raised == [("work_queue", failure)] * 4
    goes_on(bench)


def test_a_timer_fails(bench: Bench) -> None:
    """The others of the same moment fire."""
    failure = RuntimeError("injected")
    fired: list[str] = []

    def fail() -> None:
        raise failure

    env = bench.system.environment
    for action in (fail, lambda: fired.append("one"), fail, lambda: fired.append("two")):
        env.timers.set(bench.now + 1.0, action)
    bench.step(1.0)
    assert (fired, bench.raised) == (["one", "two"], [("timers", failure)] * 2)
    goes_on(bench)
