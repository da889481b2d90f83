"""What can happen: the event classes, and the envelope that a journal puts around them.

Events are facts in the past tense, frozen, without clock or identity; :class:`Recorded` adds both. Attribute names are
the Avro names in snake case (``spnSessionId`` is ``spn_session_id``), so the catalogue in ``schemas/README.md`` is the
one place that explains fields. Counterparts: ``schemas/events/*.avsc`` and :mod:`spnhub.schemas.codec`.
"""

from __future__ import annotations

import dataclasses
import enum
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, ClassVar, Final, TypedDict

from spnhub.schemas import codec
from spnhub.schemas.codec import SchemaError

__all__ = [
    "EVENT_CLASSES",
    "ConnectionEnded",
    "ConnectionLost",
    "ConnectionPaused",
    "ConnectionProgress",
    "ConnectionRefused",
    "ConnectionResumed",
    "ConnectionSnapshot",
    "ConnectionStarted",
    "DisconnectReason",
    "EndPointType",
    "Event",
    "EventsLost",
    "HubAlive",
    "HubStarted",
    "HubStopped",
    "InstancePhase",
    "InstanceSnapshot",
    "InventoryLoaded",
    "InventoryRejected",
    "JournalStalled",
    "LegEvent",
    "LegFields",
    "NetworkAdded",
    "NetworkChanged",
    "NetworkRemoved",
    "NetworkSnapshot",
    "RealmAdded",
    "RealmChanged",
    "RealmRemoved",
    "RealmSnapshot",
    "Recorded",
    "ResumeRefused",
    "ServiceAdded",
    "ServiceChanged",
    "ServiceRemoved",
    "ServiceSnapshot",
    "ServiceStartFailed",
    "ServiceStartRequested",
    "ServiceStarted",
    "ServiceStopFailed",
    "ServiceStopRequested",
    "ServiceStopped",
    "SessionEnded",
    "SessionRefused",
    "SessionSnapshot",
    "SessionStarted",
    "SnapshotEnded",
    "SnapshotStarted",
    "TerminateReason",
    "WeightChanged",
    "decode",
    "encode",
    "event_id",
    "from_datetime",
    "to_datetime",
]


class EndPointType(enum.StrEnum):
    """R-2.4."""

    PROVIDER = "serviceProvider"
    CONSUMER = "serviceConsumer"


class TerminateReason(enum.StrEnum):
    """Who ended a session (R-2.5, R-4.4): the hub, the endpoint, or neither in order."""

    SHUTDOWN = "shutdown"
    TERMINATED_BY_PEER = "terminatedByPeer"
    ERROR = "error"


class DisconnectReason(enum.StrEnum):
    """Who ended a connection (R-4.4): an endpoint in order, the hub, or neither."""

    CLOSED_BY_PEER = "closedByPeer"
    CLOSED = "closed"
    ERROR = "error"


