"""The line between the transport and a QUIC engine.

An :class:`Engine` is a whole QUIC endpoint, sans-I/O: it routes datagrams to connections, judges certificates inside
the handshake, keeps flow-control credit in step with consumption, and joins streams (:meth:`Engine.splice`). Time and
bytes are arguments; there is no clock, socket, callback or asyncio below this line. Connections (``connection_id``) and
streams (``stream_id``) are plain ints; ``stream_id`` is the QUIC stream id.

Counterparts: :mod:`spnhub.transport.aioquic_engine` implements it, :mod:`spnhub.transport.udp` drives it,
``tests/support/fake_engine.py`` is the in-memory one that simulations use.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import field
from functools import partial
from typing import Any, NamedTuple, Protocol

from spnhub.events.frozen import dataclass
from spnhub.options import WEEK, UnusableOption, check_options, option

__all__ = [
    "Address",
    "Answered",
    "Available",
    "CertificateAlert",
    "ChainFault",
    "ClientPolicy",
    "CloseKind",
    "Closed",
    "Connected",
    "ConnectionInfo",
    "DatagramReceived",
    "DatagramsDropped",
    "Engine",
    "EngineEvent",
    "HandshakeRefused",
    "HandshakesDropped",
    "Limits",
    "Opened",
    "Outcome",
    "OutcomeKind",
    "PathNarrowed",
    "Readable",
    "Reset",
    "RetriesSent",
    "SendWindowLow",
    "ServerIdentity",
    "ServerPolicy",
    "Spliced",
    "Stopped",
    "Throttled",
    "Transmit",
    "Unresponsive",
    "WindowLow",
    "Writable",
]


class Address(NamedTuple):
    """Where a datagram came from or goes to. The engine compares it and hands it back; it never looks inside."""

    local: int
    """Which of the endpoint's own sockets (an index that :mod:`spnhub.transport.udp` hands out)."""
    remote: tuple[Any, ...]
    """The peer's socket address, as the socket module gives it."""
    own: bytes = b""
    """Which of our own addresses the peer calls, where the socket has several: as
    :mod:`spnhub.transport.system.pktinfo` says it. What comes to another one is on another path, and what is sent
    leaves from this one."""


# --------------------------------------------------------------------------------------------------------------------
# Policy: data, no callbacks
# --------------------------------------------------------------------------------------------------------------------


