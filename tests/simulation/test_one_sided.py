"""A provider and one of its hubs lose sight of each other, and the consumer sees both hubs: who notices, and when."""

from __future__ import annotations

import pytest

from spnhub.events.model import ConnectionResumed
from spnhub.transport.endpoint.connection.states import ConnectionState
from spnhub.transport.engine import Limits
from tests.simulation.endpoint import Program
from tests.simulation.hub import SimulatedHub
from tests.simulation.schedule import ENGINES, Conversation, Simulation
from tests.support.engines import each_name

SUSPECT = Limits().suspect_after
"""Of the hub: what decides here."""
SLACK = 0.5
"""Seconds: round trips, and the delay of an acknowledgement."""


class Talk:
    """One conversation over two hubs in a calm network; :attr:`old` is the hub where it begins."""

    def __init__(self, engine: str, hubs: int = 2, *, translated: bool = False) -> None:
        self.simulation = simulation = Simulation(1, engine)
        for endpoint in simulation.endpoints:
            endpoint.translated = translated
        simulation.network.loss = simulation.network.jitter = 0.0
        simulation.network.latency, simulation.network.reorder = 0.01, False
        for hub in simulation.hubs[:hubs]:
            if not hub.running:
                hub.start()
        self.clock = simulation.clock
        self.clock.run_for(10.0)
        conversation = Conversation("talk")
        simulation.conversations.append(conversation)
        self.consumer = conversation.consumer
        simulation.consumers[0].connect(self.consumer)
        self.clock.run_until(lambda: self.consumer.stream is not None and len(simulation.programs) == 1)
        (self.provider,) = simulation.programs
        self.say(self.consumer, 1000)
        self.say(self.provider, 1000)
        self.clock.run_for(1.0)
        self.old = next(hub for hub in simulation.hubs if hub.running and hub.journal.state.connections)

    def say(self, program: Program, size: int) -> None:
        """Write so much."""
        program.write(size)
        for endpoint in (self.simulation.provider, self.simulation.consumers[0]):
            endpoint.node.flush()

    def all_read(self) -> bool:
        """Everything has arrived."""
        here, there = self.consumer, self.provider
        return (here.read, there.read) == (there.written, here.written) == (there.asked, here.asked)

    def pause(self) -> float:
        """Seconds until everything has arrived."""
        began = self.clock.now()
        self.clock.run_until(self.all_read, 30.0)
        return self.clock.now() - began

    def cut(self, kind: str, seconds: float = 1000.0) -> SimulatedHub:
        """Cut the provider off from the hub in one of the ways; the hub that is left."""
        provider, hub = self.simulation.provider.node, self.old.node
        ends = (hub, provider) if kind == "deaf" else (provider, hub)
        self.simulation.network.cut(*ends, one_way=kind != "both", seconds=seconds)
        return next(one for one in self.simulation.hubs if one is not self.old)

    def end(self) -> None:
        """Both finish, and nothing is left."""
        self.consumer.finish()
        self.provider.finish()
        self.say(self.consumer, 0)
        self.clock.run_until(lambda: self.consumer.over and self.provider.over)
        assert (self.consumer.ending, self.provider.ending) == ("closed", "closed")


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("kind", ["both", "mute", "deaf"])
@pytest.mark.parametrize("speaker", ["consumer", "provider", "both"])
def test_the_hub_calls_the_consumer_away(engine: str, kind: str, speaker: str) -> None:
    """While something is on its way to the provider: within the hub's suspicion, over the other hub."""
    talk = Talk(engine)
    other = talk.cut(kind)
    if speaker != "provider":
        talk.say(talk.consumer, 50_000)
    if speaker != "consumer":
        talk.say(talk.provider, 50_000)
    idle = speaker == "provider" and kind != "deaf"
    assert talk.pause() <= SUSPECT + SLACK + (Limits().keep_alive if idle else 0.0)
    assert any(isinstance(one.event, ConnectionResumed) for one in other.journal.records)
    talk.simulation.network.heal_all()
    talk.clock.run_for(10.0)
    assert talk.all_read()
    talk.end()


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("kind", ["both", "mute", "deaf"])
@pytest.mark.parametrize("seconds", [2.0, 6.0])
def test_one_hub_alone(engine: str, kind: str, seconds: float) -> None:
    """There is no other: it goes on where it was as soon as that is possible, not a byte wrong."""
    talk = Talk(engine, hubs=1)
    talk.cut(kind, seconds)
    talk.say(talk.consumer, 50_000)
    talk.say(talk.provider, 50_000)
    # Both back off while nobody answers: as long again, at most.
    assert seconds <= talk.pause() + 0.1 <= 2 * seconds + 2.0
    talk.end()


@pytest.mark.parametrize("engine", each_name(ENGINES))
@pytest.mark.parametrize("hubs", [1, 2])
@pytest.mark.parametrize("seconds", [2.0, 10.0])
def test_a_stopped_provider(engine: str, hubs: int, seconds: float) -> None:
    """SIGSTOP and SIGCONT: a short stop is not even seen, a longer one is a pause, and no other hub helps (D-20)."""
    talk = Talk(engine, hubs)
    node = talk.simulation.provider.node
    node.freeze()
    talk.clock.call_at(talk.clock.now() + seconds, node.thaw)
    talk.say(talk.consumer, 50_000)
    talk.provider.asked += 50_000
    talk.clock.run_for(seconds - 0.1)
    stream = talk.consumer.stream
    assert stream is not None
    assert (stream.state is ConnectionState.CONNECTED) == (seconds < SUSPECT)
    talk.provider.write(0)
    assert talk.pause() <= 0.1 + 1.0 + SLACK
    talk.end()
