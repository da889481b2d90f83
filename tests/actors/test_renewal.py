"""An endpoint that renews its session: the old one gives way in order, and for a bounded time (D-38)."""

from __future__ import annotations

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
    SendPacket,
)
from spnhub.actors.contract.inputs import Key, SessionClosed, SessionInvalidated, StopHub
from spnhub.actors.contract.packets import AllConnectionsClosed, CloseAck, PauseRequest, SessionRenewal, SetWeight
from spnhub.events.model import ConnectionEnded, SessionEnded
from tests.actors.harness import (
    CONSUMER,
    FAILED,
    PROVIDER,
    SINGLE_SERVICE,
    Bench,
    ask,
    cut,
    fins,
    open_request,
    request,
    sent,
    uid,
)

EXPIRED = SessionInvalidated("expired", expired=True)
SUPERSEDED = "the same instance has a new session"


@pytest.fixture
def bench() -> Bench:
    """A provider with session 1, a consumer with session 2, and a connection."""
    made = Bench()
    made.provider(1, instance_id="p")
    made.consumer(2, instance_id="c")
    return made


def kinds(commands: list[Any]) -> list[type]:
    return [type(command) for command in commands]


def test_a_provider_gives_way(bench: Bench) -> None:
    """What it carries goes on, and leaves when the endpoint wants; what is new goes to the new session."""
    key = bench.joined()
    assert bench.session(1, SessionRenewal()) == ([], [])
    assert kinds(bench.hub(request(3, PROVIDER, instance_id="p"))[1]) == [AcceptSession]
    assert bench.session(2, open_request(4))[1] == [OpenProviderStream(Key(2, 4), 3, "CN=client")]
    # Its weight is nobody's business any more, nor is it told that all is closed: it knows itself.
    assert bench.session(1, SetWeight(0)) == ([], [])
    events, commands = bench.connection(key, cut(code=Code.MOVED))
    assert [type(event).__name__ for event in events] == ["ConnectionPaused", "ConnectionEnded"]
    assert commands == [ForgetConnection(key)]
    events, commands = bench.session(1, SessionClosed(by_peer=True, code=0, reason="no connections are left"))
    assert [type(event).__name__ for event in events] == ["SessionEnded"]
    assert commands == []
    assert bench.system.residents()[0] == {2, 3}


def test_a_consumer_gives_way(bench: Bench) -> None:
    """It opens and resumes in the new session only; what was being opened is finished where it was."""
    key = bench.connecting()
    bench.session(2, SessionRenewal())
    bench.hub(request(3, CONSUMER, instance_id="c"))
    _, commands = bench.session(2, open_request(4))
    assert commands == [RefuseConnection(Key(2, 4), Code.SHUTDOWN, "the session is ending")]
    bench.connection(key, fins())
    assert bench.session(3, open_request(4))[1] == [OpenProviderStream(Key(3, 4), 1, "CN=client")]


@pytest.mark.parametrize("role", [PROVIDER, CONSUMER])
def test_not_for_ever(bench: Bench, role: Any) -> None:
    """An endpoint that doesn't leave is put out as a stale one is."""
    key = bench.joined()
    old = 1 if role is PROVIDER else 2
    bench.session(old, SessionRenewal())
    bench.hub(request(3, role, instance_id="p" if role is PROVIDER else "c"))
    assert bench.step(59.0) == ([], [])
    assert bench.step(1.1)[1] == [AbortConnection(key, Code.PEER_LOST)]
    events, commands = bench.connection(key, cut())
    (ended,) = (event for event in events if isinstance(event, SessionEnded))
    assert (ended.terminate_reason, ended.code, ended.reason) == (FAILED, Code.SUPERSEDED, SUPERSEDED)
    assert CloseSession(old, Code.SUPERSEDED, SUPERSEDED) in commands
    assert bench.system.residents()[0] == {3, 1 if old == 2 else 2}


def test_who_said_so_long_ago_is_stale(bench: Bench) -> None:
    """It has died since, and come again: what it held is lost at once."""
    key = bench.joined()
    bench.session(1, SessionRenewal())
    bench.step(60.0)
    assert AbortConnection(key, Code.PEER_LOST) in bench.hub(request(3, PROVIDER, instance_id="p"))[1]


def test_nobody_elses(bench: Bench) -> None:
    """Another instance or subject takes no place, whatever was said."""
    bench.session(1, SessionRenewal())
    bench.hub(request(3, PROVIDER, instance_id="q"))
    assert bench.system.environment.directory.sessions[1].ending is False


def test_a_singleton(bench: Bench) -> None:
    """Its new session is accepted beside the old one; somebody else's isn't, then as before."""
    bench.provider(5, instance_id="p", service_urn=SINGLE_SERVICE)
    bench.session(5, SessionRenewal())
    other = request(6, PROVIDER, instance_id="q", service_urn=SINGLE_SERVICE)
    assert kinds(bench.hub(other)[1]) == [RefuseSession]
    assert kinds(bench.hub(request(7, PROVIDER, instance_id="p", service_urn=SINGLE_SERVICE))[1]) == [AcceptSession]
    assert kinds(bench.hub(request(8, PROVIDER, instance_id="q", service_urn=SINGLE_SERVICE))[1]) == [RefuseSession]


def test_again_before_the_first_has_left(bench: Bench) -> None:
    """Three of them, one after the other: each gives way to the next."""
    key = bench.joined()
    for session, old in ((3, 1), (4, 3)):
        bench.session(old, SessionRenewal())
        bench.hub(request(session, PROVIDER, instance_id="p"))
    assert bench.system.residents()[0] == {1, 2, 3, 4}
    assert bench.session(2, open_request(4))[1] == [OpenProviderStream(Key(2, 4), 4, "CN=client")]
    bench.connection(key, cut(code=Code.MOVED))
    for session in (1, 3):
        bench.session(session, SessionClosed(by_peer=True, code=0, reason=""))
    assert bench.system.residents()[0] == {2, 4}


def test_a_hub_that_stops_meanwhile(bench: Bench) -> None:
    """Nothing is left, no timer neither."""
    bench.session(1, SessionRenewal())
    bench.hub(request(3, PROVIDER, instance_id="p"))
    _, commands = bench.hub(StopHub(resumable=True))
    assert len(sent(commands, AllConnectionsClosed)) == 3
    for _ in range(5):
        bench.step(20.0)
    bench.assert_empty()


@pytest.mark.parametrize("how", ["leaves in order", "expires"])
@pytest.mark.parametrize("side", [PROVIDER, CONSUMER])
def test_who_leaves_before_it_has_confirmed_the_end(bench: Bench, side: Any, how: str) -> None:
    """Both FINs were passed on, and the other asks to close: that isn't confirmed in the name of who is gone.

    Its program may not have read to the end; it does so in another leg.
    """
    key = bench.finished()
    mine, other = (1, 2) if side is PROVIDER else (2, 1)
    bench.session(other, ask())
    left = SessionClosed(by_peer=True, code=0, reason="") if how == "leaves in order" else EXPIRED
    events, commands = bench.session(mine, left)
    ended = next(event for event in events if isinstance(event, ConnectionEnded))
    assert ended.suspended
    assert not sent(commands, CloseAck)
    assert commands[:2] == [SendPacket(other, PauseRequest(uid(0), 0)), ForgetConnection(key)]