_times = partial(option, group="Connections", metavar="SECONDS")


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes (bytes) and times (seconds) of one engine. Every buffer that a peer can fill is bounded by these."""

    idle_timeout: float = _times(
        20.0,
        "A peer that is silent for this long is lost; the shorter of both sides' holds.",
        # Anything above a week is a wrong unit, not a wish.
        above=0,
        at_most=WEEK,
        unit="seconds",
    )
    """A connection that heard nothing for this long is lost (RFC 9000 section 10.1). The first thing sent after the
    last that was heard may start it anew: a silent peer is lost after ``keep_alive + idle_timeout`` at the latest."""
    keep_alive: float = _times(5.0, "A PING is sent after this much silence; 0: never.")
    """A PING after this much silence; 0 turns it off. A client to which bytes were coming asks sooner: it may have
    another address, of which the server learns from its packets only."""
    handshake_timeout: float = 10.0
    """A handshake that takes longer is dropped."""
    datagram_size: int = option(
        1200,
        "UDP payload that every path carries; 1200 to 16383. aioquic sends none that is larger.",
        group="Connections",
        metavar="BYTES",
        # What every QUIC path carries (RFC 9000 section 14), and what a varint of two bytes can say.
        at_least=1200,
        at_most=16_383,
        unit="bytes",
    )
    """UDP payload that is sent without asking whether the path carries it; never above the peer's
    max_udp_payload_size. An engine that searches (``datagram_size_max``) goes back to 1200 where it gets lost."""
    datagram_size_max: int = option(
        # A jumbo frame of 9000 bytes, without the headers of IPv6 and UDP.
        8952,
        "Largest UDP payload that path MTU discovery tries (native engine); 1200 to 16383. Not more than the payload"
        " that every path carries: no discovery.",
        group="Connections",
        metavar="BYTES",
        at_least=1200,
        at_most=16_383,
        unit="bytes",
    )
    """Largest UDP payload that an engine with path MTU discovery (RFC 8899) tries; where it isn't above
    ``datagram_size``, there is no discovery. The peer's max_udp_payload_size bounds it, too."""
    streams: int = 4096
    """Bidirectional streams that a peer may have open at once on one connection."""
    stream_window: int = 16 * 1024
    """Receive window of a stream that has consumed nothing yet. A stalled new stream pins no more than this."""
    stream_window_max: int = 2 * 1024 * 1024
    """What a stream's window may grow to while its bytes are consumed."""
    window_budget: int = 8 * 1024 * 1024
    """What all streams of one connection may have together above ``stream_window`` each. So one connection holds at
    most ``streams * stream_window + window_budget`` received and unconsumed bytes."""
    initial_window: int = 0
    """Receive window with which a connection begins, so what a peer may have us hold before ``Engine.set_window``
    says otherwise; 0: all that its streams may have, and nobody is told ``WindowLow``."""
    initial_send_window: int = 0
    """How many written bytes may wait for a connection's peer, be it to be sent or to be acknowledged, before
    ``Engine.set_send_window`` says otherwise; 0: any number, and nobody is told ``SendWindowLow``."""
    reassembly_session: int = 16 * 1024 * 1024
    """What one connection may hold of bytes that came before others that are missing, with 128 for each piece. Where
    less than four times that is left of ``reassembly``, a quarter of what is left, and 16 KiB at least. A packet with
    more is not acknowledged, so the peer repeats it; what fills a gap always finds room."""
    reassembly: int = 256 * 1024 * 1024
    """What all connections of an engine may hold of them together."""
    send_buffer: int = 32 * 1024
    """Bytes per stream that :meth:`Engine.write` takes beyond what was put into packets; an engine may make it a dozen
    datagrams where that is more."""
    send_budget: int = 4 * 1024 * 1024
    """Once all streams of one connection hold this much of it, each gets a quarter. So one connection holds at most
    ``send_budget + streams * send_buffer / 4`` unsent bytes, beside what is in flight."""
    left_behind: int = 8 * 1024 * 1024
    """What may wait beyond the send windows of all connections of an engine together: bytes of peers that are gone."""
    suspect_after: float = _times(
        3.0,
        "A peer that hasn't answered for this long gets nothing new, and its connections go on elsewhere, if they can.",
    )
    """What was sent and stays unacknowledged for this long makes the peer unresponsive (D-20). Keep-alives count:
    a peer that falls silent is unresponsive after ``suspect_after`` on a connection that sends, and after ``keep_alive
    + suspect_after`` on an idle one. Two round trips of a path where they are more, as for ``probe_timeout``."""
    probe_timeout: float = _times(1.0, "A peer whose port is closed is lost when it hasn't answered for this long.")
    """After a port-unreachable hint: the peer is lost unless it acknowledges a probe within this time (D-20). The
    probe is sent at once and again after half of it, so one lost packet ends nothing."""
    port_check: float = 0.6
    """A peer that has streams, says nothing, and has its own address (:meth:`Engine.set_translated`) is looked after
    this often, as far as ``keep_alive`` isn't 0: its port may be closed. Takes longer with some hundred silent ones."""

    @property
    def connection_window(self) -> int:
        """The largest receive window that is of use to a connection."""
        return self.streams * self.stream_window + self.window_budget

    def check(self) -> None:
        """Whether the options can be used, and the times fit each other.

        :raises ValueError: one doesn't.
        """
        check_options(self)
        idle = self.idle_timeout
        if not 0 <= self.keep_alive < idle:
            raise UnusableOption(
                "keep_alive", f": {self.keep_alive:g} is not at least 0 and below {{other}} ({idle:g})", "idle_timeout"
            )
        for name, seconds in (("suspect_after", self.suspect_after), ("probe_timeout", self.probe_timeout)):
            if not 0 < seconds <= idle:
                raise UnusableOption(
                    name, f": {seconds:g} is not above 0 and at most {{other}} ({idle:g})", "idle_timeout"
                )


@dataclass(frozen=True, slots=True)
class Revocation:
    """Which client certificates are accepted no more, though their chain is valid."""

    crl: bytes = b""
    """PEM: any number of revocation lists (X509 CRL), of CAs and intermediate ones."""
    certificates: frozenset[str] = frozenset()
    """Serial numbers and SHA-256 fingerprints, lower-case hex; also of an intermediate one."""
    refuse_stale: bool = False
    """Whether a list that is past its nextUpdate makes its CA's certificates unusable."""

    def __bool__(self) -> bool:
        return bool(self.crl or self.certificates)


