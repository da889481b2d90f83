"""One hub alone that is stopped and started again: everything flows as soon as both endpoints are back (R-4.7)."""

from __future__ import annotations

import signal
from datetime import datetime

import pytest

from tests.support.command import Line
from tests.support.talk import quantiles
from tests.support.world import World
from tests.system.sizes import report, sizes


def at(line: Line) -> float:
    """When it was said, or happened, by the hub's clock: seconds."""
    return datetime.fromisoformat(line["timestamp"]).timestamp()


@sizes("connections, rounds", (4, 1), (200, 5), minutes=10)
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_lone_hub_is_back(world: World, how: signal.Signals, connections: int, rounds: int) -> None:
    """Nobody is refused a session, nobody waits for a retry timer once the other side is there, no byte is lost.

    How long it took after hub.ready is reported and not judged: on a machine with other work that says little.
    """
    server = world.serve()
    hub, _, consumer = await world.start(server.address)
    pairs = [await world.join(consumer, server) for _ in range(connections)]
    for one, other in pairs:
        # What nobody has seen a byte of would begin anew, and its server would see an end.
        await one.send(b"hello")
        assert await other.receive(5) == b"hello"
        await other.send(b"hello")
        assert await one.receive(5) == b"hello"
    waits: list[float] = []
    for _ in range(rounds):
        await hub.stop(how)
        for one, other in pairs:
            await one.send(b"request")
            await other.send(b"answer")
        hub = await world.start_hub()
        for one, other in pairs:
            assert await other.receive(7) == b"request"
            assert await one.receive(6) == b"answer"
        resumed = await hub.wait_lines("connectionResumed", connections)
        ready = at(await hub.line("hub.ready"))
        waits += [at(line) - ready for line in resumed]
        assert hub.said("sessionRefused") == []
        # Who asks before the other end is here is refused; from then on nobody is, and nobody waits to ask again.
        back = max(at(line) for line in hub.said("startSpnSession"))
        assert [line for line in hub.said("resumeRefused") if at(line) > back] == []
    report(connections=connections, after_ready=quantiles(waits))
    for one, other in pairs:
        one.close()
        other.close()
    await world.end()
