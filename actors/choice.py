"""Which provider gets the next connection (D-26): the least (n + 1) / w; ties: larger weight, then older session.

A heap whose entries are left in place when they become wrong and dropped when they come to the top, so that every
operation costs O(log n). Pure data; the service actor owns one.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["ProviderChoice"]


@dataclass(slots=True)
class _Provider:
    order: int
    weight: int
    legs: int = 0
    suspect: bool = False
    version: int = 0


class ProviderChoice:
    """The providers of one service and how many legs each has, connecting and held ones included.

    Weights are at least 0; with 0 a provider is never chosen. A suspect one is not either, until it answers (D-20).
    """

    def __init__(self) -> None:
        self._providers: dict[int, _Provider] = {}
        self._heap: list[tuple[float, int, int, int, int]] = []
        self._orders = itertools.count()

    def __len__(self) -> int:
        return len(self._providers)

    def __contains__(self, session: int) -> bool:
        return session in self._providers

    def __iter__(self) -> Iterator[int]:
        return iter(self._providers)

    def add(self, session: int, weight: int, legs: int = 0) -> None:
        """A provider has come; it is younger than all others."""
        self._providers[session] = provider = _Provider(next(self._orders), weight, legs)
        self._push(session, provider)

    def remove(self, session: int) -> None:
        """A provider has gone; unknown ones are ignored."""
        self._providers.pop(session, None)
        self._compact()

    def set_weight(self, session: int, weight: int) -> None:
        """Its share from now on (R-5.3)."""
        if provider := self._providers.get(session):
            provider.weight = weight
            self._push(session, provider)

    def set_suspect(self, session: int, suspect: bool) -> None:
        """Out of the choice, or in again (D-20)."""
        if provider := self._providers.get(session):
            provider.suspect = suspect
            self._push(session, provider)

    def acquire(self) -> int | None:
        """Choose a provider and count a leg for it; None: there is none to choose."""
        while self._heap:
            _, _, _, version, session = self._heap[0]
            provider = self._providers.get(session)
            if provider is not None and provider.version == version:
                provider.legs += 1
                self._push(session, provider)
                return session
            heapq.heappop(self._heap)
        return None

    def charge(self, session: int) -> None:
        """Count a leg for this provider, which nobody chose; unknown ones are ignored."""
        if provider := self._providers.get(session):
            provider.legs += 1
            self._push(session, provider)

    def release(self, session: int) -> None:
        """A leg of this provider has ended; unknown ones are ignored."""
        if provider := self._providers.get(session):
            provider.legs -= 1
            self._push(session, provider)

    def legs(self, session: int) -> int:
        """Legs counted for a provider; 0 for an unknown one."""
        provider = self._providers.get(session)
        return 0 if provider is None else provider.legs

    def _push(self, session: int, provider: _Provider) -> None:
        provider.version += 1
        if provider.weight > 0 and not provider.suspect:
            load = (provider.legs + 1) / provider.weight
            heapq.heappush(self._heap, (load, -provider.weight, provider.order, provider.version, session))
        self._compact()

    def _compact(self) -> None:
        if len(self._heap) > 2 * len(self._providers) + 64:
            self._heap = [entry for entry in self._heap if self._valid(entry)]
            heapq.heapify(self._heap)

    def _valid(self, entry: tuple[float, int, int, int, int]) -> bool:
        provider = self._providers.get(entry[4])
        return provider is not None and provider.version == entry[3]
