"""A network in memory and its clock: carries the datagrams of any :class:`~spnhub.transport.engine.Engine`.

Two clocks: :class:`VirtualClock` for simulations without asyncio (:meth:`VirtualClock.run_until`), and
:class:`LoopClock` on an asyncio loop (with :mod:`tests.support.virtual_loop` its time is virtual, too). Counterpart:
:class:`FakeNode` offers what :class:`spnhub.transport.udp.UdpEndpoint` offers.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from spnhub.transport.engine import Address, Engine, EngineEvent

__all__ = ["Clock", "FakeNetwork", "FakeNode", "LoopClock", "VirtualClock"]

SocketAddress = tuple[Any, ...]


class Clock(Protocol):
    """Time, and things that happen at a time."""

    def now(self) -> float:
        """Monotonic seconds."""

    def call_at(self, when: float, function: Callable[[], None]) -> None:
        """Call once, at ``when`` or as soon as possible after it; equal times in the order of the calls."""


class VirtualClock:
    """Time that jumps to whatever happens next."""

    def __init__(self) -> None:
        self._now = 0.0
        self._order = itertools.count()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []

    def now(self) -> float:
        return self._now

    def call_at(self, when: float, function: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (when, next(self._order), function))

    def run_until(self, predicate: Callable[[], bool], limit: float = 60.0) -> None:
        """Let time pass until ``predicate`` holds.

        :raises TimeoutError: it doesn't within ``limit`` virtual seconds.
        """
        end = self._now + limit
        while not predicate():
            if not self._heap or self._heap[0][0] > end:
                raise TimeoutError(f"not within {limit} virtual seconds")
            when, _, function = heapq.heappop(self._heap)
            self._now = max(self._now, when)
            function()

    def run_for(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        end = self._now + seconds
        while self._heap and self._heap[0][0] <= end:
            when, _, function = heapq.heappop(self._heap)
            self._now = max(self._now, when)
            function()
        self._now = end


class LoopClock:
    """The clock of the running asyncio loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def now(self) -> float:
        return self._loop.time()

    def call_at(self, when: float, function: Callable[[], None]) -> None:
        if when <= self._loop.time():
            self._loop.call_soon(function)
        else:
            self._loop.call_at(when, function)


class FakeNetwork:
    """Carries datagrams between socket addresses, in order per pair, after ``latency`` (+ seeded jitter).

    A cut pair's datagrams are kept until it is healed (``keep_cut``, what retransmission amounts to) or dropped.
    """

    def __init__(
        self, clock: Clock, *, latency: float = 0.005, jitter: float = 0.0, seed: int = 0, keep_cut: bool = True
    ) -> None:
        self.clock = clock
        self.latency = latency
        self.jitter = jitter
        self.keep_cut = keep_cut
        self._random = random.Random(seed)
        self._sockets: dict[SocketAddress, tuple[FakeNode, int]] = {}
        self._last: dict[tuple[SocketAddress, SocketAddress], float] = {}
        self._queues: dict[tuple[SocketAddress, SocketAddress], deque[tuple[FakeNode, bytes, int]]] = {}
        self._cut: set[frozenset[FakeNode]] = set()
        self._kept: list[tuple[FakeNode, SocketAddress, SocketAddress, bytes, int]] = []
        self._ports = itertools.count(40000)

    def bind(self, node: FakeNode, index: int, address: SocketAddress | None) -> SocketAddress:
        bound = address or ("client", next(self._ports))
        if bound in self._sockets:
            raise OSError(f"{bound} is in use")
        self._sockets[bound] = (node, index)
        return bound

    def unbind(self, node: FakeNode) -> None:
        for address in [address for address, (owner, _) in self._sockets.items() if owner is node]:
            del self._sockets[address]

    def send(
        self, node: FakeNode, source: SocketAddress, target: SocketAddress, data: bytes, segment_size: int
    ) -> None:
        jitter = self._random.random() * self.jitter if self.jitter else 0.0
        when = self.clock.now() + self.latency + jitter
        when = self._last[source, target] = max(when, self._last.get((source, target), 0.0))
        # A queue per pair, because a loop runs timers of equal times in any order.
        queue = self._queues.setdefault((source, target), deque())
        queue.append((node, data, segment_size))
        self.clock.call_at(when, lambda: self._next(queue, source, target))

    def _next(self, queue: deque[tuple[FakeNode, bytes, int]], source: SocketAddress, target: SocketAddress) -> None:
        node, data, segment_size = queue.popleft()
        self._deliver(node, source, target, data, segment_size)

    def _deliver(
        self, sender: FakeNode, source: SocketAddress, target: SocketAddress, data: bytes, segment_size: int
    ) -> None:
        found = self._sockets.get(target)
        if found is None:
            if source in self._sockets:
                sender.on_unreachable(source, target)
            return
        node, index = found
        if frozenset((sender, node)) in self._cut:
            if self.keep_cut:
                self._kept.append((sender, source, target, data, segment_size))
            return
        node.on_datagram(data, Address(index, source), segment_size)

    def cut(self, a: FakeNode, b: FakeNode) -> None:
        """Let nothing through between the two."""
        self._cut.add(frozenset((a, b)))

    def heal(self, a: FakeNode, b: FakeNode) -> None:
        """Undo :meth:`cut`."""
        self._cut.discard(frozenset((a, b)))
        kept, self._kept = self._kept, []
        for sender, source, target, data, segment_size in kept:
            self._deliver(sender, source, target, data, segment_size)


