"""An :class:`~spnhub.transport.engine.Engine` without QUIC: the same promises, in memory, quick and deterministic.

Engines that share a :class:`FakeWire` understand each other. A "datagram" is a ticket for a packet that waits in the
wire, so any driver of an engine can carry it. Tickets may arrive late and in any order (bytes of a stream are put in
order here, as QUIC does), but each must arrive for as long as its sender lives: this engine repeats nothing, so a
network that loses tickets brings them later (``repeats`` of :class:`tests.support.fake_network.FakeNetwork`). What
belongs to a connection that its sender has given up silently (idle, unreachable, reset) is dropped on arrival.
Certificates are PEM, or plain data made by :func:`fake_certificate` and :func:`fake_ca`.

Times are those of the real engine: keep-alive, suspect, probe, idle timeout, stateless reset with a ``reset_key``.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from spnhub.transport.engine import (
    ENDINGS_KEPT,
    LOST_CODE,
    Address,
    Answered,
    Available,
    ClientPolicy,
    Closed,
    CloseKind,
    Connected,
    ConnectionInfo,
    DatagramReceived,
    EngineEvent,
    HandshakeRefused,
    Limits,
    Opened,
    Outcome,
    OutcomeKind,
    Readable,
    Reset,
    ServerIdentity,
    ServerPolicy,
    Spliced,
    Stopped,
    Transmit,
    Unresponsive,
    Writable,
)

__all__ = ["FakeEngine", "FakeWire", "fake_ca", "fake_certificate"]

_MARK: Final = b"-----FAKE "

UNKNOWN_CA: Final = 48
CERTIFICATE_REQUIRED: Final = 116
UNRECOGNIZED_NAME: Final = 112
NO_APPLICATION_PROTOCOL: Final = 120
TLS: Final = 0x100

_HANDSHAKE: Final = frozenset(("hello", "server_hello", "finished", "close"))
_DRAINING: Final = 1.0
"""Seconds that an orderly closed connection is remembered: what comes late for it is no news (RFC 9000 10.2)."""


def fake_ca(name: str) -> bytes:
    """A certificate authority as plain data: its name."""
    return _MARK + name.encode()


def fake_certificate(subject: str, issuer: str) -> bytes:
    """A certificate as plain data. The "DER" that :class:`Connected` hands out is the same bytes."""
    return _MARK + issuer.encode() + b"|" + subject.encode()


@lru_cache(maxsize=4096)
def _judge(chain: bytes, trust: bytes) -> tuple[tuple[bytes, ...], str | None, int | None]:
    """The chain as DER, the leaf's subject, and the TLS alert that refuses it (None: it is good)."""
    if not chain:
        return (), None, CERTIFICATE_REQUIRED
    if chain.startswith(_MARK):
        issuer, _, subject = chain.removeprefix(_MARK).decode().partition("|")
        return (chain,), subject, None if trust == fake_ca(issuer) else UNKNOWN_CA
    certificates = x509.load_pem_x509_certificates(chain)
    leaf = certificates[0]
    alert: int | None = UNKNOWN_CA
    for authority in x509.load_pem_x509_certificates(trust):
        try:
            leaf.verify_directly_issued_by(authority)
        except (ValueError, TypeError, InvalidSignature):
            continue
        alert = None
    return tuple(cert.public_bytes(Encoding.DER) for cert in certificates), leaf.subject.rfc4514_string(), alert


@dataclass(slots=True)
class _Packet:
    link: int
    sender: _Connection | None
    """None: a stateless reset; its only frame is the token."""
    number: int
    """0: wants no acknowledgement."""
    ack: int
    frames: list[tuple[Any, ...]]


class FakeWire:
    """What the engines of one simulation share: the packets under way."""

    def __init__(self) -> None:
        self._packets: dict[int, _Packet] = {}
        self._tickets = itertools.count(1)
        self._links = itertools.count(1)

    def new_link(self) -> int:
        return next(self._links)

    def put(self, packet: _Packet) -> bytes:
        ticket = next(self._tickets)
        self._packets[ticket] = packet
        return ticket.to_bytes(8, "big")

    def take(self, data: bytes) -> _Packet | None:
        return self._packets.pop(int.from_bytes(data, "big"), None)


@dataclass(slots=True, eq=False)
class _Stream:
    stream_id: int
    ours: bool
    # sending half
    credit: int
    out: bytearray = field(default_factory=bytearray)
    written: int = 0
    sent: int = 0
    fin: bool = False
    fin_number: int | None = None
    fin_acked: bool = False
    reset_code: int | None = None
    stop_code: int | None = None
    blocked: bool = False
    # receiving half
    window: int = 0
    data: bytearray = field(default_factory=bytearray)
    early: dict[int, tuple[bytes, bool]] = field(default_factory=dict)
    """What overtook bytes that come before it, by offset."""
    announced: bool = False
    received: int = 0
    consumed: int = 0
    granted: int = 0
    fin_received: bool = False
    fin_read: bool = False
    reset_received: int | None = None
    stopped: bool = False
    told: bool = False
    splice: _Splice | None = None

    @property
    def sending(self) -> bool:
        return self.reset_code is None and not self.fin_acked

    @property
    def receiving(self) -> bool:
        return not (self.fin_read or self.stopped or (self.reset_received is not None and not self.data))


