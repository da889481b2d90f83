"""The endpoint on aioquic: datagrams to connections and back, handshakes, time, closing. Sans-I/O.

Counterpart: :mod:`spnhub.transport.aioquic_engine.engine` adds what travels on the connections.
"""

from __future__ import annotations

import itertools
import ssl
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from heapq import heappop, heappush
from typing import Final

from aioquic.buffer import Buffer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnectionState
from aioquic.quic.packet import (
    QuicHeader,
    QuicPacketType,
    QuicProtocolVersion,
    encode_quic_version_negotiation,
    pull_quic_header,
)

from spnhub.events.faults import OnFault, log_fault
from spnhub.transport import engine as api
from spnhub.transport.aioquic_engine.connection import EngineConnection
from spnhub.transport.aioquic_engine.handle import ConnectionHandle, segment
from spnhub.transport.aioquic_engine.handshakes import HandshakeQueue, Waiting
from spnhub.transport.aioquic_engine.laggards import AT_ONCE, WAITING, Laggards
from spnhub.transport.aioquic_engine.port_checks import PortChecks
from spnhub.transport.aioquic_engine.reassembly import Holdings
from spnhub.transport.aioquic_engine.resets import SMALLEST_RESET, ResetSender, same_token
from spnhub.transport.aioquic_engine.retry import MAX_HALF_OPEN, HalfOpen, RetryTokens
from spnhub.transport.aioquic_engine.streams import StreamRecord
from spnhub.transport.certificates import ParsedIdentity, anchors_of, load_pair, parse_identity, public_roots
from spnhub.transport.pem import chain_size

__all__ = ["QuicEndpoint"]

_FAULT: Final = "internal error"
_CID_LENGTH: Final = 8
_ROUNDS: Final = 64
"""How often one :meth:`AioquicEngine.transmit` goes on pumping what its own packets made room for."""


