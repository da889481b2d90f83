"""How many bytes a second the connections of a realm and of a service carry: the engine's meters by name. Sans-I/O.

Bytes of both directions count together, as often as they are carried: also what a resume replays. What is beyond waits
in its stream's receive window, whose credit isn't renewed, and so at its sender; who waits takes turns.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from spnhub.actors.contract.definitions import RealmDefinition
from spnhub.actors.contract.inputs import LimitExceeded
from spnhub.transport.engine import Engine, Throttled

__all__ = ["Bandwidth"]

_REALM: Final = "realmBandwidth"
_SERVICE: Final = "serviceBandwidth"


class Bandwidth:
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
        if limits or self._limits:
            self._engine.set_meters({number: limit.bound or 0 for number, limit in limits.items()})
        self._limits = limits

    def meters(self, realm: str, service_urn: str | None) -> tuple[int, ...]:
        """What the bytes of a connection pass, whether or not the inventory bounds them now."""
        numbers = self._numbers
        return (numbers[realm],) if service_urn is None else (numbers[realm], numbers[service_urn])

    def exceeded(self, event: Throttled) -> LimitExceeded | None:
        """What to tell the actors; None: there is no bound any more."""
        limit = self._limits.get(event.meter)
        return None if limit is None else replace(limit, count=event.count)
