"""A QUIC connection's streams: what was received and not consumed, what may be sent, and the credit for both.

aioquic raises windows as soon as data arrives; here MAX_DATA and MAX_STREAM_DATA move when bytes are consumed
(:meth:`StreamConnection.consume`), within a budget that all streams of a connection share. Counterpart:
:mod:`spnhub.transport.aioquic_engine.connection`, which puts it all into packets.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Final, NamedTuple

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.stream import QuicStream

from spnhub.transport.aioquic_engine.connection_window import ConnectionWindow
from spnhub.transport.aioquic_engine.reassembly import Holdings, Receiver
from spnhub.transport.engine import ENDINGS_KEPT, LITTLE, Limits

__all__ = ["StreamConnection", "StreamRecord"]

_SEND_DATAGRAMS = 12
_ANY = 1 << 62
PLACES_RATE: Final = 1_500
"""Streams that a peer may open again per second for those that are over: more than fit through this engine. Who gives
streams up as soon as it has opened them costs a hub no more than that."""
PLACES_AT_ONCE: Final = 1_024
"""Of them that it may open again at once after a while."""
_PLACES_EVERY: Final = 0.05
"""Seconds between two looks at how many more there are, while streams that are over wait for that."""
_LEAST_PART = 16
"""Where less than this part of a send window is left, nobody gets any more of it: pieces would be too small."""


class StreamRecord:
    """What this side knows of a stream beyond aioquic's: what was received and not consumed, and its credit."""

    __slots__ = (
        "buffered",
        "chunks",
        "consumed",
        "deficit",
        "discarding",
        "dropped",
        "fin_pending",
        "granted_at",
        "idle",
        "put_to_rest",
        "queued",
        "readable_told",
        "receive_over",
        "reserved",
        "reset_code",
        "reset_told",
        "short",
        "splice_in",
        "splice_out",
        "stop_code",
        "stop_told",
        "stream",
        "stream_id",
        "unsent",
        "window",
        "write_blocked",
    )

    def __init__(self, stream: QuicStream, window: int) -> None:
        assert stream.stream_id is not None
        self.stream = stream
        self.stream_id: int = stream.stream_id
        self.chunks: deque[bytes] = deque()
        self.buffered = 0
        self.consumed = 0
        self.fin_pending = False
        """FIN has arrived and was not read yet."""
        self.reset_code: int | None = None
        """The peer has reset its half, as the program knows; what had arrived before may still be read."""
        self.stop_code: int | None = None
        """The peer has asked to get no more, as the program knows."""
        self.reset_told = self.stop_told = False
        """The peer's reset, or its wish to get no more, was dealt with: a repeated one is no news."""
        self.receive_over = False
        """FIN was read, or the peer's half was reset: nothing more will be read."""
        self.discarding = False
        """We asked the peer to stop; what still comes is dropped."""
        self.window = window
        self.reserved = 0
        self.granted_at = -1.0
        self.queued = False
        """It stands among those that may have something to send."""
        self.idle = False
        """It stands there for its turn to pass: it had nothing left after its last one, and nothing has come since."""
        self.deficit = 0
        """Bytes that it may send in this turn."""
        self.readable_told = False
        self.write_blocked = self.short = False
        """Somebody waits for room, and that in the connection's send window."""
        self.put_to_rest = self.dropped = False
        """Nothing will be said of it any more, and what was written isn't kept any more: our half was reset."""
        self.unsent = 0
        """Bytes written and never sent, as the connection's sum has them."""
        self.splice_in: Any = None
        """The direction of a splice that reads from this stream."""
        self.splice_out: Any = None
        """The direction of a splice that writes to this stream."""


class _Ending(NamedTuple):
    reset_code: int | None
    stop_code: int | None
    at: float


