"""Checks whether the ports of silent peers are still open, before a keep-alive would find out (D-20). Sans-I/O.

A datagram of one byte, which QUIC ignores (its fixed bit is 0, RFC 9000 section 17.3), costs the peer next to nothing,
and a closed port answers it. Only where the answer proves something: where no address is translated in between.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from spnhub.transport.aioquic_engine.handle import ConnectionHandle
from spnhub.transport.engine import Transmit

__all__ = ["PortChecks"]

_ROUND: Final = 4
"""Steps in which each is looked at once."""
_VISITS: Final = 1024
_SENT: Final = 64
"""Connections seen, and datagrams sent, in one step at most. With more of them a round takes longer."""
_PROBE: Final = b"\0"


class PortChecks:
    """The connections of an engine whose peers have reported that there is no translator (``Engine.set_translated``).

    :param interval: seconds of a round; 0: off.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._handles: deque[ConnectionHandle] = deque()
        self._next = 0.0

    def add(self, handle: ConnectionHandle, now: float) -> None:
        """From now on; each once."""
        if self._interval:
            if not self._handles:
                self._next = now + self._interval / _ROUND
            self._handles.append(handle)

    def timer(self) -> float | None:
        """When :meth:`step` is due."""
        return self._next if self._handles else None

    def step(self, now: float) -> list[Transmit]:
        """The next ones, as far as they are silent and have anything that would be missed."""
        sent: list[Transmit] = []
        handles = self._handles
        if not handles or now < self._next:
            return sent
        self._next = now + self._interval / _ROUND
        for _ in range(min(-(-len(handles) // _ROUND), _VISITS)):
            if len(sent) == _SENT:
                break
            handle = handles.popleft()
            if handle.gone or handle.closing or handle.translated is not False:
                handle.checked = False
                continue
            handles.append(handle)
            if handle.is_silent(now, self._interval / 2):
                sent.append(Transmit(_PROBE, handle.address, 0))
        return sent
