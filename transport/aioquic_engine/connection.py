"""A QUIC connection whose work per packet does not depend on idle streams.

aioquic walks every open stream for every packet. This subclass replaces just that: the data of its 1-RTT packets
comes from a queue of the streams that have something to send. Credit and the streams themselves are
:mod:`spnhub.transport.aioquic_engine.streams`; everything else (packets, loss recovery, congestion control, TLS) is
aioquic's. ``tests/transport/test_aioquic_private.py`` pins each private part of aioquic that is used here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from aioquic import tls
from aioquic.buffer import Buffer, BufferReadError, size_uint_var
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import (
    NON_ACK_ELICITING_FRAME_TYPES,
    PROBING_FRAME_TYPES,
    Limit,
    QuicConnectionError,
    QuicNetworkPath,
    QuicReceiveContext,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, QuicPacketType, pull_quic_transport_parameters
from aioquic.quic.packet_builder import QuicDeliveryState, QuicPacketBuilder, QuicPacketBuilderStop
from aioquic.quic.stream import StreamFinishedError

from spnhub.transport.aioquic_engine.keys import OneRttKeys
from spnhub.transport.aioquic_engine.reassembly import Holdings, NoRoom, Receiver
from spnhub.transport.aioquic_engine.recovery import Recovery
from spnhub.transport.aioquic_engine.resets import reset_token
from spnhub.transport.aioquic_engine.streams import StreamConnection, StreamRecord
from spnhub.transport.aioquic_engine.tls import ClientContext, ServerContext
from spnhub.transport.certificates import ParsedIdentity
from spnhub.transport.engine import LITTLE, Address, Limits
from spnhub.transport.pem import CHAIN_LIMIT

__all__ = ["EngineConnection"]

# A frame smaller than this is not worth starting at the end of a packet (bytes).
_SLIVER = 64
_LIMIT_FRAME = 1 + 8 + 8
USUAL_FRAMES: Final = 24
"""Frames of a packet that cost about what the packet itself does."""

_HELLO: Final = 16 * 1024
"""Bytes of a ClientHello or ServerHello: some 0.3 KiB, 2 KiB with a post-quantum key share."""
_OUR_HELLO: Final = 4 * 1024
_BESIDE_CHAIN: Final = 8 * 1024
"""Bytes of a handshake beside the certificate chain: extensions, a signature, what a server asks for."""
HANDSHAKE_LIMIT: Final = CHAIN_LIMIT + _BESIDE_CHAIN
_CRYPTO_BOUNDS: Final = {
    tls.Epoch.INITIAL: _HELLO,
    tls.Epoch.HANDSHAKE: HANDSHAKE_LIMIT,
    tls.Epoch.ONE_RTT: _HELLO,
}
"""Bytes of TLS messages that a peer may have on their way or incomplete here, in each stage of a handshake: all that a
stranger can make this side hold. aioquic would take 512 KiB out of order, and 16 MiB of one message."""


class EngineConnection(StreamConnection):
    """One connection of an :class:`spnhub.transport.aioquic_engine.engine.AioquicEngine`, either side.

    :param identities: server only: our identities, by server name.
    :param trust: client only: what the server's chain must end at, PEM.
    :param chain_size: bytes of the longest certificate chain that this side may present.
    :param clock: when certificates must be valid.
    :param holdings: what the whole engine holds of what came out of order.
    :param validated: server only: the connection id of the Retry that the client has answered, and where it did.
    :param is_crowded: server only: many handshakes are under way, so little of this one's waits for what is missing.
    :param reset_key: what the stateless reset tokens of our connection ids follow from; None: random ones.
    """

    def __init__(
        self,
        *,
        configuration: QuicConfiguration,
        limits: Limits,
        clock: Callable[[], datetime],
        chain_size: int,
        holdings: Holdings,
        identities: Mapping[str, ParsedIdentity] | None = None,
        trust: bytes = b"",
        is_crowded: bool = False,
        reset_key: bytes | None = None,
        original_destination_connection_id: bytes | None = None,
        validated: tuple[bytes, Address] | None = None,
    ) -> None:
        super().__init__(
            configuration=configuration,
            limits=limits,
            holdings=holdings,
            original_destination_connection_id=original_destination_connection_id,
            retry_source_connection_id=None if validated is None else validated[0],
        )
        if validated is not None:
            self._network_paths = [QuicNetworkPath(validated[1], is_validated=True)]
        self.streams_available = False
        """The peer has allowed more streams; the engine takes it."""
        self.issued: list[bytes] = []
        """Connection ids that were announced to the peer, which may use them from now on; the engine takes them."""
        self.closed_by_us = False
        self._recovery = Recovery.adopt(self._loss)
        self._frame_handlers: dict[int, tuple[Callable[[QuicReceiveContext, int, Buffer], None], Any]] = (
            self._QuicConnection__frame_handlers  # type: ignore[attr-defined]  # the name that Python gives it
        )
        self.extra_frames = 0
        """Frames beyond :data:`USUAL_FRAMES` a packet that have come; the engine sets this to 0."""
        self._challenge_at: float | None = None
        """When the peer's new address is challenged again."""
        self._identities = identities
        self._trust = trust
        self._is_crowded = is_crowded
        self._chain_size = chain_size
        self._clock = clock
        self._reset_key = reset_key
        self._starved: list[StreamRecord] = []
        """Streams that wait for MAX_DATA."""
        self._derive_tokens()

    # ---- state that the engine looks at ------------------------------------------------------------------------

    @property
    def close_event(self) -> quic_events.ConnectionTerminated | None:
        """Set as soon as either side has begun to close."""
        return self._close_event

    @property
    def unanswered(self) -> bool:
        """Something that wants an acknowledgement is in flight, or about to be sent again."""
        return self._probe_pending or any(space.ack_eliciting_in_flight for space in self._loss.spaces)

    @property
    def acknowledged(self) -> int:
        """Grows with each acknowledgement of something that was not acknowledged before."""
        return sum(space.largest_acked_packet for space in self._loss.spaces)

    @property
    def peer_reset_token(self) -> bytes:
        """What ends a stateless reset of the peer; empty: not known yet."""
        return self._peer_cid.stateless_reset_token

    @property
    def rtt(self) -> float:
        """Round-trip time, seconds; 0: not known yet."""
        return self._loss._rtt_smoothed

    def measurements(self) -> tuple[float, int, int]:
        """Round-trip time (s), congestion window and bytes in flight."""
        return self.rtt, self._loss.congestion_window, self._loss.bytes_in_flight

    def probe_timeout(self) -> float:
        """RFC 9002 section 6.2.1, seconds."""
        return float(self._loss.get_probe_timeout())

    def probe(self, now: float) -> None:
        """Send something that wants an acknowledgement, whatever the congestion window says.

        In a handshake it is what is unanswered: a server that has none of it takes nothing else for a beginning
        (RFC 9000 section 17.2.2).
        """
        if self._handshake_complete:
            self._send_probe()
        else:
            self._loss.reschedule_data(now=now)

    def sign_of_life(self) -> None:
        """Something came from a peer that acknowledges nothing: what it missed need not wait for the back-off."""
        self._recovery.forget_back_off()

    def moved(self) -> None:
        """The peer sends from another address: challenge it at once, whatever waits for the old one."""
        self._recovery.forget_back_off()
        if not self._network_paths[0].is_validated:
            self._send_probe()

    # ---- what replaces aioquic's own ---------------------------------------------------------------------------

    def _derive_tokens(self) -> None:
        if self._reset_key is not None:
            for connection_id in self._host_cids:
                # A client must not have a token in its transport parameters (RFC 9000 section 18.2).
                if connection_id.stateless_reset_token is not None:
                    connection_id.stateless_reset_token = reset_token(self._reset_key, connection_id.cid)

    def _replenish_connection_ids(self) -> None:
        super()._replenish_connection_ids()
        self._derive_tokens()

    def receive_datagram(self, data: bytes, addr: object, now: float) -> None:
        """As aioquic's, but ignore all datagrams once this side has begun to close.

        aioquic goes on until its close packet has left: the rest of a handshake whose certificate was just refused, if
        it comes in another datagram, would complete that handshake.
        """
        if self._close_pending:
            return
        try:
            super().receive_datagram(data, addr, now)
        except NoRoom:
            return  # its packet stays unacknowledged, as if it had never come

    def close(self, error_code: int = 0, frame_type: int | None = None, reason_phrase: str = "") -> None:
        """As aioquic's; remembers that it was this side."""
        if self._close_event is None:
            self.closed_by_us = True
        super().close(error_code=error_code, frame_type=frame_type, reason_phrase=reason_phrase[:256])

    def get_timer(self) -> float | None:
        """As aioquic's, and when a challenge is due, or when streams may be opened again."""
        timer = super().get_timer()
        for due in (self._challenge_at, self.places_return_at):
            if due is not None and (timer is None or due < timer):
                timer = due
        return timer

    def handle_timer(self, now: float) -> None:
        """As aioquic's; challenges a new address again: its answer is sent once only, and may have been lost."""
        super().handle_timer(now)
        self.return_places(now)
        if self._challenge_at is not None and now >= self._challenge_at:
            self._challenge_at = None
            path = self._network_paths[0]
            if not path.is_validated:
                path.local_challenge_sent = False
                self._send_probe()

    def _initialize(self, peer_cid: bytes) -> None:
        super()._initialize(peer_cid)
        self._keys = OneRttKeys.adopt(self._cryptos[tls.Epoch.ONE_RTT])
        # aioquic's own hold 16 KiB whatever there is to say, three times a connection.
        self._crypto_buffers = {
            tls.Epoch.INITIAL: Buffer(capacity=_OUR_HELLO),
            tls.Epoch.HANDSHAKE: Buffer(capacity=self._chain_size + _BESIDE_CHAIN),
            tls.Epoch.ONE_RTT: Buffer(capacity=_OUR_HELLO),
        }
        for epoch, stream in self._crypto_streams.items():
            stream.receiver = Receiver(None, self.holdings)
            if not self._is_crowded:
                stream.receiver.crypto_held = _CRYPTO_BOUNDS[epoch]
        context = self.tls
        if self._is_client:
            context.__class__ = ClientContext
            assert isinstance(context, ClientContext) and self._configuration.server_name is not None
            context.attach(self._trust, self._configuration.server_name, self._clock)
        else:
            context.__class__ = ServerContext
            assert isinstance(context, ServerContext) and self._identities is not None
            context.attach(self._identities, self._clock)

    def _handle_crypto_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        end = buf.pull_uint_var() + buf.pull_uint_var()
        buf.seek(start)
        taken = self._crypto_streams[context.epoch].receiver.starting_offset()
        bound = _CRYPTO_BOUNDS[context.epoch]
        if end - taken + len(self.tls._receive_buffer) > bound:
            reason = f"a handshake message is larger than {bound} bytes; a certificate chain may take {CHAIN_LIMIT}"
            raise QuicConnectionError(QuicErrorCode.CRYPTO_BUFFER_EXCEEDED, frame_type, reason)
        super()._handle_crypto_frame(context, frame_type, buf)

    def _parse_transport_parameters(self, data: bytes, from_session_ticket: bool = False) -> None:
        super()._parse_transport_parameters(data, from_session_ticket)
        largest = pull_quic_transport_parameters(Buffer(data=data)).max_udp_payload_size
        if largest is not None and largest < self._max_datagram_size:
            self._max_datagram_size = max(1200, largest)

    def _payload_received(
        self, context: QuicReceiveContext, plain: bytes, crypto_frame_required: bool = False
    ) -> tuple[bool, bool]:
        """As aioquic's, and counts the frames."""
        buf = Buffer(data=plain)
        handlers, epoch, count = self._frame_handlers, context.epoch, 0
        has_crypto = is_ack_eliciting = False
        is_probing = True
        while not buf.eof():
            frame_type = -1
            try:
                frame_type = buf.pull_uint_var()
                handler, epochs = handlers[frame_type]
                if epoch not in epochs:
                    raise QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, frame_type, "Unexpected frame type")
                handler(context, frame_type, buf)
            except StreamFinishedError:
                pass  # a stream that is over
            except BufferReadError as exc:
                reason = "Malformed frame type" if frame_type < 0 else "Failed to parse frame"
                raise QuicConnectionError(QuicErrorCode.FRAME_ENCODING_ERROR, max(frame_type, 0), reason) from exc
            except KeyError as exc:
                if frame_type in handlers:
                    raise
                reason = "Unknown frame type"
                raise QuicConnectionError(QuicErrorCode.FRAME_ENCODING_ERROR, frame_type, reason) from exc
            count += 1
            if frame_type == QuicFrameType.CRYPTO:
                has_crypto = True
            if frame_type not in NON_ACK_ELICITING_FRAME_TYPES:
                is_ack_eliciting = True
            if frame_type not in PROBING_FRAME_TYPES:
                is_probing = False
        if not count or (crypto_frame_required and not has_crypto):
            reason = "Packet contains no CRYPTO frame" if count else "Packet contains no frames"
            raise QuicConnectionError(QuicErrorCode.PROTOCOL_VIOLATION, QuicFrameType.PADDING, reason)
        if count > USUAL_FRAMES:
            self.extra_frames += count - USUAL_FRAMES
        return is_ack_eliciting, is_probing

    def _handle_stop_sending_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        record = self.records.get(buf.pull_uint_var())
        if record is not None and record.stop_told:
            buf.pull_uint_var()
            return
        buf.seek(start)
        super()._handle_stop_sending_frame(context, frame_type, buf)

    def _handle_max_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_max_data_frame(context, frame_type, buf)
        starved, self._starved = self._starved, []
        for record in starved:
            self.enqueue(record)

    def _handle_max_stream_data_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        start = buf.tell()
        stream_id = buf.pull_uint_var()
        buf.seek(start)
        super()._handle_max_stream_data_frame(context, frame_type, buf)
        record = self.records.get(stream_id)
        if record is not None:
            self.enqueue(record)

    def _handle_max_streams_bidi_frame(self, context: QuicReceiveContext, frame_type: int, buf: Buffer) -> None:
        super()._handle_max_streams_bidi_frame(context, frame_type, buf)
        self.streams_available = True

    def _write_application(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        """As aioquic's, but without a walk over all streams (0-RTT is never offered, so it is left out)."""
        crypto = self._keys
        if not crypto.send.is_valid():
            return
        space = self._spaces[tls.Epoch.ONE_RTT]
        if crypto.is_spent(space.largest_acked_packet):
            self.request_key_update()
        crypto_sender = self._crypto_streams[tls.Epoch.ONE_RTT].sender
        pacer = self._loss._pacer
        # aioquic lists every stream it makes here, to walk over; this class has its own queue.
        self._streams_queue.clear()
        while True:
            if space.ack_at is None or space.ack_at >= now:
                self._pacing_at = pacer.next_send_time(now=now)
                if self._pacing_at is not None:
                    break
            builder.start_packet(QuicPacketType.ONE_RTT, crypto)
            if space.ack_at is not None and space.ack_at <= now:
                self._write_ack_frame(builder=builder, space=space, now=now)
            if self._handshake_complete:
                self._write_control(builder, network_path, now)
            if self._ping_pending:
                self._write_ping_frame(builder, self._ping_pending)
                self._ping_pending.clear()
            if self._probe_pending:
                self._write_ping_frame(builder, comment="probe")
                self._probe_pending = False
            if not crypto_sender.buffer_is_empty:
                self._write_crypto_frame(builder=builder, space=space, stream=self._crypto_streams[tls.Epoch.ONE_RTT])
            while self._datagrams_pending:
                try:
                    self._write_datagram_frame(
                        builder=builder,
                        data=self._datagrams_pending[0],
                        frame_type=QuicFrameType.DATAGRAM_WITH_LENGTH,
                    )
                except QuicPacketBuilderStop:
                    break
                self._datagrams_pending.popleft()
            if self._handshake_complete and (self._ahead or self._turns):
                self._write_streams(builder, now)
            if builder.packet_is_empty:
                break
            pacer.update_after_send(now=now)

    def _write_control(self, builder: QuicPacketBuilder, network_path: QuicNetworkPath, now: float) -> None:
        if not (network_path.is_validated or network_path.local_challenge_sent):
            self._write_path_challenge_frame(builder=builder, network_path=network_path)
            self._challenge_at = now + self._loss.get_probe_timeout()
            if network_path.validation_deadline is None:
                network_path.validation_deadline = now + 3 * max(
                    self._loss.get_probe_timeout(), 2 * self._configuration.initial_rtt
                )
        if self._handshake_done_pending:
            self._write_handshake_done_frame(builder=builder)
            self._handshake_done_pending = False
        while network_path.remote_challenges:
            self._write_path_response_frame(builder=builder, challenge=network_path.remote_challenges[0])
            network_path.remote_challenges.popleft()
        for connection_id in self._host_cids:
            if not connection_id.was_sent:
                self._write_new_connection_id_frame(builder=builder, connection_id=connection_id)
                self.issued.append(connection_id.cid)
        while self._retire_connection_ids:
            self._write_retire_connection_id_frame(builder=builder, sequence_number=self._retire_connection_ids[0])
            self._retire_connection_ids.pop(0)
        self._write_limits(builder)

    def _write_limits(self, builder: QuicPacketBuilder) -> None:
        data, streams = self._local_max_data, self._local_max_streams_bidi
        if data.value != data.sent:
            self._write_limit(builder, data)
        if streams.value != streams.sent:
            self._write_max_streams(builder, streams)
        while self._credit_due and builder.remaining_flight_space >= _LIMIT_FRAME:
            record = self._credit_due.popleft()
            stream = record.stream
            if stream.receiver.is_finished or stream.max_stream_data_local == stream.max_stream_data_local_sent:
                continue
            buf = builder.start_frame(
                QuicFrameType.MAX_STREAM_DATA,
                capacity=_LIMIT_FRAME,
                handler=self._on_credit_delivery,
                handler_args=(record,),
            )
            buf.push_uint_var(record.stream_id)
            buf.push_uint_var(stream.max_stream_data_local)
            stream.max_stream_data_local_sent = stream.max_stream_data_local

    def _write_max_streams(self, builder: QuicPacketBuilder, streams: Limit) -> None:
        """In batches, unless the peer has few left to open."""
        granted = streams.value - streams.sent
        if granted * 8 >= self._streams_at_once or granted >= streams.sent - streams.used:
            self._write_limit(builder, streams)

    def _write_limit(self, builder: QuicPacketBuilder, limit: Limit) -> None:
        buf = builder.start_frame(
            limit.frame_type, capacity=9, handler=self._on_connection_limit_delivery, handler_args=(limit,)
        )
        buf.push_uint_var(limit.value)
        limit.sent = limit.value

    def _write_streams(self, builder: QuicPacketBuilder, now: float) -> None:
        """Fill the packet from the queues (RFC 8290 section 4.2): who begins to have something, and little, goes ahead;
        everybody's next turn comes after all others'.

        That holds also for a stream that has nothing left after its turn: one that gets more as soon as it has sent, as
        in a relay, would go ahead all the time.
        """
        ahead, turns = self._ahead, self._turns
        while queue := ahead or turns:
            record = queue[0]
            if record.idle:
                queue.popleft()
                record.queued = record.idle = False
                continue
            if builder.remaining_flight_space < _SLIVER:
                return
            if self._rest_if_over(record, now):
                queue.popleft()
                record.queued = False
                continue
            if record.deficit <= 0:
                record.deficit += LITTLE
                queue.popleft()
                turns.append(record)
                continue
            stream = record.stream
            receiver, sender = stream.receiver, stream.sender
            if receiver.stop_pending:
                if receiver.is_finished:
                    receiver.stop_pending = False
                else:
                    self._write_stop(builder, record)
            if sender.reset_pending:
                self._write_reset(builder, record)
            left = record.deficit
            if sender._reset_error_code is None and self._write_data(builder, record):
                continue
            queue.popleft()
            if turns and record.deficit != left:
                record.idle = True
                turns.append(record)
            else:
                record.queued = False
        # Some of them may have been over, and no other packet need follow.
        streams = self._local_max_streams_bidi
        if streams.value != streams.sent and builder.remaining_flight_space >= _LIMIT_FRAME:
            self._write_max_streams(builder, streams)

    def _write_stop(self, builder: QuicPacketBuilder, record: StreamRecord) -> None:
        buf = builder.start_frame(
            QuicFrameType.STOP_SENDING, capacity=17, handler=self._on_stop_delivery, handler_args=(record,)
        )
        frame = record.stream.receiver.get_stop_frame()
        buf.push_uint_var(record.stream_id)
        buf.push_uint_var(frame.error_code)

    def _write_reset(self, builder: QuicPacketBuilder, record: StreamRecord) -> None:
        buf = builder.start_frame(
            QuicFrameType.RESET_STREAM, capacity=25, handler=self._on_reset_delivery, handler_args=(record,)
        )
        # Also where aioquic reset it, when the peer asked to stop.
        self.forget_written(record)
        frame = record.stream.sender.get_reset_frame()
        buf.push_uint_var(record.stream_id)
        buf.push_uint_var(frame.error_code)
        buf.push_uint_var(frame.final_size)

    def _write_data(self, builder: QuicPacketBuilder, record: StreamRecord) -> bool:
        """Write one STREAM frame if flow control allows it.

        :returns: whether the stream has more to send now.
        """
        stream = record.stream
        sender = stream.sender
        pending = sender._pending
        if not len(pending) and not sender._pending_eof:
            return False
        before = sender.highest_offset
        start = sender.next_offset
        overhead = 3 + size_uint_var(record.stream_id) + (size_uint_var(start) if start else 0)
        connection_credit = before + self._remote_max_data - self._remote_max_data_used
        limit = min(connection_credit, stream.max_stream_data_remote)
        frame = sender.get_frame(builder.remaining_flight_space - overhead, limit)
        if frame is None:
            if builder.remaining_flight_space <= overhead:
                return True
            # Flow control holds it back; MAX_DATA or MAX_STREAM_DATA queues it again.
            if limit == connection_credit:
                self._starved.append(record)
            return False
        buf = builder.start_frame(
            QuicFrameType.STREAM_BASE | 2 | (4 if frame.offset else 0) | (1 if frame.fin else 0),
            capacity=overhead,
            handler=self._on_data_delivery,
            handler_args=(record, frame.offset, frame.offset + len(frame.data), frame.fin),
        )
        buf.push_uint_var(record.stream_id)
        if frame.offset:
            buf.push_uint_var(frame.offset)
        buf.push_uint16(len(frame.data) | 0x4000)
        buf.push_bytes(frame.data)
        record.deficit -= len(frame.data)
        self._remote_max_data_used += sender.highest_offset - before
        unsent = self._count_unsent(record)
        if record.write_blocked and not record.short and unsent * 4 <= self._send_share() * 3:
            record.write_blocked = False
            self.unblocked.append(record)
        return len(pending) > 0 or sender._pending_eof

    # ---- delivery of what was sent -----------------------------------------------------------------------------

    def _on_data_delivery(
        self, delivery: QuicDeliveryState, record: StreamRecord, start: int, stop: int, fin: bool
    ) -> None:
        sender = record.stream.sender
        kept_from = sender._buffer_start
        sender.on_data_delivery(delivery, start, stop, fin)
        self._send_left += sender._buffer_start - kept_from
        if delivery is not QuicDeliveryState.ACKED or sender.is_finished:
            self.enqueue(record)

    def _on_reset_delivery(self, delivery: QuicDeliveryState, record: StreamRecord) -> None:
        record.stream.sender.on_reset_delivery(delivery)
        self.enqueue(record)

    def _on_stop_delivery(self, delivery: QuicDeliveryState, record: StreamRecord) -> None:
        receiver = record.stream.receiver
        receiver.on_stop_sending_delivery(delivery)
        if delivery is not QuicDeliveryState.ACKED:
            self.enqueue(record)
        elif receiver.is_finished:
            self.end_receive(record)

    def _on_credit_delivery(self, delivery: QuicDeliveryState, record: StreamRecord) -> None:
        if delivery is not QuicDeliveryState.ACKED:
            record.stream.max_stream_data_local_sent = 0
            self._credit_due.append(record)
