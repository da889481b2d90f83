"""Events to test with: one of each class, and a short day in the life of a hub."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

from spnhub.events.journal.journal import Journal
from spnhub.events.journal.options import JournalOptions
from spnhub.events.model import (
    ConnectionEnded,
    ConnectionFinished,
    ConnectionLost,
    ConnectionPaused,
    ConnectionProgress,
    ConnectionRefused,
    ConnectionResumed,
    ConnectionSnapshot,
    ConnectionStarted,
    DisconnectReason,
    EndPointType,
    Event,
    EventsLost,
    EventsTrimmed,
    HubAlive,
    HubStarted,
    HubStopped,
    InstancePhase,
    InstanceSnapshot,
    InventoryLoaded,
    InventoryRejected,
    JournalStalled,
    LimitReached,
    NetworkAdded,
    NetworkChanged,
    NetworkRemoved,
    NetworkSnapshot,
    ProviderAnswered,
    ProviderFailed,
    ProviderRecovered,
    ProviderSilent,
    RealmAdded,
    RealmChanged,
    RealmRemoved,
    RealmSnapshot,
    Recorded,
    ResumeRefused,
    ServiceAdded,
    ServiceChanged,
    ServiceRemoved,
    ServiceSnapshot,
    ServiceStarted,
    ServiceStartFailed,
    ServiceStartRequested,
    ServiceStopFailed,
    ServiceStopped,
    ServiceStopRequested,
    SessionEnded,
    SessionRefused,
    SessionSnapshot,
    SessionStarted,
    SnapshotEnded,
    SnapshotStarted,
    TerminateReason,
    WeightChanged,
)

JOURNAL_ID = UUID("6a1f3c52-0d0e-4c3e-9b61-5f6a7b8c9d0e")
NOON = 1_767_355_200_000_000
"""2026-01-02T12:00:00Z in microseconds."""
SERVICE = "urn:chip-in:service:acme:main:web"
NETWORK = "urn:chip-in:network:acme:main"


def session_started(name: str, role: EndPointType = EndPointType.CONSUMER) -> SessionStarted:
    return SessionStarted(
        realm="acme",
        network_urn=NETWORK,
        spn_session_id=name,
        spn_end_point=f"CN={name},O=Acme",
        end_point_type=role,
        service_urn=SERVICE,
        instance_id=f"{name}-instance",
        protocol="spn/1",
        remote_address="192.0.2.7:4711",
    )


def session_ended(
    name: str, role: EndPointType = EndPointType.CONSUMER, *, count: int = 0, elapsed: float = 1.0
) -> SessionEnded:
    return SessionEnded(
        realm="acme",
        network_urn=NETWORK,
        spn_session_id=name,
        spn_end_point=f"CN={name},O=Acme",
        end_point_type=role,
        service_urn=SERVICE,
        total_connection_count=count,
        elapsed_time=elapsed,
        terminate_reason=TerminateReason.TERMINATED_BY_PEER,
        code=0,
    )


def leg_fields(
    uid: str = "ab" * 16, ident: str = "4-1", consumer: str = "c1", provider: str = "p1", epoch: int = 0
) -> dict[str, Any]:
    return {
        "realm": "acme",
        "network_urn": NETWORK,
        "spn_connection_id": ident,
        "consumer_side_spn_session_id": consumer,
        "provider_side_spn_session_id": provider,
        "service_urn": SERVICE,
        "connection_uid": uid,
        "epoch": epoch,
    }


def connection_started(
    uid: str = "ab" * 16,
    *,
    ident: str = "4-1",
    consumer: str = "c1",
    provider: str = "p1",
    epoch: int = 0,
    start: tuple[int, int] = (0, 0),
) -> ConnectionStarted:
    return ConnectionStarted(
        **leg_fields(uid, ident, consumer, provider, epoch),
        start_sent_offset=start[0],
        start_receive_offset=start[1],
    )


def connection_ended(
    uid: str = "ab" * 16,
    *,
    ident: str = "4-1",
    consumer: str = "c1",
    provider: str = "p1",
    epoch: int = 0,
    start: tuple[int, int] = (0, 0),
    total: tuple[int, int] = (100, 2000),
    elapsed: float = 0.5,
    reason: DisconnectReason = DisconnectReason.CLOSED_BY_PEER,
    suspended: bool = False,
    told: tuple[int, int] = (0, 0),
    rejected: bool = False,
) -> ConnectionEnded:
    """``told``: by progress events before."""
    return ConnectionEnded(
        **leg_fields(uid, ident, consumer, provider, epoch),
        start_sent_offset=start[0],
        start_receive_offset=start[1],
        total_sent_bytes=total[0],
        total_receive_bytes=total[1],
        delta_sent_bytes=total[0] - told[0],
        delta_receive_bytes=total[1] - told[1],
        elapsed_time=elapsed,
        disconnect_reason=reason,
        suspended=suspended,
        rejected=rejected,
    )


def connection_finished(
    uid: str = "ab" * 16, *, epoch: int = 1, at: tuple[int, int] = (100, 2000)
) -> ConnectionFinished:
    """Both ends say that it has ended in order."""
    return ConnectionFinished(
        realm="acme",
        network_urn=NETWORK,
        consumer_side_spn_session_id="c1",
        provider_side_spn_session_id="p1",
        service_urn=SERVICE,
        connection_uid=uid,
        epoch=epoch,
        sent_offset=at[0],
        receive_offset=at[1],
    )


def connection_progress(
    uid: str = "ab" * 16,
    *,
    ident: str = "4-1",
    consumer: str = "c1",
    provider: str = "p1",
    epoch: int = 0,
    start: tuple[int, int] = (0, 0),
    total: tuple[int, int] = (60, 1500),
    delta: tuple[int, int] | None = None,
    elapsed: float = 0.25,
) -> ConnectionProgress:
    """``delta``: as many as ``total``."""
    sent, receive = total if delta is None else delta
    return ConnectionProgress(
        **leg_fields(uid, ident, consumer, provider, epoch),
        start_sent_offset=start[0],
        start_receive_offset=start[1],
        total_sent_bytes=total[0],
        total_receive_bytes=total[1],
        delta_sent_bytes=sent,
        delta_receive_bytes=receive,
        elapsed_time=elapsed,
    )


def session_refused() -> SessionRefused:
    return SessionRefused(
        realm=None,
        network_urn=None,
        server_name="hub.acme.example",
        remote_address="198.51.100.9:999",
        alert=48,
        reason="unknown certificate authority",
        count=3,
    )


def connection_paused(uid: str = "ab" * 16, *, planned: bool, end: tuple[int, int] = (100, 2000)) -> ConnectionPaused:
    return ConnectionPaused(
        **leg_fields(uid),
        sent_offset=end[0],
        receive_offset=end[1],
        planned=planned,
    )


def connection_refused(consumer: str = "c1") -> ConnectionRefused:
    return ConnectionRefused(
        realm="acme",
        network_urn=NETWORK,
        consumer_side_spn_session_id=consumer,
        service_urn=SERVICE,
        connection_uid="cd" * 16,
        code=18,
        reason="no provider",
    )


def journal_stalled() -> JournalStalled:
    return JournalStalled(
        realm=None, network_urn=None, first_sequence=3, last_sequence=9, stalled_seconds=2.5, reason="disk full"
    )


def events_lost(first: int, last: int) -> EventsLost:
    return EventsLost(
        realm=None,
        network_urn=None,
        first_sequence=first,
        last_sequence=last,
        count=last - first + 1,
        first_timestamp=NOON,
        last_timestamp=NOON + 5,
        reason="disk full",
    )


_MANAGED: dict[str, Any] = {
    "singleton": True,
    "cluster_manager_urn": "docker:",
    "service_id": "web",
    "start_on_consumer": True,
    "start_on_payload": True,
    "idle_timeout": 300.0,
    "start_at": "0 8 ? * MON-FRI *",
    "stop_at": "0 22 ? * MON-FRI *",
}

EACH: tuple[Event, ...] = (
    session_started("p1", EndPointType.PROVIDER),
    session_ended("p1", EndPointType.PROVIDER, count=2, elapsed=12.25),
    session_refused(),
    connection_started(),
    connection_ended(rejected=True),
    connection_refused(),
    journal_stalled(),
    events_lost(5, 8),
    InventoryLoaded(
        realm=None, network_urn=None, initial=False, realms_added=1, networks_changed=2, services_removed=3
    ),
    InventoryRejected(realm=None, network_urn=None, fault_count=2, faults=("realm acme: cacert is missing", "hub b")),
    RealmAdded(
        realm="acme",
        network_urn=None,
        expired_at=NOON,
        client_ca="0a" * 32,
        max_sessions=5000,
        max_connections=9000,
        max_handshake_rate=50,
        max_event_rate=2000,
        max_journal_rate=1_000_000,
        max_memory=8 << 20,
        max_bandwidth=10_000_000,
        max_handshakes=256,
    ),
    RealmChanged(realm="acme", network_urn=None, client_ca="0b" * 32, changed=("expiredAt", "clientCa")),
    RealmRemoved(realm="acme", network_urn=None, reason="expired"),
    NetworkAdded(realm="acme", network_urn=NETWORK, fqdn="hub.acme.example", address="[::]:443", certificate="0c" * 32),
    NetworkChanged(realm="acme", network_urn=NETWORK, fqdn="hub.acme.example", changed=("certificate",)),
    NetworkRemoved(realm="acme", network_urn=NETWORK, reason="removed"),
    ServiceAdded(
        realm="acme", network_urn=NETWORK, service_urn=SERVICE, provider="p", consumers=("a", "b"), **_MANAGED
    ),
    ServiceChanged(
        realm="acme", network_urn=NETWORK, service_urn=SERVICE, provider="p", consumers=(), changed=("consumers",)
    ),
    ServiceRemoved(realm="acme", network_urn=NETWORK, service_urn=SERVICE, reason="removed"),
    WeightChanged(
        realm="acme",
        network_urn=NETWORK,
        spn_session_id="p1",
        service_urn=SERVICE,
        old_weight=100,
        new_weight=0,
        reason="10.0.0.7:80: Connection refused",
    ),
    ServiceStartRequested(realm="acme", network_urn=NETWORK, service_urn=SERVICE, reason="payload", attempt=2),
    ServiceStarted(realm="acme", network_urn=NETWORK, service_urn=SERVICE, latency=1.5),
    ServiceStartFailed(
        realm="acme", network_urn=NETWORK, service_urn=SERVICE, reason="no such image", attempt=2, will_retry=True
    ),
    ServiceStopRequested(realm="acme", network_urn=NETWORK, service_urn=SERVICE, reason="idle"),
    ServiceStopped(realm="acme", network_urn=NETWORK, service_urn=SERVICE, reason="idle"),
    ServiceStopFailed(realm="acme", network_urn=NETWORK, service_urn=SERVICE, reason="busy", attempt=3),
    ConnectionPaused(
        **leg_fields(ident="8-4", epoch=1),
        sent_offset=100,
        receive_offset=2000,
        planned=True,
        code=38,
        reason="the hub stops",
    ),
    ConnectionResumed(**leg_fields(ident="8-4", epoch=1), sent_offset=100, receive_offset=1990),
    ResumeRefused(
        realm="acme",
        network_urn=NETWORK,
        spn_session_id="c1",
        spn_end_point="CN=c1,O=Acme",
        end_point_type=EndPointType.CONSUMER,
        service_urn=SERVICE,
        connection_uid="ab" * 16,
        epoch=2,
        code=42,
        reason="no session here",
    ),
    ConnectionLost(
        realm="acme",
        network_urn=NETWORK,
        spn_session_id="c1",
        service_urn=SERVICE,
        connection_uid="ab" * 16,
        epoch=3,
        sent_offset=100,
        receive_offset=1990,
        code=44,
        reason="too late",
    ),
)
"""One of each class, in the order of their schema ids; those of runs and snapshots are apart."""


RUNS: tuple[Event, ...] = (
    HubStarted(realm=None, network_urn=None, version="0.2.0", addresses=("[::]:4433",), orderly=False),
    HubStopped(realm=None, network_urn=None, reason="planned", elapsed_time=86400.5),
    HubAlive(realm=None, network_urn=None, sessions=20, connections=7, elapsed_time=60.0),
    SnapshotStarted(
        realm=None,
        network_urn=None,
        sessions=1,
        connections=1,
        realms=1,
        networks=1,
        services=1,
        instances=1,
        lost=4,
        version="0.2.0",
        addresses=("[::]:4433",),
        started_at=NOON,
        alive_at=NOON + 60_000_000,
    ),
    SessionSnapshot(
        realm="acme",
        network_urn=NETWORK,
        spn_session_id="p1",
        spn_end_point="CN=p1,O=Acme",
        end_point_type=EndPointType.PROVIDER,
        service_urn=SERVICE,
        instance_id="p1-instance",
        weight=50,
        start_at=NOON,
        total_connection_count=3,
        suspect=True,
        failures=2,
        passed_over_until=NOON + 2_000_000,
        weight_reason="10.0.0.7:80: Connection refused",
    ),
    ConnectionSnapshot(
        **leg_fields(epoch=1),
        start_sent_offset=10,
        start_receive_offset=20,
        start_at=NOON,
        total_sent_bytes=5,
        total_receive_bytes=6,
    ),
    RealmSnapshot(
        realm="acme",
        network_urn=None,
        expired_at=NOON,
        client_ca="0a" * 32,
        max_sessions=5000,
        max_connections=9000,
        max_handshake_rate=50,
        max_event_rate=2000,
        max_journal_rate=1_000_000,
        max_memory=8 << 20,
        max_bandwidth=10_000_000,
        max_handshakes=256,
    ),
    NetworkSnapshot(
        realm="acme", network_urn=NETWORK, fqdn="hub.acme.example", address="[::]:443", certificate="0c" * 32
    ),
    ServiceSnapshot(
        realm="acme", network_urn=NETWORK, service_urn=SERVICE, provider="p", consumers=("a", "b"), **_MANAGED
    ),
    InstanceSnapshot(realm="acme", network_urn=NETWORK, service_urn=SERVICE, phase=InstancePhase.STARTING, since=NOON),
    SnapshotEnded(realm=None, network_urn=None, entries=6),
    connection_progress(epoch=1, start=(10, 20), delta=(50, 1000), elapsed=60.25),
)
"""One of each class whose schema id is 40 or above, in their order."""


LATER: tuple[Event, ...] = (
    ProviderSilent(realm="acme", network_urn=NETWORK, spn_session_id="p1", service_urn=SERVICE),
    ProviderAnswered(realm="acme", network_urn=NETWORK, spn_session_id="p1", service_urn=SERVICE),
    LimitReached(
        realm="acme", network_urn=NETWORK, limit="heldConnections", bound=65_536, service_urn=SERVICE, count=3
    ),
    connection_finished(),
    ProviderFailed(
        realm="acme",
        network_urn=NETWORK,
        spn_session_id="p1",
        service_urn=SERVICE,
        failures=3,
        passed_over_until=NOON + 4_000_000,
        code=32,
        reason="10.0.0.7 port 80: Connection refused",
    ),
    ProviderRecovered(realm="acme", network_urn=NETWORK, spn_session_id="p1", service_urn=SERVICE),
    EventsTrimmed(realm=None, network_urn=None, first_sequence=4, last_sequence=90, trimmed_realms=("acme", "beta")),
)
"""One of each class whose schema id is 53 or above, in their order."""


def published() -> list[Recorded]:
    """One of each class, as in the golden files: the sequence is the schema id and 6."""
    return record(EACH, first=7) + record(RUNS, first=46) + record(LATER, first=59)


def happened(records: Iterable[Recorded]) -> list[Recorded]:
    """Without the records of snapshots."""
    return [recorded for recorded in records if "napshot" not in recorded.event.event_type]


def killed(folder: Path) -> None:
    """Make a closed journal look as if its process had been killed, on a machine that went on."""
    (folder / "sequences.json").unlink()


def day() -> list[Event]:
    """Two sessions, one connection and one refusal, from the first start to the last end."""
    return [
        session_started("p1", EndPointType.PROVIDER),
        session_started("c1"),
        connection_started(),
        connection_refused(),
        connection_ended(),
        session_ended("c1", count=1),
        session_refused(),
        session_ended("p1", EndPointType.PROVIDER, count=1),
    ]


def record(
    events: Iterable[Event],
    *,
    first: int = 1,
    hub_id: str = "hub-1",
    journal_id: UUID = JOURNAL_ID,
    start: int = NOON,
    step: int = 1000,
) -> list[Recorded]:
    """Events with contiguous sequences and times ``step`` µs apart."""
    return [
        Recorded(hub_id, journal_id, first + place, start + place * step, event) for place, event in enumerate(events)
    ]


def write_journal(
    folder: Path, events: Iterable[Event], *, hub_id: str = "hub-1", start: int = NOON, segment_size: int = 64 << 20
) -> list[Recorded]:
    """A journal folder that holds these events, each committed by itself; what is in it."""
    written: list[Recorded] = []
    with Journal.open(
        folder, hub_id, options=JournalOptions(sync_interval=None), segment_size=segment_size, on_written=written.extend
    ) as journal:
        for place, event in enumerate(events):
            journal.append(event, start + place * 1000)
            assert journal.flush(10)
    return written
