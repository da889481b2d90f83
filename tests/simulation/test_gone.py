"""An endpoint whose process is killed, and endpoints that only look like it: who is told what, and when (D-20)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spnhub.actors.contract.codes import Code
from spnhub.events.model import ConnectionEnded, ConnectionLost, SessionEnded
from spnhub.transport.engine import Address, Limits
from tests.simulation.endpoint import Program, SimulatedEndpoint
from tests.simulation.schedule import ENGINES
from tests.simulation.test_one_sided import Talk
from tests.support.engines import each_name

_BOUND = 3.0
"""Seconds from the first evidence of the kill to the error at the other program."""
_LOOK = Limits().port_check
"""Seconds after the kill until there is evidence, at most, where nobody sends anything."""


def _sides(talk: Talk, killed: str) -> tuple[SimulatedEndpoint, Program, Program]:
    """Who is killed, its program, and the one that is left."""
    simulation = talk.simulation
    if killed == "provider":
        return simulation.provider, talk.provider, talk.consumer
    return simulation.consumers[0], talk.consumer, talk.provider


def _time(talk: Talk, happened: Callable[[], bool]) -> float:
    began = talk.clock.now()
    talk.clock.run_until(happened, 120.0)
    return talk.clock.now() - began


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("hubs", [1, 2])
@pytest.mark.parametrize("killed", ["provider", "consumer"])
@pytest.mark.parametrize("sends", [True, False])
def test_a_killed_process(engine: str, hubs: int, killed: str, sends: bool) -> None:
    """Its port is closed: an error at the other program within the bound, once in the log, and never a FIN."""
    talk = Talk(engine, hubs)
    endpoint, _, left = _sides(talk, killed)
    endpoint.crash()
    if sends:
        talk.say(left, 1000)
    assert _time(talk, lambda: left.over) <= (_BOUND if sends else _BOUND + _LOOK)
    assert left.ending is not None and left.ending.startswith(f"{Code.GONE}: ")
    talk.clock.run_for(1.0)
    events = [one.event for hub in talk.simulation.hubs if hub.runs for one in hub.journal.records]
    (lost,) = [event for event in events if isinstance(event, ConnectionLost)]
    (leg,) = [event for event in events if isinstance(event, ConnectionEnded)]
    assert (lost.code, lost.connection_uid, leg.suspended) == (Code.GONE, leg.connection_uid, True)
    ended = [event for event in events if isinstance(event, SessionEnded) and event.code == Code.GONE]
    assert 1 <= len(ended) <= hubs and all("port closed" in event.reason for event in ended)


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("killed", ["provider", pytest.param("consumer", marks=pytest.mark.prove)])
def test_a_killed_host(engine: str, killed: str) -> None:
    """Nobody says that its port is closed: silence, and the whole time to resume (D-20)."""
    talk = Talk(engine, hubs=1)
    endpoint, _, left = _sides(talk, killed)
    endpoint.node.crash(host_lives=False)
    talk.say(left, 1000)
    assert _time(talk, lambda: left.over) > 60.0
    assert left.ending is not None and left.ending.startswith(f"{Code.RESUME_TIMEOUT}: ")


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("killed", ["provider", "consumer"])
def test_killed_between_two_hubs(engine: str, killed: str) -> None:
    """The hub that had the conversation is on its way out, and the other has never heard of it, but of the end."""
    talk = Talk(engine)
    endpoint, _, left = _sides(talk, killed)
    talk.old.crash(host_lives=True)
    endpoint.crash()
    talk.say(left, 1000)
    # The hub that is left has nothing of it that it would look after: a keep-alive, or the consumer's invitation.
    assert _time(talk, lambda: left.over) <= _BOUND + 1.0 + Limits().keep_alive
    assert left.ending is not None and left.ending.startswith(f"{Code.GONE}: ")


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("frozen", ["provider", "consumer"])
def test_a_stopped_process(engine: str, frozen: str) -> None:
    """SIGSTOP for ten seconds: its port is open, and it goes on."""
    talk = Talk(engine)
    endpoint, _, left = _sides(talk, frozen)
    endpoint.node.freeze()
    talk.clock.call_at(talk.clock.now() + 10.0, endpoint.node.thaw)
    talk.say(left, 1000)
    talk.clock.run_for(9.0)
    talk.pause()
    talk.end()


@pytest.mark.parametrize("hubs", [1, 2])
@pytest.mark.parametrize("moved", ["provider", "consumer"])
@pytest.mark.parametrize("speaks", [True, False])
def test_a_translator_that_has_forgotten(hubs: int, moved: str, speaks: bool) -> None:
    """It answers for the old port that it is closed, and the endpoint doesn't know: it is waited for, and goes on."""
    # The fake engine sends nothing twice that was refused.
    talk = Talk("aioquic", hubs, translated=True)
    endpoint, program, left = _sides(talk, moved)
    endpoint.node.rebind(refused=True)
    talk.say(left, 1000)
    if speaks:
        talk.say(program, 1000)
    assert talk.pause() <= Limits().keep_alive + 2.0
    talk.end()


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("killed", ["provider", "consumer"])
def test_a_killed_process_behind_a_translator(engine: str, killed: str) -> None:
    """The same cannot be told from it until a keep-alive would have come."""
    talk = Talk(engine, 1, translated=True)
    endpoint, _, left = _sides(talk, killed)
    endpoint.crash()
    talk.say(left, 1000)
    assert Limits().keep_alive <= _time(talk, lambda: left.over) <= _BOUND + Limits().keep_alive


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("cut_off", ["provider", "consumer"])
@pytest.mark.parametrize("hubs", [1, 2])
def test_a_session_that_only_the_endpoint_has_given_up(engine: str, cut_off: str, hubs: int) -> None:
    """It hears that the hub can't be reached; the hub hears nothing, sends to the old socket, and isn't misled."""
    talk = Talk(engine, hubs)
    endpoint, _, left = _sides(talk, cut_off)
    target = next(target for target in endpoint.core.targets() if target.remote == talk.old.address)
    assert target.local is not None
    talk.simulation.network.cut(endpoint.node, talk.old.node, seconds=1.9)
    endpoint.core.context.engine.unreachable(Address(target.local.local, target.remote), talk.clock.now())
    endpoint.node.flush()
    talk.clock.run_for(1.0)
    talk.say(left, 1000)
    assert talk.pause() <= 5.0
    talk.end()


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("killed", ["provider", "consumer"])
@pytest.mark.parametrize("after", [0.0, 1.5])
def test_started_again_with_the_same_name(engine: str, killed: str, after: float) -> None:
    """Before anybody knows that it was killed, and later: the new process has none of the old one's connections."""
    talk = Talk(engine, 1)
    endpoint, program, left = _sides(talk, killed)
    simulation = talk.simulation
    endpoint.crash()
    talk.clock.run_for(after)
    again = simulation.again(endpoint)
    talk.say(left, 1000)
    assert _time(talk, lambda: left.over) <= _BOUND
    assert left.ending is not None and left.ending.startswith((f"{Code.GONE}: ", f"{Code.ENDED}: "))
    assert again.core.connections == 0 and program.ending is None


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("leaving", ["provider", "consumer"])
def test_an_address_that_vanished(engine: str, leaving: str) -> None:
    """The session with it ends; its last packets are lost, and the hub looks for it in vain."""
    talk = Talk(engine)
    endpoint, program, left = _sides(talk, leaving)
    other = next(hub for hub in talk.simulation.hubs if hub is not talk.old)
    for one in (talk.simulation.provider, talk.simulation.consumers[0]):
        one.core.set_addresses([other.address], talk.clock.now())
        one.node.flush()
    talk.clock.run_for(0.45)
    talk.simulation.network.cut(endpoint.node, talk.old.node, one_way=True, seconds=1.0)
    talk.say(left, 1000)
    talk.clock.run_for(10.0)
    talk.say(program, 1000)
    talk.pause()
    talk.end()
    events = [one.event for hub in talk.simulation.hubs for one in hub.journal.records]
    assert not [event for event in events if isinstance(event, SessionEnded) and event.code == Code.GONE]


@pytest.mark.parametrize("tenths", [0, 2, 4])
def test_whenever_a_silent_process_is_killed(tenths: int) -> None:
    """The bound is one whatever the moment, between two looks at its port."""
    talk = Talk("fake", hubs=1)
    endpoint, _, left = _sides(talk, "provider")
    talk.clock.run_for(tenths / 10)
    endpoint.crash()
    assert 2.0 < _time(talk, lambda: left.over) <= _BOUND + _LOOK
