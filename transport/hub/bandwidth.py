"""How many bytes a second the connections of a realm and of a service carry: the engine's meters by name. Sans-I/O.

Bytes of both directions count together, as often as they are carried: also what a resume replays. What is beyond waits
in its stream's receive window, whose credit isn't renewed, and so at its sender; who waits takes turns.

What no splice of the engine carries (:mod:`spnhub.transport.hub.relays`) passes meters of the hub's own. While there
are such connections the two have parts of each bound, of which that one gets more where alone something waits.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, Generic, TypeVar

from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.actors.contract.inputs import LimitExceeded
from spnhub.transport.engine import Engine, Throttled
from spnhub.transport.meters import Meters

__all__ = ["Bandwidth"]

_REALM: Final = "realmBandwidth"
_SERVICE: Final = "serviceBandwidth"
_EVEN: Final = 4
_MOST: Final = 7
"""Eighths of a bound that one of the two has: both want more, or only it does."""
_LOOK: Final = 1.0
"""Seconds between two looks at that."""

_Waiter = TypeVar("_Waiter")


class Bandwidth(Generic[_Waiter]):
    """Of one hub process.

    :param engine: has the meters.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        numbers = itertools.count(1)
        self._numbers: defaultdict[str, int] = defaultdict(lambda: next(numbers))
        """Of meters, by realm and by service URN."""
        self._limits: dict[int, LimitExceeded] = {}
        """What is told when something waits at one."""
        self.relayed = Meters[_Waiter]()
        """Those that the hub itself spends from; none while it relays nothing that is bounded."""
        self._relays: Counter[int] = Counter()
        """How many relays pass a meter, bounded or not. None with 0."""
        self._parts: dict[int, int] = {}
        """Eighths of a bound that the engine has, where relays have the others."""
        self._waits: dict[int, set[bool]] = defaultdict(set)
        """Where something had to wait since the last look, by meter: True: in the engine."""
        self._freed: list[_Waiter] = []
        self._look_at = 0.0
        self._now = 0.0

    @property
    def any(self) -> bool:
        """Whether :meth:`pass_time` has something to do."""
        return self.relayed.any or bool(self._freed)

    def set_realms(self, realms: Iterable[RealmDefinition]) -> None:
        """Those of the inventory, from now on, also for what is open."""
        limits = {}
        for realm in realms:
            if realm.max_bandwidth is not None:
                limits[self._numbers[realm.name]] = LimitExceeded(_REALM, realm.max_bandwidth, 0, realm.name)
            for service in (service for network in realm.networks for service in network.services):
                if (bound := service.max_bandwidth) is not None:
                    told = LimitExceeded(_SERVICE, bound, 0, realm.name, service.urn)
                    limits[self._numbers[service.urn]] = told
        before, self._limits = self._limits, limits
        if limits or before:
            self._set()

    def _set(self) -> None:
        """Have both kinds of meters at their parts."""
        engine, relayed = {}, {}
        for number, limit in self._limits.items():
            bound = limit.bound or 0
            part = self._parts.setdefault(number, _EVEN) if self._relays[number] else 8
            engine[number] = bound * part // 8
            if part < 8:
                relayed[number] = bound - engine[number]
        self._parts = {number: part for number, part in self._parts.items() if number in relayed}
        self._engine.set_meters(engine)
        self._freed += self.relayed.set(relayed, self._now)

    def meters(self, realm: str, service_urn: str | None) -> tuple[int, ...]:
        """What the bytes of a connection pass, whether or not the inventory bounds them now."""
        numbers = self._numbers
        return (numbers[realm],) if service_urn is None else (numbers[realm], numbers[service_urn])

    def exceeded(self, event: Throttled, *, relayed: bool = False) -> LimitExceeded | None:
        """What to tell the actors; None: there is no bound any more."""
        limit = self._limits.get(event.meter)
        if limit is not None and event.meter in self._parts:
            self._waits[event.meter].add(not relayed)
        return None if limit is None else replace(limit, count=event.count)

    # ---- what the hub itself passes on -------------------------------------------------------------------------

    def begin_relay(self, meters: tuple[int, ...], now: float) -> None:
        """One more spends from :attr:`relayed`."""
        self._now = now
        new = [number for number in meters if not self._relays[number] and number in self._limits]
        self._relays.update(meters)
        if new:
            self._look_at = now + _LOOK
            self._set()

    def end_relay(self, meters: tuple[int, ...]) -> None:
        """One less."""
        self._relays.subtract(meters)
        over = [number for number in meters if not self._relays[number]]
        for number in over:
            del self._relays[number]
        if any(number in self._parts for number in over):
            self._set()

    def timer(self) -> float | None:
        """When :meth:`pass_time` wants to be called, while :attr:`any`."""
        if self._freed:
            return self._now
        due = self.relayed.timer()
        return self._look_at if due is None else min(due, self._look_at)

    def pass_time(self, now: float) -> list[_Waiter]:
        """Look at the parts; who need not wait at a meter any more."""
        self._now = now
        if now >= self._look_at:
            self._look_at = now + _LOOK
            parts = {number: self._part(number, part) for number, part in self._parts.items()}
            self._waits.clear()
            if parts != self._parts:
                self._parts = parts
                self._set()
        freed, self._freed = self._freed, []
        return freed

    def _part(self, number: int, part: int) -> int:
        waits = self._waits.get(number)
        if not waits:
            return part
        return _EVEN if len(waits) > 1 else _MOST if True in waits else 8 - _MOST

    def take_exceeded(self) -> list[LimitExceeded]:
        """What to tell the actors of :attr:`relayed`."""
        told = [self.exceeded(Throttled(number, count), relayed=True) for number, count in self.relayed.take_waits()]
        return [one for one in told if one is not None]
