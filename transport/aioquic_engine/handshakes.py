"""Handshakes wait their turn (D-33): a queue per server name, so per realm, worked off a little in each turn.

A handshake costs milliseconds, a packet of an established session microseconds. So datagrams of connections that are
not established yet are queued, and each turn has a bounded time for them (and parses a few new arrivals for their
server name), round robin over the names: neither a flood nor a herd of returning endpoints costs an established session
its keep-alive, and one realm's flood costs the other realms' handshakes nothing.

A client gives up after some seconds, and all work that was done for it is lost. A herd takes longer than that. So
under one name, handshakes that have begun come first, and then the client that was heard last, since a client repeats
its packets as long as it is there. First come, first served would always serve clients that have just given up, and so
complete no handshake at all; so would a queue in which each repetition has a place of its own. Say 10,000 clients
return at once, 500 handshakes a second are possible, and a client gives up after 5 s: after those 5 s every handshake
in the order of arrival is one that its client has given up.

All queues are bounded. A datagram that finds no place is dropped and counted, and the client repeats it. Clients that
have answered a Retry (:mod:`spnhub.transport.aioquic_engine.retry`) are looked into first; where more of the others
arrive than can be, these are sent one.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

from aioquic import tls
from aioquic.buffer import Buffer
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicFrameType, pull_quic_header

from spnhub.transport.aioquic_engine.handle import ConnectionHandle
from spnhub.transport.engine import Address

__all__ = ["HandshakeQueue", "Waiting", "peek_server_name"]

ARRIVALS: Final = 1024
"""New connections whose server name isn't known yet."""
CROWD: Final = 64
"""Of them those without a token; beyond it nobody is looked into that has none."""
CROWDED: Final = 1.0
"""Seconds for which that then holds."""
SORTED: Final = 4096
"""New connections with their name, shared by the names under which some wait."""
FEWEST: Final = 16
"""New connections that every name has a place for, however many names there are."""
REPEATS: Final = 3
"""Datagrams of a new connection, the last ones: a ClientHello may need two, and is repeated."""
HELLO_BYTES: Final = 16 * 1024
"""Bytes of them: as many as usual ones never are."""
FLIGHT: Final = 12
"""Datagrams of a handshake that has begun, the first ones, since the later ones wait for their bytes: a certificate
chain needs some. How many such handshakes there are under a name is bounded by the engine."""
FLIGHT_BYTES: Final = 64 * 1024
"""Bytes of them."""
PEEKS: Final = 8
"""Arrivals that are looked into in one step; each takes about 0.1 ms."""
FRAMES: Final = 128
"""Of a first packet, in which its server name is looked for: even those who scramble their hello on purpose need some
twenty. A run of padding is one."""
STALE: Final = 5.0
"""Seconds since a client was heard after which nothing is begun with it: it has gone, or will repeat itself."""
NEW_EVERY: Final = 4
"""Of so many steps under one name one begins a handshake, even if others that have begun wait; as many as one takes."""

_CRYPTO: Final = 0x06

_Key = tuple[Address, bytes]


class Waiting:
    """Datagrams of one connection that wait together; each is a step."""

    __slots__ = ("address", "cid", "datagrams", "handle", "heard", "name", "original", "size")

    def __init__(
        self, handle: ConnectionHandle | None, address: Address, cid: bytes, original: bytes | None = None
    ) -> None:
        self.original = original
        """The first connection id that the client chose, if it has shown that it hears at its address."""
        self.handle = handle
        """None: nothing has begun."""
        self.address = address
        self.cid = cid
        """The client's choice of the hub's connection id (RFC 9000 section 7.2), where nothing has begun."""
        self.datagrams: deque[tuple[bytes, Address]] = deque()
        self.size = 0
        """Their bytes."""
        self.heard = 0.0
        self.name: str | None = None
        """None: not looked for yet."""

    def hear(self, data: bytes, address: Address, now: float) -> None:
        """One more."""
        self.heard = now
        begun = self.handle is not None
        if self.name or (begun and (len(self.datagrams) >= FLIGHT or self.size + len(data) > FLIGHT_BYTES)):
            # With its name its whole ClientHello is here, and what it repeats could only push that out.
            return
        self.datagrams.append((data, address))
        self.size += len(data)
        while not begun and (len(self.datagrams) > REPEATS or self.size > HELLO_BYTES):
            self.take()

    def look_for_name(self) -> str | None:
        """The SNI; None: it has none, or it isn't there yet. Datagrams with which nothing can begin are dropped.

        A client whose first packets were lost may ask with a PING whether anybody is there. That is no beginning (RFC
        9000 section 17.2.2), but nothing to refuse: its ClientHello comes again.
        """
        noise, name = _peek(data for data, _ in self.datagrams)
        for _ in range(noise):
            self.take()
        return name

    def take(self) -> tuple[bytes, Address]:
        """The first one; there is one."""
        taken = self.datagrams.popleft()
        self.size -= len(taken[0])
        return taken


