"""Handshakes wait their turn (D-33): a queue per server name, so per realm, worked off a little in each turn.

A handshake costs milliseconds, a packet of an established session microseconds. So datagrams of connections that are
not up yet are put aside, and each turn handles one of them (and looks into a few new arrivals for their name), round
robin over the names: neither a flood nor a herd of returning endpoints costs an established session its keep-alive,
and one realm's flood costs the other realms' handshakes nothing. All queues are bounded; what finds no place is
dropped, and the client repeats it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

from aioquic import tls
from aioquic.buffer import Buffer, BufferReadError
from aioquic.quic.crypto import CryptoError, CryptoPair
from aioquic.quic.packet import QuicFrameType, pull_ack_frame, pull_quic_header

from spnhub.transport.aioquic_engine.link import Link
from spnhub.transport.engine import Address

__all__ = ["HandshakeQueue", "Waiting", "peek_server_name"]

PER_NAME: Final = 512
"""Datagrams that wait for one server name."""
ARRIVALS: Final = 1024
"""Datagrams of unknown connections that wait to be looked into."""
PEEKS: Final = 8
"""Arrivals that are looked into in one turn; each takes about 0.2 ms."""

_CRYPTO: Final = 0x06


class Waiting(NamedTuple):
    """A datagram that waits. ``link`` None: the first of a connection."""

    link: Link | None
    data: bytes
    address: Address
    name: str = ""


class HandshakeQueue:
    """Bounded queues by server name, served in turn."""

    def __init__(self) -> None:
        self._arrivals: deque[Waiting] = deque()
        self._queues: dict[str, deque[Waiting]] = {}
        self._sorted = 0
        self.dropped = 0
        """Datagrams that found no place."""

    def __len__(self) -> int:
        return len(self._arrivals) + self._sorted

    def arrive(self, data: bytes, address: Address) -> None:
        """The first datagram of a connection; its server name isn't known yet."""
        if len(self._arrivals) >= ARRIVALS:
            self.dropped += 1
            return
        self._arrivals.append(Waiting(None, data, address))

    def put(self, waiting: Waiting) -> None:
        """A datagram of a handshake under its name."""
        queue = self._queues.get(waiting.name)
        if queue is None:
            queue = self._queues[waiting.name] = deque()
        if len(queue) >= PER_NAME:
            self.dropped += 1
            return
        if waiting.link is not None:
            waiting.link.waiting += 1
        queue.append(waiting)
        self._sorted += 1

    def sort_arrivals(self, known: Callable[[Address, str], bool]) -> None:
        """Look into some arrivals and put each with its name; names that nobody ``known`` has share a queue."""
        for _ in range(min(PEEKS, len(self._arrivals))):
            waiting = self._arrivals.popleft()
            name = peek_server_name(waiting.data) or ""
            self.put(waiting._replace(name=name if known(waiting.address, name) else ""))

    def next(self) -> Waiting | None:
        """The next datagram, round robin over the names; None: nothing waits."""
        for name in self._queues:
            queue = self._queues.pop(name)
            waiting = queue.popleft()
            if queue:
                self._queues[name] = queue  # behind all others
            if waiting.link is not None:
                waiting.link.waiting -= 1
            self._sorted -= 1
            return waiting
        return None


def peek_server_name(datagram: bytes) -> str | None:
    """The SNI in a client's first datagram, lower case; None if it has none, or not in this datagram.

    Initial packets are encrypted with keys that everybody can derive (RFC 9001 section 5.2).
    """
    try:
        buffer = Buffer(data=datagram)
        header = pull_quic_header(buffer, host_cid_length=8)
        if header.version is None:
            return None
        crypto = CryptoPair()
        crypto.setup_initial(cid=header.destination_cid, is_client=False, version=header.version)
        _, payload, _ = crypto.decrypt_packet(datagram[: header.packet_length], buffer.tell(), 0)
        hello = _crypto_data(payload)
        return (tls.pull_client_hello(Buffer(data=hello)).server_name or "").lower().rstrip(".") or None
    except (ValueError, CryptoError, BufferReadError, tls.Alert, AssertionError, KeyError):
        # Anything may be in there. The handshake itself will say what is wrong with it.
        return None


def _crypto_data(payload: bytes) -> bytes:
    """The first ClientHello bytes of an Initial packet, put together from its CRYPTO frames (any order)."""
    pieces: dict[int, bytes] = {}
    buffer = Buffer(data=payload)
    while not buffer.eof():
        kind = buffer.pull_uint_var()
        if kind == _CRYPTO:
            offset, length = buffer.pull_uint_var(), buffer.pull_uint_var()
            pieces[offset] = buffer.pull_bytes(length)
        elif kind in (QuicFrameType.ACK, QuicFrameType.ACK_ECN):
            pull_ack_frame(buffer)
        elif kind not in (QuicFrameType.PADDING, QuicFrameType.PING):
            break
    data = b""
    while (piece := pieces.pop(len(data), None)) is not None:
        data += piece
    return data