class InstancePhase(enum.StrEnum):
    """Of a service that this hub has had started; stopped ones are not held."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """A fact. Subclasses are the records of ``schemas/events``."""

    event_type: ClassVar[str] = ""

    realm: str | None
    network_urn: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Event):
    """R-2.5."""

    event_type: ClassVar[str] = "startSpnSession"

    spn_session_id: str
    spn_end_point: str
    end_point_type: EndPointType
    service_urn: str
    instance_id: str = ""
    weight: int = 100
    protocol: str = ""
    remote_address: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionEnded(Event):
    """R-2.5."""

    event_type: ClassVar[str] = "endSpnSession"

    spn_session_id: str
    spn_end_point: str
    end_point_type: EndPointType
    service_urn: str
    total_connection_count: int
    elapsed_time: float
    terminate_reason: TerminateReason
    code: int | None = None
    reason: str = ""
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionRefused(Event):
    """A handshake or a session request was refused (R-2.2, D-13)."""

    event_type: ClassVar[str] = "sessionRefused"

    spn_end_point: str | None = None
    end_point_type: EndPointType | None = None
    service_urn: str | None = None
    server_name: str | None = None
    remote_address: str = ""
    code: int | None = None
    alert: int | None = None
    reason: str = ""
    count: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LegEvent(Event):
    """A fact about one leg of a connection (R-4.3, D-1). Counterpart: :class:`LegFields`, the same as arguments."""

    spn_connection_id: str
    consumer_side_spn_session_id: str
    provider_side_spn_session_id: str
    service_urn: str
    connection_uid: str
    epoch: int = 0


class LegFields(TypedDict):
    """What the events of one leg have in common, as keyword arguments."""

    realm: str | None
    network_urn: str | None
    spn_connection_id: str
    consumer_side_spn_session_id: str
    provider_side_spn_session_id: str
    service_urn: str
    connection_uid: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionStarted(LegEvent):
    """A leg opened (R-4.4, D-1)."""

    event_type: ClassVar[str] = "startSpnConnection"

    start_sent_offset: int = 0
    start_receive_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionEnded(LegEvent):
    """A leg ended (R-4.4, D-1, D-10)."""

    event_type: ClassVar[str] = "endSpnConnection"

    start_sent_offset: int = 0
    start_receive_offset: int = 0
    total_sent_bytes: int
    total_receive_bytes: int
    delta_sent_bytes: int = 0
    delta_receive_bytes: int = 0
    elapsed_time: float
    disconnect_reason: DisconnectReason
    code: int | None = None
    reason: str = ""
    suspended: bool = False
    recovered: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionProgress(LegEvent):
    """What an open leg has carried so far; the deltas are what no event has told of before (D-10)."""

    event_type: ClassVar[str] = "connectionProgress"

    start_sent_offset: int = 0
    start_receive_offset: int = 0
    total_sent_bytes: int
    total_receive_bytes: int
    delta_sent_bytes: int
    delta_receive_bytes: int
    elapsed_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionRefused(Event):
    """The opening of a connection was refused before a provider was asked."""

    event_type: ClassVar[str] = "connectionRefused"

    consumer_side_spn_session_id: str
    service_urn: str
    connection_uid: str
    epoch: int = 0
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionPaused(LegEvent):
    """A leg's bytes have stopped and the conversation may go on in another; its end follows at once (D-1)."""

    event_type: ClassVar[str] = "connectionPaused"

    sent_offset: int = 0
    receive_offset: int = 0
    planned: bool = False
    code: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionResumed(LegEvent):
    """A conversation goes on in this leg, whose start came just before (D-1)."""

    event_type: ClassVar[str] = "connectionResumed"

    sent_offset: int = 0
    receive_offset: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeRefused(Event):
    """An endpoint wanted to go on with a connection and may not, or not here (R-4.7)."""

    event_type: ClassVar[str] = "resumeRefused"

    spn_session_id: str
    spn_end_point: str
    end_point_type: EndPointType
    service_urn: str
    connection_uid: str
    epoch: int = 0
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLost(Event):
    """A suspended conversation is given up: an endpoint reports that it could not go on (D-1)."""

    event_type: ClassVar[str] = "connectionLost"

    spn_session_id: str
    service_urn: str
    connection_uid: str
    epoch: int = 0
    sent_offset: int = 0
    receive_offset: int = 0
    code: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalStalled(Event):
    """The journal didn't take events in time; traffic went on ungated (D-6)."""

    event_type: ClassVar[str] = "journalStalled"

    first_sequence: int
    last_sequence: int
    stalled_seconds: float
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventsLost(Event):
    """Events could not be kept: their sequence numbers are a gap in the log (D-8)."""

    event_type: ClassVar[str] = "eventsLost"

    first_sequence: int
    last_sequence: int
    count: int
    first_timestamp: int
    last_timestamp: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryLoaded(Event):
    """The inventory is applied from now on (R-6.2); an event for each difference follows."""

    event_type: ClassVar[str] = "inventoryLoaded"

    initial: bool
    realms_added: int = 0
    realms_changed: int = 0
    realms_removed: int = 0
    networks_added: int = 0
    networks_changed: int = 0
    networks_removed: int = 0
    services_added: int = 0
    services_changed: int = 0
    services_removed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryRejected(Event):
    """A reload found faults and changed nothing."""

    event_type: ClassVar[str] = "inventoryRejected"

    fault_count: int
    faults: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmAdded(Event):
    """A realm is served from now on."""

    event_type: ClassVar[str] = "realmAdded"

    expired_at: int | None = None
    client_ca: str = ""
    max_sessions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmChanged(Event):
    """A realm's definition is another from now on."""

    event_type: ClassVar[str] = "realmChanged"

    expired_at: int | None = None
    client_ca: str = ""
    max_sessions: int | None = None
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmRemoved(Event):
    """A realm is no longer served."""

    event_type: ClassVar[str] = "realmRemoved"

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkAdded(Event):
    """A hub of the inventory is served from now on (D-3)."""

    event_type: ClassVar[str] = "networkAdded"

    fqdn: str
    address: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkChanged(Event):
    """The definition of a hub of the inventory is another from now on."""

    event_type: ClassVar[str] = "networkChanged"

    fqdn: str
    address: str = ""
    certificate: str = ""
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkRemoved(Event):
    """A hub of the inventory is no longer served."""

    event_type: ClassVar[str] = "networkRemoved"

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceAdded(Event):
    """A service is defined from now on."""

    event_type: ClassVar[str] = "serviceAdded"

    service_urn: str
    provider: str
    consumers: tuple[str, ...]
    singleton: bool = False
    cluster_manager_urn: str | None = None
    service_id: str | None = None
    start_on_load: bool = False
    start_on_consumer: bool = False
    start_on_payload: bool = False
    idle_timeout: float | None = None
    start_at: str | None = None
    stop_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceChanged(Event):
    """A service's definition is another from now on."""

    event_type: ClassVar[str] = "serviceChanged"

    service_urn: str
    provider: str
    consumers: tuple[str, ...]
    singleton: bool = False
    cluster_manager_urn: str | None = None
    service_id: str | None = None
    start_on_load: bool = False
    start_on_consumer: bool = False
    start_on_payload: bool = False
    idle_timeout: float | None = None
    start_at: str | None = None
    stop_at: str | None = None
    changed: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRemoved(Event):
    """A service is no longer defined."""

    event_type: ClassVar[str] = "serviceRemoved"

    service_urn: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightChanged(Event):
    """A provider changed its weight (R-5.3)."""

    event_type: ClassVar[str] = "weightChanged"

    spn_session_id: str
    service_urn: str
    old_weight: int
    new_weight: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStartRequested(Event):
    """The cluster manager was asked to start a service."""

    event_type: ClassVar[str] = "serviceStartRequested"

    service_urn: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStarted(Event):
    """The cluster manager reported that a service was started."""

    event_type: ClassVar[str] = "serviceStarted"

    service_urn: str
    latency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStartFailed(Event):
    """A service could not be started."""

    event_type: ClassVar[str] = "serviceStartFailed"

    service_urn: str
    reason: str
    attempt: int = 1
    will_retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopRequested(Event):
    """The cluster manager was asked to stop a service."""

    event_type: ClassVar[str] = "serviceStopRequested"

    service_urn: str
    reason: str
    attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopped(Event):
    """The cluster manager reported that a service was stopped."""

    event_type: ClassVar[str] = "serviceStopped"

    service_urn: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceStopFailed(Event):
    """A service could not be stopped."""

    event_type: ClassVar[str] = "serviceStopFailed"

    service_urn: str
    reason: str
    attempt: int = 1
    will_retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStarted(Event):
    """A hub process has begun to take packets."""

    event_type: ClassVar[str] = "hubStarted"

    version: str = ""
    addresses: tuple[str, ...] = ()
    orderly: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStopped(Event):
    """A hub process has ended in order."""

    event_type: ClassVar[str] = "hubStopped"

    reason: str = ""
    elapsed_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class HubAlive(Event):
    """A sign of life."""

    event_type: ClassVar[str] = "hubAlive"

    sessions: int
    connections: int
    elapsed_time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotStarted(Event):
    """A segment of the journal begins; what is open follows (D-8)."""

    event_type: ClassVar[str] = "snapshotStarted"

    sessions: int
    connections: int
    realms: int
    networks: int
    services: int
    instances: int
    lost: int = 0
    version: str = ""
    addresses: tuple[str, ...] = ()
    started_at: int | None = None
    alive_at: int | None = None
    stopped_at: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSnapshot(Event):
    """A session that is open."""

    event_type: ClassVar[str] = "sessionSnapshot"

    spn_session_id: str
    spn_end_point: str
    end_point_type: EndPointType
    service_urn: str
    instance_id: str = ""
    weight: int = 100
    start_at: int
    total_connection_count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionSnapshot(LegEvent):
    """A leg that is open."""

    event_type: ClassVar[str] = "connectionSnapshot"

    start_sent_offset: int = 0
    start_receive_offset: int = 0
    start_at: int
    total_sent_bytes: int = 0
    total_receive_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RealmSnapshot(Event):
    """A realm that is served."""

    event_type: ClassVar[str] = "realmSnapshot"

    expired_at: int | None = None
    client_ca: str = ""
    max_sessions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSnapshot(Event):
    """A hub of the inventory that is served."""

    event_type: ClassVar[str] = "networkSnapshot"

    fqdn: str
    address: str = ""
    certificate: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSnapshot(Event):
    """A service that is defined."""

    event_type: ClassVar[str] = "serviceSnapshot"

    service_urn: str
    provider: str
    consumers: tuple[str, ...]
    singleton: bool = False
    cluster_manager_urn: str | None = None
    service_id: str | None = None
    start_on_load: bool = False
    start_on_consumer: bool = False
    start_on_payload: bool = False
    idle_timeout: float | None = None
    start_at: str | None = None
    stop_at: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceSnapshot(Event):
    """A service that the hub has had started."""

    event_type: ClassVar[str] = "instanceSnapshot"

    service_urn: str
    phase: InstancePhase
    since: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotEnded(Event):
    """The last record of a snapshot."""

    event_type: ClassVar[str] = "snapshotEnded"

    entries: int


