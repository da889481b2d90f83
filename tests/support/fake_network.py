"""A network in memory and its clock: carries the datagrams of any :class:`~spnhub.transport.engine.Engine`.

What can go wrong, all of it decided by ``seed`` and the order of calls: :attr:`FakeNetwork.loss`, ``jitter`` and
``reorder`` of single datagrams; :meth:`FakeNetwork.cut` between two nodes, both ways or one, for a time or until
:meth:`FakeNetwork.heal`; :meth:`FakeNode.crash` with or without its host, and :meth:`FakeNode.restart` on the same
address; :meth:`FakeNode.freeze` and :meth:`FakeNode.thaw` (SIGSTOP, SIGCONT); :meth:`FakeNode.rebind`, another address
that the node doesn't know of. A socket may have several addresses (:meth:`FakeNode.bind`), as one bound to all of its
host has: what leaves from it without :attr:`~spnhub.transport.engine.Address.own` comes from the first.

Two clocks: :class:`VirtualClock` for simulations without asyncio (:meth:`VirtualClock.run_until`), and
:class:`LoopClock` on an asyncio loop (with :mod:`tests.support.virtual_loop` its time is virtual, too). Counterpart:
:class:`FakeNode` offers what :class:`spnhub.transport.udp.UdpEndpoint` offers.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

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
            if when > self._now:
                self._now = when
            function()

    def run_for(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        end = self._now + seconds
        heap = self._heap
        while heap and heap[0][0] <= end:
            when, _, function = heapq.heappop(heap)
            if when > self._now:
                self._now = when
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


class _Flight(NamedTuple):
    """A datagram under way."""

    sender: FakeNode
    life: int
    """Which of the sender's lives sent it."""
    source: SocketAddress
    target: SocketAddress
    data: bytes
    segment_size: int
    repeated: bool = False
    """It was lost before; as long as its sender lives and runs it comes again."""


@dataclass(slots=True)
class _Queue:
    """What is under way from one address to another, in order."""

    flights: deque[_Flight] = field(default_factory=deque)
    last: float = 0.0
    """When the last of them arrives."""
    free_at: float = 0.0
    """When the narrow link between the two has sent what waits for it."""


