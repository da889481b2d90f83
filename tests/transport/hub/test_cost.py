"""What the hub's transport does for a datagram and for a connection, counted: guards must cost nobody much.

Counted are calls of functions, and lines, of :mod:`spnhub.transport` and aioquic in the turns of a hub. CPU time, which
``python -m tests.bench`` measures, says the same, but not twice the same. Each bound has 3 % of air; what costs more
needs a reason, or a way around it for those who do nothing unusual.
"""

from __future__ import annotations

import inspect
import itertools
import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final, NamedTuple

import aioquic
import pytest

from spnhub import transport
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.engine import Engine, Limits
from tests.simulation.endpoint import Program, SimulatedEndpoint
from tests.simulation.hub import SimulatedHub
from tests.simulation.schedule import ENGINES, identity, policy
from tests.support.engines import on_both_engines
from tests.support.fake_network import FakeNetwork, VirtualClock

ADDRESS: Final = ("192.0.2.1", 4433)
BATCH: Final = 20_000
"""Bytes that come in one turn: 18 datagrams of 1200."""
TOGETHER: Final = 20

COUNTED: Final = tuple(str(Path(inspect.getfile(package)).parent) for package in (transport, aioquic))


class Cost(NamedTuple):
    """Of the hub's transport."""

    calls: float
    lines: float


class Meter:
    """Counts what a hub's node does."""

    def __init__(self, hub: SimulatedHub, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = self.lines = self.datagrams = 0
        for name in ("turn", "on_datagram", "thaw"):
            monkeypatch.setattr(hub.node, name, partial(self._count, getattr(hub.node, name)))

    def _count(self, function: Callable[..., None], *args: Any) -> None:
        if args:
            data, _, segment_size = args
            self.datagrams += -(-len(data) // (segment_size or len(data)))
        before = sys.gettrace()
        sys.settrace(self._called)
        try:
            function(*args)
        finally:
            sys.settrace(before)

    def _called(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        if not frame.f_code.co_filename.startswith(COUNTED):
            return None
        self.calls += 1
        return self._line

    def _line(self, _frame: FrameType, event: str, _arg: Any) -> Any:
        self.lines += event == "line"
        return self._line

    def of(self, function: Callable[[], None], number: int = 1) -> Cost:
        """What ``function`` costs the hub, for each of ``number`` things."""
        calls, lines = self.calls, self.lines
        function()
        return Cost((self.calls - calls) / number, (self.lines - lines) / number)


class Echo(Program):
    """Sends back as many bytes as it gets, and ends as the other side does."""

    def begin(self, stream: Connection) -> None:
        super().begin(stream)
        self.on_readable()

    def on_readable(self) -> None:
        super().on_readable()
        self.write(self.read - self.asked)
        if self.fin_read and not self.fin_asked:
            self.finish()


class Site:
    """A hub, a provider that sends back what it gets, and a consumer, which has a connection."""

    def __init__(self, engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
        make = ENGINES[engine]()
        self.clock = VirtualClock()
        self._network = FakeNetwork(self.clock, latency=0.001)
        limits = Limits(datagram_size=1200, datagram_size_max=1200)
        self.hub = SimulatedHub(self._network, "hub-1", ADDRESS, identity(), lambda: make(limits, bytes(32)))
        self.hub.start()
        self.meter = Meter(self.hub, monkeypatch)
        self._echoes = (Echo(f"provider {n}") for n in itertools.count())
        self.provider = self._endpoint(make(limits, None), EndPointType.PROVIDER, "provider")
        self.consumer = self._endpoint(make(limits, None), EndPointType.CONSUMER, "consumer")
        self.clock.run_for(1.0)
        self.program = Program("consumer")
        self.consumer.connect(self.program)
        self.clock.run_for(1.0)

    def _endpoint(self, engine: Engine, role: EndPointType, name: str) -> SimulatedEndpoint:
        return SimulatedEndpoint(
            self._network,
            engine,
            role,
            name,
            policy(name),
            random.Random(1),
            [ADDRESS],
            on_accepted=lambda _: next(self._echoes),
        )

    def send_in_one_turn(self, size: int) -> tuple[int, Cost]:
        """Bytes from the consumer; how many datagrams they are, and what that turn of the hub costs."""
        before = self.meter.datagrams
        self.hub.node.freeze()
        self.program.write(size)
        self.consumer.node.flush()
        self.clock.run_for(0.01)
        datagrams = self.meter.datagrams - before

        def turn() -> None:
            self.hub.node.thaw()
            self.clock.run_for(0.0)

        cost = self.meter.of(turn)
        self.clock.run_for(0.1)
        assert self.program.read == self.program.written
        return datagrams, cost

    def open_and_close(self) -> None:
        """Connections at the same time, in order from the opening to the end."""
        programs = [Program(f"consumer {n}") for n in range(TOGETHER)]
        for program in programs:
            program.write(5)
            program.finish()
            self.consumer.connect(program)
        self.clock.run_until(lambda: all(program.over for program in programs))
        assert {(program.ending, program.read) for program in programs} == {("closed", 5)}


class Bounds(NamedTuple):
    """Of one engine."""

    turn: Cost
    """A turn with one datagram that is passed on."""
    datagram: Cost
    """Each further one."""
    connection: Cost
    """From its opening to its end."""


BOUNDS: Final = {
    "aioquic": Bounds(turn=Cost(235, 1595), datagram=Cost(75, 671), connection=Cost(488, 3152)),
    "native": Bounds(turn=Cost(22, 65), datagram=Cost(0, 0), connection=Cost(82, 594)),
}


@on_both_engines
def test_what_all_pay(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cheapest of several, since now and then a timer or a window is due, too."""
    site = Site(engine, monkeypatch)
    many = [site.send_in_one_turn(BATCH) for _ in range(8)][3:]
    one = [site.send_in_one_turn(1000) for _ in range(8)]
    assert {datagrams for datagrams, _ in one} == {1}
    turn = min(cost for _, cost in one)
    (datagrams,) = {datagrams for datagrams, _ in many}
    assert datagrams > 15
    batch = min(cost for _, cost in many)
    further = Cost((batch.calls - turn.calls) / (datagrams - 1), (batch.lines - turn.lines) / (datagrams - 1))
    connection = min(site.meter.of(site.open_and_close, TOGETHER) for _ in range(2))
    bounds = BOUNDS[engine]
    for what, cost, bound in zip(Bounds._fields, (turn, further, connection), bounds, strict=True):
        print(f"measured: {what}: {cost.calls:.2f} calls, {cost.lines:.1f} lines")
        assert cost.calls <= bound.calls and cost.lines <= bound.lines, f"{what}: {cost}, and the bound is {bound}"
