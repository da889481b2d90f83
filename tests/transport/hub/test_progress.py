"""A connection that lives tells of its bytes, from the engine's counters to the log (D-10)."""

from __future__ import annotations

from spnhub.actors.contract.inputs import StartHub
from spnhub.actors.system import ActorOptions
from spnhub.events.model import ConnectionEnded, ConnectionProgress
from tests.transport.hub.bench import Bench


def test_ten_seconds() -> None:
    """Bytes at 1 s and at 5 s; a look every 2 s tells of each once, and of nothing in between."""
    bench = Bench(ActorOptions(progress_interval=2.0))
    bench.tell(StartHub("1.0", (), orderly=True))
    provider, consumer = bench.provider(), bench.consumer()
    leg = bench.leg(consumer, provider)
    bench.settle(1.0)
    consumer.write(leg.cs, b"x" * 100)
    bench.settle(4.0)
    consumer.write(leg.cs, b"y" * 10)
    provider.write(leg.ps, b"z" * 7)
    bench.settle(5.0)
    told = [
        (one.total_sent_bytes, one.total_receive_bytes, one.delta_sent_bytes, one.delta_receive_bytes)
        for one in bench.events(ConnectionProgress)
    ]
    assert told == [(100, 0, 100, 0), (110, 7, 10, 7)]
    (state,) = bench.system.state().connections.values()
    assert (state.total_sent_bytes, state.total_receive_bytes) == (110, 7)
    consumer.write(leg.cs, b"v" * 3)
    consumer.abort(leg.cs, 9)
    bench.settle()
    (ended,) = bench.events(ConnectionEnded)
    assert ended.total_sent_bytes == 110 + ended.delta_sent_bytes
    assert (ended.total_receive_bytes, ended.delta_receive_bytes) == (7, 0)