class ClientTrust(NamedTuple):
    """Whose client certificates are accepted."""

    client_ca: bytes
    """PEM: one or more certificates, roots or not; a client's chain must end at one of them."""
    revocation: Revocation = Revocation()


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """What one SNI selects. PEM, as bytes. Keys are kept out of ``repr``."""

    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    client_ca: bytes
    """:attr:`ClientTrust.client_ca`."""
    alpn: tuple[str, ...]
    revocation: Revocation = Revocation()
    max_handshakes: int | None = None
    """Handshakes under way at once under the name, of all those with it; the first packets of further clients are
    dropped (:class:`HandshakesDropped`), and from an eighth on a client has to answer a Retry. None: 512."""

    @property
    def trust(self) -> ClientTrust:
        """Whose certificates it accepts."""
        return ClientTrust(self.client_ca, self.revocation)


@dataclass(frozen=True, slots=True)
class ServerPolicy:
    """Our identities as a server: a lower-case server name for each. Any other SNI, or none, is refused (D-19)."""

    identities: Mapping[str, ServerIdentity]
    by_socket: Mapping[int, Mapping[str, ServerIdentity]] = field(default_factory=dict)
    """Names that one socket (:attr:`Address.local`) serves, in place of ``identities``."""


@dataclass(frozen=True, slots=True)
class ClientPolicy:
    """How to connect to a server. PEM, as bytes."""

    server_name: str
    alpn: tuple[str, ...]
    certificate_chain: bytes
    private_key: bytes = field(repr=False)
    trust: bytes | None
    """Certificates that the server's chain must end at, roots or not; None: the system's roots."""


class CertificateAlert(enum.IntEnum):
    """The TLS alerts that a certificate can be refused with (RFC 8446 section 6.2). Some stacks say 46 to all."""

    BAD_CERTIFICATE = 42
    UNSUPPORTED_CERTIFICATE = 43
    CERTIFICATE_REVOKED = 44
    CERTIFICATE_EXPIRED = 45
    CERTIFICATE_UNKNOWN = 46
    UNKNOWN_CA = 48


class ChainFault(NamedTuple):
    """Why a certificate chain isn't accepted."""

    reason: str
    about_time: bool
    """It isn't valid yet, or any more: nothing that another clock or a renewed one couldn't heal (D-36)."""


# --------------------------------------------------------------------------------------------------------------------
# Events: one batch per wake-up, never a callback
# --------------------------------------------------------------------------------------------------------------------


class CloseKind(enum.Enum):
    """Why a connection is over, as this side knows it."""

    PEER = "peer"
    """The peer sent CONNECTION_CLOSE with an application code."""
    PEER_TRANSPORT = "peer-transport"
    """The peer sent CONNECTION_CLOSE with a transport code (a TLS alert is 0x100 + alert)."""
    LOCAL = "local"
    """:meth:`Engine.close` was called."""
    VIOLATION = "violation"
    """The peer broke QUIC's rules; we closed."""
    IDLE = "idle"
    """Nothing was heard for the idle timeout."""
    UNREACHABLE = "unreachable"
    """The network said that the peer can't be reached, and the probe stayed unanswered; of an attempt: no probe."""
    PORT_CLOSED = "port closed"
    """The same, and it was the peer's own host that said so of its port: its process is gone."""
    RESET = "reset"
    """The peer knows nothing of this connection (any more): stateless reset (RFC 9000 section 10.3)."""


class OutcomeKind(enum.Enum):
    """How one direction of a splice ended."""

    FINISHED = "finished"
    """FIN was passed on, after every byte."""
    RESET = "reset"
    """The source reset it."""
    STOPPED = "stopped"
    """The sink asked to stop."""
    LOST = "lost"
    """The connection of one side is gone."""
    ABORTED = "aborted"
    """:meth:`Engine.unsplice` was called."""


class Outcome(NamedTuple):
    """How one direction of a splice ended, with the application error code where there is one."""

    kind: OutcomeKind
    code: int = 0


@dataclass(frozen=True, slots=True)
class Connected:
    """The handshake is complete and, on a server, the client's certificate has been verified."""

    connection_id: int
    server_name: str
    certificates: tuple[bytes, ...]
    """The peer's certificate chain as presented, DER, leaf first."""
    alpn: str
    cid: bytes
    """Server: the first server connection id, which names the session (D-2). Client: the id the server chose."""
    address: Address


