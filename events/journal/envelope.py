"""What the journal's envelope says, read from a frame without the event in it: enough to pass the frame on.

That takes half the time of :func:`spnhub.events.model.decode`, which is what a reader of events wants. Counterpart:
:mod:`spnhub.events.shipper.loop`, which ships frames as they are.
"""

from __future__ import annotations

import uuid
from functools import lru_cache
from typing import Final, NamedTuple

from spnhub.schemas import codec
from spnhub.schemas.codec import SchemaError

__all__ = ["Envelope", "read_envelope"]

_NAMES: Final = frozenset({"eventId", "eventType", "hubId", "journalId", "sequence", "realm", "serviceUrn"})


class Envelope(NamedTuple):
    """Of one frame. A tuple, since it is made for each frame that is shipped."""

    event_id: str
    event_type: str
    hub_id: str
    journal_id: uuid.UUID
    sequence: int
    realm: str | None
    service_urn: str | None
    """None, too, where the event has no such field."""

    @property
    def key(self) -> bytes:
        """The record's key in Kafka (D-12): what must stay in order together. Never empty."""
        return (self.service_urn or self.realm or self.hub_id).encode()


def read_envelope(frame: bytes) -> Envelope:
    """The envelope of a Confluent frame.

    :raises spnhub.schemas.codec.SchemaError: not such a frame, as far as it is read.
    """
    record = codec.decode_event_head(frame, _NAMES)
    return Envelope(
        record["eventId"],
        record["eventType"],
        record["hubId"],
        _uuid(record["journalId"]),
        record["sequence"],
        record["realm"],
        record.get("serviceUrn"),
    )


@lru_cache(maxsize=16)
def _uuid(text: str) -> uuid.UUID:
    try:
        return uuid.UUID(text)
    except ValueError:
        raise SchemaError(f"{text[:50]!r} is not a UUID") from None