@dataclass(slots=True, eq=False)
class _Direction:
    source: tuple[_Connection, _Stream]
    sink: tuple[_Connection, _Stream]
    start: int
    ended: bool = False
    """The source's FIN was read before the splice."""
    outcome: Outcome | None = None
    count: int = 0

    @property
    def passed(self) -> int:
        return self.count if self.outcome is not None else max(0, self.sink[1].sent - self.start)

    def end(self, kind: OutcomeKind, code: int = 0) -> None:
        self.count = self.passed
        self.outcome = Outcome(kind, code)


@dataclass(slots=True, eq=False)
class _Splice:
    token: int
    a_to_b: _Direction
    b_to_a: _Direction


@dataclass(slots=True, eq=False)
class _Connection:
    connection_id: int
    link: int
    client: bool
    address: Address
    started: float
    heard: float
    active: float
    """Heard or sent something, for the keep-alive."""
    policy: ClientPolicy | None = None
    server_name: str | None = None
    alpn: str = ""
    up: bool = False
    holds: int = 0
    frames: list[tuple[Any, ...]] = field(default_factory=list)
    streams: dict[int, _Stream] = field(default_factory=dict)
    broken_off: dict[int, tuple[_Stream, float]] = field(default_factory=dict)
    """What the peer has broken off, after its end, and when that was."""
    sending: dict[int, _Stream] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    """Streams that the peer has opened, ever."""
    peer_window: int = 0
    may_open: int = 0
    opened: int = 0
    wants_stream: bool = False
    streams_granted: int = 0
    ended_streams: int = 0
    number: int = 0
    unacked: deque[tuple[int, float]] = field(default_factory=deque)
    acked: int = 0
    answered: float = 0.0
    received: int = 0
    """All packets up to this one have come."""
    beyond: set[int] = field(default_factory=set)
    early: list[list[tuple[Any, ...]]] = field(default_factory=list)
    """What overtook the end of the handshake."""
    must_ack: bool = False
    suspect: bool = False
    probe: float | None = None
    probe_again: float | None = None
    port_closed: bool = False
    translated: bool | None = None
    checked: float = 0.0
    """When its port was last looked after."""
    token: object = None
    """The peer's stateless reset token."""
    silent: bool = False
    """Given up without a word: nothing is repeated any more."""


