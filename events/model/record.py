"""The envelope that a journal puts around an event, and both as Avro.

Counterparts: ``schemas/events/*.avsc`` and :mod:`spnhub.schemas.codec`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter
from typing import Any, Final

from spnhub.events.frozen import dataclass
from spnhub.events.model import connections, inventory, log, services, sessions
from spnhub.events.model.event import DisconnectReason, EndPointType, Event, InstancePhase, TerminateReason, Unknown
from spnhub.schemas import codec
from spnhub.schemas.codec import SchemaError

__all__ = [
    "EVENT_CLASSES",
    "SNAPSHOT_CLASSES",
    "Recorded",
    "decode",
    "encode",
    "event_id",
    "event_id_text",
    "from_datetime",
    "to_datetime",
    "to_record",
]

_CLASSES: Final = {
    name: getattr(module, name)
    for module in (sessions, connections, inventory, services, log)
    for name in module.__all__
}

EVENT_CLASSES: Final[dict[str, type[Event]]] = {name: _CLASSES[name] for name in codec.EVENT_IDS}
"""Event class by Avro record name, in the order of their schema ids."""
SNAPSHOT_CLASSES: Final[tuple[type[Event], ...]] = (
    log.SnapshotStarted,
    inventory.RealmSnapshot,
    inventory.NetworkSnapshot,
    services.ServiceSnapshot,
    services.InstanceSnapshot,
    sessions.SessionSnapshot,
    connections.ConnectionSnapshot,
    log.SnapshotEnded,
)
"""What a snapshot is made of: it says what there is, not what has happened."""


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
    return uuid.UUID(event_id_text(hub_id, journal_id, sequence))


def event_id_text(hub_id: str, journal_id: uuid.UUID, sequence: int) -> str:
    """The same as text."""
    return _event_id(_named(hub_id, journal_id)[0], sequence)


@lru_cache(maxsize=16)
def _named(hub_id: str, journal_id: uuid.UUID) -> tuple[bytes, str]:
    """What the ids of all events of a journal are hashed from, but for the sequence; and the journal's id as text."""
    return journal_id.bytes + f"{hub_id}/".encode(), str(journal_id)


def _event_id(prefix: bytes, sequence: int) -> str:
    """As text: what ``uuid.uuid5`` makes (RFC 9562 section 5.5), in a fifth of its time, since each event has one."""
    digits = hashlib.sha1(prefix + b"%d" % sequence, usedforsecurity=False).hexdigest()
    variant = _VARIANT[digits[16]]
    return f"{digits[:8]}-{digits[8:12]}-5{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:32]}"


_VARIANT: Final = {f"{digit:x}": f"{digit & 3 | 8:x}" for digit in range(16)}
"""The digit whose upper two bits are the variant, 10."""


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
    "passed_over_until": _microseconds,
    "since": _microseconds,
    "phase": InstancePhase,
    "addresses": tuple,
    "consumers": tuple,
    "changed": tuple,
    "faults": tuple,
    "trimmed_realms": tuple,
}


def _avro_fields(cls: type[Event]) -> tuple[tuple[str, str, Callable[[Any], Any] | None], ...]:
    """In the order of the schema: groups declare what several events share, and come first in a class."""
    order = {name: place for place, name in enumerate(codec.event_fields(cls.__name__))}
    named = ((one.name, codec.camel(one.name), _FROM_AVRO.get(one.name)) for one in dataclasses.fields(cls))
    return tuple(sorted(named, key=lambda one: order.get(one[1], len(order))))


_FIELDS: Final = {cls: _avro_fields(cls) for cls in EVENT_CLASSES.values()}
"""Attribute, Avro name, and what turns the Avro value into ours, if it isn't one already."""

_ENVELOPE: Final = ("eventId", "eventType", "hubId", "journalId", "sequence", "timestamp")
_NAMES: Final = {cls: (*_ENVELOPE, *(name for _, name, _ in fields)) for cls, fields in _FIELDS.items()}
_GETTERS: Final[dict[type[Event], Callable[[Event], tuple[Any, ...]]]] = {
    cls: attrgetter(*(attribute for attribute, _, _ in fields)) for cls, fields in _FIELDS.items()
}
"""What gets the values of all fields; there are several, so it gets a tuple."""

_CONVERTED: Final = {
    cls: tuple((attribute, convert) for attribute, _, convert in fields if convert is not None)
    for cls, fields in _FIELDS.items()
}

_LISTS: Final = {cls: tuple(name for _, name, convert in fields if convert is tuple) for cls, fields in _FIELDS.items()}
"""Avro names of the arrays."""


def to_record(recorded: Recorded) -> dict[str, Any]:
    """The Avro record, field names as in the schema, plain values."""
    event = recorded.event
    if isinstance(event, Unknown):
        return dict(event.record)
    kind = type(event)
    record = dict(zip(_NAMES[kind], _values(recorded), strict=True))
    for name in _LISTS[kind]:
        record[name] = list(record[name])
    return record


def _values(recorded: Recorded) -> tuple[Any, ...]:
    """Of the fields, in the order of the schema."""
    event, sequence = recorded.event, recorded.sequence
    prefix, journal_id = _named(recorded.hub_id, recorded.journal_id)
    envelope = _event_id(prefix, sequence), event.event_type, recorded.hub_id, journal_id, sequence, recorded.timestamp
    return envelope + _GETTERS[type(event)](event)


def encode(recorded: Recorded) -> bytes:
    """The Confluent frame of a recorded event, of a known kind."""
    return codec.encode_event(type(recorded.event).__name__, _values(recorded))


def decode(frame: bytes, foreign: codec.ForeignSchemas | None = None) -> Recorded:
    """A recorded event from its Confluent frame. Fields that this version doesn't know are dropped.

    A kind that it doesn't know comes as :class:`Unknown`.

    :param foreign: what its schema id means, where that isn't the repository's.
    :raises spnhub.schemas.codec.SchemaError: not such a frame.
    """
    name, record = codec.decode_event(frame, foreign)
    return Recorded(
        hub_id=record["hubId"],
        journal_id=_uuid(record["journalId"]),
        sequence=record["sequence"],
        timestamp=_microseconds(record["timestamp"]),
        event=_event(name, record),
    )


def _event(name: str, record: dict[str, Any]) -> Event:
    cls = EVENT_CLASSES.get(name)
    if cls is None:
        return Unknown(realm=record["realm"], network_urn=record["networkUrn"], kind=record["eventType"], record=record)
    values = {attribute: record[avro_name] for attribute, avro_name, _ in _FIELDS[cls] if avro_name in record}
    for attribute, convert in _CONVERTED[cls]:
        if values.get(attribute) is not None:
            values[attribute] = convert(values[attribute])
    return cls(**values)
