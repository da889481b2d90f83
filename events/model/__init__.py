"""What can happen: the event classes, and the envelope that a journal puts around them.

Events are facts in the past tense, frozen, without clock or identity; :class:`Recorded` adds both. Fields that several
events share are declared once, in a group that they derive from (:class:`SessionEvent`, :class:`LegEvent`,
:class:`ServiceDefined`); :func:`shared` takes them over from one to another. Attribute names are the Avro names in
snake case (``spnSessionId`` is ``spn_session_id``), so the catalogue in ``schemas/README.md`` is the one place that
explains fields. Others import from here, not from the modules behind it. All but the common words (``event.py``) are
loaded when the first of them is used: an endpoint needs no event. Counterparts:
``schemas/events/*.avsc`` and :mod:`spnhub.schemas.codec`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from spnhub.events.model.event import (
    DisconnectReason,
    EndPointEvent,
    EndPointType,
    Event,
    InstancePhase,
    ServiceEvent,
    SessionEvent,
    TerminateReason,
    Unknown,
    shared,
)

if TYPE_CHECKING:
    from spnhub.events.model.connections import (
        ConnectionEnded,
        ConnectionFinished,
        ConnectionLost,
        ConnectionPaused,
        ConnectionProgress,
        ConnectionRefused,
        ConnectionResumed,
        ConnectionSnapshot,
        ConnectionStarted,
        ConversationEvent,
        LegEvent,
        LegStartEvent,
        OpeningEvent,
        ResumeRefused,
    )
    from spnhub.events.model.inventory import (
        InventoryLoaded,
        InventoryRejected,
        NetworkAdded,
        NetworkChanged,
        NetworkDefined,
        NetworkRemoved,
        NetworkSnapshot,
        RealmAdded,
        RealmChanged,
        RealmDefined,
        RealmRemoved,
        RealmSnapshot,
    )
    from spnhub.events.model.log import (
        EventsLost,
        EventsTrimmed,
        HubAlive,
        HubStarted,
        HubStopped,
        JournalStalled,
        LimitReached,
        SnapshotEnded,
        SnapshotStarted,
    )
    from spnhub.events.model.record import (
        EVENT_CLASSES,
        SNAPSHOT_CLASSES,
        Recorded,
        decode,
        encode,
        event_id,
        from_datetime,
        to_datetime,
        to_record,
    )
    from spnhub.events.model.services import (
        InstanceSnapshot,
        ServiceAdded,
        ServiceChanged,
        ServiceDefined,
        ServiceRemoved,
        ServiceSnapshot,
        ServiceStarted,
        ServiceStartFailed,
        ServiceStartRequested,
        ServiceStopFailed,
        ServiceStopped,
        ServiceStopRequested,
    )
    from spnhub.events.model.sessions import (
        ProviderAnswered,
        ProviderFailed,
        ProviderRecovered,
        ProviderSilent,
        SessionEnded,
        SessionRefused,
        SessionSnapshot,
        SessionStarted,
        WeightChanged,
    )

__all__ = [
    "EVENT_CLASSES",
    "SNAPSHOT_CLASSES",
    "ConnectionEnded",
    "ConnectionFinished",
    "ConnectionLost",
    "ConnectionPaused",
    "ConnectionProgress",
    "ConnectionRefused",
    "ConnectionResumed",
    "ConnectionSnapshot",
    "ConnectionStarted",
    "ConversationEvent",
    "DisconnectReason",
    "EndPointEvent",
    "EndPointType",
    "Event",
    "EventsLost",
    "EventsTrimmed",
    "HubAlive",
    "HubStarted",
    "HubStopped",
    "InstancePhase",
    "InstanceSnapshot",
    "InventoryLoaded",
    "InventoryRejected",
    "JournalStalled",
    "LegEvent",
    "LegStartEvent",
    "LimitReached",
    "NetworkAdded",
    "NetworkChanged",
    "NetworkDefined",
    "NetworkRemoved",
    "NetworkSnapshot",
    "OpeningEvent",
    "ProviderAnswered",
    "ProviderFailed",
    "ProviderRecovered",
    "ProviderSilent",
    "RealmAdded",
    "RealmChanged",
    "RealmDefined",
    "RealmRemoved",
    "RealmSnapshot",
    "Recorded",
    "ResumeRefused",
    "ServiceAdded",
    "ServiceChanged",
    "ServiceDefined",
    "ServiceEvent",
    "ServiceRemoved",
    "ServiceSnapshot",
    "ServiceStartFailed",
    "ServiceStartRequested",
    "ServiceStarted",
    "ServiceStopFailed",
    "ServiceStopRequested",
    "ServiceStopped",
    "SessionEnded",
    "SessionEvent",
    "SessionRefused",
    "SessionSnapshot",
    "SessionStarted",
    "SnapshotEnded",
    "SnapshotStarted",
    "TerminateReason",
    "Unknown",
    "WeightChanged",
    "decode",
    "encode",
    "event_id",
    "from_datetime",
    "shared",
    "to_datetime",
    "to_record",
]

_LATE = ("connections", "inventory", "log", "record", "services", "sessions")


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()
    for late in _LATE:
        module = importlib.import_module(f"{__name__}.{late}")
        found.update({one: getattr(module, one) for one in module.__all__ if one in __all__})
    return found[name]
