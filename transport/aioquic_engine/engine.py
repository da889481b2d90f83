"""The engine on aioquic: events, streams and splices of its connections. Sans-I/O.

Counterpart: :mod:`spnhub.transport.engine`, whose promises this keeps. After each batch of datagrams the streams that
got something are pumped once, so that many small packets become one write.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from aioquic.quic import events as quic_events
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.events.faults import OnFault, log_fault
from spnhub.transport import engine as api
from spnhub.transport.aioquic_engine.endpoint import QuicEndpoint
from spnhub.transport.aioquic_engine.handle import ConnectionHandle
from spnhub.transport.aioquic_engine.laggards import WAITING
from spnhub.transport.aioquic_engine.splice import Direction, QuicSplice
from spnhub.transport.aioquic_engine.streams import StreamRecord
from spnhub.transport.meters import Meters

__all__ = ["AioquicEngine"]


_INTERNAL: Final = 1


class AioquicEngine(QuicEndpoint):
    """:class:`spnhub.transport.engine.Engine` on aioquic.

    :param limits: bounds of every connection.
    :param clock: wall clock, for the validity of certificates only.
    :param reset_key: with it, packets of unknown connections are answered with a stateless reset.
    :param on_fault: called with what is raised about one connection, also by aioquic itself; that connection ends.
    """

    def __init__(
        self,
        limits: api.Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        reset_key: bytes | None = None,
        on_fault: OnFault = log_fault,
    ) -> None:
        super().__init__(limits, clock, reset_key, on_fault)
        self._tokens = itertools.count(1)
        self._splices: dict[int, QuicSplice] = {}
        self._splices_ended: list[QuicSplice] = []
        self._pumps: dict[Direction, None] = {}
        self._meters = Meters[Direction]()
        self._overfull: list[ConnectionHandle] = []
        """Those for whose peers more may wait than their send windows allow."""
        self._over: dict[int, ConnectionHandle] = {}
        self._told_over: dict[int, ConnectionHandle] = {}
        """The connections whose end was reported last; the data that they had received may still be read."""

    # ---- events ------------------------------------------------------------------------------------------------

    def events(self) -> list[api.EngineEvent]:
        """See :meth:`spnhub.transport.engine.Engine.events`."""
        for handle in self._told_over.values():
            handle.quic.records.clear()
        if self._may_shake_hands:
            self.shake_hands(self._now)
        for counts, told in ((self._handshakes.dropped, api.HandshakesDropped), (self._retries, api.RetriesSent)):
            if counts:
                self._events += [told(*under, count) for under, count in counts.items()]
                counts.clear()
        if self._laggards.watched:
            self._end_batch()
        for handle in list(self._dirty):
            if not handle.gone and not handle.closing:
                try:
                    self._collect(handle)
                except Exception as fault:
                    self._fail(handle, fault)
        self._pump()
        self._end_splices()
        if self._meters.any:
            self._events += [api.Throttled(meter, count) for meter, count in self._meters.take_waits()]
        self._told_over, self._over = self._over, {}
        events, self._events = self._events, []
        return events

    def _end_batch(self) -> None:
        self._laggards.end_batch(self._now)
        if dropped := self._laggards.take_dropped():
            self._events.append(api.DatagramsDropped(WAITING, dropped))

    def _collect(self, handle: ConnectionHandle) -> None:
        """Turn what aioquic has to say about a connection into events of ours."""
        quic = handle.quic
        self._hear(handle)
        if quic.endings:
            quic.forget_endings(self._now)
        data_came = False
        while (event := quic.next_event()) is not None:
            if isinstance(event, quic_events.StreamDataReceived):
                data_came = True
                self._on_data(handle, event)
            elif isinstance(event, quic_events.StreamReset):
                self._on_reset(handle, event.stream_id, event.error_code)
            elif isinstance(event, quic_events.StopSendingReceived):
                self._on_stopped(handle, event.stream_id, event.error_code)
            elif isinstance(event, quic_events.HandshakeCompleted):
                self._on_connected(handle, event.alpn_protocol or "")
            elif isinstance(event, quic_events.ConnectionIdRetired):
                self._cids.pop(event.connection_id, None)
                handle.cids.discard(event.connection_id)
            elif isinstance(event, quic_events.DatagramFrameReceived) and handle.connected:
                self._events.append(api.DatagramReceived(handle.connection_id, event.data))
        if data_came:
            handle.hear_data()
            if handle.connected and quic.is_window_low(self._now):
                self._events.append(api.WindowLow(handle.connection_id))
        if quic.opened:
            # Also where nothing has come in order: who waits for a header must hear of it.
            for stream_id in quic.opened:
                self._incoming(handle, stream_id)
            quic.opened.clear()
        if handle.address != (current := quic.get_peer_address()) and isinstance(current, api.Address):
            self._move(handle, current)
        if quic.streams_available:
            quic.streams_available = False
            if handle.wants_stream:
                handle.wants_stream = False
                self._events.append(api.Available(handle.connection_id))
        if quic.close_event is not None:
            self._on_closing(handle)

    def _on_connected(self, handle: ConnectionHandle, alpn: str) -> None:
        handle.connected = True
        self._no_longer_half_open(handle)
        certificates = handle.certificates()
        self._events.append(
            api.Connected(
                connection_id=handle.connection_id,
                server_name=handle.server_name() or "",
                certificates=tuple(one.public_bytes(Encoding.DER) for one in certificates),
                alpn=alpn,
                cid=handle.first_cid or handle.quic._peer_cid.cid,
                address=handle.address,
            )
        )

    def _no_longer_half_open(self, handle: ConnectionHandle) -> None:
        self._half_open.remove(handle.queue, handle.source)

    def _on_closing(self, handle: ConnectionHandle) -> None:
        event = handle.quic.close_event
        assert event is not None
        kind, code, reason = handle.closing_kind(), int(event.error_code), str(event.reason_phrase)
        if handle.connected:
            self._end(handle, api.Closed(handle.connection_id, kind, code, reason))
        else:
            alert = code - 0x100 if 0x100 <= code < 0x200 else None
            self._end(handle, handle.handshake_failure(alert, reason or "closed in the handshake"))
        handle.begin_closing(self._now)
        self._dirty[handle] = None

    def _end(self, handle: ConnectionHandle, event: api.Closed | api.HandshakeRefused) -> None:
        """Say that a connection is over, and end what hangs on it. Clients hear Closed also of a failed handshake."""
        if isinstance(event, api.HandshakeRefused) and handle.is_client:
            event = handle.as_closed(event)
        # First what the others count on: whatever is raised below, the end is told and its place is free.
        handle.closing = True
        self._pass_rests(handle)
        if not handle.connected:
            self._no_longer_half_open(handle)
        self._events.append(event)
        self._over[handle.connection_id] = handle
        handle.quic.drop_held()
        for record in list(handle.quic.records.values()):
            direction: Direction | None = record.splice_in or record.splice_out
            if direction is not None:
                splice = direction.splice
                try:
                    splice.lost(handle.quic)
                except Exception as fault:
                    self._on_fault("engine", fault)
                self._touch(splice)

    def _pass_rests(self, handle: ConnectionHandle) -> None:
        """What a connection had said to the end before its own goes to the other sides all the same.

        Before its end is told: a splice of which both directions have ended hasn't ended with it.
        """
        for record in list(handle.quic.records.values()):
            direction: Direction | None = record.splice_in
            if direction is not None and direction.outcome is None and record.fin_pending:
                try:
                    if self._may_leave_behind(direction.sink_handle, record.buffered):
                        direction.pass_rest(self._now, self._meters)
                        self._touch(direction.splice)
                except Exception as fault:
                    self._fail_splice(direction.splice, fault)
        self._end_splices()

    def _may_leave_behind(self, handle: ConnectionHandle, size: int) -> bool:
        """Whether so many bytes more may wait for a peer, be it beyond its send window."""
        after = handle.quic.excess_with(size)
        if not after:
            return True
        others = (one for one in self._overfull if one is not handle and not one.closing)
        excess = {one: one.quic.excess_with(0) for one in others}
        self._overfull = [one for one in excess if excess[one]]
        if sum(excess.values()) + after > self._limits.left_behind:
            return False
        self._overfull.append(handle)
        return True

    # ---- streams: what came in ---------------------------------------------------------------------------------

    def _incoming(self, handle: ConnectionHandle, stream_id: int) -> StreamRecord | None:
        record = handle.quic.records.get(stream_id)
        if record is None:
            record = handle.quic.record(stream_id)
            if record is not None:
                self._events.append(api.Opened(handle.connection_id, stream_id))
        return record

    def _on_data(self, handle: ConnectionHandle, event: quic_events.StreamDataReceived) -> None:
        record = handle.quic.records.get(event.stream_id) or self._incoming(handle, event.stream_id)
        if record is None or record.receive_over:
            return
        data = event.data
        if record.discarding:
            if event.end_stream:
                handle.quic.end_receive(record)
            else:
                handle.quic.consume(record, record.stream.receiver.highest_offset - record.consumed, self._now)
            return
        if data:
            record.chunks.append(data)
            record.buffered += len(data)
        if event.end_stream:
            record.fin_pending = True
        if record.splice_in is not None:
            self._pumps[record.splice_in] = None
        elif not record.readable_told:
            record.readable_told = True
            self._events.append(api.Readable(handle.connection_id, event.stream_id))

    def _on_reset(self, handle: ConnectionHandle, stream_id: int, code: int) -> None:
        record = self._incoming(handle, stream_id)
        if record is None or record.reset_told:
            return
        record.reset_told = True
        direction: Direction | None = record.splice_in
        if direction is None and not record.discarding:
            record.reset_code = code
        if direction is not None or not record.chunks:
            handle.quic.end_receive(record)
        if direction is not None:
            direction.source_reset(code)
            self._touch(direction.splice)
        elif not record.discarding:
            self._events.append(api.Reset(handle.connection_id, stream_id, code))

    def _on_stopped(self, handle: ConnectionHandle, stream_id: int, code: int) -> None:
        record = self._incoming(handle, stream_id)
        if record is None or record.stop_told:
            return
        record.stop_told = True
        record.stream.sender._buffer.clear()
        record.write_blocked = False
        handle.quic.enqueue(record)
        direction: Direction | None = record.splice_out
        if direction is not None:
            direction.sink_stopped(code)
            self._touch(direction.splice)
        else:
            record.stop_code = code
            self._events.append(api.Stopped(handle.connection_id, stream_id, code))

    # ---- splices -----------------------------------------------------------------------------------------------

    def splice(
        self,
        ca: int,
        sa: int,
        cb: int,
        sb: int,
        *,
        a_ended: bool = False,
        b_ended: bool = False,
        meters: tuple[int, ...] = (),
    ) -> int:
        """See :meth:`spnhub.transport.engine.Engine.splice`."""
        token = next(self._tokens)
        a, b = self._find(ca, sa) or self._recall(ca, sa), self._find(cb, sb) or self._recall(cb, sb)
        if a is None or b is None:
            lost = api.Outcome(api.OutcomeKind.LOST, api.LOST_CODE)
            self._events.append(api.Spliced(token, 0, 0, lost, lost))
            for side in (a, b):
                if side is not None:
                    self._abort_stream(*side, api.LOST_CODE)
            return token
        splice = QuicSplice(token, (a[0], b[0]), (a[1], b[1]), self._splices_ended, meters)
        self._splices[token] = splice
        for direction, ended in ((splice.a_to_b, a_ended), (splice.b_to_a, b_ended)):
            source, sink = direction.source, direction.sink
            if ended:
                direction.finish()
            elif source.receive_over or source.reset_code is not None:
                direction.source_connection.end_receive(source)
                direction.source_reset(api.LOST_CODE if source.reset_code is None else source.reset_code)
            elif not direction.sink_connection.can_send(sink):
                direction.sink_stopped(api.LOST_CODE if sink.stop_code is None else sink.stop_code)
            self._pumps[direction] = None
        self._touch(splice)
        return token

    def unsplice(self, token: int, code: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.unsplice`."""
        splice = self._splices.get(token)
        if splice is not None:
            for direction in (splice.a_to_b, splice.b_to_a):
                direction.abort(api.Outcome(api.OutcomeKind.ABORTED, code), code)
            self._touch(splice)

    def splice_progress(self, token: int) -> tuple[int, int] | None:
        """See :meth:`spnhub.transport.engine.Engine.splice_progress`."""
        splice = self._splices.get(token)
        return None if splice is None else (splice.a_to_b.passed, splice.b_to_a.passed)

    def _touch(self, splice: QuicSplice) -> None:
        for handle in splice.handles:
            self._dirty[handle] = None

    def _pump(self) -> None:
        pumps, self._pumps = self._pumps, {}
        for direction in pumps:
            try:
                if direction.pump(self._now, self._meters):
                    self._touch(direction.splice)
                    if direction.sink_connection.is_send_window_low:
                        self._tell_send_low(direction.sink_handle)
            except Exception as fault:
                self._fail_splice(direction.splice, fault)

    def _tell_send_low(self, handle: ConnectionHandle) -> None:
        handle.quic.is_send_window_low = False
        self._events.append(api.SendWindowLow(handle.connection_id))

    def set_meters(self, rates: Mapping[int, int]) -> None:
        """See :meth:`spnhub.transport.engine.Engine.set_meters`."""
        for direction in self._meters.set(rates, self._now):
            direction.waits = False
            self._pumps[direction] = None
            self._touch(direction.splice)

    def timer(self) -> float | None:
        """See :meth:`spnhub.transport.engine.Engine.timer`."""
        if not self._meters.any:
            return super().timer()
        times = (super().timer(), self._meters.timer())
        return min((at for at in times if at is not None), default=None)

    def handle_timer(self, now: float) -> None:
        """See :meth:`spnhub.transport.engine.Engine.handle_timer`."""
        super().handle_timer(now)
        if not self._meters.any:
            return
        for direction, share in self._meters.turns(now):
            if not direction.waits:
                continue
            direction.waits = False
            try:
                if direction.pump(now, self._meters, share):
                    self._touch(direction.splice)
                    if direction.sink_connection.is_send_window_low:
                        self._tell_send_low(direction.sink_handle)
            except Exception as fault:
                self._fail_splice(direction.splice, fault)

    def _fail_splice(self, splice: QuicSplice, fault: BaseException) -> None:
        self._on_fault("engine", fault)
        try:
            self.unsplice(splice.token, _INTERNAL)
        except Exception as another:
            for handle in splice.handles:
                self._fail(handle, another)

    def _end_splices(self) -> None:
        ended = self._splices_ended[:]
        self._splices_ended.clear()
        for splice in ended:
            if self._splices.pop(splice.token, None) is not None:
                self._events.append(splice.result())
                self._touch(splice)

    def _on_room(self, handle: ConnectionHandle, record: StreamRecord) -> None:
        direction: Direction | None = record.splice_out
        if direction is not None:
            self._pumps[direction] = None
        elif handle.quic.can_send(record):
            self._events.append(api.Writable(handle.connection_id, record.stream_id))

    # ---- streams: what is asked for ----------------------------------------------------------------------------

    def _find(self, connection_id: int, stream_id: int) -> tuple[ConnectionHandle, StreamRecord] | None:
        handle = self._live(connection_id)
        record = None if handle is None else handle.quic.records.get(stream_id)
        return None if handle is None or record is None else (handle, record)

    def _recall(self, connection_id: int, stream_id: int) -> tuple[ConnectionHandle, StreamRecord] | None:
        handle = self._live(connection_id)
        record = None if handle is None else handle.quic.recall(stream_id, self._now)
        return None if handle is None or record is None else (handle, record)

    def _find_over(self, connection_id: int, stream_id: int) -> tuple[ConnectionHandle, StreamRecord] | None:
        handle = self._told_over.get(connection_id)
        record = None if handle is None else handle.quic.records.get(stream_id)
        return None if handle is None or record is None or record.splice_in is not None else (handle, record)

    def _abort_stream(self, handle: ConnectionHandle, record: StreamRecord, code: int) -> None:
        handle.quic.reset(record, code)
        handle.quic.stop(record, code)
        self._dirty[handle] = None

    def open_bidi(self, connection_id: int) -> int | None:
        """See :meth:`spnhub.transport.engine.Engine.open_bidi`."""
        handle = self._live(connection_id)
        record = None if handle is None else handle.quic.open_stream()
        if handle is not None and record is None:
            handle.wants_stream = True
        return None if record is None else record.stream_id

    def write(self, connection_id: int, stream_id: int, data: bytes) -> int:
        """See :meth:`spnhub.transport.engine.Engine.write`."""
        found = self._find(connection_id, stream_id)
        if found is None or not found[0].quic.can_send(found[1]):
            return 0
        (handle, record), quic = found, found[0].quic
        taken = min(len(data), max(quic.room(record), api.SMALL_WRITE - record.unsent))
        if taken:
            quic.send(record, data if taken == len(data) else data[:taken])
            self._dirty[handle] = None
            if quic.is_send_window_low:
                self._tell_send_low(handle)
        if taken < len(data):
            quic.await_room(record)
        return taken

    def write_rest(self, connection_id: int, stream_id: int, data: bytes) -> bool:
        """See :meth:`spnhub.transport.engine.Engine.write_rest`."""
        found = self._find(connection_id, stream_id)
        if found is None or not found[0].quic.can_send(found[1]) or not self._may_leave_behind(found[0], len(data)):
            return False
        (handle, record), quic = found, found[0].quic
        if data:
            quic.send(record, data)
        quic.finish(record)
        self._dirty[handle] = None
        return True

    def room(self, connection_id: int, stream_id: int) -> int:
        """See :meth:`spnhub.transport.engine.Engine.room`."""
        found = self._find(connection_id, stream_id)
        if found is None or not found[0].quic.can_send(found[1]):
            return 0
        (handle, record), quic = found, found[0].quic
        room = quic.room(record)
        if not room:
            quic.await_room(record)
            self._dirty[handle] = None
        return room

    def finish(self, connection_id: int, stream_id: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.finish`."""
        if (found := self._find(connection_id, stream_id)) is not None:
            found[0].quic.finish(found[1])
            self._dirty[found[0]] = None

    def read(self, connection_id: int, stream_id: int, limit: int) -> tuple[bytes, bool] | None:
        """See :meth:`spnhub.transport.engine.Engine.read`."""
        found = self._find(connection_id, stream_id) or self._find_over(connection_id, stream_id)
        if found is None or found[1].receive_over or found[1].discarding:
            return None
        handle, record = found
        data = handle.quic.take(record, limit, self._now)
        if data and not handle.closing:
            self._dirty[handle] = None
        if record.chunks:
            return data, False
        record.readable_told = False
        if record.reset_code is not None:
            handle.quic.end_receive(record)
            return (data, False) if data else None
        if record.fin_pending:
            record.fin_pending = False
            handle.quic.end_receive(record)
            if not handle.closing:
                self._dirty[handle] = None
            return data, True
        return data, False

    def reset(self, connection_id: int, stream_id: int, code: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.reset`."""
        if (found := self._find(connection_id, stream_id)) is not None:
            found[0].quic.reset(found[1], code)
            self._dirty[found[0]] = None

    def stop(self, connection_id: int, stream_id: int, code: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.stop`."""
        if (found := self._find(connection_id, stream_id)) is not None:
            found[0].quic.stop(found[1], code)
            self._dirty[found[0]] = None