EVENT_CLASSES: Final[dict[str, type[Event]]] = {
    cls.__name__: cls
    for cls in (
        SessionStarted,
        SessionEnded,
        SessionRefused,
        ConnectionStarted,
        ConnectionEnded,
        ConnectionRefused,
        JournalStalled,
        EventsLost,
        InventoryLoaded,
        InventoryRejected,
        RealmAdded,
        RealmChanged,
        RealmRemoved,
        NetworkAdded,
        NetworkChanged,
        NetworkRemoved,
        ServiceAdded,
        ServiceChanged,
        ServiceRemoved,
        WeightChanged,
        ServiceStartRequested,
        ServiceStarted,
        ServiceStartFailed,
        ServiceStopRequested,
        ServiceStopped,
        ServiceStopFailed,
        ConnectionPaused,
        ConnectionResumed,
        ResumeRefused,
        ConnectionLost,
        HubStarted,
        HubStopped,
        HubAlive,
        SnapshotStarted,
        SessionSnapshot,
        ConnectionSnapshot,
        RealmSnapshot,
        NetworkSnapshot,
        ServiceSnapshot,
        InstanceSnapshot,
        SnapshotEnded,
        ConnectionProgress,
    )
}
"""Event class by Avro record name."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event with its place and time: what is in the journal and in Kafka."""

    hub_id: str
    journal_id: uuid.UUID
    sequence: int
    timestamp: int
    """Microseconds since 1970, UTC: when it happened."""
    event: Event

    @property
    def event_id(self) -> uuid.UUID:
        """The same in every redelivery and replay (D-4)."""
        return event_id(self.hub_id, self.journal_id, self.sequence)


