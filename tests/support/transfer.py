"""A transfer at full speed between two engines, and an echo beside it, over a path in virtual time."""

from __future__ import annotations

from typing import Final

from spnhub.transport.engine import LITTLE, Readable
from tests.support.engine_pair import EnginePair, Kit

__all__ = ["Transfer"]

_BLOCK: Final = bytes(64 * 1024)


class Transfer:
    """From the server as fast as the path takes it; beside it an echo of one byte, if it is wished.

    :param round_trip: of a path without a queue, seconds.
    :param rate: bytes a second that it carries, each way.
    :param buffer: bytes that wait there at most.
    :param loss: probability that a datagram is lost besides.
    """

    def __init__(
        self,
        kit: Kit,
        *,
        round_trip: float,
        rate: float,
        buffer: float,
        loss: float = 0.0,
        seed: int = 0,
        echo: bool = True,
    ) -> None:
        self.pair = pair = EnginePair(kit)
        pair.network.latency = round_trip / 2
        pair.connect()
        self._bulk, self._small = pair.open(), pair.open()
        network = pair.network
        network.rate, network.buffer, network.loss = rate, buffer, loss
        network.random.seed(seed)
        self.bytes = 0
        self.times: list[float] = []
        pair.server.node.on_events = lambda events: self._serve([e for e in events if isinstance(e, Readable)])
        pair.client.node.on_events = lambda events: self._take([e for e in events if isinstance(e, Readable)])
        if echo:
            self._ask()
        self._asked = pair.clock.now()

    def _serve(self, readable: list[Readable]) -> None:
        server = self.pair.server
        for event in readable:
            answer = server.engine.read(event.connection_id, event.stream_id, LITTLE)
            if answer:
                server.engine.write(event.connection_id, event.stream_id, answer[0])
        while server.engine.write(server.connection_id, self._bulk, _BLOCK):
            pass

    def _take(self, readable: list[Readable]) -> None:
        client = self.pair.client
        for event in readable:
            while (answer := client.engine.read(event.connection_id, event.stream_id, 1 << 20)) and answer[0]:
                if event.stream_id == self._small:
                    self.times.append(self.pair.clock.now() - self._asked)
                    self._ask()
                else:
                    self.bytes += len(answer[0])

    def _ask(self) -> None:
        self._asked = self.pair.clock.now()
        self.pair.client.engine.write(self.pair.client.connection_id, self._small, b"?")

    def run(self, seconds: float) -> float:
        """Bytes a second that came meanwhile, and :attr:`times` anew."""
        self.bytes, self.times = 0, []
        self.pair.run_for(seconds)
        return self.bytes / seconds
