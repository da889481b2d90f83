"""What an open and close costs the hub, in calls of Python functions: times say little on a busy machine."""

from __future__ import annotations

import sys
from collections import Counter
from types import FrameType
from typing import Any, Final

from spnhub.actors.contract.packets import CloseAck, CloseRequest
from spnhub.events.model import ConnectionEnded
from spnhub.transport.engine import EngineEvent
from tests.transport.hub.bench import Bench, Peer

_COUNT: Final = 5
_MOST: Final = {"actors": 315, "events": 45, "schemas": 105, "transport": 240}
"""Calls of a room's functions for each connection, at most: a tenth more than were counted."""
_TURN: Final = 40
"""The same for a turn in which nothing has happened."""


class _Calls:
    """Counts the calls within a hub's turns by room, while it is entered."""

    def __init__(self, bench: Bench) -> None:
        self.by_room: Counter[str] = Counter()
        self._bench = bench
        self._turn = bench.server.turn

    def __enter__(self) -> Counter[str]:
        self._bench.server.turn = self._counted  # type: ignore[method-assign] # the bench calls it by this name
        return self.by_room

    def __exit__(self, *_: object) -> None:
        self._bench.server.turn = self._turn  # type: ignore[method-assign] # as above

    def _counted(self, events: list[EngineEvent], now: float, wall_us: int) -> None:
        sys.setprofile(self._note)
        try:
            self._turn(events, now, wall_us)
        finally:
            sys.setprofile(None)

    def _note(self, frame: FrameType, what: str, _: Any) -> None:
        package, _, module = str(frame.f_globals.get("__name__")).partition(".")
        if what == "call" and package == "spnhub":
            self.by_room[module.partition(".")[0]] += 1


def test_an_open_and_close_takes_so_many_calls() -> None:
    """From the opening to the end, one turn for each packet: nobody adds a hand-over unseen."""
    bench = Bench()
    provider, consumer = bench.provider(), bench.consumer()
    _open_and_close(bench, provider, consumer, 0)  # what is made once is made
    with _Calls(bench) as calls:
        for number in range(1, 1 + _COUNT):
            _open_and_close(bench, provider, consumer, number)
    assert [ended.code for ended in bench.events(ConnectionEnded)] == [0] * (1 + _COUNT)
    per_connection = {room: calls[room] / _COUNT for room in calls}
    assert all(per_connection[room] <= _MOST[room] for room in per_connection), per_connection


def _open_and_close(bench: Bench, provider: Peer, consumer: Peer, number: int) -> None:
    uid = number.to_bytes(16, "big").hex()
    leg = bench.leg(consumer, provider, uid)
    consumer.write(leg.cs, b"hello", fin=True)
    bench.settle()
    provider.write(leg.ps, b"hello", fin=True)
    bench.settle()
    consumer.send(CloseRequest(uid, 0, 5, 5, finished=True))
    bench.settle()
    provider.send(CloseAck(uid, 0))
    bench.settle()


def test_a_turn_without_news_takes_few_calls() -> None:
    """A packet that only acknowledges costs no look at anything that waits."""
    bench = Bench()
    bench.provider()
    with _Calls(bench) as calls:
        bench.server.turn([], bench.clock.now(), bench.wall_us())
    assert calls.total() <= _TURN, calls