class _Queue:
    """The handshakes that wait under one name. The client that was heard last stands last."""

    __slots__ = ("begun", "new", "steps")

    def __init__(self) -> None:
        self.begun: OrderedDict[ConnectionHandle, Waiting] = OrderedDict()
        self.new: OrderedDict[_Key, Waiting] = OrderedDict()
        self.steps = 0

    def __len__(self) -> int:
        return len(self.begun) + len(self.new)


class HandshakeQueue:
    """Bounded queues by server name, served in turn."""

    def __init__(self) -> None:
        self._unsorted: deque[Waiting] = deque()
        """Those without a token."""
        self._validated: deque[Waiting] = deque()
        """Those with one, which are sorted first."""
        self._crowded_until = 0.0
        self._known: dict[_Key, Waiting] = {}
        """All where nothing has begun, sorted or not."""
        self._queues: dict[str, _Queue] = {}
        self.dropped = Counter[tuple[int, str]]()
        """New connections that found no place, by socket and name; a client that repeats itself may count several
        times."""

    def __bool__(self) -> bool:
        return bool(self._unsorted or self._validated or self._queues)

    def is_crowded(self, now: float) -> bool:
        """Whether more without a token arrive than can be looked into."""
        if len(self._unsorted) >= CROWD:
            self._crowded_until = now + CROWDED
        return now < self._crowded_until

    def arrive(self, data: bytes, address: Address, now: float, original: bytes | None = None) -> None:
        """The first datagram of a connection, or its repetition; its server name isn't known yet.

        :param original: see :attr:`Waiting.original`.
        """
        if len(data) > HELLO_BYTES:
            return
        key = address, data[6 : 6 + data[5]]
        waiting = self._known.get(key)
        if waiting is None:
            arrivals = self._unsorted if original is None else self._validated
            if len(arrivals) >= ARRIVALS:
                self.dropped[address.local, ""] += 1
                return
            waiting = self._known[key] = Waiting(None, *key, original)
            arrivals.append(waiting)
        elif waiting.name is not None:
            self._queues[waiting.name].new.move_to_end(key)
        waiting.hear(data, address, now)

    def go_on(self, handle: ConnectionHandle, data: bytes, address: Address, now: float) -> None:
        """A datagram of a handshake that has begun."""
        begun = self._queue(handle.queue).begun
        waiting = begun.get(handle)
        if waiting is None:
            waiting = begun[handle] = Waiting(handle, address, b"")
            handle.waiting = True
        else:
            begun.move_to_end(handle)
        waiting.hear(data, address, now)

    def put_back(self, handle: ConnectionHandle, waiting: Waiting) -> None:
        """What is left of a connection's datagrams after a step with the first of them."""
        begun = self._queue(handle.queue).begun
        others = begun.get(handle)
        if others is not None:
            waiting.datagrams.extend(others.datagrams)
            waiting.size += others.size
        waiting.handle = handle
        handle.waiting = True
        begun[handle] = waiting

    def sort_arrivals(self, judge: Callable[[Waiting, str], str | None]) -> None:
        """Parse some arrivals and queue each as ``judge`` says of it and its server name; None: it doesn't wait."""
        for _ in range(PEEKS):
            arrivals = self._validated or self._unsorted
            if not arrivals:
                return
            waiting = arrivals.popleft()
            name = waiting.look_for_name()
            judged = judge(waiting, name or "") if waiting.datagrams else None
            if judged is None:
                del self._known[waiting.address, waiting.cid]
            else:
                self._sort(waiting, judged)

    def next(self, now: float) -> Waiting | None:
        """What to do next, round robin over the names; None: nothing waits."""
        while self._queues:
            name = next(iter(self._queues))
            queue = self._queues.pop(name)
            waiting = self._take(queue, now)
            if len(queue):
                self._queues[name] = queue  # behind all others
            if waiting is not None:
                return waiting
        return None

    def _take(self, queue: _Queue, now: float) -> Waiting | None:
        queue.steps += 1
        if queue.begun and (queue.steps % NEW_EVERY or not queue.new):
            handle, waiting = queue.begun.popitem()
            handle.waiting = False
            return waiting
        while queue.new:
            waiting = self._forget(queue, last=True)
            if now - waiting.heard <= STALE:
                return waiting
        return None

    def _queue(self, name: str) -> _Queue:
        queue = self._queues.get(name)
        if queue is None:
            queue = self._queues[name] = _Queue()
        return queue

    def _sort(self, waiting: Waiting, name: str) -> None:
        queue = self._queue(name)
        while len(queue.new) >= max(FEWEST, SORTED // len(self._queues)):
            oldest = self._forget(queue, last=False)
            self.dropped[oldest.address.local, name] += 1
        waiting.name = name
        queue.new[waiting.address, waiting.cid] = waiting

    def _forget(self, queue: _Queue, *, last: bool) -> Waiting:
        key, waiting = queue.new.popitem(last=last)
        del self._known[key]
        return waiting


def peek_server_name(datagrams: Iterable[bytes]) -> str | None:
    """The SNI in a client's first datagrams, lower case; None if it has none, or not in these."""
    return _peek(datagrams)[1]


def _peek(datagrams: Iterable[bytes]) -> tuple[int, str | None]:
    """How many datagrams at the beginning have nothing of a ClientHello; the SNI, as far as it is in these.

    A ClientHello with a post-quantum key share takes two. Initial packets are encrypted with keys that everybody can
    derive (RFC 9001 section 5.2).
    """
    pieces: dict[int, bytes] = {}
    noise = 0
    for number, datagram in enumerate(datagrams):
        try:
            buffer = Buffer(data=datagram)
            header = pull_quic_header(buffer, host_cid_length=8)
            if header.version is None:
                break
            crypto = CryptoPair()
            crypto.setup_initial(cid=header.destination_cid, is_client=False, version=header.version)
            _, payload, _ = crypto.decrypt_packet(datagram[: header.packet_length], buffer.tell(), 0)
            _collect(payload, pieces)
            if not pieces and noise == number:
                noise += 1
            hello = _joined(pieces)
            name = tls.pull_client_hello(Buffer(data=hello)).server_name or ""
            return noise, name.lower().rstrip(".") or None
        except Exception:  # noqa: S112 # anything may be in there, or the rest in another; the handshake itself tells
            continue
    return noise, None


def _collect(payload: bytes, pieces: dict[int, bytes]) -> None:
    """Take the CRYPTO frames of an Initial packet, by offset, as far as a usual one has any."""
    buffer = Buffer(data=payload)
    for _ in range(FRAMES):
        if buffer.eof():
            return
        kind = buffer.pull_uint_var()
        if kind == _CRYPTO:
            offset, length = buffer.pull_uint_var(), buffer.pull_uint_var()
            pieces[offset] = buffer.pull_bytes(length)
        elif kind == QuicFrameType.PADDING:
            # A thousand bytes of a usual hello, one frame each.
            buffer.seek(len(payload) - len(payload[buffer.tell() :].lstrip(b"\0")))
        elif kind in (QuicFrameType.ACK, QuicFrameType.ACK_ECN):
            # RFC 9000 section 19.3; passed over, since hundreds of ranges fit in.
            _, _, ranges = buffer.pull_uint_var(), buffer.pull_uint_var(), buffer.pull_uint_var()
            for _ in range(1 + 2 * ranges + 3 * (kind == QuicFrameType.ACK_ECN)):
                buffer.pull_uint_var()
        elif kind != QuicFrameType.PING:
            return


def _joined(pieces: dict[int, bytes]) -> bytes:
    """What they make together, from the beginning to the first gap."""
    data = b""
    while piece := pieces.get(len(data), b""):
        data += piece
    return data
