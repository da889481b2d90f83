"""An endpoint whose process is killed, and endpoints that only look like it: who is told what, and when (D-20)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from spnhub.actors.codes import Code
from spnhub.events.model import ConnectionEnded, ConnectionLost, SessionEnded
from spnhub.transport.engine import Limits
from tests.simulation.endpoint import Program, SimulatedEndpoint
from tests.simulation.schedule import ENGINES
from tests.simulation.test_one_sided import Talk

_BOUND = 3.0
"""Seconds from the first packet that meets a closed port to the error at the other program."""


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


@pytest.mark.parametrize("engine", ENGINES)
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
    took = _time(talk, lambda: left.over)
    assert took <= _BOUND + (0.0 if sends else Limits().keep_alive)
    assert left.ending is not None and left.ending.startswith(f"{Code.GONE}: ")
    talk.clock.run_for(1.0)
    events = [one.event for hub in talk.simulation.hubs if hub.runs for one in hub.journal.records]
    (lost,) = [event for event in events if isinstance(event, ConnectionLost)]
    (leg,) = [event for event in events if isinstance(event, ConnectionEnded)]
    assert (lost.code, lost.connection_uid, leg.suspended) == (Code.GONE, leg.connection_uid, True)
    ended = [event for event in events if isinstance(event, SessionEnded) and event.code == Code.GONE]
    assert 1 <= len(ended) <= hubs and all("port closed" in event.reason for event in ended)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("killed", ["provider", "consumer"])
def test_a_killed_host(engine: str, killed: str) -> None:
    """Nobody says that its port is closed: silence, and the whole time to resume (D-20)."""
    talk = Talk(engine, hubs=1)
    endpoint, _, left = _sides(talk, killed)
    endpoint.node.crash(host_lives=False)
    talk.say(left, 1000)
    assert _time(talk, lambda: left.over) > 60.0
    assert left.ending is not None and left.ending.startswith(f"{Code.RESUME_TIMEOUT}: ")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("killed", ["provider", "consumer"])
def test_killed_between_two_hubs(engine: str, killed: str) -> None:
    """The hub that had the conversation is on its way out, and the other has never heard of it, but of the end."""
    talk = Talk(engine)
    endpoint, _, left = _sides(talk, killed)
    talk.old.crash(host_lives=True)
    endpoint.crash()
    talk.say(left, 1000)
    # The hub that is left has nothing to say to the killed one but a keep-alive, or a consumer's invitation.
    assert _time(talk, lambda: left.over) <= _BOUND + 1.0 + Limits().keep_alive
    assert left.ending is not None and left.ending.startswith(f"{Code.GONE}: ")


@pytest.mark.parametrize("engine", ENGINES)
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


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("hubs", [1, 2])
@pytest.mark.parametrize("moved", ["provider", "consumer"])
def test_another_address(engine: str, hubs: int, moved: str) -> None:
    """A NAT gives it another port and answers for the old one that it is closed: it goes on when it speaks."""
    talk = Talk(engine, hubs)
    endpoint, program, left = _sides(talk, moved)
    endpoint.node.rebind(refused=True)
    talk.say(left, 1000)
    talk.say(program, 1000)
    talk.pause()
    talk.end()
