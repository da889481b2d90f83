"""Which provider gets the next connection (D-26, D-35): the least (n + 1) / w; ties: larger weight, then older session.

A provider that failed is passed over, for 1 s at first and for twice as long each time, up to 30 s. Then it is chosen
like any other, but on trial: for one opening at a time, until it has taken one. When nobody else is left to ask,
nothing is gained by passing over: then the one is asked whose failure is the longest ago, so that those that are back
are found soon. So a lone provider, whose server is back, has its next opening at once.

A heap whose entries are left in place when they become wrong and dropped when they come to the top, so that every
operation costs O(log n). Pure data; the service actor owns one.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Choice", "ProviderChoice"]


@dataclass(slots=True)
class _Provider:
    order: int
    weight: int
    legs: int = 0
    unresponsive: bool = False
    failures: int = 0
    """In a row."""
    until: float = 0.0
    """Until when it is passed over."""
    resting: bool = False
    """It is passed over."""
    tried: bool = False
    """It is on trial, and an opening is with it."""
    version: int = 0

    @property
    def available(self) -> bool:
        """Whether it may be chosen, if only for want of another."""
        return self.weight > 0 and not self.unresponsive


class Choice(NamedTuple):
    """Who was chosen."""

    session: int
    on_trial: bool = False
    """It has failed, and has taken no opening since: the service wants to hear what becomes of this one."""
    last_resort: bool = False
    """It is passed over, but nobody else is left."""


class ProviderChoice:
    """The providers of one service and how many legs each has, connecting and held ones included.

    Weights are at least 0; with 0 a provider is never chosen. A suspect one is not either, until it answers (D-20).

    :param base: seconds for which a provider is passed over that fails for the first time.
    :param limit: seconds for which one is passed over at most.
    """

    def __init__(self, base: float = 1.0, limit: float = 30.0) -> None:
        self._base = base
        self._limit = limit
        self._providers: dict[int, _Provider] = {}
        self._heap: list[tuple[float, int, int, int, int]] = []
        self._resting: list[tuple[float, int]] = []
        """When those who are passed over may be tried, and who; some entries are out of date."""
        self._failed: dict[int, None] = {}
        """Who has failed, the longest ago first."""
        self._orders = itertools.count()

    def __len__(self) -> int:
        return len(self._providers)

    def __contains__(self, session: int) -> bool:
        return session in self._providers

    def __iter__(self) -> Iterator[int]:
        return iter(self._providers)

    def add(
        self,
        session: int,
        weight: int,
        legs: int = 0,
        *,
        unresponsive: bool = False,
        failures: int = 0,
        until: float = 0.0,
    ) -> None:
        """A provider has come, or has come back with what is known of it; it is younger than all others."""
        provider = _Provider(next(self._orders), weight, legs, unresponsive, failures, until, resting=failures > 0)
        self._providers[session] = provider
        if failures:
            self._failed[session] = None
            heapq.heappush(self._resting, (until, session))
        self._push(session, provider)

    def remove(self, session: int) -> None:
        """A provider has gone; unknown ones are ignored."""
        self._providers.pop(session, None)
        self._failed.pop(session, None)
        self._compact()

    def set_weight(self, session: int, weight: int) -> None:
        """Its share from now on (R-5.3)."""
        if provider := self._providers.get(session):
            provider.weight = weight
            self._push(session, provider)

    def set_unresponsive(self, session: int, unresponsive: bool) -> None:
        """Out of the choice, or in again (D-20)."""
        if provider := self._providers.get(session):
            provider.unresponsive = unresponsive
            self._push(session, provider)

    def acquire(
        self, now: float, without: Collection[int] = (), *, last_resort: bool = True, trial: bool = True
    ) -> Choice | None:
        """Choose a provider and count a leg for it; None: there is none to choose.

        :param now: monotonic seconds.
        :param without: sessions that are not to be chosen.
        :param last_resort: whether it may be one that is passed over, for want of another.
        :param trial: whether it may be one that has failed and is due to be tried.
        """
        self._wake(now)
        chosen = self._best(without, trial=trial)
        if chosen is None and last_resort:
            chosen = self._oldest_failure(without)
        if chosen is not None:
            provider = self._providers[chosen.session]
            provider.legs += 1
            if chosen.on_trial and not chosen.last_resort:
                provider.tried = True
            self._push(chosen.session, provider)
        return chosen

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

    def fail(self, session: int, now: float) -> tuple[int, float] | None:
        """A provider didn't take an opening (D-35): it is passed over from now on.

        :returns: how many times in a row it has failed, and for how many seconds it is passed over; None: it is passed
            over already, or is unknown.
        """
        provider = self._providers.get(session)
        if provider is None:
            return None
        self._failed.pop(session, None)
        self._failed[session] = None
        if provider.resting and now < provider.until:
            return None
        seconds = min(self._base * 2.0 ** min(provider.failures, 32), self._limit)
        provider.failures += 1
        provider.until = now + seconds
        provider.resting, provider.tried = True, False
        heapq.heappush(self._resting, (provider.until, session))
        self._push(session, provider)
        return provider.failures, seconds

    def succeed(self, session: int) -> bool:
        """A provider has taken an opening; whether that is news, since it had failed."""
        provider = self._providers.get(session)
        if provider is None or not provider.failures:
            return False
        del self._failed[session]
        provider.failures, provider.resting, provider.tried = 0, False, False
        self._push(session, provider)
        return True

    def untried(self, session: int) -> None:
        """What was with a provider on trial has ended without a verdict; unknown ones are ignored."""
        provider = self._providers.get(session)
        if provider is not None and provider.tried:
            provider.tried = False
            self._push(session, provider)

    def legs(self, session: int) -> int:
        """Legs counted for a provider; 0 for an unknown one."""
        provider = self._providers.get(session)
        return 0 if provider is None else provider.legs

    def _wake(self, now: float) -> None:
        """Those whose time has come may be tried."""
        while self._resting and self._resting[0][0] <= now:
            until, session = heapq.heappop(self._resting)
            provider = self._providers.get(session)
            if provider is not None and provider.resting and provider.until == until:
                provider.resting = False
                self._push(session, provider)

    def _best(self, without: Collection[int], *, trial: bool) -> Choice | None:
        """The least loaded of those who are not passed over."""
        aside = []
        found = None
        while self._heap and found is None:
            entry = self._heap[0]
            if self._valid(entry):
                session = entry[4]
                on_trial = self._providers[session].failures > 0
                if session not in without and (trial or not on_trial):
                    found = Choice(session, on_trial)
                    break
                aside.append(entry)
            heapq.heappop(self._heap)
        for entry in aside:
            heapq.heappush(self._heap, entry)
        return found

    def _oldest_failure(self, without: Collection[int]) -> Choice | None:
        for session in self._failed:
            if session not in without and self._providers[session].available:
                return Choice(session, on_trial=True, last_resort=True)
        return None

    def _push(self, session: int, provider: _Provider) -> None:
        provider.version += 1
        if provider.available and not provider.resting and not provider.tried:
            load = (provider.legs + 1) / provider.weight
            heapq.heappush(self._heap, (load, -provider.weight, provider.order, provider.version, session))
        self._compact()

    def _compact(self) -> None:
        room = 2 * len(self._providers) + 64
        if len(self._heap) > room:
            self._heap = [entry for entry in self._heap if self._valid(entry)]
            heapq.heapify(self._heap)
        if len(self._resting) > room:
            self._resting = [(one.until, session) for session, one in self._providers.items() if one.resting]
            heapq.heapify(self._resting)

    def _valid(self, entry: tuple[float, int, int, int, int]) -> bool:
        provider = self._providers.get(entry[4])
        return provider is not None and provider.version == entry[3]
