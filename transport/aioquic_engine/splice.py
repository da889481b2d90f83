"""Two streams joined: what is read from one is written to the other, both ways, with its end as it was.

At most :attr:`Limits.send_buffer` bytes per direction are on their way; what does not fit stays in the source's
receive window, so a slow sink holds its source back and nothing else. FIN, RESET and STOP_SENDING pass through.
"""

from __future__ import annotations

from spnhub.transport.aioquic_engine.connection import EngineConnection
from spnhub.transport.aioquic_engine.handle import ConnectionHandle
from spnhub.transport.aioquic_engine.streams import StreamRecord
from spnhub.transport.engine import LOST_CODE, Outcome, OutcomeKind, Spliced
from spnhub.transport.meters import Meters

__all__ = ["Direction", "QuicSplice"]


class Direction:
    """One direction of a splice."""

    __slots__ = ("outcome", "passed", "sink", "sink_connection", "source", "source_connection", "splice", "waits")

    def __init__(
        self,
        splice: QuicSplice,
        source_connection: EngineConnection,
        source: StreamRecord,
        sink_connection: EngineConnection,
        sink: StreamRecord,
    ) -> None:
        self.splice = splice
        self.source_connection = source_connection
        self.source = source
        self.sink_connection = sink_connection
        self.sink = sink
        self.passed = 0
        self.outcome: Outcome | None = None
        self.waits = False
        """It waits for its turn at a meter."""
        source.splice_in = self
        sink.splice_out = self

    def pump(self, now: float, meters: Meters[Direction], turn: int | None = None) -> bool:
        """Pass on the bytes that can be passed on.

        :param turn: how many bytes may pass meters at which others wait.
        :returns: whether there were any.
        """
        if self.outcome is not None:
            return False
        source, sink = self.source, self.sink
        moved = False
        if source.chunks:
            # No more is taken than the sink can send: the rest stays in the source's window, whose credit is not
            # renewed, so that a slow reader slows its writer and nothing piles up here.
            room = self.sink_connection.room(sink)
            allowed = room
            if meters.any and (most := self._allowed(now, meters, turn)) is not None:
                allowed = min(room, most)
            data = self.source_connection.take(source, allowed, now)
            if data:
                if meters.any:
                    meters.spend(self.splice.meters, len(data))
                self.sink_connection.send(sink, data)
                self.passed += len(data)
                moved = True
            if source.chunks and allowed < room:
                self.waits = self.waits or meters.wait(self, self.splice.meters)
                return moved
            if source.chunks:
                self.sink_connection.await_room(sink)  # pumped again when the sink has some
                return moved
        # Only now that all bytes are passed on: the FIN comes after them.
        if source.fin_pending:
            source.fin_pending = False
            self.source_connection.end_receive(source)
            self.finish()
            moved = True
        return moved

    def _allowed(self, now: float, meters: Meters[Direction], turn: int | None) -> int | None:
        if self.waits:
            return 0
        most = meters.allowed(self.splice.meters, now, in_turn=turn is not None)
        return most if most is None or turn is None else min(most, turn)

    @property
    def sink_handle(self) -> ConnectionHandle:
        """The connection that it passes bytes to."""
        return self.splice.handles[self is self.splice.a_to_b]

    def finish(self) -> None:
        """The source's FIN was read, and with it every byte: so does the sink's half end."""
        self.sink_connection.finish(self.sink)
        self.end(Outcome(OutcomeKind.FINISHED))

    def pass_rest(self, now: float, meters: Meters[Direction]) -> None:
        """Pass on all that is left of a source that is gone and had sent its FIN, beyond the sink's room."""
        data = self.source_connection.take(self.source, self.source.buffered, now)
        if data:
            meters.spend(self.splice.meters, len(data))
            self.sink_connection.send(self.sink, data)
            self.passed += len(data)
        self.source.fin_pending = False
        self.source_connection.end_receive(self.source)
        self.finish()

    def source_reset(self, code: int) -> None:
        """The source reset: so do we, towards the sink."""
        if self.outcome is None:
            self.end(Outcome(OutcomeKind.RESET, code))
            self.sink_connection.reset(self.sink, code)

    def sink_stopped(self, code: int) -> None:
        """The sink wants no more: ask the source to stop.

        After our FIN this is how a reset of the whole connection travels (D-18), so it passes through then, too.
        """
        if self.outcome is None:
            self.end(Outcome(OutcomeKind.STOPPED, code))
        self.source_connection.stop(self.source, code)

    def abort(self, outcome: Outcome, code: int) -> None:
        """End it from our side, at both ends."""
        if self.outcome is None:
            self.end(outcome)
        self.sink_connection.reset(self.sink, code)
        self.source_connection.stop(self.source, code)

    def end(self, outcome: Outcome) -> None:
        """Remember how it ended; the splice ends with its second direction."""
        self.outcome = outcome
        self.sink.write_blocked = False
        self.splice.direction_ended()


class QuicSplice:
    """Two streams joined both ways."""

    __slots__ = ("a", "a_to_b", "b", "b_to_a", "ended", "handles", "meters", "token")

    def __init__(
        self,
        token: int,
        handles: tuple[ConnectionHandle, ConnectionHandle],
        records: tuple[StreamRecord, StreamRecord],
        ended: list[QuicSplice],
        meters: tuple[int, ...],
    ) -> None:
        self.meters = meters
        """What bounds its bytes, as far as they are there."""
        self.token = token
        self.a = a = (handles[0].quic, records[0])
        self.b = b = (handles[1].quic, records[1])
        self.ended = ended
        self.handles = handles
        self.a_to_b = Direction(self, *a, *b)
        self.b_to_a = Direction(self, *b, *a)

    def direction_ended(self) -> None:
        """Called by the directions."""
        if self.a_to_b.outcome is not None and self.b_to_a.outcome is not None and self not in self.ended:
            self.ended.append(self)

    def lost(self, connection: EngineConnection) -> None:
        """A side's connection is gone: what is left ends as lost, the other side with an error."""
        for direction in (self.a_to_b, self.b_to_a):
            if direction.outcome is None:
                direction.end(Outcome(OutcomeKind.LOST, LOST_CODE))
        for other, record in (self.a, self.b):
            if other is not connection:
                other.reset(record, LOST_CODE)
                other.stop(record, LOST_CODE)

    def result(self) -> Spliced:
        """The event that ends it; both streams are on their own again."""
        for _, record in (self.a, self.b):
            record.splice_in = record.splice_out = None
            record.reset_code = record.stop_code = None  # passed on
        outcome_a, outcome_b = self.a_to_b.outcome, self.b_to_a.outcome
        assert outcome_a is not None and outcome_b is not None
        return Spliced(self.token, self.a_to_b.passed, self.b_to_a.passed, outcome_a, outcome_b)