@dataclass(frozen=True, slots=True)
class HandshakeRefused:
    """Server: a handshake ended before :class:`Connected`. Nothing else is ever said about ``connection_id``."""

    connection_id: int
    address: Address
    server_name: str | None
    """None when the ClientHello had none or was not reached."""
    alert: int | None
    """The TLS alert sent or received; None for a timeout or a QUIC error."""
    reason: str
    subject: str | None
    """Subject (RFC 4514) of the certificate that was presented, verified or not; None without one."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The connection is over; its streams and splices are gone (a :class:`Spliced` follows for each splice).

    Until the next :meth:`Engine.events`, what had arrived in order on a stream can still be read.
    """

    connection_id: int
    kind: CloseKind
    code: int
    reason: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The peer opened a bidirectional stream. Its first bytes may still be missing: then :class:`Readable` follows.

    A stream is open as soon as anything names it, or one above it (RFC 9000 section 2.1)."""

    connection_id: int
    stream_id: int


@dataclass(frozen=True, slots=True)
class Readable:
    """There is something to :meth:`Engine.read`. Told once, and again only after a read has drained the stream."""

    connection_id: int
    stream_id: int


@dataclass(frozen=True, slots=True)
class Writable:
    """:meth:`Engine.write` takes more again. Told once after a write that took less than it was given."""

    connection_id: int
    stream_id: int


@dataclass(frozen=True, slots=True)
class Reset:
    """The peer reset its sending half. What had arrived in order can still be read, or is dropped by
    :meth:`Engine.stop`; nothing else comes."""

    connection_id: int
    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """The peer wants no more of our sending half (STOP_SENDING); it has been reset."""

    connection_id: int
    stream_id: int
    code: int


@dataclass(frozen=True, slots=True)
class Available:
    """:meth:`Engine.open_bidi` said None before and can open streams again."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class DatagramReceived:
    """A DATAGRAM frame (RFC 9221)."""

    connection_id: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DatagramsDropped:
    """This many transmits were dropped behind a socket that was full; QUIC repeats their contents."""

    bound: int
    """Of those that wait for one socket."""
    count: int


@dataclass(frozen=True, slots=True)
class HandshakesDropped:
    """This many first packets of clients were dropped since the last report; clients repeat them (D-33)."""

    local: int
    """:attr:`Address.local` of the socket that they came to."""
    server_name: str
    """Empty: none that is served there, or not looked for yet."""
    count: int


@dataclass(frozen=True, slots=True)
class RetriesSent:
    """This many first packets of clients were answered with a Retry since the last report (RFC 9000 section 8.1.2)."""

    local: int
    """As with :class:`HandshakesDropped`."""
    server_name: str
    """Likewise."""
    count: int


@dataclass(frozen=True, slots=True)
class WindowLow:
    """More receive window would be of use to a connection: half of what it has waits to be read, or was consumed
    within a few round trips. Told once, and again after :meth:`Engine.set_window`, up to
    :attr:`Limits.connection_window`."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class SendWindowLow:
    """Half of what may wait for the peer of a connection does. Told once, and again after
    :meth:`Engine.set_send_window`."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class Throttled:
    """Bytes of splices have waited at a meter since the last report, this many times (:meth:`Engine.set_meters`)."""

    meter: int
    count: int


@dataclass(frozen=True, slots=True)
class Unresponsive:
    """What we sent has been unacknowledged for :attr:`Limits.suspect_after`, on either side of a connection."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class Answered:
    """A peer that was unresponsive has acknowledged something."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class PathNarrowed:
    """The path of a connection carries no more the datagrams that it did: they are of 1200 bytes again, and larger ones
    are tried a minute later (RFC 8899 section 4.3: a black hole)."""

    connection_id: int


@dataclass(frozen=True, slots=True)
class Spliced:
    """A splice is over: both directions have ended. The counts are bytes passed on to the other side (D-10)."""

    token: int
    a_to_b: int
    b_to_a: int
    outcome_a_to_b: Outcome
    outcome_b_to_a: Outcome


EngineEvent = (
    Connected
    | HandshakeRefused
    | HandshakesDropped
    | DatagramsDropped
    | RetriesSent
    | WindowLow
    | SendWindowLow
    | Throttled
    | Closed
    | Opened
    | Readable
    | Writable
    | Reset
    | Stopped
    | Available
    | DatagramReceived
    | Unresponsive
    | Answered
    | PathNarrowed
    | Spliced
)


class Transmit(NamedTuple):
    """Datagrams for one address: ``data`` cut into pieces of ``segment_size`` (the last may be shorter); 0: one."""

    data: bytes
    address: Address
    segment_size: int