class QuicEndpoint(ABC):
    """Routes datagrams to connections, and handles their timers.

    :param limits: bounds of every connection.
    :param clock: wall clock, for the validity of certificates only.
    :param reset_key: with it, packets of unknown connections are answered with a stateless reset.
    :param on_fault: called with what is raised about one connection.
    """

    def __init__(
        self,
        limits: api.Limits | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        reset_key: bytes | None = None,
        on_fault: OnFault = log_fault,
    ) -> None:
        self._on_fault = on_fault
        self._limits = limits or api.Limits()
        self._clock = clock
        self._reset_key = reset_key
        self._resets = None if reset_key is None else ResetSender(reset_key, _CID_LENGTH)
        self._reset_addresses: set[api.Address] = set()
        """The addresses that got one since the last transmit: one answer to a burst is enough."""
        self._identities: dict[str, ParsedIdentity] = {}
        self._identities_by_socket: dict[int, dict[str, ParsedIdentity]] = {}
        self._handles: dict[int, ConnectionHandle] = {}
        self._cids: dict[bytes, ConnectionHandle] = {}
        self._peers: dict[api.Address, dict[ConnectionHandle, None]] = {}
        """Connections by the peer's address, for what names no connection: port unreachable, stateless resets."""
        self._ids = itertools.count(1)
        self._events: list[api.EngineEvent] = []
        self._dirty: dict[ConnectionHandle, None] = {}
        """Connections to look at: something came in, was asked for, or is due."""
        self._timers: list[tuple[float, int, ConnectionHandle]] = []
        self._timer_ids = itertools.count()
        self._outbox: deque[api.Transmit] = deque()
        self._half_open = HalfOpen()
        self._retry_tokens = RetryTokens(reset_key, _CID_LENGTH)
        self._retries = Counter[tuple[int, str]]()
        """Retries sent since they were last reported, by socket and server name."""
        self._holdings = Holdings(self._limits.reassembly)
        self._handshakes = HandshakeQueue()
        self._laggards = Laggards()
        self._port_checks = PortChecks(self._limits.port_check if self._limits.keep_alive else 0.0)
        self._may_shake_hands = False
        self._now = 0.0

    @property
    def handles(self) -> Mapping[int, ConnectionHandle]:
        """The connections by their id, to look at."""
        return self._handles

    def counts(self) -> dict[str, int]:
        """See :meth:`spnhub.transport.engine.Engine.counts`; ``cids`` are QUIC's own ids of connections,
        ``out_of_order`` bytes, ``late`` datagrams."""
        return {
            "connections": len(self._handles),
            "cids": len(self._cids),
            "peers": len(self._peers),
            "half_open": self._half_open.most(),
            "out_of_order": self._holdings.held,
            "late": self._laggards.count,
        }

    @abstractmethod
    def _collect(self, handle: ConnectionHandle) -> None:
        """Turn what aioquic has to say about a connection into events of ours."""

    @abstractmethod
    def _end(self, handle: ConnectionHandle, event: api.Closed | api.HandshakeRefused) -> None:
        """Say that a connection is over, and end what hangs on it."""

    @abstractmethod
    def _on_room(self, handle: ConnectionHandle, record: StreamRecord) -> None:
        """More may be written on a stream again."""

    @abstractmethod
    def _pump(self) -> None:
        """Pass on what spliced streams have received."""

    # ---- policy ------------------------------------------------------------------------------------------------

    def set_policy(self, policy: api.ServerPolicy) -> None:
        """See :meth:`spnhub.transport.engine.Engine.set_policy`."""
        identities = _parse(policy.identities)
        self._identities_by_socket = {local: _parse(names) for local, names in policy.by_socket.items()}
        self._identities = identities

    def check_identity(self, identity: api.ServerIdentity) -> None:
        """See :meth:`spnhub.transport.engine.Engine.check_identity`."""
        parse_identity(identity)

    def _configuration(self, **values: object) -> QuicConfiguration:
        limits = self._limits
        return QuicConfiguration(
            connection_id_length=_CID_LENGTH,
            idle_timeout=limits.idle_timeout,
            max_datagram_size=limits.datagram_size,
            max_datagram_frame_size=65536,
            max_data=limits.initial_window or limits.connection_window,
            max_stream_data=limits.stream_window,
            supported_versions=[QuicProtocolVersion.VERSION_1],
            **values,  # type: ignore[arg-type]  # a dataclass that cannot type a mapping of its fields
        )

    # ---- datagrams in ------------------------------------------------------------------------------------------

    def receive(self, data: bytes, address: api.Address, segment_size: int, now: float) -> None:
        """See :meth:`spnhub.transport.engine.Engine.receive`."""
        self._now = now
        self._may_shake_hands = True
        size = segment_size or max(len(data), 1)
        for start in range(0, len(data), size):
            try:
                self._receive_one(data[start : start + size], address, now)
            except Exception as fault:  # it names no connection that could end; the other datagrams are others'
                self._on_fault("engine", fault)

    def _receive_one(self, data: bytes, address: api.Address, now: float) -> None:
        if len(data) < 1 + _CID_LENGTH:
            return
        if data[0] & 0x80:
            length = data[5] if len(data) > 5 else 0
            handle = self._cids.get(data[6 : 6 + length])
        else:
            handle = self._cids.get(data[1 : 1 + _CID_LENGTH])
        if handle is None:
            self._receive_unknown(data, address, now)
            return
        if handle.closing:
            handle.heard_while_closing()
            self._dirty[handle] = None
        elif handle.waiting or not (handle.connected or handle.is_client):
            self._handshakes.go_on(handle, data, address, now)
        elif not (handle.late and self._laggards.add(handle, data, address, now)):
            self._deliver(handle, data, address, now)

    def _receive_unknown(self, data: bytes, address: api.Address, now: float) -> None:
        """What belongs to no connection of ours: a stateless reset, a first contact, or a memory of the peer's."""
        if len(data) >= SMALLEST_RESET:
            # Compared only here: what does carry an id of ours, 8 random bytes, is no reset.
            for handle in self._peers.get(address, ()):
                if not handle.closing and same_token(handle.quic.peer_reset_token, data):
                    self._vanish(handle, api.Closed(handle.connection_id, api.CloseKind.RESET, 0, "stateless reset"))
                    return
        if data[0] & 0x80:
            header = self._first_contact(data, address)
            if header is not None:
                self._arrive(header, data, address, now)
        elif data[0] & 0x40 and self._resets is not None and address not in self._reset_addresses:
            answer = self._resets.answer(data, now)
            if answer is not None:
                self._reset_addresses.add(address)
                self._outbox.append(api.Transmit(answer, address, 0))

    def _hear(self, handle: ConnectionHandle) -> None:
        """Take note of what has come in, as far as time is concerned."""
        if handle.heard and handle.hear():
            self._events.append(api.Answered(handle.connection_id))

    def _deliver(self, handle: ConnectionHandle, data: bytes, address: api.Address, now: float) -> None:
        try:
            handle.quic.receive_datagram(data, address, now)
        except Exception as fault:
            self._fail(handle, fault)
        handle.last_heard = now
        self._dirty[handle] = None
        handle.heard = True
        if handle.quic.extra_frames:
            self._laggards.note(handle, now)

    def _work_off(self, now: float) -> None:
        """What waits of those whose datagrams have much in them."""
        laggards, left = self._laggards, AT_ONCE
        for _ in range(WAITING):
            if not laggards.count or left <= 0:
                return
            handle, late = laggards.take()
            if handle.closing:
                handle.heard_while_closing()
                self._dirty[handle] = None
                continue
            before = handle.quic.extra_frames
            self._deliver(handle, *late, now)
            left -= handle.quic.extra_frames - before

    def _fail(self, handle: ConnectionHandle, fault: BaseException) -> None:
        """What trips aioquic, or us, costs its own connection only. It is closed; if that fails, too, it is gone."""
        self._on_fault("engine", fault)
        if not handle.failed:
            handle.failed = True
            try:
                handle.quic.close(error_code=1, frame_type=0, reason_phrase=_FAULT)
            except Exception as another:
                self._on_fault("engine", another)
            else:
                self._dirty[handle] = None
                return
        if handle.gone:
            return
        try:
            if not handle.closing:
                self._end(handle, self._bare_end(handle))
        except Exception as another:
            self._on_fault("engine", another)
        if not handle.gone:
            self._remove(handle)

    def _bare_end(self, handle: ConnectionHandle) -> api.Closed | api.HandshakeRefused:
        """What is said of a connection of which nothing else can be: nothing of the peer's is looked at."""
        if handle.connected or handle.is_client:
            return api.Closed(handle.connection_id, api.CloseKind.VIOLATION, 1, _FAULT)
        return api.HandshakeRefused(handle.connection_id, handle.address, handle.queue or None, None, _FAULT, None)

    def _first_contact(self, data: bytes, address: api.Address) -> QuicHeader | None:
        """The header of what may begin a connection; another QUIC version is answered here."""
        try:
            header = pull_quic_header(Buffer(data=data), host_cid_length=_CID_LENGTH)
        except ValueError:
            return None
        if header.packet_type == QuicPacketType.VERSION_NEGOTIATION or not self._names(address) or len(data) < 1200:
            return None
        if header.version != QuicProtocolVersion.VERSION_1:
            reply = encode_quic_version_negotiation(
                source_cid=header.destination_cid,
                destination_cid=header.source_cid,
                supported_versions=[QuicProtocolVersion.VERSION_1],
            )
            self._outbox.append(api.Transmit(reply, address, 0))
            return None
        return header if header.packet_type == QuicPacketType.INITIAL else None

    def _arrive(self, header: QuicHeader, data: bytes, address: api.Address, now: float) -> None:
        """A client's first packets wait their turn, or it has to show that it hears at its address."""
        original = None
        if header.token:
            original = self._retry_tokens.original(header.token, address, header.destination_cid, now)
        if original is None and self._handshakes.is_crowded(now):
            self._send_retry(header.source_cid, header.destination_cid, address, "")
        else:
            self._handshakes.arrive(data, address, now, original)

    def _send_retry(self, client: bytes, original: bytes, address: api.Address, name: str) -> None:
        self._retries[address.local, name] += 1
        self._outbox.append(api.Transmit(self._retry_tokens.packet(client, original, address, self._now), address, 0))

    def _judge_arrival(self, waiting: Waiting, name: str) -> str | None:
        """Under which name a new client waits, names that aren't ours being one; None: it was sent a Retry."""
        name = name if name in self._names(waiting.address) else ""
        places = self._places(waiting.address, name)
        if waiting.original is None and self._half_open.are_many(name, waiting.address, places):
            self._send_retry(_source_cid(waiting.datagrams[0][0]), waiting.cid, waiting.address, name)
            return None
        return name

    def _names(self, address: api.Address) -> dict[str, ParsedIdentity]:
        return self._identities_by_socket.get(address.local, self._identities)

    def _places(self, address: api.Address, name: str) -> int:
        """For how many handshakes at once; what isn't ours, under the empty name, has as many as any."""
        identity = self._names(address).get(name)
        own = None if identity is None else identity.max_handshakes
        return MAX_HALF_OPEN if own is None else own

    def shake_hands(self, now: float) -> bool:
        """See :meth:`spnhub.transport.engine.Engine.shake_hands`."""
        self._now = now
        self._may_shake_hands = False
        if not self._handshakes:
            return False
        self._handshakes.sort_arrivals(self._judge_arrival)
        waiting = self._handshakes.next(now)
        if waiting is None:
            return False
        # A first datagram that came from two addresses made one connection.
        handle = waiting.handle or self._cids.get(waiting.cid)
        if handle is None:
            if not waiting.name:
                waiting.look_for_name()  # what it repeats may have pushed its ClientHello out
            handle = self._accept(waiting) if waiting.datagrams else None
        if handle is not None and not handle.closing and waiting.datagrams:
            self._deliver(handle, *waiting.take(), now)
            if waiting.datagrams:
                # Each may have much in it, and others wait.
                self._handshakes.put_back(handle, waiting)
        return True

    def _accept(self, waiting: Waiting) -> ConnectionHandle | None:
        """Begin a connection."""
        address, name = waiting.address, waiting.name or ""
        identities = self._names(address)
        if not identities:
            return None
        if self._judge_arrival(waiting, name) is None:
            return None
        places = self._places(address, name)
        if self._half_open.under(name) >= places:
            self._handshakes.dropped[address.local, name] += 1
            return None
        # aioquic wants a certificate before the ClientHello is read; the SNI then chooses the right one.
        placeholder = next(iter(identities.values()))
        quic = EngineConnection(
            configuration=self._configuration(
                is_client=False, certificate=placeholder.certificate, private_key=placeholder.private_key
            ),
            limits=self._limits,
            identities=identities,
            chain_size=max(identity.size for identity in identities.values()),
            clock=self._clock,
            holdings=self._holdings,
            is_crowded=self._half_open.is_crowded(name, places),
            reset_key=self._reset_key,
            original_destination_connection_id=waiting.original or waiting.cid,
            validated=None if waiting.original is None else (waiting.cid, address),
        )
        handle = self._add(quic, address, name)
        handle.first_cid = quic.host_cid
        self._route(handle, waiting.cid)
        return handle

    def _add(self, quic: EngineConnection, address: api.Address, queue: str = "") -> ConnectionHandle:
        handle = ConnectionHandle(next(self._ids), quic, address, self._now, self._limits)
        handle.queue = queue
        self._handles[handle.connection_id] = handle
        self._peers.setdefault(address, {})[handle] = None
        handle.source = self._half_open.add(queue, address)
        self._route(handle, quic.host_cid)
        return handle

    def _remove(self, handle: ConnectionHandle) -> None:
        handle.gone = True
        if self._handles.pop(handle.connection_id, None) is not None:
            self._leave(handle)
        for cid in handle.cids:
            self._cids.pop(cid, None)
        self._laggards.forget(handle)

    def _leave(self, handle: ConnectionHandle) -> None:
        there = self._peers[handle.address]
        del there[handle]
        if not there:
            del self._peers[handle.address]

    def _move(self, handle: ConnectionHandle, address: api.Address) -> None:
        """The peer has another address."""
        self._leave(handle)
        handle.move(address)
        self._peers.setdefault(address, {})[handle] = None

    def _route(self, handle: ConnectionHandle, cid: bytes) -> None:
        self._cids[cid] = handle
        handle.cids.add(cid)

    def unreachable(self, address: api.Address, now: float, *, port_closed: bool = False) -> None:
        """See :meth:`spnhub.transport.engine.Engine.unreachable`."""
        self._now = now
        for handle in list(self._peers.get(address, ())):
            if handle.is_attempt:
                kind = api.CloseKind.PORT_CLOSED if port_closed else api.CloseKind.UNREACHABLE
                self._vanish(handle, api.Closed(handle.connection_id, kind, 0, f"{kind.value}, as its host says"))
            elif handle.begin_probe(now, port_closed=port_closed):
                self._dirty[handle] = None

    def repeat(self, connection_id: int, now: float) -> None:
        """See :meth:`spnhub.transport.engine.Engine.repeat`."""
        self._now = now
        handle = self._live(connection_id)
        if handle is not None and handle.is_attempt:
            handle.quic.probe(now)
            self._dirty[handle] = None

    def set_translated(self, connection_id: int, translated: bool) -> None:
        """See :meth:`spnhub.transport.engine.Engine.set_translated`."""
        handle = self._live(connection_id)
        if handle is not None:
            handle.translated = translated
            if not translated and not handle.checked:
                handle.checked = True
                self._port_checks.add(handle, self._now)

    # ---- time --------------------------------------------------------------------------------------------------

    def timer(self) -> float | None:
        """See :meth:`spnhub.transport.engine.Engine.timer`."""
        timers = self._timers
        while timers and (timers[0][2].timer_at != timers[0][0] or timers[0][2].gone):
            heappop(timers)
        if self._handshakes or self._laggards.count:
            return self._now
        times = (timers[0][0] if timers else None, self._port_checks.timer())
        return min((at for at in times if at is not None), default=None)

    def _arm(self, handle: ConnectionHandle) -> None:
        when = handle.next_timer()
        if when != handle.timer_at:
            handle.timer_at = when
            if when is not None:
                heappush(self._timers, (when, next(self._timer_ids), handle))

    def handle_timer(self, now: float) -> None:
        """See :meth:`spnhub.transport.engine.Engine.handle_timer`."""
        self._now = now
        self._may_shake_hands = True
        if self._laggards.count:
            self._work_off(now)
        self._outbox.extend(self._port_checks.step(now))
        timers = self._timers
        while timers and timers[0][0] <= now:
            when, _, handle = heappop(timers)
            if handle.timer_at != when or handle.gone:
                continue
            handle.timer_at = None
            self._dirty[handle] = None
            if handle.closing:
                if handle.closing_until <= now:
                    self._remove(handle)
                continue
            try:
                self._on_time(handle, now)
            except Exception as fault:
                self._fail(handle, fault)

    def _on_time(self, handle: ConnectionHandle, now: float) -> None:
        self._hear(handle)
        silent = handle.on_time(now)
        if silent is api.CloseKind.IDLE:
            reason = "idle timeout" if handle.connected else "handshake timeout"
            self._vanish(handle, api.Closed(handle.connection_id, silent, 0, reason))
        elif silent is not None:
            self._vanish(
                handle, api.Closed(handle.connection_id, silent, 0, f"{silent.value}, and no answer to a probe")
            )
        elif handle.suspect_now(now):
            self._events.append(api.Unresponsive(handle.connection_id))

    def _vanish(self, handle: ConnectionHandle, closed: api.Closed) -> None:
        """A connection ends without a word to the peer."""
        if handle.connected or handle.is_client:
            self._end(handle, closed)
        else:
            self._end(handle, handle.handshake_failure(None, closed.reason))
        self._remove(handle)

    # ---- datagrams out -----------------------------------------------------------------------------------------

    def transmit(self, now: float) -> list[api.Transmit]:
        """See :meth:`spnhub.transport.engine.Engine.transmit`."""
        self._now = now
        out = list(self._outbox)
        self._outbox.clear()
        self._reset_addresses.clear()
        for _ in range(_ROUNDS):
            if not self._dirty:
                break
            dirty, self._dirty = self._dirty, {}
            for handle in dirty:
                if handle.holds and not handle.gone:
                    handle.held_back = True
                elif not handle.gone:
                    try:
                        self._transmit_link(handle, now, out)
                    except Exception as fault:
                        self._fail(handle, fault)
            self._pump()
        return out

    def _transmit_link(self, handle: ConnectionHandle, now: float, out: list[api.Transmit]) -> None:
        quic = handle.quic
        if quic.close_event is not None and not handle.closing:
            self._collect(handle)
        if handle.closing:
            out.extend(handle.closing_transmits(now))
            self._arm(handle)
            return
        datagrams = quic.datagrams_to_send(now)
        if quic.issued:
            for cid in quic.issued:
                self._route(handle, cid)
            quic.issued.clear()
        if datagrams:
            if handle.sent(now):
                # Something is outstanding from now on.
                handle.unanswered_since = now
            segment(datagrams, out)
        if quic.short and quic.end_shortage():
            self._dirty[handle] = None
        if quic.unblocked:
            for record in quic.unblocked:
                self._on_room(handle, record)
            quic.unblocked.clear()
        self._arm(handle)

    # ---- connections -------------------------------------------------------------------------------------------

    def connect(self, address: api.Address, policy: api.ClientPolicy, now: float) -> int:
        """See :meth:`spnhub.transport.engine.Engine.connect`."""
        self._now = now
        chain, key = load_pair(policy.certificate_chain, policy.private_key, "certificate", "certificate key")
        trust = public_roots() if policy.trust is None else policy.trust
        anchors_of(trust, "trust")
        quic = EngineConnection(
            configuration=self._configuration(
                is_client=True,
                alpn_protocols=list(policy.alpn),
                server_name=policy.server_name,
                certificate=chain[0],
                certificate_chain=chain[1:],
                private_key=key,
                verify_mode=ssl.CERT_NONE,  # ours does it
            ),
            limits=self._limits,
            trust=trust,
            chain_size=chain_size(chain),
            clock=self._clock,
            holdings=self._holdings,
        )
        handle = self._add(quic, address)
        handle.is_client = True
        quic.connect(address, now)
        self._dirty[handle] = None
        return handle.connection_id

    def close(self, connection_id: int, code: int, reason: str) -> None:
        """See :meth:`spnhub.transport.engine.Engine.close`."""
        handle = self._live(connection_id)
        if handle is not None:
            handle.closed_by_user = True
            handle.quic.close(error_code=code, reason_phrase=reason)
            self._dirty[handle] = None

    def cork(self, connection_id: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.hold`."""
        handle = self._handles.get(connection_id)
        if handle is not None:
            handle.holds += 1

    def release(self, connection_id: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.release`."""
        handle = self._handles.get(connection_id)
        if handle is not None and handle.holds:
            handle.holds -= 1
            if not handle.holds and handle.held_back:
                handle.held_back = False
                self._dirty[handle] = None

    def send_datagram(self, connection_id: int, data: bytes) -> None:
        """See :meth:`spnhub.transport.engine.Engine.send_datagram`."""
        handle = self._live(connection_id)
        if handle is not None and (handle.quic._remote_max_datagram_frame_size or 0) >= len(data) + 3:
            handle.quic.send_datagram_frame(data)
            self._dirty[handle] = None

    def set_window(self, connection_id: int, window: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.set_window`."""
        handle = self._live(connection_id)
        if handle is not None:
            handle.quic.set_window(window)
            self._dirty[handle] = None

    def set_send_window(self, connection_id: int, window: int) -> None:
        """See :meth:`spnhub.transport.engine.Engine.set_send_window`."""
        handle = self._live(connection_id)
        if handle is not None:
            handle.quic.set_send_window(window)
            self._dirty[handle] = None

    def info(self, connection_id: int) -> api.ConnectionInfo | None:
        """See :meth:`spnhub.transport.engine.Engine.info`."""
        handle = self._live(connection_id)
        if handle is None:
            return None
        rtt, window, in_flight = handle.quic.measurements()
        return api.ConnectionInfo(
            handle.address,
            rtt,
            window,
            in_flight,
            len(handle.quic.records),
            handle.quic.buffered,
            handle.quic.granted,
            handle.quic.unacknowledged,
            handle.quic._max_datagram_size,
        )

    def _live(self, connection_id: int) -> ConnectionHandle | None:
        handle = self._handles.get(connection_id)
        if handle is None or handle.closing or handle.quic._state in _ENDED:
            return None
        return handle


def _source_cid(packet: bytes) -> bytes:
    """What the sender of a long header calls itself; the header is known to be one."""
    at = 6 + packet[5]
    return packet[at + 1 : at + 1 + packet[at]]


def _parse(identities: Mapping[str, api.ServerIdentity]) -> dict[str, ParsedIdentity]:
    parsed = {}
    for name, identity in identities.items():
        try:
            parsed[name.lower()] = parse_identity(identity)
        except ValueError as exc:
            raise ValueError(f"{name}: {exc}") from exc
    return parsed


# No set: the hash of an enum's member is computed in Python.
_ENDED: Final = (QuicConnectionState.CLOSING, QuicConnectionState.DRAINING, QuicConnectionState.TERMINATED)
