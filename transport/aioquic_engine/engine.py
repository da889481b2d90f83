"""The endpoint on aioquic: datagrams to connections, timers, events, splices. Sans-I/O.

Counterpart: :mod:`spnhub.transport.engine`, whose promises this keeps. After each batch of datagrams the streams that
got something are pumped once, so that many small packets become one write.
"""

from __future__ import annotations

import itertools
import logging
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Final

from aioquic.buffer import Buffer
from aioquic.quic import events as quic_events
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionState
from aioquic.quic.packet import (
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_version_negotiation,
    pull_quic_header,
)
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.transport import engine as api
from spnhub.transport.aioquic_engine.connection import Connection, StreamRecord
from spnhub.transport.aioquic_engine.handshakes import HandshakeQueue, Waiting
from spnhub.transport.aioquic_engine.link import Link, segment
from spnhub.transport.aioquic_engine.splice import Direction, Splice
from spnhub.transport.aioquic_engine.tls import Identity, load_chain, load_key, parse_identity

__all__ = ["AioquicEngine"]

_log = logging.getLogger(__name__)

_CID_LENGTH: Final = 8
_MAX_HALF_OPEN: Final = 512
"""Handshakes under way at once under one server name; further ones are dropped (the client repeats them)."""
_ROUNDS: Final = 64
"""How often one :meth:`AioquicEngine.transmit` goes on pumping what its own packets made room for."""


