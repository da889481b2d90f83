"""Looks whether the ports of silent peers are still open, before a keep-alive would find out (D-20). Sans-I/O.

A datagram of one byte, which QUIC ignores (its fixed bit is 0, RFC 9000 section 17.3), costs the peer next to nothing,
and a closed port answers it. Only where it proves something: where nobody translates addresses in between.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from spnhub.transport.aioquic_engine.link import Link
from spnhub.transport.engine import Transmit

__all__ = ["PortChecks"]

_ROUND: Final = 4
"""Steps in which each is looked at once."""
_VISITS: Final = 1024
_SENT: Final = 64
"""Connections seen, and datagrams sent, in one step at most. With more of them a round takes longer."""
_LOOK: Final = b"\0"


class PortChecks:
    """The connections of an engine whose peers have said that nobody translates (``Engine.set_translated``).

    :param interval: seconds of a round; 0: off.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._links: deque[Link] = deque()
        self._next = 0.0

    def add(self, link: Link, now: float) -> None:
        """From now on; each once."""
        if self._interval:
            if not self._links:
                self._next = now + self._interval / _ROUND
            self._links.append(link)

    def timer(self) -> float | None:
        """When :meth:`step` is due."""
        return self._next if self._links else None

    def step(self, now: float) -> list[Transmit]:
        """The next ones, as far as they are silent and have anything that would be missed."""
        sent: list[Transmit] = []
        links = self._links
        if not links or now < self._next:
            return sent
        self._next = now + self._interval / _ROUND
        for _ in range(min(-(-len(links) // _ROUND), _VISITS)):
            if len(sent) == _SENT:
                break
            link = links.popleft()
            if link.gone or link.closing or link.translated is not False:
                link.checked = False
                continue
            links.append(link)
            if link.is_silent(now, self._interval / 2):
                sent.append(Transmit(_LOOK, link.address, 0))
        return sent