class ConnectionInfo(NamedTuple):
    """A look at a live connection. Times in seconds, sizes in bytes."""

    address: Address
    rtt: float
    congestion_window: int
    bytes_in_flight: int
    streams: int
    buffered: int
    """Received and not yet consumed."""
    window: int
    """What the peer may have us hold of it: the receive window, with credit that a larger one has left."""
    unacknowledged: int
    """Written on streams and not yet acknowledged, sent or not."""
    datagram_size: int
    """Largest UDP payload that is sent to it at the moment."""


class Engine(Protocol):
    """A QUIC endpoint, client and server at once. Every method is immediate; results come out of :meth:`events`.

    Calls that name a connection or stream which is gone do nothing (:meth:`read` returns None, :meth:`write` 0): the
    peer may end either at any moment. ``now`` is monotonic seconds and never runs backwards.

    An engine is made with a ``reset_key``, or None. With a key it answers packets of connections that it doesn't know
    with a stateless reset (RFC 9000 section 10.3) whose token follows from the key and the connection id alone, so
    that an engine made later with the same key ends what an earlier one left behind. Without a key it sends none.
    Every engine heeds those it gets: :attr:`CloseKind.RESET`, at once. An engine that sends resets bounds their rate,
    never answers with as many bytes as it got, and so never loops.
    """

    def set_policy(self, policy: ServerPolicy) -> None:
        """Serve these identities from now on; connections that are up keep theirs.

        :raises ValueError: a certificate, key or CA that can't be used; the message names the server name.
        """

    def check_identity(self, identity: ServerIdentity) -> None:
        """Whether an identity can be served, and what takes time about it done beforehand; in any thread.

        :raises ValueError: it can't; the message says which part of it.
        """

    def receive(self, data: bytes, address: Address, segment_size: int, now: float) -> None:
        """Take one datagram, or several of equal size joined (``segment_size`` > 0, UDP_GRO)."""

    def unreachable(self, address: Address, now: float, *, port_closed: bool = False) -> None:
        """The network said that ``address`` can't be reached: probe the connections there (D-20).

        A hint, which anybody may forge: what answers the probe within :attr:`Limits.probe_timeout` lives. A connection
        that this side has begun, and that isn't up yet, ends at once: who wants it begins another, and a server that
        comes up in this moment has no part in it.

        :param port_closed: the host of ``address`` itself said so, of its port.
        """

    def set_translated(self, connection_id: int, translated: bool) -> None:
        """Set whether an address translator is between this side and the peer; until then that isn't known.

        The peer reports the address that it sends from, which is compared with the one that is seen here. A translator
        that has forgotten a mapping reports its own port as closed. So behind one, a closed port counts only when the
        peer, which doesn't know of it, has had its ``keep_alive``, too. Without a translator its port is checked
        (:attr:`Limits.port_check`). A peer whose address changes is behind a translator from then on.
        """

    def transmit(self, now: float) -> list[Transmit]:
        """What must be sent now. Held connections (:meth:`cork`) are left out."""

    def timer(self) -> float | None:
        """When :meth:`handle_timer` wants to be called; None: not at all."""

    def handle_timer(self, now: float) -> None:
        """Let time pass. What has arrived by ``now`` must have been received before, or its silence is counted."""

    def shake_hands(self, now: float) -> bool:
        """One step of a handshake that waits its turn (D-33); False: none waits.

        For callers that have time for more than the one step of each turn, which :meth:`events` does.
        """

    def events(self) -> list[EngineEvent]:
        """What has happened since the last call, in order."""

    def connect(self, address: Address, policy: ClientPolicy, now: float) -> int:
        """Begin a connection; :class:`Connected` or :class:`Closed` follows.

        :raises ValueError: a certificate or key that can't be used.
        """

    def repeat(self, connection_id: int, now: float) -> None:
        """Send once more what a handshake of this side waits to have answered.

        For whom the pauses in which an engine does so by itself are too long: they double.
        """

    def close(self, connection_id: int, code: int, reason: str) -> None:
        """Close with an application code; :class:`Closed` (LOCAL) follows. The close packet is repeated (D-19)."""

    def open_bidi(self, connection_id: int) -> int | None:
        """Open a stream. None: the peer allows no more now; :class:`Available` comes when it does."""

    def write(self, connection_id: int, stream_id: int, data: bytes) -> int:
        """Queue bytes; returns how many were taken. Less than given: :class:`Writable` follows.

        As many as :meth:`room` says, and :data:`SMALL_WRITE` at least where nothing waits to be sent.
        """

    def write_rest(self, connection_id: int, stream_id: int, data: bytes) -> bool:
        """Queue all of it, however little room there is, and FIN: the rest of what a peer that is gone has sent.

        False, and nothing queued: with it more than :attr:`Limits.left_behind` would wait beyond send windows, or our
        half is over.
        """

    def room(self, connection_id: int, stream_id: int) -> int:
        """How many bytes of another peer's :meth:`write` should be given now; 0: :class:`Writable` follows."""

    def finish(self, connection_id: int, stream_id: int) -> None:
        """End our sending half in order: FIN after all that was written."""

    def read(self, connection_id: int, stream_id: int, limit: int) -> tuple[bytes, bool] | None:
        """Consume up to ``limit`` bytes: (data, fin). Credit goes to the peer for what is consumed, and only for it.

        ``fin`` comes once, with the last data. (b"", False): nothing there now. None: reset and read to its end, or no
        such stream.
        """

    def reset(self, connection_id: int, stream_id: int, code: int) -> None:
        """End our sending half with an error. After an acknowledged FIN it does nothing; use :meth:`stop` (D-18)."""

    def stop(self, connection_id: int, stream_id: int, code: int) -> None:
        """Ask the peer to stop its sending half; what it has sent and still sends is dropped, its credit returned."""

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
        """Join two streams both ways and return a token; ends in one :class:`Spliced`.

        ``a_ended``, ``b_ended``: the FIN of that stream was already read (with the header before its bytes).

        FIN, RESET and STOP pass through as what they are, also those that came before, for :data:`ENDINGS_KEPT` even
        those of a stream of which nothing else is left. What had come to its FIN when a connection is lost passes on
        to the end (:attr:`Limits.left_behind`); whatever else becomes reset and stop, with :data:`LOST_CODE`, on the
        other side. At most ``send_buffer`` bytes per direction are on their way. While spliced, neither stream gives
        other events, and neither may be read or written. Where the send window of a connection is used up, those that
        go to its peer take turns.

        ``meters``: which meters its bytes pass, both ways (:meth:`set_meters`).
        """

    def set_meters(self, rates: Mapping[int, int]) -> None:
        """Which meters there are from now on, by numbers of the caller's, and how many bytes a second pass each.

        A 32nd of a second's bytes may pass at once. What doesn't pass stays in its stream's receive window, so the
        peer gets no credit for it; who waits takes turns. A meter that isn't there bounds nothing. Also for splices
        that are there; one whose rate stays the same goes on as it is.
        """

    def unsplice(self, token: int, code: int) -> None:
        """End a splice from our side: both streams are reset and stopped with ``code``."""

    def splice_progress(self, token: int) -> tuple[int, int] | None:
        """Bytes passed on so far, a to b and b to a; None when it is over."""

    def cork(self, connection_id: int) -> None:
        """Send nothing on this connection until :meth:`release` (D-6). Holds count."""

    def release(self, connection_id: int) -> None:
        """Take back one :meth:`cork`."""

    def send_datagram(self, connection_id: int, data: bytes) -> None:
        """Send a DATAGRAM frame, if the peer takes them."""

    def set_window(self, connection_id: int, window: int) -> None:
        """Let the peer have us hold so many bytes that it has sent on streams; credit that it has is not taken back."""

    def set_send_window(self, connection_id: int, window: int) -> None:
        """Let so many written bytes wait for the peer. Those that wait already stay; of what is left a stream gets half
        at most, and none gets any where less than a 16th is left."""

    def info(self, connection_id: int) -> ConnectionInfo | None:
        """A look at a connection; None when it is gone."""

    def counts(self) -> Mapping[str, int]:
        """How much of what is kept, all 0 once nothing is left: ``connections``, those that are closing included;
        ``peers``, by whose address they are found; ``half_open``, of the server name that has most. More is an
        engine's own."""


LOST_CODE = 0x53504E01
"""Application error code with which a splice ends one side when the other side's connection is lost."""
SMALL_WRITE = 4096
"""Bytes that a stream takes even where the send window is used up: headers, and control packets one by one."""
LITTLE = 4096
"""A stream that begins to have something to send, and no more bytes than these, goes before the others of its
connection, so an echo waits for no bulk; then, and as long as it has something whenever its turn comes, it takes turns
with them, of as many bytes each."""
ENDINGS_KEPT = 10.0
"""Seconds that an engine remembers with which codes a peer has broken off a stream (:meth:`Engine.splice`), for at most
:attr:`Limits.streams` of each connection: whoever joins it may have those events still to come."""
