"""Conversations that go on and on, both ways, whose every byte is checked and whose every delay is measured.

Each direction is one endless sequence of random bytes; a block of it is sent at fixed times, and the receiver compares
what comes with its own copy. So a byte that is lost, doubled or out of order is noticed at once, and how long a block
took says how long the connection stood still.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence

from tests.support.tcp import TcpPeer, TcpServer
from tests.support.world import Consumer, World

__all__ = ["Flow", "Talk", "quantiles"]


class Flow:
    """One direction of a conversation."""

    def __init__(self, sender: TcpPeer, receiver: TcpPeer, seed: int, block: int, interval: float) -> None:
        self._sender, self.receiver = sender, receiver
        self._seed = seed
        self._block = block
        self._interval = interval
        self._sent: deque[tuple[int, float]] = deque()
        """Where each block ends that is on its way, and when it was sent."""
        self._over = False
        self.delays: list[tuple[float, float]] = []
        """When a block was sent, and how long it took, seconds."""

    async def send(self) -> None:
        """Send blocks until told to finish, then FIN."""
        source = random.Random(self._seed)
        due = time.monotonic() + random.Random(self._seed).random() * self._interval
        while not self._over:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + self._interval, time.monotonic())
            self._sent.append((self._sender.sent + self._block, time.monotonic()))
            await self._sender.send(source.randbytes(self._block))
        self._sender.finish()

    async def receive(self) -> None:
        """Compare all that comes, to the FIN.

        :raises AssertionError: not what was sent.
        :raises OSError: reset.
        """
        source = random.Random(self._seed)
        loop = asyncio.get_running_loop()
        expected = b""
        while data := await loop.sock_recv(self.receiver.sock, 65536):
            now = time.monotonic()
            while len(expected) < len(data):
                expected += source.randbytes(self._block)
            assert data == expected[: len(data)], f"flow {self._seed}: other bytes after {self.receiver.received}"
            expected = expected[len(data) :]
            self.receiver.received += len(data)
            while self._sent and self._sent[0][0] <= self.receiver.received:
                _, at = self._sent.popleft()
                self.delays.append((at, now - at))
        assert self._over and not self._sent, f"flow {self._seed}: FIN after {self.receiver.received} bytes"
        assert self.receiver.received == self._sender.sent

    def finish(self) -> None:
        """No more blocks; FIN."""
        self._over = True

    def slowest(self, since: float) -> float:
        """The longest time that a block took which was sent after ``since`` (monotonic seconds)."""
        return max((delay for at, delay in self.delays if at >= since), default=0.0)

    def stood_still(self, since: float) -> float:
        """Seconds after ``since`` (monotonic) until a block arrived, whenever it was sent."""
        return min((at + delay for at, delay in self.delays if at + delay >= since), default=float("inf")) - since

    def delivered_since(self, moment: float) -> bool:
        """Whether a block that was sent after ``moment`` has arrived."""
        return bool(self.delays) and self.delays[-1][0] >= moment


class Talk:
    """Many conversations at once. Anything wrong with one of them is raised by :meth:`check` and :meth:`end`."""

    def __init__(self, pairs: Sequence[tuple[TcpPeer, TcpPeer]], block: int, interval: float) -> None:
        self.flows: list[Flow] = []
        for n, (client, served) in enumerate(pairs):
            self.flows.append(Flow(client, served, 2 * n, block, interval))
            self.flows.append(Flow(served, client, 2 * n + 1, block, interval))
        self._tasks = [asyncio.ensure_future(work) for flow in self.flows for work in (flow.send(), flow.receive())]

    @classmethod
    async def begin(
        cls,
        world: World,
        consumer: Consumer,
        server: TcpServer,
        conversations: int,
        *,
        block: int = 1024,
        interval: float = 0.1,
    ) -> Talk:
        """Open so many, and let them begin; ``interval`` in seconds."""
        pairs = [await world.join(consumer, server) for _ in range(conversations)]
        return cls(pairs, block, interval)

    def check(self) -> None:
        """Raise what has gone wrong so far."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def goes_on(self, *, within: float = 60.0) -> None:
        """Wait until every direction has delivered something that was sent from now on."""
        began = time.monotonic()
        async with asyncio.timeout(within):
            while not all(flow.delivered_since(began) for flow in self.flows):
                self.check()
                # Looked at, since nobody tells: the flows are ordinary TCP programs.
                await asyncio.sleep(0.02)

    def slowest(self, since: float) -> list[float]:
        """For each direction the longest time that a block took, seconds."""
        return [flow.slowest(since) for flow in self.flows]

    def stood_still(self, since: float) -> list[float]:
        """For each direction the seconds after ``since`` until anything arrived."""
        return [flow.stood_still(since) for flow in self.flows]

    async def end(self) -> int:
        """FIN on all; all must have arrived, once and in order. How many bytes there were."""
        for flow in self.flows:
            flow.finish()
        async with asyncio.timeout(120):
            await asyncio.gather(*self._tasks)
        return sum(flow.receiver.received for flow in self.flows)


def quantiles(seconds: Sequence[float]) -> str:
    """Median, 99th percentile and the highest, for people."""
    ordered = sorted(seconds)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99)]
    return f"median {at[0] * 1000:.0f} ms, p99 {at[1] * 1000:.0f} ms, highest {ordered[-1] * 1000:.0f} ms"
