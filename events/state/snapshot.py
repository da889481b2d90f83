"""What is open and defined, as events: the head of a segment, so that older segments can go (D-8).

A snapshot is made in slices, among the events of the day: each record says how things are at its own place in the log,
so that whoever folds from SnapshotStarted to SnapshotEnded holds what who has read everything holds. Counterpart:
:class:`spnhub.events.state.hub_state.HubState` folds these events, :class:`spnhub.events.journal.journal.Journal`
writes them.
"""

from __future__ import annotations

from collections.abc import Iterator

from spnhub.events.model import (
    ConnectionSnapshot,
    Event,
    InstanceSnapshot,
    NetworkSnapshot,
    RealmSnapshot,
    ServiceSnapshot,
    SessionSnapshot,
    SnapshotEnded,
)
from spnhub.events.state.definitions import DefinitionState, InstanceState, NetworkState, RealmState
from spnhub.events.state.entities import OpenConnection, OpenSession, leg_fields
from spnhub.events.state.hub_state import HubState

__all__ = ["snapshot"]


def snapshot(state: HubState) -> Iterator[Event]:
    """The events, the first and the last of a snapshot included, each made of ``state`` when it is asked for.

    Each must be recorded and folded into ``state`` before the next is asked for; other events may come in between.
    What begins after the first doesn't come in it: its own event is in the log behind. Only names are held.
    """
    yield state.snapshot_head()
    names, sessions, connections = sorted(state.definitions.names()), list(state.sessions), list(state.connections)
    entries = 0
    for name in names:
        if (definition := state.definitions.get(name)) is not None:
            entries += 1
            yield _definition(definition)
    for session_id in sessions:
        if (session := state.sessions.get(session_id)) is not None:
            entries += 1
            yield _session(session)
    for key in connections:
        if (leg := state.connections.get(key)) is not None:
            entries += 1
            yield _connection(leg)
    yield SnapshotEnded(realm=None, network_urn=None, entries=entries)


def _definition(found: DefinitionState) -> Event:
    match found:
        case RealmState():
            return RealmSnapshot(
                realm=found.name,
                network_urn=None,
                expired_at=found.expired_at,
                client_ca=found.client_ca,
                max_sessions=found.max_sessions,
            )
        case NetworkState():
            return NetworkSnapshot(
                realm=found.realm,
                network_urn=found.urn,
                fqdn=found.fqdn,
                address=found.address,
                certificate=found.certificate,
            )
        case InstanceState():
            return InstanceSnapshot(
                realm=found.realm,
                network_urn=found.network_urn,
                service_urn=found.service_urn,
                phase=found.phase,
                since=found.since,
            )
        case _:
            return ServiceSnapshot(
                realm=found.realm,
                network_urn=found.network_urn,
                service_urn=found.urn,
                provider=found.provider,
                consumers=found.consumers,
                singleton=found.singleton,
                cluster_manager_urn=found.cluster_manager_urn,
                service_id=found.service_id,
                start_on_load=found.start_on_load,
                start_on_consumer=found.start_on_consumer,
                start_on_payload=found.start_on_payload,
                idle_timeout=found.idle_timeout,
                start_at=found.start_at,
                stop_at=found.stop_at,
            )


def _session(session: OpenSession) -> Event:
    return SessionSnapshot(
        realm=session.realm,
        network_urn=session.network_urn,
        spn_session_id=session.spn_session_id,
        spn_end_point=session.spn_end_point,
        end_point_type=session.end_point_type,
        service_urn=session.service_urn,
        instance_id=session.instance_id,
        weight=session.weight,
        start_at=session.start_at,
        total_connection_count=session.total_connection_count,
        suspect=session.suspect,
        failures=session.failures,
        passed_over_until=session.passed_over_until,
        weight_reason=session.weight_reason,
    )


def _connection(leg: OpenConnection) -> Event:
    return ConnectionSnapshot(
        **leg_fields(leg),
        start_sent_offset=leg.start_sent_offset,
        start_receive_offset=leg.start_receive_offset,
        start_at=leg.start_at,
        total_sent_bytes=leg.total_sent_bytes,
        total_receive_bytes=leg.total_receive_bytes,
    )
