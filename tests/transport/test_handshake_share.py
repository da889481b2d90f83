"""Handshakes, and what they lead to, get a share of a busy loop's CPU time (D-33)."""

from __future__ import annotations

import time
from typing import Any, cast

import pytest

from spnhub.transport import udp
from spnhub.transport.engine import Address, Connected, Engine, EngineEvent, HandshakeRefused, Writable
from spnhub.transport.udp import UdpEndpoint

STEP, ELSE = 0.0002, 0.002
"""CPU seconds of a handshake, natively, and of all that isn't about handshakes in one turn."""
HERE = Address(0, ("192.0.2.1", 1))


class Busy:
    """An engine with handshakes without end, whose every turn has other work, too; time is what they cost."""

    def __init__(self, outcome: EngineEvent, costs: float) -> None:
        self.now = 0.0
        self.outcome, self.costs = outcome, costs
        self.steps = 0
        self._events: list[EngineEvent] = []

    def thread_time(self) -> float:
        return self.now

    def shake_hands(self, _now: float) -> bool:
        self.now += STEP
        self.steps += 1
        self._events.append(self.outcome)
        return True

    def timer(self) -> None:
        return None

    def events(self) -> list[EngineEvent]:
        events, self._events = self._events, []
        return events

    def transmit(self, _now: float) -> list[Any]:
        return []

    def on_events(self, events: list[EngineEvent]) -> None:
        self.now += self.costs * sum(event is self.outcome for event in events)


CONNECTED = Connected(1, "hub.test", (), "spn/1", b"", HERE)
REFUSED = HandshakeRefused(1, HERE, None, None, "", None)


@pytest.mark.parametrize("outcome", [CONNECTED, REFUSED], ids=["admitted", "refused"])
@pytest.mark.parametrize("costs", [0.0, 0.0001, 0.001])
async def test_what_a_handshake_leads_to_is_taken_from_the_share(
    monkeypatch: pytest.MonkeyPatch, outcome: EngineEvent, costs: float
) -> None:
    """A handshake's step is cheap, and to admit the session is dear: both together get a third, or a step each turn."""
    engine = Busy(outcome, costs)
    monkeypatch.setattr(time, "thread_time", engine.thread_time)
    endpoint = UdpEndpoint(cast("Engine", engine), engine.on_events)
    turns = 1000
    for _ in range(turns):
        engine.now += ELSE
        endpoint.turn()
    each = STEP + costs
    spent = engine.steps * each
    assert spent <= turns * max(each, ELSE * udp.SHARE + 2 * each)
    assert engine.steps >= turns
    # Not much less than their share, either.
    assert spent >= 0.8 * turns * ELSE * udp.SHARE


async def test_what_else_happens_in_such_a_turn_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events of established sessions may cost what they want: handshakes pay for their own."""
    steps = []
    for costs in (0.0, 0.01):
        engine = Busy(Writable(7, 0), costs)
        monkeypatch.setattr(time, "thread_time", engine.thread_time)
        endpoint = UdpEndpoint(cast("Engine", engine), engine.on_events)
        for _ in range(100):
            engine.now += ELSE
            endpoint.turn()
        steps.append(engine.steps)
    assert steps[1] >= steps[0]