class FakeNetwork:
    """Carries datagrams between socket addresses, after ``latency`` (+ up to ``jitter``) seconds.

    :param reorder: with jitter or loss, datagrams of one pair of addresses may overtake each other.
    :param loss: how many of the datagrams are lost, 0 to below 1.
    :param repeats: a lost datagram, and one that meets a cut, comes later, as if its sender had repeated it: for
        engines that repeat nothing themselves. Otherwise it is gone.
    :param repeat_after: seconds after which a lost one is repeated; doubled with each further loss, 16-fold at most.

    ``latency``, ``jitter``, ``loss``, ``reorder``, ``largest``, ``rate`` and ``buffer`` may be changed at any time.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        latency: float = 0.005,
        jitter: float = 0.0,
        loss: float = 0.0,
        reorder: bool = False,
        seed: int = 0,
        repeats: bool = True,
        repeat_after: float = 0.1,
    ) -> None:
        self.clock = clock
        self.latency = latency
        self.jitter = jitter
        self.loss = loss
        self.reorder = reorder
        self.largest: int | None = None
        """Bytes of the largest datagram that is carried; larger ones are lost, and nobody says so. None: any. Only of
        engines that repeat by themselves."""
        self.rate: float | None = None
        """Bytes a second that a link between any two addresses carries, each way: what is sent faster waits there.
        None: any number. Only of engines that repeat by themselves."""
        self.buffer = math.inf
        """Bytes that wait there at most; what finds no room is lost."""
        self.seen = 0
        """Bytes of the largest datagram that was sent."""
        self.repeats = repeats
        self.repeat_after = repeat_after
        self.random = random.Random(seed)
        self._sockets: dict[SocketAddress, tuple[FakeNode, int]] = {}
        self._owners: dict[SocketAddress, FakeNode] = {}
        """Who has or last had an address."""
        self._dead: set[SocketAddress] = set()
        """Addresses of hosts that are gone: nobody says so."""
        self._queues: dict[tuple[SocketAddress, SocketAddress], _Queue] = {}
        self._cut: dict[tuple[FakeNode, FakeNode], float] = {}
        """From whom to whom nothing gets through, and until when."""
        self._kept: list[_Flight] = []
        self._ports = itertools.count(40000)

    # ---- what goes wrong between nodes -------------------------------------------------------------------------

    def cut(self, a: FakeNode, b: FakeNode, *, one_way: bool = False, seconds: float = math.inf) -> None:
        """Let nothing through between the two (``one_way``: from ``a`` to ``b``), not even that a port is closed.

        Of two cuts of the same pair the one that ends later counts.
        """
        until = self.clock.now() + seconds
        for pair in ((a, b),) if one_way else ((a, b), (b, a)):
            self._cut[pair] = max(until, self._cut.get(pair, 0.0))
        if until != math.inf:
            self.clock.call_at(until, self._heal_due)

    def heal(self, a: FakeNode, b: FakeNode, *, one_way: bool = False) -> None:
        """Undo :meth:`cut`."""
        for pair in ((a, b),) if one_way else ((a, b), (b, a)):
            self._cut.pop(pair, None)
        self.repeat()

    def heal_all(self) -> None:
        """Undo every :meth:`cut`."""
        self._cut.clear()
        self.repeat()

    def _heal_due(self) -> None:
        now = self.clock.now()
        for pair in [pair for pair, until in self._cut.items() if until <= now]:
            del self._cut[pair]
        self.repeat()

    def repeat(self) -> None:
        """Something has changed: what was kept is on its way again."""
        kept, self._kept = self._kept, []
        for flight in kept:
            self._carry(flight, self.latency + self.random.random() * self.repeat_after)

    # ---- sockets and datagrams ---------------------------------------------------------------------------------

    def bind(self, node: FakeNode, index: int, address: SocketAddress | None) -> SocketAddress:
        bound = address or ("client", next(self._ports))
        if bound in self._sockets:
            raise OSError(f"{bound} is in use")
        self._sockets[bound] = node, index
        self._owners[bound] = node
        if bound in self._dead:
            self._dead.discard(bound)
            self.repeat()
        return bound

    def gone(self) -> set[SocketAddress]:
        """Addresses that something was sent to, and that no socket has (any more)."""
        return {target for _, target in self._queues if target not in self._sockets}

    def unbind(self, node: FakeNode, address: SocketAddress, *, host_lives: bool = True) -> None:
        if self._sockets.get(address, (None,))[0] is node:
            del self._sockets[address]
            if not host_lives:
                self._dead.add(address)

    def send(
        self, node: FakeNode, source: SocketAddress, target: SocketAddress, data: bytes, segment_size: int
    ) -> None:
        delay = self.latency
        repeated = False
        one_by_one = self.loss or self.largest is not None or self.rate is not None
        if one_by_one and not self.repeats and 0 < segment_size < len(data):
            for start in range(0, len(data), segment_size):
                self.send(node, source, target, data[start : start + segment_size], 0)
            return
        self.seen = max(self.seen, segment_size or len(data))
        if self.largest is not None and not self.repeats and len(data) > self.largest:
            return
        if self.jitter:
            delay += self.random.random() * self.jitter
        if self.loss:
            pause = self.repeat_after
            while self.random.random() < self.loss:
                if not self.repeats:
                    return
                repeated = True
                delay += pause
                pause = min(pause * 2, 16 * self.repeat_after)
        if self.rate is not None and not self.repeats:
            queue, now = self._queue(source, target), self.clock.now()
            waits = max(0.0, queue.free_at - now)
            if waits * self.rate + len(data) > self.buffer:
                return
            queue.free_at = now + waits + len(data) / self.rate
            delay += queue.free_at - now
        self._carry(_Flight(node, node.life, source, target, data, segment_size, repeated), delay)

    def _queue(self, source: SocketAddress, target: SocketAddress) -> _Queue:
        queue = self._queues.get((source, target))
        if queue is None:
            queue = self._queues[source, target] = _Queue()
        return queue

    def _carry(self, flight: _Flight, delay: float) -> None:
        clock = self.clock
        when = clock.now() + delay
        if self.reorder:
            clock.call_at(when, partial(self._arrive, flight))
            return
        # A queue per pair, because a loop runs timers of equal times in any order.
        queue = self._queue(flight.source, flight.target)
        queue.last = when = max(queue.last, when)
        queue.flights.append(flight)
        clock.call_at(when, partial(self._next, queue))

    def _next(self, queue: _Queue) -> None:
        self._arrive(queue.flights.popleft())

    def _arrive(self, flight: _Flight) -> None:
        sender = flight.sender
        if flight.repeated:
            if sender.life != flight.life:
                return
            if sender.frozen:
                self._kept.append(flight)
                return
        found = self._sockets.get(flight.target)
        there = found[0] if found is not None else self._owners.get(flight.target)
        if (there is not None and (sender, there) in self._cut) or (found is None and flight.target in self._dead):
            if self.repeats:
                self._kept.append(flight._replace(repeated=True))
        elif found is not None:
            node, index = found
            node.on_datagram(flight.data, node.address(index, flight.source, flight.target), flight.segment_size)
        else:
            self.clock.call_at(self.clock.now() + self.latency, partial(self._refuse, flight, there))

    def _refuse(self, flight: _Flight, there: FakeNode | None) -> None:
        """Port unreachable, on its way back."""
        found = self._sockets.get(flight.source)
        if found is not None and found[0] is flight.sender and (there, flight.sender) not in self._cut:
            node, index = found
            node.on_unreachable(node.address(index, flight.target, flight.source))


class FakeNode:
    """One engine on the network, with the interface of :class:`spnhub.transport.udp.UdpEndpoint`.

    :param on_events: called at the beginning of each turn, and again as long as there are events.
    :param extra_timer: another source of due times; a turn follows when one has come.
    """

    def __init__(
        self,
        network: FakeNetwork,
        engine: Engine,
        on_events: Callable[[list[EngineEvent]], None],
        extra_timer: Callable[[], float | None] = lambda: None,
    ) -> None:
        self.network = network
        self.engine = engine
        self.frozen = False
        self.life = 0
        """How often it has crashed."""
        self.on_events = on_events
        self._extra_timer = extra_timer
        self._own: list[SocketAddress] = []
        self._others: dict[tuple[int, bytes], SocketAddress] = {}
        """All addresses of sockets that have several, by what the engine calls them."""
        self._names: dict[tuple[int, SocketAddress, SocketAddress], Address] = {}
        self._released: set[int] = set()
        self._inbox: list[tuple[bytes | None, Address, int]] = []
        """What came while it was frozen; None: port unreachable."""
        self._scheduled = self._in_turn = False
        self._asked = False
        """The owner wants a turn, whether there are events or not."""
        self._armed: float | None = None
        self._closed = False

    def now(self) -> float:
        return self.network.clock.now()

    def bind(self, address: SocketAddress | None = None, *others: SocketAddress) -> int:
        """A socket at ``address`` (None: any), and at ``others``; its index."""
        index = len(self._own)
        self._names.clear()
        self._own.append(self.network.bind(self, index, address))
        for each in others:
            self.network.bind(self, index, each)
        for each in (self._own[index], *others) if others else ():
            self._others[index, repr(each).encode()] = each
        return index

    def address(self, index: int, remote: SocketAddress, own: SocketAddress) -> Address:
        """What the engine is told of a datagram between the two."""
        known = self._names.get((index, remote, own))
        if known is None:
            name = repr(own).encode()
            known = Address(index, remote, name if (index, name) in self._others else b"")
            self._names[index, remote, own] = known
        return known

    def _addresses(self, index: int) -> list[SocketAddress]:
        several = [each for (socket, _), each in self._others.items() if socket == index]
        return several or [self._own[index]]

    async def open_client_socket(self, remote: tuple[str, int]) -> Address:
        return Address(self.bind(), remote)

    async def open_server_socket(self, local: tuple[str, int]) -> Address:
        return Address(self.bind(local), ())

    def local_address(self, address: Address) -> SocketAddress:
        """What the socket of ``address`` is bound to."""
        return self._own[address.local]

    def release(self, address: Address) -> None:
        """Close the socket of ``address``."""
        self._released.add(address.local)
        for each in self._addresses(address.local):
            self.network.unbind(self, each)

    def flush(self) -> None:
        """Something was asked of the engine or of its owner: a turn, unless one is under way."""
        if not self._in_turn:
            self._asked = True
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled and not self._closed:
            self._scheduled = True
            self.network.clock.call_at(self.now(), self.turn)

    def turn(self) -> None:
        """Timer, events, datagrams: what a driver does after each wake-up."""
        self._scheduled = False
        if self._closed or self.frozen:
            return
        self._in_turn = True
        try:
            self._work(self.network.clock.now())
        finally:
            self._in_turn = False
        self._arm()

    def _work(self, now: float) -> None:
        engine = self.engine
        timely = self._armed is None or self._armed <= now
        if timely:
            due = engine.timer()
            if due is not None and due <= now:
                engine.handle_timer(now)
        events = engine.events()
        # A datagram alone, an acknowledgement say, need not concern the owner.
        if events or self._asked or timely:
            self._asked = False
            self.on_events(events)
        while not self._closed:
            for data, address, segment_size in engine.transmit(now):
                if address.local not in self._released:
                    source = self._own[address.local]
                    if self._others:
                        source = self._others.get((address.local, address.own), source)
                    self.network.send(self, source, address.remote, data, segment_size)
            # Sending makes room, and room may be an event; mostly there is none.
            events = engine.events()
            if not events:
                break
            self.on_events(events)

    def _arm(self) -> None:
        when, extra = self.engine.timer(), self._extra_timer()
        if extra is not None and (when is None or extra < when):
            when = extra
        if when is not None and (self._armed is None or when < self._armed):
            self._armed = when
            self.network.clock.call_at(when, partial(self._on_timer, when))

    def _on_timer(self, when: float) -> None:
        if self._armed == when:
            self._armed = None
            self.turn()

    def on_datagram(self, data: bytes, address: Address, segment_size: int) -> None:
        if self.frozen:
            self._inbox.append((data, address, segment_size))
        else:
            self.engine.receive(data, address, segment_size, self.network.clock.now())
            self._schedule()

    def on_unreachable(self, address: Address) -> None:
        if self.frozen:
            self._inbox.append((None, address, 0))
        else:
            self.engine.unreachable(address, self.now(), port_closed=True)
            self._schedule()

    async def close(self) -> None:
        self.turn()
        self.crash()

    # ---- what goes wrong on a node -----------------------------------------------------------------------------

    def crash(self, *, host_lives: bool = True) -> None:
        """Gone without a word. What is sent to it meets a closed port, or nothing at all if its host is gone, too."""
        self._closed = True
        self.frozen = False
        self.life += 1
        self._inbox.clear()
        for address in dict.fromkeys((*self._own, *self._others.values())):
            self.network.unbind(self, address, host_lives=host_lives)

    def restart(
        self,
        engine: Engine,
        on_events: Callable[[list[EngineEvent]], None],
        extra_timer: Callable[[], float | None] = lambda: None,
    ) -> None:
        """A new process after :meth:`crash`: it has the sockets with known addresses, and nothing else."""
        assert self._closed
        self.engine, self.on_events, self._extra_timer = engine, on_events, extra_timer
        self._closed = False
        self._armed = None
        known = [self._addresses(index) for index, address in enumerate(self._own) if address[0] != "client"]
        self._own, self._released, self._others = [], set(), {}
        for addresses in known:
            self.bind(*addresses)
        self.flush()

    def rebind(self, *, refused: bool = False, host: str = "client") -> None:
        """From now on others see other addresses of its client sockets, as behind a NAT that has forgotten.

        :param refused: what is sent to the old ones meets a closed port; otherwise nobody says so.
        :param host: another one than ``client``: its name begins with that. Then it is in another network.
        """
        for index, old in enumerate(self._own):
            if old[0].startswith("client") and index not in self._released:
                self.network.unbind(self, old, host_lives=refused)
                _, port = self.network.bind(self, index, None)
                if host != "client":
                    self.network.unbind(self, ("client", port))
                    self.network.bind(self, index, (host, port))
                self._own[index] = host, port

    def freeze(self) -> None:
        """Stop the process (SIGSTOP): nothing happens on it, and what comes waits in its sockets."""
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on (SIGCONT); what has come is taken before any timer."""
        self.frozen = False
        inbox, self._inbox = self._inbox, []
        for data, address, segment_size in inbox:
            if data is None:
                self.engine.unreachable(address, self.now(), port_closed=True)
            else:
                self.engine.receive(data, address, segment_size, self.now())
        self.network.repeat()
        self.flush()
