"""An endpoint of sc01 without a mind: a test says what it sends, and sees what has come."""

from __future__ import annotations

from collections import defaultdict

from spnhub.events.model import EndPointType
from spnhub.transport.engine import (
    Address,
    ClientPolicy,
    Closed,
    Connected,
    DatagramReceived,
    EngineEvent,
    Opened,
    Readable,
    Reset,
    Stopped,
)
from tests.support.fake_engine import FakeEngine, fake_ca
from tests.support.fake_network import FakeNode
from tests.transport.hub.bench import HUB, NAME, Bench, Received, credentials


class OldPeer:
    """One connection to the hub; it reads what comes unless :attr:`deaf`."""

    def __init__(self, bench: Bench, role: EndPointType, subject: str) -> None:
        self.bench = bench
        self.datagrams: list[bytes] = []
        """Those that have come and no test has looked at."""
        self.streams: dict[int, Received] = defaultdict(Received)
        self.closed: tuple[int, str] | None = None
        self.deaf = False
        self.connected = False
        self.engine = FakeEngine(bench.wire)
        self.node = FakeNode(bench.network, self.engine, self._on_events)
        alpn = ("sc01-provider" if role is EndPointType.PROVIDER else "sc01-consumer",)
        mine = credentials(subject)
        policy = ClientPolicy(NAME, alpn, mine.certificate, mine.key, fake_ca("servers"))
        self.connection_id = self.engine.connect(Address(self.node.bind(), HUB), policy, bench.clock.now())
        self.node.flush()
        bench.settle()

    def _on_events(self, events: list[EngineEvent]) -> None:
        for event in events:
            match event:
                case Connected():
                    self.connected = True
                case Closed():
                    self.closed = event.code, event.reason
                case DatagramReceived():
                    self.datagrams.append(event.data)
                case Opened() | Readable():
                    if not self.deaf:
                        self.read(event.stream_id)
                case Reset():
                    self.streams[event.stream_id].reset = event.code
                case Stopped():
                    self.streams[event.stream_id].stopped = event.code

    def read(self, stream_id: int) -> None:
        """Take what has come on a stream."""
        while (got := self.engine.read(self.connection_id, stream_id, 65536)) is not None:
            self.streams[stream_id].data += got[0]
            self.streams[stream_id].fin |= got[1]
            if not got[0] or got[1]:
                break
        self.node.flush()

    def open(self, data: bytes, *, fin: bool = False) -> int:
        """A stream that begins so."""
        stream_id = self.engine.open_bidi(self.connection_id)
        assert stream_id is not None
        self.write(stream_id, data, fin=fin)
        self.bench.settle()
        return stream_id

    def write(self, stream_id: int, data: bytes, *, fin: bool = False) -> None:
        """Bytes on a stream."""
        assert self.engine.write(self.connection_id, stream_id, data) == len(data)
        if fin:
            self.engine.finish(self.connection_id, stream_id)
        self.node.flush()
        self.bench.settle()

    def reset(self, stream_id: int, code: int) -> None:
        """Reset the sending side of a stream."""
        self.engine.reset(self.connection_id, stream_id, code)
        self.node.flush()
        self.bench.settle()

    def stop(self, stream_id: int, code: int) -> None:
        """Want no more of a stream."""
        self.engine.stop(self.connection_id, stream_id, code)
        self.node.flush()
        self.bench.settle()

    def say(self, word: bytes) -> None:
        """A datagram."""
        self.engine.send_datagram(self.connection_id, word)
        self.node.flush()
        self.bench.settle()

    def close(self, code: int = 0) -> None:
        """Close the connection."""
        self.engine.close(self.connection_id, code, "bye")
        self.node.flush()
        self.bench.settle()

    def heard(self) -> list[bytes]:
        """The datagrams that have come."""
        self.bench.settle()
        heard, self.datagrams = self.datagrams, []
        return heard

    def only(self) -> int:
        """The one stream that there is."""
        (stream_id,) = self.streams
        return stream_id