class AioquicEngine:
    """:class:`spnhub.transport.engine.Engine` on aioquic.

    :param limits: bounds of every connection.
    :param clock: wall clock, for the validity of certificates only.
    """

    def __init__(
        self, limits: api.Limits | None = None, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._limits = limits or api.Limits()
        self._clock = clock
        self._identities: dict[str, Identity] = {}
        self._identities_by_socket: dict[int, dict[str, Identity]] = {}
        self._links: dict[int, Link] = {}
        self._cids: dict[bytes, Link] = {}
        self._ids = itertools.count(1)
        self._tokens = itertools.count(1)
        self._splices: dict[int, Splice] = {}
        self._splices_ended: list[Splice] = []
        self._events: list[api.EngineEvent] = []
        self._dirty: dict[Link, None] = {}
        self._pumps: dict[Direction, None] = {}
        self._timers: list[tuple[float, int, Link]] = []
        self._timer_ids = itertools.count()
        self._outbox: deque[api.Transmit] = deque()
        self._half_open: dict[str, int] = {}
        self._handshakes = HandshakeQueue()
        self._may_shake_hands = False
        self._now = 0.0

    # ---- policy ------------------------------------------------------------------------------------------------

    def set_policy(self, policy: api.ServerPolicy) -> None:
        """See :meth:`spnhub.transport.engine.Engine.set_policy`."""
        identities = _parse(policy.identities)
        self._identities_by_socket = {local: _parse(names) for local, names in policy.by_socket.items()}
        self._identities = identities

    def _configuration(self, **values: object) -> QuicConfiguration:
        limits = self._limits
        return QuicConfiguration(
            connection_id_length=_CID_LENGTH,
            idle_timeout=limits.idle_timeout,
            max_datagram_size=limits.datagram_size,
            max_datagram_frame_size=65536,
            max_data=limits.streams * limits.stream_window + limits.window_budget,
            max_stream_data=limits.stream_window,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            **values,  # type: ignore[arg-type]  # a dataclass that cannot type a mapping of its fields
        )

    # ---- datagrams in ------------------------------------------------------------------------------------------

    def receive(self, data: bytes, address: api.Address, segment_size: int, now: float) -> None:
        """See :meth:`spnhub.transport.engine.Engine.receive`."""
        self._now = now
        self._may_shake_hands = True
        if not segment_size or len(data) <= segment_size:
            self._receive_one(data, address, now)
        else:
            for start in range(0, len(data), segment_size):
                self._receive_one(data[start : start + segment_size], address, now)

    def _receive_one(self, data: bytes, address: api.Address, now: float) -> None:
        if len(data) < 1 + _CID_LENGTH:
            return
        if data[0] & 0x80:
            length = data[5] if len(data) > 5 else 0
            link = self._cids.get(data[6 : 6 + length])
            if link is None and self._is_first_contact(data, address):
                self._handshakes.arrive(data, address)
        else:
            link = self._cids.get(data[1 : 1 + _CID_LENGTH])
        if link is None:
            return
        if link.closing:
            link.heard_while_closing()
            self._dirty[link] = None
        elif link.waiting or not (link.connected or link.is_client):
            self._handshakes.put(Waiting(link, data, address, link.queue))
        else:
            self._deliver(link, data, address, now)

    def _deliver(self, link: Link, data: bytes, address: api.Address, now: float) -> None:
        try:
            link.quic.receive_datagram(data, address, now)
        except Exception:
            # A datagram that trips aioquic itself must cost its own connection only.
            _log.exception("connection %d failed on a datagram", link.c)
            link.quic.close(error_code=1, frame_type=0, reason_phrase="internal error")
        link.last_heard = now
        self._dirty[link] = None
        link.heard = True

    def _is_first_contact(self, data: bytes, address: api.Address) -> bool:
        """Whether this may begin a connection; another QUIC version is answered here."""
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=_CID_LENGTH)
        except ValueError:
            return False
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION or not self._names(address) or len(data) < 1200:
            return False
        if header.version != QuicProtocolVersion.VERSION_1:
            reply = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=[QuicProtocolVersion.VERSION_1],
            )
            self._outbox.append(api.Transmit(reply, address, 0))
            return False
        return header.packet_type == QuicPacketType.INITIAL

    def _names(self, address: api.Address) -> dict[str, Identity]:
        return self._identities_by_socket.get(address.local, self._identities)

    def _shake_hands(self) -> None:
        """One step of one handshake, if one waits (D-33)."""
        self._may_shake_hands = False
        self._handshakes.sort_arrivals(lambda address, name: name in self._names(address))
        waiting = self._handshakes.next()
        if waiting is None:
            return
        link, data, address, name = waiting
        if link is None:
            # A repeated Initial finds the connection that the first one made.
            link = self._cids.get(data[6 : 6 + data[5]]) or self._accept(data, address, name)
        if link is not None and not link.closing:
            self._deliver(link, data, address, self._now)

    def _accept(self, data: bytes, address: api.Address, name: str) -> Link | None:
        """Begin a connection with its first datagram."""
        identities = self._names(address)
        if not identities or self._half_open.get(name, 0) >= _MAX_HALF_OPEN:
            return None
        destination = data[6 : 6 + data[5]]
        # aioquic wants a certificate before the ClientHello is read; the SNI then chooses the right one.
        placeholder = next(iter(identities.values()))
        quic = Connection(
            configuration=self._configuration(
                is_client=False, certificate=placeholder.certificate, private_key=placeholder.private_key
            ),
            limits=self._limits,
            identities=identities,
            clock=self._clock,
            original_destination_connection_id=destination,
        )
        link = self._add(quic, address, name)
        link.first_cid = quic.host_cid
        self._route(link, destination)
        return link

    def _add(self, quic: Connection, address: api.Address, queue: str = "") -> Link:
        link = Link(next(self._ids), quic, address, self._now, self._limits)
        link.queue = queue
        self._links[link.c] = link
        self._half_open[queue] = self._half_open.get(queue, 0) + 1
        self._route(link, quic.host_cid)
        return link

    def _route(self, link: Link, cid: bytes) -> None:
        self._cids[cid] = link
        link.cids.add(cid)

    def unreachable(self, address: api.Address, now: float) -> None:
        """See :meth:`spnhub.transport.engine.Engine.unreachable`."""
        self._now = now
        for link in self._links.values():
            if link.address == address and not link.closing and link.probe_deadline is None:
                link.probe_deadline = now + self._limits.probe_timeout
                link.quic.send_ping(0)
                self._dirty[link] = None

    # ---- time --------------------------------------------------------------------------------------------------

    def timer(self) -> float | None:
        """See :meth:`spnhub.transport.engine.Engine.timer`."""
        timers = self._timers
        while timers and (timers[0][2].timer_at != timers[0][0] or timers[0][2].gone):
            heappop(timers)
        if len(self._handshakes):
            return self._now
        return timers[0][0] if timers else None

    def _arm(self, link: Link) -> None:
        when = link.next_timer()
        if when != link.timer_at:
            link.timer_at = when
            if when is not None:
                heappush(self._timers, (when, next(self._timer_ids), link))

    def handle_timer(self, now: float) -> None:
        """See :meth:`spnhub.transport.engine.Engine.handle_timer`."""
        self._now = now
        self._may_shake_hands = True
        timers = self._timers
        while timers and timers[0][0] <= now:
            when, _, link = heappop(timers)
            if link.timer_at != when or link.gone:
                continue
            link.timer_at = None
            self._dirty[link] = None
            if link.closing:
                if link.closing_until <= now:
                    self._remove(link)
                continue
            silent = link.on_time(now)
            if silent is api.CloseKind.UNREACHABLE:
                self._end(link, api.Closed(link.c, silent, 0, "port unreachable, and no answer to a probe"))
                self._remove(link)
            elif silent is api.CloseKind.IDLE:
                self._refuse_or_close_silently(link)
            elif link.suspect_now(now):
                self._events.append(api.Suspect(link.c))

    def _refuse_or_close_silently(self, link: Link) -> None:
        if link.connected:
            self._end(link, api.Closed(link.c, api.CloseKind.IDLE, 0, "idle timeout"))
        else:
            self._end(link, link.handshake_failure(None, "handshake timeout"))
        self._remove(link)

    # ---- events ------------------------------------------------------------------------------------------------

    def events(self) -> list[api.EngineEvent]:
        """See :meth:`spnhub.transport.engine.Engine.events`."""
        if self._may_shake_hands:
            self._shake_hands()
        for link in list(self._dirty):
            if not link.gone and not link.closing:
                self._collect(link)
        self._pump()
        self._end_splices()
        events, self._events = self._events, []
        return events

    def _collect(self, link: Link) -> None:
        """Turn what aioquic has to say about a connection into events of ours."""
        quic = link.quic
        if link.heard:
            link.heard = False
            link.probe_deadline = None
            if link.answered():
                self._events.append(api.Answered(link.c))
        while (event := quic.next_event()) is not None:
            if isinstance(event, quic_events.StreamDataReceived):
                self._on_data(link, event)
            elif isinstance(event, quic_events.StreamReset):
                self._on_reset(link, event.stream_id, event.error_code)
            elif isinstance(event, quic_events.StopSendingReceived):
                self._on_stopped(link, event.stream_id, event.error_code)
            elif isinstance(event, quic_events.HandshakeCompleted):
                self._on_connected(link, event.alpn_protocol or "")
            elif isinstance(event, quic_events.ConnectionIdIssued):
                self._route(link, event.connection_id)
            elif isinstance(event, quic_events.ConnectionIdRetired):
                self._cids.pop(event.connection_id, None)
                link.cids.discard(event.connection_id)
            elif isinstance(event, quic_events.DatagramFrameReceived) and link.connected:
                self._events.append(api.DatagramReceived(link.c, event.data))
        if link.address != (current := quic.get_peer_address()) and isinstance(current, api.Address):
            link.address = current
        if quic.streams_available:
            quic.streams_available = False
            if link.wants_stream:
                link.wants_stream = False
                self._events.append(api.Available(link.c))
        if quic.close_event is not None:
            self._on_closing(link)

    def _on_connected(self, link: Link, alpn: str) -> None:
        link.connected = True
        self._no_longer_half_open(link)
        certificates = link.certificates()
        self._events.append(
            api.Connected(
                c=link.c,
                server_name=link.server_name() or "",
                certificates=tuple(c.public_bytes(Encoding.DER) for c in certificates),
                alpn=alpn,
                cid=link.first_cid or link.quic._peer_cid.cid,
                address=link.address,
            )
        )

    def _no_longer_half_open(self, link: Link) -> None:
        self._half_open[link.queue] -= 1
        if not self._half_open[link.queue]:
            del self._half_open[link.queue]

    def _on_closing(self, link: Link) -> None:
        event = link.quic.close_event
        assert event is not None
        kind, code, reason = link.closing_kind(), int(event.error_code), str(event.reason_phrase)
        if link.connected:
            self._end(link, api.Closed(link.c, kind, code, reason))
        else:
            alert = code - 0x100 if 0x100 <= code < 0x200 else None
            self._end(link, link.handshake_failure(alert, reason or "closed in the handshake"))
        link.begin_closing(self._now)
        self._dirty[link] = None

    def _end(self, link: Link, event: api.Closed | api.HandshakeRefused) -> None:
        """Say that a connection is over, and end what hangs on it. Clients hear Closed also of a failed handshake."""
        if isinstance(event, api.HandshakeRefused) and link.is_client:
            event = link.as_closed(event)
        if not link.connected:
            self._no_longer_half_open(link)
        link.closing = True
        self._events.append(event)
        for record in list(link.quic.records.values()):
            direction: Direction | None = record.splice_in or record.splice_out
            if direction is not None:
                splice = direction.splice
                splice.lost(link.quic)
                self._touch(splice)
        link.quic.records.clear()

    def _remove(self, link: Link) -> None:
        link.gone = True
        self._links.pop(link.c, None)
        for cid in link.cids:
            self._cids.pop(cid, None)

    # ---- streams: what came in ---------------------------------------------------------------------------------

    def _incoming(self, link: Link, stream_id: int) -> StreamRecord | None:
        record = link.quic.records.get(stream_id)
        if record is None:
            record = link.quic.record(stream_id)
            if record is not None:
                self._events.append(api.Opened(link.c, stream_id))
        return record

    def _on_data(self, link: Link, event: quic_events.StreamDataReceived) -> None:
        record = link.quic.records.get(event.stream_id) or self._incoming(link, event.stream_id)
        if record is None or record.receive_over:
            return
        data = event.data
        if record.discarding:
            link.quic.consume(record, len(data), self._now)
            if event.end_stream:
                link.quic.end_receive(record)
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
            self._events.append(api.Readable(link.c, event.stream_id))

    def _on_reset(self, link: Link, stream_id: int, code: int) -> None:
        record = self._incoming(link, stream_id)
        if record is None:
            return
        discarding = record.discarding
        direction: Direction | None = record.splice_in
        link.quic.end_receive(record)
        if direction is not None:
            direction.source_reset(code)
            self._touch(direction.splice)
        elif not discarding:
            self._events.append(api.Reset(link.c, stream_id, code))

    def _on_stopped(self, link: Link, stream_id: int, code: int) -> None:
        record = self._incoming(link, stream_id)
        if record is None:
            return
        record.stream.sender._buffer.clear()
        record.write_blocked = False
        link.quic.enqueue(record)
        direction: Direction | None = record.splice_out
        if direction is not None:
            direction.sink_stopped(code)
            self._touch(direction.splice)
        else:
            self._events.append(api.Stopped(link.c, stream_id, code))

    # ---- splices -----------------------------------------------------------------------------------------------

    def splice(self, ca: int, sa: int, cb: int, sb: int, *, a_ended: bool = False, b_ended: bool = False) -> int:
        """See :meth:`spnhub.transport.engine.Engine.splice`."""
        token = next(self._tokens)
        a, b = self._find(ca, sa), self._find(cb, sb)
        if a is None or b is None:
            lost = api.Outcome(api.OutcomeKind.LOST, api.LOST_CODE)
            self._events.append(api.Spliced(token, 0, 0, lost, lost))
            for side in (a, b):
                if side is not None:
                    self._abort_stream(*side, api.LOST_CODE)
            return token
        splice = Splice(token, (a[0], b[0]), (a[1], b[1]), self._splices_ended)
        self._splices[token] = splice
        for direction, ended in ((splice.a_to_b, a_ended), (splice.b_to_a, b_ended)):
            source, sink = direction.source, direction.sink
            if ended:
                direction.finish()
            elif source.receive_over:
                direction.source_reset(api.LOST_CODE)
            elif not direction.sink_connection.can_send(sink):
                direction.sink_stopped(api.LOST_CODE)
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

    def _touch(self, splice: Splice) -> None:
        for link in splice.links:
            self._dirty[link] = None

    def _pump(self) -> None:
        pumps, self._pumps = self._pumps, {}
        for direction in pumps:
            if direction.pump(self._now):
                self._touch(direction.splice)

    def _end_splices(self) -> None:
        ended = self._splices_ended[:]
        self._splices_ended.clear()
        for splice in ended:
            if self._splices.pop(splice.token, None) is not None:
                self._events.append(splice.result())
                self._touch(splice)

    # ---- datagrams out -----------------------------------------------------------------------------------------

    def transmit(self, now: float) -> list[api.Transmit]:
        """See :meth:`spnhub.transport.engine.Engine.transmit`."""
        self._now = now
        out = list(self._outbox)
        self._outbox.clear()
        for _ in range(_ROUNDS):
            if not self._dirty:
                break
            dirty, self._dirty = self._dirty, {}
            for link in dirty:
                if link.holds and not link.gone:
                    link.held_back = True
                elif not link.gone:
                    self._transmit_link(link, now, out)
            self._pump()
        return out

    def _transmit_link(self, link: Link, now: float, out: list[api.Transmit]) -> None:
        quic = link.quic
        if quic.close_event is not None and not link.closing:
            self._collect(link)
        if link.closing:
            out.extend(link.closing_transmits(now))
            self._arm(link)
            return
        datagrams = quic.datagrams_to_send(now)
        if datagrams:
            if link.sent(now):
                # Something is outstanding from now on.
                link.unanswered_since = now
            segment(datagrams, out)
        if quic.unblocked:
            for record in quic.unblocked:
                self._on_room(link, record)
            quic.unblocked.clear()
        self._arm(link)

    def _on_room(self, link: Link, record: StreamRecord) -> None:
        direction: Direction | None = record.splice_out
        if direction is not None:
            self._pumps[direction] = None
        elif link.quic.can_send(record):
            self._events.append(api.Writable(link.c, record.stream_id))

    # ---- connections -------------------------------------------------------------------------------------------

    def connect(self, address: api.Address, policy: api.ClientPolicy, now: float) -> int:
        """See :meth:`spnhub.transport.engine.Engine.connect`."""
        self._now = now
        chain = load_chain(policy.certificate_chain, "certificate")
        key = load_key(policy.private_key, "certificate key")
        if key.public_key() != chain[0].public_key():
            raise ValueError("certificate key does not belong to the certificate")
        if policy.trust is not None:
            load_chain(policy.trust, "trust")
        quic = Connection(
            configuration=self._configuration(
                is_client=True,
                alpn_protocols=list(policy.alpn),
                server_name=policy.server_name,
                certificate=chain[0],
                certificate_chain=chain[1:],
                private_key=key,
                cadata=policy.trust,
            ),
            limits=self._limits,
        )
        link = self._add(quic, address)
        link.is_client = True
        quic.connect(address, now)
        self._dirty[link] = None
        return link.c

    def close(self, c: int, code: int, reason: str) -> None:
        """See :meth:`spnhub.transport.engine.Engine.close`."""
        link = self._live(c)
        if link is not None:
            link.closed_by_user = True
            link.quic.close(error_code=code, reason_phrase=reason)
            self._dirty[link] = None

    def hold(self, c: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.hold`."""
        link = self._links.get(c)
        if link is not None:
            link.holds += 1

    def release(self, c: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.release`."""
        link = self._links.get(c)
        if link is not None and link.holds:
            link.holds -= 1
            if not link.holds and link.held_back:
                link.held_back = False
                self._dirty[link] = None

    def send_datagram(self, c: int, data: bytes) -> None:
        """See :meth:`spnhub.transport.engine.Engine.send_datagram`."""
        link = self._live(c)
        if link is not None and (link.quic._remote_max_datagram_frame_size or 0) >= len(data) + 3:
            link.quic.send_datagram_frame(data)
            self._dirty[link] = None

    def set_streams(self, c: int, limit: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.set_streams`."""
        link = self._live(c)
        if link is not None:
            link.quic.allow_streams(limit)
            self._dirty[link] = None

    def info(self, c: int) -> api.ConnectionInfo | None:
        """See :meth:`spnhub.transport.engine.Engine.info`."""
        link = self._live(c)
        if link is None:
            return None
        rtt, window, in_flight = link.quic.measurements()
        return api.ConnectionInfo(link.address, rtt, window, in_flight, len(link.quic.records), link.quic.buffered)

    def _live(self, c: int) -> Link | None:
        link = self._links.get(c)
        if link is None or link.closing or link.quic._state in _ENDED:
            return None
        return link

    # ---- streams: what is asked for ----------------------------------------------------------------------------

    def _find(self, c: int, s: int) -> tuple[Link, StreamRecord] | None:
        link = self._live(c)
        record = None if link is None else link.quic.records.get(s)
        return None if link is None or record is None else (link, record)

    def _abort_stream(self, link: Link, record: StreamRecord, code: int) -> None:
        link.quic.reset(record, code)
        link.quic.stop(record, code)
        self._dirty[link] = None

    def open_bidi(self, c: int) -> int | None:
        """See :meth:`spnhub.transport.engine.Engine.open_bidi`."""
        link = self._live(c)
        record = None if link is None else link.quic.open_stream()
        if link is not None and record is None:
            link.wants_stream = True
        return None if record is None else record.stream_id

    def write(self, c: int, s: int, data: bytes) -> int:
        """See :meth:`spnhub.transport.engine.Engine.write`."""
        found = self._find(c, s)
        if found is None or not found[0].quic.can_send(found[1]):
            return 0
        link, record = found
        taken = min(len(data), link.quic.room(record))
        if taken:
            link.quic.send(record, data if taken == len(data) else data[:taken])
            self._dirty[link] = None
        if taken < len(data):
            record.write_blocked = True
        return taken

    def finish(self, c: int, s: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.finish`."""
        if (found := self._find(c, s)) is not None:
            found[0].quic.finish(found[1])
            self._dirty[found[0]] = None

    def read(self, c: int, s: int, limit: int) -> tuple[bytes, bool] | None:
        """See :meth:`spnhub.transport.engine.Engine.read`."""
        found = self._find(c, s)
        if found is None or found[1].receive_over or found[1].discarding:
            return None
        link, record = found
        data = link.quic.take(record, limit, self._now)
        if data:
            self._dirty[link] = None
        if record.chunks:
            return data, False
        record.readable_told = False
        if record.fin_pending:
            record.fin_pending = False
            link.quic.end_receive(record)
            self._dirty[link] = None
            return data, True
        return data, False

    def reset(self, c: int, s: int, code: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.reset`."""
        if (found := self._find(c, s)) is not None:
            found[0].quic.reset(found[1], code)
            self._dirty[found[0]] = None

    def stop(self, c: int, s: int, code: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.stop`."""
        if (found := self._find(c, s)) is not None:
            found[0].quic.stop(found[1], code)
            self._dirty[found[0]] = None


def _parse(identities: Mapping[str, api.ServerIdentity]) -> dict[str, Identity]:
    parsed = {}
    for name, identity in identities.items():
        try:
            parsed[name.lower()] = parse_identity(identity)
        except ValueError as exc:
            raise ValueError(f"{name}: {exc}") from exc
    return parsed


_ENDED: Final = frozenset({QuicConnectionState.CLOSING, QuicConnectionState.DRAINING, QuicConnectionState.TERMINATED})
