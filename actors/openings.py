"""How the legs of one service begin, and those among them that wait for a provider (D-29).

Part of the service's actor, as :mod:`spnhub.actors.resuming` is. Counterpart: :mod:`spnhub.actors.connection`, the
actor of each leg.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pykka import ActorRef

from spnhub.actors import leg_rules
from spnhub.actors.codes import Code
from spnhub.actors.connection import ConnectionActor
from spnhub.actors.environment import ConnectionEntry, Environment
from spnhub.actors.inputs import ConnectionRequested, Key, ResumeRequested, SessionRequested
from spnhub.actors.leg import Leg, LegFacts, NoProvider, Phase, ProviderChosen, Resume, StartTrouble
from spnhub.actors.resumes import LegNames
from spnhub.actors.roster import Roster

__all__ = ["Openings"]


class Openings:
    """Starts the actors of legs and enters them in the directory; whoever removes them tells of it.

    :param ref: the service's actor, parent of all of them.
    """

    def __init__(self, env: Environment, ref: ActorRef[Any], roster: Roster, names: LegNames) -> None:
        self._env = env
        self._ref = ref
        self._roster = roster
        self._names = names
        self._waiting: dict[Key, None] = {}
        """Openings that wait for a provider, oldest first."""

    def __len__(self) -> int:
        """Openings that wait for a provider."""
        return len(self._waiting)

    def open(self, consumer: SessionRequested, request: ConnectionRequested, provider: int) -> None:
        """A new connection, with this provider's session."""
        leg = _leg(Key(consumer.session, request.stream), consumer, request)
        self._start(leg_rules.chosen(leg, self._chosen(provider)))

    def wait(self, consumer: SessionRequested, request: ConnectionRequested) -> None:
        """A new connection, with the provider that is still to come."""
        leg = _leg(Key(consumer.session, request.stream), consumer, request)
        self._waiting[leg.facts.key] = None
        self._start(leg)

    def resume(self, consumer: SessionRequested, request: ResumeRequested, provider: SessionRequested) -> None:
        """A connection that goes on, with the provider that holds its other end (R-4.7)."""
        leg = leg_rules.chosen(_leg(request.key, consumer, request), self._chosen(provider.session))
        asked = Resume(request.received_offset, request.finished, request.code)
        self._start(replace(leg, phase=Phase.INVITING, resume=asked))

    def serve(self) -> None:
        """Give those who wait to the providers that there are."""
        directory = self._env.directory
        while self._waiting:
            provider = self._roster.choice.acquire()
            if provider is None:
                return
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._hang_on(directory.connections[key], key, provider)
            directory.tell_connection(key, self._chosen(provider))

    def refuse(self, code: Code, reason: str) -> None:
        """All of them wait in vain."""
        waiting, self._waiting = self._waiting, {}
        for key in waiting:
            self._env.directory.tell_connection(key, NoProvider(code, reason))

    def trouble(self, reason: str) -> None:
        """The start that they wait for has failed, and is tried again."""
        for key in self._waiting:
            self._env.directory.tell_connection(key, StartTrouble(reason))

    def gone(self, key: Key) -> None:
        """This leg has ended; most don't wait any more."""
        self._waiting.pop(key, None)

    def _start(self, leg: Leg) -> None:
        directory, key = self._env.directory, leg.facts.key
        name = (leg.facts.connection_uid, leg.facts.epoch)
        ref = self._env.dispatcher.start(ConnectionActor, self._env, self._ref, leg)
        entry = directory.connections[key] = ConnectionEntry(ref, None, name)
        self._names.add(*name, key)
        directory.sessions[key.session].legs[name] = key
        if leg.facts.provider is not None:
            self._hang_on(entry, key, leg.facts.provider)

    def _hang_on(self, entry: ConnectionEntry, key: Key, provider: int) -> None:
        entry.provider = provider
        self._env.directory.sessions[provider].legs[entry.name] = key

    def _chosen(self, provider: int) -> ProviderChosen:
        request = self._roster.sessions[provider]
        return ProviderChosen(provider, request.spn_session_id, request.spn_end_point, request.instance_id)


def _leg(key: Key, consumer: SessionRequested, request: ConnectionRequested | ResumeRequested) -> Leg:
    facts = LegFacts(
        key=key,
        realm=consumer.realm,
        network_urn=consumer.network_urn,
        service_urn=consumer.service_urn,
        consumer_side_spn_session_id=consumer.spn_session_id,
        consumer_peer=consumer.spn_end_point,
        connection_uid=request.connection_uid,
        epoch=request.epoch,
    )
    return Leg(facts, Phase.WAITING)
