"""Where a hub and its clients meet: in virtual time, or over sockets of this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol, Self, TypeVar

from spnhub.transport.engine import Engine, EngineEvent
from spnhub.transport.udp import UdpEndpoint
from tests.support.fake_network import FakeNetwork, FakeNode, VirtualClock

__all__ = ["Place", "Sockets", "Virtual"]

_T = TypeVar("_T")
_OnEvents = Callable[[list[EngineEvent]], None]
_Timer = Callable[[], float | None]


class _Clock(Protocol):
    """What is used of a clock."""

    def now(self) -> float: ...
    def run_for(self, seconds: float) -> None: ...
    def run_until(self, predicate: Callable[[], bool], limit: float = ...) -> None: ...


class _Node(Protocol):
    """What is used of whatever drives an engine."""

    def bind(self, address: tuple[str, int] | None = None) -> int: ...
    def flush(self) -> None: ...
    def crash(self) -> None: ...


class Place(Protocol):
    """See the module."""

    hub: tuple[str, int]
    """The hub's address, once it is bound."""

    @property
    def clock(self) -> _Clock: ...
    def node(self, engine: Engine, on_events: _OnEvents, timer: _Timer = ...) -> _Node: ...


class Virtual:
    """No sockets, and no time."""

    def __init__(self) -> None:
        self.hub = ("192.0.2.1", 443)
        self.clock = VirtualClock()
        self._network = FakeNetwork(self.clock, latency=0.001)

    def node(self, engine: Engine, on_events: _OnEvents, timer: _Timer = lambda: None) -> _Node:
        """One of the network's."""
        return FakeNode(self._network, engine, on_events, timer)


class Sockets:
    """Sockets on the loopback interface, and an asyncio loop that runs while somebody waits. A context manager."""

    def __init__(self) -> None:
        self.hub = ("127.0.0.1", 0)
        self.clock = self
        self._loop = asyncio.new_event_loop()
        self._turned = asyncio.Event()
        self._nodes: list[_SocketNode] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for node in self._nodes:
            node.crash()
        self._loop.close()

    def node(self, engine: Engine, on_events: _OnEvents, timer: _Timer = lambda: None) -> _Node:
        """With sockets of its own."""

        def noted(events: list[EngineEvent]) -> None:
            on_events(events)
            self._turned.set()

        async def make() -> UdpEndpoint:
            return UdpEndpoint(engine, noted, timer)

        node = _SocketNode(self, self.run(make()))
        self._nodes.append(node)
        return node

    def run(self, what: Coroutine[Any, Any, _T]) -> _T:
        """Until it is done."""
        return self._loop.run_until_complete(what)

    def now(self) -> float:
        """The loop's clock."""
        return self._loop.time()

    def run_for(self, seconds: float) -> None:
        """Let packets pass."""
        self.run(asyncio.sleep(seconds))

    def run_until(self, predicate: Callable[[], bool], limit: float = 60.0) -> None:
        """Until it holds after something has happened.

        :raises TimeoutError: it doesn't in time.
        """

        async def wait() -> None:
            async with asyncio.timeout(limit):
                while not predicate():
                    self._turned.clear()
                    await self._turned.wait()

        self.run(wait())


class _SocketNode:
    """Drives an engine over sockets."""

    def __init__(self, place: Sockets, udp: UdpEndpoint) -> None:
        self._place = place
        self._udp = udp

    def bind(self, address: tuple[str, int] | None = None) -> int:
        """A socket there, the hub's, or one that is connected to the hub; its index."""
        place, udp = self._place, self._udp
        if address is None:
            return place.run(udp.open_client_socket(place.hub)).local
        bound = place.run(udp.open_server_socket(address))
        host, port = udp.local_address(bound)[:2]
        place.hub = (str(host), int(port))
        udp.start()
        return bound.local

    def flush(self) -> None:
        """Have a turn."""
        self._udp.flush()

    def crash(self) -> None:
        """Be gone."""
        self._place.run(self._udp.close())
