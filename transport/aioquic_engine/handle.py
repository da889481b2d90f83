"""A connection as the endpoint sees it: its address, its times, its closing. Beside aioquic's own connection."""

from __future__ import annotations

import math
from collections.abc import Iterable

from cryptography import x509

from spnhub.transport.aioquic_engine.connection import EngineConnection
from spnhub.transport.aioquic_engine.tls import ServerContext
from spnhub.transport.engine import Address, Closed, CloseKind, HandshakeRefused, Limits, Transmit
from spnhub.transport.pem import subject_of

__all__ = ["ConnectionHandle", "segment"]

_CLOSING_AT_LEAST = 1.0
"""Seconds that a closed connection still answers stragglers with its CONNECTION_CLOSE (RFC 9000 section 10.2.1)."""
_ASK_AFTER = 0.6
"""Seconds of silence in the middle of what a hub sends, after which an endpoint asks whether it is still heard: its own
address may have changed unnoticed (a NAT that forgets), and a hub learns of it from its packets only."""
_LATE = 2
"""Round trips that an answer may take, on paths where that is more than the limits allow."""
_ROUNDING = 1e-6
"""Seconds added for aioquic's timers: rounding may put its loss detection a hair after the time that it asked for."""
_CLAIM = 256
"""The most characters of an unverified subject in a report."""
_GSO_SEGMENTS = 64
_GSO_BYTES = 65_000


