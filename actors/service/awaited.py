"""Providers that consumers have asked to resume with and that aren't here: who hears when they are (R-4.7).

After a restart of the hub whoever is back first would otherwise have to ask again and again, or wait. Part of the
service's actor, as :mod:`spnhub.actors.service.resume` is.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import partial
from typing import Final

from spnhub.actors.contract.commands import SendPacket
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.packets import PeerHere
from spnhub.actors.kernel.environment import Decision, Environment
from spnhub.actors.service.registry import Identity, identity

__all__ = ["AWAITED_LIMIT", "AwaitedProviders"]

AWAITED_LIMIT: Final = 4096
"""The most pairs of an absent provider instance and a consumer's session that are remembered; the oldest are forgotten,
and those consumers find out by asking again."""


class AwaitedProviders:
    """The absent instances, and the consumers' sessions that have asked for each."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._pairs: OrderedDict[tuple[Identity, int], None] = OrderedDict()
        """In the order in which they were asked for first."""
        self._askers: dict[Identity, dict[int, None]] = {}
        self._wanted: dict[int, dict[Identity, None]] = {}

    def __len__(self) -> int:
        """The pairs."""
        return len(self._pairs)

    def add(self, consumer: int, instance: Identity) -> None:
        """A consumer's session has asked for an instance that isn't here."""
        if (instance, consumer) not in self._pairs:
            self._pairs[instance, consumer] = None
            self._askers.setdefault(instance, {})[consumer] = None
            self._wanted.setdefault(consumer, {})[instance] = None
            if len(self._pairs) > AWAITED_LIMIT:
                self._drop(*next(iter(self._pairs)))

    def provider_came(self, request: SessionRequested) -> None:
        """An instance has a session: those hear that have asked for it."""
        instance = identity(request)
        if instance is None:
            return
        for consumer in list(self._askers.get(instance, ())):
            self._drop(instance, consumer)
            self._env.work_queue.add(partial(self._report, consumer, request.spn_end_point, request.instance_id))

    def gone(self, consumer: int) -> None:
        """A session has ended: nothing is left to tell it."""
        for instance in list(self._wanted.get(consumer, ())):
            self._drop(instance, consumer)

    def _drop(self, instance: Identity, consumer: int) -> None:
        del self._pairs[instance, consumer]
        askers, wanted = self._askers[instance], self._wanted[consumer]
        del askers[consumer], wanted[instance]
        if not askers:
            del self._askers[instance]
        if not wanted:
            del self._wanted[consumer]

    def _report(self, consumer: int, peer: str, instance_id: str) -> None:
        self._env.carry_out(Decision(commands=(SendPacket(consumer, PeerHere(peer, instance_id)),)))
