"""The legs of one service: their actors, their entries in the directory, and the providers that they count for.

Part of the service's actor. :mod:`spnhub.actors.service.pending` and :mod:`spnhub.actors.service.resume` decide which
legs begin, and with which provider; :mod:`spnhub.actors.connection.actor` is the actor of each.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pykka import ActorRef

from spnhub.actors.connection import transitions
from spnhub.actors.connection.actor import ConnectionActor
from spnhub.actors.connection.resume_refusals import LegNames
from spnhub.actors.connection.state import Leg, LegFacts, LegPhase, ProviderChosen, Resume
from spnhub.actors.contract.inputs import ConnectionRequested, Key, ResumeRequested, SessionRequested
from spnhub.actors.contract.protocols import abilities
from spnhub.actors.kernel.environment import ConnectionEntry, Environment, release
from spnhub.actors.service.balancing import Choice
from spnhub.actors.service.registry import SessionRegistry
from spnhub.actors.service.resume import SuspendedConnections
from spnhub.events.model import ServiceEvent, shared

__all__ = ["Legs"]


class Legs:
    """Starts the actors of legs, and enters and removes them in the directory.

    :param ref: the service's actor, parent of all of them.
    :param last_gone: called with a session whose last leg was removed.
    """

    def __init__(
        self,
        env: Environment,
        ref: ActorRef[Any],
        registry: SessionRegistry,
        names: LegNames,
        suspended: SuspendedConnections,
        last_gone: Callable[[int], None],
    ) -> None:
        self._env = env
        self._ref = ref
        self._registry = registry
        self._names = names
        self._suspended = suspended
        self._last_gone = last_gone

    def open(self, consumer: SessionRequested, request: ConnectionRequested, choice: Choice) -> None:
        """Start a new connection with this provider."""
        leg = _leg(Key(consumer.session, request.stream), consumer, request)
        self._start(transitions.chosen(leg, self._chosen(choice)), choice)

    def wait(self, consumer: SessionRequested, request: ConnectionRequested) -> Key:
        """Start a new connection that waits for a provider."""
        key = Key(consumer.session, request.stream)
        self._start(_leg(key, consumer, request))
        self._env.directory.connections[key].waited = True
        return key

    def resume(self, consumer: SessionRequested, request: ResumeRequested, provider: SessionRequested) -> None:
        """Start a leg that resumes a connection, with the provider that has its other end (R-4.7)."""
        choice = Choice(provider.session)
        leg = transitions.chosen(_leg(request.key, consumer, request), self._chosen(choice))
        asked = Resume(request.received_offset, request.finished, request.code)
        self._start(leg._replace(phase=LegPhase.INVITING, resume=asked), choice)

    def offer(self, key: Key, choice: Choice) -> None:
        """Give a leg that is there this provider, which its actor then asks."""
        self._assign_provider(self._env.directory.connections[key], key, choice)
        self._env.directory.tell_connection(key, self._chosen(choice))

    def provider_left(self, key: Key) -> None:
        """Release the provider that didn't take an opening: the end of the leg there is logged now."""
        entry = self._env.directory.connections.get(key)
        if entry is not None and entry.left is not None:
            provider, entry.left = entry.left, None
            self._registry.choice.release(provider)
            self._remove_leg(provider, entry.name)

    def remove(self, key: Key, *, suspended: bool) -> None:
        """Remove a leg that has ended.

        :param suspended: the consumer was lost, and the provider keeps its end for a resume (D-26).
        """
        directory = self._env.directory
        entry = directory.connections.pop(key)
        identity = directory.sessions[key.session].identity
        release(directory.identity_connections, identity)
        release(directory.realm_connections, identity[0])
        self._env.pauses.gone(key)
        self._names.remove(*entry.name)
        sessions = [key.session]
        if entry.provider is not None:
            if entry.on_trial:
                self._registry.choice.untried(entry.provider)
            # The provider still keeps the connection of a consumer that was lost, and may have to go on with it: it
            # keeps counting in the provider's load, until SuspendedConnections releases it.
            if suspended and entry.provider in self._registry.choice:
                self._suspended.add(*entry.name, entry.provider)
            else:
                self._registry.choice.release(entry.provider)
            sessions.append(entry.provider)
        if entry.left is not None:
            self._registry.choice.release(entry.left)
            sessions.append(entry.left)
        for session in sessions:
            self._remove_leg(session, entry.name)

    def _remove_leg(self, session: int, name: tuple[str, int]) -> None:
        legs = self._env.directory.sessions[session].legs
        del legs[name]
        if not legs:
            self._last_gone(session)

    def _start(self, leg: Leg, choice: Choice | None = None) -> None:
        directory, key = self._env.directory, leg.facts.key
        name = (leg.facts.connection_uid, leg.facts.epoch)
        ref = self._env.dispatcher.start(ConnectionActor, self._env, self._ref, leg)
        entry = directory.connections[key] = ConnectionEntry(ref, None, name)
        self._names.add(*name, key)
        consumer = directory.sessions[key.session]
        consumer.legs[name] = key
        directory.identity_connections[consumer.identity] += 1
        directory.realm_connections[consumer.identity[0]] += 1
        if choice is not None:
            self._assign_provider(entry, key, choice)

    def _assign_provider(self, entry: ConnectionEntry, key: Key, choice: Choice) -> None:
        entry.provider = choice.session
        entry.asked += (choice.session,)
        entry.last_resorts += choice.last_resort
        entry.on_trial = choice.on_trial
        self._env.directory.sessions[choice.session].legs[entry.name] = key

    def _chosen(self, choice: Choice) -> ProviderChosen:
        request = self._registry.sessions[choice.session]
        can = abilities(request.protocol)
        return ProviderChosen(
            choice.session,
            request.spn_session_id,
            request.spn_end_point,
            request.instance_id,
            choice.on_trial,
            can.resumes,
            can.answers,
        )


def _leg(key: Key, consumer: SessionRequested, request: ConnectionRequested | ResumeRequested) -> Leg:
    can = abilities(consumer.protocol)
    facts = LegFacts(
        key=key,
        **shared(ServiceEvent, consumer),
        consumer_side_spn_session_id=consumer.spn_session_id,
        consumer_peer=consumer.spn_end_point,
        connection_uid=request.connection_uid,
        epoch=request.epoch,
        consumer_resumes=can.resumes,
        patient=not can.asks_again,
    )
    return Leg(facts, LegPhase.WAITING)