class FakeNode:
    """One engine on the network, with the interface of :class:`spnhub.transport.udp.UdpEndpoint`."""

    def __init__(self, network: FakeNetwork, engine: Engine, on_events: Callable[[list[EngineEvent]], None]) -> None:
        self.network = network
        self.engine = engine
        self._on_events = on_events
        self._own: list[SocketAddress] = []
        self._scheduled = False
        self._armed: float | None = None
        self._closed = False

    def now(self) -> float:
        return self.network.clock.now()

    def bind(self, address: SocketAddress | None = None) -> int:
        """A socket at ``address`` (None: any); its index."""
        self._own.append(self.network.bind(self, len(self._own), address))
        return len(self._own) - 1

    async def open_client_socket(self, remote: tuple[str, int]) -> Address:
        return Address(self.bind(), remote)

    async def open_server_socket(self, local: tuple[str, int]) -> Address:
        return Address(self.bind(local), ())

    def release(self, address: Address) -> None:
        """The socket stays; numbers are cheap here."""

    def flush(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self.network.clock.call_at(self.now(), self.turn)

    def turn(self) -> None:
        """Events, datagrams, timer: what a driver does after each wake-up."""
        self._scheduled = False
        if self._closed:
            return
        while True:
            events = self.engine.events()
            if events:
                self._on_events(events)
            sent = self.engine.transmit(self.now())
            for data, address, segment_size in sent:
                self.network.send(self, self._own[address.local], address.remote, data, segment_size)
            if not events and not sent:
                break
        when = self.engine.timer()
        if when is not None and (self._armed is None or when < self._armed):
            self._armed = when
            self.network.clock.call_at(when, lambda: self._on_timer(when))

    def _on_timer(self, when: float) -> None:
        if self._closed or self._armed != when:
            return
        self._armed = None
        self.engine.handle_timer(self.now())
        self.turn()

    def on_datagram(self, data: bytes, address: Address, segment_size: int) -> None:
        if not self._closed:
            self.engine.receive(data, address, segment_size, self.now())
            self.flush()

    def on_unreachable(self, source: SocketAddress, target: SocketAddress) -> None:
        if not self._closed:
            self.engine.unreachable(Address(self._own.index(source), target), self.now())
            self.flush()

    async def close(self) -> None:
        self.turn()
        self.crash()

    def crash(self) -> None:
        """Gone without a word; what is sent to it meets a closed port."""
        self._closed = True
        self.network.unbind(self)
