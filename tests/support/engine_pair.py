"""A client and a server engine on a network in virtual time, for the conformance tests of engines.

To test another engine, write a factory ``(server_limits, client_limits, policy) -> (server, client)`` and add it to
``ENGINES`` in ``tests/transport/test_engine_conformance.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from spnhub.transport.engine import (
    Address,
    ClientPolicy,
    Connected,
    Engine,
    EngineEvent,
    Limits,
    Opened,
    Readable,
    ServerIdentity,
    ServerPolicy,
)
from tests.support.fake_network import FakeNetwork, FakeNode, VirtualClock

__all__ = ["SECOND", "SERVER", "Credentials", "EnginePair", "Kit", "Side"]

E = TypeVar("E", bound=EngineEvent)

SERVER = ("192.0.2.1", 443)
SECOND = ("192.0.2.2", 443)
"""Another address of the same socket, in a pair that has it."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """A certificate chain and its key, PEM (or an engine's plain data)."""

    chain: bytes
    key: bytes


class MakesEngines(Protocol):
    """A constructor of engines."""

    def __call__(self, limits: Limits, *, reset_key: bytes | None = None) -> Engine:
        """An engine."""


@dataclass(frozen=True, slots=True)
class Kit:
    """What an engine under test needs: how to make it, and certificates that it understands."""

    name: str
    make: MakesEngines
    server: Credentials
    client: Credentials
    stranger: Credentials
    """A client certificate of a CA that the server doesn't know."""
    client_ca: bytes
    trust: bytes
    repeats: bool = False
    """The engine expects each datagram to arrive; see :mod:`tests.support.fake_engine`."""


class Side:
    """One engine with its node, its connection number and everything it said."""

    def __init__(self, network: FakeNetwork, engine: Engine) -> None:
        self.engine = engine
        self.node = FakeNode(network, engine, self._on_events)
        self.events: list[EngineEvent] = []
        self.connection_id = 0

    def _on_events(self, events: list[EngineEvent]) -> None:
        self.events += events

    def restart(self, engine: Engine) -> None:
        """Another engine in place of one whose node has crashed."""
        self.engine = engine
        self.events = []
        self.node.restart(engine, self._on_events)

    def of(self, kind: type[E]) -> list[E]:
        """The events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def take(self, kind: type[E]) -> list[E]:
        """The events of one kind; forgets them."""
        found = self.of(kind)
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found


class EnginePair:
    """Two engines; :meth:`connect` joins them. ``client.c`` and ``server.c`` are the two ends of one connection."""

    def __init__(
        self,
        kit: Kit,
        server_limits: Limits | None = None,
        client_limits: Limits | None = None,
        reset_key: bytes | None = None,
        second: bool = False,
    ) -> None:
        self.kit = kit
        self.clock = VirtualClock()
        self.network = FakeNetwork(self.clock, repeats=kit.repeats)
        self._server_limits = server_limits or Limits()
        self.reset_key = reset_key
        self.server = Side(self.network, self._new_server())
        self.client = Side(self.network, kit.make(client_limits or Limits()))
        self.server.node.bind(SERVER, *((SECOND,) if second else ()))

    def _new_server(self) -> Engine:
        kit = self.kit
        engine = kit.make(self._server_limits, reset_key=self.reset_key)
        identity = ServerIdentity(kit.server.chain, kit.server.key, kit.client_ca, ("spn/1",))
        engine.set_policy(ServerPolicy({"hub.test": identity}))
        return engine

    def restart_server(self) -> None:
        """After a crash of the server's node: a new process on the same address, with the same reset key."""
        self.server.restart(self._new_server())

    def begin(
        self,
        *,
        server_name: str = "hub.test",
        credentials: Credentials | None = None,
        trust: bytes | None = None,
        at: tuple[str, int] = SERVER,
    ) -> int:
        """Begin a connection of the client; its number."""
        who = credentials or self.kit.client
        policy = ClientPolicy(server_name, ("spn/1",), who.chain, who.key, trust or self.kit.trust)
        local = self.client.node.bind()
        connection_id = self.client.engine.connect(Address(local, at), policy, self.clock.now())
        self.client.node.flush()
        return connection_id

    def connect(self, *, at: tuple[str, int] = SERVER) -> EnginePair:
        """A connection that is up on both sides."""
        self.client.connection_id = self.begin(at=at)
        self.run_until(lambda: bool(self.client.of(Connected)) and bool(self.server.of(Connected)))
        self.server.connection_id = self.server.of(Connected)[-1].connection_id
        return self

    def run_until(self, predicate: Callable[[], bool], limit: float = 60.0) -> None:
        """Flush both engines and let time pass until ``predicate`` holds."""
        self.flush()
        self.clock.run_until(predicate, limit)

    def run_for(self, seconds: float) -> None:
        """Flush both engines and let ``seconds`` pass."""
        self.flush()
        self.clock.run_for(seconds)

    def flush(self) -> None:
        self.client.node.flush()
        self.server.node.flush()

    def open(self, data: bytes = b"x") -> int:
        """A stream of the client that the server has seen and whose first bytes it has read."""
        stream_id = self.client.engine.open_bidi(self.client.connection_id)
        assert stream_id is not None
        assert self.client.engine.write(self.client.connection_id, stream_id, data) == len(data)
        self.run_until(lambda: Opened(self.server.connection_id, stream_id) in self.server.events)
        assert self.read_all(self.server, stream_id, len(data)) == (data, False)
        return stream_id

    def read_all(self, side: Side, stream_id: int, size: int, limit: float = 60.0) -> tuple[bytes, bool]:
        """Read ``size`` bytes, or up to the end."""
        got, fin = b"", False

        def more() -> bool:
            nonlocal got, fin
            while not fin and len(got) < size:
                answer = side.engine.read(side.connection_id, stream_id, size - len(got))
                if not answer or answer == (b"", False):
                    break
                got += answer[0]
                fin = answer[1]
                side.node.flush()
            return fin or len(got) >= size

        self.run_until(more, limit)
        side.events = [event for event in side.events if event != Readable(side.connection_id, stream_id)]
        return got, fin

    def carry(self, source: Side, sink: Side, stream_id: int, data: bytes) -> None:
        """Write all of it on one side while the other reads: it arrives whole."""
        more = self.write_all(source, stream_id, data)
        got = b""
        while len(got) < len(data):
            got += self.read_all(sink, stream_id, min(16_384, len(data) - len(got)))[0]
            more()
        assert got == data

    def write_all(self, side: Side, stream_id: int, data: bytes) -> Callable[[], bool]:
        """Begin to write all of ``data``; the function goes on with it and says whether all was taken."""
        left = data

        def more() -> bool:
            nonlocal left
            while left and (taken := side.engine.write(side.connection_id, stream_id, left)):
                left = left[taken:]
                side.node.flush()
            return not left

        more()
        return more