class FakeEngine:
    """See :class:`spnhub.transport.engine.Engine`; every promise is kept, save cryptography, losses and meters."""

    def __init__(self, wire: FakeWire, limits: Limits | None = None, reset_key: bytes | None = None) -> None:
        self.limits = limits or Limits()
        self.meters: dict[int, int] = {}
        """What was set: bytes a second by number."""
        self._reset_key = reset_key
        self._resets: dict[int, Address] = {}
        self._draining: dict[int, float] = {}
        """Connections that were closed in order, by link, and until when that is remembered."""
        self._now = 0.0
        self._wire = wire
        self._policy = ServerPolicy({})
        self._events: list[EngineEvent] = []
        self._numbers = itertools.count(1)
        self._tokens = itertools.count(1)
        self._connections: dict[int, _Connection] = {}
        self._over: dict[int, _Connection] = {}
        self._told_over: dict[int, _Connection] = {}
        """Those whose end was told last; what they had received may be read still."""
        self._links: dict[int, _Connection] = {}
        self._splices: dict[int, _Splice] = {}
        self._dirty: dict[int, _Connection] = {}
        self._closing: list[_Connection] = []
        self._checks: list[Transmit] = []

    # ---------------------------------------------------------------------------------------------------- policy, I/O

    def check_identity(self, identity: ServerIdentity) -> None:
        if not identity.certificate_chain or not identity.client_ca:
            raise ValueError("server certificate is empty")

    def counts(self) -> dict[str, int]:
        return {"connections": len(self._connections), "peers": len(self._links), "half_open": 0}

    def set_policy(self, policy: ServerPolicy) -> None:
        sockets = (names.items() for names in policy.by_socket.values())
        for name, identity in itertools.chain(policy.identities.items(), *sockets):
            if not identity.certificate_chain or not identity.client_ca:
                raise ValueError(f"{name}: a certificate and a client CA are needed")
        self._policy = policy

    def receive(self, data: bytes, address: Address, segment_size: int, now: float) -> None:
        self._now = now
        size = segment_size or len(data)
        for start in range(0, len(data), size):
            packet = self._wire.take(data if size == len(data) else data[start : start + size])
            if packet is None:
                continue
            if packet.sender is None:
                self._receive_reset(packet)
            elif not packet.sender.silent:
                self._receive(packet, address, now)

    def _receive(self, packet: _Packet, address: Address, now: float) -> None:
        frames = packet.frames
        k = self._links.get(packet.link)
        if k is None:
            if not frames or frames[0][0] != "hello":
                if self._reset_key is not None and self._draining.get(packet.link, now) <= now:
                    self._resets[packet.link] = address
                return
            k = self._add(packet.link, False, address, now)
        k.heard = k.active = now
        if k.address != address:
            k.address = address
            k.translated = k.translated if k.translated is None else True
            k.probe = k.probe_again = None
            k.port_closed = False
        number = packet.number
        if number:
            k.must_ack = True
            self._dirty[k.connection_id] = k
            if number == k.received + 1 and not k.beyond:
                k.received = number
            else:
                k.beyond.add(number)
                while k.received + 1 in k.beyond:
                    k.received += 1
                    k.beyond.discard(k.received)
        if packet.ack > k.acked:
            self._acknowledged(k, packet.ack, now)
        if k.up or not frames or frames[0][0] in _HANDSHAKE:
            self._handle(k, frames)
        else:
            k.early.append(frames)

    def _handle(self, k: _Connection, frames: list[tuple[Any, ...]]) -> None:
        for name, *values in frames:
            _HANDLERS[name](self, k, *values)
            if k.connection_id not in self._connections:
                return

    def _receive_reset(self, packet: _Packet) -> None:
        k = self._links.get(packet.link)
        if k is not None and k.client and k.token is not None and packet.frames[0] == (k.token,):
            self._lost(k, CloseKind.RESET, 0, "stateless reset")

    def unreachable(self, address: Address, now: float, *, port_closed: bool = False) -> None:
        self._now = now
        for k in list(self._connections.values()):
            if k.address != address:
                continue
            if k.client and not k.up:
                kind = CloseKind.PORT_CLOSED if port_closed else CloseKind.UNREACHABLE
                self._lost(k, kind, 0, f"{kind.value}, as its host says")
                continue
            longer = port_closed and not k.port_closed and k.translated is True
            k.port_closed |= port_closed
            if k.probe is None or longer:
                k.probe = now + self.limits.probe_timeout + (self.limits.keep_alive if longer else 0.0)
                k.probe_again = now + self.limits.probe_timeout / 2
                self._frame(k, "ping")

    def repeat(self, connection_id: int, now: float) -> None:
        self._now = now
        k = self._connections.get(connection_id)
        if k is not None and k.client and not k.up:
            self._frame(k, "ping")

    def set_translated(self, connection_id: int, translated: bool) -> None:
        k = self._connections.get(connection_id)
        if k is not None:
            k.translated = translated

    def _check_at(self, k: _Connection) -> float:
        limits = self.limits
        if k.translated is not False or not limits.port_check or not limits.keep_alive or len(k.streams) < 2:
            return math.inf
        heard, checked = k.heard + limits.port_check / 2, k.checked + limits.port_check
        return max(checked, heard)

    def transmit(self, now: float) -> list[Transmit]:
        self._now = now
        if not (self._dirty or self._closing or self._resets or self._checks):
            return []
        result, self._checks = self._checks, []
        if self._resets:
            for link, address in self._resets.items():
                packet = _Packet(link, None, 0, 0, [((self._reset_key, link),)])
                result.append(Transmit(self._wire.put(packet), address, 0))
            self._resets.clear()
        waiting: dict[int, _Connection] = {}
        while self._dirty:
            batch, self._dirty = self._dirty, {}
            for k in batch.values():
                if k.holds:
                    waiting[k.connection_id] = k
                else:
                    self._pack(k, now, result)
        self._dirty = waiting
        closing, self._closing = self._closing, []
        for k in closing:
            if k.holds:
                self._closing.append(k)
            else:
                self._pack(k, now, result)
        return result

    def _pack(self, k: _Connection, now: float, result: list[Transmit]) -> None:
        number = k.number + 1
        frames, k.frames = k.frames, []
        for stream in list(k.sending.values()):
            count = min(len(stream.out), stream.credit - stream.sent)
            offset = stream.sent
            fin = stream.fin and stream.fin_number is None and count == len(stream.out)
            if count or fin:
                chunk = bytes(stream.out[:count])
                del stream.out[:count]
                stream.sent += count
                if fin:
                    stream.fin_number = number
                frames.append(("data", stream.stream_id, offset, chunk, fin))
            if not stream.out and (not stream.fin or stream.fin_number is not None):
                del k.sending[stream.stream_id]
            if count and stream.blocked and stream.splice is None:
                stream.blocked = False
                self._events.append(Writable(k.connection_id, stream.stream_id))
            if stream.splice is not None:
                self._pump(stream.splice)
        if not frames and not k.must_ack:
            return
        k.must_ack = False
        if frames:
            k.number = number
            k.unacked.append((number, now))
        k.active = now
        packet = _Packet(k.link, k, number if frames else 0, k.received, frames)
        result.append(Transmit(self._wire.put(packet), k.address, 0))

    def shake_hands(self, now: float) -> bool:
        return False

    def events(self) -> list[EngineEvent]:
        if self._over or self._told_over:
            self._told_over, self._over = self._over, {}
        events, self._events = self._events, []
        return events

    # ----------------------------------------------------------------------------------------------------------- time

    def _suspect_at(self, k: _Connection) -> float:
        since = k.unacked[0][1]
        return max(k.answered, since) + self.limits.suspect_after

    def timer(self) -> float | None:
        limits = self.limits
        soonest = math.inf
        # Asked for twice in every turn of a simulation.
        for k in self._connections.values():
            if not k.up:
                when = k.started + limits.handshake_timeout
            else:
                when = k.heard + limits.idle_timeout
                if limits.keep_alive and (active := k.active + limits.keep_alive) < when:
                    when = active
                if k.unacked and not k.suspect and (suspect := self._suspect_at(k)) < when:
                    when = suspect
                if k.translated is False and (check := self._check_at(k)) < when:
                    when = check
            if k.probe is not None:
                when = min(when, k.probe, when if k.probe_again is None else k.probe_again)
            if when < soonest:
                soonest = when
        return None if soonest == math.inf else soonest

    def handle_timer(self, now: float) -> None:
        self._now = now
        limits = self.limits
        for k in list(self._connections.values()):
            if k.probe is not None and now >= k.probe:
                kind = CloseKind.PORT_CLOSED if k.port_closed else CloseKind.UNREACHABLE
                self._lost(k, kind, 0, f"{kind.value}, and no answer to a probe")
                continue
            if k.probe_again is not None and now >= k.probe_again:
                k.probe_again = None
                self._frame(k, "ping")
            if not k.up:
                if now >= k.started + limits.handshake_timeout:
                    self._lost(k, CloseKind.IDLE, 0, "handshake timeout")
            elif now >= k.heard + limits.idle_timeout:
                self._lost(k, CloseKind.IDLE, 0, "idle timeout")
            else:
                if now >= self._check_at(k):
                    k.checked = now
                    self._checks.append(Transmit(b"\0", k.address, 0))
                if limits.keep_alive and now >= k.active + limits.keep_alive:
                    k.active = now
                    self._frame(k, "ping")
                if k.unacked and not k.suspect and now >= self._suspect_at(k):
                    k.suspect = True
                    self._events.append(Unresponsive(k.connection_id))

    def _acknowledged(self, k: _Connection, number: int, now: float) -> None:
        k.acked = number
        k.answered = now
        k.probe = k.probe_again = None
        k.port_closed = False
        while k.unacked and k.unacked[0][0] <= number:
            k.unacked.popleft()
        if k.suspect:
            k.suspect = False
            self._events.append(Answered(k.connection_id))
        for stream in list(k.streams.values()):
            if stream.fin_number is not None and not stream.fin_acked and stream.fin_number <= number:
                stream.fin_acked = True
                self._tidy(k, stream)

    # ---------------------------------------------------------------------------------------------------- connections

    def _add(self, link: int, client: bool, address: Address, now: float) -> _Connection:
        k = _Connection(next(self._numbers), link, client, address, now, now, now)
        k.streams_granted = self.limits.streams
        self._connections[k.connection_id] = self._links[link] = k
        return k

    def _frame(self, k: _Connection, *frame: Any) -> None:
        if k.connection_id in self._connections:
            k.frames.append(frame)
            self._dirty[k.connection_id] = k

    def connect(self, address: Address, policy: ClientPolicy, now: float) -> int:
        k = self._add(self._wire.new_link(), True, address, now)
        k.policy = policy
        k.server_name = policy.server_name
        chain = policy.certificate_chain
        self._frame(k, "hello", policy.server_name, policy.alpn, chain, self.limits.streams, self.limits.stream_window)
        return k.connection_id

    def _on_hello(
        self, k: _Connection, name: str, alpns: tuple[str, ...], chain: bytes, streams: int, window: int
    ) -> None:
        k.server_name = name.lower()
        k.may_open, k.peer_window = streams, window
        identity = self._identity(k)
        if identity is None:
            self._alert(k, UNRECOGNIZED_NAME, "no such server name", None)
            return
        k.alpn = next((alpn for alpn in identity.alpn if alpn in alpns), "")
        if not k.alpn:
            self._alert(k, NO_APPLICATION_PROTOCOL, "no common application protocol", None)
            return
        self._frame(
            k,
            "server_hello",
            identity.certificate_chain,
            k.alpn,
            k.link.to_bytes(8, "big"),
            self.limits.streams,
            self.limits.stream_window,
            None if self._reset_key is None else (self._reset_key, k.link),
        )

    def _identity(self, k: _Connection) -> ServerIdentity | None:
        names = self._policy.by_socket.get(k.address.local, self._policy.identities)
        return names.get(k.server_name or "")

    def _on_server_hello(
        self, k: _Connection, chain: bytes, alpn: str, cid: bytes, streams: int, window: int, token: object
    ) -> None:
        assert k.policy is not None
        ders, _, alert = _judge(chain, k.policy.trust or b"")
        if alert is not None:
            self._shut(k, CloseKind.VIOLATION, TLS + alert, "the server's certificate is not trusted", transport=True)
            return
        k.may_open, k.peer_window, k.alpn, k.token, k.up = streams, window, alpn, token, True
        self._frame(k, "finished", k.policy.certificate_chain)
        self._events.append(Connected(k.connection_id, k.policy.server_name, ders, alpn, cid, k.address))
        self._take_early(k)

    def _on_finished(self, k: _Connection, chain: bytes) -> None:
        assert k.server_name is not None
        identity = self._identity(k)
        ders, subject, alert = _judge(chain, identity.client_ca if identity else b"")
        if alert is not None:
            self._alert(k, alert, "the client's certificate is not accepted", subject)
            return
        k.up = True
        self._events.append(
            Connected(k.connection_id, k.server_name, ders, k.alpn, k.link.to_bytes(8, "big"), k.address)
        )
        self._take_early(k)

    def _take_early(self, k: _Connection) -> None:
        early, k.early = k.early, []
        for frames in early:
            if k.connection_id in self._connections:
                self._handle(k, frames)

    def _alert(self, k: _Connection, alert: int, reason: str, subject: str | None) -> None:
        self._drain(k)
        self._forget(k)
        k.frames = [("close", True, TLS + alert, reason)]
        self._closing.append(k)
        self._events.append(HandshakeRefused(k.connection_id, k.address, k.server_name, alert, reason, subject))

    def _on_close(self, k: _Connection, transport: bool, code: int, reason: str) -> None:
        self._drain(k)
        if not k.client and not k.up:
            self._forget(k)
            alert = code - TLS if transport and code >= TLS else None
            self._events.append(HandshakeRefused(k.connection_id, k.address, k.server_name, alert, reason, None))
            return
        self._lost(k, CloseKind.PEER_TRANSPORT if transport else CloseKind.PEER, code, reason)

    def close(self, connection_id: int, code: int, reason: str) -> None:
        k = self._connections.get(connection_id)
        if k is not None:
            self._shut(k, CloseKind.LOCAL, code, reason, transport=False)

    def _shut(self, k: _Connection, kind: CloseKind, code: int, reason: str, *, transport: bool) -> None:
        self._drain(k)
        self._lost(k, kind, code, reason)
        k.frames = [("close", transport, code, reason)]
        self._closing.append(k)

    def _drain(self, k: _Connection) -> None:
        now = self._now
        for link in [link for link, until in self._draining.items() if until <= now]:
            del self._draining[link]
        self._draining[k.link] = now + _DRAINING

    def _forget(self, k: _Connection) -> None:
        self._over[k.connection_id] = k
        k.silent = k.link not in self._draining
        del self._connections[k.connection_id], self._links[k.link]
        self._dirty.pop(k.connection_id, None)
        k.sending.clear()

    def _lost(self, k: _Connection, kind: CloseKind, code: int, reason: str) -> None:
        refused = not k.client and not k.up
        self._forget(k)
        if refused:
            self._events.append(HandshakeRefused(k.connection_id, k.address, k.server_name, None, reason, None))
            return
        self._pass_rests(k)
        self._events.append(Closed(k.connection_id, kind, code, reason))
        for splice in [one for one in self._splices.values() if k in (one.a_to_b.source[0], one.b_to_a.source[0])]:
            for direction in (splice.a_to_b, splice.b_to_a):
                other, stream = direction.source
                if other is not k:
                    self._reset(other, stream, LOST_CODE)
                    self._stop(other, stream, LOST_CODE)
            self._end_splice(splice, OutcomeKind.LOST, 0)

    # -------------------------------------------------------------------------------------------------------- streams

    def _get(self, connection_id: int, stream_id: int) -> tuple[_Connection, _Stream] | None:
        k = self._connections.get(connection_id)
        stream = k.streams.get(stream_id) if k is not None else None
        return None if k is None or stream is None else (k, stream)

    def _get_ended(self, connection_id: int, stream_id: int) -> tuple[_Connection, _Stream] | None:
        k = self._connections.get(connection_id)
        if k is not None and (found := k.broken_off.get(stream_id)) and self._now - found[1] < ENDINGS_KEPT:
            return k, found[0]
        return self._get(connection_id, stream_id)

    def _new_stream(self, k: _Connection, stream_id: int, *, ours: bool) -> _Stream:
        window = self.limits.stream_window
        stream = _Stream(stream_id, ours, credit=k.peer_window, window=window, granted=window, announced=ours)
        k.streams[stream_id] = stream
        return stream

    def _incoming(self, k: _Connection, stream_id: int) -> _Stream | None:
        """The stream that a frame is about; made if it is new; None if it has ended."""
        stream = k.streams.get(stream_id)
        if stream is None and (stream_id % 4 == 0) != k.client and stream_id not in k.seen:
            k.seen.add(stream_id)
            stream = self._new_stream(k, stream_id, ours=False)
        return stream

    def _announce(self, k: _Connection, stream: _Stream) -> None:
        """There is something to say of this stream: say first, once, that it was opened."""
        if not stream.announced:
            stream.announced = stream.told = True
            self._events.append(Opened(k.connection_id, stream.stream_id))

    def _tidy(self, k: _Connection, stream: _Stream) -> None:
        """Forget a stream whose halves have both ended; let the peer open another for it."""
        if stream.sending or stream.receiving or k.streams.pop(stream.stream_id, None) is None:
            return
        if stream.reset_received is not None or stream.stop_code is not None:
            while len(k.broken_off) >= self.limits.streams:
                del k.broken_off[next(iter(k.broken_off))]
            k.broken_off[stream.stream_id] = stream, self._now
        if not stream.ours:
            k.ended_streams += 1
            k.streams_granted += 1
            self._frame(k, "streams", k.streams_granted)

    def open_bidi(self, connection_id: int) -> int | None:
        k = self._connections.get(connection_id)
        if k is None or not k.up:
            return None
        if k.opened >= k.may_open:
            k.wants_stream = True
            return None
        stream_id = 4 * k.opened + (0 if k.client else 1)
        k.opened += 1
        self._new_stream(k, stream_id, ours=True)
        return stream_id

    def write(self, connection_id: int, stream_id: int, data: bytes) -> int:
        found = self._get(connection_id, stream_id)
        if found is None or not found[1].sending or found[1].fin or found[1].splice is not None:
            return 0
        k, stream = found
        taken = self._put(k, stream, data)
        stream.blocked = taken < len(data)
        return taken

    def _put(self, k: _Connection, stream: _Stream, data: bytes) -> int:
        taken = min(len(data), self.limits.send_buffer - len(stream.out))
        if taken > 0:
            stream.out += data[:taken]
            stream.written += taken
            k.sending[stream.stream_id] = stream
            self._dirty[k.connection_id] = k
        return max(taken, 0)

    def write_rest(self, connection_id: int, stream_id: int, data: bytes) -> bool:
        found = self._get(connection_id, stream_id)
        if found is None or not found[1].sending or found[1].fin or found[1].splice is not None:
            return False
        self._put_rest(*found, data)
        return True

    def _put_rest(self, k: _Connection, stream: _Stream, data: bytes) -> None:
        stream.out += data
        stream.written += len(data)
        stream.fin = True
        k.sending[stream.stream_id] = stream
        self._dirty[k.connection_id] = k

    def room(self, connection_id: int, stream_id: int) -> int:
        found = self._get(connection_id, stream_id)
        if found is None or not found[1].sending or found[1].fin or found[1].splice is not None:
            return 0
        room = self.limits.send_buffer - len(found[1].out)
        found[1].blocked = room <= 0
        return max(room, 0)

    def finish(self, connection_id: int, stream_id: int) -> None:
        found = self._get(connection_id, stream_id)
        if found is not None and found[1].sending:
            k, stream = found
            stream.fin = True
            k.sending[stream_id] = stream
            self._dirty[k.connection_id] = k

    def read(self, connection_id: int, stream_id: int, limit: int) -> tuple[bytes, bool] | None:
        found = self._get(connection_id, stream_id)
        if found is None and connection_id in self._told_over and stream_id in self._told_over[connection_id].streams:
            found = self._told_over[connection_id], self._told_over[connection_id].streams[stream_id]
        if found is None or found[1].splice is not None:
            return None
        k, stream = found
        if stream.stopped or (stream.reset_received is not None and not stream.data):
            return None
        if stream.fin_read:
            return b"", False
        data = bytes(stream.data[:limit])
        del stream.data[:limit]
        self._consume(k, stream, len(data))
        if not stream.data:
            stream.told = False
            self._tidy(k, stream)
            if stream.fin_received:
                stream.fin_read = True
                self._tidy(k, stream)
                return data, True
        return data, False

    def _consume(self, k: _Connection, stream: _Stream, count: int) -> None:
        stream.consumed += count
        if not stream.fin_received and stream.consumed + stream.window - stream.granted >= stream.window // 2:
            stream.granted = stream.consumed + stream.window
            self._frame(k, "credit", stream.stream_id, stream.granted)

    def reset(self, connection_id: int, stream_id: int, code: int) -> None:
        found = self._get(connection_id, stream_id)
        if found is not None:
            self._reset(*found, code)
            self._tidy(*found)

    def _reset(self, k: _Connection, stream: _Stream, code: int) -> None:
        if not stream.sending:
            return
        stream.reset_code = code
        stream.out.clear()
        k.sending.pop(stream.stream_id, None)
        self._frame(k, "reset", stream.stream_id, code)
        self._tidy(k, stream)

    def stop(self, connection_id: int, stream_id: int, code: int) -> None:
        found = self._get(connection_id, stream_id)
        if found is not None:
            self._stop(*found, code)
            self._tidy(*found)

    def _stop(self, k: _Connection, stream: _Stream, code: int) -> None:
        if not stream.receiving:
            return
        if not stream.fin_received and stream.reset_received is None:
            self._frame(k, "stop", stream.stream_id, code)
        stream.stopped = True
        stream.data.clear()
        stream.early.clear()
        self._tidy(k, stream)

    def _on_data(self, k: _Connection, stream_id: int, offset: int, data: bytes, fin: bool) -> None:
        stream = self._incoming(k, stream_id)
        if stream is None or not stream.receiving or stream.reset_received is not None:
            return
        if offset != stream.received:
            stream.early[offset] = data, fin
            return
        following: tuple[bytes, bool] | None = data, fin
        while following is not None:
            data, fin = following
            stream.received += len(data)
            assert stream.received <= stream.granted, "the peer ignored flow control"
            stream.data += data
            stream.fin_received = fin
            following = stream.early.pop(stream.received, None) if stream.early else None
        self._announce(k, stream)
        if stream.splice is not None:
            self._pump(stream.splice)
        elif not stream.told:
            stream.told = True
            self._events.append(Readable(k.connection_id, stream_id))

    def _on_reset(self, k: _Connection, stream_id: int, code: int) -> None:
        stream = self._incoming(k, stream_id)
        if stream is None or not stream.receiving or stream.fin_received:
            return
        self._announce(k, stream)
        stream.reset_received = code
        stream.early.clear()
        if stream.splice is not None:
            self._pump(stream.splice)
        else:
            self._events.append(Reset(k.connection_id, stream_id, code))
        self._tidy(k, stream)

    def _on_stop(self, k: _Connection, stream_id: int, code: int) -> None:
        stream = self._incoming(k, stream_id)
        if stream is None or not stream.sending:
            return
        self._announce(k, stream)
        stream.stop_code = code
        self._reset(k, stream, code)
        if stream.splice is not None:
            self._pump(stream.splice)
        else:
            self._events.append(Stopped(k.connection_id, stream_id, code))

    def _on_credit(self, k: _Connection, stream_id: int, limit: int) -> None:
        stream = k.streams.get(stream_id)
        if stream is not None:
            stream.credit = max(stream.credit, limit)
            self._dirty[k.connection_id] = k

    def _on_streams(self, k: _Connection, limit: int) -> None:
        k.may_open = max(k.may_open, limit)
        if k.wants_stream and k.opened < k.may_open:
            k.wants_stream = False
            self._events.append(Available(k.connection_id))

    def _on_ping(self, k: _Connection) -> None:
        """Nothing to do: the acknowledgement is the answer."""

    def _on_datagram(self, k: _Connection, data: bytes) -> None:
        self._events.append(DatagramReceived(k.connection_id, data))

    # -------------------------------------------------------------------------------------------------------- splices

    def set_meters(self, rates: Mapping[int, int]) -> None:
        """What is set is kept to be looked at; bytes pass as they come."""
        self.meters = dict(rates)

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
        token = next(self._tokens)
        a, b = self._get_ended(ca, sa), self._get_ended(cb, sb)
        if a is None or b is None:
            for found in (a, b):
                if found is not None:
                    self._reset(*found, LOST_CODE)
                    self._stop(*found, LOST_CODE)
            lost = Outcome(OutcomeKind.LOST)
            self._events.append(Spliced(token, 0, 0, lost, lost))
            return token
        splice = _Splice(
            token, _Direction(a, b, b[1].written, ended=a_ended), _Direction(b, a, a[1].written, ended=b_ended)
        )
        a[1].splice = b[1].splice = splice
        self._splices[token] = splice
        self._pump(splice)
        return token

    def _pump(self, splice: _Splice) -> None:
        for direction in (splice.a_to_b, splice.b_to_a):
            if direction.outcome is None:
                self._pump_direction(direction)
        if splice.a_to_b.outcome is not None and splice.b_to_a.outcome is not None:
            self._end_splice(splice, OutcomeKind.FINISHED, 0)

    def _pump_direction(self, direction: _Direction) -> None:
        (source_k, source), (sink_k, sink) = direction.source, direction.sink
        if source.reset_received is not None:
            direction.end(OutcomeKind.RESET, source.reset_received)
            source.data.clear()
            self._reset(sink_k, sink, source.reset_received)
            self._tidy(source_k, source)
            return
        if sink.stop_code is not None:
            direction.end(OutcomeKind.STOPPED, sink.stop_code)
            self._stop(source_k, source, sink.stop_code)
            return
        count = self._put(sink_k, sink, bytes(source.data[: self.limits.send_buffer]))
        if count:
            del source.data[:count]
            self._consume(source_k, source, count)
        if (direction.ended or source.fin_received) and not source.data and not sink.fin:
            source.fin_read = sink.fin = True
            sink_k.sending[sink.stream_id] = sink
            self._dirty[sink_k.connection_id] = sink_k
            self._tidy(source_k, source)
        if sink.fin_number is not None:
            direction.end(OutcomeKind.FINISHED)

    def _pass_rests(self, gone: _Connection) -> None:
        for splice in list(self._splices.values()):
            for direction in (splice.a_to_b, splice.b_to_a):
                (source_k, source), (sink_k, sink) = direction.source, direction.sink
                if source_k is gone and direction.outcome is None and source.fin_received:
                    self._put_rest(sink_k, sink, bytes(source.data))
                    source.data.clear()
                    direction.end(OutcomeKind.FINISHED)
                    direction.count = sink.written - direction.start
            if splice.a_to_b.outcome is not None and splice.b_to_a.outcome is not None:
                self._end_splice(splice, OutcomeKind.FINISHED, 0)

    def _end_splice(self, splice: _Splice, kind: OutcomeKind, code: int) -> None:
        if self._splices.pop(splice.token, None) is None:
            return
        ends: list[tuple[int, Outcome]] = []
        for direction in (splice.a_to_b, splice.b_to_a):
            if direction.outcome is None:
                direction.end(kind, code)
            assert direction.outcome is not None
            direction.source[1].splice = None
            ends.append((direction.count, direction.outcome))
        (a_to_b, outcome_a), (b_to_a, outcome_b) = ends
        self._events.append(Spliced(splice.token, a_to_b, b_to_a, outcome_a, outcome_b))

    def unsplice(self, token: int, code: int) -> None:
        splice = self._splices.get(token)
        if splice is None:
            return
        for direction in (splice.a_to_b, splice.b_to_a):
            self._reset(*direction.source, code)
            self._stop(*direction.source, code)
        self._end_splice(splice, OutcomeKind.ABORTED, code)

    def splice_progress(self, token: int) -> tuple[int, int] | None:
        splice = self._splices.get(token)
        return None if splice is None else (splice.a_to_b.passed, splice.b_to_a.passed)

    # ------------------------------------------------------------------------------------------------------ the rest

    def cork(self, connection_id: int) -> None:
        k = self._connections.get(connection_id)
        if k is not None:
            k.holds += 1

    def release(self, connection_id: int) -> None:
        k = self._connections.get(connection_id) or next(
            (one for one in self._closing if one.connection_id == connection_id), None
        )
        if k is not None:
            k.holds = max(0, k.holds - 1)

    def send_datagram(self, connection_id: int, data: bytes) -> None:
        k = self._connections.get(connection_id)
        if k is not None:
            self._frame(k, "datagram", data)

    def set_window(self, connection_id: int, window: int) -> None:
        """A connection has no window here."""

    def set_send_window(self, connection_id: int, window: int) -> None:
        """Neither."""

    def info(self, connection_id: int) -> ConnectionInfo | None:
        k = self._connections.get(connection_id)
        if k is None:
            return None
        buffered = sum(len(stream.data) for stream in k.streams.values())
        unsent = sum(len(stream.out) for stream in k.streams.values())
        most = self.limits.connection_window
        return ConnectionInfo(
            k.address, 0.0, 0, len(k.unacked), len(k.streams), buffered, most, unsent, self.limits.datagram_size
        )


_HANDLERS: Final[dict[str, Callable[..., None]]] = {
    name.removeprefix("_on_"): function for name, function in vars(FakeEngine).items() if name.startswith("_on_")
}
"""What handles a frame, by its name."""
