"""Streams that were broken off before they are joined: how they have ended passes on, and nobody is taken for lost.

A program may be about to join a stream when the events that end it have come already, and wait behind others.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from spnhub.transport.engine import (
    ENDINGS_KEPT,
    Closed,
    Connected,
    Limits,
    Opened,
    Outcome,
    OutcomeKind,
    Readable,
    Reset,
    Spliced,
    Stopped,
)
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import ENGINES, each

CODE = 34
RESET, STOPPED = Outcome(OutcomeKind.RESET, CODE), Outcome(OutcomeKind.STOPPED, CODE)
FINISHED, LOST = Outcome(OutcomeKind.FINISHED), OutcomeKind.LOST


@pytest.fixture(params=each(ENGINES))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine in turn."""
    made: Kit = request.param()
    return made


class Two:
    """A client with two connections; on the first, ``stream_id`` of which the server has read the first byte."""

    def __init__(self, kit: Kit, limits: Limits | None = None) -> None:
        self.pair = pair = EnginePair(kit, server_limits=limits).connect()
        self.ca, self.a = pair.client.connection_id, pair.server.connection_id
        self.cb = pair.begin()
        pair.run_until(lambda: len(pair.server.of(Connected)) == 2)
        self.b = pair.server.of(Connected)[-1].connection_id
        self.client, self.server = pair.client.engine, pair.server.engine
        self.stream_id = pair.open()

    def break_off(self, steps: Sequence[str], connection_id: int, stream_id: int, code: int = CODE) -> None:
        """What the client does to a stream, a packet for each step."""
        for step in steps:
            match step:
                case "reset":
                    self.client.reset(connection_id, stream_id, code)
                case "stop":
                    self.client.stop(connection_id, stream_id, code)
                case "fin":
                    self.client.finish(connection_id, stream_id)
                    assert self.pair.read_all(self.pair.server, stream_id, 1) == (b"", True)
                case "bytes":
                    self.client.write(connection_id, stream_id, b"unread")
                    self.pair.run_until(lambda: bool(self.pair.server.of(Readable)))
            self.pair.flush()

    def open_other(self) -> int:
        """A stream of the server's on the other connection."""
        stream_id = self.server.open_bidi(self.b)
        assert stream_id is not None
        return stream_id

    def spliced(self, token: int) -> Spliced:
        """How a splice ended."""
        self.pair.run_until(lambda: any(one.token == token for one in self.pair.server.of(Spliced)))
        return next(one for one in self.pair.server.of(Spliced) if one.token == token)


@pytest.mark.parametrize("later", [0.0, 1.0], ids=["in the turn", "forgotten"])
@pytest.mark.parametrize(
    "steps",
    [("reset",), ("stop",), ("reset", "stop"), ("stop", "reset"), ("bytes", "reset", "stop"), ("fin", "stop")],
    ids=" ".join,
)
def test_what_the_peer_has_done_passes_on(kit: Kit, steps: tuple[str, ...], later: float) -> None:
    """With its code, and as what it was; a direction that goes on goes on."""
    two = Two(kit)
    pair = two.pair
    two.break_off(steps, two.ca, two.stream_id)
    expected = {"reset": Reset(two.a, two.stream_id, CODE), "stop": Stopped(two.a, two.stream_id, CODE)}
    pair.run_until(lambda: all(event in pair.server.events for step, event in expected.items() if step in steps))
    if later:
        pair.run_for(later)
    sb = two.open_other()
    token = two.server.splice(two.a, two.stream_id, two.b, sb, a_ended="fin" in steps)
    pair.run_until(lambda: Opened(two.cb, sb) in pair.client.events or steps == ("stop",))
    if "reset" in steps:
        pair.run_until(lambda: Reset(two.cb, sb, CODE) in pair.client.events)
    else:
        if steps == ("stop",):
            two.client.finish(two.ca, two.stream_id)
        pair.run_until(lambda: (two.client.read(two.cb, sb, 1) or (b"", False))[1])
    if "stop" in steps:
        pair.run_until(lambda: Stopped(two.cb, sb, CODE) in pair.client.events)
    else:
        two.client.write(two.cb, sb, b"still")
        two.client.finish(two.cb, sb)
        assert pair.read_all(pair.client, two.stream_id, 100) == (b"still", True)
    ended = two.spliced(token)
    assert ended.outcome_a_to_b == (RESET if "reset" in steps else FINISHED)
    assert ended.outcome_b_to_a == (STOPPED if "stop" in steps else FINISHED)
    assert (ended.a_to_b, ended.b_to_a) == (0, 0 if "stop" in steps else 5)
    pair.run_for(1)
    assert two.server.counts().get("splices", 0) == 0


