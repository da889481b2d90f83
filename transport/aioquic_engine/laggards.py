"""Connections whose datagrams cost more than others': these wait, so that others' don't. Sans-I/O.

A datagram of a usual connection has few frames; hundreds fit in, and each costs a step of Python. Whose packets have
many more in one batch has its further datagrams here, and each turn works a bounded number of frames off, round robin:
who sends such things waits behind its own, and what finds no place is lost, as in a full socket.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Final, NamedTuple

from spnhub.transport.aioquic_engine.handle import ConnectionHandle
from spnhub.transport.engine import Address

__all__ = ["AT_ONCE", "WAITING", "Laggards"]

AT_ONCE: Final = 512
"""Frames beyond the usual ones that a connection may have in one batch, and that a turn works off of all that wait."""
WAITING: Final = 256
"""Datagrams of one connection that wait."""
ALL_WAITING: Final = 4096
"""Datagrams of all connections that wait."""
PATIENCE: Final = 1.0
"""Seconds for which a connection is looked at like that after the last time."""


class Late(NamedTuple):
    """A datagram that waits."""

    data: bytes
    address: Address


class Laggards:
    """Who waits, with what."""

    def __init__(self) -> None:
        self._queues: OrderedDict[ConnectionHandle, deque[Late]] = OrderedDict()
        """In the order in which they are served."""
        self.watched: dict[ConnectionHandle, float] = {}
        """Who had unusual packets in this batch, or lately, and until when: whom :meth:`end_batch` sees to."""
        self._dropped = 0
        self.count = 0
        """Datagrams that wait."""

    def note(self, handle: ConnectionHandle, now: float) -> None:
        """A connection's packet had more frames than usual ones."""
        if handle.quic.extra_frames > AT_ONCE:
            handle.late = True
        self.watched[handle] = now + PATIENCE if handle.late else now

    def end_batch(self, now: float) -> None:
        """What comes from now on is another batch's."""
        for handle, until in list(self.watched.items()):
            handle.quic.extra_frames = 0
            if until <= now and handle not in self._queues:
                handle.late = False
                del self.watched[handle]

    def add(self, handle: ConnectionHandle, data: bytes, address: Address, now: float) -> bool:
        """Let a datagram wait, if there is a place. False: its connection need not wait any more."""
        queue = self._queues.get(handle)
        if queue is None and self.watched.get(handle, now) <= now:
            handle.late = False
            return False
        if self.count >= ALL_WAITING or (queue is not None and len(queue) >= WAITING):
            self._dropped += 1
            return True
        if queue is None:
            queue = self._queues[handle] = deque()
        queue.append(Late(data, address))
        self.count += 1
        return True

    def take(self) -> tuple[ConnectionHandle, Late]:
        """The next one; there must be one."""
        handle, queue = next(iter(self._queues.items()))
        late = queue.popleft()
        self.count -= 1
        if queue:
            self._queues.move_to_end(handle)
        else:
            del self._queues[handle]
        return handle, late

    def forget(self, handle: ConnectionHandle) -> None:
        """A connection is gone."""
        self.watched.pop(handle, None)
        self.count -= len(self._queues.pop(handle, ()))

    def take_dropped(self) -> int:
        """How many have found no place since the last call."""
        dropped, self._dropped = self._dropped, 0
        return dropped
