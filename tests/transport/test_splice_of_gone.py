"""Spliced streams whose peer leaves right after its last word: what it had said to the end is passed on all the same.

An agent of sc01 closes its connection as soon as it has sent its last FIN, so both come together (SC01.md).
"""

from __future__ import annotations

import pytest

from spnhub.transport.engine import LOST_CODE, Closed, Connected, Limits, Opened, Outcome, OutcomeKind, Reset, Spliced
from tests.support.engine_pair import EnginePair, Kit
from tests.support.engines import ENGINES, REAL, each

FINISHED = Outcome(OutcomeKind.FINISHED)
MORE = 300_000
"""Bytes that a stream's send buffer doesn't take."""


@pytest.fixture(params=each(ENGINES))
def kit(request: pytest.FixtureRequest) -> Kit:
    """Each engine in turn."""
    made: Kit = request.param()
    return made


@pytest.fixture(params=each(REAL))
def real(request: pytest.FixtureRequest) -> Kit:
    """Those that bound what they keep."""
    made: Kit = request.param()
    return made


class Leaving:
    """A client with two connections, streams of which the server has joined; the first one has ended its direction.

    :param limits: the server's.
    :param taken: the bytes that the client takes of a stream without reading them.
    """

    def __init__(self, kit: Kit, limits: Limits | None = None, taken: int = 2_000_000) -> None:
        window = Limits(stream_window=taken)
        self.pair = pair = EnginePair(kit, server_limits=limits, client_limits=window).connect()
        self.client, self.server = pair.client.engine, pair.server.engine
        self.a, self.b = pair.client.connection_id, pair.begin()
        pair.run_until(lambda: len(pair.server.of(Connected)) == 2)
        self.server_b = pair.server.of(Connected)[-1].connection_id

    def join(self) -> tuple[int, int, int]:
        """Join a stream of the first connection to one of the second: their ids, and the token."""
        sa = self.pair.open()
        self.client.finish(self.a, sa)
        sb = self.server.open_bidi(self.server_b)
        assert sb is not None
        token = self.server.splice(self.pair.server.connection_id, sa, self.server_b, sb)
        self.pair.run_until(lambda: Opened(self.b, sb) in self.pair.client.events)
        assert self.client.read(self.b, sb, 10) == (b"", True)
        return sa, sb, token

    def put(self, stream_id: int, data: bytes) -> None:
        """The second connection sends, and the server has it, though nobody at the first one reads."""
        sent = 0
        while sent < len(data):
            sent += self.client.write(self.b, stream_id, data[sent:])
            self.pair.run_for(0.05)

    def leave(self) -> None:
        """The second connection is closed, and the server hears of it together with what was said on it last."""
        self.pair.client.node.turn()
        self.client.close(self.b, 0, "bye")
        self.pair.run_until(lambda: bool(self.pair.server.of(Closed)))

    def ended(self, token: int) -> Spliced:
        """How a splice ended."""
        self.pair.run_until(lambda: any(one.token == token for one in self.pair.server.of(Spliced)))
        return next(one for one in self.pair.server.of(Spliced) if one.token == token)


def test_the_last_word_and_the_close_come_together(kit: Kit) -> None:
    """The splice ends in order, before the connection's end is told; the reader gets every byte, and FIN."""
    two = Leaving(kit)
    sa, sb, token = two.join()
    two.client.write(two.b, sb, b"bye")
    two.client.finish(two.b, sb)
    two.leave()
    assert two.ended(token) == Spliced(token, 0, 3, FINISHED, FINISHED)
    told = [type(one) for one in two.pair.server.events if isinstance(one, Spliced | Closed)]
    assert told == [Spliced, Closed]
    assert two.pair.read_all(two.pair.client, sa, 10) == (b"bye", True)
    two.pair.run_for(30)
    assert two.server.counts().get("splices", 0) == 0
    assert not two.pair.client.of(Reset)


def test_a_slow_reader_gets_all_of_it(kit: Kit) -> None:
    """Also what its stream had no room for when the other side left."""
    two = Leaving(kit, Limits(stream_window=MORE, initial_send_window=64_000), taken=16_000)
    sa, sb, token = two.join()
    data = bytes(range(250)) * (MORE // 250)
    two.put(sb, data)
    two.client.finish(two.b, sb)
    two.leave()
    assert two.ended(token) == Spliced(token, 0, MORE, FINISHED, FINISHED)
    assert two.pair.read_all(two.pair.client, sa, MORE) == (data, True)


def test_what_is_kept_is_bounded(real: Kit) -> None:
    """Over all connections: what is beyond it is lost, with an error, and later there is room again."""
    limits = Limits(stream_window=MORE, initial_send_window=64_000, left_behind=MORE + 64_000)
    two = Leaving(real, limits, taken=16_000)
    joined = [two.join() for _ in range(3)]
    for _, sb, _ in joined:
        two.put(sb, bytes(MORE))
        two.client.finish(two.b, sb)
    two.leave()
    kinds = [two.ended(token).outcome_b_to_a.kind for _, _, token in joined]
    assert (kinds.count(OutcomeKind.FINISHED), kinds.count(OutcomeKind.LOST)) == (1, 2)
    for (sa, _, _), kind in zip(joined, kinds, strict=True):
        if kind is OutcomeKind.LOST:
            two.pair.run_until(lambda sa=sa: Reset(two.a, sa, LOST_CODE) in two.pair.client.events)  # type: ignore[misc]
        else:
            data, fin = two.pair.read_all(two.pair.client, sa, MORE)
            assert (len(data), fin) == (MORE, True)
    two.b = two.pair.begin()
    two.pair.server.events.clear()
    two.pair.run_until(lambda: bool(two.pair.server.of(Connected)))
    two.server_b = two.pair.server.of(Connected)[-1].connection_id
    _, sb, token = two.join()
    two.put(sb, bytes(MORE))
    two.client.finish(two.b, sb)
    two.leave()
    assert two.ended(token).outcome_b_to_a == FINISHED


def test_what_has_no_end_is_lost(kit: Kit) -> None:
    """Bytes without their FIN are no whole: the reader sees an error."""
    two = Leaving(kit)
    sa, sb, token = two.join()
    two.client.write(two.b, sb, b"by")
    two.leave()
    assert two.ended(token).outcome_b_to_a.kind is OutcomeKind.LOST
    two.pair.run_until(lambda: Reset(two.a, sa, LOST_CODE) in two.pair.client.events)


def test_a_reset_keeps_its_code(kit: Kit) -> None:
    """Though the connection is closed in the same batch."""
    two = Leaving(kit)
    sa, sb, token = two.join()
    two.client.reset(two.b, sb, 34)
    two.leave()
    assert two.ended(token).outcome_b_to_a == Outcome(OutcomeKind.RESET, 34)
    two.pair.run_until(lambda: any(one.stream_id == sa for one in two.pair.client.of(Reset)))


def test_write_rest(real: Kit) -> None:
    """Takes all of it and FIN; nothing of a stream that has ended, of an unknown one, or beyond the bound."""
    pair = EnginePair(real, server_limits=Limits(initial_send_window=64_000, left_behind=MORE)).connect()
    server, connection_id, stream_id = pair.server.engine, pair.server.connection_id, pair.open()
    assert not server.write_rest(connection_id, stream_id, bytes(MORE + 64_001))
    assert not server.write_rest(connection_id, stream_id + 4, b"x")
    assert server.write_rest(connection_id, stream_id, bytes(MORE))
    assert not server.write_rest(connection_id, stream_id, b"x")
    data, fin = pair.read_all(pair.client, stream_id, MORE)
    assert (len(data), fin) == (MORE, True)