def event_id(hub_id: str, journal_id: uuid.UUID, sequence: int) -> uuid.UUID:
    """UUIDv5 of hub, journal and sequence (D-4)."""
    return uuid.uuid5(journal_id, f"{hub_id}/{sequence}")


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_FIRST_TIME: Final = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND
_LAST_TIME: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MICROSECOND


def to_datetime(timestamp: int) -> datetime:
    """Microseconds since 1970 as an aware datetime in UTC, exactly."""
    return _EPOCH + timestamp * _MICROSECOND


def from_datetime(moment: datetime) -> int:
    """An aware datetime as microseconds since 1970, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(part.capitalize() for part in rest)


def _microseconds(value: Any) -> Any:
    """A time as we hold it; what isn't one (a schedule's start) stays as it is."""
    if isinstance(value, int) and not _FIRST_TIME <= value <= _LAST_TIME:
        raise SchemaError(f"{value} is not a time in microseconds since 1970")
    return value


@lru_cache(maxsize=1024)
def _uuid(text: str) -> uuid.UUID:
    """Events of one journal share it: they are many, journals are few."""
    try:
        return uuid.UUID(text)
    except ValueError:
        raise SchemaError(f"{text[:50]!r} is not a UUID") from None


_FROM_AVRO: Final[dict[str, Callable[[Any], Any]]] = {
    "end_point_type": EndPointType,
    "terminate_reason": TerminateReason,
    "disconnect_reason": DisconnectReason,
    "first_timestamp": _microseconds,
    "last_timestamp": _microseconds,
    "expired_at": _microseconds,
    "start_at": _microseconds,
    "started_at": _microseconds,
    "alive_at": _microseconds,
    "stopped_at": _microseconds,
    "since": _microseconds,
    "phase": InstancePhase,
    "addresses": tuple,
    "consumers": tuple,
    "changed": tuple,
    "faults": tuple,
}

_FIELDS: Final = {
    cls: tuple((f.name, _camel(f.name), _FROM_AVRO.get(f.name)) for f in dataclasses.fields(cls))
    for cls in EVENT_CLASSES.values()
}
"""Attribute, Avro name, and what turns the Avro value into ours, if it isn't one already."""

