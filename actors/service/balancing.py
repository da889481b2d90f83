"""Which provider gets the next connection (D-26, D-35): the least (n + 1) / w; ties: larger weight, then older session.

A provider that failed is passed over, for 1 s at first and for twice as long each time, up to 30 s. Then it is chosen
like any other, but on trial: for one opening at a time, until it has taken one. When no other provider is left to ask,
nothing is gained by passing over: then the provider whose failure is the longest ago is asked, so that those that work
again are found soon. So the only provider of a service gets the next opening at once, as soon as its server is back.

The choice is a heap. An entry that has become wrong stays in it and is dropped when it comes to the top, so that every
operation costs O(log n). Pure data; the service actor owns one.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Collection, Iterator
from typing import NamedTuple

from spnhub.backoff import doubled
from spnhub.dataclass import dataclass

__all__ = ["Choice", "ProviderChoice"]


@dataclass(slots=True)
class _Provider:
    order: int
    """Of arrival: the older provider wins a tie."""
    weight: int
    legs: int = 0
    unresponsive: bool = False
    failures: int = 0
    """How many openings in a row it has failed at."""
    until: float = 0.0
    """Monotonic seconds: until when it is passed over."""
    resting: bool = False
    """It is passed over."""
    tried: bool = False
    """It is on trial, and has the one opening that it may have."""
    version: int = 0
    """Raised by each change; a heap entry with a lower one is out of date."""

    @property
    def available(self) -> bool:
        """Whether it may be chosen, if only because there is no other."""
        return self.weight > 0 and not self.unresponsive


class Choice(NamedTuple):
    """The provider that was chosen."""

    session: int
    on_trial: bool = False
    """It has failed, and has taken no opening since: the connection reports whether it takes this one."""
    last_resort: bool = False
    """It is passed over, but no other provider is left."""


class ProviderChoice:
    """The providers of one service and how many legs each has, connecting and suspended ones included.

    Weights are at least 0; with 0 a provider is never chosen. Nor is an unresponsive one, until it answers (D-20).

    :param base: seconds for which a provider is passed over that fails for the first time.
    :param limit: seconds for which one is passed over at most.
    """

    def __init__(self, base: float = 1.0, limit: float = 30.0) -> None:
        self._base = base
        self._limit = limit
        self._providers: dict[int, _Provider] = {}
        self._heap: list[tuple[float, int, int, int, int]] = []
        self._resting: list[tuple[float, int]] = []
        """A heap: when a provider that is passed over may be tried, and its session; some entries are out of date."""
        self._failed: dict[int, None] = {}
        """Providers that have failed, the longest ago first."""
        self._orders = itertools.count()

    def __len__(self) -> int:
        return len(self._providers)

    def __contains__(self, session: int) -> bool:
        return session in self._providers

    def __iter__(self) -> Iterator[int]:
        return iter(self._providers)

    def standing(self, session: int) -> tuple[int, bool, int] | None:
        """A provider's weight, whether it is unresponsive, and its failures in a row; None: there is no such one."""
        provider = self._providers.get(session)
        return None if provider is None else (provider.weight, provider.unresponsive, provider.failures)

    def counts(self) -> dict[str, int]:
        """How many entries each list has, with those out of date; ``failed`` has none of these."""
        return {"heap": len(self._heap), "resting": len(self._resting), "failed": len(self._failed)}

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
        """Add a provider that has come, or that has come back with its failures; it is the youngest."""
        provider = _Provider(next(self._orders), weight, legs, unresponsive, failures, until, resting=failures > 0)
        self._providers[session] = provider
        if failures:
            self._failed[session] = None
            heapq.heappush(self._resting, (until, session))
        self._push(session, provider)

    def remove(self, session: int) -> None:
        """Remove a provider; an unknown one is ignored."""
        self._providers.pop(session, None)
        self._failed.pop(session, None)
        self._compact()

    def set_weight(self, session: int, weight: int) -> None:
        """Set a provider's share from now on (R-5.3)."""
        if provider := self._providers.get(session):
            provider.weight = weight
            self._push(session, provider)

    def set_unresponsive(self, session: int, unresponsive: bool) -> None:
        """Take a provider out of the choice, or put it back (D-20)."""
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
        """Count a leg for a provider that wasn't chosen here, as that of a resume; an unknown one is ignored."""
        if provider := self._providers.get(session):
            provider.legs += 1
            self._push(session, provider)

    def release(self, session: int) -> None:
        """Count one leg of this provider less; an unknown one is ignored."""
        if provider := self._providers.get(session):
            provider.legs -= 1
            self._push(session, provider)

    def fail(self, session: int, now: float) -> tuple[int, float] | None:
        """Pass a provider over from now on, since it didn't take an opening (D-35).

        :returns: how many times in a row it has failed, and for how many seconds it is passed over; None: it is passed
            over already, or is unknown.
        """
        provider = self._providers.get(session)
        if provider is None:
            return None
        self._failed.pop(session, None)
        self._failed[session] = None
        # Several openings may be with it when it fails, say a hundred while its server restarts. They are one failure:
        # otherwise it would be passed over for the longest time at once.
        if provider.resting and now < provider.until:
            return None
        seconds = doubled(self._base, self._limit, provider.failures)
        provider.failures += 1
        provider.until = now + seconds
        provider.resting, provider.tried = True, False
        heapq.heappush(self._resting, (provider.until, session))
        self._push(session, provider)
        return provider.failures, seconds

    def succeed(self, session: int) -> bool:
        """Note that a provider has taken an opening.

        :returns: whether it had failed before, and so has recovered.
        """
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
        """Put the providers back on the heap that are not to be passed over any longer."""
        while self._resting and self._resting[0][0] <= now:
            until, session = heapq.heappop(self._resting)
            provider = self._providers.get(session)
            if provider is not None and provider.resting and provider.until == until:
                provider.resting = False
                self._push(session, provider)

    def _best(self, without: Collection[int], *, trial: bool) -> Choice | None:
        """The least loaded provider of those that are not passed over; its entry stays in the heap."""
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
                # Right, but not for this opening.
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
        # Entries of before are wrong from now on, and stay in the heap until they come to its top: to look for them
        # would cost a pass over all providers for each leg.
        provider.version += 1
        if provider.available and not provider.resting and not provider.tried:
            # With the leg that it would get, so that weights count among idle providers, too.
            load = (provider.legs + 1) / provider.weight
            heapq.heappush(self._heap, (load, -provider.weight, provider.order, provider.version, session))
        self._compact()

    def _compact(self) -> None:
        # Each change adds an entry, and wrong ones deep in the heap may never come to the top: a provider whose load
        # goes up and down leaves one each time.
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
