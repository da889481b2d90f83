"""The run itself in the log: its start, its signs of life, its end."""

from __future__ import annotations

from spnhub.actors.contract.inputs import StartHub, StopHub
from spnhub.actors.system import ActorOptions
from spnhub.events.model import Event, HubAlive, HubStarted
from spnhub.events.model import HubStopped as HubHasStopped
from tests.actors.harness import Bench

START = StartHub("1.0", ("[::]:4433",), orderly=False)


def of_the_run(bench: Bench) -> list[Event]:
    """Its events so far."""
    kinds = HubStarted | HubAlive | HubHasStopped
    return [recorded.event for recorded in bench.log if isinstance(recorded.event, kinds)]


def test_from_the_start_to_the_end() -> None:
    """A sign of life at each interval, with what is open; after the end there is none."""
    bench = Bench(ActorOptions(alive_interval=60.0))
    bench.hub(START)
    bench.provider()
    bench.step(60.0)
    bench.step(60.0)
    bench.hub(StopHub())
    bench.step(40.0)
    bench.step(200.0)
    common = {"realm": None, "network_urn": None}
    started, first, second, *_, stopped = of_the_run(bench)
    assert started == HubStarted(version="1.0", addresses=("[::]:4433",), orderly=False, **common)
    assert isinstance(first, HubAlive)
    assert isinstance(second, HubAlive)
    assert (first.sessions, first.connections, first.elapsed_time) == (1, 0, 60.0)
    assert second.elapsed_time == 120.0
    assert isinstance(stopped, HubHasStopped)
    assert stopped.reason == "as planned"
    assert bench.system.timer() is None


def test_a_stop_without_a_start_says_nothing() -> None:
    """Nor does a second start."""
    bench = Bench()
    bench.hub(StopHub())
    assert of_the_run(bench) == []
    again = Bench()
    again.hub(START)
    again.hub(START)
    assert len(of_the_run(again)) == 1