@pytest.mark.parametrize("later", [0.0, 1.0], ids=["in the turn", "forgotten"])
def test_both_sides_are_broken_off(kit: Kit, later: float) -> None:
    """Each direction ends as its source did."""
    two = Two(kit)
    pair, sb = two.pair, two.open_other()
    two.server.write(two.b, sb, b"x")
    pair.run_until(lambda: Opened(two.cb, sb) in pair.client.events)
    two.break_off(("reset", "stop"), two.ca, two.stream_id)
    two.break_off(("reset", "stop"), two.cb, sb, 35)
    pair.run_until(lambda: len(pair.server.of(Reset)) == 2 == len(pair.server.of(Stopped)))
    if later:
        pair.run_for(later)
    ended = two.spliced(two.server.splice(two.a, two.stream_id, two.b, sb))
    assert (ended.outcome_a_to_b, ended.outcome_b_to_a) == (RESET, Outcome(OutcomeKind.RESET, 35))


@pytest.mark.parametrize("gone", ["the same", "the other"])
def test_a_lost_connection_is_lost_all_the_same(kit: Kit, gone: str) -> None:
    """Whatever had become of a stream of it, or of one that is joined to it."""
    two = Two(kit)
    pair, sb = two.pair, two.open_other()
    two.break_off(("reset", "stop"), two.ca, two.stream_id)
    pair.run_until(lambda: bool(pair.server.of(Stopped)))
    pair.run_for(1)
    two.client.close(two.ca if gone == "the same" else two.cb, 0, "")
    pair.run_until(lambda: bool(pair.server.of(Closed)))
    ended = two.spliced(two.server.splice(two.a, two.stream_id, two.b, sb))
    assert (ended.outcome_a_to_b.kind, ended.outcome_b_to_a.kind) == (LOST, LOST)
    pair.run_for(1)
    assert two.server.counts().get("streams", 0) == 0


def test_no_more_is_remembered_than_may_be_open(kit: Kit) -> None:
    """A peer that breaks off one stream after the other makes the engine forget its own only, the oldest first."""
    two = Two(kit, Limits(streams=4))
    streams = [two.stream_id]
    for _ in range(5):
        two.break_off(("reset", "stop"), two.ca, streams[-1])
        two.pair.run_for(1)
        streams.append(two.pair.open())
    kinds = []
    for stream_id in streams[:5]:
        ended = two.spliced(two.server.splice(two.a, stream_id, two.b, two.open_other()))
        kinds.append(ended.outcome_a_to_b)
        two.pair.run_for(1)
    assert kinds[0].kind is LOST
    assert kinds[1:] == [RESET] * 4


def test_nothing_is_remembered_for_long(kit: Kit) -> None:
    """What nobody has joined by then, nobody will."""
    two = Two(kit)
    two.break_off(("reset", "stop"), two.ca, two.stream_id)
    two.pair.run_for(ENDINGS_KEPT + 1)
    two.pair.open()
    ended = two.spliced(two.server.splice(two.a, two.stream_id, two.b, two.open_other()))
    assert ended.outcome_a_to_b.kind is LOST
