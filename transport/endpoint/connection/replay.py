"""What was written and is not yet acknowledged, kept to be sent again in another leg.

One :class:`ReplayBuffer` per connection: the writing direction from the acknowledged to the written offset. Memory: a
buffer holds at most its :attr:`~ReplayBuffer.capacity`, and up to one chunk (64 KiB) of what is acknowledged already.
Every buffer may have :data:`REPLAY_BASE`; what they all have above that comes out of one :class:`ReplayBudget`.
"""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["PROCESS_BUDGET", "REPLAY_BASE", "REPLAY_BUDGET", "REPLAY_MAX", "ReplayBudget", "ReplayBuffer", "Shrink"]

REPLAY_BASE: Final = 256 * 1024
"""Bytes that every connection may have unacknowledged."""
REPLAY_MAX: Final = 4 * 1024 * 1024
"""Bytes that one connection's buffer may grow to, unless the endpoint's options say otherwise."""
REPLAY_BUDGET: Final = 64 * 1024 * 1024
"""Bytes that all buffers of a process may have together above :data:`REPLAY_BASE` each."""
QUICK: Final = 0.5
"""Seconds within which a whole buffer has to be acknowledged for more room to be of use. A reader that is slower than
that is the bound itself, not the buffer."""

_MERGE: Final = 16 * 1024
"""Smaller pieces are put together, so that a program that writes single bytes costs no object for each."""


class ReplayBudget:
    """Bytes that buffers share."""

    def __init__(self, limit: int = REPLAY_BUDGET) -> None:
        self.limit = limit
        self.used = 0

    def take(self, count: int) -> bool:
        """Whether there were ``count`` bytes left; they are taken now."""
        if self.used + count > self.limit:
            return False
        self.used += count
        return True

    def give(self, count: int) -> None:
        """Give back what was taken."""
        self.used -= count


PROCESS_BUDGET: Final = ReplayBudget()
"""What endpoints share that were not given a budget of their own."""


class ReplayBuffer:
    """Bytes ``start`` (acknowledged) to ``end`` (written) of one direction. Appending and trimming are O(1)."""

    __slots__ = (
        "_budget",
        "_chunks",
        "_first",
        "_limit",
        "_round_began",
        "_round_end",
        "_was_full",
        "base",
        "capacity",
        "end",
        "start",
    )

    def __init__(self, budget: ReplayBudget = PROCESS_BUDGET, limit: int = REPLAY_MAX) -> None:
        """:param limit: bytes that the buffer may grow to, also below :data:`REPLAY_BASE`."""
        self._budget = budget
        self._limit = limit
        self._chunks: deque[bytes | bytearray] = deque()
        self._first = 0
        """Offset of the first chunk's first byte."""
        self._was_full = False
        self._round_began = float("-inf")
        self._round_end = 0
        self.base = min(REPLAY_BASE, limit)
        self.capacity = self.base
        self.start = 0
        self.end = 0

    @property
    def held(self) -> int:
        """Bytes not yet acknowledged."""
        return self.end - self.start

    @property
    def room(self) -> int:
        """Bytes that may be appended now."""
        return max(0, self.capacity - self.end + self.start)

    @property
    def grown(self) -> bool:
        """Whether it has something of the budget."""
        return self.capacity > self.base

    def append(self, data: bytes) -> None:
        """Keep ``data``, at most :attr:`room` bytes of it were allowed."""
        if not data:
            return
        self.end += len(data)
        chunks = self._chunks
        if len(data) >= _MERGE:
            chunks.append(data)
        elif chunks and isinstance(last := chunks[-1], bytearray) and len(last) < _MERGE:
            last += data
        else:
            chunks.append(bytearray(data))

    def full(self) -> None:
        """More was to be written than there was room for: a reason to grow, if acknowledgements come quickly."""
        self._was_full = True

    def acknowledge(self, offset: int, now: float) -> None:
        """Let go of everything before ``offset``, which is between :attr:`start` and :attr:`end`."""
        self.start = offset
        chunks, first = self._chunks, self._first
        while chunks and first + len(chunks[0]) <= offset:
            first += len(chunks.popleft())
        self._first = first
        if offset >= self._round_end:
            # A whole buffer was acknowledged since the round began. If that was quick, and the writer had to wait
            # meanwhile, then the buffer is what holds it up.
            if self._was_full and now - self._round_began <= QUICK:
                self._grow()
            self._was_full = False
            self._round_began = now
            self._round_end = offset + self.capacity

    def piece(self, offset: int) -> bytes:
        """The bytes from ``offset`` to the end of their chunk; empty at :attr:`end`."""
        first = self._first
        for chunk in self._chunks:
            if offset < first + len(chunk):
                return bytes(chunk[offset - first :])
            first += len(chunk)
        return b""

    def shrink(self) -> None:
        """Give back to the budget what was taken of it; what is held stays until it is acknowledged."""
        self._budget.give(self.capacity - self.base)
        self.capacity = self.base

    def close(self) -> None:
        """Let go of everything."""
        self.shrink()
        self._chunks.clear()
        self._first = self.start = self.end

    def _grow(self) -> None:
        more = min(self.capacity, self._limit - self.capacity)
        if more > 0 and self._budget.take(more):
            self.capacity += more


class Shrink:
    """Gives the replay buffer's growth back after a while without use."""

    def __init__(self, replay: ReplayBuffer) -> None:
        self._replay = replay

    def on_deadline(self) -> None:
        """Nothing was held since."""
        if not self._replay.held:
            self._replay.shrink()
