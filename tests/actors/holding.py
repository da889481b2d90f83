"""What the actors themselves hold, in the terms of the log: hub, realms, services, sessions, connections.

Read from what each actor shows of itself, not from the state that they fold together, so that :func:`suspended` and
:func:`folded` come from different places. Both are for moments at which no actor has mail.
"""

from __future__ import annotations

from typing import Any

from spnhub.actors.connection.actor import ConnectionActor
from spnhub.actors.contract.inputs import SessionRequested
from spnhub.actors.contract.inventory import Table
from spnhub.actors.hub.actor import HubActor
from spnhub.actors.kernel.runtime import actor_of
from spnhub.actors.realm.actor import RealmActor
from spnhub.actors.service.actor import ServiceActor
from spnhub.actors.service.instance import ControllerPhase
from spnhub.actors.session.actor import SessionActor
from spnhub.actors.system import ActorSystem
from spnhub.events.state.definitions import InstancePhase
from spnhub.events.state.hub_state import HubState

__all__ = ["folded", "suspended"]


def suspended(system: ActorSystem) -> dict[str, Any]:
    """What the actors hold, by kind; the inventory only when nobody has still to hear of a new one."""
    env = system.environment
    found: dict[str, Any] = {
        "running": False,
        "instances": {},
        "sessions": {},
        "registry": {},
        "connections": {},
    }
    realms, definitions = set(), {}
    alive: dict[int, SessionRequested] = {}
    requests: dict[int, SessionRequested] = {}
    """As the services' actors know them: also those whose own actor has failed, until their legs have ended."""
    for actor in env.dispatcher.actors:
        match actor:
            case HubActor():
                found["running"] = actor.running
            case RealmActor():
                realms.add(actor.name)
            case ServiceActor():
                definitions[actor.key] = actor.definition
                _service(actor, found)
                requests |= actor.registry.sessions
            case SessionActor():
                alive[actor.request.session] = actor.request
            case ConnectionActor():
                _leg(actor, found)
    assert all(requests[session] is one for session, one in alive.items())
    for session, one in requests.items():
        legs = _started(env.directory.connections, env.directory.sessions[session].legs.values())
        found["sessions"][one.spn_session_id] = (*_request(one), legs)
    if not env.work_queue:  # else a new table is still being told, and logged, piece by piece (D-31)
        found |= _inventory(env.table)
        # A realm has an actor as soon as it has something to do.
        assert realms >= {realm for realm, network in env.table.networks.values() if network.services}
        assert {key: one for key, one in definitions.items() if one is not None} == env.table.services
    return found


def _realm(one: Any) -> tuple[Any, ...]:
    """Of a definition, and of what the log says of it."""
    return (
        one.expired_at,
        one.client_ca,
        one.max_sessions,
        one.max_connections,
        one.max_handshake_rate,
        one.max_event_rate,
        one.max_journal_rate,
        one.max_memory,
        one.max_bandwidth,
        one.max_handshakes,
    )


def _inventory(table: Table) -> dict[str, Any]:
    return {
        "realms": {one.name: _realm(one) for one in table.realms.values()},
        "networks": {
            one.urn: (realm, one.fqdn, one.address, one.certificate) for realm, one in table.networks.values()
        },
        "services": {
            one.urn: (
                key.network_urn,
                one.provider,
                tuple(sorted(one.consumers)),
                one.singleton,
                None if one.availability is None else one.availability.cluster_manager_urn,
            )
            for key, one in table.services.items()
        },
    }


def _service(actor: ServiceActor, found: dict[str, Any]) -> None:
    registry = actor.registry
    for session, request in registry.sessions.items():
        found["registry"][request.spn_session_id] = registry.choice.standing(session)
    instance, where = actor.instance, actor.key
    if instance.phase is ControllerPhase.STARTING and not instance.attempt:
        found["instances"][where.service_urn] = None  # until it is asked for, the log has the phase before
    elif instance.phase is not ControllerPhase.STOPPED and (
        instance.phase is not ControllerPhase.RUNNING or actor.definition is not None
    ):
        found["instances"][where.service_urn] = (where.network_urn, instance.phase.value)


def _request(one: Any) -> tuple[Any, ...]:
    return (
        one.realm,
        one.network_urn,
        one.spn_end_point,
        one.end_point_type,
        one.service_urn,
        one.instance_id,
    )


def _started(connections: Any, keys: Any) -> frozenset[str]:
    """The uids of the legs among these that the log knows."""
    found = set()
    for key in keys:
        actor = actor_of(connections[key].ref)
        if actor is not None and actor.leg.log_key is not None:
            found.add(actor.leg.log_key)
    return frozenset(found)


def _leg(actor: ConnectionActor, found: dict[str, Any]) -> None:
    leg, facts = actor.leg, actor.leg.facts
    if leg.log_key is not None:
        found["connections"][leg.log_key] = (
            facts.realm,
            facts.network_urn,
            facts.service_urn,
            facts.connection_uid,
            facts.epoch,
            leg.start,
        )


def folded(state: HubState, mine: dict[str, Any]) -> dict[str, Any]:
    """The same by the fold of the log. ``mine``: what is held; None there stays what it is."""
    definitions, weighed = state.definitions, mine["registry"]
    undecided = {urn: None for urn, one in mine["instances"].items() if one is None}
    legs: dict[str, set[Any]] = {name: set() for name in state.sessions}
    for key in state.connections:
        for side in (key.consumer_side_spn_session_id, key.provider_side_spn_session_id):
            legs[side].add(key)
    return {
        "running": state.run is not None and state.run.stopped_at is None,
        "realms": {name: _realm(one) for name, one in definitions.realms.items()},
        "networks": {
            urn: (one.realm, one.fqdn, one.address, one.certificate) for urn, one in definitions.networks.items()
        },
        "services": {
            urn: (one.network_urn, one.provider, one.consumers, one.singleton, one.cluster_manager_urn)
            for urn, one in definitions.services.items()
        },
        "instances": {
            urn: (one.network_urn, one.phase.value)
            for urn, one in definitions.instances.items()
            # One that could not be stopped outlives its service in the log only.
            if urn in definitions.services or one.phase is not InstancePhase.RUNNING
        }
        | undecided,
        "sessions": {name: (*_request(one), frozenset(legs[name])) for name, one in state.sessions.items()},
        "registry": {
            name: None if weighed.get(name) is None else (one.weight, one.suspect, one.failures)
            for name, one in state.sessions.items()
        },
        "connections": {
            key: (
                one.realm,
                one.network_urn,
                one.service_urn,
                one.connection_uid,
                one.epoch,
                (one.start_sent_offset, one.start_receive_offset),
            )
            for key, one in state.connections.items()
        },
    }
