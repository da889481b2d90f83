"""Playbooks of endpoints whose process is gone (D-20): whole lists of what comes out."""

from __future__ import annotations

from typing import Any

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import Command, ForgetConnection, SendPacket
from spnhub.actors.contract.inputs import Key, ResumeAnswered, SessionClosed
from spnhub.actors.contract.packets import PeerGone, ResumeAck, SessionRenewal
from spnhub.actors.service import gone
from spnhub.actors.service.actor import ServiceActor
from spnhub.actors.system import ActorOptions
from spnhub.events.model import Event
from tests.actors.harness import CONSUMER, FAILED, LOST, PROVIDER, Bench, cut, request, sent, session_ended
from tests.actors.test_resume import ack, asking, lost, resume_refused

CLOSED_PORT = SessionClosed(by_peer=False, code=0, reason="port closed, and no answer to a probe", process_gone=True)
GONE = "CN=server, instance 'i1', is gone: its port is closed"
ABSENT = "CN=server, instance 'i1', has no session here"
GRACE = ActorOptions().gone_timeout


@pytest.fixture
def bench() -> Bench:
    """A provider's session 1 and a consumer's session 2, with a connection whose bytes pass."""
    bench = Bench()
    bench.provider()
    bench.consumer()
    bench.joined()
    return bench


def die(bench: Bench, session: int) -> tuple[list[Event], list[Command]]:
    """Its port is closed, and the engine tells what its splice has carried."""
    bench.session(session, CLOSED_PORT)
    return bench.connection(Key(2, 0), cut(lost=True))


def told(session: int, peer: str = "CN=server", instance: str = "i1") -> SendPacket:
    return SendPacket(session, PeerGone(peer, instance))


def test_a_provider_that_is_gone(bench: Bench) -> None:
    """Not here during the grace; then whoever has asked is told, and whoever asks later gets it as the answer."""
    events, _ = die(bench, 1)
    assert session_ended(1, PROVIDER, FAILED, Code.GONE, CLOSED_PORT.reason, legs=1) in events
    _, commands = bench.session(2, asking())
    assert commands == [ack(2, Code.NOT_HERE, ABSENT), ForgetConnection(Key(2, -1))]
    assert bench.step(GRACE - 0.01) == ([], [])
    assert bench.step(0.02) == ([], [told(2)])
    assert bench.session(2, asking(2)) == (
        [resume_refused(Code.GONE, GONE, epoch=2)],
        [ack(2, Code.GONE, GONE, epoch=2), ForgetConnection(Key(2, -2))],
    )
    events, _ = bench.session(2, asking(3, code=Code.GONE))
    assert [getattr(event, "code", None) for event in events] == [Code.GONE]
    # Nobody is told twice, and in the end nothing is remembered.
    assert bench.step(ActorOptions().resume_timeout) == ([], [])
    _, commands = bench.session(2, asking(4))
    assert commands == [ack(2, Code.NOT_HERE, ABSENT, epoch=4), ForgetConnection(Key(2, -4))]


def test_a_consumer_that_is_gone(bench: Bench) -> None:
    """Every provider of the service is told; whose connection it was says what has become of it."""
    bench.provider(3)
    die(bench, 2)
    assert bench.step(GRACE) == ([], [told(1, "CN=client", "i2"), told(3, "CN=client", "i2")])
    report = ResumeAnswered("uid0", 1, 7, finished=False, code=Code.GONE, peer="CN=client", matches=False)
    reason = "the consumer is gone: its port is closed"
    assert bench.session(1, report) == ([lost(Code.GONE, reason, sent=7, received=0, session=1)], [])
    # A provider that comes later, with connections that it wants to go on with, is told, too.
    _, commands = bench.hub(request(4, PROVIDER, brings_connections=True))
    assert commands[1:] == [told(4, "CN=client", "i2")]
    _, commands = bench.hub(request(5, PROVIDER))
    assert len(commands) == 1


@pytest.mark.parametrize("role", [PROVIDER, CONSUMER])
@pytest.mark.parametrize("when", ["in the grace", "later"])
def test_an_instance_that_comes_back(bench: Bench, role: Any, when: str) -> None:
    """It wasn't gone: nobody is told any more, and its connections go on."""
    bench.provider(3)
    session = 1 if role is PROVIDER else 2
    die(bench, session)
    if when == "later":
        bench.step(GRACE)
    bench.hub(request(7, role, instance_id=f"i{session}", brings_connections=True))
    assert bench.step(GRACE) == ([], [])
    asker = bench.consumer(8) if role is PROVIDER else 7
    _, commands = bench.session(asker, asking(key=Key(asker, -1)))
    assert [type(command).__name__ for command in commands] == ["InviteProvider"]


@pytest.mark.parametrize("before", ["it is known", "anybody knows"])
@pytest.mark.parametrize("brings", [True, False])
def test_a_consumer_started_again_with_the_same_name(bench: Bench, before: str, brings: bool) -> None:
    """It brings no connections, so it is another process; those of the one before are over, and its own aren't."""
    if before == "it is known":
        die(bench, 2)
    bench.hub(request(7, CONSUMER, instance_id="i2", brings_connections=brings))
    if before != "it is known":
        bench.connection(Key(2, 0), cut(lost=True))
    assert bench.step(GRACE) == ([], [] if brings else [told(1, "CN=client", "i2")])
    _, commands = bench.hub(request(8, PROVIDER, brings_connections=True))
    assert len(commands) == 1, "nothing is remembered of a name that somebody has"


def test_a_session_that_is_renewed(bench: Bench) -> None:
    """It is the same process, whatever it says that it brings (D-38)."""
    bench.session(2, SessionRenewal())
    bench.hub(request(7, CONSUMER, instance_id="i2"))
    assert not sent(bench.step(GRACE)[1], PeerGone)


@pytest.mark.parametrize("ending", [LOST, CLOSED_PORT], ids=["silence", "no name"])
def test_who_is_only_silent_or_has_no_name(bench: Bench, ending: SessionClosed) -> None:
    """Nothing is concluded from silence, nor of an endpoint that doesn't say which instance it is."""
    if ending is CLOSED_PORT:
        bench.provider(3, instance_id="")
    bench.session(1 if ending is LOST else 3, ending)
    bench.connection(Key(2, 0), cut(lost=True))
    assert bench.step(GRACE) == ([], [])


def test_a_stale_session_that_is_lost(bench: Bench) -> None:
    """The instance has another session already: its port was another."""
    bench.hub(request(7, PROVIDER, instance_id="i1"))
    bench.session(1, CLOSED_PORT)
    assert bench.step(GRACE) == ([], [])


def test_remembering_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the oldest nothing is known any more, and after a while of none."""
    limit = 8
    monkeypatch.setattr(gone, "GONE_LIMIT", limit)
    bench = Bench()
    bench.consumer(2, brings_connections=True)
    for session in range(10, 11 + limit):
        bench.hub(request(session, PROVIDER))
        bench.session(session, CLOSED_PORT)
    bench.step(GRACE)
    alive = [one for one in bench.system.environment.dispatcher.actors if isinstance(one, ServiceActor)]
    assert max(one.counts()["gone"] for one in alive) == limit
    for instance, code in (("i10", Code.NOT_HERE), ("i11", Code.GONE), (f"i{10 + limit}", Code.GONE)):
        _, commands = bench.session(2, asking(instance_id=instance))
        assert [ack.code for _, ack in sent(commands, ResumeAck)] == [code]
    bench.step(ActorOptions().resume_timeout)
    assert [(one.counts()["graces"], one.counts()["gone"]) for one in alive] == [(0, 0)] * len(alive)