_CONVERTED: Final = {
    cls: tuple((attribute, convert) for attribute, _, convert in fields if convert is not None)
    for cls, fields in _FIELDS.items()
}

_LISTS: Final = {cls: tuple(name for _, name, convert in fields if convert is tuple) for cls, fields in _FIELDS.items()}
"""Avro names of the arrays."""


def to_record(recorded: Recorded) -> dict[str, Any]:
    """The Avro record, field names as in the schema, plain values."""
    event = recorded.event
    record: dict[str, Any] = {
        "eventId": str(recorded.event_id),
        "eventType": event.event_type,
        "hubId": recorded.hub_id,
        "journalId": str(recorded.journal_id),
        "sequence": recorded.sequence,
        "timestamp": recorded.timestamp,
    }
    for attribute, name, _ in _FIELDS[type(event)]:
        record[name] = getattr(event, attribute)
    for name in _LISTS[type(event)]:
        record[name] = list(record[name])
    return record


def encode(recorded: Recorded) -> bytes:
    """The Confluent frame of a recorded event."""
    return codec.encode_event(type(recorded.event).__name__, to_record(recorded))


def decode(frame: bytes, foreign: codec.ForeignSchemas | None = None) -> Recorded:
    """A recorded event from its Confluent frame. Fields that this version doesn't know are dropped.

    :param foreign: what its schema id means, where that isn't the repository's.
    :raises spnhub.schemas.codec.SchemaError: not such a frame.
    """
    name, record = codec.decode_event(frame, foreign)
    cls = EVENT_CLASSES[name]
    values = {attribute: record[avro_name] for attribute, avro_name, _ in _FIELDS[cls] if avro_name in record}
    for attribute, convert in _CONVERTED[cls]:
        if values.get(attribute) is not None:
            values[attribute] = convert(values[attribute])
    return Recorded(
        hub_id=record["hubId"],
        journal_id=_uuid(record["journalId"]),
        sequence=record["sequence"],
        timestamp=_microseconds(record["timestamp"]),
        event=cls(**values),
    )
