"""An agent of sc01 as one node of a simulated network, written from what is known of the old ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from spnhub.actors.contract.codes import Code
from spnhub.events.model import EndPointType
from spnhub.transport.endpoint.connection.connection import Connection
from spnhub.transport.engine import (
    Address,
    ClientPolicy,
    Closed,
    Connected,
    DatagramReceived,
    Engine,
    EngineEvent,
    Opened,
    Readable,
    Reset,
    Stopped,
    Writable,
)
from tests.simulation.endpoint import Program
from tests.support.fake_network import FakeNetwork, FakeNode

__all__ = ["ALPNS", "OldEndpoint", "OldStream"]

ALPNS = {EndPointType.PROVIDER: "sc01-provider", EndPointType.CONSUMER: "sc01-consumer"}


class OldStream:
    """A stream of it, as a program sees it; the part of :class:`Connection` that :class:`Program` uses."""

    def __init__(self, endpoint: OldEndpoint, stream_id: int) -> None:
        self.stream_id = stream_id
        self._endpoint = endpoint
        self._listener: Program | None = None
        self._fins = 0
        self._over = False

    def set_listener(self, listener: Program) -> None:
        self._listener = listener
        listener.on_readable()

    def write(self, data: bytes) -> int:
        taken = self._endpoint.engine.write(self._endpoint.connection_id, self.stream_id, data)
        self._endpoint.node.flush()
        return taken

    def finish(self) -> None:
        self._endpoint.engine.finish(self._endpoint.connection_id, self.stream_id)
        self._endpoint.node.flush()
        self._fin()

    def read(self, limit: int) -> tuple[bytes, bool] | None:
        got = None if self._over else self._endpoint.engine.read(self._endpoint.connection_id, self.stream_id, limit)
        if got is not None and got[0]:
            self._endpoint.node.flush()
        if got is not None and got[1]:
            # The program hears of its FIN first.
            self._endpoint.later(self._fin)
        return got

    def abort(self, code: int) -> None:
        self._over = True
        self._endpoint.abort(self.stream_id)

    def fail(self, code: int) -> None:
        """An old agent doesn't wait for what it has written."""
        self.end(f"{code}: ended here with an error")
        self._endpoint.abort(self.stream_id)

    def end(self, ending: str) -> None:
        """It is over for the program."""
        if self._over:
            return
        self._over = True
        self._endpoint.streams.pop(self.stream_id, None)
        if self._listener is not None:
            code, _, reason = ending.partition(": ")
            if ending == "closed":
                self._listener.on_closed()
            else:
                self._listener.on_aborted(int(code), reason)

    def _fin(self) -> None:
        self._fins += 1
        if self._fins == 2:
            self.end("closed")

    def readable(self) -> None:
        if self._listener is not None and not self._over:
            self._listener.on_readable()

    def writable(self) -> None:
        if self._listener is not None and not self._over:
            self._listener.on_writable()


class OldEndpoint:
    """One old agent with one connection.

    :param on_stream: a provider's: who speaks for a stream whose first byte has come.
    """

    def __init__(
        self,
        network: FakeNetwork,
        engine: Engine,
        role: EndPointType,
        name: str,
        policy: ClientPolicy,
        hub: tuple[str, int],
        on_stream: Callable[[OldEndpoint, OldStream], Program] | None = None,
    ) -> None:
        self.name = name
        self.engine = engine
        self.alive = True
        self.leaving = False
        """It was told to take no new streams."""
        self.words: list[bytes] = []
        self.closed: Closed | None = None
        self.session_id = ""
        self.streams: dict[int, OldStream] = {}
        self.begun: dict[Program, OldStream] = {}
        """All that there ever were."""
        self._network = network
        self._role = role
        self._on_stream = on_stream
        self._waiting: list[Program] = []
        self.node = FakeNode(network, engine, self._on_events)
        self.connection_id = engine.connect(Address(self.node.bind(), hub), policy, network.clock.now())
        self.node.flush()

    def connect(self, program: Program) -> None:
        """A TCP client has come. Nobody sees its stream before its first byte."""
        if self.closed is not None or self.leaving:
            program.ending = "not begun"
        elif not self.session_id:
            self._waiting.append(program)
        else:
            self._begin(program)

    def say(self, word: bytes) -> None:
        """A datagram."""
        self.engine.send_datagram(self.connection_id, word)
        self.node.flush()

    def close(self) -> None:
        """It ends in order."""
        self.engine.close(self.connection_id, 0, "bye")
        self.node.flush()

    def crash(self) -> None:
        """SIGKILL."""
        self.alive = False
        self.node.crash()

    def abort(self, stream_id: int) -> None:
        """Reset and stop."""
        self.streams.pop(stream_id, None)
        self.engine.reset(self.connection_id, stream_id, 0)
        self.engine.stop(self.connection_id, stream_id, 0)
        self.node.flush()

    def later(self, what: Callable[[], None]) -> None:
        """In the same instant, after what is under way."""
        self._network.clock.call_at(self._network.clock.now(), what)

    def _begin(self, program: Program) -> None:
        stream_id = self.engine.open_bidi(self.connection_id)
        if stream_id is None:
            program.ending = "not begun"
            return
        stream = self.streams[stream_id] = OldStream(self, stream_id)
        self._speak(program, stream)

    def _speak(self, program: Program, stream: OldStream) -> None:
        self.begun[program] = stream
        program.begin(cast("Connection", stream))  # as far as a program uses one

    def _on_events(self, events: list[EngineEvent]) -> None:
        for event in events:
            match event:
                case Connected():
                    self.session_id = event.cid.hex()
                    waiting, self._waiting = self._waiting, []
                    for program in waiting:
                        self._begin(program)
                case Closed():
                    self.closed = event
                    for stream in list(self.streams.values()):
                        stream.readable()
                        stream.end(f"{Code.PEER_LOST}: the connection to the hub is gone")
                    for program in self._waiting:
                        program.ending = "not begun"
                case DatagramReceived():
                    self.words.append(event.data)
                    self.leaving = self.leaving or event.data == b"notify_shutdown"
                case Opened():
                    assert self._on_stream is not None, "nobody opens streams to a consumer"
                    stream = self.streams[event.stream_id] = OldStream(self, event.stream_id)
                    self._speak(self._on_stream(self, stream), stream)
                case Readable():
                    if (found := self.streams.get(event.stream_id)) is not None:
                        found.readable()
                case Writable():
                    if (found := self.streams.get(event.stream_id)) is not None:
                        found.writable()
                case Reset() | Stopped():
                    if (found := self.streams.get(event.stream_id)) is not None:
                        found.end(f"{event.code}: ended by the other side")
                        self.abort(event.stream_id)
        if self.leaving and not self.streams and self.closed is None:
            self.close()
