"""What a shipper has read from the journal and not yet seen acknowledged. No I/O, no clock.

Counterpart: :mod:`spnhub.events.shipper.loop` fills it from the journal and empties it by Kafka's acknowledgements,
which come in order within a partition and in any order across them.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import field
from typing import Final

from spnhub.dataclass import dataclass
from spnhub.events.journal.envelope import Envelope
from spnhub.events.model import HubStarted

__all__ = ["Entry", "Window"]

BYTE_LIMIT: Final = 32 << 20
"""Bytes of records waiting for an acknowledgement, what Python adds included."""
SPAN_LIMIT: Final = 500_000
"""How far acknowledgements may run ahead of one that doesn't come: that many would be sent again after a restart."""
_OVERHEAD: Final = 600
"""Bytes an entry costs beside its frame."""


@dataclass(slots=True, eq=False)
class Entry:
    """One record on its way."""

    sequence: int
    frame: bytes
    key: bytes
    headers: list[tuple[str, bytes]]
    everywhere: bool = False
    """It goes to all partitions: a reader of one of them must know when a hub has started anew."""
    owed: int = 1
    """Partitions that have not acknowledged it yet."""
    refusals: int = 0
    """How often the broker refused just this record."""
    retry_at: float = 0.0
    """Not to be sent before (monotonic seconds)."""

    @classmethod
    def of(cls, frame: bytes, envelope: Envelope) -> Entry:
        """From the journal's frame, which goes out as it is."""
        headers = [("eventId", envelope.event_id.encode()), ("eventType", envelope.event_type.encode())]
        everywhere = envelope.event_type == HubStarted.event_type
        return cls(envelope.sequence, frame, envelope.key, headers, everywhere)


@dataclass(slots=True)
class Window:
    """Records in the journal's order, and the position: the last one before which everything is acknowledged."""

    position: int = 0
    checksum: int = 0
    """CRC-32 of the frame at the position."""
    read: int = 0
    """Sequence of the last record added."""
    _order: deque[tuple[int, int]] = field(default_factory=deque)
    _waiting: dict[int, Entry] = field(default_factory=dict)
    _bytes: int = 0

    def add(self, entry: Entry) -> None:
        """A record read from the journal."""
        assert entry.sequence > self.read
        self.read = entry.sequence
        self._order.append((entry.sequence, zlib.crc32(entry.frame)))
        self._waiting[entry.sequence] = entry
        self._bytes += len(entry.frame) + _OVERHEAD

    def acknowledge(self, entry: Entry) -> None:
        """Kafka has it, everywhere."""
        del self._waiting[entry.sequence]
        self._bytes -= len(entry.frame) + _OVERHEAD
        while self._order and self._order[0][0] not in self._waiting:
            self.position, self.checksum = self._order.popleft()

    @property
    def behind(self) -> int:
        """Records without acknowledgement."""
        return len(self._waiting)

    @property
    def full(self) -> bool:
        """Whether no more should be read for now."""
        return self._bytes >= BYTE_LIMIT or len(self._order) >= SPAN_LIMIT

    def waiting(self) -> Iterator[Entry]:
        """Records without acknowledgement, in the journal's order."""
        return iter(self._waiting.values())
