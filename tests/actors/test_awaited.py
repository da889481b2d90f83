"""A provider's return after a restart of the hub: the consumers that were back first hear of it (R-4.7)."""

from __future__ import annotations

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.actors.contract.commands import ForgetConnection, SendPacket
from spnhub.actors.contract.inputs import Key, SessionAnswered, SessionClosed, SessionRequested, SessionUnresponsive
from spnhub.actors.contract.packets import PeerHere
from spnhub.actors.service import awaited
from spnhub.actors.service.actor import ServiceActor
from tests.actors.harness import CONSUMER, PROVIDER, Bench, request
from tests.actors.test_gone import ABSENT
from tests.actors.test_resume import ack, asking

CLOSED = SessionClosed(by_peer=True, code=0, reason="")


def here(session: int, peer: str = "CN=server", instance: str = "i1") -> SendPacket:
    return SendPacket(session, PeerHere(peer, instance))


def waiting(bench: Bench) -> int:
    """The pairs of an absent provider and a consumer that are remembered."""
    actors = bench.system.environment.dispatcher.actors
    return sum(one.counts()["awaited"] for one in actors if isinstance(one, ServiceActor))


def back(session: int) -> SessionRequested:
    return request(session, CONSUMER, instance_id=f"i{session}", brings_connections=True)


def test_consumers_that_are_back_first() -> None:
    """They are accepted, refused what they ask for as long as its other end isn't here, and told once when it is."""
    bench = Bench()
    bench.hub(back(2))
    bench.hub(back(3))
    for session, epoch in ((2, 1), (2, 2), (3, 1)):
        _, commands = bench.session(session, asking(epoch, key=Key(session, -epoch)))
        assert commands == [ack(session, Code.NOT_HERE, ABSENT, epoch=epoch), ForgetConnection(Key(session, -epoch))]
    assert waiting(bench) == 2
    _, commands = bench.hub(request(4, PROVIDER, instance_id="another", brings_connections=True))
    assert len(commands) == 1, "another instance is nobody's other end"
    _, commands = bench.hub(request(1, PROVIDER, instance_id="i1", brings_connections=True))
    assert commands[1:] == [here(2), here(3)]
    assert waiting(bench) == 0
    _, commands = bench.session(2, asking(3, key=Key(2, -3)))
    assert [type(command).__name__ for command in commands] == ["InviteProvider"]


def test_a_provider_that_answers_again() -> None:
    """It has a session all the time, which takes nothing while it is unresponsive."""
    bench = Bench()
    bench.provider(1)
    bench.hub(back(2))
    bench.session(1, SessionUnresponsive())
    _, commands = bench.session(2, asking(1, key=Key(2, -1)))
    assert commands[0] == ack(2, Code.NOT_HERE, ABSENT)
    _, commands = bench.session(1, SessionAnswered())
    assert commands == [here(2)]


def test_a_consumer_that_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept for it; nor beyond the bound for those that asked first."""
    monkeypatch.setattr(awaited, "AWAITED_LIMIT", 2)
    bench = Bench()
    for session in (2, 3, 4, 5):
        bench.hub(back(session))
        bench.session(session, asking(1, key=Key(session, -1)))
    assert waiting(bench) == 2
    bench.session(5, CLOSED)
    assert waiting(bench) == 1
    _, commands = bench.hub(request(1, PROVIDER, instance_id="i1", brings_connections=True))
    assert commands[1:] == [here(4)]
    assert waiting(bench) == 0
