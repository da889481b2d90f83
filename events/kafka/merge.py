"""Puts the events of several partitions into each hub's order. No I/O, no clock.

An event's place is its sequence, contiguous per hub and journal (D-4); its partition follows from its key. So an event
that continues a hub's sequence is given out at once, and only a gap makes events wait: until it is filled, or until
every partition was read far enough to know that nothing will fill it (records of one hub are in sequence within a
partition), or until the caller's limits. Say partition 1 has 7 and 9 of a hub: 7 is given out, and 9 waits until 8
comes from another partition, or all partitions are past it. An event at or below what was given out already is a
redelivery, or came after the wait for it was over: it is given out at once, and readers distinguish the two by the
event id. Counterpart: :mod:`spnhub.events.kafka.source`.
"""

from __future__ import annotations

import heapq
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import field
from typing import Final

from spnhub.dataclass import dataclass
from spnhub.events.model import Recorded

__all__ = ["Item", "Merger"]

HELD_LIMIT: Final = 200_000
"""The most events that wait, over all hubs; beyond it, the missing ones count as lost."""

Item = tuple[bytes, Recorded]


@dataclass(slots=True)
class _Hub:
    following: int | None = None
    """The sequence that continues what went out; None: nothing has."""
    held: list[tuple[int, int, Item]] = field(default_factory=list)
    """A heap; the second value keeps equal sequences in the order of their coming."""
    seen: dict[int, int] = field(default_factory=dict)
    """Highest sequence by partition."""


class Merger:
    """The order of each hub, from partitions read in any interleaving.

    :param partitions: those that will be read.
    """

    def __init__(self, partitions: Iterable[int], *, held_limit: int = HELD_LIMIT) -> None:
        self._open = set(partitions)
        self._hubs: dict[tuple[str, uuid.UUID], _Hub] = {}
        self._held = 0
        self._count = 0
        self._held_limit = held_limit

    @property
    def held(self) -> int:
        """Events waiting behind a gap."""
        return self._held

    def add(self, partition: int, item: Item) -> Iterator[Item]:
        """An event read from a partition; what can go out because of it."""
        recorded = item[1]
        hub = self._hubs.setdefault((recorded.hub_id, recorded.journal_id), _Hub())
        sequence = recorded.sequence
        hub.seen[partition] = max(sequence, hub.seen.get(partition, 0))
        if hub.following is not None and sequence < hub.following:
            yield item
            return
        self._count += 1
        heapq.heappush(hub.held, (sequence, self._count, item))
        self._held += 1
        yield from self._release(hub)
        if self._held > self._held_limit:
            yield from self._give_up(max(self._hubs.values(), key=lambda each: len(each.held)))

    def finish(self, partition: int) -> Iterator[Item]:
        """Nothing more comes from a partition."""
        self._open.discard(partition)
        for hub in self._hubs.values():
            yield from self._release(hub)

    def flush(self) -> Iterator[Item]:
        """All events that wait, in each hub's order; those that are missing aren't waited for any longer."""
        for hub in self._hubs.values():
            yield from self._give_up(hub)

    def _give_up(self, hub: _Hub) -> Iterator[Item]:
        while hub.held:
            yield self._pop(hub)

    def _release(self, hub: _Hub) -> Iterator[Item]:
        while hub.held:
            sequence = hub.held[0][0]
            continues = sequence == 1 if hub.following is None else sequence <= hub.following
            if not continues and not self._nothing_before(hub, sequence):
                return
            yield self._pop(hub)

    def _nothing_before(self, hub: _Hub, sequence: int) -> bool:
        """Whether every partition was read up to this sequence of the hub, or to its end."""
        return all(hub.seen.get(partition, 0) >= sequence for partition in self._open)

    def _pop(self, hub: _Hub) -> Item:
        sequence, _, item = heapq.heappop(hub.held)
        self._held -= 1
        hub.following = max(sequence + 1, hub.following or 0)
        return item