class ConnectionHandle:
    """What the engine keeps per connection."""

    __slots__ = (
        "acknowledged",
        "address",
        "ask_at",
        "checked",
        "cids",
        "close_packets",
        "closed_by_user",
        "closing",
        "closing_until",
        "connected",
        "connection_id",
        "data_at",
        "data_gap",
        "failed",
        "first_cid",
        "gone",
        "handshake_deadline",
        "heard",
        "held_back",
        "holds",
        "is_client",
        "last_active",
        "last_heard",
        "late",
        "limits",
        "port_closed",
        "probe_again",
        "probe_deadline",
        "queue",
        "quic",
        "source",
        "stragglers",
        "timer_at",
        "translated",
        "unanswered_since",
        "unresponsive",
        "waiting",
        "wants_stream",
    )

    def __init__(
        self, connection_id: int, quic: EngineConnection, address: Address, now: float, limits: Limits
    ) -> None:
        self.connection_id = connection_id
        self.quic = quic
        self.address = address
        self.limits = limits
        self.is_client = False
        self.first_cid = b""
        self.queue = ""
        """The server name under which its handshake waits; empty: none of ours."""
        self.source: object = None
        """Where its handshake is counted."""
        self.cids: set[bytes] = set()
        self.connected = False
        self.closing = False
        """Closed has been reported; only the close packet may still be repeated."""
        self.closing_until = 0.0
        self.closed_by_user = False
        self.close_packets: list[Transmit] | None = None
        self.stragglers = 0
        self.failed = False
        """A fault of ours has happened to it once; it is being closed."""
        self.gone = False
        self.holds = 0
        self.held_back = False
        self.heard = False
        """Something has come in since :meth:`hear`."""
        self.acknowledged = 0
        self.late = False
        """Its datagrams wait among the :class:`~spnhub.transport.aioquic_engine.laggards.Laggards`."""
        self.data_at = now
        """When bytes of streams last came in."""
        self.data_gap = math.inf
        """Seconds between the two times before that."""
        self.ask_at: float | None = None
        self.last_heard = now
        self.last_active = now
        self.handshake_deadline = now + limits.handshake_timeout
        self.probe_deadline: float | None = None
        self.probe_again: float | None = None
        self.port_closed = False
        """Of the peer that is probed, as its host says."""
        self.translated: bool | None = None
        """See :meth:`spnhub.transport.engine.Engine.set_translated`."""
        self.checked = False
        """It is among the :class:`~spnhub.transport.aioquic_engine.port_checks.PortChecks`."""
        self.unanswered_since: float | None = None
        self.unresponsive = False
        self.timer_at: float | None = None
        self.wants_stream = False
        self.waiting = False
        """Datagrams of it are in the queue of handshakes."""

    # ---- times -------------------------------------------------------------------------------------------------

    def sent(self, now: float) -> bool:
        """Note that something was sent.

        :returns: whether it is the first that waits for an answer.
        """
        self.last_active = now
        return self.unanswered_since is None and self.quic.unanswered

    def hear(self) -> bool:
        """Note that something has come in.

        Only an acknowledgement is an answer: where packets get through in one direction only, the one that is cut may
        be ours.

        :returns: whether it is the answer of a peer that was unresponsive until now.
        """
        self.heard = False
        self.last_active = max(self.last_active, self.last_heard)
        acknowledged, unanswered = self.quic.acknowledged, self.quic.unanswered
        if self.connected and unanswered and acknowledged == self.acknowledged:
            self.quic.sign_of_life()
            return False
        self.acknowledged = acknowledged
        self._end_probe()
        self.unanswered_since = self.last_heard if unanswered else None
        was_unresponsive, self.unresponsive = self.unresponsive, False
        return was_unresponsive

    def hear_data(self) -> None:
        """Bytes of streams have come in: an endpoint asks when the next ones take twice as long as these.

        Or as those before: an outage is no interval in which they come.
        """
        gap, self.data_at = self.last_heard - self.data_at, self.last_heard
        wait = max(_ASK_AFTER, 2 * min(gap, self.data_gap))
        self.data_gap = gap
        self.ask_at = self.data_at + wait if self.is_client and wait < self.limits.keep_alive else None

    def move(self, address: Address) -> None:
        """The peer has another address; what was said about the old one counts no more."""
        self.address = address
        if self.translated is False:
            self.translated = True
        self._end_probe()
        self.quic.moved()

    def _end_probe(self) -> None:
        self.probe_deadline = self.probe_again = None
        self.port_closed = False

    def begin_probe(self, now: float, *, port_closed: bool) -> bool:
        """The peer may be gone: it has the probe timeout to answer. False: that has begun already."""
        longer = port_closed and not self.port_closed and self.translated is True
        self.port_closed |= port_closed
        if self.closing or (self.probe_deadline is not None and not longer):
            return False
        # Behind a translator that has forgotten it hears no probe, and speaks again when it has something to say.
        timeout = max(self.limits.probe_timeout, _LATE * self.quic.rtt)
        self.probe_deadline = now + timeout + (self.limits.keep_alive if longer else 0.0)
        self.probe_again = now + timeout / 2
        self.quic.probe(now)
        return True

    @property
    def is_attempt(self) -> bool:
        """Whether this side has begun it, and it isn't up yet."""
        return self.is_client and not self.connected and not self.closing

    def is_silent(self, now: float, seconds: float) -> bool:
        """Whether it has streams of the program's, and nothing has come in for so long."""
        return self.connected and len(self.quic.records) > 1 and now >= self.last_heard + seconds

    def next_timer(self) -> float | None:
        """When the engine has to look at this connection again."""
        if self.gone:
            return None
        if self.closing:
            return self.closing_until
        times = [self.quic.get_timer()]
        if not self.connected:
            times.append(self.handshake_deadline)
        else:
            if self.limits.keep_alive:
                times.append(self.last_active + self.limits.keep_alive)
            if self.unanswered_since is not None and not self.unresponsive:
                times.append(self.unanswered_since + self._suspect_after())
        times += (self.ask_at, self.probe_again, self.probe_deadline)
        return min((t for t in times if t is not None), default=None)

    def on_time(self, now: float) -> CloseKind | None:
        """Let time pass; what it ended: IDLE, UNREACHABLE, PORT_CLOSED, or nothing."""
        # If either side has closed it since it was last looked at, that is no timeout, and this side's close packet
        # still has to leave.
        return self._on_time(now) if self.quic.close_event is None else None

    def _on_time(self, now: float) -> CloseKind | None:
        if not self.connected and now >= self.handshake_deadline:
            return CloseKind.IDLE
        if self.probe_deadline is not None and now >= self.probe_deadline:
            return CloseKind.PORT_CLOSED if self.port_closed else CloseKind.UNREACHABLE
        if self.probe_again is not None and now >= self.probe_again:
            self.probe_again = None
            self.quic.probe(now)
        if self.ask_at is not None and now >= self.ask_at:
            self.ask_at = None
            self.quic.probe(now)
        timer = self.quic.get_timer()
        if timer is not None and now >= timer:
            self.quic.handle_timer(now + _ROUNDING)
            if self.quic.close_event is not None:
                return CloseKind.IDLE
        if self.connected and self.limits.keep_alive and now >= self.last_active + self.limits.keep_alive:
            self.last_active = now
            self.quic.send_ping(0)
        return None

    def _suspect_after(self) -> float:
        return max(self.limits.suspect_after, _LATE * self.quic.rtt)

    def suspect_now(self, now: float) -> bool:
        """Whether the peer has just become unresponsive (D-20)."""
        since = self.unanswered_since
        if not self.connected or self.unresponsive or since is None or now < since + self._suspect_after():
            return False
        if not self.quic.unanswered:
            self.unanswered_since = None
            return False
        self.unresponsive = True
        return True

    # ---- closing -----------------------------------------------------------------------------------------------

    def closing_kind(self) -> CloseKind:
        """The side that closed, once aioquic has begun to close."""
        event = self.quic.close_event
        assert event is not None
        if self.closed_by_user:
            return CloseKind.LOCAL
        if self.quic.closed_by_us:
            return CloseKind.VIOLATION
        return CloseKind.PEER if event.frame_type is None else CloseKind.PEER_TRANSPORT

    def begin_closing(self, now: float) -> None:
        """Stay for a while, to repeat the close packet to a peer that missed it (D-19).

        An endpoint stays as long as a hub may believe that it is there (D-20).
        """
        limits = self.limits
        least = limits.keep_alive + limits.idle_timeout if self.is_client and self.connected else _CLOSING_AT_LEAST
        self.closing_until = now + max(least, 3 * self.quic.probe_timeout())

    def heard_while_closing(self) -> None:
        """The peer still sends: it may have missed the close packet."""
        self.stragglers += 1

    def closing_transmits(self, now: float) -> list[Transmit]:
        """The close packet, the first time and for every 1st, 2nd, 4th, 8th … straggler."""
        if self.close_packets is None:
            self.close_packets = []
            segment(self.quic.datagrams_to_send(now) if self.quic.closed_by_us else [], self.close_packets)
            return self.close_packets
        again = self.stragglers > 0 and self.stragglers & (self.stragglers - 1) == 0
        return self.close_packets if again else []

    def handshake_failure(self, alert: int | None, reason: str) -> HandshakeRefused:
        """What to say of a handshake that failed."""
        certificates = self.certificates()
        return HandshakeRefused(
            connection_id=self.connection_id,
            address=self.address,
            server_name=self.server_name(),
            alert=alert,
            reason=reason,
            subject=_claimed(certificates[0]) if certificates and not self.is_client else None,
        )

    def as_closed(self, refused: HandshakeRefused) -> Closed:
        """The same, as a client hears it."""
        event = self.quic.close_event
        assert event is not None
        return Closed(self.connection_id, self.closing_kind(), int(event.error_code), refused.reason)

    # ---- identities --------------------------------------------------------------------------------------------------

    def server_name(self) -> str | None:
        """The SNI, as far as it is known."""
        if self.is_client:
            return self.quic.configuration.server_name
        context = getattr(self.quic, "tls", None)
        found = context.server_name if isinstance(context, ServerContext) else None
        return found or self.queue or None

    def certificates(self) -> list[x509.Certificate]:
        """The peer's chain as presented, leaf first."""
        context = getattr(self.quic, "tls", None)
        if context is None or context._peer_certificate is None:
            return []
        return [context._peer_certificate, *context._peer_certificate_chain]


def _claimed(certificate: x509.Certificate) -> str | None:
    """The subject of a certificate that isn't verified, cut to a bounded length for the log."""
    subject = subject_of(certificate)
    return subject if subject is None or len(subject) <= _CLAIM else f"{subject[:_CLAIM]}…"


def segment(datagrams: Iterable[tuple[bytes, object]], out: list[Transmit]) -> None:
    """Join datagrams to the same address that are of equal size (the last may be shorter), for UDP_SEGMENT."""
    run: list[bytes] = []
    size = total = 0
    target: object = None

    def flush() -> None:
        if run:
            assert isinstance(target, Address)
            out.append(Transmit(run[0] if len(run) == 1 else b"".join(run), target, size if len(run) > 1 else 0))
            run.clear()

    for data, address in datagrams:
        length = len(data)
        fits = (
            run
            and address == target
            and length <= size
            and len(run[-1]) == size
            and len(run) < _GSO_SEGMENTS
            and total + length <= _GSO_BYTES
        )
        if not fits:
            flush()
            size, total, target = length, 0, address
        run.append(data)
        total += length
    flush()