class StreamConnection(QuicConnection):
    """The streams of one connection, and their credit.

    Received and unconsumed bytes are at most ``streams * stream_window + window_budget`` (:class:`Limits`).

    :param holdings: what the whole engine holds of what came out of order.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        limits: Limits,
        holdings: Holdings,
        original_destination_connection_id: bytes | None = None,
        retry_source_connection_id: bytes | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=retry_source_connection_id,
        )
        self.limits = limits
        self.holdings = Holdings(limits.reassembly_session, holdings)
        """What came out of order."""
        self.records: dict[int, StreamRecord] = {}
        self.endings: OrderedDict[int, _Ending] = OrderedDict()
        """Of streams that the peer has broken off and that were joined to none, for :data:`ENDINGS_KEPT`."""
        self.opened: list[int] = []
        """Streams that the peer has opened, whether or not anything has come on them; the engine takes them."""
        # Large datagrams go in batches, too.
        self._send_buffer = max(limits.send_buffer, _SEND_DATAGRAMS * limits.datagram_size)
        self._turns: deque[StreamRecord] = deque()
        """Streams that have something to send, may be over, or had something in their last turn."""
        self._ahead: deque[StreamRecord] = deque()
        """Those of them that begin to have something, and no more than :data:`LITTLE`: they go before the others."""
        self._credit_due: deque[StreamRecord] = deque()
        """Streams whose window has moved since it was last announced to the peer."""
        self._window = ConnectionWindow(configuration.max_data, limits.connection_window)
        self._reserved_total = 0
        self._grown = 0
        self._unsent_total = 0
        self._send_window = self._send_left = limits.initial_send_window or _ANY
        self._send_low_at = self._send_window // 2
        """When less is left, more would be of use."""
        self.short: deque[StreamRecord] = deque()
        """Streams for which the send window has had no room, who has waited longest first."""
        self.is_send_window_low = False
        """More of it would be of use; the engine takes it."""
        self.unblocked: list[StreamRecord] = []
        """Streams on which more may be written again; the engine takes them."""
        self._streams_at_once = limits.streams
        self._places: float = PLACES_AT_ONCE
        """Streams that may be opened for others now, at the last look at :attr:`_places_at`."""
        self._places_at = 0.0
        self._places_due = 0
        """Streams that are over, for which no other may be opened yet."""
        self._local_max_streams_bidi.value = self._local_max_streams_bidi.sent = limits.streams
        self._local_max_streams_uni.value = self._local_max_streams_uni.sent = 0

    @property
    def buffered(self) -> int:
        """Bytes received on streams and not consumed."""
        return self._local_max_data.used - self._window.consumed

    @property
    def granted(self) -> int:
        """Bytes that the peer may have us hold of streams."""
        return max(self._local_max_data.value - self._window.consumed, self._window.size)

    def set_window(self, size: int) -> None:
        """Let the peer have us hold so many bytes; credit that it has is not taken back."""
        self._window.set(size)
        limit = self._local_max_data
        limit.value = max(limit.value, self._window.consumed + size)

    def is_window_low(self, now: float) -> bool:
        """Whether more would be of use to the connection; told once."""
        return self._window.is_low(self.buffered, self._loss._rtt_smoothed, now)

    @property
    def unacknowledged(self) -> int:
        """Bytes written on streams and not acknowledged."""
        return self._send_window - self._send_left

    def excess_with(self, size: int) -> int:
        """How many bytes more than the send window allows would wait with so many more."""
        return max(size - self._send_left, 0)

    def set_send_window(self, size: int) -> None:
        """Let so many of them wait for the peer."""
        self._send_left += size - self._send_window
        self._send_window = size
        self._send_low_at = size // 2

    # ---- streams: opening, writing, reading --------------------------------------------------------------------

    def open_stream(self) -> StreamRecord | None:
        """Open a bidirectional stream; None if the peer allows no more now."""
        stream_id = self._local_next_stream_id_bidi
        if stream_id // 4 >= self._remote_max_streams_bidi:
            return None
        return self._record_of(self._get_or_create_stream_for_send(stream_id))

    def record(self, stream_id: int) -> StreamRecord | None:
        """The record of a stream that is there; made when the peer has just opened it."""
        record = self.records.get(stream_id)
        if record is None:
            stream = self._streams.get(stream_id)
            if stream is not None:
                record = self._record_of(stream)
        return record

    def _get_or_create_stream(self, frame_type: int, stream_id: int) -> QuicStream:
        stream = self._streams.get(stream_id)
        if stream is None:
            # With a stream all below it are open (RFC 9000 section 2.1).
            first = self._local_max_streams_bidi.used * 4 + stream_id % 4
            stream = super()._get_or_create_stream(frame_type, stream_id)
            for opened in range(first, stream_id + 4, 4):
                self._streams[opened].receiver = Receiver(opened, self.holdings)
                self.opened.append(opened)
        return stream

    def _get_or_create_stream_for_send(self, stream_id: int) -> QuicStream:
        stream = super()._get_or_create_stream_for_send(stream_id)
        if not isinstance(stream.receiver, Receiver):
            stream.receiver = Receiver(stream_id, self.holdings)
        return stream

    def drop_held(self) -> None:
        """Nothing more will be read: let go of what came out of order."""
        for stream in (*self._streams.values(), *self._crypto_streams.values()):
            if isinstance(stream.receiver, Receiver):
                stream.receiver.drop()

    def _record_of(self, stream: QuicStream) -> StreamRecord:
        record = StreamRecord(stream, self.limits.stream_window)
        self.records[record.stream_id] = record
        return record

    def room(self, record: StreamRecord) -> int:
        """How many more bytes :meth:`send` should be given now: of what is left of the send window half at most."""
        if self._send_left * _LEAST_PART < self._send_window or not self.can_send(record):
            return 0
        return max(0, min(self._send_share() - record.unsent, self._send_left // 2))

    def await_room(self, record: StreamRecord) -> None:
        """Somebody waits for more of it."""
        record.write_blocked = True
        if not record.short and self._is_short():
            record.short = True
            self.short.append(record)

    def _is_short(self) -> bool:
        return self._send_left * _LEAST_PART < self._send_window

    def end_shortage(self) -> bool:
        """Those that have waited longest for the send window may write, as far as it has room for them now.

        :returns: whether there are others: these may have less to write than there is room for.
        """
        short, share, left = self.short, self._send_share(), self._send_left
        while short and left * _LEAST_PART >= self._send_window:
            record = short.popleft()
            record.short = record.write_blocked = False
            if self.can_send(record):
                self.unblocked.append(record)
                left -= min(share, left // 2)
        return bool(short) and not self._is_short()

    def _send_share(self) -> int:
        """How much a stream may hold unsent: less where many do, since a connection sends no faster for it."""
        return self._send_buffer if self._unsent_total < self.limits.send_budget else self._send_buffer // 4

    def _count_unsent(self, record: StreamRecord) -> int:
        """To be called after whatever changes it."""
        sender = record.stream.sender
        unsent = 0 if sender._reset_error_code is not None else sender._buffer_stop - sender.highest_offset
        self._unsent_total += unsent - record.unsent
        record.unsent = unsent
        return unsent

    def can_send(self, record: StreamRecord) -> bool:
        """Whether our half is still open."""
        sender = record.stream.sender
        return sender._buffer_fin is None and sender._reset_error_code is None and not sender.is_finished

    def send(self, record: StreamRecord, data: bytes) -> None:
        """Queue bytes on our half, which must be open."""
        record.stream.sender.write(data)
        self._count_unsent(record)
        self._send_left -= len(data)
        if self._send_left < self._send_low_at:
            self._send_low_at = -_ANY  # told once
            self.is_send_window_low = True
        self.enqueue(record)

    def finish(self, record: StreamRecord) -> None:
        """FIN after what was queued."""
        if self.can_send(record):
            record.stream.sender.write(b"", end_stream=True)
            self.enqueue(record)

    def reset(self, record: StreamRecord, code: int) -> None:
        """Reset our half; nothing happens once its FIN was acknowledged."""
        sender = record.stream.sender
        if sender._reset_error_code is None and not sender.is_finished:
            sender.reset(code)
            # aioquic keeps the bytes until the reset is acknowledged; they won't be read any more.
            sender._buffer.clear()
            self.forget_written(record)
            self.enqueue(record)

    def forget_written(self, record: StreamRecord) -> None:
        """What was written isn't kept any more: our half was reset."""
        self._count_unsent(record)
        if not record.dropped:
            record.dropped = True
            self._send_left += record.stream.sender._buffer_stop - record.stream.sender._buffer_start

    def stop(self, record: StreamRecord, code: int) -> None:
        """Ask the peer to stop, and drop what it has sent and still sends."""
        if record.receive_over or record.discarding:
            return
        record.discarding = True
        if not record.stream.receiver.is_finished:
            record.stream.receiver.stop(code)
        self.drop(record)
        self.enqueue(record)

    def drop(self, record: StreamRecord) -> None:
        """Consume what has come without anybody reading it; the peer gets its credit back."""
        unread = record.stream.receiver.highest_offset - record.consumed
        if unread:
            self.consume(record, unread, 0.0)
            record.chunks.clear()
            record.buffered = 0
        if record.stream.receiver.is_finished:
            self.end_receive(record)

    def take(self, record: StreamRecord, limit: int, now: float) -> bytes:
        """Consume up to ``limit`` buffered bytes."""
        chunks = record.chunks
        if not chunks or limit <= 0:
            return b""
        if record.buffered <= limit:
            data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            chunks.clear()
        else:
            parts: list[bytes] = []
            missing = limit
            while missing:
                chunk = chunks.popleft()
                if len(chunk) > missing:
                    chunks.appendleft(chunk[missing:])
                    chunk = chunk[:missing]
                parts.append(chunk)
                missing -= len(chunk)
            data = b"".join(parts)
        record.buffered -= len(data)
        self.consume(record, len(data), now)
        return data

    # ---- credit ------------------------------------------------------------------------------------------------

    def consume(self, record: StreamRecord, size: int, now: float) -> None:
        """Bytes of a stream were consumed: give credit for them, and for more if they are consumed quickly."""
        record.consumed += size
        self._credit_connection(size)
        stream = record.stream
        if record.discarding or stream.receiver._final_size is not None:
            return
        outstanding = stream.max_stream_data_local - record.consumed
        if outstanding * 2 > record.window:
            return
        self._resize(record, outstanding, now)
        target = record.consumed + record.window
        if target > stream.max_stream_data_local:
            stream.max_stream_data_local = target
            self._credit_due.append(record)

    def _credit_connection(self, size: int) -> None:
        window = self._window
        window.consume(size)
        limit = self._local_max_data
        target = window.consumed + window.size
        if (target - limit.value) * 4 > window.size:
            limit.value = target

    def _resize(self, record: StreamRecord, outstanding: int, now: float) -> None:
        """Double the window of a stream that used half of it within a few round trips, within the budget.

        The budget is shared evenly among the streams that have grown; a stream above its share shrinks to it.
        """
        limits = self.limits
        quick = now - record.granted_at < max(4 * self._loss._rtt_smoothed, 0.05)
        # What only filled the buffers behind a stalled reader is no sign of speed.
        quick = quick and record.consumed >= 2 * record.window
        record.granted_at = now
        base = limits.stream_window
        sharers = self._grown + (0 if record.reserved else 1)
        share = min(limits.stream_window_max, max(base, limits.window_budget // sharers))
        window = min(record.window * 2 if quick else record.window, share)
        reserved = max(window, outstanding) - base
        spare = limits.window_budget - self._reserved_total + record.reserved
        if reserved > spare:
            window = max(base, base + spare)
            reserved = max(window, outstanding) - base
        self._reserve(record, reserved)
        record.window = window

    def _reserve(self, record: StreamRecord, reserved: int) -> None:
        self._grown += (reserved > 0) - (record.reserved > 0)
        self._reserved_total += reserved - record.reserved
        record.reserved = reserved

    def end_receive(self, record: StreamRecord) -> None:
        """Nothing more will be read: give back what was received and never read (a reset cuts bytes off)."""
        if record.receive_over:
            return
        record.receive_over = True
        record.chunks.clear()
        record.buffered = 0
        self._reserve(record, 0)
        lost = record.stream.receiver.highest_offset - record.consumed
        record.consumed += lost
        self._credit_connection(lost)
        self.enqueue(record)

    # ---- the queue of streams with something to send -----------------------------------------------------------

    def enqueue(self, record: StreamRecord) -> None:
        """Look at this stream when the next packet is written."""
        if record.queued:
            record.idle = False
        elif not record.put_to_rest:
            record.queued = True
            record.deficit = LITTLE
            (self._ahead if record.unsent <= LITTLE else self._turns).append(record)

    def _rest_if_over(self, record: StreamRecord, now: float) -> bool:
        """Forget a stream of which both halves are over and all was read; the peer may open another for it."""
        if not (record.stream.is_finished and record.receive_over):
            return False
        record.put_to_rest = True
        self._streams.pop(record.stream_id, None)
        self.records.pop(record.stream_id, None)
        if record.reset_code is not None or record.stop_code is not None:
            while len(self.endings) >= self.limits.streams:
                self.endings.popitem(last=False)
            self.endings[record.stream_id] = _Ending(record.reset_code, record.stop_code, now)
        if (record.stream_id & 1 == 0) != self._is_client:
            self._places_due += 1
            self.return_places(now)
        return True

    def return_places(self, now: float) -> None:
        """Let the peer open other streams for those that are over, as far as :data:`PLACES_RATE` allows."""
        if self._places < self._places_due:
            self._places = min(self._places + (now - self._places_at) * PLACES_RATE, PLACES_AT_ONCE)
            self._places_at = now
        count = min(int(self._places), self._places_due)
        self._places -= count
        self._places_due -= count
        self._local_max_streams_bidi.value += count

    @property
    def places_return_at(self) -> float | None:
        """When :meth:`return_places` is due."""
        return self._places_at + _PLACES_EVERY if self._places_due else None

    def recall(self, stream_id: int, now: float) -> StreamRecord | None:
        """A stream that has ended, as it ended, if that is remembered (:attr:`endings`)."""
        self.forget_endings(now)
        ending = self.endings.pop(stream_id, None)
        if ending is None:
            return None
        record = StreamRecord(QuicStream(stream_id, readable=False, writable=False), 0)
        record.receive_over = record.put_to_rest = True
        record.reset_code, record.stop_code = ending.reset_code, ending.stop_code
        return record

    def forget_endings(self, now: float) -> None:
        """Forget what was remembered for long enough."""
        while self.endings and now - next(iter(self.endings.values())).at >= ENDINGS_KEPT:
            self.endings.popitem(last=False)
