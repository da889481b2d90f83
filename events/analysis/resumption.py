"""What the legs of one conversation show together: bytes counted twice or not at all, and the lengths of its pauses.

The byte count of a leg that ended unplanned is wrong: above what arrived (bytes were passed on and replayed later) or
below it (the next start wrote it after a crash). The offset at which the next leg starts is what arrived, and replaces
it in every sum, also in that of the hour in which the leg ended (D-10). Say a leg is cut after 500 bytes and the next
starts at 300: the sum is corrected by -200. A conversation that ended in order while no hub was there has no next leg:
the ConnectionFinished that its endpoints report later counts as a leg without bytes. The legs may become known in any
order, since they are in the logs of different hubs; the result is the same.
Counterpart: :mod:`spnhub.events.analysis.metrics`.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import field
from typing import Final, NamedTuple

from spnhub.dataclass import dataclass
from spnhub.events.model import ConnectionEnded, ConnectionFinished, ConnectionResumed, ConnectionStarted, Recorded

__all__ = ["CONVERSATION_LIMIT", "LEG_LIMIT", "Correction", "Resumptions"]

CONVERSATION_LIMIT: Final = 100_000
"""Conversations that may still be resumed or corrected; those idle longest are forgotten first."""
LEG_LIMIT: Final = 16
"""The most legs of one conversation that are remembered; an end that becomes known later corrects nothing."""

Offsets = tuple[int, int]
"""Bytes consumer to provider, and provider to consumer, from the beginning of the conversation."""


class Correction(NamedTuple):
    """What an event shows about other legs than its own."""

    parts: tuple[tuple[int, int, int], ...] = ()
    """When the end happened that is replaced, and what is to be added to the sum of the deltas of then: consumer to
    provider, and provider to consumer. Negative: replayed bytes that were counted twice."""
    pauses: tuple[float, ...] = ()
    """Seconds from the end of one leg to the resumption in the next, for each pair that is complete with this event."""


@dataclass(slots=True)
class _Leg:
    epoch: int
    start: Offsets | None = None
    end: Offsets | None = None
    ended_at: int | None = None
    resumed_at: int | None = None
    continued: bool = False
    """It ended so that another leg may follow."""


@dataclass(slots=True)
class _Conversation:
    legs: list[_Leg]
    """By epoch."""
    corrected: dict[int, Offsets] = field(default_factory=dict)
    """The corrections so far, by the time of the end that they replace."""

    def leg(self, epoch: int) -> _Leg:
        """The leg of this epoch, made if it isn't known."""
        place = len(self.legs)
        while place and self.legs[place - 1].epoch >= epoch:
            place -= 1
            if self.legs[place].epoch == epoch:
                return self.legs[place]
        found = _Leg(epoch)
        self.legs.insert(place, found)
        return found

    @property
    def settled(self) -> bool:
        """Nothing that may still come corrects anything."""
        # A missing epoch may be that of a leg in another hub's log, which is read later.
        complete = self.legs[0].epoch == 0 and self.legs[-1].epoch == len(self.legs) - 1
        return complete and not self.legs[-1].continued and all(leg.end is not None for leg in self.legs)


class Resumptions:
    """Takes events in any order that keeps each leg's start before its end.

    Memory: conversations that were suspended, until all their legs have ended, :data:`CONVERSATION_LIMIT` at most.
    Those of one leg, and that is nearly all, cost nothing.
    """

    def __init__(self) -> None:
        self._conversations: OrderedDict[tuple[str | None, str], _Conversation] = OrderedDict()

    def __len__(self) -> int:
        return len(self._conversations)

    def take(self, recorded: Recorded) -> Correction | None:
        """What ``recorded`` shows about the conversation as a whole; None: nothing."""
        event = recorded.event
        if not isinstance(event, ConnectionStarted | ConnectionEnded | ConnectionResumed | ConnectionFinished):
            return None
        if isinstance(event, ConnectionEnded) and event.rejected:
            return None  # it carried nothing, and another leg of the same epoch may follow (D-35)
        name = (event.realm, event.connection_uid)
        known = self._conversations.get(name)
        if known is None:
            suspended = isinstance(event, ConnectionEnded) and (event.suspended or event.recovered)
            # The usual case: a conversation in one leg. Nothing is remembered before it is suspended.
            if event.epoch == 0 and not suspended:
                return None
            known = self._conversations[name] = _Conversation([])
        self._conversations.move_to_end(name)
        leg = known.leg(event.epoch)
        match event:
            case ConnectionStarted():
                leg.start = (event.start_sent_offset, event.start_receive_offset)
            case ConnectionEnded():  # it has the start, too, which may be in a part of the log that is gone
                leg.start = (event.start_sent_offset, event.start_receive_offset)
                leg.end = (leg.start[0] + event.total_sent_bytes, leg.start[1] + event.total_receive_bytes)
                leg.ended_at = recorded.timestamp
                leg.continued = event.suspended or event.recovered
            case ConnectionResumed():
                leg.resumed_at = recorded.timestamp
            case ConnectionFinished():  # a leg that begins and ends at the final offsets, and so carries nothing
                leg.start = leg.end = (event.sent_offset, event.receive_offset)
                leg.ended_at = recorded.timestamp
        correction = _correct(known)
        if known.settled:
            del self._conversations[name]
        else:
            _shorten(known)
            if len(self._conversations) > CONVERSATION_LIMIT:
                self._conversations.popitem(last=False)
        return correction


def _correct(conversation: _Conversation) -> Correction | None:
    """The difference to what was corrected so far."""
    # All corrections are computed anew, and the difference is reported: a leg of another hub's log may come in between
    # two that were neighbours until now, and then changes what the first of them was corrected by.
    found: dict[int, Offsets] = {}
    pauses: list[float] = []
    for before, after in zip(conversation.legs, conversation.legs[1:], strict=False):
        _replace_end(found, before, after, 1)
        if before.ended_at is not None and after.resumed_at is not None:
            pauses.append(max(0, after.resumed_at - before.ended_at) / 1_000_000)
            after.resumed_at = None  # each pause is reported once
    reported, conversation.corrected = conversation.corrected, found
    parts: list[tuple[int, int, int]] = []
    for at in sorted(reported.keys() | found.keys()):
        (sent, receive), (old_sent, old_receive) = found.get(at, (0, 0)), reported.get(at, (0, 0))
        if (sent, receive) != (old_sent, old_receive):
            parts.append((at, sent - old_sent, receive - old_receive))
    return Correction(tuple(parts), tuple(pauses)) if parts or pauses else None


def _replace_end(sums: dict[int, Offsets], before: _Leg, after: _Leg, sign: int) -> None:
    """Add what the start of a leg says of the end before it."""
    if before.end is not None and before.ended_at is not None and after.start is not None:
        sent, receive = sums.get(before.ended_at, (0, 0))
        sums[before.ended_at] = (
            sent + sign * (after.start[0] - before.end[0]),
            receive + sign * (after.start[1] - before.end[1]),
        )


def _shorten(conversation: _Conversation) -> None:
    """Forget the oldest leg when there are too many; what it corrected stays corrected."""
    if len(conversation.legs) <= LEG_LIMIT:
        return
    before, after = conversation.legs[:2]
    del conversation.legs[0]
    _replace_end(conversation.corrected, before, after, -1)
